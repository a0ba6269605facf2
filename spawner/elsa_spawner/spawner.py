# SPDX-License-Identifier: Apache-2.0
"""ElsaSpawner: JupyterHub's side of sessions that sleep and wake.

It is an HTTP client of elsad and nothing more. What a user's session is doing is known by elsad
alone; this class keeps nothing that it could not ask for again, so that the Hub and elsad may each
restart at any time.

    start   start a new session, wake a hibernated one, or join one that runs already
    stop    hibernate: checkpoint, then let the processes go; if that is refused it runs on
    delete  end the session for good and delete its checkpoints
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from jupyterhub.spawner import Spawner
from jupyterhub.utils import maybe_future, url_path_join
from traitlets import Bool, Float, List, Unicode, default

from . import pages, records, sizes
from .client import SUPERSEDED, Client, ElsaAway, ElsaError, follow, patiently
from .progress import Progress, describe

Json = dict[str, Any]

# The Hub may send the user to it: its processes exist, or its node wakes it when somebody comes.
# Now, or also in a moment.
UP = {"running", "dozing", "snapshotting", "migrating", "freezing", "thawing", "asleep"}
ALIVE = UP | {"starting", "checkpointing", "restoring", "fencing", "answering", "releasing"}
# Nothing runs, and nobody has put it to sleep.
ENDED = {"stopped", "failed", "lost"}
# Something is under way that ends by itself: wait, then ask again.
UNSETTLED = {
    "starting", "checkpointing", "snapshotting", "restoring", "migrating", "stopping", "forgetting",
    "fencing", "answering", "releasing", "freezing", "thawing",
}  # fmt: skip

FRESH_OPTIONS = ("fresh", "fresh_generation")


class ElsaSpawner(Spawner):
    """Runs single-user servers as sessions of Elsa."""

    elsa_url = Unicode(
        "unix:/run/elsad/elsad.sock",
        help="Where elsad is: unix:/PATH or http://HOST:PORT.",
    ).tag(config=True)

    token_file = Unicode(
        "",
        help="File with elsad's bearer token; needed for http:// addresses only.",
    ).tag(config=True)

    image = Unicode(
        "",
        help="Directory with the sessions' root file system; empty for elsad's own choice.",
    ).tag(config=True)

    session_args = List(
        Unicode(),
        [
            # Wall clocks jump when a session wakes: these would end what was idle "for days".
            "--ServerApp.shutdown_no_activity_timeout=0",
            "--MappingKernelManager.cull_idle_timeout=0",
            "--TerminalManager.cull_inactive_timeout=0",
        ],
        help="Put after Spawner.args; empty this for commands that are not a Jupyter server.",
    ).tag(config=True)

    rejoin_refused = Bool(
        True,
        help="""When a session cannot be checkpointed and goes on running, let the Hub take it up
        again, so that its user finds it where it was.""",
    ).tag(config=True)

    patience = Float(
        120,
        help="Seconds to wait for an unreachable elsad when a server is stopped or deleted.",
    ).tag(config=True)

    sign = Bool(
        False,
        help="""Show users in their Notebook and Lab pages how long the session slept, with buttons
        to keep it awake and to let it sleep. Needs this package in the sessions' image.""",
    ).tag(config=True)

    choose_size = Bool(
        False,
        help="""Ask users on the spawn page for the size of their session, with prices and what its
        use asks for. Needs size classes in elsa.toml; without them nobody is asked.""",
    ).tag(config=True)

    # Where the single-user server listens inside the session, which has an address of its own.
    @default("ip")
    def _default_ip(self) -> str:
        return "0.0.0.0"

    @default("port")
    def _default_port(self) -> int:
        return 8888

    # Waking many GiB from an object store is slower than starting an empty server.
    @default("start_timeout")
    def _default_start_timeout(self) -> int:
        return 300

    # The Hub deletes token and OAuth client of a stopped server unless this is set. Whoever does
    # not know better must keep them: `_learn` is the only one to say otherwise.
    @default("will_resume")
    def _default_will_resume(self) -> bool:
        return True

    _progress: Progress | None = None
    _starting = False
    _scopes: list[str] | None = None
    # The token that the Hub made for this start. A session that has it is a new one.
    _offered_token = ""
    # This start was given up although the session may yet come up: stop must not touch it.
    _given_up = False
    # Its server did not answer after the last start; the user is asked before the next one.
    _unanswered = False
    _rejoining: asyncio.Future | None = None
    # The size class that its user has chosen for this start; "": by use; None: not asked.
    _size: str | None = None
    # When it fell asleep, as far as is known here; 0: it did not.
    _asleep_at = 0

    # --- state over a restart of the Hub ---------------------------------------------------------

    def load_state(self, state: Json) -> None:
        super().load_state(state)
        self._unanswered = bool(state.get("unanswered"))
        self._asleep_at = int(state.get("asleep_at") or 0)

    def get_state(self) -> Json:
        state = super().get_state()
        if self._unanswered:
            state["unanswered"] = True
        if self._asleep_at:
            state["asleep_at"] = self._asleep_at
        return state

    @property
    def asleep_text(self) -> str:
        """For the Hub's page in the place of a stopped server (templates/not_running.html)."""
        return pages.asleep_since_text(self._asleep_at, _now_ms()) if self._asleep_at else ""

    # --- elsad -----------------------------------------------------------------------------------

    @property
    def _elsa(self) -> Client:
        return Client(self.elsa_url, self.token_file)

    @property
    def _key(self) -> Json:
        return {"user": self.user.name, "server": self.name}

    async def _session(self, seconds: float = 15) -> Json | None:
        session = await self._elsa.session(self.user.name, self.name, seconds=seconds)
        self._learn(session)
        return session

    def _learn(self, session: Json | None) -> None:
        """Takes over what elsad says: whether this session's token is still needed, and which; and
        whether it sleeps."""
        self.will_resume = _can_resume(session)
        self._asleep_at = pages.asleep_at(session)
        token = (session or {}).get("api_token")
        if token and self.will_resume and not self._starting:
            self.api_token = token

    # --- poll ------------------------------------------------------------------------------------

    async def poll(self) -> int | None:
        """None while it runs, and whenever that is not certain: the Hub would forget a session
        that is declared dead."""
        if self._starting:
            return None
        try:
            session = await self._session()
        except (ElsaAway, ElsaError) as error:
            self.log.warning("Cannot ask elsad about %s: %s", self._log_name, error)
            return None
        if session is None:
            return 0
        state = session.get("state")
        if state in ALIVE or state in UNSETTLED or session.get("waking") or session.get("unseen"):
            return None
        return 1 if state in ("failed", "lost") else 0

    async def get_url(self) -> str:
        """Asked by a starting Hub, which may have died in the middle of a start and then has
        neither the address nor the right token on record."""
        try:
            session = await patiently(self._session, seconds=5)
        except (ElsaAway, ElsaError):
            session = None
        if not session or not session.get("address"):
            return self.server.url
        scopes = getattr(self, "_get_oauth_client_allowed_scopes", None)
        self._scopes = await scopes() if scopes else records.client_scopes(self)
        host = f"{self.server.proto}://{session['address']}:{session['port']}"
        return url_path_join(host, self.server.base_url)

    def start_polling(self) -> None:
        """The first call the Hub makes after it has changed its records for a start, and before
        anybody can use them: the place to put them right."""
        if self._scopes is not None and self.api_token:
            records.mend_client(self, self.api_token, self._scopes)
            records.keep_only(self, self.api_token)
            self._scopes = None
        super().start_polling()

    # --- start -----------------------------------------------------------------------------------

    def get_args(self) -> list[str]:
        return [*super().get_args(), *self.session_args]

    async def _elsad_env(self) -> dict[str, str]:
        """Where the session finds elsad: to report its activity to, and to ask about itself."""
        health = await patiently(lambda: self._elsa.get("/v1/health"))
        base, user = health.get("activity_url"), self.user.escaped_name
        if not base:
            return {}
        env = {"JUPYTERHUB_ACTIVITY_URL": url_path_join(base, "hub/api/users", user, "activity")}
        if self.sign:
            env["ELSA_SESSION_URL"] = url_path_join(base, "elsa/users", user)
        return {name: url for name, url in env.items() if name not in self.environment}

    async def _request(self, fresh: bool) -> Json:
        env = {**self.get_env(), **await self._elsad_env()}
        return {
            **self._key,
            "fresh": fresh,
            "cmd": [*self.cmd, *self.get_args()],
            "env": {name: str(value) for name, value in env.items() if value is not None},
            "port": self.port,
            "api_token": self.api_token,
            "home": None,
            "image": self.image or None,
            "memory_bytes": int(self.mem_limit or 0),
            "cpus": float(self.cpu_limit or 0),
            "pids": 0,
            "size": self._size,
            "groups": [group.name for group in self.user.groups],
            "spawner": {},
        }

    async def start(self) -> tuple[str, int]:
        self._progress = progress = Progress()
        self._offered_token = self.api_token
        self._scopes = records.client_scopes(self)
        self._starting, self._given_up = True, False
        self._size = self._take_size()
        began = asyncio.get_running_loop().time()
        try:
            # The Hub's own timeout would cancel us without a word to the user.
            async with asyncio.timeout(self.start_timeout - min(2, self.start_timeout / 10)):
                session = await self._bring_up(self._take_fresh_wish())
        except TimeoutError:
            self._given_up = True
            raise await self._timed_out() from None
        except ElsaError as error:
            await self._wait_for_page(began)
            raise pages.start_failed(error) from error
        except pages.StartFailed:
            await self._wait_for_page(began)
            raise
        finally:
            self._starting = False
            progress.end()
        self._learn(session)
        if not session.get("api_token"):
            self.log.error(
                "elsad does not tell the token of %s: after waking, its user cannot be logged in to"
                " it. Add the Hub's system account to controller.allowed_users in elsa.toml",
                self._log_name,
            )
        return session["address"], int(session["port"])

    async def _wait_for_page(self, began: float) -> None:
        """The Hub shows what went wrong on the page that follows the spawn request, which comes
        after a second. A start that fails sooner gets an error page without any reason."""
        await asyncio.sleep(max(0, began + 1.5 - asyncio.get_running_loop().time()))

    def _take_fresh_wish(self) -> Json | None:
        """The user's wish to start fresh. It is good for one start: the Hub would repeat it."""
        wish = {name: self.user_options.get(name) for name in FRESH_OPTIONS}
        self.user_options = {k: v for k, v in self.user_options.items() if k not in FRESH_OPTIONS}
        records.forget_option(self, FRESH_OPTIONS)
        return wish if wish["fresh"] is True else None

    def _take_size(self) -> str | None:
        """The user's choice of a size. elsad keeps it; the Hub would repeat it for ever, also when
        another was chosen since."""
        size = self.user_options.get(sizes.SIZE_OPTION)
        self.user_options = {k: v for k, v in self.user_options.items() if k != sizes.SIZE_OPTION}
        records.forget_option(self, [sizes.SIZE_OPTION])
        return size if isinstance(size, str) else None

    async def _bring_up(self, wish: Json | None) -> Json:
        """From whatever the session is doing now to running."""
        progress = self._progress
        assert progress is not None
        progress.say("Asking for your session", 2)
        while True:
            session = await patiently(self._session, on_wait=self._say_away)
            fresh = _is_for(wish, session) and not self._is_new(session)
            if fresh and _is_up(session):
                await self._end()
                continue
            refusal = None
            try:
                await self._follow(await self._ask_start(fresh, session))
            except ElsaError as error:
                refusal = error
            session = await patiently(self._session, on_wait=self._say_away)
            # What failed may have been something older, on a session that is running.
            if session and _is_up(session):
                break
            waking = bool(session) and session.get("waking")
            if refusal is None and session and session.get("state") in ENDED and not waking:
                refusal = _ended_at_once(session)
            if refusal and not _was_in_the_way(refusal, session):
                raise self._refused(refusal, session) from refusal
            await self._settle(session)
        self._unanswered = False
        progress.say("Your session is awake; opening it", 90)
        return session

    def _is_new(self, session: Json | None) -> bool:
        """It was begun by this very start: no session has another's token."""
        token = (session or {}).get("api_token")
        return bool(token) and token == self._offered_token

    async def _ask_start(self, fresh: bool, session: Json | None) -> Json:
        self._say_past(fresh, session)
        request = await self._request(fresh)
        return await patiently(
            lambda: self._elsa.post("/v1/session/start", request), on_wait=self._say_away
        )

    def _refused(self, refusal: ElsaError, session: Json | None) -> pages.StartFailed:
        self.log.error(
            "Cannot start %s: %s %s\n%s",
            self._log_name,
            refusal,
            refusal.remedy,
            refusal.log_tail,
        )
        if session is None or not _can_resume(session):
            return pages.start_failed(refusal)
        if session.get("api_token") and not self._is_new(session):
            # The token of this start will never be used.
            records.keep_only(self, session["api_token"])
        return pages.restore_failed(session, refusal)

    async def _settle(self, session: Json | None) -> None:
        """Waits until what is under way, if anything, has ended, however it ends."""
        operation = (session or {}).get("operation")
        if isinstance(operation, dict) and operation.get("id"):
            try:
                await self._follow(operation)
            except ElsaError as error:
                self.log.info("%s of %s: %s", operation.get("kind"), self._log_name, error)
        await asyncio.sleep(0.2)

    async def _end(self) -> None:
        self.log.warning("%s is ended: its user asked for a fresh start", self._log_name)
        await self._follow(await self._ask_stop("user", "fresh start"))

    async def _ask_stop(self, who: str, why: str, seconds: float | None = None) -> Json:
        body = {**self._key, "who": who, "why": why}
        while True:
            try:
                return await patiently(
                    lambda: self._elsa.post("/v1/session/stop", body),
                    seconds=seconds,
                    on_wait=self._say_away,
                )
            except ElsaError as error:
                # A checkpoint is being written, which has to be known the end of first.
                if error.fault != "conflict":
                    raise
            await self._settle(
                await patiently(self._session, seconds=seconds, on_wait=self._say_away)
            )

    async def _timed_out(self) -> pages.StartTimedOut:
        try:
            return pages.took_too_long(await self._session(seconds=1))
        except (ElsaAway, ElsaError):
            return pages.out_of_reach()

    # --- progress --------------------------------------------------------------------------------

    async def _follow(self, operation: Json, seconds: float | None = None) -> Json:
        return await follow(
            self._elsa,
            operation,
            seconds=seconds,
            on_change=self._say_step,
            on_wait=self._say_away,
        )

    def _say_step(self, operation: Json) -> None:
        if self._progress:
            self._progress.say(*describe(operation))

    def _say_away(self, away: ElsaAway) -> None:
        self.log.warning("%s: %s", self._log_name, away)
        if self._progress:
            self._progress.say("The service that runs sessions does not answer; asking again")

    def _say_past(self, fresh: bool, session: Json | None) -> None:
        """What this start begins with, as far as it is worth a line."""
        progress = self._progress
        if not progress or not session:
            return
        left = pages.left_behind_text(session, _now_ms())
        if left:
            progress.say(left)
        if fresh:
            progress.say("Starting fresh; the old checkpoint is set aside", 5)
        elif _is_up(session) and session.get("state") != "asleep":
            progress.say("Your session is running: you get back into it", 80)
        elif _can_resume(session):
            asleep = pages.asleep_text(session, _now_ms())
            if asleep:
                progress.say(asleep, 3)
            progress.say(f"Waking your session from {pages.checkpoint_text(session)}", 5)
        if session.get("state") == "hibernated" and session.get("reason"):
            progress.say(str(session["reason"]))

    async def progress(self):
        if self._progress is None:
            return
        async for event in self._progress.events():
            yield event

    # --- stop ------------------------------------------------------------------------------------

    async def stop(self, now: bool = False) -> None:
        """Hibernates. Raises if the session is not asleep in the end; then it runs on, and the next
        start joins it."""
        if self._given_up:
            self.log.warning("%s may still come up: it is left alone", self._log_name)
            return
        if self._waiting_for_response:
            await self._leave_unanswered()
            return
        try:
            await self._hibernate()
        except ElsaAway as away:
            self.log.error("%s goes on running: %s", self._log_name, away)
            raise
        except ElsaError as error:
            self.log.error(
                "%s cannot be checkpointed and goes on running: %s %s\n%s",
                self._log_name,
                error,
                error.remedy,
                error.log_tail,
            )
            if self.rejoin_refused:
                self._rejoining = asyncio.ensure_future(self._rejoin())
            raise

    async def _hibernate(self) -> None:
        body = {**self._key, "who": "hub", "why": "the server was stopped", "through_hub": False}
        while True:
            refusal = None
            try:
                operation = await patiently(
                    lambda: self._elsa.post("/v1/session/hibernate", body), seconds=self.patience
                )
                await self._follow(operation, self.patience)
            except ElsaError as error:
                refusal = error
            session = await patiently(self._session, seconds=self.patience)
            state = (session or {}).get("state")
            if session is None or state not in ALIVE | UNSETTLED:
                return
            if state in UNSETTLED or (refusal and refusal.fault == "conflict"):
                await self._settle(session)
            elif refusal and refusal.fault != SUPERSEDED:
                raise refusal

    async def _leave_unanswered(self) -> None:
        """The server of this start never answered. A new one is of no use to anybody and ends; one
        that was woken or joined may hold work, and a checkpoint of what may be half awake must not
        replace a good one: it runs on, and the user is asked before the next start."""
        session = await patiently(self._session, seconds=self.patience)
        if self._is_new(session):
            operation = await self._ask_stop("hub", "its server never answered", self.patience)
            await self._follow(operation, self.patience)
            await self._session()
            return
        self._unanswered = True
        self.log.error("The server of %s does not answer; it is left running", self._log_name)

    async def _rejoin(self) -> None:
        """Has the Hub take up a session that goes on running, once it is done with the stop."""
        try:
            while self._stop_pending:
                await asyncio.sleep(0.1)
            # What the Hub does next may be to delete the server.
            await asyncio.sleep(1)
            await patiently(
                lambda: self._elsa.post("/v1/session/resume", self._key), seconds=self.patience
            )
        except (ElsaAway, ElsaError) as error:
            self.log.warning("%s stays out of the Hub's view: %s", self._log_name, error)

    # --- delete ----------------------------------------------------------------------------------

    async def delete_forever(self) -> None:
        """The server or its user was deleted: so are its processes and its checkpoints."""
        if self._rejoining:
            self._rejoining.cancel()
        body = {**self._key, "who": "hub", "why": "deleted"}
        try:
            operation = await patiently(
                lambda: self._elsa.post("/v1/session/forget", body), seconds=self.patience
            )
            await self._follow(operation, self.patience)
        except ElsaError as error:
            # There is none, or it is being deleted by another operation.
            if error.fault not in ("not-found", SUPERSEDED) or await self._session():
                raise
        finally:
            records.keep_only(self, "")

    # --- what users are asked --------------------------------------------------------------------

    async def get_options_form(self) -> str:
        form = await super().get_options_form()
        try:
            session = await self._session(seconds=5)
        except (ElsaAway, ElsaError) as error:
            self.log.warning("Cannot ask elsad about %s: %s", self._log_name, error)
            return form
        why = pages.trouble(session, self._unanswered)
        size = await self._size_form()
        if session and why:
            return pages.choice_form(session, why) + (form or "") + size
        # Without a form there is no such page: the progress of the start says the same.
        asleep = pages.asleep_text(session, _now_ms())
        if asleep and form:
            form = pages.asleep_note(asleep) + form
        return (form or "") + size

    async def _size_form(self) -> str:
        if not self.choose_size:
            return ""
        try:
            return sizes.size_form(await self._elsa.get("/v1/sizes", seconds=5, **self._key))
        except (ElsaAway, ElsaError) as error:
            self.log.warning("Cannot ask elsad for sizes: %s", error)
            return ""

    async def run_options_from_form(self, form_data: dict[str, list]) -> Json:
        own = (pages.FRESH_FIELD, sizes.SIZE_FIELD)
        rest = {name: value for name, value in form_data.items() if name not in own}
        options = dict(await maybe_future(super().run_options_from_form(rest)))
        for name in FRESH_OPTIONS:
            options.pop(name, None)
        chosen = (form_data.get(pages.FRESH_FIELD) or [""])[-1]
        if chosen.isdecimal():
            # The generation makes the wish harmless when it comes twice.
            options.update(fresh=True, fresh_generation=int(chosen))
        size = sizes.chosen_in(form_data)
        if size is not None:
            options[sizes.SIZE_OPTION] = size
        return options

    def options_from_query(self, query_data: dict[str, list]) -> Json:
        """Without the wish to start fresh, or a size: a link must not be able to make it."""
        own = (pages.FRESH_FIELD, *FRESH_OPTIONS, sizes.SIZE_FIELD, sizes.SIZE_OPTION)
        rest = {name: value for name, value in query_data.items() if name not in own}
        return super().options_from_query(rest)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _can_resume(session: Json | None) -> bool:
    """The processes that hold this session's token exist, or will by the next start."""
    if session is None:
        return False
    state = session.get("state")
    if state in ALIVE or state == "hibernated" or session.get("waking"):
        return True
    # Its node was lost with it, and may come back with it.
    if session.get("may_return"):
        return True
    return state in ("failed", "lost") and bool(session.get("checkpoint_usable"))


def _is_up(session: Json | None) -> bool:
    return bool(session) and session.get("state") in UP


def _was_in_the_way(refusal: ElsaError, session: Json | None) -> bool:
    """A no that only means that something else is, or was, under way."""
    if session is None:
        # A start that only waited for a machine is not on record: elsad's restart forgets it.
        return refusal.fault == SUPERSEDED
    if refusal.fault == "conflict":
        # The one conflict that does not go away: a checkpoint is on record but cannot be used.
        return session.get("state") != "hibernated" or bool(session.get("checkpoint_usable"))
    return refusal.fault == SUPERSEDED


def _ended_at_once(session: Json) -> ElsaError:
    return ElsaError(
        "internal",
        str(session.get("reason") or "the server ended right after it was started"),
        "its log says why: elsa logs",
    )


def _is_for(wish: Json | None, session: Json | None) -> bool:
    """A wish made for a certain checkpoint is void once there is another."""
    if wish is None:
        return False
    generation = wish.get("fresh_generation")
    return generation is None or generation == (session or {}).get("generation")
