# SPDX-License-Identifier: Apache-2.0
"""A stand-in for elsad that speaks its API (docs/api.md) and can be told to fail.

Its sessions are plain processes: "hibernated" ones are stopped by SIGSTOP, "restored" ones go on by
SIGCONT. For the Hub that is the same as the real thing: the same process with the same tokens comes
back. What the real thing does is tested in tests/e2e.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from basekit import tree_pids

Json = dict[str, Any]

REFUSALS = {
    ("start", "checkpointing"): "checkpointing",
    ("start", "stopping"): "stopping",
    ("hibernate", "starting"): "starting",
    ("hibernate", "snapshotting"): "snapshotting",
    ("stop", "snapshotting"): "snapshotting",
    ("hibernate", "restoring"): "restoring",
    ("hibernate", "stopped"): "not-running",
}


class Fault(Exception):
    def __init__(self, fault: str, text: str, remedy: str = ""):
        super().__init__(text)
        self.body = {"fault": fault, "text": text, "remedy": remedy}


class Double:
    """Use as a context manager; `url` is what the spawner needs."""

    def __init__(self) -> None:
        self.dir = Path(tempfile.mkdtemp(prefix="double-"))
        self.path = self.dir / "elsad.sock"
        self.url = f"unix:{self.path}"
        self.sessions: dict[tuple[str, str], Json] = {}
        self.operations: dict[str, Json] = {}
        self.processes: dict[tuple[str, str], subprocess.Popen] = {}
        self.requests: list[tuple[str, Json]] = []
        # By kind of operation: errors of the next ones, and seconds that each takes.
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.seconds: dict[str, float] = defaultdict(float)
        self.activity_url = ""
        # Users whose servers never answer: what runs is not a server, or is not woken.
        self.deaf: set[str] = set()
        self._ids = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._site: web.UnixSite | None = None
        self._runner: web.AppRunner | None = None

    def log(self) -> str:
        """The end of what the sessions' servers said."""
        path = self.dir / "sessions.log"
        return f"--- servers\n{path.read_text(errors='replace')[-6000:]}" if path.exists() else ""

    # --- life

    def __enter__(self) -> Double:
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._open())
        return self

    def __exit__(self, *_: Any) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        for key in list(self.processes):
            self._kill(key)

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _open(self) -> None:
        app = web.Application(middlewares=[_errors])
        app.router.add_get("/v1/health", self._health)
        app.router.add_get("/v1/session", self._get_session)
        app.router.add_get("/v1/operation", self._get_operation)
        for verb in ("start", "hibernate", "stop", "forget", "resume"):
            app.router.add_post(f"/v1/session/{verb}", getattr(self, f"_{verb}"))
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        self._site = web.UnixSite(self._runner, str(self.path))
        await self._site.start()

    async def _close(self) -> None:
        if self._runner:
            await self._runner.cleanup()
            self._runner = None
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def go_away(self) -> None:
        """As if elsad had been killed; sessions go on."""
        self._call(self._close())

    def come_back(self) -> None:
        self._call(self._open())

    # --- for tests

    def state(self, user: str, server: str = "") -> str:
        session = self.sessions.get((user, server))
        return session["state"] if session else "unknown"

    def set_state(self, state: str, user: str, server: str = "", **changes: Any) -> None:
        self.sessions[(user, server)].update(state=state, **changes)

    def hear(self, user: str, server: str = "") -> None:
        """The end of being deaf."""
        self.deaf.discard(user)
        self._signal((user, server), signal.SIGCONT)

    def asked(self, verb: str) -> list[Json]:
        return [body for what, body in self.requests if what == verb]

    # --- requests

    async def _health(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {"ok": True, "version": "double", "node": "up", "hub": "up", "hub_error": None,
             "sessions": len(self.sessions), "activity_url": self.activity_url}
        )  # fmt: skip

    async def _get_session(self, request: web.Request) -> web.Response:
        key = (request.query["user"], request.query["server"])
        if key not in self.sessions:
            raise Fault("not-found", "there is no such session")
        session = self.sessions[key]
        process = self.processes.get(key)
        if session["state"] == "running" and process and process.poll() is not None:
            session.update(state="stopped", reason="exited")
        return web.json_response(session)

    async def _get_operation(self, request: web.Request) -> web.Response:
        operation = self.operations.get(request.query["id"])
        if operation is None:
            raise Fault("not-found", "there is no such operation")
        until = time.monotonic() + min(float(request.query.get("wait", 0)), 0.3)
        while operation["state"] == "running" and time.monotonic() < until:
            await asyncio.sleep(0.02)
        return web.json_response(operation)

    async def _body(self, request: web.Request, verb: str) -> tuple[tuple[str, str], Json]:
        body = await request.json()
        self.requests.append((verb, body))
        return (body["user"], body["server"]), body

    def _begin(self, key: tuple[str, str], kind: str, doing: str) -> web.Response:
        session = self.sessions[key]
        operation = {
            "id": f"op{next(self._ids)}", "kind": kind, "state": "running", "step": kind,
            "bytes_done": 0, "bytes_total": 100, "user": key[0], "server": key[1],
            "error": None,
        }  # fmt: skip
        before = session["state"]
        session.update(state=doing, operation=operation)
        self.operations[operation["id"]] = operation
        asyncio.ensure_future(self._run(key, kind, operation, before))
        return web.json_response(dict(operation), status=202)

    async def _run(self, key: tuple[str, str], kind: str, operation: Json, before: str) -> None:
        session = self.sessions[key]
        for tenth in range(10):
            operation["bytes_done"] = 10 * tenth
            await asyncio.sleep(self.seconds[kind] / 10)
        if self.faults[kind]:
            fault = self.faults[kind].pop(0)
            runs_on = kind in ("hibernate", "snapshot")
            session.update(state=before if runs_on else "failed", reason=str(fault))
            operation.update(state="failed", error=fault.body)
            return
        getattr(self, f"_do_{kind}")(key, session)
        operation["state"] = "done"

    def _joined(self, key: tuple[str, str]) -> web.Response:
        operation = self.sessions[key].get("operation") or {}
        return web.json_response({**operation, "state": operation.get("state", "done")}, status=202)

    def _refuse(self, verb: str, key: tuple[str, str]) -> None:
        why = REFUSALS.get((verb, self.state(*key)))
        if why:
            raise Fault("conflict", why)

    async def _start(self, request: web.Request) -> web.Response:
        key, body = await self._body(request, "start")
        self._refuse("start", key)
        session = self.sessions.setdefault(
            key,
            {"id": "0" * 16, "user": key[0], "server": key[1], "state": "stopped", "reason": None,
             "generation": 0, "checkpoint_usable": False, "checkpoints": [], "operation": None},
        )  # fmt: skip
        state = session["state"]
        if state in ("running", "snapshotting", "starting", "restoring"):
            if body["fresh"] and state in ("running", "snapshotting"):
                raise Fault("conflict", "running")
            if state == "snapshotting":
                return web.json_response({"id": "already", "kind": "start", "state": "done"})
            return self._joined(key)
        if session["checkpoint_usable"] and state != "stopped" and not body["fresh"]:
            return self._begin(key, "restore", "restoring")
        for checkpoint in session["checkpoints"]:
            checkpoint["aside"] = True
        session.update(checkpoint_usable=False, api_token=body["api_token"], request=body)
        return self._begin(key, "start", "starting")

    async def _hibernate(self, request: web.Request) -> web.Response:
        key, _body = await self._body(request, "hibernate")
        self._refuse("hibernate", key)
        if self.state(*key) in ("hibernated", "checkpointing"):
            return self._joined(key)
        return self._begin(key, "hibernate", "checkpointing")

    async def _stop(self, request: web.Request) -> web.Response:
        key, _body = await self._body(request, "stop")
        self._refuse("stop", key)
        return self._begin(key, "stop", "stopping")

    async def _forget(self, request: web.Request) -> web.Response:
        key, _body = await self._body(request, "forget")
        if key not in self.sessions:
            raise Fault("not-found", "there is no such session")
        return self._begin(key, "forget", "forgetting")

    async def _resume(self, request: web.Request) -> web.Response:
        await self._body(request, "resume")
        return web.json_response({}, status=202)

    # --- what the operations do

    def _do_start(self, key: tuple[str, str], session: Json) -> None:
        self._kill(key)
        body = session["request"]
        port = _free_port()
        url = urlsplit(body["env"]["JUPYTERHUB_SERVICE_URL"])
        home = self.dir / f"home{next(self._ids)}"
        home.mkdir()
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PYTHONPATH": os.environ.get("DOUBLE_PYTHONPATH", ""),
            "JUPYTER_RUNTIME_DIR": str(home / "run"),
            **body["env"],
            "JUPYTERHUB_SERVICE_URL": url._replace(netloc=f"127.0.0.1:{port}").geturl(),
        }
        with (self.dir / "sessions.log").open("ab") as log:
            # All of them share one network: a port that was free for a kernel may not be by the time it starts.
            cmd = [*body["cmd"], "--allow-root", "--KernelManager.transport=ipc"]
            if key[0] in self.deaf:
                cmd = ["sleep", "600"]
            self.processes[key] = subprocess.Popen(
                cmd, cwd=home, env=env, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        session.update(state="running", reason=None, address="127.0.0.1", port=port)

    def _do_restore(self, key: tuple[str, str], session: Json) -> None:
        if key[0] not in self.deaf:
            self._signal(key, signal.SIGCONT)
        session.update(state="running", reason=None)

    def _do_hibernate(self, key: tuple[str, str], session: Json) -> None:
        self._signal(key, signal.SIGSTOP)
        self._do_snapshot(key, session)
        session.update(state="hibernated")

    def _do_snapshot(self, _key: tuple[str, str], session: Json) -> None:
        session["generation"] += 1
        session["checkpoints"].append(
            {"generation": session["generation"], "created_at": 1795400000000, "aside": False}
        )
        session.update(state="running", checkpoint_usable=True)

    def _do_stop(self, key: tuple[str, str], session: Json) -> None:
        self._kill(key)
        session.update(state="stopped", checkpoint_usable=False)

    def _do_forget(self, key: tuple[str, str], _session: Json) -> None:
        self._kill(key)
        del self.sessions[key]

    def _signal(self, key: tuple[str, str], number: int) -> None:
        process = self.processes.get(key)
        if process and process.poll() is None:
            for pid in tree_pids(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def _kill(self, key: tuple[str, str]) -> None:
        self._signal(key, signal.SIGKILL)
        process = self.processes.pop(key, None)
        if process:
            process.wait()


@web.middleware
async def _errors(request: web.Request, handler: Any) -> web.StreamResponse:
    statuses = {"not-found": 404, "conflict": 409, "denied": 403, "refused": 422, "corrupt": 502}
    try:
        return await handler(request)
    except Fault as fault:
        status = statuses.get(fault.body["fault"], 500)
        return web.json_response({"error": fault.body}, status=status)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
