# SPDX-License-Identifier: Apache-2.0
"""Live migration that goes wrong, as elsad sees it: moves that fail, and nodes that are lost."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from basekit import wait_for
from elsad_nodes_kit import (Cluster, migrate, moved, ready, snapshot, wait_clear, wait_given,
                             wait_runs_on, where)  # fmt: skip


@pytest.fixture
def cluster(tmp_path: Path):
    with Cluster(tmp_path) as cluster:
        yield cluster


def test_it_stays_where_it_is_when_the_target_gives_up(cluster: Cluster):
    home, other, session = ready(cluster)
    other.fail["migrate"] = {"fault": "refused", "text": "another CPU", "remedy": "use the same",
                             "running": False, "kept": True}  # fmt: skip
    done = cluster.elsad.follow(migrate(cluster))
    assert done["state"] == "failed" and "another CPU" in done["error"]["text"]
    shown = cluster.elsad.session()
    assert shown["state"] == "running" and shown["node"] == home.name
    assert "another CPU" in shown["reason"]
    event = cluster.elsad.events(user="ada")[0]
    assert event["what"] == "migrate-failed" and other.name in event["detail"]
    assert cluster.place_of(session) == [home.name]
    wait_clear(cluster)  # nobody can come for it any more
    assert len(home.taken_back) == 1 and not home.ended_departures
    routes = wait_for("routes", lambda: {
        r["address"]: r["via"] for r in cluster.hub.overlays[-1]["routes"]})  # fmt: skip
    assert routes[shown["address"]] == home.overlay
    other.fail.clear()
    moved(cluster)


def test_a_target_that_will_not_hear_of_it(cluster: Cluster):
    home, other, session = ready(cluster)
    other.reject["migrate"] = 400
    done = cluster.elsad.follow(migrate(cluster))
    assert done["state"] == "failed"
    assert cluster.elsad.session()["state"] == "running" and where(cluster) == home.name
    wait_clear(cluster)


def test_it_fails_after_it_was_given_and_is_taken_back(cluster: Cluster):
    home, other, session = ready(cluster)
    other.fails_after_giving = "out of memory"
    done = cluster.elsad.follow(migrate(cluster))
    assert done["state"] == "failed" and "out of memory" in done["error"]["text"]
    shown = wait_runs_on(cluster, home)
    assert shown["generation"] == 1 and cluster.place_of(session) == [home.name]  # a fence's
    assert cluster.elsad.whats()[-3:] == ["migrating", "migrate-failed", "taken-back"]
    assert any(r["kind"] == "stop" for r in other.asked)
    cluster.elsad.follow(cluster.elsad.act("hibernate"))
    assert cluster.elsad.session()["checkpoint"] == 2


@pytest.mark.parametrize("checkpoint", [True, False])
def test_it_fails_and_nobody_has_it(cluster: Cluster, checkpoint: bool):
    home, other, session = ready(cluster, checkpoint=checkpoint)
    other.fails_after_giving = "out of memory"
    other.after_giving = threading.Event()
    operation = migrate(cluster)
    wait_given(home)
    with home.lock:  # it was killed there, too
        home.given.clear()
        home.running.clear()
    other.after_giving.set()
    assert cluster.elsad.follow(operation)["state"] == "failed"
    if not checkpoint:
        assert cluster.elsad.wait_state("lost")["reason"]
        return
    shown = cluster.elsad.wait_state("running")
    assert shown["checkpoint"] == 1 and len(cluster.place_of(session)) == 1


def test_the_target_is_lost_before_it_has_it(cluster: Cluster):
    home, other, session = ready(cluster, checkpoint=True)
    other.before_giving = threading.Event()
    operation = migrate(cluster)
    wait_for("routes", lambda: "moving" and other.overlay in {
        r["via"] for r in cluster.hub.overlays[-1]["routes"]})  # fmt: skip
    other.partition()
    done = cluster.elsad.follow(operation)
    assert done["state"] == "failed" and other.name in done["error"]["text"]
    wait_runs_on(cluster, home)
    assert cluster.place_of(session) == [home.name] and not home.departures
    assert not [r for r in home.asked if r["kind"] == "restore"]
    other.before_giving.set()
    other.heal()
    wait_for("it to be back", lambda: cluster.shown(other.name)["up"])
    cluster.elsad.follow(cluster.elsad.act("hibernate"))
    assert cluster.elsad.session()["state"] == "hibernated"


def test_the_target_is_lost_after_it_has_it(cluster: Cluster):
    home, other, session = ready(cluster, checkpoint=True)
    other.after_giving = threading.Event()
    operation = migrate(cluster)
    wait_given(home)
    other.partition()
    assert cluster.elsad.follow(operation)["state"] == "failed"
    shown = wait_runs_on(cluster, home)
    assert shown["checkpoint"] == 1 and not [r for r in home.asked if r["kind"] == "restore"]
    assert cluster.place_of(session) == [home.name]
    other.after_giving.set()  # it thaws it in the dark, held
    wait_for("it there", lambda: session in other.running)
    other.heal()
    wait_for("it to give way", lambda: session not in other.running)
    assert cluster.place_of(session) == [home.name]


@pytest.mark.parametrize("newer", [False, True])
def test_the_target_is_lost_while_memory_comes(cluster: Cluster, newer: bool):
    home, other, session = ready(cluster, checkpoint=True)
    other.keeps_memory = True
    moved(cluster)
    if newer:  # then the store has more of it than its old node
        snapshot(cluster)
    other.die()
    wait_runs_on(cluster, home)
    restored = [r for r in home.asked if r["kind"] == "restore"]
    assert bool(restored) == newer
    if newer:
        assert restored[0]["generation"] == 2
    wait_clear(cluster)
    assert cluster.place_of(session) == [home.name]


def test_both_are_lost_and_the_old_one_comes_back(cluster: Cluster):
    home, other, session = ready(cluster)
    other.keeps_memory = True
    moved(cluster)
    home.partition()
    other.die()
    assert cluster.elsad.wait_state("lost")
    home.heal()
    wait_runs_on(cluster, home)
    wait_for("it to run", lambda: cluster.place_of(session) == [home.name])
    wait_clear(cluster)


def test_the_source_is_lost_before_it_gives_it(cluster: Cluster):
    home, other, session = ready(cluster, checkpoint=True)
    other.before_giving = threading.Event()
    operation = migrate(cluster)
    wait_for("the question", lambda: "migrate" in [r["kind"] for r in other.asked])
    wait_for("the grant", lambda: home.departures)
    home.die()
    wait_for("it to be lost", lambda: cluster.shown(home.name)["lost"])
    assert cluster.elsad.session()["state"] == "migrating"  # the target has to say
    other.before_giving.set()
    assert cluster.elsad.follow(operation)["state"] == "failed"
    shown = wait_runs_on(cluster, other)
    assert shown["checkpoint"] == 1
    assert [r["kind"] for r in other.asked][-1] == "restore"


def test_the_source_is_lost_after_it_gave_it(cluster: Cluster):
    home, other, session = ready(cluster)
    other.after_giving = threading.Event()
    operation = migrate(cluster)
    wait_given(home)
    home.partition()
    wait_for("it to be lost", lambda: cluster.shown(home.name)["lost"])
    other.after_giving.set()
    assert cluster.elsad.follow(operation)["state"] == "done"
    assert where(cluster) == other.name and cluster.place_of(session) == [other.name]
    home.heal()
    wait_clear(cluster)
    assert cluster.place_of(session) == [other.name]


def test_nobody_can_say_whose_it_is(cluster: Cluster):
    """The source is lost without an answer to the target's question: the target asks no more."""
    home, other, session = ready(cluster, checkpoint=True)
    other.hears_no_answer = True
    operation = migrate(cluster)
    wait_for("the question", lambda: other.asks)
    home.partition()
    assert cluster.elsad.follow(operation)["state"] == "failed"
    other.hears_no_answer = False
    shown = wait_runs_on(cluster, other)
    assert shown["checkpoint"] == 1
    home.heal()
    wait_for("it to give way", lambda: session not in home.running)
    wait_clear(cluster)
    assert cluster.place_of(session) == [other.name]


