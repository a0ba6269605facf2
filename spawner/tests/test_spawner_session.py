# SPDX-License-Identifier: Apache-2.0
"""The server extension inside a session: a real jupyter_server, found through its configuration."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import websocket
from basekit import wait_for

PACKAGE = Path(__file__).resolve().parents[1]
TOKEN = "secret"


class Server:
    def __init__(self, home: Path, port: int):
        self.url = f"http://127.0.0.1:{port}"
        config = home / "config"
        (config / "jupyter_server_config.d").mkdir(parents=True)
        shutil.copy(PACKAGE / "elsa_spawner.json", config / "jupyter_server_config.d")
        env = {
            **os.environ,
            "HOME": str(home),
            "JUPYTER_CONFIG_PATH": str(config),
            "PYTHONPATH": str(PACKAGE),
        }
        argv = [sys.executable, "-m", "jupyter_server", "--allow-root", "--no-browser",
                f"--port={port}", f"--IdentityProvider.token={TOKEN}"]  # fmt: skip
        self.log = home / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(argv, cwd=home, env=env, stdout=log, stderr=log)

    def ask(self, method: str, path: str, token: str = TOKEN, **kwargs) -> requests.Response:
        headers = {"Authorization": f"token {token}"}
        return requests.request(method, f"{self.url}/{path}", headers=headers, timeout=30, **kwargs)

    def up(self) -> bool:
        try:
            return self.ask("GET", "api").status_code == 200
        except requests.RequestException:
            return False

    def activity(self) -> dict[str, int]:
        return self.ask("GET", "api/elsa/activity").json()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("home"), 18888)
    try:
        wait_for("the server", server.up, unless=lambda: server.process.poll() and "it ended")
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def test_needs_authentication(server):
    assert server.ask("GET", "api/elsa/activity", token="wrong").status_code == 403


def test_only_changes_and_data_count(server):
    assert server.activity() == {"last_request_ms": 0, "last_data_ms": 0}
    for path in ("api/kernels", "api/sessions", "api/contents", "api/terminals"):
        assert server.ask("GET", path).status_code == 200
    # Refused: not authenticated, not found.
    assert server.ask("POST", "api/kernels", token="wrong").status_code == 403
    assert server.ask("DELETE", "api/contents/nothing").status_code == 404
    assert server.activity() == {"last_request_ms": 0, "last_data_ms": 0}

    before = time.time_ns() // 1_000_000
    kernel = server.ask("POST", "api/kernels", json={"name": "python3"}).json()["id"]
    seen = server.activity()
    assert before <= seen["last_request_ms"] <= time.time_ns() // 1_000_000
    assert seen["last_data_ms"] == 0

    channel = websocket.create_connection(
        f"{server.url.replace('http', 'ws')}/api/kernels/{kernel}/channels?token={TOKEN}"
    )
    channel.ping()
    channel.pong()
    assert server.activity()["last_data_ms"] == 0
    header = {"msg_id": "1", "msg_type": "kernel_info_request", "session": "s", "username": "",
              "date": "", "version": "5.3"}  # fmt: skip
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": {},
               "channel": "shell"}  # fmt: skip
    channel.send(json.dumps(message))
    wait_for("the frame to count", lambda: server.activity()["last_data_ms"] >= before)
    assert server.activity()["last_request_ms"] == seen["last_request_ms"]
    channel.close()


def test_asking_is_no_activity(server):
    server.ask("GET", "api/contents")
    before = server.ask("GET", "api/status?no_track_activity=1").json()["last_activity"]
    server.activity()
    assert server.ask("GET", "api/status?no_track_activity=1").json()["last_activity"] == before
