# SPDX-License-Identifier: Apache-2.0
"""A joined node without elsad's lease: its sessions stand still before it ends, whoever is dead; and
what a node that was cut off has frozen comes too late for the store."""
import os
import pathlib
import signal
import tempfile
import time

import pytest

from leasekit import Controller, JoinedNode
from nodekit import Refused, Session, new_id, wait_for
from test_node import assert_same, leftovers, whole

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(180)]

LEASE_MS = 4000
TICK = """
import os, time
fd = os.open("/home/ada/trace", os.O_CREAT | os.O_WRONLY)
while True:
    os.pwrite(fd, b"%.6f" % time.time(), 0)
    time.sleep(0.005)
"""


@pytest.fixture(name="place")
def place_fixture():
    with tempfile.TemporaryDirectory(prefix="lease-", dir="/var/lib/elsa") as place:
        os.chmod(place, 0o755)
        yield pathlib.Path(place)


@pytest.fixture(name="controller")
def controller_fixture(place):
    controller = Controller(place / "elsad", LEASE_MS)
    yield controller
    controller.close()


@pytest.fixture(name="node")
def node_fixture(place, controller):
    node = JoinedNode(place / "a", controller).start()
    node.leased()
    yield node
    node.teardown()
    wait_for(lambda: node.guards() == [], 90)
    assert leftovers(node, torn_down=True) == []


class Ticker:
    """A session whose own clock says when it ran last."""

    def __init__(self, node, ours=True):
        self.session = Session(node, command=["python3", "-c", TICK])
        self.node = node
        if ours:
            node.controller.sessions.add(self.session.id)
        node.done("start", self.session)
        wait_for(self.runs)

    def ran_at(self):
        try:
            return float((self.session.home / "trace").read_text() or 0)
        except (OSError, ValueError):
            return 0.0

    def runs(self):
        before = self.ran_at()
        time.sleep(0.1)
        return before > 0 and self.ran_at() > before

    def status(self):
        return self.node.sessions()[self.session.id]

    def is_held(self):
        status = self.status()
        return status["running"] and status["frozen"] and status.get("held", False)


def stopped_before(tickers, end):
    """None of them has run after `end`, or runs now."""
    time.sleep(max(0.0, end - time.time()) + 0.3)
    for ticker in tickers:
        assert not ticker.runs()
        assert ticker.ran_at() < end, ticker.ran_at() - end


def frozen_together():
    for name, word in (("freezer.self_freezing", "1"), ("cgroup.freeze", "1")):
        for file in pathlib.Path("/sys/fs/cgroup").glob(f"**/elsa-test/{name}"):
            if file.read_text().strip() == word:
                return True
    return False


# --- the plain path -------------------------------------------------------------------------------


def test_it_asks_in_time_and_says_who_it_is(node, controller):
    ticker = Ticker(node)
    count = len(controller.asked)
    wait_for(lambda: len(controller.asked) >= count + 4)
    times = [at for at, *_ in controller.asked[count:count + 4]]
    assert min(b - a for a, b in zip(times, times[1:])) < LEASE_MS / 1000 / 3
    _, question, peer, _ = controller.asked[-1]
    assert peer == "n1" and question["boot_id"] and question["listen"]
    wait_for(lambda: LEASE_MS * 0.3 < node.lease_left())
    assert node.lease_left() <= LEASE_MS * 0.8
    assert len(node.guards()) == 1 and wait_for(ticker.runs)
    status = pathlib.Path(f"/proc/{node.guards()[0]}/status").read_text().split()
    assert int(status[status.index("VmRSS:") + 1]) < 2048


@pytest.mark.parametrize("how", ["hang", "refuse", "garbage", "closed"])
def test_cut_and_healed(node, controller, how):
    mine, other = Ticker(node), Ticker(node)
    end = controller.cut("hang" if how == "closed" else how)
    if how == "closed":
        controller.close()
    stopped_before([mine, other], end)
    assert mine.is_held() and other.is_held()
    assert node.lease_left() == 0 and not frozen_together()
    # Nothing is begun meanwhile.
    for kind in ("start", "restore"):
        with pytest.raises(Refused) as refused:
            node.effect(kind, Session(node), 1)
        assert refused.value.status == 503 and "lost touch" in str(refused.value)
    controller.sessions.discard(other.session.id)
    controller.heal()
    if how == "closed":
        controller.open()
    wait_for(mine.runs)
    assert not mine.status().get("held")
    time.sleep(1.0)
    assert not other.runs() and other.is_held()
    node.done("stop", other.session)
    assert other.session.processes() == set()
    # What elsad says is its own after all goes on.
    wait_for(mine.runs)


