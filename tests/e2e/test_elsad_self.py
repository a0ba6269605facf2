# SPDX-License-Identifier: Apache-2.0
"""What a session may ask elsad about itself, with its own token: and nothing about others."""

from __future__ import annotations

import http.client
import json
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from basekit import wait_for
from elsad_kit import ApiError, Elsad, ask

HOUR = 3_600_000


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Webhook:
    def __init__(self, port: int):
        self.port = port

    def ask(self, method: str, what: str, body: Any = None, user: str = "ada",
            token: str | None = None) -> Any:  # fmt: skip
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Authorization": f"token {f'token-{user}' if token is None else token}"}
        data = None if body is None else json.dumps(body).encode()
        return ask(connection, method, f"/elsa/users/{quote(user, safe='')}/{what}", data, headers)


@pytest.fixture
def made(tmp_path: Path):
    webhook = Webhook(free_port())
    controller = {"activity_listen": f"127.0.0.1:{webhook.port}"}
    with Elsad(tmp_path, controller=controller, idle={"keep_awake_most": "2h"}) as elsad:
        yield elsad.start(), webhook


def refusal(webhook: Webhook, *args, **kwargs) -> int:
    with pytest.raises(ApiError) as error:
        webhook.ask(*args, **kwargs)
    return error.value.status


def test_how_long_it_slept(made):
    elsad, webhook = made
    elsad.run("a/b")
    before = webhook.ask("GET", "sleep", user="a/b")
    assert before["state"] == "running" and before["keep_awake_most_ms"] == 2 * HOUR
    assert before["slept_at"] == before["woke_at"] == before["woke_in_us"] == 0

    began = time.time() * 1000
    elsad.follow(elsad.act("hibernate", user="a/b"))
    elsad.follow(elsad.start_session(user="a/b"))
    after = webhook.ask("GET", "sleep", user="a/b")
    assert began - 1 <= after["slept_at"] <= after["woke_at"] <= after["now"]
    elsad.kill()
    elsad.start()
    again = webhook.ask("GET", "sleep", user="a/b")
    assert again["slept_at"] == after["slept_at"] and again["woke_at"] == after["woke_at"]


def test_kept_awake_no_longer_than_the_operator_lets_it(made):
    elsad, webhook = made
    elsad.run("ada")
    for asked, given in ((HOUR, HOUR), (48 * HOUR, 2 * HOUR)):
        before = time.time() * 1000
        until = webhook.ask("POST", "keep-awake", {"for_ms": asked})["keep_awake_until"]
        assert before + given - 1 <= until <= time.time() * 1000 + given
        assert elsad.session()["keep_awake_until"] == until
    assert webhook.ask("POST", "keep-awake", {"for_ms": 0})["keep_awake_until"] == 0
    assert [e["who"] for e in elsad.events() if e["what"] == "keep-awake"] == ["user"] * 3
    for body in ({}, {"for_ms": -1}, {"for_ms": "1"}, {"for_ms": 1.5}, [], "x"):
        assert refusal(webhook, "POST", "keep-awake", body) == 400


def test_not_kept_awake_where_that_is_off(tmp_path: Path):
    webhook = Webhook(free_port())
    controller = {"activity_listen": f"127.0.0.1:{webhook.port}"}
    with Elsad(tmp_path, controller=controller, idle={"keep_awake_most": 0}) as elsad:
        elsad.start().run("ada")
        assert refusal(webhook, "POST", "keep-awake", {"for_ms": 1}) == 403
        assert webhook.ask("POST", "keep-awake", {"for_ms": 0})["keep_awake_most_ms"] == 0


def test_sleeps_when_its_user_says_so(made):
    elsad, webhook = made
    elsad.run("ada")
    assert webhook.ask("POST", "sleep", {}) == {}
    wait_for("it to sleep", lambda: elsad.session()["state"] == "hibernated")
    assert [e["who"] for e in elsad.events() if e["what"] == "hibernate"] == ["user"]
    # It does nothing more to one that sleeps: its token is no way to wake it.
    assert refusal(webhook, "GET", "start") in (404, 405)


@pytest.mark.parametrize(
    "user, token", [("ada", "wrong"), ("ada", "token-bob"), ("bob", "token-ada"), ("ada", ""),
                    ("nobody", "token-ada")],
)  # fmt: skip
def test_nothing_about_others(made, user: str, token: str):
    elsad, webhook = made
    elsad.run("ada")
    elsad.run("bob")
    for method, what, body in (("GET", "sleep", None), ("POST", "sleep", {}),
                               ("POST", "keep-awake", {"for_ms": 1})):  # fmt: skip
        assert refusal(webhook, method, what, body, user=user, token=token) == 401
    assert elsad.session("ada")["state"] == elsad.session("bob")["state"] == "running"


def test_not_too_often(made):
    elsad, webhook = made
    elsad.run("ada")
    elsad.run("bob")

    def refused() -> bool:
        try:
            webhook.ask("GET", "sleep")
        except ApiError as error:
            assert error.status == 429
            return True
        return False

    wait_for("a no", refused, pause=0)
    # Another's questions are another's.
    assert webhook.ask("GET", "sleep", user="bob")["state"] == "running"
