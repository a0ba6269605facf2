# SPDX-License-Identifier: Apache-2.0
"""`elsa`, its line, and what is made from the table of its commands (test_cli.py)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from basekit import BUILD, CHECKOUT
from cli_kit import ELSA, Double, good, run, session


@pytest.fixture
def elsad():
    double = Double()
    yield double
    double.close()


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
