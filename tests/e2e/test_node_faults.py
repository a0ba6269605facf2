# SPDX-License-Identifier: Apache-2.0
"""elsa-node killed or failing at every step there is, driven from the list of steps in the program: nothing is
lost, nothing runs twice (test_node.py)."""
import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from nodebed import (AWAY, arrange, ask_until_killed, bed_fixture, beds_fixture, check_one_truth, killed_at,
                     older, steps, undecided)
from nodekit import Refused, new_id, wait_for
from test_node import assert_same, leftovers, settle, whole

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(180)]
FIXTURES = (bed_fixture, beds_fixture)  # used by name


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind, step", [s for s in steps() if s[0] in AWAY])
def test_killed_at(bed, kind, step, when):
    killed_at(bed, kind, step, when)


@pytest.mark.parametrize("step, when", [(s, w) for k, s in steps() if k == "ended"
                                        for w in ("before", "after")])
def test_killed_while_a_session_ends(bed, step, when):
    session, node = bed.running(), bed.node
    pid = int(node.sessions()[session.id]["pid"])
    bed.arm("--fault", f"ended:{step}:{when}")
    os.kill(pid, 9)
    assert node.died() == -9
    node.start()
    assert wait_for(lambda: node.sessions()[session.id].get("ended")) == "exited"
    session.start()


def test_killed_behind_the_commit_and_the_store_does_not_answer(bed):
    """Whether the session is in the store cannot be told: it must not be woken, nor ended."""
    session, generation, effect, store_back = undecided(bed, "hibernate")
    node = bed.node
    result = node.effect("hibernate", session, generation, effect_id=effect)
    assert result["state"] == "failed" and result["fault"] != "refused" and not result["running"]
    time.sleep(0.5)
    status = node.sessions()[session.id]
    assert status["running"] and status["frozen"] and session.processes()
    with pytest.raises(Refused) as refused:
        node.effect("restore", session, generation)
    assert refused.value.status == 409
    store_back()
    wait_for(lambda: not session.processes())
    assert whole(node, session, generation)
    assert node.done("hibernate", session, generation, effect_id=effect)["generation"] == generation
    session.restore(generation)
    assert_same(session.before, session.ask("state"))


@pytest.mark.parametrize("kind, step", [s for s in steps()
                                        if s[0] in ("hibernate", "sleep", "snapshot", "restore")])
def test_a_step_that_fails(bed, kind, step):
    session, generation = arrange(bed, kind)
    node = bed.node
    bed.arm("--fault", f"{kind}:{step}:fail")
    result = node.effect_when_read(kind, session, generation)
    status = settle(node, session)
    assert result["running"] == bool(status and status["running"] and not status["frozen"])
    if step == "kill":
        # The checkpoint is good, but its processes could not be ended: they stay frozen.
        assert result["state"] == "failed" and status["frozen"]
        bed.arm()
        node.done("stop", session)
        status = None
    check_one_truth(node, session, kind, generation, status)
    assert leftovers(node) == [] or result["running"] or step == "teardown"
    bed.arm()
    if not result["running"]:
        session.restore(generation)
    assert_same(session.before, wait_for(session.answers))


def kill_when_seen(pattern, victim=None, after=0.0):
    """SIGKILL for the first process with this command line (or for `victim`'s) some time after it
    was seen."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, check=False)
        if found.stdout.strip():
            time.sleep(after)
            subprocess.run(["pkill", "-9", "-f", victim or pattern], check=False)
            return
    raise AssertionError(f"{pattern} was not seen")


@pytest.mark.parametrize("moment", [0, 0.02, 0.05, 0.08, 0.12])
def test_criu_is_killed_while_it_restores(bed, moment):
    """Out of memory, say."""
    session, generation = arrange(bed, "restore")
    node = bed.node
    criu = f"^criu restore .*{node.state}/criu/{session.id}"
    killer = threading.Thread(target=kill_when_seen, args=(criu, None, moment))
    killer.start()
    node.effect("restore", session, generation)
    killer.join()
    status = settle(node, session)
    check_one_truth(node, session, "restore", generation, status)
    if not status:
        session.restore(generation)
        assert_same(session.before, session.ask("state"))


def dumping(node, session):
    """The pid of its CRIU that dumps."""
    found = subprocess.run(["pgrep", "-f", f"^[^ ]*criu dump .*{node.state}/criu/{session.id}"],
                           capture_output=True, text=True, check=False).stdout.split()
    return int(found[0]) if found else None


def begin(node, kind, session, generation):
    """The effect's id, and what waits for its result."""
    effect, result = new_id(), {}
    waiter = threading.Thread(target=lambda: result.update(node.effect(kind, session, generation, effect)))
    waiter.start()
    return effect, lambda: waiter.join() or result


def step_of(node, effect):
    """None: it has not begun."""
    with contextlib.suppress(Refused):
        return node.get(f"/v1/effects/{effect}").get("step")
    return None


def test_criu_is_killed_while_it_holds_the_processes(bed):
    """They stay frozen: what is committed then is what they were."""
    session, generation = arrange(bed, "hibernate")
    node = bed.node
    bed.arm("--fault", "hibernate:layers:wait")
    effect, result = begin(node, "hibernate", session, generation)
    wait_for(lambda: step_of(node, effect) == "layers")
    os.kill(dumping(node, session), signal.SIGKILL)
    done = result()
    check_one_truth(node, session, "hibernate", generation, settle(node, session))
    if done["state"] == "done":
        session.restore(generation)
        assert_same(session.before, session.ask("state"))


def test_criu_is_killed_before_the_processes_are_frozen(bed):
    """They have run on since its images were made, so that must not be committed."""
    session, generation = arrange(bed, "hibernate")
    node = bed.node
    # It freezes them by writing to a file of that name: in a fifo without a reader it waits there.
    freezer, criu = node.dir / "freezer", node.dir / "criu"
    freezer.mkdir()
    os.mkfifo(freezer / "cgroup.freeze")
    criu.write_text(f'#!/bin/sh -p\n[ "$1" != dump ] || export ELSA_FREEZER="{freezer}"\n'
                    f'exec {shutil.which("criu")} "$@"\n')
    criu.chmod(0o755)
    node.write_config(node=f'criu = "{criu}"')
    bed.arm()
    _, result = begin(node, "hibernate", session, generation)
    wait_for(lambda: dumping(node, session))
    pid = dumping(node, session)
    wait_for(lambda: Path(f"/proc/{pid}/wchan").read_text() == "wait_for_partner")
    os.kill(pid, signal.SIGKILL)
    done = result()
    assert done["state"] == "failed" and "killed by signal 9" in done["text"], done
    assert done["running"] and older(node, session, generation)
    # Not what it holds: a connection of its own can have met with an error while it was in repair mode.
    assert session.ask("fill", mib=1) and not node.sessions()[session.id]["frozen"]
    bed.leave()
    node.write_config()
    bed.arm()


def test_criu_is_killed_while_it_dumps(bed):
    """Nobody can promise that the session survives this. That it is told can be."""
    session, generation = arrange(bed, "hibernate")
    node = bed.node
    session.ask("fill", mib=300, timeout=60)
    killer = threading.Thread(target=kill_when_seen, args=(
        f"^criu dump .*{node.state}/criu/{session.id}", None, 0.1))
    killer.start()
    result = node.effect("hibernate", session, generation)
    killer.join()
    assert result["state"] == "failed" and "killed by signal 9" in result["text"]
    assert older(node, session, generation)
    node.done("stop", session)
