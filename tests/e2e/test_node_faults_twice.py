# SPDX-License-Identifier: Apache-2.0
"""elsa-node cut off from power at every step, and killed once more while it recovers: test_node_faults.py
goes through each of them once."""
import contextlib
import http.client
import os
import uuid

import pytest

from basekit import MOMENTS
from nodebed import (arrange, ask_until_killed, bed_fixture, beds_fixture, check_one_truth, power_cut,
                     steps)
from nodekit import wait_for
from test_node import assert_same, in_place_of, settle, whole

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(180)]
FIXTURES = (bed_fixture, beds_fixture)  # used by name


@pytest.fixture(name="boot", scope="module", autouse=True)
def boot_fixture(tmp_path_factory):
    """Says which boot of the machine this is."""
    place = tmp_path_factory.mktemp("boot")
    with in_place_of("/proc/sys/kernel/random/boot_id", f"{uuid.uuid4()}\n", place):
        yield place / "fake"


def own_steps():
    """Without those that sleep has in common with hibernate."""
    common = {step for kind, step in steps() if kind == "hibernate"}
    return [(kind, step) for kind, step in steps() if kind != "sleep" or step not in common]


def has_settled(node, session):
    with contextlib.suppress(OSError, http.client.HTTPException):
        return not node.sessions().get(session.id, {}).get("effect")
    return False


@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize("kind, step", [s for s in own_steps()
                                        if s[0] in ("hibernate", "sleep", "restore", "answer")])
def test_power_cut_at(bed, boot, kind, step, when):
    """The new boot knows what was durable, and no more: the checkpoint is whole and elsad, asking
    again, gets what it wanted; or it never was, and that is told."""
    session, generation = arrange(bed, kind)
    node = bed.node
    bed.arm("--fault", f"{kind}:{step}:{when}")
    effect = ask_until_killed(node, kind, session, generation)
    power_cut(node, session)
    boot.write_text(f"{uuid.uuid4()}\n")
    node.start()
    status = settle(node, session)
    assert not (status and status["running"])
    there = whole(node, session, generation)
    moments = [(s, w) for k, s in steps() if k == kind for w in ("before", "after")]
    assert there == (kind in ("restore", "answer") or
                     moments.index((step, when)) >= moments.index(("commit", "after")))
    result = node.effect(kind, session, generation, effect_id=effect)
    assert result["state"] == ("done" if there else "failed")
    if kind == "hibernate" and there:
        session.restore(generation)
    if there:
        assert_same(session.before, wait_for(session.answers))


@pytest.mark.parametrize("kind, step", [s for s in own_steps()
                                        if s[0] in ("hibernate", "sleep", "snapshot")])
def test_killed_again_while_it_recovers(bed, kind, step):
    """The second life is killed, too, wherever it goes through that step once more."""
    session, generation = arrange(bed, kind)
    node = bed.node
    fault = ("--fault", f"{kind}:{step}:after")
    bed.arm(*fault)
    ask_until_killed(node, kind, session, generation)
    node.start(*fault, wait=False)
    wait_for(lambda: node.process.poll() is not None or has_settled(node, session))
    bed.arm()
    check_one_truth(node, session, kind, generation, settle(node, session))
