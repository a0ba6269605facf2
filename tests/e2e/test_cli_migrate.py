# SPDX-License-Identifier: Apache-2.0
"""elsa migrate against a double of elsad: what it asks for, and how it is watched."""

from __future__ import annotations

import json

import pytest

from cli_kit import Double, fault, good, on_terminal, operation, run, session

MIB = 1 << 20


@pytest.fixture
def elsad():
    double = Double()
    yield double
    double.close()


def move(**changes):
    return operation(kind="migrate", step="files", **changes)


def finished(**result):
    return move(state="done", result={"frozen_us": 123000, **result})


class Move:
    """Operations and sessions as they are seen, one per look; the last one stays."""

    def __init__(self, double, operations, sessions):
        self.operations, self.sessions = list(operations), list(sessions)
        double.answers["POST /v1/session/migrate"] = 202, move(session=session(node="n1"))
        double.answers["GET /v1/operation"] = lambda _: self.next(self.operations)
        double.answers["GET /v1/session"] = lambda _: self.next(self.sessions)

    def next(self, items):
        return items.pop(0) if len(items) > 1 else items[0]


def test_without_waiting(elsad):
    elsad.answers["POST /v1/session/migrate"] = 202, move(session=session())
    said = good("migrate", "ada", "-s", "lab", "--to", "n2", "--why", "it is late", url=elsad.url)
    assert said == "ada/lab: move asked for\n"
    assert elsad.asked[-1]["body"] == {
        "user": "ada", "server": "lab", "who": "elsa", "why": "it is late", "to": "n2",
    }  # fmt: skip
    good("migrate", "ada", "--safe", url=elsad.url)
    assert elsad.asked[-1]["body"]["safe"] is True
    shown = good("migrate", "ada", "--json", url=elsad.url)
    assert json.loads(shown)["kind"] == "migrate" and "secret" not in shown


def test_waiting(elsad):
    Move(elsad, [move(), finished()], [session(node="n2", memory_from="n1")])
    said = good("migrate", "ada", "--wait", url=elsad.url)
    assert said == "ada: on n2; it stood still for 0.123 s\n"
    Move(elsad, [finished()], [session(node="n2")])
    shown = json.loads(good("migrate", "ada", "--wait", "--json", url=elsad.url))
    assert shown["frozen_us"] == 123000 and shown["node"] == "n2" and "api_token" not in shown


def test_watching(elsad):
    coming = {"node": "n2", "memory_from": "n1", "missing_total": 1000 * MIB}
    Move(elsad, [move(), finished()], [
        session(**coming, missing_bytes=600 * MIB),
        session(**coming, missing_bytes=200 * MIB),
        session(node="n2", memory_from=None),
    ])  # fmt: skip
    seen, status = on_terminal("migrate", "ada", "--watch", url=elsad.url)
    assert status == 0
    assert b"\r\x1b[Kmigrate: files 10.0 MiB of 100 MiB" in seen
    assert b"memory: [########............]  40 %  400 MiB of 1000 MiB" in seen
    assert b"ada: on n2; it stood still for 0.123 s; 1000 MiB followed in 0." in seen
    assert seen.endswith(b"MiB/s)\r\n") or seen.endswith(b"GiB/s)\r\n")


def test_a_stall_is_said(elsad):
    coming = {"node": "n2", "memory_from": "n1", "missing_total": MIB, "missing_bytes": MIB}
    Move(elsad, [finished()], [
        session(**coming, stalled_since=1795400000000, stalled="n1 is\x1b silent"),
        session(node="n2"),
    ])  # fmt: skip
    done = run("migrate", "ada", "--watch", url=elsad.url)
    assert done.returncode == 0 and "it waits for its memory: n1 is? silent" in done.stderr


def test_it_did_not_move(elsad):
    refusal = {"fault": "refused", "text": "could not be moved: another CPU", "remedy": "use the same"}
    Move(elsad, [move(), move(state="failed", error=refusal)], [session()])
    done = run("migrate", "ada", "--wait", url=elsad.url)
    assert done.returncode == 6 and "another CPU" in done.stderr and "use the same" in done.stderr
    elsad.answers["POST /v1/session/migrate"] = fault("full", "no other machine can take ada")
    done = run("migrate", "ada", url=elsad.url)
    assert done.returncode == 9 and "no other machine" in done.stderr


def test_elsad_is_restarted_meanwhile(elsad):
    unknown = fault("not-found", "there is no such operation")
    Move(elsad, [move(), fault("unavailable"), unknown],
         [session(state="migrating", node="n1"), session(node="n2")])  # fmt: skip
    assert good("migrate", "ada", "--wait", url=elsad.url) == "ada: on n2\n"
    newer = move(state="failed", superseded=True, error={"fault": "not-found", "text": "something newer"})
    Move(elsad, [newer], [session(state="migrating", node="n1"), session(node="n2")])
    assert good("migrate", "ada", "--wait", url=elsad.url) == "ada: on n2\n"
    Move(elsad, [unknown], [session(state="fencing", node="n1"),
                            session(node="n1", reason="n2 was lost")])  # fmt: skip
    done = run("migrate", "ada", "--wait", url=elsad.url)
    assert done.returncode == 6 and "n2 was lost" in done.stderr


def test_it_takes_too_long(elsad):
    Move(elsad, [move()], [session()])
    done = run("migrate", "ada", "--wait", "--timeout", "1", url=elsad.url)
    assert done.returncode == 8 and "still moving" in done.stderr


@pytest.mark.parametrize("words", [["node", "drain"], ["drain"]])
def test_draining(elsad, words):
    elsad.answers["POST /v1/nodes/drain"] = {"node": "n1", "state": "draining"}
    assert good(*words, "n1", url=elsad.url) == "n1: nothing new is placed there\n"
    assert elsad.asked[-1]["body"]["node"] == "n1"
