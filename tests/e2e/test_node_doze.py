# SPDX-License-Identifier: Apache-2.0
"""elsa-node alone: sessions doze with their memory paged out, and whatever is done to them meanwhile
every byte is right when they run again. Kills at every step: test_node_faults.py."""
import http.client
import json
import os
import pathlib
import socket
import subprocess
import threading
import time
import urllib.parse

import pytest

from nodebed import ask_until_killed
from nodekit import BUILD, Node, Refused, Session, new_id, wait_for
from test_evacuation import Doomed
from test_node import (assert_same, in_place_of, leftovers, node_fixture, place_fixture, settle,
                       whole)

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(180)]
FIXTURES = (node_fixture, place_fixture)  # used by name
MIB = 1 << 20


def begin(node, mib=100):
    """A session with so much memory, and what it was."""
    session = Session(node)
    session.start()
    session.ask("fill", mib=mib, timeout=60)
    return session, session.ask("state")


def rouse(node, session):
    result = node.done("rouse", session)
    wait_for(session.answers)
    return result


def is_out(node, session, mib):
    status = wait_for(lambda: (now := node.sessions()[session.id])["frozen"] and now)
    assert status["running"] and status["dozing"], status
    assert status["out_bytes"] > mib * MIB and status["rss_bytes"] < 16 * MIB, status
    return status


def areas():
    """Swap that is in use on this machine."""
    lines = pathlib.Path("/proc/swaps").read_text().splitlines()[1:]
    return {line.split()[0] for line in lines}


@pytest.fixture(name="with_doze")
def with_doze_fixture(place):
    """Makes a node with such options of [doze]; what swap there was before is there behind it."""
    before, made = areas(), []

    def make(options):
        swap = "" if "swap =" in options else 'swap = "zram"\n'
        node = Node(place, f"[doze]\n{swap}{options}")
        made.append(node)
        return node
    yield make
    for node in made:
        node.teardown()
        assert leftovers(node, torn_down=True) == []
    assert areas() == before


def test_memory_goes_out_and_comes_back_right(node):
    session, before = begin(node, 200)
    was = node.sessions()[session.id]["rss_bytes"]
    assert was > 200 * MIB
    for _ in range(2):
        result = session.doze()
        assert result["dozing"] and result["running"]
        assert result["out_bytes"] > 200 * MIB and result["memory_bytes"] >= was * 0.95
        is_out(node, session, 200)
        info = node.get("/v1/node")
        assert info["doze"] == "zram" and info["out_bytes"] > 0
        assert info["out_room_bytes"] > 0 and info["out_stored_bytes"] > 0
        assert not rouse(node, session)["dozing"]
        status = node.sessions()[session.id]
        assert not status["frozen"] and not status["dozing"]
        after = session.ask("state")
        assert_same(before, after)
        assert node.sessions()[session.id]["rss_bytes"] > 190 * MIB
        before = after


def test_time_stands_still_for_nobody_else(node):
    """One dozes, and the other's memory stays where it is."""
    session, _ = begin(node)
    other, other_before = begin(node)
    session.doze()
    is_out(node, session, 100)
    status = node.sessions()[other.id]
    assert status.get("out_bytes", 0) == 0 and status["rss_bytes"] > 100 * MIB
    assert_same(other_before, other.ask("state"))
    for file in pathlib.Path("/sys/fs/cgroup").glob("**/elsa-test/*/memory.swappiness"):
        assert file.read_text() == "0\n"
    for file in pathlib.Path("/sys/fs/cgroup").glob("**/elsa-test/*/memory.swap.max"):
        assert file.read_text() == "0\n"


def test_a_limit_is_what_it_was(node):
    """Who runs into it is ended, whatever swap there is; and one that dozes comes back within it."""
    limits = {"memory_bytes": 200 * MIB, "cpus": 0, "pids": 0}
    session = Session(node, limits=limits)
    session.start()
    session.ask("fill", mib=60, timeout=60)
    before = session.ask("state")
    session.doze()
    is_out(node, session, 60)
    rouse(node, session)
    assert_same(before, session.ask("state"))
    with pytest.raises((OSError, http.client.HTTPException, AssertionError)):
        session.ask("fill", mib=400, timeout=60)
    assert wait_for(lambda: node.sessions()[session.id].get("ended")) == "oom-killed"


