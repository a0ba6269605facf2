# SPDX-License-Identifier: Apache-2.0
"""elsad with several nodes: nodes that are lost and come back, also in the middle of things."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from basekit import wait_for
from elsad_kit import ApiError, Json, steps
from elsad_nodes_kit import (Cluster, Joined, asleep, away, restores, snapshot, two, wait_runs_on,
                             where)  # fmt: skip


@pytest.fixture
def cluster(tmp_path: Path):
    with Cluster(tmp_path) as cluster:
        yield cluster


def running(cluster: Cluster) -> tuple[Joined, Joined]:
    """ada's session has a checkpoint and runs: the node that has it, and the other one."""
    two(cluster)
    cluster.elsad.run()
    snapshot(cluster)
    return away(cluster)


def test_a_lost_session_in_use_goes_on_elsewhere(cluster: Cluster):
    home, other = running(cluster)
    home.partition()
    session = wait_runs_on(cluster, other)
    assert session["checkpoint"] == 1 and session["generation"] == 2
    whats = cluster.elsad.whats()
    assert whats[-4:] == ["fencing", "fence", "restoring", "restore"]
    assert any(e["what"] == "node-lost" for e in cluster.elsad.events())
    # Numbers go on behind the fence.
    cluster.elsad.follow(cluster.elsad.act("hibernate"))
    assert cluster.elsad.session()["checkpoint"] == 3
    assert cluster.elsad.follow(cluster.elsad.start_session())["state"] == "done"


def test_what_comes_back_gives_way(cluster: Cluster):
    home, other = running(cluster)
    home.partition()
    session = wait_runs_on(cluster, other)["id"]
    assert session in home.held
    home.heal()
    wait_for("it to give way", lambda: session not in home.running)
    wait_for("the event", lambda: "gave-way" in cluster.elsad.whats())
    stop = home.asked[-1]
    assert stop["kind"] == "stop"
    wait_for("the acknowledgement", lambda: stop["id"] in home.acknowledged)
    assert cluster.place_of(session) == [other.name]
    assert cluster.elsad.session()["state"] == "running"
    # It can come back there, and give way once more.
    other.partition()
    wait_runs_on(cluster, home)


def test_without_a_checkpoint_it_is_lost_until_its_node_is_back(cluster: Cluster):
    two(cluster)
    cluster.elsad.run()
    home, other = away(cluster)
    home.partition()
    session = cluster.elsad.wait_state("lost")
    assert home.name in session["reason"] and session["may_return"]
    assert not other.running
    home.heal()
    session = cluster.elsad.wait_state("running")
    assert session["node"] == home.name
    wait_for("it to be let go", lambda: cluster.place_of(session["id"]) == [home.name])
    cluster.elsad.follow(cluster.elsad.act("hibernate"))
    assert cluster.elsad.session()["checkpoint"] == 2  # the fence had 1


def test_a_start_anew_makes_the_lost_one_give_way(cluster: Cluster):
    two(cluster)
    cluster.elsad.run()
    home, other = away(cluster)
    home.partition()
    session = cluster.elsad.wait_state("lost")["id"]
    cluster.elsad.run()
    assert cluster.place_of(session) == [other.name]
    home.heal()
    wait_for("it to give way", lambda: session not in home.running)
    assert cluster.elsad.session()["state"] == "running"


def test_a_sleeper_that_nobody_woke_goes_on_when_its_node_is_back(tmp_path: Path):
    with Cluster(tmp_path, idle={"timeout": "1s", "min_uptime": 0}) as cluster:
        home = cluster.add("n1")
        cluster.elsad.hub.add("ada", **{"": "2020-01-01T00:00:00Z"})
        cluster.elsad.run()
        snapshot(cluster)
        session = cluster.elsad.session()["id"]
        home.partition()
        # No node is left to wake it on.
        wait_for("it to sleep", lambda: cluster.elsad.session()["state"] == "hibernated")
        home.heal()
        assert cluster.elsad.wait_state("running")["node"] == home.name
        wait_for("it to be let go", lambda: cluster.place_of(session) == [home.name])


