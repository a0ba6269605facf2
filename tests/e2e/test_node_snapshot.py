# SPDX-License-Identifier: Apache-2.0
"""Snapshots: checkpoints of a session that goes on. It stands still for the dump only, never for the
store, and whatever goes wrong it runs; faults at every step are in test_node.py."""
import contextlib
import http.client
import json
import os
import subprocess
import threading
import time
import urllib.parse

import pytest

from nodebed import Bed, undecided
from nodekit import Node, Refused, Session, new_id, wait_for
from test_node import (assert_same, leftovers, node_fixture, place_fixture, settle, small_store,
                       told_what_is_under_way, whole)

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(180)]
FIXTURES = (node_fixture, place_fixture)  # used by name


@pytest.fixture(name="keeps_one")
def keeps_one_fixture(place):
    node = Node(place)
    node.config.write_text(node.config.read_text().replace("[store]", "[store]\nkeep = 1"))
    node.start()
    yield node
    node.teardown()
    assert leftovers(node, torn_down=True) == []


def images(node, session):
    """What CRIU has written."""
    return list((node.state / "images").glob(session.id))


def kill_session(node, session):
    os.kill(int(node.sessions()[session.id]["pid"]), 9)
    wait_for(lambda: node.sessions()[session.id].get("ended"))
    wait_for(lambda: leftovers(node) == [])


def change(session, share):
    """Other content in so many of the pages that fill() made."""
    code = f"""
import os
m = probe.memory
pages = len(m) // 4096
for i in range(0, pages, {round(1 / share)}):
    m[i * 4096:(i + 1) * 4096] = os.urandom(4096)
import hashlib
probe.digest = hashlib.sha256(m).hexdigest()
"""
    session.ask("run", timeout=60, code=urllib.parse.quote(code))


def test_the_session_goes_on(node):
    session = Session(node)
    session.start()
    before = session.ask("state")
    for generation in (1, 2):
        result = session.snapshot(generation)
        assert result["running"] and result["generation"] == generation
        assert result["stored_bytes"] > 0 and 0 < result["frozen_us"] < result["duration_us"]
        assert [t["name"] for t in result["timings"]] == [s for k, s in node.steps()
                                                          if k == "snapshot"]
        after = session.ask("state")
        assert_same(before, after)
        assert whole(node, session, generation)
        status = node.sessions()[session.id]
        assert status["running"] and not status["frozen"] and status["generation"] == generation
        assert not list(session.home.glob("link_remap.*")) and images(node, session) == []
        assert not (node.state / "criu" / session.id).exists()


def test_a_connection_lives_through_it(node):
    session = Session(node)
    session.start()
    connection = http.client.HTTPConnection(session.address, session.port, timeout=10)
    connection.connect()
    kept = connection.sock
    for generation in (1, 2):
        session.snapshot(generation)
        connection.request("GET", "/state")
        answer = connection.getresponse()
        assert answer.status == 200 and json.loads(answer.read())["echo"]
        kept = connection.sock or kept
    connection.close()


def test_what_it_was_comes_back_when_the_session_is_lost(node):
    session = Session(node)
    session.start()
    session.ask("fill", mib=20, timeout=60)
    before = session.ask("state")
    session.snapshot(1)
    # What came after is lost with the session: memory, and names of open files in the home.
    session.ask("fill", mib=20, timeout=60)
    (session.home / "linked.other").unlink()
    kill_session(node, session)
    for _ in range(2):
        session.restore(1)
        assert_same(before, session.ask("state"))
        node.done("stop", session)
    session.restore(1)
    session.hibernate(2)
    session.restore(2)
    assert_same(before, session.ask("state"))


def test_open_files_that_the_session_removed_later_are_put_back(node):
    """As databases do with their journals. One that is too large to be kept must be there."""
    session = Session(node)
    session.start()
    session.ask("run", code=urllib.parse.quote("""
probe.journal = open("/home/ada/own-journal", "w+"); probe.journal.write("page 7"); probe.journal.flush()
"""))
    before = session.ask("state")
    session.snapshot(1)
    for path in list(session.home.glob("*-journal")) + [session.home / "lock"]:
        path.unlink()
    kill_session(node, session)
    session.restore(1)
    after = session.ask("state")
    assert_same(before, after)
    journal = session.home / "own-journal"
    assert journal.read_text() == "page 7" and journal.stat().st_uid == 1500
    session.ask("run", code=urllib.parse.quote("probe.journal.truncate(2 << 20)"))
    session.snapshot(2)
    journal.unlink()
    kill_session(node, session)
    refused = node.effect("restore", session, 2)
    assert refused["state"] == "failed" and "own-journal" in refused["text"]
    journal.write_bytes(b"page 7" + bytes((2 << 20) - 6))
    session.restore(2)
    assert_same(before, session.ask("state"))