def test_dozing_through_it(node, controller):
    """Two reasons to stand still: it goes on when there is none."""
    sleeper, roused = Ticker(node), Ticker(node)
    for ticker in (sleeper, roused):
        ticker.session.doze()
    assert not sleeper.runs() and not roused.runs()
    controller.cut("refuse")
    wait_for(lambda: sleeper.is_held() and roused.is_held())
    assert not node.done("rouse", roused.session)["dozing"]
    assert sleeper.status()["dozing"] and not roused.status()["dozing"]
    assert roused.is_held() and not roused.runs()
    controller.heal()
    wait_for(roused.runs)
    wait_for(lambda: not sleeper.status().get("held"))
    assert sleeper.status()["dozing"] and not sleeper.runs()
    node.done("rouse", sleeper.session)
    wait_for(sleeper.runs)


def test_what_elsad_does_not_name_twice_is_held(node, controller):
    """As when a virtual machine was paused: the node has noticed nothing."""
    ticker = Ticker(node)
    controller.sessions.clear()
    time.sleep(1.0)
    assert wait_for(ticker.runs)  # elsad has not had the result of its start yet
    node.acknowledge_all()
    wait_for(ticker.is_held)
    controller.sessions.add(ticker.session.id)
    wait_for(ticker.runs)


# --- elsa-node is dead, stopped, started anew -----------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_the_guard_freezes_in_time(node, controller, how):
    tickers = [Ticker(node), Ticker(node)]
    end = controller.cut()
    os.kill(node.process.pid, how)
    stopped_before(tickers, end)
    assert frozen_together()
    guard = node.guards()
    assert len(guard) == 1
    if how == signal.SIGKILL:
        node.died()
        node.start()
    else:
        os.kill(node.process.pid, signal.SIGCONT)
    # Each is held by itself now, and still none runs.
    wait_for(lambda: not frozen_together())
    for ticker in tickers:
        assert wait_for(ticker.is_held) and not ticker.runs()
    node.done("stop", tickers[1].session)
    assert not tickers[0].runs()
    controller.heal()
    wait_for(tickers[0].runs)
    assert node.guards() == guard


def test_killed_and_started_within_the_lease(node, controller):
    ticker = Ticker(node)
    guard = node.guards()
    node.kill()
    node.start()
    assert wait_for(ticker.runs) and node.guards() == guard
    node.leased()
    assert wait_for(ticker.runs) and not frozen_together()


def test_started_anew_while_held(node, controller):
    ticker = Ticker(node)
    stopped_before([ticker], controller.cut())
    for end in (node.kill, node.stop):
        end()
        node.start()
        assert ticker.is_held() and not ticker.runs() and not frozen_together()
    controller.heal()
    wait_for(ticker.runs)


def test_a_dead_guard_is_replaced(node):
    ticker = Ticker(node)
    before = node.guards()
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: node.guards() and node.guards() != before)
    wait_for(ticker.runs)


def test_a_node_that_needs_no_lease_any_more(node, place):
    ticker = Ticker(node)
    node.controller.cut()
    os.kill(node.process.pid, signal.SIGKILL)
    node.died()
    wait_for(frozen_together, 30)
    node.write_config()
    node.start()
    wait_for(ticker.runs)
    assert node.lease_left() == -1


# --- said at once -----------------------------------------------------------------------------------


@pytest.fixture(name="patient")
def patient_fixture(place):
    """A node whose next renewal is minutes away."""
    controller = Controller(place / "elsad", lease_ms=900_000)
    node = JoinedNode(place / "node", controller).start()
    try:
        node.leased()
        yield node, controller
    finally:
        node.teardown()
        controller.close()


def questions(controller, since):
    return [question for at, question, *_ in controller.asked if at >= since]


