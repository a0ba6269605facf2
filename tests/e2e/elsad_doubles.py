# SPDX-License-Identifier: Apache-2.0
"""Scripted doubles of what elsad speaks to: elsa-node, JupyterHub, Jupyter servers.

For faults that the real ones cannot be made to have at will: garbage, refusals, silence, kills
between any two steps. The node's double keeps the promises' account: it fails a test as soon as
a session would run twice or be lost.
"""

from __future__ import annotations

import json
import re
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from basekit import Json, wait_for


def iso(seconds_ago: float = 0) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat().replace("+00:00", "Z")


# --- a small HTTP server ---------------------------------------------------------------------------


class _Quiet(socketserver.ThreadingMixIn):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that is killed is no news here."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Unix(_Quiet, socketserver.UnixStreamServer):
    pass


class _Tcp(_Quiet, socketserver.TCPServer):
    allow_reuse_address = True


class Double:
    """Answers with `self.answer(method, path, query, headers, body)`: (status, body, headers)."""

    def __init__(self, where: str | tuple[str, int]):
        self.where = where
        self.server: socketserver.BaseServer | None = None
        self.connections: set[socket.socket] = set()

    def answer(self, method: str, path: str, query: Json, headers: Any, body: bytes) -> tuple:
        raise NotImplementedError

    def start(self) -> None:
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16  # head and body in one packet

            def setup(self) -> None:
                super().setup()
                double.connections.add(self.connection)

            def finish(self) -> None:
                double.connections.discard(self.connection)
                try:
                    super().finish()
                except OSError:
                    pass

            def serve(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                query = {k: v[0] for k, v in parse_qs(parts.query).items()}
                try:
                    status, answer, headers = double.answer(
                        self.command, parts.path, query, self.headers, body
                    )
                    data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(data)))
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    self.close_connection = True

            do_GET = do_POST = do_PUT = do_DELETE = serve

            def log_message(self, *args: Any) -> None:
                pass

            def address_string(self) -> str:
                return "peer"

        if isinstance(self.where, str):
            Path(self.where).unlink(missing_ok=True)
            self.server = _Unix(self.where, Handler)
        else:
            self.server = _Tcp(self.where, Handler)
            self.where = self.server.server_address[:2]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """As a killed process: the listener and all connections go."""
        if not self.server:
            return
        self.server.shutdown()
        self.server.server_close()
        self.server = None
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        if isinstance(self.where, str):
            Path(self.where).unlink(missing_ok=True)


# --- elsa-node -------------------------------------------------------------------------------------


