# SPDX-License-Identifier: Apache-2.0
"""elsad with several nodes: where sessions go, nodes that are lost and come back, draining."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from basekit import wait_for
from elsad_kit import ApiError, Elsad, Json, Jupyter, steps
from elsad_nodes_kit import (Cluster, Joined, asleep, away, restores, snapshot, two, wait_runs_on,
                             where)  # fmt: skip


@pytest.fixture
def cluster(tmp_path: Path):
    with Cluster(tmp_path) as cluster:
        yield cluster


def refusal(cluster: Cluster, user: str = "ada", **more) -> Json:
    """Why a start is refused, at once or when all nodes have said what they have."""
    try:
        done = cluster.elsad.follow(cluster.elsad.start_session(user, **more))
    except ApiError as refused:
        return refused.error
    assert done["state"] == "failed"
    return done["error"]


# --- one machine -----------------------------------------------------------------------------------


def test_the_record_of_one_node_becomes_one_of_several(tmp_path: Path):
    with Elsad(tmp_path) as elsad:
        elsad.start()
        elsad.run()
        elsad.end()
        db = sqlite3.connect(tmp_path / "elsad.db")
        with db:
            db.execute("DELETE FROM facts WHERE key LIKE 'node.%'")
            db.execute("INSERT INTO facts VALUES ('node.name', 'older'), ('node.boot_id', 'boot-1')")
            db.execute("UPDATE sessions SET node = 'oldest'")
        db.close()
        elsad.start()
        wait_for("the node", lambda: elsad.get("/v1/health")["node"] == "up")
        wait_for("its name", lambda: elsad.session()["node"] == "node1")
        assert elsad.session()["state"] == "running"
        elsad.node.reboot()
        elsad.wait_state("lost")


# --- placement -------------------------------------------------------------------------------------


def test_a_session_goes_where_there_is_room(cluster: Cluster):
    cluster.add("small", memory_bytes=1 << 30, memory_available_bytes=1 << 30)
    big = cluster.add("big")
    cluster.elsad.run(memory_bytes=4 << 30)
    assert where(cluster) == "big" and cluster.place_of(cluster.elsad.session()["id"]) == ["big"]
    cluster.elsad.run("bob", memory_bytes=512 << 20)
    assert where(cluster, "bob") == "small"
    assert big.asked[0]["session"]["limits"]["memory_bytes"] == 4 << 30


@pytest.mark.parametrize("prefer, node", [("none", "n1"), ("spot", "n2"), ("on-demand", "n3")])
def test_the_price_that_is_preferred(tmp_path: Path, prefer: str, node: str):
    with Cluster(tmp_path, nodes={"prefer": prefer}) as cluster:
        for n, price in enumerate(({}, {"price": "spot"}, {"price": "on-demand"}), 1):
            size = (4 + n) << 30
            cluster.add(f"n{n}", memory_bytes=size, memory_available_bytes=size, **price)
        assert cluster.elsad.run()["node"] == node


def test_it_wakes_in_its_zone(cluster: Cluster):
    for n, zone in enumerate(("z1", "z2", "z1"), 1):
        size = (4 + n) << 30
        cluster.add(f"n{n}", zone=zone, memory_bytes=size, memory_available_bytes=size)
    assert cluster.elsad.run()["node"] == "n1"
    cluster.elsad.follow(cluster.elsad.act("hibernate"))
    cluster.elsad.post("/v1/nodes/drain", {"node": "n1"})
    cluster.elsad.start_session()
    wait_runs_on(cluster, cluster.joined["n3"])


def test_no_room_anywhere_is_said_with_reasons(cluster: Cluster):
    two(cluster)
    cluster.elsad.post("/v1/nodes/drain", {"node": "n2"})
    error = refusal(cluster, memory_bytes=64 << 30)
    assert error["fault"] == "full"
    assert "n1" in error["text"] and "n2" in error["text"] and "draining" in error["text"]
    assert "elsa node" in error["remedy"]
    with pytest.raises(ApiError):
        cluster.elsad.session()


def test_a_start_waits_for_a_machine(tmp_path: Path):
    config = {"capacity": {"provider": "command", "command": ["/bin/true"], "pools": ["p"],
                           "start_timeout": "20s"}}  # fmt: skip
    with Cluster(tmp_path, **config) as cluster:
        operation = cluster.elsad.start_session()
        assert operation["state"] == "running" and operation["step"] == "waiting for a machine"
        assert cluster.elsad.start_session()["id"] == operation["id"]
        node = cluster.add("n1")
        assert cluster.elsad.follow(operation)["state"] == "done"
        assert cluster.elsad.session()["node"] == node.name


def test_a_start_does_not_wait_for_ever(tmp_path: Path):
    config = {"capacity": {"provider": "command", "command": ["/bin/true"], "pools": ["p"],
                           "start_timeout": "1s"}}  # fmt: skip
    with Cluster(tmp_path, **config) as cluster:
        done = cluster.elsad.follow(cluster.elsad.start_session())
        assert done["state"] == "failed" and done["error"]["fault"] == "full"
        with pytest.raises(ApiError):
            cluster.elsad.session()


def test_what_waits_can_be_given_up(tmp_path: Path):
    config = {"capacity": {"provider": "command", "command": ["/bin/true"], "pools": ["p"],
                           "start_timeout": "60s"}}  # fmt: skip
    with Cluster(tmp_path, **config) as cluster:
        cluster.elsad.start_session()
        cluster.elsad.act("stop")
        cluster.add("n1")
        cluster.elsad.run("bob")
        assert cluster.elsad.session()["state"] == "stopped"


def test_a_checkpoint_is_woken_where_its_features_are(cluster: Cluster):
    new = cluster.add("new", features="x86_64 sse2 avx512f")
    cluster.elsad.run()
    session = cluster.elsad.session()["id"]
    cluster.elsad.follow(cluster.elsad.act("hibernate"))
    cluster.hub.checkpoints[session, 1]["cpu"] = "x86_64 sse2 avx512f"
    cluster.elsad.kill()
    cluster.elsad.start()
    old = cluster.add("old", memory_bytes=1 << 30, memory_available_bytes=1 << 30)
    wait_for("new", lambda: cluster.shown("new")["up"])
    cluster.elsad.post("/v1/nodes/drain", {"node": "new"})
    assert "avx512f" in refusal(cluster)["text"]
    cluster.elsad.post("/v1/nodes/undrain", {"node": "new"})
    assert cluster.elsad.follow(cluster.elsad.start_session())["state"] == "done"
    assert where(cluster) == "new" and not old.asked and new.asked


def test_an_image_must_be_there(cluster: Cluster):
    has, lacks = two(cluster)
    lacks.images = []
    cluster.elsad.run(image="/images/one")
    assert where(cluster) == has.name
    assert "image" in refusal(cluster, "bob", image="/images/none")["text"]


def test_a_doomed_node_gets_nothing(cluster: Cluster):
    doomed, other = two(cluster)
    cluster.elsad.run()
    doomed, other = away(cluster)
    doomed.notices = [{"id": "1", "kind": "evict", "source": "drill", "at": 0, "seen_at": 1}]
    grants = doomed.grants
    wait_for("a lease", lambda: doomed.grants > grants + 1)
    for user in ("bob", "eve"):
        cluster.elsad.run(user)
        assert where(cluster, user) == other.name


def test_a_sleeper_wakes_where_it_was(cluster: Cluster):
    two(cluster)
    cluster.elsad.run()
    home, _ = away(cluster)
    cluster.elsad.follow(cluster.elsad.act("hibernate"))
    cluster.elsad.run()
    assert where(cluster) == home.name


def test_the_route_is_there_first(cluster: Cluster):
    home = cluster.add("n1")
    cluster.hub.overlay_status = 503
    operation = cluster.elsad.start_session()
    wait_for("the routes", lambda: len(cluster.hub.overlays) > 2)
    assert not home.asked
    cluster.hub.overlay_status = 200
    assert cluster.elsad.follow(operation)["state"] == "done"
    session = cluster.elsad.session()
    routes = {r["address"]: r["via"] for r in cluster.hub.overlays[-1]["routes"]}
    assert routes == {session["address"]: home.overlay}
    theirs = {r["address"] for r in home.overlays[-1]["routes"]}
    assert session["address"] not in theirs and "10.99.0.1" in theirs
    assert [p["name"] for p in home.overlays[-1]["peers"]] == ["node1"]
    cluster.elsad.follow(cluster.elsad.act("hibernate"))
    wait_for("no route", lambda: not cluster.hub.overlays[-1].get("routes"))


# --- a node is lost --------------------------------------------------------------------------------


def test_a_lost_session_in_use_goes_on_elsewhere(cluster: Cluster):
    two(cluster)
    cluster.elsad.run()
    snapshot(cluster)
    home, other = away(cluster)
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
    two(cluster)
    cluster.elsad.run()
    snapshot(cluster)
    home, other = away(cluster)
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
    two(cluster)
    cluster.elsad.run()
    snapshot(cluster)
    home, other = away(cluster)
    with pytest.raises(ApiError):
        cluster.elsad.post("/v1/nodes/remove", {"node": home.name})
    cluster.elsad.post("/v1/nodes/remove", {"node": home.name, "force": True})
    # What runs there does so until its lease has lapsed, also for the next elsad.
    cluster.elsad.kill()
    cluster.elsad.start()
    assert cluster.elsad.session()["state"] == "running"
    wait_runs_on(cluster, other)


def test_after_its_own_start_all_leases_are_new(cluster: Cluster):
    two(cluster)
    cluster.elsad.run()
    snapshot(cluster)
    home, other = away(cluster)
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
    two(cluster)
    cluster.elsad.run()
    snapshot(cluster)
    home, other = away(cluster)
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
    with pytest.raises(ApiError) as gone:
        cluster.elsad.follow(operation)
    assert gone.value.status == 404
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
    home.hold.clear()
    home.heal()
    wait_for("it to give way", lambda: session not in home.running)


FENCE_STEPS = [step for step in steps() if step.startswith("fence.")]


@pytest.mark.parametrize("step", FENCE_STEPS)
def test_elsad_dies_at_each_step_of_a_fence(cluster: Cluster, step: str):
    two(cluster)
    cluster.elsad.run()
    snapshot(cluster)
    home, other = away(cluster)
    cluster.elsad.end()
    cluster.elsad.start("--fault", step)
    home.partition()
    assert cluster.elsad.wait_dead() == -9
    cluster.elsad.start()
    session = wait_runs_on(cluster, other)
    home.heal()
    wait_for("it to give way", lambda: session["id"] not in home.running)
    cluster.elsad.follow(cluster.elsad.act("hibernate"))
    assert cluster.elsad.session()["state"] == "hibernated"


@pytest.mark.parametrize("step", [s for s in steps() if s.startswith("restore.")])
def test_elsad_dies_at_each_step_of_a_restore_elsewhere(cluster: Cluster, step: str):
    two(cluster)
    cluster.elsad.run()
    snapshot(cluster)
    home, other = away(cluster)
    cluster.elsad.end()
    cluster.elsad.start("--fault", step)
    home.partition()
    assert cluster.elsad.wait_dead() == -9
    cluster.elsad.start()
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


# --- evacuation ------------------------------------------------------------------------------------


def test_an_evacuated_session_in_use_goes_on_elsewhere(cluster: Cluster):
    two(cluster)
    cluster.elsad.run()
    home, other = away(cluster)
    session = cluster.elsad.session()["id"]
    home.notices = [{"id": "1", "kind": "evict", "source": "drill", "at": 0, "seen_at": 1}]
    generation = home.evacuate(session)
    shown = wait_runs_on(cluster, other)
    assert shown["checkpoint"] == generation
    assert "evacuated" in cluster.elsad.whats()
    wait_for("the acknowledgement",
             lambda: f"evac-{session}-{generation}" in home.acknowledged)  # fmt: skip


def test_elsad_was_down_for_the_whole_of_it(cluster: Cluster):
    two(cluster)
    cluster.elsad.run()
    home, other = away(cluster)
    session = cluster.elsad.session()["id"]
    cluster.elsad.kill()
    home.evacuate(session)
    home.die()
    cluster.elsad.start()
    assert wait_runs_on(cluster, other)["checkpoint"] == 1


def test_an_evacuated_session_that_nobody_uses_sleeps(tmp_path: Path):
    config = {"idle": {"timeout": "1s", "interval": "1d"}, "hub": {"poll": "1s"}}
    with Cluster(tmp_path, **config) as cluster:
        two(cluster)
        stopped: list[str] = []
        cluster.elsad.hub.add("ada", **{"": "2020-01-01T00:00:00Z"})
        cluster.elsad.hub.on_stop = lambda user, server: stopped.append(user) or 204
        cluster.elsad.run()
        home, other = away(cluster)
        session = cluster.elsad.session()
        pages, grants = cluster.elsad.hub.pages, home.grants
        wait_for("the Hub's word", lambda: cluster.elsad.hub.pages > pages + 2)
        wait_for("a while", lambda: home.grants > grants + 15)
        home.evacuate(session["id"])
        cluster.elsad.wait_state("hibernated")
        wait_for("the Hub to be told", lambda: stopped == ["ada"])
        assert not cluster.elsad.session()["waking"] and not other.running


def test_a_server_that_falls_silent_is_not_in_use_for_that(tmp_path: Path):
    """While it is put away it cannot be asked: what it said before counts."""
    config = {"idle": {"timeout": "1s", "interval": "1d", "min_uptime": 0, "dry_run": True}}
    with Cluster(tmp_path, **config) as cluster:
        two(cluster)
        cluster.elsad.hub.add("ada", **{"": "2020-01-01T00:00:00Z"})
        session = cluster.elsad.run(env={"JUPYTERHUB_SERVICE_PREFIX": "/user/ada/"})
        server = Jupyter(session["address"], session["port"], "/user/ada/", "token-ada")
        server.kernels.append({"id": "k", "execution_state": "idle",
                               "last_activity": "2020-01-01T00:00:00Z"})

        def reason() -> str:
            return cluster.elsad.post("/v1/policy/run", {})["decisions"][0]["reason"]

        server.start()
        try:
            home, other = away(cluster)
            wait_for("its word", lambda: reason() == "timeout")
        finally:
            server.stop()
        wait_for("questions in vain", lambda: reason() == "unknown")
        home.evacuate(session["id"])
        cluster.elsad.wait_state("hibernated")
        assert not cluster.elsad.session()["waking"] and not other.running


EVICT = {"id": "1", "kind": "evict", "source": "drill", "at": 1795981736805, "seen_at": 1}


def refuse(node: Joined, session: str) -> None:
    """It goes away, and CRIU does not take the session."""
    node.notices = [EVICT]
    node.evacuation = {
        "notice": EVICT, "begun_at": 5, "ended_at": 6, "margin_ms": 0,
        "sessions": [{"session": session, "state": "failed", "why": "odd socket", "snapshot_at": 7}],
    }  # fmt: skip


def left(cluster: Cluster) -> Json | None:
    return cluster.elsad.session()["left_behind"]


def test_who_cannot_be_saved_is_noted_until_it_is_saved(cluster: Cluster):
    two(cluster)
    session = cluster.elsad.run()["id"]
    home, other = away(cluster)
    refuse(home, session)
    noted = wait_for("the note", lambda: left(cluster))
    assert noted == {"node": home.name, "at": EVICT["at"], "why": "odd socket", "snapshot_at": 7}
    # On record: elsad may be killed, and the machine goes.
    cluster.elsad.kill()
    home.die()
    cluster.elsad.start()
    lost = cluster.elsad.wait_state("lost")
    assert lost["left_behind"] == noted
    assert cluster.elsad.follow(cluster.elsad.start_session())["state"] == "done"
    wait_runs_on(cluster, other)
    assert left(cluster) == noted
    snapshot(cluster)
    assert left(cluster) is None


def test_a_note_is_taken_back_with_the_notice(cluster: Cluster):
    two(cluster)
    session = cluster.elsad.run()["id"]
    home, _ = away(cluster)
    refuse(home, session)
    wait_for("the note", lambda: left(cluster))
    wait_for("the event", lambda: any(
        e["what"] == "left-behind" for e in cluster.elsad.events()))  # fmt: skip
    assert "cannot be saved" in cluster.elsad.session()["note"]
    home.notices = []
    wait_for("none", lambda: left(cluster) is None and cluster.elsad.session()["note"] is None)


def test_who_is_turned_away_goes_elsewhere(cluster: Cluster):
    two(cluster)
    cluster.elsad.run()
    home, other = away(cluster)
    cluster.elsad.follow(cluster.elsad.act("hibernate"))
    # Its machine goes away, of which elsad hears only after it has chosen it.
    home.reject["restore"] = 503
    cluster.elsad.start_session()
    wait_for("the question", lambda: home.asked[-1]["kind"] == "restore")
    assert cluster.elsad.session()["node"] == home.name
    home.notices = [{"id": "1", "kind": "evict", "source": "drill", "at": 0, "seen_at": 1}]
    session = wait_runs_on(cluster, other)
    assert session["checkpoint"] == 1 and session["generation"] == 2


# --- draining --------------------------------------------------------------------------------------


def test_a_drained_node_is_left(cluster: Cluster):
    users = ["ada", "bob", "eve"]
    cluster.add("n1")
    for user in users:
        cluster.elsad.run(user)
    other = cluster.add("n2")
    cluster.elsad.post("/v1/nodes/drain", {"node": "n1"})
    for user in users:
        wait_runs_on(cluster, other, user)
    wait_for("the event", lambda: any(e["what"] == "node-drained" for e in cluster.elsad.events()))
    assert cluster.shown("n1")["sessions"] == 0
    cluster.elsad.post("/v1/nodes/remove", {"node": "n1"})


def test_elsad_dies_while_a_node_is_drained(cluster: Cluster):
    home = cluster.add("n1", move_port=0)
    cluster.elsad.run()
    other = cluster.add("n2")
    home.hold["hibernate"] = threading.Event()
    cluster.elsad.post("/v1/nodes/drain", {"node": "n1"})
    cluster.elsad.wait_state("checkpointing")
    cluster.elsad.kill()
    home.hold["hibernate"].set()
    cluster.elsad.start()
    wait_runs_on(cluster, other)


def test_what_cannot_be_hibernated_stays_on_a_drained_node(cluster: Cluster):
    home = cluster.add("n1", move_port=0)
    cluster.elsad.run()
    cluster.add("n2")
    home.fail["hibernate"] = {"fault": "refused", "text": "CRIU says no", "running": True}
    cluster.elsad.post("/v1/nodes/drain", {"node": "n1"})
    wait_for("the refusal", lambda: "refused" in cluster.elsad.whats())
    session = cluster.elsad.session()
    assert session["state"] == "running" and "CRIU says no" in session["reason"]
    assert len([r for r in home.asked if r["kind"] == "hibernate"]) == 1
