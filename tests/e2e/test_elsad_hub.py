# SPDX-License-Identifier: Apache-2.0
"""elsad and JupyterHub: listings, faults, deleted users, activity, the idle policy."""

from __future__ import annotations

import http.client
import json
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from elsad_doubles import ALL_SCOPES, Jupyter, iso
from elsad_kit import ApiError, Elsad, ask
from basekit import wait_for


@pytest.fixture
def elsad(tmp_path: Path):
    with Elsad(tmp_path) as elsad:
        yield elsad.start()
        assert not elsad.node.broken


def health(elsad: Elsad) -> dict[str, Any]:
    return elsad.get("/v1/health")


def wait_hub(elsad: Elsad, state: str) -> dict[str, Any]:
    def there():
        shown = health(elsad)
        return shown if shown["hub"] == state else None

    return wait_for(f"the Hub to be {state}", there, seconds=30)


def passes(elsad: Elsad, count: int) -> None:
    """Waits for so many more listings that begin after now."""
    start = len([r for r in elsad.hub.requests if r == "GET /hub/api/user"])
    wait_for(
        "passes over the users",
        lambda: len([r for r in elsad.hub.requests if r == "GET /hub/api/user"]) > start + count,
        seconds=30,
    )


# --- listings --------------------------------------------------------------------------------------


def test_ten_thousand_users_cost_time_only(tmp_path: Path):
    with Elsad(tmp_path, hub={"page_size": 100}) as elsad:
        elsad.hub.page_most = 100
        elsad.start()
        wait_hub(elsad, "up")
        passes(elsad, 2)
        small = elsad.rss()
        for n in range(10_000):
            elsad.hub.add(f"user-{n:05}", groups=[f"group-{i}" for i in range(10)], **{"": iso()})
        elsad.hub.pages = 0
        wait_for("a whole listing", lambda: elsad.hub.pages >= 200, seconds=60)
        assert health(elsad)["hub"] == "up"
        assert elsad.rss() - small < 8 << 20


def test_groups_and_admins_reach_the_rules(tmp_path: Path):
    rules = [{"name": "vips", "groups": ["vip*"], "exempt": True},
             {"name": "admins", "admins": "only", "exempt": True}]  # fmt: skip
    with Elsad(tmp_path, idle={"timeout": "1s", "rule": rules, "dry_run": True}) as elsad:
        for user, more in {"ada": {"groups": ["vip1"]}, "bob": {"admin": True}, "eve": {}}.items():
            elsad.hub.add(user, **more, **{"": iso(3600)})
        # Nothing is known of them yet: whoever may be exempt stays awake.
        elsad.hub.fault = lambda method, path: (500, {}, {})
        elsad.start()
        for user in ("ada", "bob", "eve"):
            elsad.run(user)
        time.sleep(1.5)
        assert not any(d["hibernate"] for d in decide(elsad).values())
        elsad.hub.fault = lambda method, path: None
        wait_hub(elsad, "up")
        decisions = decide(elsad)
        assert decisions["ada"]["rule"] == "vips" and decisions["bob"]["rule"] == "admins"
        assert decisions["eve"]["rule"] == "default" and decisions["eve"]["hibernate"]


# --- faults ----------------------------------------------------------------------------------------

GARBAGE = [
    b"<html>502 Bad Gateway</html>", b"", b"{", b"[]", b"null", b'{"items": 7}', b"\xff\xfe\x00",
    b'{"items": [{}], "_pagination": {}}', b'{"items": [7], "_pagination": {"next": null}}',
    b'{"items": [], "_pagination": {"offset": 0, "next": {"offset": 0}}}',
    b'{"items": [], "_pagination": {"offset": 0, "next": {"offset": "x"}}}',
    b"[" * 100_000, b'{"scopes": "all"}',
]  # fmt: skip


def test_garbage_is_not_believed(elsad: Elsad):
    elsad.hub.add("ada")
    elsad.run()
    wait_hub(elsad, "up")
    for number, garbage in enumerate(GARBAGE):
        for target in ("/users", "/user"):
            elsad.hub.fault = (
                lambda method, path, g=garbage, t=target: (200, g, {}) if path == t else None
            )
            elsad.reload()
            shown = wait_hub(elsad, "down")
            assert shown["hub_error"], (number, target)
            elsad.hub.fault = lambda method, path: None
            elsad.reload()
            wait_hub(elsad, "up")
    assert elsad.session()["state"] == "running"
    assert elsad.rss() < 100 << 20


