# SPDX-License-Identifier: Apache-2.0
"""Memory that is copied ahead of a session's move, over a link on which it would be long in following: in
the end each page is as the session had it when it stood still, whatever it did to it meanwhile, and
whatever became of either node."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import time

import pytest

from basekit import BUILD, Json, wait_for
from clusterkit import ClusterNode
from movekit import options
from moveprobe import Bed, Probed, bed_fixture, given, whole_bed_fixture

pytestmark = pytest.mark.timeout(170)
FIXTURES = (whole_bed_fixture, bed_fixture)  # used by name

MIB = 1 << 20
FILL = 160          # MiB
LINK = "200mbit"    # by which they are 6.5 s on their way
# Whether it pays is measured, which a busy machine may make come out otherwise.
OPTIONS = options(move={"patience": "3s", "precopy": "always"})


def received(node: ClusterNode) -> int:
    told = node.host.run("cat", "/proc/net/dev").stdout
    return next(int(line.split()[1]) for line in told.splitlines() if line.strip().startswith("eth0:"))


def ahead(node: ClusterNode, session: Probed) -> str:
    """What it says of the last time that memory came ahead."""
    lines = (node.dir / "elsa-node.log").read_text(errors="replace").splitlines()
    return next((line for line in reversed(lines) if session.id in line and "came ahead" in line), "")


def filled(bed: Bed, mib: int = FILL) -> Probed:
    bed.session.ask("fill", mib=mib, timeout=60)
    bed.session.before = bed.session.state()
    return bed.session


def followed(bed: Bed, session: Probed) -> tuple[int, float, ClusterNode]:
    """Moves it; the bytes that came after it was given, and for how long some of it was missing."""
    source, target = bed.ends()
    source.shape(LINK)
    operation = bed.ask(session.user, target.name)
    wait_for("the hand-over", lambda: given(source, session.id), seconds=90, pause=0.005)
    before, begun = received(target), time.monotonic()
    assert bed.api.wait_operation(operation)["state"] == "done"
    wait_for("its memory", lambda: not target.sessions()[session.id].get("missing_bytes"), seconds=90, pause=0.005)
    took, came = time.monotonic() - begun, received(target) - before
    assert session.check() is target
    return came, took, target


def under_way(bed: Bed, operation: Json, least: int = 16 * MIB) -> None:
    """Some of its memory has come ahead."""
    def look() -> bool:
        now = bed.api.get("/v1/operation", id=operation["id"], wait=1)
        assert now["state"] == "running", now
        return now["step"] == "precopy" and now["bytes_done"] >= least
    wait_for("memory to come ahead", look, seconds=60, pause=0.01)


# --- what it is for ---------------------------------------------------------------------------------------


def test_little_follows(bed: Bed):
    """With it a fraction of the bytes come when the session is given, as without. That it pays is seen."""
    session = filled(bed)
    bed.arm(bed.ends()[1], move={"precopy": "auto"})
    came, took, target = followed(bed, session)
    told = re.search(r"(\d+) MiB of its memory came ahead, in (\d+) rounds", ahead(target, session))
    assert told and int(told[1]) >= FILL and int(told[2]) >= 2, ahead(target, session)
    for node in bed.c.nodes.values():
        node.shape("")
        bed.arm(node, move={"precopy": "never"})
    all_came, all_took, _ = followed(bed, session)
    print(f"ahead: {came / MIB:.1f} MiB and {took:.2f} s followed; without {all_came / MIB:.1f} MiB, {all_took:.2f} s")
    assert all_came > FILL * MIB / 2  # some of it comes while it still stands still
    assert came < all_came / 4


def test_without_room(bed: Bed):
    session = filled(bed)
    source, target = bed.ends()
    bed.arm(target, move={"precopy": "always", "precopy_room": "32M"})
    source.shape(LINK)
    assert bed.api.wait_operation(bed.ask(session.user, target.name), 90)["state"] == "done"
    assert session.check() is target
    assert not ahead(target, session)


def test_watched(bed: Bed):
    """Who looks on sees that, and how far it is."""
    session = filled(bed)
    source, target = bed.ends()
    source.shape(LINK)
    main, end = pty.openpty()
    watching = subprocess.Popen([*bed.c.hub.host.prefix, str(BUILD / "elsa"), "--url", bed.c.hub.elsa_url, "migrate",
                                 session.user, "--to", target.name, "--watch"], stdout=end, stderr=end)
    os.close(end)
    shown = b""
    with contextlib.suppress(OSError):
        while data := os.read(main, 4096):
            shown += data
    os.close(main)
    assert watching.wait(90) == 0, shown
    assert re.search(rb"precopy \S+ ?\S* of 1\d\d", shown), shown
    assert session.check() is target


# --- what it may not do -----------------------------------------------------------------------------------

# Each of four threads writes the next number to the pages of its own, one after the other.
WRITERS = """
import ctypes, mmap, struct, threading, time
probe.areas, probe.written, probe.end = [], [], False
def write(n):
    area, last, page, number = probe.areas[n], probe.written[n], 0, 0
    while not probe.end:
        number += 1
        struct.pack_into("<Q", area, page * 4096 + 8 * (number % 511), number)
        last[page] = number
        page = (page + 1) % len(last)
        if number % 16 == 0:
            time.sleep(0.002)
