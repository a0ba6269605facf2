# SPDX-License-Identifier: Apache-2.0
"""`elsa sizes` and `resize` against a stand-in for elsad."""

from __future__ import annotations

import json

import pytest
from cli_kit import Double, good, run

CLASSES = [{"name": "small", "memory_bytes": 1 << 30, "cpus": 1.0, "hour": 0.0125},
           {"name": "large\x1b[2J", "memory_bytes": 8 << 30, "cpus": 0.0, "hour": 0.5}]  # fmt: skip
SESSION = {"class": "large", "to": "small", "recommended": "small", "chosen": None, "reason": "cheaper-will-do",
           "text": "a cheaper one will do", "memory_bytes": 8 << 30, "held_bytes": 300 << 20, "p95_bytes": 310 << 20,
           "peak_bytes": 320 << 20, "need_bytes": 465 << 20, "observed_ms": 7200000}  # fmt: skip


@pytest.fixture
def elsad():
    double = Double()
    yield double
    double.close()


def test_sizes(elsad):
    answer = {"currency": "USD", "classes": CLASSES, "session": SESSION}
    elsad.answers["GET /v1/sizes"] = answer
    said = good("sizes", "ada", "-s", "lab", url=elsad.url)
    assert elsad.asked[-1]["query"] == {"user": "ada", "server": "lab"}
    assert "\x1b" not in said
    rows = said.splitlines()
    assert rows[1].split() == ["small", "1.0", "GiB", "1.00", "0.0125", "recommended"]
    assert rows[2].split()[-5:] == ["8.0", "GiB", "all", "0.5000", "-"]
    assert "a cheaper one will do" in said and "465 MiB" in said
    assert json.loads(good("sizes", "ada", "--json", url=elsad.url)) == answer
    elsad.answers["GET /v1/sizes"] = {"currency": "USD", "classes": [], "session": None}
    assert "no size classes" in good("sizes", url=elsad.url)
    for garbage in {}, {"currency": "USD"}, {"currency": "USD", "classes": 3}:
        elsad.answers["GET /v1/sizes"] = garbage
        assert run("sizes", url=elsad.url).returncode == 1
    assert run("sizes", "ada", "bob", url=elsad.url).returncode == 2


def test_resize(elsad):
    elsad.answers["POST /v1/session/size"] = {"applies": "now", "text": "it has it now", "size": SESSION}
    assert good("resize", "ada", "large", "--why", "exam", url=elsad.url) == "ada: large: it has it now\n"
    body = elsad.asked[-1]["body"]
    assert body["user"] == "ada" and body["size"] == "large" and body["why"] == "exam"
    good("resize", "ada", "auto", url=elsad.url)
    assert elsad.asked[-1]["body"]["size"] == ""
    assert json.loads(good("resize", "ada", "large", "--json", url=elsad.url))["applies"] == "now"
    asked = len(elsad.asked)
    for wrong in ["resize"], ["resize", "ada"], ["resize", "ada", ""], ["resize", "ada", "a", "b"]:
        assert run(*wrong, url=elsad.url).returncode == 2
    assert len(elsad.asked) == asked
    elsad.answers["POST /v1/session/size"] = {}
    assert run("resize", "ada", "large", url=elsad.url).returncode == 1