def test_the_second_one_is_small(keeps_one):
    """And whole when that is gone whose pages it shares."""
    session = Session(keeps_one)
    session.start()
    session.ask("fill", mib=100, timeout=60)
    first = session.snapshot(1)
    change(session, 0.01)
    before = session.ask("state")
    second = session.snapshot(2)
    assert first["stored_bytes"] > 100 << 20
    assert second["stored_bytes"] < first["stored_bytes"] // 20, (first, second)
    third = session.hibernate(3)
    assert third["stored_bytes"] < first["stored_bytes"] // 20, (first, third)
    assert [c["generation"] for c in keeps_one.checkpoints(session)] == [3]
    assert whole(keeps_one, session, 3)
    session.restore(3)
    assert_same(before, session.ask("state"))


def test_only_newer_generations(node):
    session = Session(node)
    session.start()
    session.snapshot(2)
    for kind in ("snapshot", "hibernate"):
        for generation in (1, 2):
            result = node.effect(kind, session, generation)
            assert result["state"] == "failed" and result["fault"] == "conflict", result
            assert result["running"] and session.answers()
    result = node.effect("restore", session, 2)
    assert result["fault"] == "conflict" and result["running"]
    session.snapshot(3)
    assert [c["generation"] for c in node.checkpoints(session)] == [2, 3]


def test_nothing_to_take_one_of(node):
    result = node.effect("snapshot", Session(node), 1)
    assert result["state"] == "failed" and "does not run here" in result["text"]
    assert not result["running"]


def test_old_ones_are_removed(keeps_one):
    session = Session(keeps_one)
    session.start()
    before = session.ask("state")
    for generation in range(1, 5):
        session.snapshot(generation)
        assert [c["generation"] for c in keeps_one.checkpoints(session)] == [generation]
    kill_session(keeps_one, session)
    session.restore(4)
    assert_same(before, session.ask("state"))


def test_a_refusal_by_criu(node):
    session = Session(node)
    session.start()
    before = session.ask("state")
    session.ask("hold", what="mptcp")
    result = node.effect("snapshot", session, 1)
    assert result["state"] == "failed" and result["fault"] == "refused" and result["running"]
    assert "Unsupported proto 262" in result["text"]
    assert node.checkpoints(session) == [] and images(node, session) == []
    assert_same(before, session.ask("state"))
    session.ask("drop")
    session.snapshot(1)


def test_a_store_that_cannot_be_written_to(node):
    with small_store(node, "size=500m"):
        node.kill()
        node.start()
        session = Session(node)
        session.start()
        session.snapshot(1)
        before = session.ask("state")
        subprocess.run(["mount", "-o", "remount,ro", node.store], check=True)
        result = node.effect("snapshot", session, 2)
        assert result["state"] == "failed" and result["running"], result
        assert_same(before, session.ask("state"))
        assert whole(node, session, 1) and images(node, session) == []
        subprocess.run(["mount", "-o", "remount,rw", node.store], check=True)
        session.snapshot(2)
        node.kill()
    node.start()


def test_a_store_that_fills_up(node):
    """In the middle of the memory: CRIU is not told until it has got rid of all."""
    with small_store(node, "size=40m"):
        node.kill()
        node.start()
        session = Session(node)
        session.start()
        session.ask("fill", mib=200, timeout=60)
        before = session.ask("state")
        for kind in ("snapshot", "hibernate"):
            result = node.effect(kind, session, 1)
            assert result["state"] == "failed" and result["running"], result
            assert result["fault"] == "full", result
            assert_same(before, session.ask("state"))
            assert node.checkpoints(session) == []
        subprocess.run(["mount", "-o", "remount,size=500m", node.store], check=True)
        session.snapshot(1)
        assert whole(node, session, 1)
        node.kill()
    node.start()


def test_the_session_runs_while_its_snapshot_is_undecided(node):
    """Killed in the commit, and the store does not answer: the session has nothing to wait for."""
    session, generation, effect, store_back = undecided(Bed(node), "snapshot")
    assert_same(session.before, wait_for(session.answers))
    status = node.sessions()[session.id]
    assert status["running"] and not status["frozen"]
    with pytest.raises(Refused) as refused:
        node.effect("hibernate", session, generation + 1)
    assert refused.value.status == 409
    store_back()
    settle(node, session)
    result = node.done("snapshot", session, generation, effect_id=effect)
    assert result["generation"] == generation and whole(node, session, generation)
    assert_same(session.before, session.ask("state"))


