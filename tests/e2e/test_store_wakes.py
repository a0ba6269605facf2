# SPDX-License-Identifier: Apache-2.0
"""Sessions that wake from a bucket that does not give what is wanted: they sleep on, or stall and say
so, and go on as they were when the bucket is there again."""

from __future__ import annotations

import os
import shutil

import pytest
from faultproxy import FAULTS
from nodekit import wait_for
from storekit import Director, ForGood, Place, Run, settled
from test_store_faults import (Sleeper, clean_names, director_fixture, impatient, lasting,
                               place_fixture, sleepers_fixture, swept, together, told)

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(300)]
FIXTURES = (director_fixture, place_fixture, sleepers_fixture)  # used by name


def test_waking_with_faults_that_stay(
    place: Place, sleepers: list[Sleeper], director: Director
) -> None:
    """What is wanted before the session runs: it sleeps on, or needs none of it."""
    impatient(place)
    names: list[str] = []
    for sleeper in sleepers:
        clean_names(sleeper, director, "hibernate")
        names = clean_names(sleeper, director, "restore")
        sleeper.session.hibernate(sleeper.new_run().generation)
    left = lasting(names, 3)
    ends = set()

    def one(sleeper: Sleeper) -> bool:
        try:
            how = ForGood(*left.pop())
        except IndexError:
            return False
        run = Run(sleeper.session, sleeper.generation)
        with director.directs(run, how):
            result = sleeper.node.effect("restore", sleeper.session, sleeper.generation)
        ends.add(result["state"])
        if result["state"] == "done":
            sleeper.arrives()
            sleeper.is_as_it_was()
            sleeper.session.hibernate(sleeper.new_run().generation)
        else:
            assert result["text"] and not result["running"], told(run, result)
            assert not settled(sleeper.session) and sleeper.session.processes() == set()
        assert sleeper.in_store()
        return True

    together(sleepers, one)
    assert "failed" in ends
    for sleeper in sleepers:
        sleeper.wake()
    swept(place, sleepers)


# --- memory that comes later -------------------------------------------------------------------------

PAGES = r"every GET .*-\d+$"


@pytest.fixture(name="large", scope="module")
def large_fixture(place: Place) -> Sleeper:
    large = Sleeper(place, mib=24)
    large.session.hibernate(large.new_run().generation)
    return large


@pytest.mark.parametrize("fault", [f for f in FAULTS if f not in ("skew", "etag", "flip-sent")])
def test_a_session_stalls_and_goes_on(place: Place, large: Sleeper, fault: str) -> None:
    """The bucket begins to fail behind the waking, while pages are missing."""
    shutil.rmtree(place.node.dir / "cache", ignore_errors=True)
    place.node.stop()
    place.node.start()
    place.server.latency = 0.1  # so that they are
    large.node.done("restore", large.session, large.generation)
    place.proxy.reset({PAGES: fault})
    status = wait_for(large.arrived_or_stalled, 60)
    assert status["stalled_since"] and status["missing_bytes"] and status["running"], status
    assert status["stalled"], status
    place.proxy.reset()
    place.server.latency = 0
    large.arrives()
    large.is_as_it_was()
    status = place.node.sessions()[large.session.id]
    assert not status["stalled_since"] and not status.get("stalled")
    assert large.in_store()
    large.session.hibernate(large.new_run().generation)