@pytest.mark.parametrize(
    "status, words",
    [(401, "hub.token_file"), (403, "list:users"), (429, "hub.poll"), (500, ""), (302, "")],
)
def test_refusals_come_with_a_remedy(elsad: Elsad, status: int, words: str):
    elsad.hub.fault = lambda method, path: (
        (status, {"status": status, "message": "said the Hub"}, {"Location": "http://x.invalid/"})
    )
    shown = wait_hub(elsad, "down")
    assert str(status) in shown["hub_error"] and "said the Hub" in shown["hub_error"]
    assert words in (shown["hub_remedy"] or "")
    elsad.hub.fault = lambda method, path: None
    elsad.reload()
    assert wait_hub(elsad, "up")["hub_error"] is None


def test_retry_after_is_obeyed(elsad: Elsad):
    wait_hub(elsad, "up")
    elsad.hub.fault = lambda method, path: (429, {"message": "slow down"}, {"Retry-After": "20"})
    wait_hub(elsad, "down")
    asked = len(elsad.hub.requests)
    time.sleep(3)
    assert len(elsad.hub.requests) == asked
    elsad.hub.fault = lambda method, path: None
    elsad.reload()
    wait_hub(elsad, "up")


def test_missing_scopes_are_named(elsad: Elsad):
    elsad.hub.scopes = ["list:users", "servers!group=x"]
    shown = wait_hub(elsad, "down")
    assert "delete:servers" in shown["hub_error"] and "read:servers" in shown["hub_error"]
    assert "list:users" not in shown["hub_error"]


def test_a_missing_token_is_said(tmp_path: Path):
    with Elsad(tmp_path) as elsad:
        (tmp_path / "hub.token").unlink()
        elsad.start()
        assert "hub.token" in wait_hub(elsad, "down")["hub_error"]
        elsad.run()
        (tmp_path / "hub.token").write_text(elsad.hub.token)
        elsad.reload()
        wait_hub(elsad, "up")


@pytest.mark.parametrize("how", ["down", "slow"])
def test_sessions_do_not_need_the_hub(elsad: Elsad, how: str):
    wait_hub(elsad, "up")
    if how == "down":
        elsad.hub.stop()
    else:
        elsad.hub.fault = lambda method, path: time.sleep(10) or (200, {}, {})
    wait_hub(elsad, "down")
    elsad.run()
    assert elsad.follow(elsad.act("hibernate"))["state"] == "done"
    assert elsad.follow(elsad.start_session())["state"] == "done"


# --- through the Hub -------------------------------------------------------------------------------


def spawner_of(elsad: Elsad, status: int = 204):
    """The Hub's spawner: stop and start call elsad as elsa_spawner does."""

    def stop(user: str, server: str) -> int:
        done = elsad.follow(elsad.act("hibernate", user, server, who="hub", why="stopped"))
        return status if done["state"] == "done" else 500

    def start(user: str, server: str) -> int:
        elsad.start_session(user, server)
        return 202

    elsad.hub.on_stop, elsad.hub.on_start = stop, start


def test_hibernate_through_the_hub(elsad: Elsad):
    for server in ("", "a/b ü"):
        spawner_of(elsad)
        elsad.hub.add("ada")
        elsad.run("ada", server)
        asked = elsad.act("hibernate", "ada", server, through_hub=True, who="me", why="now")
        assert asked["state"] == "running" and asked["kind"] == "hibernate"
        done = elsad.follow(asked)
        assert done["state"] == "done" and done["id"] == asked["id"] and done["who"] == "me"
        assert elsad.session("ada", server)["state"] == "hibernated"
        (event,) = [e for e in elsad.events(user="ada", server=server) if e["what"] == "hibernate"]
        assert event["who"] == "me" and event["why"] == "now" and event["bytes"] == 4000
        elsad.act("resume", "ada", server)
        elsad.wait_state("running", "ada", server)


def test_the_hub_refuses(elsad: Elsad):
    elsad.hub.add("ada")
    elsad.run()
    elsad.hub.on_stop = elsad.hub.on_start = lambda user, server: 403
    done = elsad.follow(elsad.act("hibernate", through_hub=True))
    assert done["state"] == "failed" and "delete:servers" in done["error"]["remedy"]
    assert elsad.session()["state"] == "running"
    with pytest.raises(ApiError) as error:
        elsad.act("resume")
    assert error.value.status == 403
    elsad.hub.on_start = lambda user, server: 400
    with pytest.raises(ApiError) as error:
        elsad.act("resume")
    assert error.value.status == 409
    elsad.hub.stop()
    done = elsad.follow(elsad.act("hibernate", through_hub=True))
    assert done["error"]["fault"] == "unavailable"
    assert elsad.session()["state"] == "running"