def test_news_is_told_at_once(patient):
    """And not with the next renewal, which comes minutes later."""
    node, controller = patient
    since = time.time()
    node.ask("POST", "/v1/drill", {"kind": "evict", "in_ms": 3_600_000, "who": "a test"})
    told = wait_for(lambda: questions(controller, since))
    assert [n["kind"] for n in told[0]["notices"]] == ["evict"]
    since = time.time()
    node.ask("DELETE", "/v1/drill", good=(200, 204))
    assert wait_for(lambda: questions(controller, since))[0].get("notices", []) == []
    # While a question hangs it is told behind that.
    controller.cut()
    node.ask("POST", "/v1/drill", {"kind": "reboot", "in_ms": 3_600_000, "who": "a test"})
    wait_for(lambda: controller.asked[-1][3] == "hang")
    node.ask("DELETE", "/v1/drill", good=(200, 204))
    controller.heal()
    wait_for(lambda: not controller.asked[-1][1].get("notices"))


def test_a_wake_is_told_at_once(patient):
    """Of its own doing, which elsad knows nothing of until it looks."""
    node, controller = patient
    session = Session(node)
    controller.sessions.add(session.id)
    session.start()
    node.done("sleep", session, 1)
    assert not any(q.get("news_at") for q in questions(controller, 0))
    since = time.time()
    session.ask("state")
    told = wait_for(lambda: questions(controller, since))
    assert 0 < told[0]["news_at"] <= told[0]["asked_at"]
    assert node.sessions()[session.id]["running"]


def test_a_node_without_sessions_gives_its_lease_back(patient):
    node, controller = patient
    asked = [q["asked_at"] for _, q, *_ in controller.asked]
    node.stop()
    last = controller.asked[-1][1]
    assert last["leaving"] and last["asked_at"] > max(asked)
    # The next one has none of it.
    controller.cut("refuse")
    node.start()
    assert node.lease_left() == 0
    controller.heal()
    node.leased()
    assert not controller.asked[-1][1].get("leaving") and node.guards()
    # elsad does not answer: it ends all the same.
    controller.cut()
    node.stop()


def test_a_node_with_sessions_keeps_its_lease(node, controller):
    ticker = Ticker(node)
    node.stop()
    assert not any(q.get("leaving") for _, q, *_ in controller.asked)
    assert wait_for(ticker.runs) and node.guards()


# --- with effects -----------------------------------------------------------------------------------


def probe(node):
    session = Session(node)
    node.controller.sessions.add(session.id)
    session.start()
    return session


def test_checkpointed_while_held(node, controller):
    session = probe(node)
    before = session.ask("state")
    end = controller.cut()
    wait_for(lambda: node.sessions()[session.id].get("held"))
    session.snapshot(1)
    assert whole(node, session, 1)
    assert node.sessions()[session.id]["frozen"] and node.sessions()[session.id]["held"]
    session.hibernate(2)
    assert time.time() > end - LEASE_MS / 1000 and whole(node, session, 2)
    assert session.processes() == set()
    controller.heal()
    node.leased()
    session.restore(2)
    assert_same(before, session.ask("state"))


def test_checkpointed_by_a_node_that_is_new_below_the_guards_freeze(node, controller):
    session = probe(node)
    before = session.ask("state")
    end = controller.cut()
    os.kill(node.process.pid, signal.SIGKILL)
    node.died()
    time.sleep(max(0.0, end - time.time()) + 0.2)
    assert frozen_together()
    node.start()
    session.hibernate(1)
    controller.heal()
    node.leased()
    session.restore(1)
    assert_same(before, session.ask("state"))


@pytest.mark.parametrize("step", ["check", "freeze", "dump", "layers", "images"])
def test_killed_at_work_below_the_guards_freeze(node, controller, step):
    session = probe(node)
    before = session.ask("state")
    node.kill()
    node.start("--fault", f"hibernate:{step}:before")
    node.leased()
    end = controller.cut()
    with pytest.raises(Exception):
        node.effect("hibernate", session, 1, timeout=60)
    node.died()
    time.sleep(max(0.0, end - time.time()) + 0.2)
    assert frozen_together()
    node.start()
    wait_for(lambda: not node.sessions()[session.id].get("effect"), 60)
    status = node.sessions()[session.id]
    assert status["running"] and status["frozen"] and status["held"]
    session.hibernate(2)
    controller.heal()
    node.leased()
    session.restore(2)
    assert_same(before, session.ask("state"))