def test_without_room_it_sleeps_until_there_is(cluster: Cluster):
    home = cluster.add("n1")
    cluster.elsad.run()
    snapshot(cluster)
    home.die()
    session = cluster.elsad.wait_state("hibernated")
    assert session["waking"] and session["checkpoint"] == 1
    wait_for("the reason", lambda: "waiting" in cluster.elsad.whats())
    cluster.elsad.kill()  # the wish is on record
    cluster.elsad.start()
    assert cluster.elsad.session()["waking"]
    other = cluster.add("n2")
    wait_runs_on(cluster, other)


def test_who_has_it_stopped_meanwhile_is_heard(cluster: Cluster):
    home = cluster.add("n1")
    cluster.elsad.run()
    snapshot(cluster)
    home.die()
    cluster.elsad.wait_state("hibernated")
    assert cluster.elsad.follow(cluster.elsad.act("hibernate"))["state"] == "done"
    assert not cluster.elsad.session()["waking"]
    cluster.add("n2")
    cluster.elsad.run("bob")
    assert cluster.elsad.session()["state"] == "hibernated"


def test_not_answering_is_not_lost(cluster: Cluster):
    two(cluster)
    cluster.elsad.run()
    home, other = away(cluster)
    home.stop()  # its API alone: the lease is renewed
    wait_for("it to be down", lambda: not cluster.shown(home.name)["up"])
    grants = home.grants
    wait_for("leases", lambda: home.grants > grants + 25, seconds=20)
    assert cluster.elsad.session()["state"] == "running" and not other.asked
    home.heal()
    wait_for("it to be up", lambda: cluster.shown(home.name)["up"])
    assert cluster.elsad.session()["state"] == "running"


def test_leases_name_what_is_their_own(cluster: Cluster):
    two(cluster)
    cluster.elsad.run()
    home, other = away(cluster)
    session = cluster.elsad.session()["id"]
    wait_for("the grant", lambda: home.own == [session] and other.own == [])
    cluster.elsad.follow(cluster.elsad.act("hibernate"))
    wait_for("the grant", lambda: home.own == [])


def test_an_unknown_node_gets_no_lease(cluster: Cluster):
    node = cluster.add("n1")
    cluster.elsad.post("/v1/nodes/remove", {"node": "n1"})
    grants = node.grants
    with pytest.raises((ApiError, OSError)):
        node.ask_elsad("lease", {"boot_id": "b", "listen": "127.0.0.1:1", "leaving": False},
                       node.context)  # fmt: skip
    assert node.grants == grants


def test_a_node_that_ends_gives_its_lease_back(tmp_path: Path):
    """What is under way for it goes elsewhere long before the lease would have lapsed."""
    with Cluster(tmp_path, lease="120s") as cluster:
        home, other = asleep(cluster)
        home.reject["restore"] = 503  # it begins nothing any more
        cluster.elsad.start_session()
        wait_for("the question", lambda: restores(home))
        assert where(cluster) == home.name
        home.leaving = True
        wait_runs_on(cluster, other)
        shown = cluster.shown(home.name)
        assert shown["leaving"] and shown["lost"] and shown["lease_left_ms"] == 0
        events = [e["what"] for e in cluster.elsad.events()]
        assert events.count("node-leaving") == 1 and "node-lost" not in events
        home.leaving = False
        wait_for("it to be back", lambda: not cluster.shown(home.name)["lost"]
                 and cluster.shown(home.name)["up"])  # fmt: skip
        assert not cluster.shown(home.name)["leaving"]


def test_a_late_word_gives_nothing_back(cluster: Cluster):
    """A process that ended said so, and elsad hears it after the next one has a lease."""
    (node, _) = two(cluster)
    late = {"boot_id": node.boot_id, "leaving": True, "asked_at": 1}
    for change in ({}, {"boot_id": "another", "asked_at": 1 << 60}):
        with pytest.raises(ApiError) as refused:
            node.ask_elsad("lease", {**late, **change}, node.context)
        assert refused.value.status == 409
    assert not cluster.shown("n1")["lost"] and not cluster.shown("n1")["leaving"]