@pytest.mark.parametrize("known", [True, False])
def test_the_hub_has_it_as_stopped(elsad: Elsad, known: bool):
    """Its stop of a session that CRIU refused: the Hub's record says stopped, the session runs."""
    if known:
        elsad.hub.add("ada")
    elsad.run()
    done = elsad.follow(elsad.act("hibernate", through_hub=True))
    assert done["state"] == "done" and elsad.session()["state"] == "hibernated"


def test_a_refusal_by_criu_through_the_hub(elsad: Elsad):
    spawner_of(elsad)
    elsad.hub.add("ada")
    elsad.run()
    elsad.node.fail["hibernate"] = {"fault": "refused", "text": "io_uring", "running": True}
    done = elsad.follow(elsad.act("hibernate", through_hub=True))
    assert done["state"] == "failed" and done["error"]["fault"] == "refused"
    assert elsad.session()["state"] == "running"


# --- deleted users ---------------------------------------------------------------------------------


def test_a_deleted_user_sleeps_and_nobody_wakes_there(elsad: Elsad):
    elsad.hub.add("ada")
    elsad.hub.add("bob")
    session = elsad.run("ada")
    elsad.run("bob")
    passes(elsad, 2)
    del elsad.hub.users["ada"]
    elsad.wait_state("hibernated", "ada")
    wait_for("it to be set aside", lambda: not elsad.session("ada")["checkpoint_usable"])
    assert "deleted" in elsad.session("ada")["reason"]
    assert elsad.node.checkpoints[session["id"], 1]
    assert elsad.session("bob")["state"] == "running"
    # Somebody new of that name.
    elsad.hub.add("ada")
    with pytest.raises(ApiError) as error:
        elsad.start_session("ada")
    assert error.value.error["fault"] == "conflict" and "fresh" in error.value.error["remedy"]
    assert elsad.follow(elsad.start_session("ada", fresh=True))["kind"] == "start"


@pytest.mark.parametrize("how", ["named", "filtered", "hole", "other"])
def test_a_hole_in_the_listing_costs_nobody_anything(elsad: Elsad, how: str):
    elsad.hub.add("ada")
    elsad.run()
    passes(elsad, 1)
    listed = elsad.hub.users
    if how == "named":  # not listed, but there
        elsad.hub.page = lambda query: {"items": [], "_pagination": {"offset": 0, "next": None}}
    elif how == "filtered":  # the token sees one group only
        elsad.hub.scopes = ["list:users!group=x", *ALL_SCOPES[1:]]
        elsad.hub.users = {}
    elif how == "hole":  # every other listing is short
        turn = iter(range(1000))
        whole = elsad.hub.page
        elsad.hub.page = lambda query: (
            whole(query) if next(turn) % 2 else {"items": [], "_pagination": {"offset": 0}}
        )
    else:  # the question by name is not answered
        elsad.hub.page = lambda query: {"items": [], "_pagination": {"offset": 0, "next": None}}
        elsad.hub.fault = lambda method, path: (500, {}, {}) if path == "/users/ada" else None
    passes(elsad, 5)
    assert elsad.session()["state"] == "running"
    elsad.hub.users = listed


# --- activity --------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture
def webhook(tmp_path: Path):
    port = free_port()
    with Elsad(tmp_path, controller={"activity_listen": f"127.0.0.1:{port}"}) as elsad:
        yield elsad.start(), port


def report(port: int, user: str, token: str | None, body: Any, path: str | None = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Authorization": f"token {token}"} if token else {}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ask(connection, "POST", path or f"/hub/api/users/{user}/activity", data, headers)


def test_activity_is_recorded_and_handed_on(webhook):
    elsad, port = webhook
    assert health(elsad)["activity_url"] == f"http://127.0.0.1:{port}/"
    elsad.run("a/b", "lab")
    body = {"servers": {"lab": {"last_activity": iso(60)}}, "last_activity": iso(60)}
    report(port, "a%2Fb", "token-a/b", body)
    wait_for("the Hub to have it", lambda: elsad.hub.activity == [("a/b", "token-a/b", body)])


@pytest.mark.parametrize(
    "user, token, status",
    [("ada", "wrong", 401), ("ada", None, 401), ("ada", "token-bob", 401), ("bob", "token-ada", 401),
     ("nobody", "token-ada", 401), ("ada", "", 401), ("ada", "token-ad", 401)],
)  # fmt: skip
def test_only_a_users_own_sessions_report(webhook, user: str, token: str | None, status: int):
    elsad, port = webhook
    elsad.run("ada")
    elsad.run("bob")
    elsad.run("none", api_token="")
    with pytest.raises(ApiError) as error:
        report(port, user, token, {"last_activity": iso()})
    assert error.value.status == status
    with pytest.raises(ApiError):
        report(port, "none", "", {"last_activity": iso()})
    with pytest.raises(ApiError) as error:
        report(port, "ada", "token-ada", {}, path="/v1/sessions")
    assert error.value.status in (404, 405)
    assert elsad.hub.activity == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", {"servers": 7}, {"last_activity": 7}, {"servers": {"": {}}},
     {"last_activity": "yesterday"}, b"x" * 100_000],
    ids=str,
)  # fmt: skip
def test_bad_reports(webhook, body: Any):
    elsad, port = webhook
    elsad.run()
    with pytest.raises((ApiError, OSError, http.client.HTTPException)):
        report(port, "ada", "token-ada", body)
    assert elsad.is_up() and elsad.hub.activity == []


