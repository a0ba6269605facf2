# SPDX-License-Identifier: Apache-2.0
"""elsa-node is killed at each request of a hibernation and of a waking: the session runs, or is whole
in the store."""

from __future__ import annotations

import contextlib
import http.client
import os
from collections.abc import Iterator

import pytest
from storekit import Director, Place, Run, s3_place, settled
from test_store_faults import Sleeper, clean_names, swept
from nodekit import Refused

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(300)]


class KillAt:
    """At a request, which the server gets (`done`) or does not."""

    def __init__(self, place: Place, name: str, done: bool):
        self.node, self.at, self.done = place.node, name, done
        self.hit = False

    def choose(self, run: Run, line: str, head: http.client.HTTPMessage) -> str | None:
        name, _ = run.name(line, head)
        if self.hit or name != self.at:
            return None
        self.hit = True
        self.node.process.kill()
        return "drop-after" if self.done else "drop"


@pytest.fixture(name="place", scope="module")
def place_fixture() -> Iterator[Place]:
    with s3_place() as place:
        place.start(more="keep = 1")
        yield place


@pytest.fixture(name="sleeper", scope="module")
def sleeper_fixture(place: Place) -> Sleeper:
    sleeper = Sleeper(place)
    sleeper.session.hibernate(sleeper.new_run().generation)
    sleeper.wake()
    return sleeper


def killed(place: Place, sleeper: Sleeper, director: Director, kind: str, how: KillAt) -> bool:
    """And started again; whether it came to that."""
    with director.directs(Run(sleeper.session, sleeper.generation), how):
        with contextlib.suppress(OSError, http.client.HTTPException, Refused):
            place.node.effect(kind, sleeper.session, sleeper.generation)
            if kind == "restore":
                sleeper.arrives()
    if how.hit:
        assert place.node.died() == -9
        place.node.start()
    return how.hit


def test_killed_at_each_request_of_a_hibernation(place: Place, sleeper: Sleeper) -> None:
    director = Director(place.proxy)
    names = clean_names(sleeper, director, "hibernate")
    sleeper.wake()
    assert {"PUT s/S/NEW/X-0", "PUT s/S/NEW/manifest", "DELETE s/S/NEW/X.mark"} <= set(names)
    for i, name in enumerate(names):
        for done in ([False, True] if name == "PUT s/S/NEW/manifest" else [i % 2 == 1]):
            sleeper.generation += 1
            if not killed(place, sleeper, director, "hibernate", KillAt(place, name, done)):
                assert name.startswith(("LIST", "GET", "DELETE", "PUT s/S/sweep")), name
            if not sleeper.one_truth({"running": False, "state": "killed"}, name):
                sleeper.wake()
    swept(place, [sleeper])


def test_killed_at_each_request_of_a_waking(place: Place, sleeper: Sleeper) -> None:
    director = Director(place.proxy)
    clean_names(sleeper, director, "hibernate")
    names = clean_names(sleeper, director, "restore")
    sleeper.session.hibernate(sleeper.new_run().generation)
    for i, name in enumerate(names):
        killed(place, sleeper, director, "restore", KillAt(place, name, i % 2 == 1))
        if settled(sleeper.session):
            sleeper.arrives()
            sleeper.is_as_it_was()
            sleeper.session.hibernate(sleeper.new_run().generation)
        else:
            assert sleeper.session.processes() == set()
        assert sleeper.in_store()
    sleeper.wake()
    swept(place, [sleeper])
