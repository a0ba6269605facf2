# SPDX-License-Identifier: Apache-2.0
"""`elsa` against a stand-in for elsad that answers by script: what it prints, asks and exits with.

What the real elsad answers is tested elsewhere; here it may also be garbage, late or gone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time

import pytest
from cli_kit import ELSA, REFUSAL, Double, fault, good, on_terminal, operation, run, session


@pytest.fixture
def elsad():
    double = Double()
    yield double
    double.close()


# --- looking --------------------------------------------------------------------------------------


def test_status(elsad):
    health = {"ok": True, "version": "1.2", "node": "up", "hub": "up", "sessions": 2}
    elsad.answers["GET /v1/health"] = health
    assert "node             up\n" in good("status", url=elsad.url)
    assert json.loads(good("status", "--json", url=elsad.url)) == health


def test_status_of_what_is_down(elsad):
    elsad.answers["GET /v1/health"] = {"ok": False, "version": "1", "hub": "down", "hub_error": "no answer"}
    done = run("status", url=elsad.url)
    assert done.returncode == 7
    assert "hub error        no answer" in done.stdout
    assert "not everything" in done.stderr


def test_sessions(elsad):
    rows = [session(), session(user="J\u00fcrgen", server="lab", state="hibernated", rss_bytes=0)]
    elsad.answers["GET /v1/sessions"] = {"sessions": rows}
    head, ada, juergen = good("sessions", url=elsad.url).splitlines()
    assert head.split()[:4] == ["USER", "SERVER", "STATE", "GEN"]
    assert ada.split()[:8] == ["ada", "-", "running", "3", "hub", "10.99.0.17", "1.5", "GiB"]
    assert juergen.index("lab") == head.index("SERVER")
    assert "secret" not in ada + juergen


def test_sessions_as_json(elsad):
    elsad.answers["GET /v1/sessions"] = {"sessions": [session()]}
    (row,) = json.loads(good("sessions", "--json", url=elsad.url))
    wanted = {"user", "server", "state", "generation", "node", "address", "rss_bytes"}
    wanted |= {"last_person_activity", "checkpoint_bytes", "reason"}
    assert wanted <= set(row)
    assert not {"api_token", "spawner"} & set(row)


def test_no_sessions(elsad):
    elsad.answers["GET /v1/sessions"] = {"sessions": []}
    assert good("sessions", url=elsad.url) == "no sessions\n"
    assert json.loads(good("--json", "sessions", url=elsad.url)) == []


def test_ten_thousand_sessions(elsad):
    rows = [session(user=f"user-{i}") for i in range(10000)]
    elsad.answers["GET /v1/sessions"] = {"sessions": rows}
    assert len(good("sessions", url=elsad.url).splitlines()) == 10001


def test_show(elsad):
    checkpoint = {"generation": 3, "created_at": 1795400000000, "stored_bytes": 5 << 20}
    failed = operation(state="failed", error=REFUSAL, log_tail=REFUSAL["log_tail"])
    elsad.answers["GET /v1/session"] = session(
        checkpoints=[checkpoint], operation=failed, explain="sleeps in 3 min"
    )
    shown = good("show", "ada", url=elsad.url)
    assert "next             sleeps in 3 min\n" in shown
    assert "io_uring is in use" in shown
    assert "restart the kernel" in shown
    assert "anon_inode:[io_uring]?[2J" in shown
    assert "5.0 MiB" in shown
    assert "secret" not in shown + good("show", "ada", "--json", url=elsad.url)
    assert elsad.asked[0]["query"] == {"user": "ada", "server": ""}


def test_logs(elsad):
    elsad.answers["GET /v1/session/log"] = b"one\ntwo\x1b[31m\n"
    assert good("logs", "ada", "-n", "2", url=elsad.url) == "one\ntwo\x1b[31m\n"
    assert elsad.asked[0]["query"] == {"user": "ada", "server": "", "lines": "2"}
    assert json.loads(good("logs", "ada", "--json", url=elsad.url)) == {"log": "one\ntwo\x1b[31m\n"}
    seen, status = on_terminal("logs", "ada", url=elsad.url)
    assert status == 0
    assert seen == b"one\r\ntwo?[31m\r\n"


EVENTS = [
    {"id": 2, "at": 1795400001000, "user": "ada", "what": "hibernated", "duration_us": 1500000},
    {"id": 1, "at": 1795400000000, "user": "ada", "what": "checkpointing", "who": "idle"},
]


def test_events(elsad):
    elsad.answers["GET /v1/events"] = {"events": EVENTS}
    lines = good("events", "ada", "-n", "5", url=elsad.url).splitlines()
    assert [line.split()[0] for line in lines] == [
        "WHEN",
        "2026-11-23T02:13:20Z",
        "2026-11-23T02:13:21Z",
    ]
    # All servers of the user unless one is named.
    assert elsad.asked[0]["query"] == {"after": "0", "limit": "5", "wait": "0", "user": "ada"}
    good("events", "ada", "--server", "", url=elsad.url)
    assert elsad.asked[1]["query"]["server"] == ""
    assert [e["id"] for e in json.loads(good("events", "--json", url=elsad.url))] == [1, 2]


class Stream:
    """Events that come while somebody follows."""

    def __init__(self, elsad):
        self.come = [EVENTS[1]]
        self.more = threading.Condition()
        elsad.answers["GET /v1/events"] = self.answer

    def add(self, event):
        with self.more:
            self.come.append(event)
            self.more.notify_all()

    def answer(self, asked):
        after, wait = int(asked["query"]["after"]), int(asked["query"]["wait"])
        with self.more:
            self.more.wait_for(lambda: any(e["id"] > after for e in self.come), min(wait, 5))
            return {"events": [e for e in self.come if e["id"] > after]}


def follow(*argv, url):
    env = os.environ | {"ELSA_URL": url}
    return subprocess.Popen(
        [ELSA, "events", "--follow", *argv], stdout=subprocess.PIPE, env=env, text=True
    )


def test_events_as_they_come(elsad):
    stream = Stream(elsad)
    with follow(url=elsad.url) as process:
        assert process.stdout.readline().startswith("WHEN")
        assert "checkpointing" in process.stdout.readline()
        for number in range(2, 5):
            stream.add({"id": number, "at": 1795400000000 + number, "what": f"thing-{number}"})
            assert f"thing-{number}" in process.stdout.readline()
        process.terminate()
    assert process.returncode == -signal.SIGTERM


def test_events_as_they_come_for_programs(elsad):
    stream = Stream(elsad)
    with follow("--json", url=elsad.url) as process:
        assert json.loads(process.stdout.readline())["id"] == 1
        stream.add({"id": 7, "what": "\u00fc"})
        assert json.loads(process.stdout.readline()) == {"id": 7, "what": "\u00fc"}
        process.terminate()


def test_following_over_a_restart_of_elsad(elsad):
    stream = Stream(elsad)
    with follow("--json", url=elsad.url) as process:
        process.stdout.readline()
        elsad.answers["GET /v1/events"] = fault("unavailable")
        stream.add({"id": 2})
        asked = len(elsad.asked)
        while len(elsad.asked) == asked:
            time.sleep(0.02)
        elsad.answers["GET /v1/events"] = stream.answer
        assert json.loads(process.stdout.readline())["id"] == 2
        process.terminate()


def test_what_is_still_to_come(elsad):
    waking = session(note="waking: 300 MiB to come", missing_bytes=300 << 20)
    stalled = session(
        user="bo", note="stalled since now: no route", reason="older", stalled_since=1795400000000
    )
    elsad.answers["GET /v1/sessions"] = {"sessions": [waking, stalled]}
    lines = good("sessions", url=elsad.url).splitlines()
    assert lines[1].endswith("waking: 300 MiB to come")
    assert lines[2].endswith("stalled since now: no route")
    elsad.answers["GET /v1/session"] = waking
    assert "300 MiB" in good("show", "ada", url=elsad.url)
    elsad.answers["GET /v1/session"] = stalled
    shown = good("show", "bo", url=elsad.url)
    assert "older" in shown and "stalled since" in shown


def test_policy_run(elsad):
    decision = {"user": "ada", "server": "", "hibernate": True, "reason": "away", "rule": "default"}
    elsad.answers["POST /v1/policy/run"] = {"decisions": [decision]}
    assert "yes" in good("policy", "run", url=elsad.url)
    assert json.loads(good("policy", "run", "--json", url=elsad.url)) == [decision]


# --- acting ---------------------------------------------------------------------------------------


def test_acting_without_waiting(elsad):
    answer = (202, operation(session=session()))
    for command in "hibernate", "snapshot", "stop", "forget":
        elsad.answers[f"POST /v1/session/{command}"] = answer
    elsad.answers["POST /v1/session/resume"] = 202, {}
    for command in "hibernate", "snapshot", "resume", "stop", "forget":
        said = good(command, "ada", "-s", "lab", "--why", "it is late", url=elsad.url)
        assert said.startswith("ada/lab: ")
        body = elsad.asked[-1]["body"]
        assert body.pop("through_hub", None) is (True if command == "hibernate" else None)
        assert body == {"user": "ada", "server": "lab", "who": "elsa", "why": "it is late"}
        assert "secret" not in good(command, "ada", "--json", url=elsad.url)


def test_hibernating_unseen(elsad):
    elsad.answers["POST /v1/session/hibernate"] = (202, operation(session=session()))
    good("hibernate", "ada", "--transparent", url=elsad.url)
    body = elsad.asked[-1]["body"]
    assert body["transparent"] is True and not body.get("through_hub")


def test_keep_awake(elsad):
    elsad.answers["POST /v1/session/keep-awake"] = session()
    for text, seconds in ("90m", 5400), ("2d", 172800), ("30", 30), ("8h", 28800):
        good("keep-awake", "ada", "--for", text, url=elsad.url)
        until = elsad.asked[-1]["body"]["until"] / 1000
        assert abs(until - time.time() - seconds) < 30
    good("keep-awake", "ada", "--for", "0", url=elsad.url)
    assert elsad.asked[-1]["body"]["until"] == 0
    assert run("keep-awake", "ada", "--for", "soon", url=elsad.url).returncode == 2


class Story:
    """A session that goes through states, one per look, and stays in the last."""

    def __init__(self, elsad, command, *states, reply=None):
        self.states = list(states)
        elsad.answers["GET /v1/session"] = self.look
        elsad.answers["GET /v1/operation"] = self.move
        elsad.answers[f"POST /v1/session/{command}"] = 202, reply or operation(session=session())

    def look(self, _asked):
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return state if isinstance(state, tuple) else session(**state)

    def move(self, _asked):
        return operation()


def test_wait(elsad):
    going = {"state": "checkpointing", "operation": operation()}
    Story(elsad, "hibernate", {}, {}, going, going, {"state": "hibernated", "generation": 4})
    assert good("hibernate", "ada", "--wait", url=elsad.url) == "ada: hibernated\n"
    Story(elsad, "resume", {"state": "hibernated"}, {"state": "restoring"}, {}, reply={})
    answer = json.loads(good("resume", "ada", "--wait", "--json", url=elsad.url))
    assert answer["state"] == "running"
    assert "api_token" not in answer
    Story(elsad, "forget", {}, {"state": "forgetting"}, fault("not-found"))
    assert good("forget", "ada", "--wait", url=elsad.url) == "ada: forgotten\n"


def test_wait_shows_progress_on_a_terminal(elsad):
    going = {"state": "checkpointing", "operation": operation(step="du\x1bmp")}
    Story(elsad, "hibernate", {}, going, going, {"state": "hibernated"})
    seen, status = on_terminal("hibernate", "ada", "--wait", url=elsad.url)
    assert status == 0
    assert b"\r\x1b[Khibernate: du?mp 10.0 MiB of 100 MiB" in seen
    assert seen.endswith(b"\r\x1b[Kada: hibernated\r\n")


def test_wait_for_what_is_refused(elsad):
    failed = operation(state="failed", error=REFUSAL, log_tail=REFUSAL["log_tail"])
    Story(elsad, "hibernate", {}, {"state": "checkpointing"}, {"operation": failed})
    done = run("hibernate", "ada", "--wait", url=elsad.url)
    assert done.returncode == 6
    assert "io_uring is in use" in done.stderr
    assert "restart the kernel" in done.stderr
    assert "anon_inode:[io_uring]?[2J\n" in done.stderr
    assert not done.stdout


def test_wait_for_a_snapshot(elsad):
    going = {"state": "snapshotting", "operation": operation(kind="snapshot")}
    done = {"operation": operation(kind="snapshot", state="done"), "generation": 4}
    Story(elsad, "snapshot", {}, going, going, done)
    said = good("snapshot", "ada", "--wait", url=elsad.url)
    assert said == "ada: a checkpoint is taken; it goes on\n"
    # It runs in either case: only the operation tells.
    failed = operation(kind="snapshot", state="failed", error=REFUSAL)
    Story(elsad, "snapshot", {}, going, {"operation": failed})
    done = run("snapshot", "ada", "--wait", url=elsad.url)
    assert done.returncode == 6 and "io_uring is in use" in done.stderr and not done.stdout


def test_a_failure_of_before_is_not_ours(elsad):
    old = operation(id="00000000000000bb", state="failed", error=REFUSAL)
    Story(
        elsad, "resume", {"operation": old}, {"operation": old, "state": "hibernated"}, {}, reply={}
    )
    assert good("resume", "ada", "--wait", url=elsad.url) == "ada: running\n"


def test_wait_for_a_session_that_fails(elsad):
    lost = {"state": "failed", "reason": "the CPU lacks avx512", "changed_at": 1795400000009}
    Story(elsad, "resume", {"state": "hibernated"}, {"state": "restoring"}, lost, reply={})
    done = run("resume", "ada", "--wait", url=elsad.url)
    assert done.returncode == 6
    assert "avx512" in done.stderr


def test_wait_has_an_end(elsad):
    Story(elsad, "hibernate", {"state": "checkpointing"})
    began = time.monotonic()
    done = run("hibernate", "ada", "--wait", "--timeout", "1", url=elsad.url)
    assert done.returncode == 8
    assert time.monotonic() - began < 25
    assert "still checkpointing, not hibernated, after 1 s" in done.stderr
    assert "--timeout" in done.stderr


def test_wait_over_a_restart_of_elsad(elsad):
    down = fault("unavailable")
    Story(elsad, "hibernate", {}, {}, down, down, down, {"state": "hibernated"})
    assert good("hibernate", "ada", "--wait", url=elsad.url) == "ada: hibernated\n"


def test_waiting_for_an_elsad_that_hangs(elsad):
    release = threading.Event()
    elsad.answers["GET /v1/session"] = lambda _: (release.wait(20), session())[1]
    done = run("hibernate", "ada", "--wait", "--timeout", "1", url=elsad.url)
    release.set()
    assert done.returncode == 8
    assert "does not answer" in done.stderr
