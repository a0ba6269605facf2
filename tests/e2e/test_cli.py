# SPDX-License-Identifier: Apache-2.0
"""`elsa` against a stand-in for elsad that answers by script: what it prints, asks and exits with.

What the real elsad answers is tested elsewhere; here it may also be garbage, late or gone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from basekit import BUILD, CHECKOUT
from cli_kit import ELSA, FAULTS, REFUSAL, Double, fault, good, on_terminal, operation, run, session


@pytest.fixture
def elsad():
    double = Double()
    yield double
    double.close()


@pytest.fixture
def tcp_elsad():
    double = Double(tcp=True)
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


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAULTS)
def test_exit_status_by_kind_of_failure(elsad, name):
    elsad.answers["GET /v1/session"] = fault(name, "what was", "what to do")
    done = run("show", "ada", url=elsad.url)
    assert done.returncode == FAULTS[name][1]
    assert done.stderr == "elsa: what was\n      what to do\n"
    done = run("show", "ada", "--json", url=elsad.url)
    assert not done.stdout
    assert json.loads(done.stderr) == {
        "error": {"fault": name, "text": "what was", "remedy": "what to do"}
    }


COMMANDS = [
    ["status"],
    ["sessions"],
    ["show", "ada"],
    ["hibernate", "ada"],
    ["migrate", "ada", "--to", "n2"],
    ["migrate", "ada", "--safe", "--watch"],
    ["resume", "ada", "--wait"],
    ["stop", "ada"],
    ["forget", "ada", "--wait"],
    ["keep-awake", "ada"],
    ["events"],
    ["events", "--follow"],
    ["policy", "run"],
    ["capacity"],
    ["store", "ls"],
    ["store", "verify"],
    ["node", "list"],
    ["node", "token"],
    ["node", "drain", "n1"],
    ["node", "remove", "n1", "--force"],
    ["capacity"],
    ["evacuation", "n1"],
    ["drill", "evict", "n1"],
    ["drill", "cancel", "n1"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_elsad(command, tmp_path):
    done = run(*command, url=f"unix:{tmp_path}/elsad.sock")
    assert done.returncode == 7
    assert "cannot reach elsad" in done.stderr
    assert "systemctl start elsad" in done.stderr


GARBAGE = [b"", b"<html>", b"5", b"[]", b"null", b'"\\ud800"', b"{", b'{"sessions": 5}', b"\xff" * 9]
GARBAGE += [b"[" * 100000]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_garbage(elsad, command):
    for garbage in GARBAGE:
        for path in "health", "sessions", "session", "events", "checkpoints", "capacity":
            elsad.answers[f"GET /v1/{path}"] = garbage
        for path in "hibernate", "migrate", "resume", "stop", "forget", "keep-awake":
            elsad.answers[f"POST /v1/session/{path}"] = garbage
        elsad.answers["POST /v1/policy/run"] = garbage
        for path in "nodes", "nodes/evacuation", "capacity":
            elsad.answers[f"GET /v1/{path}"] = garbage
        for path in "token", "drain", "remove", "drill", "drill/cancel":
            elsad.answers[f"POST /v1/nodes/{path}"] = garbage
        done = run(*command, "--timeout", "5", url=elsad.url)
        assert done.returncode in (1, 7), (garbage[:20], done)
        assert done.stderr.startswith("elsa: elsad "), (garbage[:20], done)
        assert not done.stdout


def test_errors_that_are_not_of_elsad(elsad):
    for status, exit_status in (404, 3), (500, 1), (302, 1), (429, 7), (418, 2):
        elsad.answers["GET /v1/sessions"] = status, b"<html>nginx</html>"
        done = run("sessions", url=elsad.url)
        assert done.returncode == exit_status, done
        assert f"HTTP status {status}" in done.stderr
        assert "--url" in done.stderr


def test_something_else_behind_the_socket(tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer():
            connection, _ = listener.accept()
            connection.recv(1000)
            connection.sendall(b"SSH-2.0-OpenSSH\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        assert run("sessions", url=f"unix:{path}").returncode == 7


def test_no_permission(elsad):
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    elsad.dir.chmod(0o711)
    elsad.path.chmod(0o600)
    done = run("sessions", url=elsad.url, user=65534, group=65534, extra_groups=[])
    assert done.returncode == 5
    assert "may not use" in done.stderr
    assert "controller.allowed_users" in done.stderr


# --- tokens and addresses -------------------------------------------------------------------------


def test_token(tcp_elsad, tmp_path):
    def check(asked):
        if asked["token"] == "Bearer right":
            return {"sessions": []}
        return 401, {"error": {"fault": "denied", "text": "no or a wrong token", "remedy": ""}}

    tcp_elsad.answers["GET /v1/sessions"] = check
    right, wrong, empty = tmp_path / "right", tmp_path / "wrong", tmp_path / "empty"
    right.write_text("right\n")
    wrong.write_text("wrong")
    empty.write_text("\n")
    url = tcp_elsad.url
    assert good("sessions", "--token-file", str(right), url=url) == "no sessions\n"
    assert good("sessions", url=url + "/", env={"ELSA_TOKEN": "right"}) == "no sessions\n"
    done = run("sessions", url=url)
    assert done.returncode == 5
    assert "--token-file" in done.stderr
    done = run("sessions", "--token-file", str(wrong), url=url)
    assert done.returncode == 5
    assert "controller.token_file" in done.stderr
    assert run("sessions", "--token-file", str(empty), url=url).returncode == 2
    assert run("sessions", "--token-file", str(tmp_path / "none"), url=url).returncode == 3


def test_where_elsad_is(elsad, tmp_path):
    elsad.answers["GET /v1/sessions"] = {"sessions": []}
    config = tmp_path / "elsa.toml"
    config.write_text(f'[controller]\nsocket = "{elsad.path}"\n')
    good("sessions", "--config", str(config))
    good("sessions", "-c", str(config))
    good("sessions", "--url", elsad.url, env={"ELSA_URL": "unix:/nowhere"})
    config.write_text("[controller]\nsoket = 1\n")
    done = run("sessions", "--config", str(config))
    assert done.returncode == 2
    assert f"{config}:2:1: " in done.stderr
    for url in "ftp://here", "elsad", "", "unix:relative":
        assert run("sessions", "--url", url).returncode == 2


# --- names ----------------------------------------------------------------------------------------

NAMES = [
    "a/b",
    "../../etc/passwd",
    "..",
    "J\u00fcrgen M\u00fcller",
    "\u65e5\u672c\u8a9e",
    "x" * 300,
    "\u00fc" * 300,
    "a&server=b",
    "a?b#c%00",
    "\x1b]0;owned\x07\x1b[2J",
    "\u009b2J",
    "\u202enimda",
    "new\nline\ttab",
    "'; rm -rf /",
    " ",
    "{user}",
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:20])
def test_names(elsad, name):
    elsad.answers["GET /v1/session"] = lambda asked: session(**asked["query"])
    elsad.answers["GET /v1/sessions"] = {"sessions": [session(user=name, server=name)]}
    elsad.answers["POST /v1/session/stop"] = 202, operation()
    shown = json.loads(good("show", name, "-s", name, "--json", url=elsad.url))
    assert (shown["user"], shown["server"]) == (name, name)
    (listed,) = json.loads(good("sessions", "--json", url=elsad.url))
    assert listed["user"] == name
    good("stop", f"--server={name}", "--", name, url=elsad.url)
    assert elsad.asked[-1]["body"]["server"] == name
    for argv in ["sessions"], ["sessions", "--json"], ["show", name], ["stop", name]:
        seen, status = on_terminal(*argv, url=elsad.url)
        assert status == 0
        text = seen.decode().replace("\r\n", "")
        assert not [c for c in text if ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 or c == "\u202e"]
        assert "secret" not in text


def test_errors_are_harmless_too(elsad):
    elsad.answers["GET /v1/session"] = fault("not-found", "no \x1b[2J", "\u009b2J")
    seen, status = on_terminal("show", "x", url=elsad.url)
    assert (seen, status) == (b"elsa: no ?[2J\r\n      ?2J\r\n", 3)
    seen, status = on_terminal("\x1b[2J", url=elsad.url)
    assert status == 2
    assert b"\x1b" not in seen


def test_names_that_are_no_text(elsad):
    for argv in ["show", "\udcff"], ["stop", "ada", "--server", "\udcff"]:
        done = run(*argv, url=elsad.url)
        assert done.returncode == 2
        assert "UTF-8" in done.stderr
        assert json.loads(run(*argv, "--json", url=elsad.url).stderr)["error"]["fault"] == "bad-input"


# --- the line -------------------------------------------------------------------------------------


@pytest.mark.parametrize("posix", [False, True])
def test_options_stand_anywhere(elsad, posix):
    env = {"POSIXLY_CORRECT": "1"} if posix else {}
    elsad.answers["GET /v1/session"] = session()
    for argv in (
        ["--json", "-s", "lab", "show", "ada"],
        ["show", "--json", "ada", "-slab"],
        ["show", "ada", "--server=lab", "--json"],
        ["--json", "show", "-s", "lab", "--", "ada"],
    ):
        assert json.loads(good(*argv, url=elsad.url, env=env))["user"] == "ada"
        assert elsad.asked[-1]["query"] == {"user": "ada", "server": "lab"}
    good("show", "--", "--json", url=elsad.url, env=env)
    assert elsad.asked[-1]["query"]["user"] == "--json"


BAD_LINES = [
    ([], "no command given"),
    (["nonsense"], 'no command "nonsense"'),
    (["stor"], "elsa store ls"),
    (["store"], "elsa store ls"),
    (["show"], "wants the name of a user"),
    (["show", ""], "is empty"),
    (["show", "ada", "bo"], '"bo" is one word too many'),
    (["sessions", "ada"], '"ada" is one word too many'),
    (["a"] * 20, "one word too many"),
    (["sessions", "--wait"], "takes no --wait"),
    (["sessions", "--nonsense"], "no option --nonsense"),
    (["sessions", "-x"], "no option -x"),
    (["sessions", "-fx"], "no option -x"),
    (["sessions", "--json=yes"], "--json takes no value"),
    (["show", "ada", "--server"], "--server wants a value"),
    (["show", "ada", "-s"], "-s wants a value"),
    (["events", "-n", "many"], "--lines wants a whole number"),
    (["events", "-n", "-1"], "--lines wants a whole number"),
    (["events", "-n", ""], "--lines wants a whole number"),
    (["events", "-n", "99999999999999999999"], "--lines wants a whole number"),
    (["stop", "ada", "--wait", "--timeout", "1e9"], "--timeout wants a whole number"),
    (["events", "--server", "lab"], "goes with the name of a user"),
    (["hibernate", "ada", "--generation", "3"], "takes no --generation"),
]


@pytest.mark.parametrize(("argv", "text"), BAD_LINES, ids=lambda x: " ".join(x)[:40])
def test_bad_lines(argv, text):
    done = run(*argv, url="unix:/nowhere")
    assert done.returncode == 2
    assert text in done.stderr
    assert not done.stdout


def test_help_anywhere():
    everything = good("--help")
    for argv in ["-h"], ["help"], ["--nonsense", "-h"], ["nonsense", "-h"], ["-h", "sessions"]:
        assert good(*argv) == everything
    one = good("hibernate", "--help")
    assert one.startswith("elsa hibernate")
    assert "--wait" in one
    for argv in ["hibernate", "ada", "-h"], ["help", "hibernate"], ["hibernate", "-n", "x", "-h"]:
        assert good(*argv) == one
    assert "--generation" in good("store", "verify", "-h")
    # After "--" it is a name.
    assert run("show", "--", "-h", url="unix:/nowhere").returncode == 7
    assert good("--version").startswith("elsa ")


def test_broken_pipe(elsad):
    rows = [session(user=f"user-{i}") for i in range(10000)]
    elsad.answers["GET /v1/sessions"] = {"sessions": rows}
    done = subprocess.run(
        ["bash", "-c", f'{ELSA} sessions | head -1; echo "${{PIPESTATUS[0]}}"'],
        env=os.environ | {"ELSA_URL": elsad.url},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert not done.stderr
    head, status = done.stdout.splitlines()
    assert head.startswith("USER")
    assert status == "141"


def test_full_disk(elsad):
    elsad.answers["GET /v1/sessions"] = {"sessions": [session()]}
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = run("sessions", url=elsad.url, stdout=full)
    assert done.returncode == 9
    assert "cannot write" in done.stderr


# --- what needs no elsad --------------------------------------------------------------------------


def test_config_check(tmp_path):
    config = tmp_path / "elsa.toml"
    config.write_text('[idle]\ntimeout = "2h"\n')
    assert good("config", "check", str(config)) == f"{config}: good\n"
    assert good("config", "check", "--config", str(config)) == f"{config}: good\n"
    assert json.loads(good("config", "check", str(config), "--json")) == {"ok": True}
    for text, where in (
        ('[idle]\ntimeot = "2h"\n', "2:1"),
        ("[idle]\n\n  timeout = true\n", "3:13"),
        ("[idle\n", "1:"),
        ('[hub]\napi_url = "nonsense"\n', "2:11"),
    ):
        config.write_text(text)
        done = run("config", "check", str(config))
        assert done.returncode == 2
        assert f"{config}:{where}" in done.stderr, done.stderr
        error = json.loads(run("config", "check", str(config), "--json").stderr)["error"]
        assert error["fault"] == "bad-input"
    assert run("config", "check", str(tmp_path / "none")).returncode == 3


def test_config_show_can_be_read_back(tmp_path):
    config = tmp_path / "elsa.toml"
    shown = good("config", "show", str(CHECKOUT / "config.example.toml"))
    config.write_text(shown)
    assert good("config", "show", str(config)) == shown
    as_json = good("config", "show", str(config), "--json")
    assert json.loads(as_json) == {"toml": shown}


def test_doctor_is_elsa_nodes(tmp_path):
    shutil.copy(ELSA, tmp_path / "elsa")
    node = tmp_path / "elsa-node"
    node.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 6\n')
    node.chmod(0o755)
    done = subprocess.run(
        [str(tmp_path / "elsa"), "doctor", "--json", "--config", "x y"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 6
    assert done.stdout.splitlines() == ["--config", "x y", "doctor", "--json"]


# --- what is made from the table ------------------------------------------------------------------


def test_documents_are_up_to_date():
    for option, path in ("--help-markdown", "docs/cli.md"), ("--help-manual", "packaging/man/elsa.1"):
        assert good(option) == (CHECKOUT / path).read_text(), f"elsa {option} >{path}"


def test_every_command_is_tried_here():
    source = "".join(p.read_text() for p in Path(__file__).parent.glob("test_cli*.py"))
    for word in good("--help-words").split():
        assert word.lstrip("-") in source, word


def complete(line, **options):
    """What bash would offer."""
    script = CHECKOUT / "packaging" / "completion" / "elsa"
    words = line.split(" ")
    done = subprocess.run(
        [
            "bash",
            "-c",
            'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
            'COMPREPLY=(); _elsa; printf "%s\\n" "${COMPREPLY[@]}"',
            "bash",
            str(script),
            *words,
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{BUILD}:{os.environ['PATH']}", **options.get("env", {})},
        timeout=30,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.stdout.split("\n")[:-1]


def test_completion(elsad):
    env = {"ELSA_URL": elsad.url}
    names = ["ada", "a b", "$(touch /tmp/owned)", "x\ny", "bo"]
    elsad.answers["GET /v1/sessions"] = {"sessions": [session(user=name) for name in names]}
    assert complete("elsa st", env=env) == ["status", "stop", "store"]
    assert complete("elsa store ", env=env) == [
        "ls", "show", "verify", "gc", "rm", "export", "import", "rekey",
    ]  # fmt: skip
    elsad.answers["GET /v1/nodes"] = {"items": [{"name": "hub"}, {"name": "n1"}, {"name": "$(id)"}]}
    assert complete("elsa node un", env=env) == ["undrain"]
    assert complete("elsa node drain ", env=env) == ["hub", "n1"]
    assert complete("elsa hibernate --wai", env=env) == ["--wait"]
    assert sorted(complete("elsa show a", env=env)) == ["a\\ b", "ada"]
    assert complete("elsa show $", env=env) == ["\\$\\(touch\\ /tmp/owned\\)"]
    assert complete("elsa show b", env={"ELSA_URL": "unix:/nowhere"}) == [""]
    assert not Path("/tmp/owned").exists()
