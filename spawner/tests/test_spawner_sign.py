# SPDX-License-Identifier: Apache-2.0
"""The sign's server extension: a real jupyter_server between a page and a stand-in for elsad."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from basekit import wait_for

from elsa_spawner import pages

PACKAGE = Path(__file__).resolve().parents[1]
TOKEN = "secret"
FACTS = {"now": 5, "slept_at": 1, "woke_at": 2, "woke_in_us": 3, "keep_awake_until": 0}


class Elsad:
    """Answers with `status` and FACTS, and remembers what it was asked."""

    def __init__(self) -> None:
        double = self
        self.status = 200
        self.asked: list[tuple[str, str, str, dict]] = []

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                token = self.headers.get("Authorization", "")
                double.asked.append((self.command, self.path, token, json.loads(body or b"{}")))
                self.send_response(double.status)
                self.end_headers()
                self.wfile.write(json.dumps(FACTS).encode())

            do_GET = do_POST = answer

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/elsa/users/ada"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Server:
    """A single-user server; with `elsad_url` as the spawner would tell it."""

    def __init__(self, home: Path, port: int, elsad_url: str):
        self.url = f"http://127.0.0.1:{port}"
        config = home / "config"
        (config / "jupyter_server_config.d").mkdir(parents=True)
        shutil.copy(PACKAGE / "elsa_spawner.json", config / "jupyter_server_config.d")
        env = {**os.environ, "HOME": str(home), "JUPYTER_CONFIG_PATH": str(config),
               "PYTHONPATH": str(PACKAGE), "JUPYTERHUB_API_TOKEN": "own"}  # fmt: skip
        if elsad_url:
            env["ELSA_SESSION_URL"] = elsad_url
        argv = [sys.executable, "-m", "jupyter_server", "--allow-root", "--no-browser",
                f"--port={port}", f"--IdentityProvider.token={TOKEN}"]  # fmt: skip
        with (home / "log").open("wb") as log:
            self.process = subprocess.Popen(argv, cwd=home, env=env, stdout=log, stderr=log)

    def ask(self, method: str, path: str, token: str = TOKEN, **kwargs) -> requests.Response:
        headers = {"Authorization": f"token {token}"}
        return requests.request(method, f"{self.url}/{path}", headers=headers, timeout=30, **kwargs)

    def wait(self) -> Server:
        def up() -> bool:
            try:
                return self.ask("GET", "api").status_code == 200
            except requests.RequestException:
                return False

        wait_for("the server", up, unless=lambda: self.process.poll() and "it ended")
        return self

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def elsad() -> Iterator[Elsad]:
    elsad = Elsad()
    yield elsad
    elsad.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory, elsad: Elsad) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("on"), 18889, elsad.url)
    try:
        yield server.wait()
    finally:
        server.close()


def test_asks_with_the_servers_own_token(server: Server, elsad: Elsad):
    elsad.asked.clear()
    assert server.ask("GET", "api/elsa/sleep").json() == FACTS
    assert server.ask("POST", "api/elsa/keep-awake", json={"for_ms": 7}).json() == FACTS
    assert server.ask("POST", "api/elsa/sleep", json={}).status_code == 200
    assert elsad.asked == [
        ("GET", "/elsa/users/ada/sleep", "token own", {}),
        ("POST", "/elsa/users/ada/keep-awake", "token own", {"for_ms": 7}),
        ("POST", "/elsa/users/ada/sleep", "token own", {}),
    ]


def test_a_no_is_passed_on(server: Server, elsad: Elsad):
    elsad.status = 409
    try:
        assert server.ask("POST", "api/elsa/sleep", json={}).status_code == 409
    finally:
        elsad.status = 200


def test_needs_authentication(server: Server, elsad: Elsad):
    elsad.asked.clear()
    assert server.ask("GET", "api/elsa/sleep", token="wrong").status_code == 403
    assert server.ask("POST", "api/elsa/sleep", token="wrong", json={}).status_code == 403
    assert elsad.asked == []


def test_asking_is_no_activity(server: Server):
    server.ask("GET", "api/contents")
    before = server.ask("GET", "api/status?no_track_activity=1").json()["last_activity"]
    seen = server.ask("GET", "api/elsa/activity").json()
    server.ask("GET", "api/elsa/sleep")
    assert server.ask("GET", "api/status?no_track_activity=1").json()["last_activity"] == before
    assert server.ask("GET", "api/elsa/activity").json() == seen


def test_classic_pages_load_it(server: Server):
    assert server.ask("GET", "api/config/common").json()["load_extensions"]["elsa-sign/sign"]
    script = server.ask("GET", "nbextensions/elsa-sign/sign.js")
    assert script.status_code == 200 and "load_ipython_extension" in script.text


def test_lab_finds_it():
    """As jupyterlab_server reads it."""
    description = json.loads((PACKAGE / "elsa_spawner/sign/elsa-sign/package.json").read_text())
    build = description["jupyterlab"]["_build"]
    script = (PACKAGE / "elsa_spawner/sign" / description["name"] / build["load"]).read_text()
    assert f'const NAME = "{description["name"]}"' in script
    assert f'"{build["extension"]}"' in script


def test_away(tmp_path: Path):
    gone = Elsad()
    gone.close()
    server = Server(tmp_path, 18890, gone.url)
    try:
        answer = server.wait().ask("GET", "api/elsa/sleep")
        assert answer.status_code == 503 and "Elsa" in answer.json()["error"]["text"]
    finally:
        server.close()


def test_off_unless_the_spawner_says_so(tmp_path: Path):
    server = Server(tmp_path, 18891, "")
    try:
        assert server.wait().ask("GET", "api/elsa/sleep").status_code == 404
        assert server.ask("GET", "nbextensions/elsa-sign/sign.js").status_code == 404
        assert "elsa-sign/sign" not in server.ask("GET", "api/config/common").text
        assert server.ask("GET", "api/elsa/activity").status_code == 200
    finally:
        server.close()


# --- the spawn page -------------------------------------------------------------------------------

HOUR = 3_600_000
ASLEEP = {"state": "hibernated", "checkpoint_usable": True,
          "checkpoints": [{"generation": 1, "created_at": 10 * HOUR, "aside": False}]}  # fmt: skip


@pytest.mark.parametrize(
    "session, now, text",
    [
        (ASLEEP, 13 * HOUR, "Your session fell asleep 3 hours ago. It wakes as it was: variables, "
                            "open files, terminals."),
        (ASLEEP, 10 * HOUR + 61_000, "Your session fell asleep 1 minute ago. It wakes"),
        (ASLEEP, 60 * HOUR, "Your session fell asleep 2 days ago."),
        (ASLEEP, 9 * HOUR, "Your session fell asleep less than a minute ago."),
        ({**ASLEEP, "checkpoints": []}, 13 * HOUR, ""),
        (None, 13 * HOUR, ""),
        ({**ASLEEP, "state": "running"}, 13 * HOUR, ""),
        ({**ASLEEP, "checkpoint_usable": False}, 13 * HOUR, ""),
    ],
)  # fmt: skip
def test_since_when_it_sleeps(session, now, text):
    said = pages.asleep_text(session, now)
    assert said.startswith(text) if text else said == ""