def page_out(session):
    """Of one that runs, by the kernel alone."""
    groups = pathlib.Path("/sys/fs/cgroup")
    for group in {f.parent for f in groups.glob(f"**/elsa-test/{session.id}/memory.stat")}:
        if (group / "memory.force_empty").exists():
            (group / "memory.swappiness").write_text("100")
            (group / "memory.force_empty").write_text("0")
            (group / "memory.swappiness").write_text("0")
        else:
            (group / "memory.swap.max").write_text("max")
            (group / "memory.reclaim").write_text(str(200 * MIB))
            (group / "memory.swap.max").write_text("0")


def test_it_does_not_get_less_than_is_out(node):
    """It runs, and most of its memory is out: that comes in again with the first touch."""
    other, _ = begin(node, 1)
    other.doze()  # there is something to page out to
    session = Session(node, limits={"memory_bytes": 900 * MIB, "cpus": 0, "pids": 0})
    session.start()
    session.ask("fill", mib=200, timeout=60)
    before = session.ask("state")
    page_out(session)
    status = node.sessions()[session.id]
    assert status["out_bytes"] > 150 * MIB and not status["frozen"], status
    for mib in 100, 220:
        with pytest.raises(Refused) as refused:
            node.ask("PUT", f"/v1/sessions/{session.id}/limits", {"memory_bytes": mib * MIB, "cpus": 0, "pids": 0})
        assert refused.value.status == 409 and "it uses 2" in str(refused.value), refused.value
    assert node.sessions()[session.id]["memory_limit"] == 900 * MIB
    assert_same(before, session.ask("state"))


def test_what_is_shared_goes_out_too(node):
    """With processes that were forked, as a map, as a memory file, and in large pages."""
    session, before = begin(node, 50)
    session.ask("run", timeout=60, code=urllib.parse.quote("""
import mmap, os, time
probe.forked = bytearray().join(os.urandom(1 << 20) for _ in range(30))
probe.map = mmap.mmap(-1, 30 << 20)
probe.map[:] = bytes(probe.forked)
with open("/dev/shm/large", "wb") as f:
    f.write(probe.forked)
probe.huge = mmap.mmap(-1, 32 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
probe.huge.madvise(14)
probe.huge[:30 << 20] = bytes(probe.forked)
for _ in range(2):
    if os.fork() == 0:
        while True:
            time.sleep(1000)
"""))
    session.doze()
    is_out(node, session, 160)
    rouse(node, session)
    assert_same(before, session.ask("state"))
    answer = session.ask("run", timeout=60, code=urllib.parse.quote("""
out["is"] = (probe.map[:] == probe.forked and probe.huge[:30 << 20] == probe.forked and
             open("/dev/shm/large", "rb").read() == probe.forked)
"""))
    assert answer["is"] is True


def test_asked_for_again(node):
    session, before = begin(node, 50)
    effect = new_id()
    session.doze()
    first = node.done("doze", session, effect_id=effect)
    assert node.done("doze", session, effect_id=effect) == first
    assert session.doze()["dozing"]
    is_out(node, session, 50)
    for _ in range(2):
        assert rouse(node, session)["running"]
    assert_same(before, session.ask("state"))
    for kind in ("doze", "rouse"):
        result = node.effect(kind, Session(node))
        assert result["state"] == "failed" and "does not run here" in result["text"]


def test_woken_a_moment_ago(node):
    """Part of its memory is still to come when it is to doze."""
    session, before = begin(node, 300)
    session.hibernate(1)
    node.done("restore", session, 1)
    session.doze()
    is_out(node, session, 300)
    rouse(node, session)
    assert_same(before, session.ask("state"))


# --- where it goes --------------------------------------------------------------------------


def test_what_is_made_is_removed(with_doze):
    before = areas()
    node = with_doze('size = "300M"').start()
    session, state = begin(node, 20)
    assert areas() == before, "made although nothing dozes"
    session.doze()
    assert len(areas()) == len(before) + 1
    node.stop()
    node.start()
    node.kill()
    node.start()
    is_out(node, session, 20)
    rouse(node, session)
    session.doze()
    assert len(areas()) == len(before) + 1
    rouse(node, session)
    assert_same(state, session.ask("state"))
    node.teardown()
    assert areas() == before


