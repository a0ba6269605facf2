# SPDX-License-Identifier: Apache-2.0
"""A machine that goes away puts its sessions away by itself: elsad is not running in any of these."""
import contextlib
import json
import os
import threading
import time

import pytest

from basekit import MOMENTS
from nodebed import steps
from nodekit import Node, Refused, Session, wait_for
from test_node import assert_same, leftovers, place_fixture, settle, whole

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
              pytest.mark.timeout(180)]
FIXTURES = (place_fixture,)  # used by name
MIB = 1 << 20


class Doomed(Node):
    """A node that is told by a file that it goes away."""

    def __init__(self, where, workers=4, margin="2s"):
        super().__init__(where)
        self.notice_file = self.dir / "notice.json"
        self.write_config(f'[spot]\nmargin = "{margin}"',
                          f'notices = "file"\nnotice_file = "{self.notice_file}"\n'
                          f'notice_interval = "100ms"\nworkers = {workers}')

    def believe(self, fixed_ms, mib_per_s=0):
        """What it takes for measured, before it starts: of dumps, streams and the store alike."""
        rates = {"fixed_ms": fixed_ms}
        if mib_per_s:
            rates |= {f"{what}_bytes_per_s": mib_per_s * MIB for what in ("dump", "stream", "store")}
        (self.run_dir / "estimates.json").write_text(json.dumps(rates))

    def notice(self, *notices):
        temporary = self.notice_file.with_suffix(".new")
        temporary.write_text(json.dumps([{"kind": "evict", **n} for n in notices]))
        temporary.rename(self.notice_file)

    def cancel(self):
        self.notice_file.unlink()

    def evacuation(self):
        with contextlib.suppress(Refused):
            return self.get("/v1/evacuation")
        return None

    def evacuee(self, session):
        last = self.evacuation() or {"sessions": []}
        return next((s for s in last["sessions"] if s["session"] == session.id), {"state": None})

    def over(self, timeout=60):
        """The evacuation when it has ended."""
        def ended():
            last = self.evacuation()
            return last if last and last.get("ended_at") else None
        return wait_for(ended, timeout)

    def becomes(self, session, state, timeout=60):
        return wait_for(lambda: self.evacuee(session)["state"] == state and self.evacuee(session),
                        timeout)


@pytest.fixture(name="doomed")
def doomed_fixture(place):
    made = []

    def make(start=True, **options):
        made.append(Doomed(place, **options))
        return made[-1].start() if start else made[-1]
    yield make
    for node in made:
        node.teardown()
        assert leftovers(node, torn_down=True) == []


def begin(node, count, mib=0):
    sessions = [Session(node) for _ in range(count)]
    for session in sessions:
        session.start()
        if mib:
            session.ask("fill", mib=mib, timeout=60)
        session.before = session.ask("state")
    return sessions


def is_put_away(node, session, generation=1):
    status = node.sessions()[session.id]
    assert status["ended"] == "evacuated" and status["generation"] == generation
    assert not status["running"] and session.processes() == set()
    assert whole(node, session, generation)


def is_well(node, session):
    status = settle(node, session)
    assert status["running"] and not status["frozen"] and not status.get("ended")
    assert_same(session.before, wait_for(session.answers))


def elsewhere(node, place):
    """Another machine with the same store. The first one is gone."""
    node.stop()
    other = Node(place / "other")
    other.config.write_text(other.config.read_text()
                            .replace(str(other.store), str(node.store))
                            .replace(f"{other.dir}/store.key", f"{node.dir}/store.key"))
    return other.start()


def restored(node, session, generation=1, **more):
    session.node = node
    result = node.ask("PUT", f"/v1/effects/back{session.id}{generation}", {
        "id": f"back{session.id}{generation}", "kind": "restore", "generation": generation,
        "session": session.spec, **more})
    assert result["state"] == "done", result
    return result


def comes_back(node, session, generation=1):
    """When the notice does not hold any more; before, it would be put away again."""
    def accepted():
        with contextlib.suppress(Refused):
            return restored(node, session, generation)
    with contextlib.suppress(FileNotFoundError):
        node.cancel()
    wait_for(accepted)
    assert_same(session.before, wait_for(session.answers))