def test_memory_that_is_lost_with_the_source(cluster: Cluster):
    home, other, session = ready(cluster, checkpoint=True)
    other.keeps_memory = True
    moved(cluster)
    home.die()
    wait_for("it to be lost", lambda: cluster.shown(home.name)["lost"])
    looks = other.grants
    wait_for("looks", lambda: other.grants > looks + 10)
    assert cluster.elsad.session()["state"] == "running"  # it wants nothing of that
    other.stalled.add(session)
    wait_for("the restore", lambda: any(r["kind"] == "restore" for r in other.asked))
    other.arrive(session)
    shown = wait_runs_on(cluster, other)
    assert shown["checkpoint"] == 1 and cluster.place_of(session) == [other.name]
    kinds = [r["kind"] for r in other.asked]
    assert kinds.index("stop") < kinds.index("restore")
    assert any("memory" in (e["detail"] or "") for e in cluster.elsad.events(user="ada"))


@pytest.mark.parametrize("checkpoint", [True, False])
def test_the_target_says_that_memory_is_lost(cluster: Cluster, checkpoint: bool):
    home, other, session = ready(cluster, checkpoint=checkpoint)
    other.keeps_memory = True
    moved(cluster)
    with home.lock:  # its elsa-node was killed there, with all it held
        home.given.clear()
        home.running.clear()
        home.departures.clear()
    other.arrive(session)
    other.exit(session, "memory-lost")
    if not checkpoint:
        assert "memory" in str(cluster.elsad.wait_state("lost")) and not cluster.place_of(session)
        return
    wait_for("the restore", lambda: any(r["kind"] == "restore" for n in (home, other) for r in n.asked))
    assert cluster.elsad.wait_state("running")["checkpoint"] == 1
    assert len(cluster.place_of(session)) == 1


def test_a_source_that_only_cannot_be_reached_keeps_its_memory(cluster: Cluster):
    home, other, session = ready(cluster)
    other.keeps_memory = True
    moved(cluster)
    home.partition()
    wait_for("it to be lost", lambda: cluster.shown(home.name)["lost"])
    other.arrive(session)
    assert cluster.elsad.session()["state"] == "running"
    home.heal()
    wait_clear(cluster)
    assert cluster.place_of(session) == [other.name]