def test_one_that_a_kill_has_left_half_made(with_doze):
    """Noted, and not in use: gone on with."""
    before = areas()
    node = with_doze('size = "300M"').start()
    session, state = begin(node, 20)
    session.doze()
    rouse(node, session)
    node.kill()
    mine = areas() - before
    subprocess.run(["swapoff", *mine], check=True, timeout=60)
    device = pathlib.Path("/sys/block") / pathlib.Path(*mine).name
    (device / "mem_limit").write_text("0")
    node.start()
    session.doze()
    assert areas() - before == mine
    assert int((device / "mm_stat").read_text().split()[3]) == 150 * MIB
    rouse(node, session)
    assert_same(state, session.ask("state"))


def test_another_configuration(with_doze):
    """What was made for the one before makes way when nothing is in it."""
    before = areas()
    node = with_doze('size = "300M"').start()
    session, state = begin(node, 20)
    session.doze()
    node.stop()
    node.write_config('[doze]\nswap = "off"')
    node.start()
    is_out(node, session, 20)
    rouse(node, session)
    assert_same(state, session.ask("state"))
    info = node.get("/v1/node")
    assert not info.get("doze") and "doze.swap" in info["doze_lacks"]
    result = node.effect("doze", session)
    assert result["state"] == "failed" and result["running"] and result["fault"] == "unavailable"
    assert "zram" in result["remedy"] and session.answers()
    node.done("stop", session)
    node.stop()
    node.start()
    assert areas() == before


def test_too_little_room(with_doze):
    """It is not frozen in vain; one of which most could go dozes with that."""
    node = with_doze('size = "120M"').start()
    session, before = begin(node, 300)
    result = node.effect("doze", session)
    assert result["state"] == "failed" and result["fault"] == "full", result
    assert "doze.size" in result["remedy"] and result["running"] and not result["dozing"]
    assert_same(before, session.ask("state"))
    node.done("stop", session)
    # zram keeps what nothing makes smaller: at half its size in memory it is full.
    session, before = begin(node, 80)
    result = wait_for(lambda: (r := node.effect("doze", session)).get("fault") != "conflict" and r)
    if result["state"] == "failed":
        assert result["fault"] == "full" and "could be paged out" in result["text"], result
        assert not node.sessions()[session.id].get("frozen")
    else:
        assert 40 * MIB < result["out_bytes"]
        rouse(node, session)
    assert_same(before, session.ask("state"))


# In the place of dm-crypt, which a test's kernel may lack: what is asked of cryptsetup, noted, and a
# device with that name, which is the file itself.
CRYPTSETUP = """#!/bin/bash
set -eu
echo "$@" >>{place}/asked
case "$1" in
--version) ;;
open)
  cat >{place}/key.$(date +%s%N)
  mkdir -p /dev/mapper
  loop=$(losetup --find --show "${{@: -2:1}}")
  echo "$loop" >{place}/loop
  cp -a "$loop" "/dev/mapper/${{@: -1}}"
  ;;
close)
  rm "/dev/mapper/$2"
  losetup -d "$(cat {place}/loop)"
  ;;
esac
"""


@pytest.fixture(name="device_mapper")
def device_mapper_fixture(place):
    """This kernel has one, as far as can be seen."""
    misc = place / "misc"
    (misc / "device-mapper").mkdir(parents=True)
    subprocess.run(["mount", "--bind", misc, "/sys/class/misc"], check=True)
    yield
    subprocess.run(["umount", "/sys/class/misc"], check=True)


@pytest.mark.usefixtures("device_mapper")
def test_what_a_file_is_asked_to_be(place, with_doze, monkeypatch):
    """A key of its own each time, which is nowhere on disk; all gone in the end."""
    programs = place / "bin"
    programs.mkdir()
    (programs / "cryptsetup").write_text(CRYPTSETUP.format(place=place))
    (programs / "cryptsetup").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    for _ in range(2):
        node = with_doze('swap = "file"\nsize = "200M"').start()
        session, before = begin(node, 50)
        session.doze()
        is_out(node, session, 50)
        node.kill()
        node.start()
        is_out(node, session, 50)
        rouse(node, session)
        assert_same(before, session.ask("state"))
        session.doze()
        node.teardown()
        assert not list(place.glob("**/doze.swap")) and not list(place.glob("**/doze.json"))
    keys = {file.read_text() for file in place.glob("key.*")}
    assert len(keys) == 2 and all(len(key) == 64 for key in keys)
    asked = (place / "asked").read_text()
    assert asked.count("--type plain --cipher aes-xts-plain64 --key-size 512 --key-file -") == 2
    assert asked.count("close elsa-doze-") == 2 and not any(key in asked for key in keys)


