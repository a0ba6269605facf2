# SPDX-License-Identifier: Apache-2.0
"""elsad and the sessions in use that a node which goes away leaves to it, to be moved while they run. The
nodes are doubles (elsad_move_kit.py)."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from basekit import wait_for
from elsad_nodes_kit import (Cluster, Joined, ready, wait_asked, wait_clear, wait_given, wait_runs_on,
                             where)  # fmt: skip
from test_elsad_nodes import EVICT


@pytest.fixture
def cluster(tmp_path: Path):
    with Cluster(tmp_path) as cluster:
        yield cluster


def doom(node: Joined, *sessions: str, to_move: bool = True) -> None:
    """Its notice, and what it says of its sessions."""
    node.notices = [EVICT]
    node.evacuation = {
        "notice": EVICT, "begun_at": 5, "margin_ms": 0,
        "sessions": [{"session": s, "state": "waiting", "to_move": to_move} for s in sessions],
    }  # fmt: skip


def settled(node: Joined) -> None:
    looks = node.grants
    wait_for("looks", lambda: node.grants > looks + 10)


def test_it_moves(cluster: Cluster):
    home, other, session = ready(cluster)
    doom(home, session)
    wait_runs_on(cluster, other)
    assert cluster.place_of(session) == [other.name] and cluster.elsad.session()["checkpoint"] == 0
    wait_clear(cluster)
    event = next(e for e in cluster.elsad.events() if e["what"] == "migrating")
    assert event["who"] == "evacuation" and home.name in event["why"]


def test_only_what_the_node_leaves_to_it(cluster: Cluster):
    home, other, session = ready(cluster)
    doom(home, session, to_move=False)
    settled(home)
    assert where(cluster) == home.name and not other.asked


def test_so_many_at_once(tmp_path: Path):
    with Cluster(tmp_path, move={"concurrency": 1}) as cluster:
        home = cluster.add("n1")
        users = ["ada", "bob", "eve"]
        ids = [cluster.elsad.run(user)["id"] for user in users]
        other = cluster.add("n2")
        other.hold["migrate"] = threading.Event()
        doom(home, *ids)
        wait_asked(other, "migrate")
        settled(home)
        assert sorted(cluster.elsad.session(u)["state"] for u in users) == ["migrating", "running", "running"]
        other.hold["migrate"].set()
        for user in users:
            wait_runs_on(cluster, other, user)
        wait_clear(cluster)


def test_no_node_takes_it(cluster: Cluster):
    """It is put away, and goes on when there is one."""
    home, other, session = ready(cluster)
    cluster.elsad.post("/v1/nodes/drain", {"node": other.name})
    doom(home, session)
    settled(home)
    assert where(cluster) == home.name and not other.asked
    generation = home.evacuate(session)
    cluster.elsad.post("/v1/nodes/undrain", {"node": other.name})
    assert wait_runs_on(cluster, other)["checkpoint"] == generation


def test_one_that_fails_is_not_tried_again(cluster: Cluster):
    home, other, session = ready(cluster)
    other.fail["migrate"] = {"fault": "refused", "text": "no", "running": False, "kept": True}
    doom(home, session)
    wait_for("it to fail", lambda: "migrate-failed" in cluster.elsad.whats())
    settled(home)
    assert [r["kind"] for r in other.asked] == ["migrate"]
    assert cluster.place_of(session) == [home.name]
    home.evacuate(session)
    wait_runs_on(cluster, other)


def test_put_away_while_it_was_to_move(cluster: Cluster):
    """Its node called the move off: the effect comes to nothing, and then the news counts."""
    home, other, session = ready(cluster)
    other.hold["migrate"] = threading.Event()
    doom(home, session)
    wait_asked(other, "migrate")
    home.departures.clear()
    generation = home.evacuate(session)
    settled(home)
    assert cluster.elsad.session()["state"] == "migrating"
    other.hold["migrate"].set()
    assert wait_runs_on(cluster, other)["checkpoint"] == generation
    assert cluster.place_of(session) == [other.name]


def test_its_machine_ends_before_its_memory_is_there(cluster: Cluster):
    home, other, session = ready(cluster, checkpoint=True)
    other.keeps_memory = True
    other.after_giving = threading.Event()
    doom(home, session)
    wait_given(home)
    other.after_giving.set()
    wait_runs_on(cluster, other)
    home.die()
    other.stalled.add(session)
    wait_for("its checkpoint to run", lambda: any(
        r["kind"] == "restore" for n in cluster.joined.values() for r in n.asked))  # fmt: skip
    cluster.elsad.wait_state("running")
    assert len(cluster.place_of(session)) == 1


@pytest.mark.parametrize("step", ["migrate.recorded", "migrate.granted", "migrate.asked", "migrate.done"])
def test_elsad_dies_at(cluster: Cluster, step: str):
    home, other, session = ready(cluster)
    cluster.elsad.end()
    cluster.elsad.start("--fault", step)
    wait_for("the nodes", lambda: all(cluster.shown(n)["up"] for n in cluster.joined))
    doom(home, session)
    assert cluster.elsad.wait_dead() == -9
    cluster.elsad.start()
    wait_runs_on(cluster, other)
    assert cluster.place_of(session) == [other.name]
    wait_clear(cluster)