class Node(Double):
    """Keeps sessions, effects and checkpoints as the real one does, without any process."""

    def __init__(self, path: Path):
        super().__init__(str(path))
        self.lock = threading.RLock()
        self.boot_id = "boot-1"
        self.info: Json = {}  # more of what it says of itself
        self.running: dict[str, Json] = {}  # session id -> status
        self.asleep: dict[str, Json] = {}  # likewise, of those that it answers for
        self.ended: dict[str, str] = {}
        self.checkpoints: dict[tuple[str, int], Json] = {}
        self.fences: set[tuple[str, int]] = set()  # session id, number that was taken
        self.effects: dict[str, Json] = {}  # id -> result
        self.asked: list[Json] = []  # every PUT
        self.acknowledged: list[str] = []
        self.results: dict[str, Json] = {}  # for who waits while they are acknowledged
        self.logs: dict[str, str] = {}
        self.turns: dict[str, threading.Thread] = {}  # session id -> its last effect's
        self.seconds = 0.0  # that an effect takes
        self.hold: dict[str, threading.Event] = {}  # kind -> until when it takes
        self.fail: dict[str, Json] = {}  # kind -> the result's fields
        self.reject: dict[str, int] = {}  # kind -> HTTP status
        self.cpu_us: dict[str, int] = {}
        self.broken: list[str] = []  # promises that were broken
        self.tasks: dict[str, Json] = {}  # work on the store
        self.sent: dict[str, list[bytes]] = {}  # by task: parts of an import
        self.parts: list[bytes] = []  # of the next export
        self.import_ends: Json = {}  # what an import is to end as

    def answer(self, method, path, query, headers, body):
        if (match := re.fullmatch(r"/v1/effects/([^/]+)", path)) and method == "PUT":
            return self.put_effect(match[1], json.loads(body))
        if match := re.fullmatch(r"/v1/store/([^/]+)/(end|data)", path):
            return self.store_data(match[1], match[2], method, body)
        with self.lock:
            return self.answer_now(method, path, query, json.loads(body) if body else {})

    def answer_now(self, method: str, path: str, query: Json, body: Json) -> tuple:
        if path == "/v1/node":
            info = {"name": "node1", "version": "0", "boot_id": self.boot_id, **self.info}
            return 200, info, {}
        if path == "/v1/sessions":
            items = [self.status(i) for i in self.running]
            items += [s for i, s in self.asleep.items() if i not in self.running]
            items += [
                {"id": i, "running": False, "ended": how}
                for i, how in self.ended.items()
                if i not in self.running and i not in self.asleep
            ]
            return 200, {"items": items}, {}
        if path == "/v1/effects":
            return 200, {"items": list(self.effects.values())}, {}
        if match := re.fullmatch(r"/v1/effects/([^/]+)", path):
            return self.one_effect(method, match[1])
        if match := re.fullmatch(r"/v1/sessions/([^/]+)/log", path):
            return 200, self.logs.get(match[1], "").encode(), {"Content-Type": "text/plain"}
        if path == "/v1/checkpoints":
            wanted = query.get("session")
            items = list(self.checkpoints.values())
            if query.get("fences") == "yes":
                items = [{"session": s, "generation": g, "created_at": 1, "fence": "node1"}
                         for s, g in sorted(self.fences)]  # fmt: skip
            items = [c for c in items if wanted in (None, c["session"])]
            return 200, {"items": items}, {}
        if path == "/v1/store":
            return self.begin_task(body)
        if match := re.fullmatch(r"/v1/store/([^/]+)", path):
            task = self.tasks.get(match[1])
            return (200, task, {}) if task else (404, _error("not-found", "no such work"), {})
        if match := re.fullmatch(r"/v1/checkpoints/([^/]+)/(\d+)", path):
            found = self.checkpoints.get((match[1], int(match[2])))
            detail = {"checkpoint": found, "memories": [{"name": "pagemap-1.img", "pages": 3}],
                      "frames": 2}  # fmt: skip
            return (200, detail, {}) if found else (404, _error("not-found", "none"), {})
        if path.startswith("/v1/checkpoints/"):
            return self.one_checkpoint(path, body)
        return 404, _error("not-found", f"no {path}"), {}

    def status(self, session: str) -> Json:
        self.cpu_us.setdefault(session, 0)
        return {**self.running[session], "cpu_us": self.cpu_us[session]}

    def one_effect(self, method: str, effect: str) -> tuple:
        result = self.effects.get(effect)
        if method == "DELETE":
            if result and result["state"] == "running":
                return 409, _error("conflict", "still under way"), {}
            self.effects.pop(effect, None)
            self.acknowledged.append(effect)
            return 200, {}, {}
        if not result:
            return 404, _error("not-found", "no such effect"), {}
        return 200, result, {}

    def one_checkpoint(self, path: str, body: Json) -> tuple:
        found = self.checkpoints.get((body.get("session"), body.get("generation")))
        if not found:
            return 404, _error("not-found", "no such checkpoint"), {}
        if path.endswith("/aside"):
            found["aside"] = True
        elif found.get("rotten"):
            return 502, _error("corrupt", "object 3 is damaged"), {}
        return 200, {"ok": True}, {}

    # effects

    def put_effect(self, effect: str, request: Json) -> tuple:
        kind = request["kind"]
        with self.lock:
            self.asked.append(request)
            if kind in self.reject:
                return self.reject[kind], _error("bad-input", "the node does not like it"), {}
            known = effect in self.effects
            if not known and effect in self.acknowledged:  # it was long on its way
                return 409, _error("conflict", "it was acknowledged: it is not done again"), {}
            if not known:
                self.results.pop(effect, None)
                self.effects[effect] = {
                    "id": effect, "state": "running", "running": False, "step": "begin",
                    "bytes_done": 0, "bytes_total": 100,
                }  # fmt: skip
        if not known:
            self.take_turn(effect, request)
        while True:
            with self.lock:
                result = self.effects.get(effect) or self.results.get(effect)
                if result and result["state"] != "running":
                    return 200, result, {}
                if not result:  # acknowledged meanwhile
                    return 404, _error("not-found", "no such effect"), {}
                if self.server is None:
                    raise OSError("the node is gone")
            time.sleep(0.01)

    def take_turn(self, effect: str, request: Json) -> None:
        """Forgetting waits for what is being done to the session."""
        with self.lock:
            session = request["session"]["id"]
            before = self.turns.get(session)

            def run() -> None:
                if before and request["kind"] == "forget":
                    before.join()
                self.work(effect, request)

            self.turns[session] = threading.Thread(target=run, daemon=True)
            self.turns[session].start()

    def work(self, effect: str, request: Json) -> None:
        kind = request["kind"]
        if kind in self.hold:
            self.hold[kind].wait(60)
        time.sleep(self.seconds)
        with self.lock:
            failure = self.fail.get(kind)
            if failure:
                session = request["session"]["id"]
                result = {"state": "failed", "running": session in self.running,
                          "answering": session in self.asleep}  # fmt: skip
                result.update(failure)
            elif kind == "release" and request["session"]["id"] in self.running:
                result = {"state": "failed", "running": True, "text": "somebody has come"}
            else:
                result = {"state": "done", **self.do(kind, request)}
            self.effects[effect] = {**self.effects[effect], "duration_us": 1000, **result}
            self.results[effect] = self.effects[effect]

    def do(self, kind: str, request: Json) -> Json:
        session, generation = request["session"]["id"], request["generation"]
        if kind in ("doze", "rouse"):
            self.running[session].update(frozen=kind == "doze", dozing=kind == "doze")
            return {"running": kind == "rouse", "dozing": kind == "doze"}
        if kind == "answer":
            if session in self.running:
                self.broken.append(f"answer for {session}, which runs")
            if (session, generation) not in self.checkpoints:
                self.broken.append(f"answer for {session}/{generation}, which is not there")
            self.answer_for(session, generation)
            return {"running": False, "answering": True}
        self.asleep.pop(session, None)
        if kind in ("start", "restore"):
            if session in self.running:
                self.broken.append(f"{kind} of {session}, which runs")
            if kind == "restore" and (session, generation) not in self.checkpoints:
                self.broken.append(f"restore of {session}/{generation}, which is not there")
            self.ended.pop(session, None)
            self.run(session, generation)
            return {"running": True, "generation": generation}
        was_running = session in self.running
        if kind != "snapshot":
            self.running.pop(session, None)
        if kind in ("hibernate", "snapshot", "sleep"):
            if not was_running:
                self.broken.append(f"{kind} of {session}, which does not run")
            if (session, generation) in self.checkpoints:
                self.broken.append(f"{session}/{generation} written twice")
            self.write(session, generation)
            if kind == "sleep":
                self.answer_for(session, generation)
            return {
                "running": session in self.running, "generation": generation,
                "answering": kind == "sleep",
                "memory_bytes": 9000,
                "stored_bytes": 4000, "frozen_us": 77,
                "timings": [{"name": "dump", "us": 55}],
            }  # fmt: skip
        if kind == "forget":
            for key in [k for k in self.checkpoints if k[0] == session]:
                del self.checkpoints[key]
        return {"running": False}

    def run(self, session: str, generation: int) -> None:
        self.running[session] = {
            "id": session, "running": True, "generation": generation, "rss_bytes": 1 << 20,
            "processes": 3, "started_at": int(time.time() * 1000),
        }  # fmt: skip

    def answer_for(self, session: str, generation: int) -> None:
        self.ended.pop(session, None)
        self.asleep[session] = {"id": session, "running": False, "answering": True,
                                "generation": generation}  # fmt: skip

    def touch(self, session: str, unwoken: str | None = None) -> None:
        """Somebody comes for what it answers for, or has dozing."""
        with self.lock:
            if session in self.running:
                self.running[session].update(frozen=False, dozing=False)
            elif unwoken:
                now = int(time.time() * 1000)
                self.asleep[session].update(unwoken=unwoken, touched_at=now)
            else:
                self.run(session, self.asleep.pop(session)["generation"])

    def write(self, session: str, generation: int) -> None:
        self.checkpoints[session, generation] = {
            "session": session, "generation": generation, "stored_bytes": 4000,
            "memory_bytes": 9000, "objects": 2, "created_at": int(time.time() * 1000),
            "aside": False,
        }  # fmt: skip

    # work on the store

    def begin_task(self, request: Json) -> tuple:
        kind = request["kind"]
        if kind in self.reject:
            return self.reject[kind], _error("conflict", "the node does not like it"), {}
        task = {"id": f"{len(self.tasks) + 1:016x}", "kind": kind, "state": "running",
                "done": 0, "total": 100, "dry_run": request.get("dry_run", False)}  # fmt: skip
        self.tasks[task["id"]] = task
        if kind not in ("export", "import"):
            threading.Thread(target=self.do_task, args=(task, request), daemon=True).start()
        return 202, dict(task), {}

    def do_task(self, task: Json, request: Json) -> None:
        kind = request["kind"]
        if kind in self.hold:
            self.hold[kind].wait(60)
        with self.lock:
            key = (request.get("session"), request.get("generation"))
            if kind == "rm":
                self.checkpoints.pop(key, None)
            if kind == "verify" and self.checkpoints[key].get("rotten"):
                self.fail[kind] = {"fault": "corrupt", "text": "object 3 is damaged", "remedy": ""}
            done = {"objects": 3, "bytes": 5000, "kept_objects": 7} if kind == "gc" else {}
            task.update({"state": "done", "done": 100, **done})
            if kind in self.fail:
                task.update({"state": "failed", **self.fail.pop(kind)})

    def store_data(self, task_id: str, what: str, method: str, body: bytes) -> tuple:
        task = self.tasks[task_id]
        if what == "end":
            wait_for("the end", lambda: task["state"] != "running" or self.server is None)
            if self.server is None:
                raise OSError("the node is gone")
            return 200, task, {}
        if method == "GET":
            part = self.parts.pop(0) if self.parts else b""
            if not part:
                task["state"] = "done"
            return 200, part, {"Content-Type": "application/octet-stream"}
        self.sent.setdefault(task_id, []).append(body)
        if not body:
            task.update({"state": "done", **self.import_ends})
        return 200, b"", {"Content-Type": "application/octet-stream"}

    # faults

    def reboot(self) -> None:
        with self.lock:
            self.boot_id = f"boot-{time.time()}"
            self.running.clear()
            self.ended.clear()

    def exit(self, session: str, how: str = "exited") -> None:
        with self.lock:
            del self.running[session]
            self.ended[session] = how


