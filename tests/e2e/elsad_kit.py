# SPDX-License-Identifier: Apache-2.0
"""elsad alone, between scripted doubles of elsa-node, JupyterHub and Jupyter servers
(elsad_doubles.py)."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
from math import ceil
from pathlib import Path
from typing import Any
from urllib.parse import quote

from basekit import BUILD, Json, wait_for
from elsad_doubles import Hub, Node

ELSAD = BUILD / "elsad"


class ApiError(Exception):
    def __init__(self, status: int, body: Any):
        super().__init__(f"{status}: {body}")
        self.status = status
        self.error = body.get("error", {}) if isinstance(body, dict) else {}


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float):
        super().__init__("elsad", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None,
        headers: dict[str, str] = {}) -> Any:  # fmt: skip
    try:
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body)
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        text = response.read()
        is_json = "json" in (response.headers.get("Content-Type") or "")
        is_text = "text" in (response.headers.get("Content-Type") or "")
        answer = json.loads(text) if is_json else text.decode() if is_text else text
        if response.status >= 400:
            raise ApiError(response.status, answer)
        return answer
    finally:
        connection.close()


def toml(sections: dict[str, Json]) -> str:
    lines, lists = [], []
    for section, values in sections.items():
        for name, value in values.items():
            if not (isinstance(value, list) and value and isinstance(value[0], dict)):
                lines.append(f"{section}.{name} = {json.dumps(value)}")
                continue
            for entry in value:
                lists += [f"[[{section}.{name}]]", *(f"{k} = {json.dumps(v)}" for k, v in entry.items())]
    return "\n".join(lines + lists) + "\n"


class Elsad:
    """One elsad with its doubles, in one directory."""

    def __init__(self, directory: Path, **config: Json):
        self.dir = directory
        self.node = Node(directory / "node.sock")
        self.hub = Hub()
        self.hub.start()
        self.node.start()
        (directory / "hub.token").write_text(self.hub.token + "\n")
        (directory / "hub.token").chmod(0o600)
        self.sections: dict[str, Json] = {
            "hub": {"api_url": self.hub.api, "token_file": str(directory / "hub.token"),
                    "poll": "1s", "timeout": "2s"},
            "controller": {"socket": str(directory / "elsad.sock"), "listen": "",
                           "database": str(directory / "elsad.db"), "activity_listen": "",
                           "observe": "100ms"},
            "node": {"socket": str(directory / "node.sock"), "effect_timeout": "20s"},
            "network": {"pool": "127.77.0.0/16"},
            "idle": {"interval": "1d", "timeout": 0, "min_uptime": 0, "transparent": False},
        }  # fmt: skip
        for section, values in config.items():
            self.sections.setdefault(section, {}).update(values)
        self.process: subprocess.Popen | None = None
        self.prefix: list[str] = []
        self.log = directory / "elsad.log"
        self.write_config()

    def __enter__(self) -> Elsad:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.kill()
        self.node.stop()
        self.hub.stop()

    def write_config(self, **changes: Json) -> None:
        for section, values in changes.items():
            self.sections.setdefault(section, {}).update(values)
        (self.dir / "elsa.toml").write_text(toml(self.sections))

    @property
    def argv(self) -> list[str]:
        return [*self.prefix, str(ELSAD), "--config", str(self.dir / "elsa.toml")]

    def start(self, *options: str) -> Elsad:
        with self.log.open("ab") as log:
            # Freed memory counts as used while a sanitizer keeps it.
            env = {**os.environ, "ASAN_OPTIONS": "quarantine_size_mb=1"}
            self.process = subprocess.Popen([*self.argv, *options], stdout=log, stderr=log, env=env)
        wait_for("elsad", self.is_up, unless=self.why_dead, seconds=20)
        return self

    def is_up(self) -> bool:
        try:
            return bool(self.get("/v1/health"))
        except (OSError, http.client.HTTPException):
            return False

    def why_dead(self) -> str | None:
        if self.process and self.process.poll() is None:
            return None
        return "elsad ended:\n" + self.log.read_text()[-3000:]

    def wait_dead(self, seconds: float = 20) -> int:
        return self.process.wait(seconds)

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(20)

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    # the API

    def get(self, path: str, seconds: float = 30, **query: Any) -> Any:
        if query:
            path += "?" + "&".join(f"{k}={quote(str(v), safe='')}" for k, v in query.items())
        return ask(_UnixConnection(str(self.dir / "elsad.sock"), seconds), "GET", path)

    def post(self, path: str, body: Any, seconds: float = 30) -> Any:
        return ask(_UnixConnection(str(self.dir / "elsad.sock"), seconds), "POST", path, body)

    def act(self, what: str, user: str = "ada", server: str = "", **more: Any) -> Json:
        return self.post(f"/v1/session/{what}", {"user": user, "server": server, **more})

    def start_session(self, user: str = "ada", server: str = "", **more: Any) -> Json:
        token = f"token-{user}" if re.fullmatch("[!-~]+", user) else "token"
        body = {"api_token": token, "cmd": ["server"], "spawner": {"n": 1}}
        return self.act("start", user, server, **{**body, **more})

    def session(self, user: str = "ada", server: str = "") -> Json:
        return self.get("/v1/session", user=user, server=server)

    def follow(self, operation: Json, seconds: float = 30) -> Json:
        # Asked without a pause: what comes next for the session takes the operation's place.
        deadline = time.monotonic() + seconds
        while operation["state"] == "running":
            left = deadline - time.monotonic()
            assert left > 0, operation
            operation = self.get("/v1/operation", seconds + 10, id=operation["id"], wait=ceil(left))
        return operation

    def wait_state(self, state: str, user: str = "ada", server: str = "", seconds: float = 20) -> Json:
        def there() -> Json | None:
            try:
                session = self.session(user, server)
            except (OSError, http.client.HTTPException):
                return None
            return session if session["state"] == state else None

        return wait_for(f"{user} to be {state}", there, unless=self.why_dead, seconds=seconds)

    def run(self, user: str = "ada", server: str = "", **more: Any) -> Json:
        assert self.follow(self.start_session(user, server, **more))["state"] == "done"
        return self.session(user, server)

    def events(self, **query: Any) -> list[Json]:
        return self.get("/v1/events", **query)["events"]

    def whats(self, user: str = "ada") -> list[str]:
        """What happened, oldest first."""
        return [event["what"] for event in reversed(self.events(user=user, limit=1000))]

    def rss(self) -> int:
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf(
            "SC_PAGE_SIZE"
        )


def steps() -> list[str]:
    out = subprocess.run([str(ELSAD), "--list-steps"], capture_output=True, text=True, check=True)
    return out.stdout.split()