def test_a_node_that_is_removed_with_its_sessions(cluster: Cluster):
    home, other = running(cluster)
    with pytest.raises(ApiError):
        cluster.elsad.post("/v1/nodes/remove", {"node": home.name})
    cluster.elsad.post("/v1/nodes/remove", {"node": home.name, "force": True})
    # What runs there does so until its lease has lapsed, also for the next elsad.
    cluster.elsad.kill()
    cluster.elsad.start()
    assert cluster.elsad.session()["state"] == "running"
    wait_runs_on(cluster, other)


def test_after_its_own_start_all_leases_are_new(cluster: Cluster):
    home, other = running(cluster)
    cluster.elsad.kill()
    home.partition()
    cluster.elsad.start()
    assert cluster.elsad.session()["state"] == "running"
    wait_runs_on(cluster, other)


def test_two_nodes_are_lost_at_once(cluster: Cluster):
    first, second = two(cluster)
    third = cluster.add("n3", memory_bytes=32 << 30, memory_available_bytes=32 << 30)
    users = ["ada", "bob", "eve", "joe"]
    for i, user in enumerate(users):
        cluster.elsad.post(f"/v1/nodes/{'un' * (i % 2 == 0)}drain", {"node": "n1"})
        cluster.elsad.post(f"/v1/nodes/{'un' * (i % 2 == 1)}drain", {"node": "n2"})
        cluster.elsad.run(user)
        if where(cluster, user) != third.name:
            snapshot(cluster, user)
    for name in ("n1", "n2"):
        cluster.elsad.post("/v1/nodes/undrain", {"node": name})
    first.partition()
    second.die()
    for user in users:
        wait_runs_on(cluster, third, user)


def test_a_fence_that_fails_is_asked_elsewhere(cluster: Cluster):
    home, other = running(cluster)
    cluster.hub.fail["fence"] = {"fault": "unavailable", "text": "no store here"}
    home.partition()
    wait_runs_on(cluster, other)
    assert [r["kind"] for r in other.asked][-2:] == ["fence", "restore"]


def test_who_fences_is_lost_too(cluster: Cluster):
    first, second = two(cluster)
    third = cluster.add("n3", memory_bytes=64 << 30, memory_available_bytes=64 << 30)
    cluster.elsad.run()
    snapshot(cluster)
    home = cluster.joined[where(cluster)]
    cluster.hub.stop()  # the hub's own node can do nothing now
    never = threading.Event()
    fencers = [n for n in (first, second, third) if n is not home]
    fencers[0].hold["fence"] = never
    home.partition()
    wait_for("the question", lambda: any(r["kind"] == "fence" for r in fencers[0].asked))
    fencers[0].partition()
    cluster.hub.start()
    wait_runs_on(cluster, fencers[1])
    never.set()


# --- in the middle of things -----------------------------------------------------------------------


def begin(cluster: Cluster, kind: str) -> tuple[Joined, Joined, Json]:
    """The node of ada is lost in the middle of `kind`."""
    first, second = two(cluster)
    if kind == "start":
        held = threading.Event()
        first.hold["start"] = second.hold["start"] = held
        operation = cluster.elsad.start_session()
        home, other = away(cluster)
        wait_for("the question", lambda: home.asked)
        other.hold.clear()
        home.partition()
        return home, other, operation
    cluster.elsad.run()
    snapshot(cluster)
    if kind == "restore":
        cluster.elsad.follow(cluster.elsad.act("hibernate"))
    home, other = away(cluster)
    home.hold[kind] = threading.Event()
    ask = {"restore": cluster.elsad.start_session}.get(kind, lambda: cluster.elsad.act(kind))
    operation = ask()
    wait_for("the question", lambda: any(r["kind"] == kind for r in home.asked[1:]))
    home.partition()
    return home, other, operation


@pytest.mark.parametrize("kind", ["start", "restore", "snapshot"])
def test_lost_in_the_middle_goes_on_elsewhere(cluster: Cluster, kind: str):
    home, other, operation = begin(cluster, kind)
    session = wait_runs_on(cluster, other)
    # Who waited for it finds that something newer took its place.
    assert cluster.elsad.follow(operation)["superseded"]
    home.hold.clear()
    home.heal()
    wait_for("nothing there", lambda: session["id"] not in home.running, seconds=15)
    assert cluster.place_of(session["id"]) == [other.name]


