# SPDX-License-Identifier: Apache-2.0
"""Sessions that sleep unseen: elsad, with doubles of its nodes and of the Hub."""

from __future__ import annotations

from http.client import HTTPException
from pathlib import Path

import pytest
from basekit import wait_for
from elsad_doubles import iso
from elsad_kit import ApiError, Elsad, steps

UNSEEN = {"transparent": True}


@pytest.fixture
def elsad(tmp_path: Path):
    with Elsad(tmp_path, idle={**UNSEEN, "timeout": "1s"}) as elsad:
        elsad.hub.add("ada", **{"": iso(3600)})
        yield elsad.start()
        assert not elsad.node.broken


def sleep(elsad: Elsad, user: str = "ada") -> dict:
    elsad.run(user)
    assert elsad.follow(elsad.act("hibernate", user, transparent=True))["state"] == "done"
    return elsad.session(user)


def stops(elsad: Elsad) -> list:
    return [r for r in elsad.hub.requests if r.startswith("DELETE")]


# --- falling asleep and waking ---------------------------------------------------------------------


def test_nobody_sees_it_sleep_and_the_first_touch_wakes_it(elsad: Elsad):
    before = elsad.run()
    elsad.write_config(idle={"interval": "200ms"})
    elsad.reload()
    asleep = elsad.wait_state("asleep")
    elsad.write_config(idle={"interval": "1d"})
    elsad.reload()
    assert asleep["unseen"] and not asleep["waking"] and asleep["slept_at"] > 0
    assert asleep["checkpoint"] == 1 and asleep["address"] == before["address"]
    assert "unseen" in asleep["explain"]
    assert elsad.node.asked[-1]["kind"] == "sleep"

    elsad.node.touch(asleep["id"])
    woken = elsad.wait_state("running")
    assert woken["slept_at"] == 0 and not woken["unseen"]
    assert woken["last_person_activity"] >= asleep["slept_at"]
    event = elsad.events(user="ada")[0]
    assert (event["what"], event["who"], event["why"]) == ("woken", "node", "touched")
    assert event["duration_us"] > 0
    assert elsad.whats()[-3:] == ["checkpointing", "asleep", "woken"]
    assert [r["kind"] for r in elsad.node.asked] == ["start", "sleep"]
    assert not stops(elsad)


def test_woken_and_asleep_again_the_numbers_go_on(elsad: Elsad):
    session = sleep(elsad)
    elsad.node.touch(session["id"])
    elsad.wait_state("running")
    assert elsad.follow(elsad.act("hibernate", transparent=True))["state"] == "done"
    assert elsad.session()["checkpoint"] == 2


def test_elsad_is_down_while_it_sleeps_and_wakes(elsad: Elsad):
    session = sleep(elsad)
    elsad.kill()
    elsad.start()
    assert elsad.session()["state"] == "asleep"
    elsad.kill()
    elsad.node.touch(session["id"])
    elsad.start()
    elsad.wait_state("running")
    assert [r["kind"] for r in elsad.node.asked] == ["start", "sleep"]


def test_who_asks_for_it_wakes_it_where_it_is(elsad: Elsad):
    sleep(elsad)
    done = elsad.follow(elsad.start_session())
    assert done["state"] == "done" and done["kind"] == "restore"
    assert elsad.session()["state"] == "running"
    assert elsad.node.asked[-1]["kind"] == "restore"


def test_resume_does_not_ask_the_hub(elsad: Elsad):
    sleep(elsad)
    elsad.act("resume")
    elsad.wait_state("running")
    assert not [r for r in elsad.hub.requests if r.startswith("POST")]


def test_a_wake_that_fails_leaves_it_asleep(elsad: Elsad):
    session = sleep(elsad)
    elsad.node.fail["restore"] = {"fault": "unavailable", "text": "the store is down"}
    assert elsad.follow(elsad.start_session())["state"] == "failed"
    asleep = elsad.session()
    assert asleep["state"] == "asleep" and asleep["checkpoint"] == 1
    elsad.node.fail.clear()
    elsad.node.touch(session["id"])
    elsad.wait_state("running")


def test_what_cannot_be_checkpointed_runs_on(elsad: Elsad):
    elsad.run()
    elsad.node.fail["sleep"] = {"fault": "refused", "text": "it holds io_uring"}
    assert elsad.follow(elsad.act("hibernate", transparent=True))["state"] == "failed"
    session = elsad.session()
    assert session["state"] == "running" and not session["unseen"] and session["slept_at"] == 0


