# SPDX-License-Identifier: Apache-2.0
"""elsad killed at every one of its steps; the node away, rebooted, out of step; disks full."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
from elsad_kit import ApiError, Elsad, steps
from accountkit import check_account
from basekit import wait_for

# What a session must be in when nothing is under way, by what was asked last.
GOALS = {
    "start": {"running"},
    "hibernate": {"hibernated"}, "snapshot": {"running"},
    "restore": {"running"},
    "stop": {"stopped"},
    "forget": {None},
}


@pytest.fixture
def elsad(tmp_path: Path):
    with Elsad(tmp_path) as elsad:
        yield elsad.start()
        assert not elsad.node.broken


def bring_to(elsad: Elsad, kind: str) -> None:
    """The state from which an effect of that kind begins."""
    if kind != "start":
        elsad.run()
    if kind == "restore":
        elsad.follow(elsad.act("hibernate"))


def ask(elsad: Elsad, kind: str) -> None:
    if kind in ("start", "restore"):
        elsad.start_session()
    else:
        elsad.act(kind)


def state_of(elsad: Elsad) -> str | None:
    try:
        return elsad.session()["state"]
    except ApiError as error:
        assert error.status == 404
        return None


def assert_one_life(elsad: Elsad, session: str) -> None:
    """Running somewhere or whole in the store, as recorded; never both, never neither."""
    state = state_of(elsad)
    if state is None:
        assert session not in elsad.node.running and not elsad.node.checkpoints
        return
    shown = elsad.session()
    assert (session in elsad.node.running) == (state == "running")
    if state == "hibernated":
        assert (session, shown["generation"]) in elsad.node.checkpoints
        assert shown["checkpoint_usable"]


@pytest.mark.parametrize("step", [s for s in steps() if s.split(".")[0] in GOALS])
def test_killed_at_every_step(tmp_path: Path, step: str):
    kind, moment = step.split(".")
    with Elsad(tmp_path) as elsad:
        elsad.start()
        bring_to(elsad, kind)
        before = state_of(elsad)
        session = elsad.session()["id"] if before else ""
        elsad.end()
        # Slow enough that "asked" comes before the answer.
        elsad.node.seconds = 0.3 if moment == "asked" else 0.0
        elsad.start("--fault", step)
        try:
            ask(elsad, kind)
        except OSError:
            pass  # it died before it could answer
        assert elsad.wait_dead() == -9
        elsad.start()
        decided = moment not in ("decided", "in-record")
        goals = GOALS[kind] if decided else {before}
        wait_for(f"one of {goals}", lambda: state_of(elsad) in goals, seconds=20)
        wait_for("all to be acknowledged", lambda: not elsad.node.effects, seconds=20)
        session = session or (elsad.session()["id"] if decided else "")
        assert_one_life(elsad, session)
        if kind == "snapshot":
            assert elsad.session()["generation"] == len(elsad.node.checkpoints) == int(decided)
        # And everything still works from there.
        if kind != "forget" or not decided:
            ask(elsad, kind)
            wait_for("the goal", lambda: state_of(elsad) in GOALS[kind], seconds=20)
            assert_one_life(elsad, session or elsad.session()["id"])
        assert len({(e["what"], e["at"]) for e in elsad.events(limit=1000)}) >= 1
        check_account(elsad)
        assert elsad.node.broken == []


def test_killed_again_and_again(tmp_path: Path):
    """Every step of a hibernation in a row, each time a new elsad, one effect."""
    with Elsad(tmp_path) as elsad:
        elsad.start()
        elsad.run()
        elsad.node.seconds = 0.5
        elsad.act("hibernate")
        for _ in range(10):
            elsad.kill()
            elsad.start()
        elsad.wait_state("hibernated")
        assert len({r["id"] for r in elsad.node.asked if r["kind"] == "hibernate"}) == 1
        assert elsad.node.broken == []


# --- the node --------------------------------------------------------------------------------------


def test_the_node_is_away(elsad: Elsad):
    elsad.run()
    elsad.node.stop()
    wait_for("elsad to notice", lambda: elsad.get("/v1/health")["node"] == "down")
    operation = elsad.act("hibernate")
    time.sleep(0.5)
    assert elsad.session()["state"] == "checkpointing"
    with pytest.raises(ApiError) as error:
        elsad.get("/v1/session/log", user="ada")
    assert error.value.status == 503 and error.value.error["remedy"]
    elsad.node.start()
    assert elsad.follow(operation)["state"] == "done"
    wait_for("elsad to notice", lambda: elsad.get("/v1/health")["node"] == "up")


def test_the_node_goes_in_the_middle(elsad: Elsad):
    elsad.run()
    held = elsad.node.hold["hibernate"] = threading.Event()
    operation = elsad.act("hibernate")
    wait_for("the node to work", lambda: elsad.node.effects.get(operation["id"]))
    elsad.node.stop()
    time.sleep(0.3)
    elsad.node.start()
    held.set()
    assert elsad.follow(operation)["state"] == "done"


def test_the_node_will_not_have_it(elsad: Elsad):
    elsad.node.reject["start"] = 400
    done = elsad.follow(elsad.start_session())
    assert done["state"] == "failed" and "does not like it" in done["error"]["text"]
    assert elsad.session()["state"] == "failed"
    del elsad.node.reject["start"]
    assert elsad.follow(elsad.start_session())["state"] == "done"


@pytest.mark.parametrize("status", [403, 409, 500, 503])
def test_the_node_will_not_have_it_now(elsad: Elsad, status: int):
    elsad.node.reject["start"] = status
    operation = elsad.start_session()
    time.sleep(0.5)
    assert elsad.session()["state"] == "starting"
    del elsad.node.reject["start"]
    assert elsad.follow(operation)["state"] == "done"


@pytest.mark.parametrize("down", [False, True])
def test_the_machine_is_rebooted(elsad: Elsad, down: bool):
    elsad.run("ada")
    elsad.follow(elsad.act("hibernate", "ada"))
    elsad.follow(elsad.start_session("ada"))
    elsad.run("bob")
    elsad.run("eve")
    elsad.follow(elsad.act("hibernate", "eve"))
    if down:
        elsad.kill()
    elsad.node.reboot()
    if down:
        elsad.start()
    ada = elsad.wait_state("hibernated", "ada")
    bob = elsad.wait_state("lost", "bob")
    assert "rebooted" in ada["reason"] and "rebooted" in bob["reason"]
    assert elsad.session("eve")["state"] == "hibernated"
    assert elsad.follow(elsad.start_session("ada"))["kind"] == "restore"
    assert elsad.follow(elsad.start_session("bob"))["kind"] == "start"
    time.sleep(0.5)
    for user in ("ada", "bob"):
        assert elsad.session(user)["state"] == "running"


def test_rebooted_in_the_middle_of_a_start(elsad: Elsad):
    """The start is asked again of the rebooted node; its session did not lose anything."""
    held = elsad.node.hold["start"] = threading.Event()
    operation = elsad.start_session()
    elsad.node.reboot()
    time.sleep(0.5)
    held.set()
    assert elsad.follow(operation)["state"] == "done"
    time.sleep(0.5)
    assert elsad.session()["state"] == "running"


def test_a_session_ends_by_itself(elsad: Elsad):
    session = elsad.run()
    elsad.node.exit(session["id"], "oom-killed")
    ended = elsad.wait_state("stopped")
    assert "oom-killed" in ended["reason"] and "exited" in elsad.whats()
    assert elsad.follow(elsad.start_session())["kind"] == "start"


def test_a_session_the_node_does_not_know(elsad: Elsad):
    session = elsad.run()
    with elsad.node.lock:
        del elsad.node.running[session["id"]]
    assert elsad.wait_state("stopped")["reason"]


def test_a_session_nobody_knows(elsad: Elsad):
    with elsad.node.lock:
        elsad.node.running["0123456789abcdef"] = {"id": "0123456789abcdef", "running": True}
    wait_for("the report", lambda: any(e["what"] == "strange-session" for e in elsad.events()))
    time.sleep(0.5)
    assert sum(e["what"] == "strange-session" for e in elsad.events()) == 1
    assert elsad.node.running


def test_results_nobody_waits_for_are_acknowledged(tmp_path: Path):
    with Elsad(tmp_path) as elsad:
        elsad.node.effects["feedfeedfeedfeed"] = {"id": "feedfeedfeedfeed", "state": "done",
                                                  "running": False}  # fmt: skip
        elsad.start()
        wait_for("the answer", lambda: not elsad.node.effects)


# --- the store as against the record ---------------------------------------------------------------


def test_an_empty_store_takes_nothing_from_the_record(elsad: Elsad):
    session = elsad.run()
    elsad.follow(elsad.act("hibernate"))
    kept = dict(elsad.node.checkpoints)
    elsad.node.checkpoints.clear()
    elsad.kill()
    elsad.start()
    wait_for("the report", lambda: any(e["what"] == "checkpoint-missing" for e in elsad.events()))
    assert elsad.session()["checkpoint_usable"]
    elsad.node.checkpoints.update(kept)
    assert elsad.follow(elsad.start_session())["kind"] == "restore"
    assert elsad.session()["id"] == session["id"]


def test_old_generations_leave_the_record_with_the_store(elsad: Elsad):
    session = elsad.run()
    elsad.follow(elsad.act("hibernate"))
    elsad.follow(elsad.start_session())
    with elsad.node.lock:
        del elsad.node.checkpoints[session["id"], 1]
    elsad.follow(elsad.act("hibernate"))
    wait_for("the record", lambda: [c["generation"] for c in elsad.session()["checkpoints"]] == [2])


def test_a_checkpoint_that_was_written_all_the_same(elsad: Elsad):
    """The node says that it failed and nothing runs, but the generation is in the store."""
    session = elsad.run()["id"]
    elsad.node.fail["hibernate"] = {"fault": "internal", "text": "lost its mind", "running": False}
    with elsad.node.lock:
        elsad.node.checkpoints[session, 1] = {"session": session, "generation": 1, "aside": False,
                                              "stored_bytes": 5}  # fmt: skip
        del elsad.node.running[session]
    elsad.follow(elsad.act("hibernate"))
    wait_for("the find", lambda: elsad.session()["checkpoint_usable"])
    del elsad.node.fail["hibernate"]
    assert elsad.follow(elsad.start_session())["kind"] == "restore"


# --- a full disk -----------------------------------------------------------------------------------


def mount_small(directory: Path) -> Path:
    small = directory / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", small], check=True)
    return small


def fill(small: Path) -> Path:
    filler = small / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    return filler


def test_a_full_disk_loses_nothing(tmp_path: Path):
    small = mount_small(tmp_path)
    try:
        with Elsad(tmp_path, controller={"database": str(small / "elsad.db")}) as elsad:
            elsad.start().run()
            held = elsad.node.hold["hibernate"] = threading.Event()
            operation = elsad.act("hibernate")
            filler = fill(small)
            held.set()
            with pytest.raises(ApiError) as error:
                for n in range(200):
                    elsad.start_session(f"user{n}", env={"A": "x" * 20000})
            assert error.value.error["fault"] == "full", error.value.error
            assert elsad.session()["state"] in ("checkpointing", "hibernated")
            filler.unlink()
            assert elsad.follow(operation)["state"] == "done"
            assert elsad.session()["state"] == "hibernated"
            assert elsad.node.broken == []
    finally:
        subprocess.run(["umount", "-l", small], check=False)
        os.sync()