def test_all_are_saved_and_wake_elsewhere(doomed, place):
    node = doomed()
    sessions = begin(node, 4)
    sessions[1].snapshot(1)
    assert node.evacuation() is None and not node.get("/v1/node")["evacuating"]
    node.notice({"in": "60s"})
    last = node.over()
    assert not node.get("/v1/node")["evacuating"]
    assert last["notice"]["kind"] == "evict" and last["margin_ms"] > 30_000
    assert {s["state"] for s in last["sessions"]} == {"saved"} and len(last["sessions"]) == 4
    for index, session in enumerate(sessions):
        one = node.evacuee(session)
        assert last["begun_at"] <= one["begun_at"] <= one["ended_at"] <= last["ended_at"] + 50
        # Who might change too much meanwhile is frozen before its turn comes.
        assert last["begun_at"] <= one["frozen_at"] <= one["ended_at"] and one["bytes"] > 0
        assert one["generation"] == (2 if index == 1 else 1)
        assert bool(one["snapshot_at"]) == (index == 1)
        is_put_away(node, session, one["generation"])
        # The result stays like any other, over a restart, until somebody has heard it.
        assert node.get(f"/v1/effects/evac-{session.id}-{one['generation']}")["state"] == "done"
    node.kill()
    node.start()
    for session in sessions:
        one = node.evacuee(session)
        is_put_away(node, session, one["generation"])
        node.ask("DELETE", f"/v1/effects/evac-{session.id}-{one['generation']}")
        assert session.id not in node.sessions()
    other = elsewhere(node, place)
    try:
        for index, session in enumerate(sessions):
            restored(other, session, 2 if index == 1 else 1)
            assert_same(session.before, wait_for(session.answers))
    finally:
        other.teardown()


def test_nothing_new_begins_unless_it_must(doomed):
    node = doomed()
    session, late = begin(node, 1)[0], Session(node)
    node.notice({"in": "60s"})
    node.over()
    for kind, who in (("start", late), ("restore", session)):
        with pytest.raises(Refused) as refused:
            node.effect(kind, who, 1)
        assert refused.value.status == 503 and "goes away at 20" in refused.value.error["text"]
    # Where there is no other machine; and then it is put away once more.
    restored(node, session, force=True)
    wait_for(lambda: node.evacuee(session).get("generation") == 2)
    node.over()
    is_put_away(node, session, 2)


def test_too_little_time_for_all(doomed):
    node = doomed(start=False, workers=1)
    node.believe(200, mib_per_s=20)
    node.start()
    small, large = begin(node, 1) + begin(node, 1, mib=300)
    large.snapshot(1)
    node.kill()
    node.believe(200, mib_per_s=20)
    node.start()
    before = large.ask("state")["ticks"]
    node.notice({"in": "8s"})
    node.becomes(small, "saved")
    left = node.becomes(large, "left")
    assert "longer than there was left" in left["why"] and " old" in left["why"]
    assert left["snapshot_at"] > 0 and not left.get("begun_at")
    is_put_away(node, small)
    # It runs to the end, and its snapshot is what there will be.
    status = node.sessions()[large.id]
    assert status["running"] and not status["frozen"] and large.ask("state")["ticks"] > before
    assert whole(node, large, 1) and node.get("/v1/node")["evacuating"]
    # The machine lives longer than was said.
    last = node.over()
    assert last["margin_ms"] < 0
    assert node.evacuee(large)["state"] == "saved"
    is_put_away(node, large, 2)


def test_a_deadline_that_has_passed(doomed):
    node = doomed()
    sessions = begin(node, 2)
    node.notice({"in": "0s"})
    assert node.over()["margin_ms"] <= 0
    for session in sessions:
        is_put_away(node, session)


def test_called_off(doomed):
    """Who has been begun is saved, who stood still goes on."""
    node = doomed(start=False, workers=1)
    node.believe(4000, mib_per_s=100)
    node.start()
    first = begin(node, 1, mib=400)[0]
    first.snapshot(1)  # so that those without go first
    node.kill()
    node.believe(4000, mib_per_s=100)
    node.start()
    others = begin(node, 2)
    node.notice({"in": "16s"})
    frozen = wait_for(lambda: [s for s in others + [first] if node.sessions()[s.id]["frozen"]
                               and not node.sessions()[s.id].get("effect")])
    assert all(node.evacuee(s)["frozen_at"] for s in frozen)
    node.cancel()
    last = node.over()
    assert not node.get("/v1/node")["evacuating"]
    states = {s["session"]: s for s in last["sessions"]}
    kept = [s for s in others + [first] if states[s.id]["state"] == "waiting"]
    assert kept
    for session in kept:
        assert "cancelled" in states[session.id]["why"]
        is_well(node, session)
    for session in others + [first]:
        if session not in kept:
            is_put_away(node, session, states[session.id]["generation"])
            comes_back(node, session, states[session.id]["generation"])


