# SPDX-License-Identifier: Apache-2.0
"""A machine that goes away under sessions in use: they move while they run, or, if that does not come to
anything in time, are put away by their node. Never both, and never neither."""

from __future__ import annotations

import time

import pytest

from basekit import wait_for
from clusterkit import ClusterNode
from evacuatekit import evacuation, evacuee, notice, over
from movekit import options, wait_settled
from moveprobe import Bed, bed_fixture, given, whole_bed_fixture

pytestmark = pytest.mark.timeout(180)
FIXTURES = (whole_bed_fixture, bed_fixture)  # used by name

PATIENCE = 30  # seconds: who calls a move off is the evacuation
OPTIONS = options(move={"patience": f"{PATIENCE}s"}, spot={"margin": "2s"})


def went_on(bed: Bed, at: ClusterNode) -> None:
    """It was put away, and woken there: nothing was done twice, nor lost."""
    wait_for("it to run there", lambda: bed.watch.where(bed.session.id) == [at.name], seconds=60)
    bed.api.wait_state(bed.session.user, "running")
    bed.session.came_back()
    assert wait_settled(bed.c, bed.watch, bed.session.user) is at
    assert not bed.watch.twice, bed.watch.twice


def whats(bed: Bed, after: int) -> list[str]:
    return [e["what"] for e in reversed(bed.api.events(after=after))]


def newest(bed: Bed) -> int:
    return max((e["id"] for e in bed.api.events()), default=0)


def test_who_is_in_use_moves(bed: Bed):
    """Nothing that it is connected to notices, and nothing of it is written to the store."""
    source, target = bed.ends()
    before = newest(bed)
    notice(source, 60)
    last = over(source)
    one = evacuee(source, bed.session.id)
    assert (one["state"], one["to"]) == ("moved", target.name), one
    assert last["margin_ms"] > 0 and last["begun_at"] <= one["begun_at"] <= one["ended_at"] <= last["ended_at"] + 50
    assert bed.session.check() is target
    wait_for("elsad to tell", lambda: "evacuation" in whats(bed, before))
    told = next(e for e in bed.api.events(after=before) if e["what"] == "evacuation")
    assert "1 of 1 sessions saved (1 while they ran), 0 left behind" in told["detail"], told
    assert bed.api.session(bed.session.user)["checkpoint"] == 0
    moves = [e for e in bed.api.events(after=before) if e["what"] == "migrating"]
    assert [e["who"] for e in moves] == ["evacuation"], whats(bed, before)


def test_more_than_have_a_turn(bed: Bed):
    """One behind the other, and one that nobody uses goes by checkpoint meanwhile."""
    source, target = bed.ends()
    others = [bed.fresh() for _ in range(3)]
    try:
        for other in others:
            if bed.ends(other)[0] is not source:
                assert bed.api.wait_operation(bed.ask(other.user, source.name))["state"] == "done"
        notice(source, 90)
        over(source)
        states = [evacuee(source, s.id)["state"] for s in [bed.session, *others]]
        assert states == ["moved"] * 4, evacuation(source)
        assert [s.check() for s in [bed.session, *others]] == [target] * 4
    finally:
        for other in others:
            other.end()


def test_elsad_is_away(bed: Bed):
    """Its node does not wait for it for long, and puts it away as ever."""
    source, target = bed.ends()
    bed.c.hub.elsad.kill()
    notice(source, 60)
    over(source)
    assert evacuee(source, bed.session.id)["state"] == "saved"
    bed.c.hub.start_elsad()
    went_on(bed, target)


def test_no_node_has_room(bed: Bed):
    source, target = bed.ends()
    bed.api.post("/v1/nodes/drain", node=target.name)
    notice(source, 60)
    over(source)
    assert evacuee(source, bed.session.id)["state"] == "saved"
    bed.api.post("/v1/nodes/undrain", node=target.name)
    went_on(bed, target)


@pytest.mark.parametrize("step", ["check", "files", "restore", "settle"])
def test_a_move_that_fails(bed: Bed, step: str):
    """Before it is given: it is put away instead."""
    source, target = bed.ends()
    bed.arm(target, "--fault", f"migrate:{step}:fail")
    before = newest(bed)
    notice(source, 60)
    over(source)
    assert evacuee(source, bed.session.id)["state"] == "saved", evacuation(source)
    went_on(bed, target)
    assert "migrate-failed" in whats(bed, before) and "evacuated" in whats(bed, before)


def test_a_move_that_takes_too_long_is_called_off(bed: Bed):
    """At the last moment at which its checkpoint is still in time."""
    source, target = bed.ends()
    notice(source, 25)
    wait_for("it to be under way", lambda: "move-" in (source.sessions()[bed.session.id].get("effect") or ""),
             pause=0.002)
    source.cut(target.address)
    one = wait_for("an end of it", lambda: (e := evacuee(source, bed.session.id))["state"] == "moving" or
                   "called off" in (e.get("why") or "") or e["state"] in ("saving", "saved"))
    moved = evacuee(source, bed.session.id)["state"] == "moving"
    source.heal()
    over(source)
    assert one and evacuee(source, bed.session.id)["state"] == ("moved" if moved else "saved")
    if moved:
        assert bed.session.check() is target
    else:
        went_on(bed, target)


@pytest.mark.parametrize("who", ["source", "target"])
@pytest.mark.parametrize("after", [0.1, 0.4, 0.8])
def test_elsa_node_is_killed_meanwhile(bed: Bed, who: str, after: float):
    source, target = bed.ends()
    killed = source if who == "source" else target
    before = newest(bed)
    notice(source, 60)
    wait_for("the move", lambda: "migrating" in whats(bed, before), pause=0.01)
    time.sleep(after)
    killed.kill()
    killed.start()
    bed.up(killed)
    over(source)
    state = evacuee(source, bed.session.id)["state"]
    assert state in ("moved", "saved"), evacuation(source)
    if state == "saved":
        went_on(bed, target)
    else:
        assert bed.session.check() is target


def test_the_other_machine_dies_when_it_has_it(bed: Bed):
    """It comes back, and is put away while there is time."""
    source, target = bed.ends()
    bed.session.ask("fill", mib=60, timeout=60)
    bed.session.before = bed.session.state()
    source.shape("50mbit")
    notice(source, 100)
    wait_for("the hand-over", lambda: given(source, bed.session.id), pause=0.01)
    target.power_off()
    source.shape("")
    over(source, seconds=120)
    assert evacuee(source, bed.session.id)["state"] == "saved", evacuation(source)
    target.power_on()
    kept = bed.session.before
    went_on(bed, target)
    for key in ("started", "digest", "deleted", "layer"):
        assert bed.session.before[key] == kept[key], key


def test_called_off_while_it_moves(bed: Bed):
    """The notice is taken back: it has moved, or runs on."""
    source, target = bed.ends()
    before = newest(bed)
    notice(source, 60)
    wait_for("the move", lambda: "migrating" in whats(bed, before), pause=0.01)
    source.notice_file.unlink()
    assert bed.session.check() in (source, target)
    over(source)
