# SPDX-License-Identifier: Apache-2.0
"""What can go wrong while a session moves, one fault after the other on the same two hosts. In the end of
each, exactly one of it runs, it is as it was, who spoke to it is still connected, and the other host has
nothing of it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import observer
from basekit import LONG, MOMENTS, wait_for
from clusterkit import ClusterNode
from hubkit import ApiError
from movekit import criu_pids, options
from moveprobe import Bed, given, in_place_of, steps, whole_bed_fixture

pytestmark = pytest.mark.timeout(150)
FIXTURES = (whole_bed_fixture,)  # used by name

PATIENCE = 2  # seconds
OPTIONS = options(move={"patience": f"{PATIENCE}s"})


@pytest.fixture
def bed(whole_bed: Bed, request: pytest.FixtureRequest) -> Iterator[Bed]:
    begun = time.monotonic()
    failed = request.session.testsfailed
    whole_bed.c.s3.ask(failing=False, latency=0.0)
    whole_bed.put_right()
    if request.session.testsfailed != failed or getattr(whole_bed, "broken", False):
        whole_bed.spoilt()
    whole_bed.broken = True
    yield whole_bed
    print(f"took {time.monotonic() - begun:.1f} s")


def ended_well(bed: Bed, seconds: float = 90) -> ClusterNode:
    node = bed.session.check(seconds)
    bed.broken = False
    return node


# --- elsa-node, killed at each step of either side, and steps that fail --------------------------------

CASES = [(plan, step, when) for plan in ("migrate", "depart") for step in steps(plan)
         for when in (*MOMENTS, "fail")]


@pytest.mark.parametrize("plan, step, when", CASES)
def test_at_step(bed: Bed, plan: str, step: str, when: str):
    source, target = bed.ends()
    faulty = target if plan == "migrate" else source
    bed.arm(faulty, "--fault", f"{plan}:{step}:{when}")
    operation = bed.ask(bed.session.user, target.name)
    if when != "fail":
        wait_for("the kill", lambda: not faulty.node.alive, seconds=30)
        faulty.node.process = None
        bed.arm(faulty)
    done = bed.api.wait_operation(operation, 60)
    if when == "fail":
        bed.arm(faulty)
    if (plan, step, when) == ("migrate", "thaw", "fail"):
        # Its kernel has taken packets there already, which nobody sends again where it is taken back.
        bed.session.wait_running()
        bed.session.came_back()
    node = ended_well(bed)
    assert node is (target if done["state"] == "done" else source), done


# --- elsad, CRIU, machines ----------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0.0, 0.1, 0.2, 0.4])
def test_elsad_is_killed(bed: Bed, after: float):
    """The nodes come to an end without it, if they do before their leases end."""
    source, target = bed.ends()
    bed.ask(bed.session.user, target.name)
    time.sleep(after)
    bed.c.hub.elsad.kill()
    before = observer.testify(bed.session.home).last

    def goes_on() -> bool:
        return observer.testify(bed.session.home).last > before + 20 and bed.watch.where(bed.session.id)

    def leases_ended() -> bool:
        return not any(node.get("/v1/node")["lease_left_ms"] > 0 for node in (source, target))

    wait_for("the session to go on without elsad", lambda: goes_on() or leases_ended())
    bed.c.hub.start_elsad()
    ended_well(bed)


@pytest.mark.parametrize("side, word", [("source", "dump"), ("target", "restore")])
def test_criu_is_killed(bed: Bed, side: str, word: str):
    source, target = bed.ends()
    at = source if side == "source" else target
    operation = bed.ask(bed.session.user, target.name)
    found = wait_for("CRIU", lambda: criu_pids(at, bed.session.id, word), seconds=20, pause=0.001)
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    done = bed.api.wait_operation(operation)
    assert ended_well(bed) is (target if done["state"] == "done" else source)


def test_the_target_machine_dies_after_the_hand_over(bed: Bed):
    """It is taken back, as it was handed over."""
    source, target = bed.ends()
    bed.session.ask("fill", mib=60, timeout=60)
    bed.session.before = bed.session.state()
    source.shape("50mbit")
    bed.ask(bed.session.user, target.name)
    wait_for("the hand-over", lambda: given(source, bed.session.id), pause=0.01)
    target.power_off()
    wait_for("it to be back", lambda: bed.watch.where(bed.session.id) == [source.name], seconds=60)
    bed.api.wait_state(bed.session.user, "running")
    kept = bed.session.before
    bed.session.came_back()
    for key in ("started", "digest", "deleted", "layer"):
        assert bed.session.before[key] == kept[key], key
    target.power_on()
    assert ended_well(bed) is source


def test_the_target_machine_restarts_after_the_hand_over(bed: Bed):
    """It is back before its lease has lapsed, and knows of nothing."""
    newest = max(e["id"] for e in bed.api.events())
    source, target = bed.ends()
    bed.session.ask("fill", mib=60, timeout=60)
    kept = bed.session.before = bed.session.state()
    source.shape("50mbit")
    bed.ask(bed.session.user, target.name)
    wait_for("the hand-over", lambda: given(source, bed.session.id), pause=0.01)
    target.power_off()
    target.power_on()
    wait_for("it to be back", lambda: bed.watch.where(bed.session.id) == [source.name], seconds=60)
    bed.api.wait_state(bed.session.user, "running")
    bed.session.came_back()
    for key in ("started", "digest", "deleted", "layer"):
        assert bed.session.before[key] == kept[key], key
    assert any(e["what"] == "taken-back" for e in bed.api.events(after=newest))
    assert ended_well(bed) is source


def test_the_source_machine_dies_after_the_hand_over(bed: Bed):
    """Memory is lost that nobody else has: its newest checkpoint counts, and that is told."""
    source, target = bed.ends()
    session = bed.session
    session.ask("fill", mib=60, timeout=60)
    done = bed.api.wait_operation(bed.api.post("/v1/session/snapshot", user=session.user, server=""))
    assert done["state"] == "done", done
    session.before = session.state()
    source.shape("50mbit")
    newest = max(e["id"] for e in bed.api.events())
    bed.ask(session.user, target.name)
    wait_for("the hand-over", lambda: given(source, session.id), pause=0.01)
    source.power_off()

    def back() -> bool:
        told = bed.api.session(session.user)
        return told["state"] == "running" and not told.get("missing_bytes") and session.answers()

    wait_for("its checkpoint to run", back, seconds=90)
    kept = session.before
    session.came_back()
    for key in ("started", "digest", "deleted", "layer"):
        assert session.before[key] == kept[key], key
    print([e["what"] for e in bed.api.events(after=newest)])
    source.power_on()
    assert ended_well(bed) is target


# --- the link -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [1, 10, pytest.param(60, marks=pytest.mark.skipif(
    not LONG, reason="ELSA_LONG=1 takes its time"))])
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_link_is_cut(bed: Bed, when: str, seconds: int):
    """Between the two nodes alone; before the hand-over longer than move.patience ends it."""
    source, target = bed.ends()
    bed.session.ask("fill", mib=60, timeout=60)
    bed.session.before = bed.session.state()
    source.shape("200mbit")
    operation = bed.ask(bed.session.user, target.name)
    if when == "after":
        wait_for("the hand-over", lambda: given(source, bed.session.id), pause=0.005)
    source.cut(target.address)
    time.sleep(seconds)
    source.heal()
    done = bed.api.wait_operation(operation)
    if when == "after":
        assert done["state"] == "done", done
    assert ended_well(bed) is (target if done["state"] == "done" else source)


# --- what is refused ------------------------------------------------------------------------------------


def test_to_where_it_is(bed: Bed):
    source, _ = bed.ends()
    said = bed.attempt(bed.session.user, source.name)
    assert source.name in said and "already" in said or "runs" in said, said
    assert ended_well(bed) is source


def test_to_an_unknown_node(bed: Bed):
    source, _ = bed.ends()
    assert "nowhere" in bed.attempt(bed.session.user, "nowhere")
    assert ended_well(bed) is source


def test_an_unknown_session(bed: Bed):
    with pytest.raises(ApiError) as refused:
        bed.ask("nobody", "n1")
    assert refused.value.status == 404


def test_to_a_node_without_room(bed: Bed):
    source, target = bed.ends()
    info = Path("/proc/meminfo").read_text().splitlines()
    small = [f"MemAvailable: {1024} kB" if line.startswith("MemAvailable") else
             f"MemTotal: {65536} kB" if line.startswith("MemTotal") else line for line in info]
    with in_place_of(target, "/proc/meminfo", "\n".join(small) + "\n"):
        bed.arm(target, faked=True)
        wait_for("elsad to know", lambda: bed.c.node(target.name)["memory_bytes"] == 65536 * 1024)
        said = bed.attempt(bed.session.user, target.name)
        assert "too small" in said, said
        assert bed.watch.where(bed.session.id) == [source.name]
    bed.arm(target)
    assert ended_well(bed) is source


def test_to_a_weaker_processor(bed: Bed):
    source, target = bed.ends()
    info = Path("/proc/cpuinfo").read_text()
    with in_place_of(target, "/proc/cpuinfo", info.replace(" aes ", " ").replace(" popcnt ", " ")):
        bed.arm(target, faked=True)
        said = bed.attempt(bed.session.user, target.name)
        assert "popcnt" in said or "processor" in said, said
    bed.arm(target)
    assert ended_well(bed) is source


def test_to_an_older_criu(bed: Bed):
    source, target = bed.ends()
    wrapper = target.dir / "criu"
    wrapper.write_text('#!/bin/sh\ncase "$*" in *--version*) echo "Version: 3.9" ;; *) exec criu "$@" ;; esac\n')
    wrapper.chmod(0o755)
    bed.arm(target, node={"criu": str(wrapper)})
    said = bed.attempt(bed.session.user, target.name)
    # By elsad, if it has looked already, or by the node.
    assert "version of CRIU" in said or "has 3.9" in said, said
    bed.arm(target)
    assert ended_well(bed) is source


def test_twice_at_once(bed: Bed):
    """The second joins the first, or is told of it."""
    _, target = bed.ends()
    first = bed.ask(bed.session.user, target.name)
    with contextlib.suppress(ApiError):
        second = bed.ask(bed.session.user, target.name)
        assert second["id"] == first["id"] or bed.api.wait_operation(second)["state"] in ("done", "failed")
    assert bed.api.wait_operation(first)["state"] == "done"
    assert ended_well(bed) is target


def test_two_ways_at_once(bed: Bed):
    """A session each way between the same two nodes."""
    source, target = bed.ends()
    other = bed.fresh()
    try:
        at, _ = bed.ends(other)
        if at is source:
            assert bed.api.wait_operation(bed.ask(other.user, target.name))["state"] == "done"
        there, back = bed.ask(bed.session.user, target.name), bed.ask(other.user, source.name)
        assert [bed.api.wait_operation(o)["state"] for o in (there, back)] == ["done", "done"]
        assert other.check() is source
    finally:
        other.end()
    assert ended_well(bed) is target


def test_during_a_hibernation(bed: Bed):
    session = bed.session
    _, target = bed.ends()
    asleep = bed.api.post("/v1/session/hibernate", user=session.user, server="")
    with contextlib.suppress(ApiError):
        done = bed.api.wait_operation(bed.ask(session.user, target.name))
        assert done["state"] in ("done", "failed"), done
    assert bed.api.wait_operation(asleep)["state"] == "done"
    session.start()
    session.came_back()
    ended_well(bed)


def test_a_sleeping_one(bed: Bed):
    """There is nothing to move: it wakes wherever it is wanted."""
    session = bed.session
    _, target = bed.ends()
    done = bed.api.wait_operation(bed.api.post("/v1/session/hibernate", user=session.user, server=""))
    assert done["state"] == "done", done
    assert "hibernated" in bed.attempt(session.user, target.name)
    session.start()
    session.came_back()
    ended_well(bed)


def test_hibernated_on_the_way(bed: Bed):
    """Asked while it moves; its checkpoint is whole all the same."""
    session = bed.session
    session.ask("fill", mib=60, timeout=60)
    session.before = session.state()
    source, target = bed.ends()
    source.shape("200mbit")
    bed.ask(session.user, target.name)
    wait_for("the hand-over", lambda: given(source, session.id), pause=0.005)

    def asked() -> bool:
        with contextlib.suppress(ApiError):
            done = bed.api.wait_operation(bed.api.post("/v1/session/hibernate", user=session.user, server=""))
            return done["state"] == "done"
        return False

    wait_for("it to sleep", asked, pause=0.2)
    kept = session.before
    session.start()
    session.came_back()
    assert session.before["digest"] == kept["digest"]
    ended_well(bed)


# --- sessions that make it hard -------------------------------------------------------------------------

# Each thread fills its buffer with one number and looks whether all of it is that.
HEAVY = """
import ctypes, threading
libc = ctypes.CDLL(None)
libc.memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
probe.rounds, probe.torn, probe.calm = [0] * 4, [], False
def churn(k, size=16 << 20):
    kept = ctypes.create_string_buffer(size)
    at, value = ctypes.addressof(kept), 0
    while not probe.calm:
        value = value % 255 + 1
        ctypes.memset(at, value, size)
        if kept[0] != bytes([value]) or libc.memcmp(at, at + 1, size - 1):
            probe.torn.append((k, value))
        probe.rounds[k] += 1
