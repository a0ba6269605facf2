# SPDX-License-Identifier: Apache-2.0
"""elsad with several nodes: where sessions go, evacuation, draining."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from basekit import wait_for
from elsad_doubles import Jupyter
from elsad_kit import ApiError, Elsad, Json
from elsad_nodes_kit import Cluster, Joined, away, snapshot, two, wait_runs_on, where


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