def test_a_restore_that_outlives_the_lease_does_not_run(node, controller):
    session = probe(node)
    session.hibernate(1)
    node.kill()
    node.start("--fault", "restore:record:wait")
    node.leased()
    controller.cut()
    result = node.effect("restore", session, 1)
    assert result["state"] == "failed" and "lost touch" in result["text"]
    assert session.processes() == set() and whole(node, session, 1)
    controller.heal()
    node.leased()
    session.restore(1)


def test_fenced_and_its_own_after_all(node, controller):
    """Nothing has come of the fence: it goes on, and is checkpointed."""
    session = probe(node)
    session.snapshot(1)
    assert node.done("fence", session, 1)["generation"] == 2

    def evacuee():
        return next(s for s in node.get("/v1/evacuation")["sessions"] if s["session"] == session.id)
    node.ask("POST", "/v1/drill", {"kind": "evict", "in_ms": 120000})
    wait_for(lambda: "fenced" in (evacuee().get("why") or ""))
    node.ask("DELETE", "/v1/drill", good=(200, 204))
    wait_for(session.answers)
    # elsad, which has given out that number, may ask; and when it has said whose it is, all may.
    stopped_before([], controller.cut())
    controller.heal()
    wait_for(session.answers)
    time.sleep(0.5)
    node.ask("POST", "/v1/drill", {"kind": "evict", "in_ms": 120000})
    wait_for(lambda: evacuee()["state"] == "saved", 40)
    assert evacuee()["generation"] == 3 and whole(node, session, 3)


# --- the store decides ------------------------------------------------------------------------------


def objects(node):
    return sorted(str(p.relative_to(node.store)) for p in node.store.rglob("*") if p.is_file())


def test_a_late_commit_of_a_node_that_was_cut_off(place, node, controller):
    session = probe(node)
    session.snapshot(1)
    before = session.ask("state")
    stopped_before([], controller.cut())
    assert node.sessions()[session.id]["held"]
    # Another host, beside this one in the same network: its session must have another address.
    other = JoinedNode(place / "b", controller, "n2")
    other.config.write_text(node.config.read_text().replace(str(node.dir), str(other.dir))
                            .replace(str(node.run_dir), str(other.run_dir))
                            .replace(f"file://{other.store}", f"file://{node.store}")
                            .replace(f"{other.dir}/store.key", f"{node.dir}/store.key")
                            .replace('cgroup = "elsa-test"', 'cgroup = "elsa-test-b"')
                            .replace('name = "n1"', 'name = "n2"'))
    controller.heal()
    controller.sessions.clear()
    other.start()
    try:
        fence = other.done("fence", session, 1)
        assert fence["generation"] == 2 and fence["checkpoint"] == 1 and not fence["running"]
        assert [c["generation"] for c in node.checkpoints(session)] == [1]
        listed = other.get(f"/v1/checkpoints?session={session.id}&fences=yes")["items"]
        assert [(f["generation"], f["fence"]) for f in listed] == [(2, "n2")]
        there = objects(node)
        # It does not know yet, and tries what it would have been asked for before; and after.
        for kind in ("hibernate", "snapshot"):
            for generation in (2, 3):
                late = node.effect(kind, session, generation)
                assert late["state"] == "failed" and late["fault"] == "conflict", late
                assert "fenced" in late["text"] and late["running"]
                status = node.sessions()[session.id]
                assert status["running"] and status["frozen"] and status["held"]
        assert objects(node) == there
        node.done("stop", session)
        assert session.processes() == set() and objects(node) == there
        assert whole(other, session, 1)
        # Forgotten, once its result is acknowledged.
        other.ask("DELETE", f"/v1/effects/{fence['id']}")
        assert session.id not in other.sessions()
        controller.sessions.add(session.id)
        session.node = other
        other.leased()
        session.restore(1)
        after = session.ask("state")
        assert after["pid"] == before["pid"] and after["started"] == before["started"]
        assert session.hibernate(3)["generation"] == 3
        assert fence["id"] != new_id()
    finally:
        other.teardown()