for n in range(4):
    probe.areas.append(mmap.mmap(-1, 24 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    for page in range(6144):
        struct.pack_into("<Q", probe.areas[n], page * 4096 + 4088, n * 10000 + page + 1)
    probe.written.append([0] * 6144)
probe.threads = [threading.Thread(target=write, args=(n,), daemon=True) for n in range(4)]
for thread in probe.threads:
    thread.start()
"""
WRITERS_CHECK = """
import struct
probe.end = True
for thread in probe.threads:
    thread.join()
out["wrong"] = out["written"] = 0
for n in range(4):
    for page, number in enumerate(probe.written[n]):
        told, = struct.unpack_from("<Q", probe.areas[n], page * 4096 + 8 * (number % 511))
        own, = struct.unpack_from("<Q", probe.areas[n], page * 4096 + 4088)
        out["written"] += number > 0
        out["wrong"] += (number > 0 and told != number) + (own != n * 10000 + page + 1)
"""

# Mappings that come, go and change places, and processes that come and go.
SPACES = """
import ctypes, hashlib, mmap, os, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mremap.restype = libc.mmap.restype = ctypes.c_void_p
libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
SIZE = 4 << 20
def map_at(address=None):
    at = libc.mmap(address, SIZE, 3, 0x22 | (0x10 if address else 0), -1, 0)
    assert at != ctypes.c_void_p(-1).value
    return at
probe.places = [map_at() for _ in range(6)]
probe.inside = []
for at in probe.places:
    data = os.urandom(SIZE)
    ctypes.memmove(at, data, SIZE)
    probe.inside.append(hashlib.sha256(data).hexdigest())
probe.spare, probe.turns, probe.stop = map_at(), 0, False
probe.guard = threading.Lock()
def turn():
    while not probe.stop:
        with probe.guard:
            a, b = probe.turns % 6, (probe.turns + 1) % 6
            places = probe.places
            for old, new in ((places[a], probe.spare), (places[b], places[a]), (probe.spare, places[b])):
                assert libc.mremap(old, SIZE, SIZE, 3, new) == new
            map_at(probe.spare)
            probe.inside[a], probe.inside[b] = probe.inside[b], probe.inside[a]
            if probe.turns % 3 == 0:
                libc.munmap(places[a], SIZE)
                map_at(places[a])
                data = os.urandom(SIZE)
                ctypes.memmove(places[a], data, SIZE)
                probe.inside[a] = hashlib.sha256(data).hexdigest()
            probe.turns += 1
        time.sleep(0.05)
threading.Thread(target=turn, daemon=True).start()
def breed():
    while not probe.stop:
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        probe.bred += 1
probe.bred = 0
threading.Thread(target=breed, daemon=True).start()
"""
SPACES_CHECK = """
import ctypes, hashlib
with probe.guard:
    out["wrong"] = [n for n, at in enumerate(probe.places)
                    if hashlib.sha256(ctypes.string_at(at, 4 << 20)).hexdigest() != probe.inside[n]]
    out["turns"] = probe.turns
"""


# A child that has what its parent has, and tells.
FORK = """
import hashlib, os
asked, ask = os.pipe()
tell, told = os.pipe()
if os.fork() == 0:
    while os.read(asked, 1):
        os.write(told, hashlib.sha256(probe.memory).hexdigest().encode())
    os._exit(0)
probe.forked = ask, tell
"""
FORK_CHECK = """
import os
os.write(probe.forked[0], b"?")
out["forked"] = os.read(probe.forked[1], 64).decode() == probe.digest
"""


@pytest.mark.parametrize("what, check", [(WRITERS, WRITERS_CHECK), (SPACES, SPACES_CHECK)],
                         ids=["four-writers", "spaces"])
def test_what_changes_meanwhile(bed: Bed, what: str, check: str):
    session = filled(bed, 64)
    session.run(what)
    source, target = bed.ends()
    source.shape(LINK)
    operation = bed.ask(session.user, target.name)
    under_way(bed, operation)
    session.run(FORK)
    assert bed.api.wait_operation(operation, 120)["state"] == "done"
    assert ahead(target, session)
    wait_for("its memory", lambda: not given(source, session.id), seconds=90)
    assert session.run(FORK_CHECK)["forked"]
    told = session.run(check)
    assert not told["wrong"] and (told.get("written") or told.get("turns")), told
    assert bed.watch.where(session.id) == [target.name]
    session.before = session.state()
    assert session.check() is target


# --- what goes wrong meanwhile ------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["source", "target"])
def test_killed_meanwhile(bed: Bed, side: str):
    """It goes on where it is, nothing of it is left elsewhere, and it moves when it is asked again. A target that
    is asked again by elsad when it has undone what there was begins anew: then it has moved."""
    session = filled(bed)
    source, target = bed.ends()
    source.shape(LINK)
    operation = bed.ask(session.user, target.name)
    under_way(bed, operation)
    at = source if side == "source" else target
    at.kill()
    bed.arm(at)
    done = bed.api.wait_operation(operation, 90)
    assert done["state"] == "failed" or (side == "target" and done["state"] == "done"), done
    assert session.check(90) is (target if done["state"] == "done" else source)
    source.shape("")
    _, other = bed.ends()
    assert bed.api.wait_operation(bed.ask(session.user, other.name), 90)["state"] == "done"
    assert session.check() is other


@pytest.mark.parametrize("seconds", [1, 8])
def test_cut_meanwhile(bed: Bed, seconds: int):
    """Within the patience it moves all the same, after that it stays."""
    session = filled(bed)
    source, target = bed.ends()
    source.shape(LINK)
    operation = bed.ask(session.user, target.name)
    under_way(bed, operation)
    source.cut(target.address)
    time.sleep(seconds)
    source.heal()
    done = bed.api.wait_operation(operation, 120)
    source.shape("")
    assert session.check(90) is (target if done["state"] == "done" else source)


def test_ended_meanwhile(bed: Bed):
    """It is stopped there, and nothing of it is anywhere."""
    session = filled(bed)
    source, target = bed.ends()
    source.shape(LINK)
    operation = bed.ask(session.user, target.name)
    under_way(bed, operation)
    session.pinger.stop()
    stopped = bed.api.post("/v1/session/stop", user=session.user, server="")
    assert bed.api.wait_operation(stopped, 120)["state"] == "done"
    wait_for("its processes to end", lambda: not bed.watch.has_processes(session.id), seconds=60)