def _error(fault: str, text: str) -> Json:
    return {"error": {"fault": fault, "text": text, "remedy": ""}}


# --- JupyterHub ------------------------------------------------------------------------------------

ALL_SCOPES = ["list:users", "read:users:activity", "read:users:groups", "read:servers", "servers",
              "delete:servers"]  # fmt: skip


class Hub(Double):
    """The part of the REST API that elsad uses; `spawner` is called as a real one's stop would be."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0))
        self.users: dict[str, Json] = {}
        self.scopes = list(ALL_SCOPES)
        self.token = "hub-token"
        self.fault: Callable[[str, str], tuple | None] = lambda method, path: None
        self.requests: list[str] = []
        self.pages = 0
        self.activity: list[tuple[str, str, Json]] = []
        self.on_stop: Callable[[str, str], int] = lambda user, server: 204
        self.on_start: Callable[[str, str], int] = lambda user, server: 202
        self.page_most = 200

    @property
    def api(self) -> str:
        return f"http://{self.where[0]}:{self.where[1]}/hub/api"

    def add(self, name: str, *, groups: list[str] = [], admin: bool = False, **servers: str) -> None:
        self.users[name] = {
            "kind": "user", "name": name, "admin": admin, "groups": groups,
            "servers": {k: {"name": k, "last_activity": v} for k, v in servers.items()},
        }  # fmt: skip

    def answer(self, method, path, query, headers, body):
        self.requests.append(f"{method} {path}")
        path = path.removeprefix("/hub/api")
        token = (headers.get("Authorization") or "").removeprefix("token ")
        special = self.fault(method, path)
        if special:
            return special
        if match := re.fullmatch(r"/users/([^/]+)/activity", path):
            self.activity.append((unquote(match[1]), token, json.loads(body)))
            return 200, {}, {}
        if token != self.token:
            return 403, {"status": 403, "message": "Missing or invalid credentials."}, {}
        if path == "/user":
            return 200, {"kind": "service", "name": "elsa", "scopes": self.scopes}, {}
        if path == "/users":
            return 200, self.page(query), {}
        if match := re.fullmatch(r"/users/([^/]+)(?:/server|/servers/([^/]*))?", path):
            return self.one_user(method, unquote(match[1]), path, unquote(match[2] or ""))
        return 404, {"status": 404, "message": "Not Found"}, {}

    def page(self, query: Json) -> Json:
        self.pages += 1
        offset = int(query.get("offset", 0))
        limit = min(int(query.get("limit", 50)), self.page_most)
        users = list(self.users.values())
        following = offset + limit
        more = {"offset": following, "limit": limit, "url": "http://elsewhere.invalid/"}
        return {
            "items": users[offset:following],
            "_pagination": {
                "offset": offset, "limit": limit, "total": len(users),
                "next": more if following < len(users) else None,
            },
        }  # fmt: skip

    def one_user(self, method: str, user: str, path: str, server: str) -> tuple:
        if user not in self.users:
            return 404, {"status": 404, "message": "Not Found"}, {}
        if method == "GET":
            return 200, self.users[user], {}
        act = self.on_stop if method == "DELETE" else self.on_start
        status = act(user, server)
        return status, b"" if status < 300 else {"status": status, "message": "the Hub says no"}, {}


# --- a Jupyter server ------------------------------------------------------------------------------


class Jupyter(Double):
    """What elsad asks a session's server."""

    def __init__(self, address: str, port: int, prefix: str, token: str):
        super().__init__((address, port))
        self.prefix, self.token = prefix, token
        self.kernels: list[Json] = []
        self.terminals: list[Json] = []
        self.activity: Json | None = None
        self.tracked = 0  # requests that would count as activity
        self.status = 200

    def answer(self, method, path, query, headers, body):
        self.tracked += "no_track_activity" not in query
        if headers.get("Authorization") != f"token {self.token}":
            return 403, {}, {}
        if self.status != 200:
            return self.status, b"<html>", {}
        known = {"api/kernels": self.kernels, "api/terminals": self.terminals,
                 "api/elsa/activity": self.activity}  # fmt: skip
        found = known.get(path.removeprefix(self.prefix))
        return (404, {}, {}) if found is None else (200, found, {})