def test_a_file_is_encrypted_or_not_made(place, with_doze):
    node = with_doze('swap = "file"\nsize = "100M"').start()
    info = node.get("/v1/node")
    if info.get("doze"):
        session, before = begin(node, 50)
        session.doze()
        is_out(node, session, 50)
        rouse(node, session)
        assert_same(before, session.ask("state"))
    else:
        assert "encrypted" in info["doze_lacks"]
        session, before = begin(node, 10)
        result = node.effect("doze", session)
        assert result["state"] == "failed" and "cryptsetup" in result["remedy"], result
        assert not list(place.glob("**/doze.swap"))
        assert_same(before, session.ask("state"))


def test_doctor(with_doze):
    for options, ok in (("", True), ('swap = "off"', True), ('swap = "system"', bool(areas()))):
        node = with_doze(options)
        text = subprocess.run([BUILD / "elsa-node", "--config", node.config, "doctor", "--json"],
                              capture_output=True, text=True, timeout=120, check=False).stdout
        checks = {c["name"]: c for c in json.loads(text)["checks"]}
        assert checks["doze"]["ok"] == ok and checks["doze"]["level"] == "advised", checks["doze"]
        assert "pressure" in checks


# --- what is done meanwhile -------------------------------------------------------------------


def test_a_snapshot_leaves_it_dozing(node):
    session, before = begin(node, 100)
    session.doze()
    for generation in (1, 2):
        result = session.snapshot(generation)
        assert result["dozing"] and result["memory_bytes"] > 100 * MIB
        assert whole(node, session, generation)
        is_out(node, session, 100)
    rouse(node, session)
    assert_same(before, session.ask("state"))
    node.done("stop", session)
    session.restore(2)
    assert_same(before, session.ask("state"))


def test_what_fails_leaves_it_dozing(node):
    session, before = begin(node, 100)
    session.ask("hold", what="mptcp")
    session.doze()
    for kind in ("snapshot", "hibernate"):
        result = node.effect(kind, session, 1)
        assert result["state"] == "failed" and result["dozing"], result
        is_out(node, session, 100)
    rouse(node, session)
    assert_same(before, session.ask("state"))


def test_put_to_sleep_while_it_dozes(node):
    """Unseen: from one who answers for it to the other."""
    session, before = begin(node, 50)
    session.doze()
    result = node.done("sleep", session, 1)
    assert result["answering"] and not result["running"] and not result["dozing"]
    assert session.processes() == set() and whole(node, session, 1)
    assert_same(before, session.ask("state", timeout=60))
    settle(node, session)
    assert not node.sessions()[session.id]["dozing"]
    # One that fails leaves it dozing, and answered for.
    session.ask("hold", what="mptcp")
    session.doze()
    result = node.effect("sleep", session, 2)
    assert result["state"] == "failed" and result["dozing"], result
    is_out(node, session, 50)
    assert_same(before, session.ask("state", timeout=60))


def test_idle_talk_does_not_keep_it_from_sleep(node):
    """Its kernel has taken what it will read when it runs again."""
    session, before = begin(node, 20)
    with socket.create_connection((session.address, session.port), 60) as talks:
        wait_for(lambda: session.ask("state")["threads"] >= before["threads"] + 1)
        session.doze()
        talks.sendall(b"\x89\x80mask")
        result = node.done("sleep", session, 1)
        assert result["answering"] and not result["running"], result
        assert_same(before, session.ask("state", timeout=60))