probe.churns = [threading.Thread(target=churn, args=(k,), daemon=True) for k in range(4)]
for thread in probe.churns:
    thread.start()
"""


def test_under_heavy_writes(bed: Bed):
    session = bed.session
    session.run(HEAVY)
    try:
        for _ in range(2):
            _, target = bed.ends()
            before = session.run("out['rounds'] = list(probe.rounds)")["rounds"]
            done = bed.api.wait_operation(bed.ask(session.user, target.name))
            assert done["state"] == "done", done
            wait_for("all threads to go on", lambda b=before: all(
                a > b + 2 for a, b in zip(session.run("out['rounds'] = list(probe.rounds)")["rounds"], b)))
    finally:
        torn = session.run("probe.calm = True\nfor t in probe.churns: t.join()\nout['torn'] = probe.torn")
    assert torn["torn"] == []
    ended_well(bed)


FAMILY = """
import subprocess
probe.family = [subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                for _ in range(40)]
"""
SPEAK = """
out["said"] = []
for n, child in enumerate(probe.family):
    child.stdin.write(b"%d\\n" % n)
    child.stdin.flush()
    out["said"].append(int(child.stdout.readline()))
"""


def test_forty_processes(bed: Bed):
    session = bed.session
    session.run(FAMILY)
    try:
        for _ in range(2):
            _, target = bed.ends()
            done = bed.api.wait_operation(bed.ask(session.user, target.name))
            assert done["state"] == "done", done
            assert session.run(SPEAK)["said"] == list(range(40))
    finally:
        session.run("for child in probe.family: child.kill(); child.wait()")
    ended_well(bed)


def test_just_woken(bed: Bed):
    """Its memory is still on its way from a slow store."""
    session = bed.session
    session.ask("fill", mib=60, timeout=60)
    kept = session.state()
    done = bed.api.wait_operation(bed.api.post("/v1/session/hibernate", user=session.user, server=""))
    assert done["state"] == "done", done
    bed.c.s3.latency = 0.3
    session.start()
    _, target = bed.ends()
    done = bed.api.wait_operation(bed.ask(session.user, target.name))
    bed.c.s3.latency = 0.0
    assert done["state"] == "done", done
    session.came_back()
    for key in ("started", "digest", "deleted", "layer"):
        assert session.before[key] == kept[key], key
    assert ended_well(bed) is target


def test_a_lock_in_its_home(bed: Bed):
    """The processes that stand still as its memory go on having it: the session would not get it itself."""
    session = bed.session
    source, target = bed.ends()
    session.run(f"import fcntl; probe.locked = open('/home/{session.user}/locked', 'w'); "
                "fcntl.flock(probe.locked, fcntl.LOCK_EX)")
    said = bed.attempt(session.user, target.name)
    assert "locked" in said and "lock on" in said, said
    assert bed.session.check() is source
    session.run("probe.locked.close()")
    assert bed.api.wait_operation(bed.ask(session.user, target.name))["state"] == "done"
    assert ended_well(bed) is target


def test_a_store_that_fails(bed: Bed):
    """A move needs nothing of it."""
    source, target = bed.ends()
    bed.c.s3.ask(failing=True)
    done = bed.api.wait_operation(bed.ask(bed.session.user, target.name))
    assert done["state"] == "done", done
    bed.c.s3.ask(failing=False)
    assert ended_well(bed) is target


def test_one_that_criu_refuses(bed: Bed):
    """It goes on where it is, and CRIU's own words say why."""
    source, target = bed.ends()
    bed.session.ask("hold", what="mptcp")
    said = bed.attempt(bed.session.user, target.name)
    assert "Unsupported proto 262" in said, said
    bed.session.ask("drop")
    assert bed.session.check() is source
    assert bed.api.wait_operation(bed.ask(bed.session.user, target.name))["state"] == "done"
    assert ended_well(bed) is target
