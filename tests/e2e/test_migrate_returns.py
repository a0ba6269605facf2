# SPDX-License-Identifier: Apache-2.0
"""Moves that come to nothing after the hand-over, or of which the nodes hear nothing any more: what is
taken back, what is forced, what is left to a checkpoint; and what nodes refuse that elsad would not ask."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from basekit import MOMENTS, Json, wait_for
from clusterkit import ClusterNode
from evacuatekit import evacuee, notice, over
from hubkit import ApiError
from movekit import ask_migrate, options
from moveprobe import Bed, bed_fixture, given, in_place_of, steps, whole_bed_fixture
from nodekit import new_id

pytestmark = pytest.mark.timeout(180)
FIXTURES = (whole_bed_fixture, bed_fixture)  # used by name

OPTIONS = options(move={"patience": "2s"}, spot={"move": False})
KEPT = ("started", "digest", "deleted", "layer")


def fill(bed: Bed) -> None:
    """Memory that takes a while to follow."""
    bed.session.ask("fill", mib=60, timeout=60)
    bed.session.before = bed.session.state()


def lose_target(bed: Bed) -> tuple[ClusterNode, ClusterNode]:
    """It has been given away, and who has it is no more."""
    source, target = bed.ends()
    source.shape("50mbit")
    bed.ask(bed.session.user, target.name)
    wait_for("the hand-over", lambda: given(source, bed.session.id), pause=0.01)
    target.power_off()
    source.shape("")
    return source, target


def runs_again(bed: Bed, at: ClusterNode, kept: Json) -> None:
    wait_for("it to run there", lambda: bed.watch.where(bed.session.id) == [at.name], seconds=90)
    bed.api.wait_state(bed.session.user, "running")
    bed.session.came_back()
    assert {key: bed.session.before[key] for key in KEPT} == {key: kept[key] for key in KEPT}
    assert bed.session.check() is at


# --- taken back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("step, when", [(s, w) for s in steps("return") for w in (*MOMENTS, "fail")])
def test_killed_while_it_is_taken_back(bed: Bed, step: str, when: str):
    source, _ = bed.ends()
    fill(bed)
    kept = bed.session.before
    bed.arm(source, "--fault", f"return:{step}:{when}")
    _, target = lose_target(bed)
    if when == "fail":
        wait_for("the fault", lambda: "asked for (--fault)" in (source.dir / "elsa-node.log").read_text(),
                 seconds=60)
    else:
        wait_for("the kill", lambda: not source.node.alive, seconds=60)
        source.node.process = None
    bed.arm(source)
    target.power_on()
    runs_again(bed, source, kept)


def test_its_last_step_fails(bed: Bed):
    """It is this node's again, and nobody asks it for anything more: it sees to that by itself."""
    source, _ = bed.ends()
    fill(bed)
    kept = bed.session.before
    last = steps("return")[-1]
    bed.arm(source, "--fault", f"return:{last}:once")
    _, target = lose_target(bed)
    runs_again(bed, source, kept)
    assert f"step {last}, is left open" in (source.dir / "elsa-node.log").read_text()
    target.power_on()


def test_evacuated_after_it_was_taken_back(bed: Bed):
    """Its number is above the fence that took it back: it is the newest there is, and wakes elsewhere."""
    fill(bed)
    kept = bed.session.before
    source, target = lose_target(bed)
    runs_again(bed, source, kept)
    fence = bed.api.session(bed.session.user)["generation"]
    target.power_on()
    bed.up(target)
    notice(source, 60)
    over(source)
    one = evacuee(source, bed.session.id)
    assert one["state"] == "saved" and one["generation"] > fence, one
    runs_again(bed, target, kept)
    assert bed.api.session(bed.session.user)["checkpoint"] == one["generation"]


# --- power cuts and partitions at the hand-over -----------------------------------------------------------


def snapshot(bed: Bed) -> Json:
    user = bed.session.user
    done = bed.api.wait_operation(bed.api.post("/v1/session/snapshot", user=user, server=""))
    assert done["state"] == "done", done
    return bed.session.state()


@pytest.mark.parametrize("when", ["before", "after"])
def test_power_cut_of_the_source_around_its_note(bed: Bed, when: str):
    """Noted or not, answered or not: the memory is gone, and the newest checkpoint is what there is."""
    source, target = bed.ends()
    kept = snapshot(bed)
    bed.arm(source, "--fault", f"depart:give:{when}")
    bed.ask(bed.session.user, target.name)
    wait_for("the kill", lambda: not source.node.alive, seconds=30, pause=0.001)
    source.power_off()
    source.node.process = None
    source.node.argv = source.argv()
    source.power_on()
    bed.up(source)

    def back() -> bool:
        told = bed.api.session(bed.session.user)
        return told["state"] == "running" and not told.get("missing_bytes") and bed.session.answers()

    wait_for("its checkpoint to run", back, seconds=90)
    at, _ = bed.ends()
    runs_again(bed, at, kept)


def wait_for_answer(bed: Bed, when: str) -> tuple[ClusterNode, ClusterNode]:
    """The target has noted that it asks for the session, and was killed before it did, or before it noted
    the answer."""
    source, target = bed.ends()
    bed.arm(target, "--fault", f"migrate:hand-over:{when}")
    bed.ask(bed.session.user, target.name)
    wait_for("the kill", lambda: not target.node.alive, seconds=30, pause=0.001)
    target.node.process = None
    return source, target


