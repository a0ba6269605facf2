# SPDX-License-Identifier: Apache-2.0
"""elsa-node cut off from power at every step, and killed once more while it recovers: test_node_faults.py
goes through each of them once."""
import contextlib
import os
import pathlib
import signal
import time

import pytest

from nodekit import new_id, wait_for
from test_node import assert_same, in_place_of, node_fixture, place_fixture, settle, whole
from test_node_faults import arrange, ask_until_killed, check_one_truth, steps

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(180)]
FIXTURES = (node_fixture, place_fixture)  # used by name


def own_steps():
    """Without those that sleep has in common with hibernate."""
    common = {step for kind, step in steps() if kind == "hibernate"}
    return [(kind, step) for kind, step in steps() if kind != "sleep" or step not in common]


def power_cut(node, session):
    """What is left when a machine goes down: disks, and no process."""
    node.kill()
    mine = str(node.state / "criu" / session.id).encode()
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mine in (entry / "cmdline").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)
    for pid in session.processes():
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    session.thaw()
    wait_for(lambda: session.processes() == set())


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind, step", [s for s in own_steps()
                                        if s[0] in ("hibernate", "sleep", "restore", "answer")])
def test_power_cut_at(node, place, kind, step, when):
    """The new boot knows what was durable, and no more: the checkpoint is whole and elsad, asking
    again, gets what it wanted; or it never was, and that is told."""
    session, generation = arrange(node, kind)
    node.kill()
    node.start("--fault", f"{kind}:{step}:{when}")
    effect = new_id()
    ask_until_killed(node, kind, session, generation, effect)
    power_cut(node, session)
    with in_place_of("/proc/sys/kernel/random/boot_id", "00000000-1111\n", place):
        node.start()
        status = settle(node, session)
        assert not (status and status["running"])
        there = whole(node, session, 1)
        moments = [(s, w) for k, s in steps() if k == kind for w in ("before", "after")]
        assert there == (kind in ("restore", "answer") or
                         moments.index((step, when)) >= moments.index(("commit", "after")))
        result = node.effect(kind, session, generation, effect_id=effect)
        assert result["state"] == ("done" if there else "failed")
        if kind == "hibernate" and there:
            session.restore(1)
        if there:
            assert_same(session.before, wait_for(session.answers))
        node.kill()


@pytest.mark.parametrize("kind, step", [s for s in own_steps()
                                        if s[0] in ("hibernate", "sleep", "snapshot")])
def test_killed_again_while_it_recovers(node, kind, step):
    """The second life is killed, too, wherever it goes through that step once more."""
    session, generation = arrange(node, kind)
    node.kill()
    fault = ("--fault", f"{kind}:{step}:after")
    node.start(*fault)
    ask_until_killed(node, kind, session, generation, new_id())
    node.start(*fault, wait=False)
    time.sleep(0.7)
    node.kill()
    node.start()
    check_one_truth(node, session, kind, settle(node, session))