# --- seen after all --------------------------------------------------------------------------------


def test_hibernating_what_sleeps_lets_go_of_it(elsad: Elsad):
    sleep(elsad)
    done = elsad.follow(elsad.act("hibernate", who="hub"))
    assert done["state"] == "done"
    session = elsad.session()
    assert session["state"] == "hibernated" and not session["unseen"]
    assert elsad.node.asked[-1]["kind"] == "release" and not elsad.node.asleep


def test_long_asleep_the_hub_is_asked_to_stop_it(elsad: Elsad):
    sleep(elsad)
    elsad.write_config(idle={"stop_after": "1s", "interval": "200ms"})
    elsad.reload()
    session = elsad.wait_state("hibernated")
    assert not session["unseen"] and len(stops(elsad)) == 1
    (event,) = [e for e in elsad.events(user="ada") if e["what"] == "release"]
    assert event["who"] == "idle-policy" and "long-asleep" in event["why"]


def test_stop_and_forget_of_what_sleeps(elsad: Elsad):
    sleep(elsad)
    assert elsad.follow(elsad.act("stop"))["state"] == "done"
    assert elsad.session()["state"] == "stopped" and not elsad.node.asleep
    sleep(elsad, "bob")
    assert elsad.follow(elsad.act("forget", "bob"))["state"] == "done"
    assert not elsad.node.asleep and not elsad.session("ada")["checkpoint_usable"]


def test_its_checkpoint_cannot_be_removed(elsad: Elsad):
    sleep(elsad)
    with pytest.raises(ApiError) as error:
        elsad.post("/v1/store/rm", {"user": "ada", "server": "", "generation": 1, "force": True})
    assert error.value.status == 409


def test_a_node_that_does_not_answer_in_the_end(elsad: Elsad):
    """It sleeps, but nobody is there for who comes: the Hub has to know."""
    session = sleep(elsad)
    elsad.node.fail["answer"] = {"fault": "internal", "text": "no route"}
    with elsad.node.lock:
        elsad.node.asleep.pop(session["id"])
    wait_for("the Hub to be told", lambda: stops(elsad), seconds=40)
    assert elsad.session()["unseen"]
    elsad.act("hibernate", who="hub")
    assert not elsad.wait_state("hibernated")["unseen"]


# --- its node --------------------------------------------------------------------------------------


def test_a_node_that_forgot_it_answers_again(elsad: Elsad):
    session = sleep(elsad)
    with elsad.node.lock:
        elsad.node.asleep.pop(session["id"])
    wait_for("to be answered for again", lambda: session["id"] in elsad.node.asleep)
    assert elsad.wait_state("asleep")["checkpoint"] == 1


def test_a_node_that_was_rebooted_goes_on_answering(elsad: Elsad):
    session = sleep(elsad)
    elsad.node.reboot()
    elsad.run("bob")
    wait_for("a look", lambda: elsad.session("bob")["processes"] == 3)
    assert elsad.session()["state"] == "asleep" and session["id"] in elsad.node.asleep
    assert [r["kind"] for r in elsad.node.asked] == ["start", "sleep", "start"]


def test_woken_and_rebooted_between_two_looks(elsad: Elsad):
    """Its user has seen it later than its checkpoint is, and is told."""
    session = sleep(elsad)
    with elsad.node.lock:
        elsad.node.asleep.pop(session["id"])
        elsad.node.ended[session["id"]] = "rebooted"
    after = elsad.wait_state("hibernated")
    assert "rebooted" in after["reason"] and not after["unseen"] and after["checkpoint"] == 1
    assert elsad.whats()[-2:] == ["woken", "node-rebooted"]


def test_one_that_its_node_may_not_wake_is_woken_all_the_same(elsad: Elsad):
    session = sleep(elsad)
    elsad.node.touch(session["id"], unwoken="no memory is left")
    elsad.wait_state("running")
    assert "unwoken" in elsad.whats()
    assert elsad.node.asked[-1]["kind"] == "restore"


# --- dozing ----------------------------------------------------------------------------------------