def test_reports_wait_for_the_hub(webhook):
    elsad, port = webhook
    elsad.run()
    elsad.hub.fault = lambda method, path: (503, {}, {})
    bodies = [{"last_activity": iso(100 - n)} for n in range(20)]
    for body in bodies:
        report(port, "ada", "token-ada", body)
    time.sleep(0.5)
    elsad.hub.fault = lambda method, path: None
    wait_for("the newest report", lambda: elsad.hub.activity, seconds=30)
    time.sleep(0.5)
    assert [a[2] for a in elsad.hub.activity] == bodies[-1:]


# --- the idle policy -------------------------------------------------------------------------------


def decide(elsad: Elsad) -> dict[str, dict[str, Any]]:
    return {d["user"]: d for d in elsad.post("/v1/policy/run", {})["decisions"]}


@pytest.fixture
def lab(tmp_path: Path):
    """A running session with a server that can be asked."""
    idle = {"timeout": "2s", "cpu_threshold": 0.5, "interval": "300ms"}
    with Elsad(tmp_path, idle=idle) as elsad:
        elsad.hub.add("ada")
        elsad.start()
        port = free_port()
        env = {"JUPYTERHUB_SERVICE_PREFIX": "/user/ada/"}
        session = elsad.run(env=env, port=port)
        server = Jupyter(session["address"], port, "/user/ada/", "token-ada")
        server.start()
        spawner_of(elsad)
        yield elsad, server
        server.stop()
        assert not elsad.node.broken


def wait_decision(elsad: Elsad, reason: str, seconds: float = 15) -> dict[str, Any]:
    def there():
        decision = decide(elsad).get("ada")
        return decision if decision and decision["reason"] == reason else None

    return wait_for(f"the decision {reason}", there, seconds=seconds)


def test_an_idle_session_goes_to_sleep(lab):
    elsad, server = lab
    elsad.wait_state("hibernated")
    (event,) = [e for e in elsad.events(user="ada") if e["what"] == "hibernate"]
    assert event["who"] == "idle-policy" and "timeout rule=default" in event["why"]
    assert "DELETE /hub/api/users/ada/server" in elsad.hub.requests
    assert server.tracked == 0


def test_it_goes_by_itself(tmp_path: Path):
    with Elsad(tmp_path, idle={"timeout": "1s", "interval": "300ms"}) as elsad:
        elsad.hub.add("ada", **{"": iso(3600)})
        elsad.start()
        spawner_of(elsad)
        elsad.run()
        elsad.wait_state("hibernated")


class Work(dict):
    """Of a session that has worked whenever it is looked at."""

    def __getitem__(self, session: str) -> int:
        self[session] = super().__getitem__(session) + 10_000_000
        return super().__getitem__(session)


@pytest.mark.parametrize(
    "what, reason",
    [("busy", "kernel-busy"), ("kernel", "person"), ("terminal", "person"), ("data", "person"),
     ("cpu", "cpu"), ("asked", "keep-awake")],
)  # fmt: skip
def test_what_keeps_a_session_awake(lab, what: str, reason: str):
    elsad, server = lab
    far = iso(-3600)  # a clock that runs ahead counts as now
    kernel = {"id": "k", "execution_state": "idle", "last_activity": iso(3600)}
    if what == "busy":
        server.kernels.append({**kernel, "execution_state": "busy"})
    elif what == "kernel":
        server.kernels.append({**kernel, "last_activity": far})
    elif what == "terminal":
        server.terminals.append({"name": "1", "last_activity": far})
    elif what == "data":
        server.activity = {"last_request_ms": 0, "last_data_ms": 4_000_000_000_000}
    elif what == "asked":
        elsad.act("keep-awake", until=int(time.time() * 1000) + 3600_000)

    elif what == "cpu":
        elsad.node.cpu_us = Work()
    wait_for(f"it to be kept awake by {reason}", lambda: decide(elsad)["ada"]["reason"] == reason)
    end = time.monotonic() + 3  # well past its timeout
    while time.monotonic() < end:
        decision = decide(elsad)["ada"]
        assert decision["reason"] == reason and not decision["hibernate"], decision
        time.sleep(0.05)
    assert elsad.session()["state"] == "running" and elsad.session()["explain"]