@pytest.mark.parametrize("step", ["freeze", "dump"])
def test_said_on_an_old_connection_while_it_is_put_to_sleep(node, step):
    """It is answered, whichever of the two fails for it."""
    session, before = begin(node, 20)
    with socket.create_connection((session.address, session.port), 60) as wants:
        wait_for(lambda: session.ask("state")["threads"] >= before["threads"] + 1)
        # So that it is not asleep in the end, whenever that is said.
        session.ask("hold", what="mptcp")
        session.doze()
        node.kill()
        node.start("--fault", f"sleep:{step}:wait")
        effect, results = new_id(), []
        thread = threading.Thread(
            target=lambda: results.append(node.effect("sleep", session, 1, effect_id=effect)))
        thread.start()
        wait_for(lambda: any(e["id"] == effect and e["step"] == step
                             for e in node.get("/v1/effects")["items"]))
        wants.sendall(b"GET /state HTTP/1.0\r\n\r\n")
        assert wants.recv(100).startswith(b"HTTP/1.0 200")
        thread.join()
        assert results[0]["state"] == "failed" and results[0]["running"], results
    runs_again(node, session)
    assert_same(before, session.ask("state"))


@pytest.mark.parametrize("kind, step, when", [
    ("snapshot", "freeze", "after"), ("snapshot", "dump", "after"), ("snapshot", "let-run", "before"),
    ("snapshot", "let-run", "after"), ("snapshot", "commit", "after"), ("hibernate", "freeze", "after"),
    ("hibernate", "dump", "after"), ("hibernate", "commit", "before")])
def test_killed_at_work_on_one_that_dozes(node, kind, step, when):
    session, before = begin(node, 20)
    session.doze()
    node.kill()
    node.start("--fault", f"{kind}:{step}:{when}")
    ask_until_killed(node, kind, session, 1)
    node.start()
    settle(node, session)
    status = wait_for(lambda: (now := node.sessions()[session.id])["frozen"] and now)
    assert status["running"] and status["dozing"]
    rouse(node, session)
    assert_same(before, session.ask("state"))


def test_hibernated_while_it_dozes(node):
    session, before = begin(node, 100)
    session.doze()
    result = session.hibernate(1)
    assert not result["running"] and not result["dozing"]
    assert session.processes() == set() and leftovers(node) == []
    assert not list((node.run_dir / "held").glob(f"*/{session.id}.*"))
    assert not session.restore(1)["dozing"]
    assert_same(before, session.ask("state"))


WAITS_FOR_ITS_END = """
import os, signal, time
memory = os.urandom(50 << 20)
def told(number, frame):
    open("/home/ada/told", "w").write(str(sum(memory[::4096])))
    raise SystemExit
signal.signal(signal.SIGTERM, told)
open("/home/ada/sum", "w").write(str(sum(memory[::4096])))
while True:
    time.sleep(1)
"""


@pytest.mark.parametrize("kind", ["stop", "forget"])
def test_ended_while_it_dozes(node, kind):
    """Told so first, as one that runs is."""
    session = Session(node, command=["python3", "-c", WAITS_FOR_ITS_END])
    node.done("start", session)
    total = wait_for(lambda: (session.home / "sum").exists() and (session.home / "sum").read_text())
    session.doze()
    is_out(node, session, 50)
    assert not node.done(kind, session)["running"]
    assert session.processes() == set() and leftovers(node) == []
    assert (session.home / "told").read_text() == total


def test_it_ends_while_it_dozes(node):
    session, _ = begin(node, 50)
    session.doze()
    for pid in session.processes():
        os.kill(pid, 9)
    session.thaw()
    assert wait_for(lambda: node.sessions()[session.id].get("ended")) == "exited"
    wait_for(lambda: leftovers(node) == [])
    assert session.start()["running"]
    assert not node.sessions()[session.id].get("dozing")


def test_the_machine_goes_down(node, place):
    """What it dozed with is gone; its background checkpoint is not."""
    session, before = begin(node, 50)
    session.doze()
    session.snapshot(1)
    node.kill()
    for pid in session.processes():
        os.kill(pid, 9)
    session.thaw()
    wait_for(lambda: session.processes() == set())
    with in_place_of("/proc/sys/kernel/random/boot_id", "00000000-1111\n", place):
        node.start()
        assert wait_for(lambda: node.sessions()[session.id].get("ended")) == "rebooted"
        assert not session.restore(1)["dozing"]
        assert_same(before, session.ask("state"))
        node.kill()
    node.start()


