# SPDX-License-Identifier: Apache-2.0
"""Real sessions in a bucket, and every kind of fault at every request of a hibernation and of a
waking: whatever happens, a session is running as it was or whole in the store, and nothing wrong is
ever let run."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

import pytest
from faultproxy import FAULTS
from nodekit import Session, wait_for
from storekit import (FINAL, Director, ForGood, Nothing, Once, Place, Run, s3_place, settled, work)
from test_node import assert_same

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(300)]

SESSIONS = 3  # at once: most of the time is spent waiting for the next try


class Sleeper:
    """A session that is put to sleep and woken, and what is always true of it."""

    def __init__(self, place: Place, mib: int = 1):
        self.place, self.bucket = place, place.bucket
        self.session = Session(place.node)
        self.session.start()
        self.session.ask("fill", mib=mib)
        self.before = self.session.ask("state")
        self.generation = 0

    @property
    def node(self):
        return self.place.node

    def new_run(self) -> Run:
        self.generation += 1
        return Run(self.session, self.generation)

    def is_as_it_was(self) -> None:
        wait_for(self.session.answers)
        after = self.session.ask("state")
        assert_same(self.before, after)
        self.before = after

    def in_store(self, about: str = "") -> bool:
        """Nothing it needs is missing there."""
        session = self.session.id
        assert self.bucket.missing(session) == [], about
        return self.generation in self.bucket.manifests(session)

    def one_truth(self, result: dict, about: str = "", cut_off: bool = False) -> bool:
        """Running, or in the store; never both, never neither."""
        status = settled(self.session)
        running = bool(status and status["running"])
        if result["running"]:
            assert running, about
        if result["state"] == "failed":
            assert result["fault"] != "none" and result["text"], about
        if running and cut_off and self.in_store(about):
            # Nobody can tell whether the manifest was put, and the session does not wait for that: it
            # has what is as good as a snapshot.
            assert self.node.ask("POST", "/v1/checkpoints/verify", {
                "session": self.session.id, "generation": self.generation})["ok"], about
        else:
            assert running != self.in_store(about), (about, self.bucket.keys())
        if running:
            assert not status["frozen"], about
            self.is_as_it_was()
        else:
            assert self.session.processes() == set(), about
        return running

    def wake(self) -> None:
        self.session.restore(self.generation)
        self.arrives()
        self.is_as_it_was()

    def arrives(self) -> None:
        """All of its memory."""
        wait_for(lambda: not self.node.sessions()[self.session.id]["missing_bytes"], 60)

    def arrived_or_stalled(self) -> dict | None:
        status = self.node.sessions()[self.session.id]
        return status if not status["missing_bytes"] or status["stalled_since"] else None


@pytest.fixture(name="place", scope="module")
def place_fixture() -> Iterator[Place]:
    with s3_place() as place:
        place.start(more="keep = 1")
        yield place


@pytest.fixture(name="sleepers", scope="module")
def sleepers_fixture(place: Place) -> list[Sleeper]:
    sleepers = [Sleeper(place) for _ in range(SESSIONS)]
    for sleeper in sleepers:  # from now on each has a basis, and an older one to be removed
        sleeper.session.hibernate(sleeper.new_run().generation)
        sleeper.wake()
    return sleepers


@pytest.fixture(name="director")
def director_fixture(place: Place) -> Iterator[Director]:
    yield Director(place.proxy)
    place.proxy.set_clock(0)
    place.proxy.reset()


def told(run: Run, result: dict) -> str:
    words = [f"generation {run.generation} of {run.session.id}: {result['state']} "
             f"{result}", *run.lines]
    return "\n".join(words)


def together(sleepers: list[Sleeper], what: Callable[[Sleeper], bool]) -> None:
    """Each on a thread, over and over until what() says that nothing is left; the first failure is
    the test's."""
    failures: list[BaseException] = []

    def one(sleeper: Sleeper) -> None:
        try:
            while not failures and what(sleeper):
                pass
        except BaseException as e:  # pylint: disable=broad-except
            failures.append(e)

    threads = [threading.Thread(target=one, args=(s,)) for s in sleepers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def swept(place: Place, sleepers: list[Sleeper]) -> None:
    """The node's sweep removes what nothing needs, that and no more."""
    work(place.node, "gc", dry_run=True)  # behind the one that a node begins with
    strange = [key for s in sleepers for key in place.bucket.strangers(s.session.id)]
    kept = set(place.bucket.keys("s/")) - set(strange)
    asked = work(place.node, "gc", dry_run=True)
    assert (asked["state"], asked["objects"]) == ("done", len(strange)), (asked, strange)
    done = work(place.node, "gc")
    assert (done["state"], done["objects"]) == ("done", len(strange)), (done, strange)
    assert set(place.bucket.keys("s/")) == kept
    assert work(place.node, "gc", dry_run=True)["objects"] == 0


# --- faults that pass --------------------------------------------------------------------------------


# A request is signed anew once. Where it is delayed as well the clock may be set twice meanwhile, so
# that has runs of its own.
@pytest.mark.parametrize("kinds, at_once", [
    (tuple(f for f in FAULTS if f != "skew"), SESSIONS), (("skew",), 1)], ids=["faults", "skew"])
def test_hibernating_and_waking_with_each_fault_once(
    place: Place, sleepers: list[Sleeper], director: Director, kinds: tuple[str, ...], at_once: int
) -> None:
    """Several in a run, each at another request. What can be tried again is, and then nothing has
    happened; what is final fails that one hibernation or waking."""
    going, coming = Once(place.proxy, kinds), Once(place.proxy, kinds)

    def wake(sleeper: Sleeper) -> bool:
        """Whether there are faults left for what it has asked."""
        run = Run(sleeper.session, sleeper.generation)
        with director.directs(run, coming):
            result = sleeper.node.effect("restore", sleeper.session, sleeper.generation)
            if result["state"] == "done":
                sleeper.arrives()
        if not any(f in FINAL for _, f in run.faults):
            assert result["state"] == "done", told(run, result)
        if result["state"] == "done":
            sleeper.is_as_it_was()
        else:
            assert not settled(sleeper.session) and sleeper.session.processes() == set()
            assert sleeper.in_store()
            sleeper.wake()
        return coming.any_left(set(run.seen.values()))


    def cycle(sleeper: Sleeper) -> bool:
        run = sleeper.new_run()
        with director.directs(run, going):
            result = sleeper.node.effect("hibernate", sleeper.session, run.generation)
        if not any(f in FINAL for _, f in run.faults):
            assert result["state"] == "done", told(run, result)
            assert sleeper.bucket.strangers(sleeper.session.id) == [], told(run, result)
        left = not sleeper.one_truth(result) and wake(sleeper)
        # Not all may be given at once; where a run has got to the end, it has seen all there is.
        if result["state"] == "done":
            left |= going.any_left(set(run.seen.values()))
        return left or any(name not in going.always for name, _ in run.faults)

    together(sleepers[:at_once], cycle)
    assert going.open({"PUT s/S/NEW/X.mark", "PUT s/S/NEW/X-0", "GET s/S/NEW/X-0",
                       "PUT s/S/NEW/manifest", "GET s/S/NEW/manifest", "DELETE s/S/NEW/X.mark",
                       "LIST the session (1)", "LIST the session (4)"}) == []
    assert coming.open({"LIST the session (1)", "GET s/S/NEW/manifest", "GET s/S/NEW/X-0"}) == []
    # What is asked when a hibernation is taken back.
    going.always["PUT s/S/NEW/manifest"] = "403"
    together(sleepers[:at_once], cycle)
    assert going.open({"DELETE s/S/NEW/X-0", "DELETE s/S/NEW/X.mark"}) == []
    swept(place, sleepers)


# --- faults that stay --------------------------------------------------------------------------------

LASTING = [f for f in FAULTS if f != "skew"]  # a clock that stays wrong is followed


def impatient(place: Place) -> None:
    place.node.stop()
    place.node.config.write_text(place.node.config.read_text().replace("tries=3", "tries=2"))
    place.node.start()


def clean_names(sleeper: Sleeper, director: Director, kind: str) -> list[str]:
    how = Nothing()
    if kind == "hibernate":
        sleeper.generation += 1
    with director.directs(Run(sleeper.session, sleeper.generation), how):
        sleeper.node.done(kind, sleeper.session, sleeper.generation)
        if kind == "restore":
            sleeper.arrives()
    return how.names


def lasting(names: list[str], share: int) -> list[tuple[str, str]]:
    """All kinds at what is written; of the others each gets its share."""
    all_kinds = ("PUT s/S/NEW/X.mark", "PUT s/S/NEW/X-0", "PUT s/S/NEW/manifest")
    pairs = []
    for i, name in enumerate(names):
        few = [LASTING[(i * share + k) % len(LASTING)] for k in range(share)]
        pairs += [(name, fault) for fault in (LASTING if name in all_kinds else few)]
    assert {fault for _, fault in pairs} == set(LASTING)
    return pairs


def test_hibernating_with_faults_that_stay(
    place: Place, sleepers: list[Sleeper], director: Director
) -> None:
    impatient(place)
    names = clean_names(sleepers[0], director, "hibernate")
    sleepers[0].wake()
    left = lasting(names, 3)

    def one(sleeper: Sleeper) -> bool:
        try:
            how = ForGood(*left.pop())
        except IndexError:
            return False
        run = sleeper.new_run()
        with director.directs(run, how):
            result = sleeper.node.effect("hibernate", sleeper.session, run.generation)
        assert not how.hit or run.faults
        # The manifest may have got there, and nothing after it.
        cut_off = "PUT s/S/NEW/manifest" in run.seen.values()
        if not sleeper.one_truth(result, told(run, result), cut_off):
            sleeper.wake()
        return True

    together(sleepers, one)
    swept(place, sleepers)