@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize("step", [step for kind, step in steps() if kind == "hibernate"])
def test_killed_at(doomed, step, when):
    """And taken up again by the next elsa-node."""
    node = doomed(start=False, workers=1)
    node.start()
    sessions = begin(node, 2)
    node.kill()
    if step == "retention":  # which is not done in an evacuation's time
        node.start()
    else:
        node.start("--fault", f"hibernate:{step}:{when}")
    node.notice({"in": "90s"})
    if step == "retention":
        wait_for(lambda: any(s["state"] == "saved" for s in node.evacuation()["sessions"])
                 if node.evacuation() else False)
        node.kill()
    else:
        assert node.died() == -9
    node.start()
    last = node.over()
    assert {s["state"] for s in last["sessions"]} == {"saved"}
    for session in sessions:
        is_put_away(node, session, 1)
    for session in sessions:
        comes_back(node, session)


def test_killed_while_some_stand_still(doomed):
    node = doomed(start=False, workers=1)
    node.believe(4000, mib_per_s=100)
    node.start()
    sessions = begin(node, 2) + begin(node, 1, mib=300)
    node.notice({"in": "22s"})
    wait_for(lambda: any(s["frozen"] and not s.get("effect") for s in node.sessions().values()))
    node.kill()
    node.start()
    assert {s["state"] for s in node.over()["sessions"]} == {"saved"}
    for session in sessions:
        is_put_away(node, session)
    for session in sessions:
        comes_back(node, session)


def test_the_store_is_away_for_a_while(doomed, place):
    node = doomed()
    sessions = begin(node, 2)
    sessions[0].snapshot(1)
    away = place / "away"
    node.store.rename(away)
    node.store.write_text("no directory")
    node.notice({"in": "90s"})
    for session in sessions:
        assert node.becomes(session, "failed")["why"]
    for session in sessions:
        assert session.answers()
    node.store.unlink()
    away.rename(node.store)
    assert {s["state"] for s in node.over()["sessions"]} == {"saved"}
    is_put_away(node, sessions[0], 2)
    is_put_away(node, sessions[1], 1)


def test_who_is_refused_runs_on(doomed):
    node = doomed()
    odd, plain = begin(node, 2)
    odd.ask("hold", what="mptcp")
    node.notice({"in": "60s"})
    last = node.over()
    one = node.evacuee(odd)
    assert one["state"] == "failed" and "Unsupported proto 262" in one["why"], one
    assert node.evacuee(plain)["state"] == "saved" and last["margin_ms"] > 0
    is_put_away(node, plain)
    status = settle(node, odd)
    assert status["running"] and not status["frozen"] and odd.answers()


def note_of(session):
    return session.home / f"SAVE-YOUR-WORK.{session.id}.txt"


def test_who_is_refused_is_told_in_the_home(doomed):
    """Before the end, as its user, and through no symbolic link."""
    node = doomed()
    odd, plain = begin(node, 2)
    odd.ask("hold", what="mptcp")
    elsewhere = node.dir / "elsewhere"
    elsewhere.write_text("mine")
    note_of(odd).symlink_to(elsewhere)
    temporary = odd.home / f".{note_of(odd).name}"
    temporary.symlink_to(elsewhere)
    node.notice({"in": "60s"})
    deadline = node.becomes(odd, "failed") and node.evacuation()["notice"]["at"]
    wait_for(lambda: note_of(odd).is_file() and not note_of(odd).is_symlink())
    text, found = note_of(odd).read_text(), note_of(odd).stat()
    assert "Unsupported proto 262" in text and "SAVE YOUR WORK" in text, text
    assert time.strftime("%H:%M:%S", time.gmtime(deadline / 1000)) in text, text
    assert (found.st_uid, found.st_gid) == (odd.spec["uid"], odd.spec["gid"])
    assert found.st_mode & 0o777 == 0o600 and elsewhere.read_text() == "mine"
    assert not temporary.is_symlink() and not note_of(plain).exists()
    # An elsa-node that is new to it takes it away, too, when the notice is taken back.
    node.over()
    node.kill()
    node.start()
    assert note_of(odd).exists()
    node.cancel()
    wait_for(lambda: not note_of(odd).exists())
    assert settle(node, odd)["running"] and elsewhere.read_text() == "mine"