def wakes(bed: Bed, before: int, at: ClusterNode, kept: Json) -> None:
    """From its checkpoint, since whose it is will not be known."""
    wait_for("it to run there", lambda: bed.watch.where(bed.session.id) == [at.name], seconds=90)
    bed.api.wait_state(bed.session.user, "running")
    bed.session.came_back()
    assert {key: bed.session.before[key] for key in KEPT} == {key: kept[key] for key in KEPT}
    failed = next(e for e in bed.api.events(after=before) if e["what"] == "migrate-failed")
    assert "will not be known" in failed["detail"], failed


@pytest.mark.parametrize("when", ["before", "after"])
def test_forced_since_the_source_died(bed: Bed, when: str):
    """Whether it was given away nobody will say any more: elsad says so, it is fenced, and its checkpoint
    runs."""
    kept = snapshot(bed)
    source, target = wait_for_answer(bed, when)
    before = max(e["id"] for e in bed.api.events())
    source.power_off()
    bed.arm(target)
    wakes(bed, before, target, kept)
    source.power_on()
    bed.up(source)
    assert bed.session.check() is target


@pytest.mark.parametrize("when", ["before", "after"])
def test_forced_since_the_source_is_cut_off(bed: Bed, when: str):
    """It has the session still, standing; when it is back that gives way, and nothing else runs there."""
    kept = snapshot(bed)
    source, target = wait_for_answer(bed, when)
    before = max(e["id"] for e in bed.api.events())
    source.cut()
    bed.arm(target)
    wakes(bed, before, target, kept)
    source.heal()
    bed.up(source)
    assert bed.session.check() is target


# --- by checkpoint ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["snapshotting", "checkpointing", "restoring"])
def test_a_move_by_checkpoint_outlives_elsad(bed: Bed, phase: str):
    source, target = bed.ends()
    kept = bed.session.before
    operation = bed.api.post("/v1/session/migrate", user=bed.session.user, server="", to=target.name, safe=True)
    wait_for(phase, lambda: bed.api.session(bed.session.user)["state"] == phase or bed.ends()[0] is target,
             pause=0.005)
    bed.c.hub.elsad.kill()
    bed.c.hub.start_elsad()
    done = bed.api.wait_operation(operation, 120)
    assert done["state"] == "done" and done["kind"] == "migrate", done
    runs_again(bed, target, kept)


# --- what a node refuses by itself ------------------------------------------------------------------------


def move_without_elsad(bed: Bed, **other: Json) -> Json:
    """As elsad would, did it not know better; the target's answer."""
    source, target = bed.ends()
    effect, session = new_id(), bed.session.id
    journal = json.loads((source.dir / f"state/journal/{session}.json").read_text())
    source.ask("PUT", f"/v1/departures/{effect}", {"id": effect, "session": session, "to": target.name})
    port = source.get("/v1/node")["move_port"]
    return target.ask("PUT", f"/v1/effects/{effect}", {
        "id": effect, "kind": "migrate", "generation": 0, "session": {**journal["session"], **other},
        "from": source.name, "from_at": f"{source.address}:{port}"})


def check_refused(bed: Bed, result: Json, *words: str) -> None:
    source, _ = bed.ends()
    assert result["state"] == "failed" and result["kept"] and not result["running"], result
    assert all(word in result["text"] for word in words), result
    assert bed.session.check() is source


def test_a_node_with_a_weaker_processor_refuses(bed: Bed):
    _, target = bed.ends()
    info = Path("/proc/cpuinfo").read_text().replace(" aes ", " ").replace(" popcnt ", " ")
    with in_place_of(target, "/proc/cpuinfo", info):
        bed.arm(target, faked=True)
        check_refused(bed, move_without_elsad(bed), "popcnt")
    bed.arm(target)


def test_a_node_without_the_image_refuses(bed: Bed):
    check_refused(bed, move_without_elsad(bed, image="/images/none"), "image", "/images/none")


def test_a_node_without_the_home_refuses(bed: Bed):
    check_refused(bed, move_without_elsad(bed, home="/home/none"), "home", "/home/none")


def make_image(node: ClusterNode, image: str) -> None:
    node.host.run("mkdir", image)
    node.host.run("mount", "--bind", "/", image)


@contextlib.contextmanager
def own_image(source: ClusterNode, target: ClusterNode) -> Iterator[str]:
    """Each host has a place of its own under one name, and the image is in the source's."""
    place = tempfile.mkdtemp(prefix="elsa-images-", dir="/run")
    for node in (source, target):
        node.host.run("mount", "-t", "tmpfs", "tmpfs", place)
    make_image(source, f"{place}/root")
    try:
        yield f"{place}/root"
    finally:
        for node in (source, target):
            node.host.run("umount", "-R", "-l", place)
        Path(place).rmdir()


def test_elsad_sends_it_to_no_node_without_its_image(bed: Bed):
    """The image is this machine's root under another name, on the source alone."""
    source, target = bed.ends()
    with own_image(source, target) as image:
        bed.api.post("/v1/nodes/drain", node=target.name)
        session = bed.fresh(image=image)
        bed.api.post("/v1/nodes/undrain", node=target.name)
        assert bed.ends(session)[0] is source
        assert "image" in bed.attempt(session.user, target.name)
        assert session.check() is source
        make_image(target, image)
        wait_for("it to move", lambda: moves(bed, session.user, target), pause=0.5)
        assert session.check() is target
        session.end()


def moves(bed: Bed, user: str, target: ClusterNode) -> bool:
    """What a node has is asked anew now and then."""
    with contextlib.suppress(ApiError):
        return bed.api.wait_operation(ask_migrate(bed.c, user, target.name))["state"] == "done"
    return False
