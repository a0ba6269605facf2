# SPDX-License-Identifier: Apache-2.0
"""Live migration as a double of a node does it (docs/migration.md): the source's departures and the
target's effect, with the moments at which a test lets them wait or go wrong."""

from __future__ import annotations

import http.client
import threading
import time
from typing import TYPE_CHECKING, Any

from elsad_doubles import _error
from elsad_kit import ApiError, Json

if TYPE_CHECKING:
    from elsad_nodes_kit import Cluster

MEMORY = 1 << 30  # of a session, on its way


class Refused(Exception):
    """Why the effect fails; `kept`: the session is its source's as before."""

    def __init__(self, text: str, kept: bool):
        super().__init__(text)
        self.kept = kept


class Moves:
    """What a Joined node has beside."""

    cluster: Cluster

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.departures: dict[str, Json] = {}
        self.given: dict[str, str] = {}  # session -> node that has it; it stands still here
        self.missing: dict[str, int] = {}  # bytes of sessions that came here
        self.stalled: set[str] = set()
        self.taken_back: list[str] = []
        self.ended_departures: list[str] = []
        # As target: waited for before the source is asked, and after it has said yes.
        self.before_giving: threading.Event | None = None
        self.after_giving: threading.Event | None = None
        self.fails_after_giving = ""  # why
        self.keeps_memory = False  # does not arrive by itself
        self.hears_no_answer = False  # to its question for the session
        self.asks: set[str] = set()  # effects that have asked and heard nothing
        self.forced: set[str] = set()

    def runs(self, session: str) -> bool:
        return session in self.running and session not in self.held and session not in self.given

    def status_of_moves(self, session: str) -> Json:
        shown: Json = {}
        if session in self.given:
            shown.update({"running": False, "frozen": True, "given_to": self.given[session]})
        if self.missing.get(session):
            shown.update({"missing_bytes": self.missing[session], "missing_total": MEMORY})
        if session in self.stalled:
            shown.update({"stalled_since": int(time.time() * 1000) - 60_000, "stalled": "no source"})
        return shown

    # the source

    def answer_departure(self, method: str, path: str, body: Json) -> tuple:
        departure, _, what = path.partition("/")
        found = self.departures.get(departure)
        if method == "PUT":
            if not found and body["session"] not in self.running:
                return 404, _error("not-found", "it does not run here"), {}
            if not found:
                found = self.departures[departure] = {**body, "state": "granted"}
            return 200, found, {}
        if what == "take-back":
            return self.take_back(departure)
        if not found:
            return 404, _error("not-found", "no such departure"), {}
        if method == "DELETE":
            self.ended_departures.append(departure)
            self.end_departure(departure)
        return 200, found, {}

    def take_back(self, departure: str) -> tuple:
        found = self.departures.pop(departure, None)
        self.taken_back.append(departure)
        if not found or found["session"] not in self.running:
            return 404, _error("not-found", "nothing of it is left here"), {}
        session = found["session"]
        if session in self.given:
            self.cluster.check_alone(session, self)
            for other in self.cluster.all:
                if other is not self and session in other.running and not any(
                    s == session for s, _ in self.cluster.fences
                ):
                    self.broken.append(f"{session} is taken back, which {other.name} may store")
            del self.given[session]
        return 200, {**found, "state": "kept"}, {}

    def end_departure(self, departure: str) -> None:
        found = self.departures.pop(departure, None)
        if found and self.given.pop(found["session"], None):
            self.running.pop(found["session"])
            for other in self.cluster.joined.values():
                if other.missing.get(found["session"]) and other.runs(found["session"]):
                    self.broken.append(f"{found['session']} still needs memory from {self.name}")

    def give(self, departure: str, to: str) -> None:
        """Durable, and answered: from here on it is the other's."""
        with self.lock:
            found = self.departures.get(departure)
            if self.dead or not found or found["to"] != to or found["state"] not in ("granted", "given"):
                raise Refused(f"{self.name} does not give it", kept=True)
            found["state"] = "given"
            self.given[found["session"]] = to

    # the target

    def put_effect(self, effect: str, request: Json) -> tuple:
        if request["kind"] == "migrate" and request.get("force"):
            self.forced.add(effect)
        return super().put_effect(effect, request)

    def work(self, effect: str, request: Json) -> None:
        if request["kind"] != "migrate" or "migrate" in self.fail:
            super().work(effect, request)
            return
        try:
            result = {"state": "done", **self.take_over(effect, request)}
        except Refused as why:
            result = {"state": "failed", "running": False, "kept": why.kept, "fault": "unavailable",
                      "text": str(why), "remedy": "try again"}  # fmt: skip
        with self.lock:
            self.effects[effect] = {**self.effects[effect], "duration_us": 5000, **result}

    def take_over(self, effect: str, request: Json) -> Json:
        session = request["session"]["id"]
        source = self.cluster.joined.get(request.get("from"))
        if "migrate" in self.hold:
            self.hold["migrate"].wait(60)
        if not source or not request.get("from_at", "").startswith("127.0.0.1:"):
            raise Refused("it is not said where it is", kept=True)
        if effect not in source.departures:
            raise Refused(f"{source.name} does not let it go", kept=True)
        with self.lock:
            self.effects[effect].update({"step": "files", "bytes_done": 40})
        self.switch_routes(session, effect)
        if self.before_giving:
            self.before_giving.wait(60)
        if self.hears_no_answer:
            self.asks.add(effect)
            while effect not in self.forced and not self.dead:
                time.sleep(0.02)
            raise Refused(f"{source.name} is lost, and did not say whether it is ours", kept=False)
        source.give(effect, self.name)
        if self.after_giving:
            self.after_giving.wait(60)
        if self.fails_after_giving:
            raise Refused(self.fails_after_giving, kept=False)
        return self.run_here(session, request, source)

    def run_here(self, session: str, request: Json, source: Any) -> Json:
        dark = self.dead or self.cut  # then its lease has lapsed, or will
        if not dark:
            self.cluster.check_alone(session, self)
        with self.lock:
            self.running[session] = {
                "id": session, "running": True, "generation": request["generation"],
                "rss_bytes": 1 << 20, "processes": 3, "started_at": int(time.time() * 1000),
            }  # fmt: skip
            if dark:
                self.held.add(session)
            self.missing[session] = MEMORY
        if not self.keeps_memory:
            self.arrive(session)
        return {"running": True, "generation": request["generation"], "memory_bytes": MEMORY,
                "frozen_us": 123000}  # fmt: skip

    def switch_routes(self, session: str, effect: str) -> None:
        body = {"session": session, "effect": effect}
        for _ in range(400):
            try:
                self.ask_elsad("moving", body, self.context)
                break
            except ApiError as refused:
                raise Refused(f"elsad says: {refused}", kept=True) from refused
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
        routes = {r["via"] for r in self.cluster.hub.overlays[-1].get("routes", [])}
        if self.overlay not in routes and not self.cut:
            self.broken.append(f"the hub's host does not know that {session} is on {self.name}")

    def arrive(self, session: str) -> None:
        """All its memory is in."""
        with self.lock:
            self.missing.pop(session, None)
            self.stalled.discard(session)