def test_polls_of_an_open_tab_do_not(lab):
    elsad, server = lab
    server.kernels.append({"id": "k", "execution_state": "idle", "last_activity": iso(3600)})
    server.activity = {"last_request_ms": 0, "last_data_ms": 0}
    elsad.hub.add("ada", **{"": iso()})  # the proxy's traffic
    elsad.wait_state("hibernated")


def test_a_server_that_stops_answering_stays_awake(lab):
    elsad, server = lab
    server.kernels.append({"id": "k", "execution_state": "idle", "last_activity": iso(1)})
    time.sleep(0.5)
    server.status = 500
    time.sleep(3)
    wait_decision(elsad, "unknown")
    assert elsad.session()["state"] == "running"


def test_dry_run(tmp_path: Path):
    with Elsad(tmp_path, idle={"timeout": "1s", "dry_run": True}) as elsad:
        elsad.hub.add("ada", **{"": iso(3600)})
        elsad.start()
        elsad.run()
        time.sleep(1.2)
        wait_decision(elsad, "timeout")
        assert decide(elsad)["ada"]["dry_run"]
        wait_for("it to be said", lambda: "would-hibernate" in elsad.whats())
        assert elsad.session()["state"] == "running"
        assert not [r for r in elsad.hub.requests if r.startswith("DELETE")]


def test_the_hub_is_down_when_it_is_time(lab):
    elsad, server = lab
    elsad.hub.fault = lambda method, path: (503, {"message": "down"}, {})
    wait_for("it to be tried", lambda: decide(elsad) and "hibernate-failed" in elsad.whats())
    for _ in range(30):
        decide(elsad)
        time.sleep(0.1)
    assert elsad.session()["state"] == "running"
    assert elsad.whats().count("hibernate-failed") == 1
    elsad.hub.fault = lambda method, path: None
    decide(elsad)
    elsad.wait_state("hibernated")


def test_a_refused_session_is_left_in_peace(lab):
    elsad, server = lab
    elsad.node.fail["hibernate"] = {"fault": "refused", "text": "io_uring", "running": True}
    wait_decision(elsad, "refused")
    assert elsad.whats().count("refused") == 1
    assert "could not be checkpointed lately" in elsad.session()["explain"]
    elsad.kill()
    elsad.start()
    wait_for("refused again", lambda: decide(elsad)["ada"]["reason"] in ("refused", "cpu"))
    assert elsad.whats().count("refused") == 1


def test_stuck_busy_is_reported_once(tmp_path: Path):
    with Elsad(tmp_path, idle={"timeout": "1s", "stuck_busy": "1s"}) as elsad:
        elsad.hub.add("ada")
        elsad.start()
        port = free_port()
        session = elsad.run(port=port)
        server = Jupyter(session["address"], port, "/", "token-ada")
        server.kernels.append({"id": "k", "execution_state": "busy", "last_activity": iso(60)})
        server.start()
        wait_decision(elsad, "stuck-busy")
        decide(elsad)
        assert elsad.whats().count("stuck-busy") == 1
        assert elsad.session()["state"] == "running"
        server.stop()


def test_concurrency(tmp_path: Path):
    idle = {"timeout": "1s", "concurrency": 2}
    with Elsad(tmp_path, idle=idle) as elsad:
        users = [f"u{n}" for n in range(6)]
        for user in users:
            elsad.hub.add(user, **{"": iso(3600)})
        elsad.start()
        spawner_of(elsad)
        for user in users:
            elsad.run(user)
        elsad.node.seconds = 0.3
        most = 0

        def all_asleep() -> bool:
            nonlocal most
            decide(elsad)
            states = [s["state"] for s in elsad.get("/v1/sessions")["sessions"]]
            most = max(most, states.count("checkpointing"))
            return set(states) == {"hibernated"}

        wait_for("all to sleep", all_asleep, seconds=30)
        assert 1 <= most <= 2