def test_another_effect_waits_or_is_told(node):
    told_what_is_under_way(node, "snapshot", ("hibernate", 2))


def test_the_session_ends_while_its_snapshot_is_written(node):
    """What was dumped is whole all the same."""
    session = Session(node)
    session.start()
    session.ask("fill", mib=200, timeout=60)
    before = session.ask("state")
    pid = int(node.sessions()[session.id]["pid"])
    effect, results = new_id(), []
    thread = threading.Thread(target=lambda: results.append(
        node.effect("snapshot", session, 1, effect_id=effect)))

    def step():
        with contextlib.suppress(Refused):
            return node.get(f"/v1/effects/{effect}")["step"]
        return None
    thread.start()
    wait_for(lambda: step() in ("images", "commit", "record", "tidy") or not thread.is_alive(),
             step=0.001)
    os.kill(pid, 9)
    thread.join()
    assert results[0]["state"] == "done", results
    wait_for(lambda: node.sessions()[session.id].get("ended"))
    assert whole(node, session, 1)
    session.restore(1)
    assert_same(before, session.ask("state"))


def test_the_clock_of_a_session_that_has_many(node):
    """Not over the time it stood still, and not back."""
    session = Session(node)
    session.start()
    before = session.ask("state")
    begun = time.monotonic()
    for generation in range(1, 6):
        session.snapshot(generation)
    after = session.ask("state")
    assert_same(before, after)
    assert after["monotonic"] - before["monotonic"] <= time.monotonic() - begun + 0.1


@pytest.mark.parametrize("text", ["", "elsa-working-set 1\n2 10000 1\n", "elsa-working-set 2\n"])
def test_a_working_set_changes_only_the_order(node, text):
    """One of the last wake: good, with a page that is gone, and of a newer program."""
    session = Session(node)
    session.start()
    session.ask("fill", mib=8, timeout=60)
    before = session.ask("state")
    if not text:
        maps = session.ask("run", code=urllib.parse.quote("out['is']=open('/proc/self/maps').read()"))
        ranges = [[int(x, 16) for x in line.split()[0].split("-")]
                  for line in maps["is"].splitlines() if " rw-p " in line and "/" not in line]
        text = "elsa-working-set 1\n" + "".join(
            f"{before['pid']} {start:x} {min(700, (end - start) // 4096)}\n"
            for start, end in ranges[:3])
        assert len(text.splitlines()) == 4
    place = node.state / "pages" / session.id
    place.mkdir(parents=True, exist_ok=True)
    (place / "working-set").write_text(text)
    session.snapshot(1)
    session.hibernate(2)
    assert whole(node, session, 2)
    session.restore(2)
    assert_same(before, session.ask("state"))


@pytest.mark.parametrize("moment", [0, 0.03, 0.08, 0.15])
@pytest.mark.parametrize("kind", ["snapshot", "hibernate"])
def test_killed_while_memory_flows(node, kind, moment):
    """CRIU loses whoever takes the memory, with its code in the processes: they go on all the same."""
    session = Session(node)
    session.start()
    session.ask("fill", mib=300, timeout=60)
    before = session.ask("state")
    effect = new_id()

    def ask():
        with contextlib.suppress(OSError, http.client.HTTPException):
            node.effect(kind, session, 1, effect_id=effect)

    def flows():
        with contextlib.suppress(Refused):
            now = node.get(f"/v1/effects/{effect}")
            return now["step"] not in ("queued", "check", "begin", "freeze", "hold")
        return False
    thread = threading.Thread(target=ask)
    thread.start()
    wait_for(flows, step=0.001)
    time.sleep(moment)
    node.kill()
    thread.join()
    node.start()
    status = settle(node, session)
    if kind == "snapshot" or status:
        assert status["running"] and not status["frozen"]
        assert node.checkpoints(session) == [] or whole(node, session, 1)
        assert_same(before, session.ask("state"))
    assert node.done(kind, session, 1, effect_id=effect)["state"] == "done"
    assert whole(node, session, 1) and images(node, session) == []
    if kind == "snapshot":
        node.done("stop", session)
    session.restore(1)
    assert_same(before, session.ask("state"))