def test_a_home_that_takes_no_note(doomed):
    node = doomed()
    odd, plain = begin(node, 2)
    odd.ask("hold", what="mptcp")
    note_of(odd).mkdir()
    node.notice({"in": "60s"})
    node.over()
    wait_for(lambda: "cannot make SAVE-YOUR-WORK" in node.log.read_text())
    assert note_of(odd).is_dir() and odd.answers() and node.evacuee(plain)["state"] == "saved"
    assert [f.name for f in odd.home.glob(".SAVE*")] == []


def test_a_snapshot_that_is_under_way_counts(doomed):
    node = doomed()
    session = begin(node, 1, mib=300)[0]
    asked = threading.Thread(target=session.snapshot, args=(1,))
    asked.start()
    wait_for(lambda: node.sessions()[session.id].get("effect"))
    node.notice({"in": "60s"})
    last = node.over()
    asked.join()
    assert last["sessions"][0]["state"] == "saved" and last["sessions"][0]["snapshot_at"]
    is_put_away(node, session, 2)
    assert whole(node, session, 2)
    comes_back(node, session, 2)


def test_a_hibernation_that_is_under_way_counts(doomed):
    node = doomed()
    session = begin(node, 1, mib=300)[0]
    asked = threading.Thread(target=session.hibernate, args=(1,))
    asked.start()
    wait_for(lambda: node.sessions()[session.id].get("effect"))
    node.notice({"in": "60s"})
    last = node.over()
    asked.join()
    assert [s["state"] for s in last["sessions"]] == ["saved"]
    assert whole(node, session, 1)


@pytest.mark.parametrize("kind", ["snapshot", "hibernate"])
def test_who_asks_too_late_does_not_make_it_forgotten(doomed, kind):
    """elsad may ask for a checkpoint just when the session was put away, and knows of nothing."""
    node = doomed()
    session = begin(node, 1)[0]
    node.notice({"in": "60s"})
    node.over()
    late = node.effect(kind, session, 2, effect_id="late")
    assert late["state"] == "failed" and not late["running"]
    node.ask("DELETE", "/v1/effects/late")
    is_put_away(node, session)
    node.kill()
    node.start()
    is_put_away(node, session)
    node.ask("DELETE", f"/v1/effects/evac-{session.id}-1")
    assert session.id not in node.sessions()
    comes_back(node, session)


def test_an_earlier_deadline(doomed):
    node = doomed(workers=1)
    sessions = begin(node, 3, mib=60)
    node.notice({"in": "300s", "id": "first"})
    wait_for(node.evacuation)
    node.notice({"in": "300s", "id": "first"}, {"in": "20s", "id": "second"})
    last = wait_for(lambda: "second" in node.evacuation()["notice"]["id"] and node.over())
    assert last["margin_ms"] < 20_000
    # One of the two does not hold: the other does.
    node.notice({"in": "300s", "id": "first"})
    with pytest.raises(Refused):
        node.effect("start", Session(node))
    node.cancel()
    late = Session(node)
    wait_for(lambda: begins(late))
    node.done("stop", late)
    for session in sessions:
        is_put_away(node, session)


def begins(session):
    with contextlib.suppress(Refused):
        return session.start()


def test_who_ends_meanwhile_is_none_of_it(doomed):
    node = doomed(start=False, workers=1)
    node.believe(3000)
    node.start()
    sessions = begin(node, 3, mib=50)
    node.notice({"in": "120s"})
    wait_for(node.evacuation)
    node.done("stop", sessions[2])
    last = node.over()
    for one in last["sessions"]:
        assert one["state"] == "saved", last
    for session in sessions[:2]:
        is_put_away(node, session)
    assert sessions[2].processes() == set()
