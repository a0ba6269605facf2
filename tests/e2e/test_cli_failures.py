# SPDX-License-Identifier: Apache-2.0
"""`elsa` and what goes wrong between it and elsad, or comes from strangers, against a stand-in
(test_cli.py)."""

from __future__ import annotations

import json
import os
import socket
import threading

import pytest
from cli_kit import FAULTS, Double, fault, good, on_terminal, operation, run, session


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