def test_lost_in_the_middle_of_a_hibernation(cluster: Cluster):
    home, other, _ = begin(cluster, "hibernate")
    session = cluster.elsad.wait_state("hibernated")
    assert session["checkpoint"] == 1 and session["generation"] == 2 and not session["waking"]
    assert not other.running
    assert cluster.elsad.follow(cluster.elsad.start_session())["state"] == "done"
    assert where(cluster) == other.name


def test_a_hibernation_that_came_before_the_fence_counts(cluster: Cluster):
    home, other, _ = begin(cluster, "hibernate")
    home.hold["hibernate"].set()  # committed, and nobody heard of it
    session = cluster.elsad.session()["id"]
    wait_for("the commit", lambda: (session, 2) in cluster.hub.checkpoints)
    assert cluster.elsad.wait_state("hibernated")["checkpoint"] == 2
    shown = wait_for("the row", lambda: [
        c for c in cluster.elsad.session()["checkpoints"]
        if c["generation"] == 2 and c["stored_bytes"] == 4000])  # fmt: skip
    assert not shown[0]["aside"]
    assert cluster.elsad.follow(cluster.elsad.start_session())["state"] == "done"


def test_lost_in_the_middle_of_a_stop(cluster: Cluster):
    home, other, _ = begin(cluster, "stop")
    session = cluster.elsad.wait_state("stopped")
    assert not session["checkpoint_usable"]
    home.hold.clear()
    home.heal()
    wait_for("it to give way", lambda: session["id"] not in home.running)
    assert cluster.elsad.session()["state"] == "stopped"
    cluster.elsad.run()


def test_lost_in_the_middle_of_a_forget(cluster: Cluster):
    home, other, _ = begin(cluster, "forget")
    session = home.asked[0]["session"]["id"]

    def gone() -> bool:
        try:
            cluster.elsad.session()
        except ApiError as error:
            return error.status == 404
        return False

    wait_for("it to be forgotten", gone)
    assert not [k for k in cluster.hub.checkpoints if k[0] == session]
    asked, held = len(home.asked), home.hold.pop("forget")
    home.heal()
    wait_for("it to be told", lambda: len(home.asked) > asked)
    held.set()
    wait_for("it to give way", lambda: session not in home.running)


def killed_at(cluster: Cluster, step: str, lost: Joined) -> None:
    """elsad dies there on account of a node that is lost, and is started again."""
    cluster.elsad.end()
    cluster.elsad.start("--fault", step)
    lost.partition()
    assert cluster.elsad.wait_dead() == -9
    cluster.elsad.start()


FENCE_STEPS = [step for step in steps() if step.startswith("fence.")]


@pytest.mark.parametrize("step", FENCE_STEPS)
def test_elsad_dies_at_each_step_of_a_fence(cluster: Cluster, step: str):
    home, other = running(cluster)
    killed_at(cluster, step, home)
    session = wait_runs_on(cluster, other)
    home.heal()
    wait_for("it to give way", lambda: session["id"] not in home.running)
    cluster.elsad.follow(cluster.elsad.act("hibernate"))
    assert cluster.elsad.session()["state"] == "hibernated"


@pytest.mark.parametrize("step", [s for s in steps() if s.startswith("restore.")])
def test_elsad_dies_at_each_step_of_a_restore_elsewhere(cluster: Cluster, step: str):
    home, other = running(cluster)
    killed_at(cluster, step, home)
    wait_runs_on(cluster, other)


def test_the_target_dies_during_the_restore(cluster: Cluster):
    first, second = two(cluster)
    third = cluster.add("n3", memory_bytes=64 << 30, memory_available_bytes=64 << 30)
    cluster.elsad.run()
    snapshot(cluster)
    home = cluster.joined[where(cluster)]
    others = [n for n in (first, second, third) if n is not home]
    for node in others:
        node.hold["restore"] = threading.Event()
    home.die()
    target = wait_for("a restore", lambda: next(
        (n for n in others if any(r["kind"] == "restore" for r in n.asked)), None))  # fmt: skip
    last = next(n for n in others if n is not target)
    last.hold.clear()
    target.partition()
    wait_runs_on(cluster, last)