def test_one_dozes_before_it_sleeps(tmp_path: Path):
    idle = {**UNSEEN, "timeout": "1h", "doze": "1s", "interval": "200ms"}
    with Elsad(tmp_path, idle=idle) as elsad:
        elsad.node.info = {"doze": "zram"}
        elsad.hub.add("ada", **{"": iso(3600)})
        elsad.start()
        elsad.run()
        dozing = elsad.wait_state("dozing")
        assert dozing["slept_at"] > 0 and not stops(elsad)
        elsad.node.touch(dozing["id"])
        elsad.wait_state("running")
        elsad.wait_state("dozing")
        assert elsad.follow(elsad.start_session())["state"] == "done"
        assert elsad.session()["state"] == "running"
        elsad.wait_state("dozing")
        elsad.write_config(idle={"timeout": "1s"})
        elsad.reload()
        elsad.wait_state("asleep")
        whats = [what for what in elsad.whats() if what != "idle"]
        assert whats[2:6] == ["freezing", "dozing", "woken", "freezing"]
        assert whats[-2:] == ["checkpointing", "asleep"]
        assert not elsad.node.broken


# --- killed at every step --------------------------------------------------------------------------

# From which state each effect begins, and where it leads.
WAYS = {
    "sleep": ("running", "asleep"),
    "release": ("asleep", "hibernated"),
    "answer": ("asleep", "asleep"),
    "doze": ("running", "dozing"),
    "rouse": ("dozing", "running"),
}


def begin(elsad: Elsad, kind: str, session: str) -> None:
    """Has the effect wanted; answer and doze are begun by elsad itself."""
    if kind == "answer":
        with elsad.node.lock:
            elsad.node.asleep.pop(session, None)
    try:
        if kind in ("sleep", "release"):
            elsad.act("hibernate", transparent=kind == "sleep")
        elif kind == "rouse":
            elsad.start_session()
    except (OSError, HTTPException):
        pass  # it died before it could answer


def assert_one_life(elsad: Elsad) -> None:
    shown = elsad.session()
    session, state = shown["id"], shown["state"]
    assert (session in elsad.node.running) == (state in ("running", "dozing"))
    assert (session in elsad.node.asleep) == (state == "asleep")
    if state in ("asleep", "hibernated"):
        assert (session, shown["checkpoint"]) in elsad.node.checkpoints
    assert shown["generation"] == len(elsad.node.checkpoints)
    assert not elsad.node.broken and not stops(elsad)


@pytest.mark.parametrize("step", [s for s in steps() if s.split(".")[0] in WAYS])
def test_killed_at_every_step(tmp_path: Path, step: str):
    kind, moment = step.split(".")
    before, after = WAYS[kind]
    with Elsad(tmp_path, idle=UNSEEN) as elsad:
        elsad.node.info = {"doze": "zram"}
        elsad.hub.add("ada", **{"": iso(3600)})
        elsad.start()
        session = elsad.run()["id"]
        if before == "asleep":
            elsad.follow(elsad.act("hibernate", transparent=True))
        if before == "dozing":
            with elsad.node.lock:
                elsad.node.running[session].update(frozen=True, dozing=True)
        elsad.wait_state(before)
        elsad.end()
        elsad.node.seconds = 0.3 if moment == "asked" else 0.0
        if kind == "doze":
            elsad.write_config(idle={"doze": "1s", "interval": "200ms", "timeout": "1h"})
        elsad.start("--fault", step)
        begin(elsad, kind, session)
        assert elsad.wait_dead() == -9
        elsad.start()
        if moment in ("decided", "in-record"):
            begin(elsad, kind, session)
        if kind == "answer":
            wait_for("to be answered for", lambda: elsad.node.asleep)
        elsad.wait_state(after)
        wait_for("all to be acknowledged", lambda: not elsad.node.effects, seconds=20)
        assert_one_life(elsad)


def test_killed_over_and_over_while_it_falls_asleep(tmp_path: Path):
    with Elsad(tmp_path, idle=UNSEEN) as elsad:
        elsad.start()
        elsad.run()
        elsad.node.seconds = 0.5
        elsad.act("hibernate", transparent=True)
        for _ in range(10):
            elsad.kill()
            elsad.start()
        elsad.wait_state("asleep")
        assert len({r["id"] for r in elsad.node.asked if r["kind"] == "sleep"}) == 1
        assert_one_life(elsad)