def test_evacuated_while_it_dozes(place):
    node = Doomed(place).start()
    session, before = begin(node, 100)
    session.doze()
    node.notice({"in": "60s"})
    last = node.over()
    assert [s["state"] for s in last["sessions"]] == ["saved"]
    assert session.processes() == set()
    node.cancel()
    node.kill()
    node.start()
    session.restore(last["sessions"][0]["generation"])
    assert_same(before, session.ask("state"))
    node.teardown()


# --- somebody comes ---------------------------------------------------------------------------


def runs_again(node, session):
    status = wait_for(lambda: not (now := node.sessions()[session.id])["dozing"] and now)
    assert status["running"] and status["touched_at"] > 0, status
    wait_for(lambda: not node.sessions()[session.id]["frozen"])


def test_who_connects_lets_it_run(node):
    session, before = begin(node, 100)
    for _ in range(2):
        session.doze()
        begun = time.monotonic()
        after = session.ask("hold", what="nothing")
        print(f"dozing to first answer: {(time.monotonic() - begun) * 1000:.1f} ms")
        assert after == {}
        runs_again(node, session)
        assert_same(before, session.ask("state"))


def test_many_connect_at_once(node):
    session, before = begin(node, 50)
    session.doze()
    answers = []

    def ask():
        answers.append(session.ask("hold", what="nothing", timeout=60))
    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [{}] * 20
    runs_again(node, session)
    assert_same(before, session.ask("state"))


def test_an_old_connection(node):
    """Idle talk on one that was open is nobody; anything else is somebody."""
    session, before = begin(node, 50)
    with socket.create_connection((session.address, session.port), 30) as talks, \
            socket.create_connection((session.address, session.port), 30) as wants:
        # Accepted, each by a thread that reads.
        wait_for(lambda: session.ask("state")["threads"] >= before["threads"] + 2)
        session.doze()
        talks.sendall(b"\x8a\x80mask" + b"\x89\x84maskping")
        for _ in range(5):
            assert node.sessions()[session.id]["dozing"]
        wants.sendall(b"GET /state HTTP/1.0\r\n\r\n")
        answer = b""
        while data := wants.recv(65536):
            answer += data
        assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["digest"] == before["digest"]
    runs_again(node, session)
    assert_same(before, session.ask("state"))


@pytest.mark.parametrize("step", ["freeze", "page-out", "keep"])
def test_somebody_comes_while_it_falls_into_it(node, step):
    """Answered by the session, which does not doze."""
    session, before = begin(node, 50)
    node.kill()
    node.start("--fault", f"doze:{step}:wait")
    effect, results = new_id(), []
    thread = threading.Thread(
        target=lambda: results.append(node.effect("doze", session, effect_id=effect)))
    thread.start()
    wait_for(lambda: any(e["id"] == effect and e["step"] == step
                         for e in node.get("/v1/effects")["items"]))
    assert session.ask("state", timeout=60)["digest"] == before["digest"]
    thread.join()
    assert results[0]["state"] == "failed" and results[0]["fault"] == "conflict", results
    assert results[0]["running"] and not results[0]["dozing"]
    assert_same(before, session.ask("state"))


@pytest.mark.parametrize("end", [Node.stop, Node.kill])
def test_somebody_comes_while_no_node_runs(node, end):
    """On a connection that was open; a new one is refused then, unless the node has seen its end come."""
    session, before = begin(node, 50)
    with socket.create_connection((session.address, session.port), 60) as wants:
        wait_for(lambda: wants.getsockname()[1] in session.ask("clients")["ports"])
        session.doze()
        end(node)
        wants.sendall(b"GET /state HTTP/1.0\r\n\r\n")
        node.start()
        assert wants.recv(100).startswith(b"HTTP/1.0 200")
    runs_again(node, session)
    assert_same(before, session.ask("state"))
    session.doze()
    node.stop()
    answers = []
    thread = threading.Thread(target=lambda: answers.append(session.ask("state", timeout=60)))
    thread.start()
    node.start()
    thread.join()
    assert answers[0]["digest"] == before["digest"]
    runs_again(node, session)


def test_answered_for_after_a_restart(node):
    session, before = begin(node, 50)
    session.doze()
    session.snapshot(1)
    for _ in range(2):
        node.kill()
        node.start()
        assert node.sessions()[session.id]["dozing"]
    assert_same(before, session.ask("state"))
    runs_again(node, session)
