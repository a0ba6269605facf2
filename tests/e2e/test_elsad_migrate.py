# SPDX-License-Identifier: Apache-2.0
"""elsad and live migration: where to, what the nodes are told, and what becomes of a session when elsad
is gone at any point of it. The nodes are doubles (elsad_move_kit.py)."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from basekit import wait_for
from elsad_kit import ApiError, Json, steps
from elsad_nodes_kit import (Cluster, Joined, migrate, moved, ready, wait_asked, wait_clear,
                             wait_given, wait_runs_on, where)  # fmt: skip


@pytest.fixture
def cluster(tmp_path: Path):
    with Cluster(tmp_path) as cluster:
        yield cluster


def begin(cluster: Cluster, user: str = "ada", **more) -> Json:
    """It is under way when this returns."""
    operation = migrate(cluster, user, **more)
    cluster.elsad.wait_state("migrating", user)
    return operation


def answer(cluster: Cluster, **more) -> Json:
    """Why it is not done, at once or when the nodes have said what they have."""
    try:
        done = cluster.elsad.follow(migrate(cluster, **more))
    except ApiError as refused:
        return refused.error
    assert done["state"] == "failed"
    return done["error"]


def refusal(cluster: Cluster, **more) -> Json:
    with pytest.raises(ApiError) as refused:
        migrate(cluster, **more)
    return refused.value.error


# --- it works --------------------------------------------------------------------------------------


def test_a_session_moves_while_it_runs(cluster: Cluster):
    home, other, session = ready(cluster)
    before = cluster.elsad.session()
    done = moved(cluster)
    assert done["kind"] == "migrate" and done["result"]["frozen_us"] == 123000
    after = cluster.elsad.session()
    assert after["state"] == "running" and after["node"] == other.name
    assert cluster.place_of(session) == [other.name]
    for name in "id", "address", "port", "started_at", "generation", "checkpoint":
        assert after[name] == before[name], name
    assert cluster.elsad.whats()[-2:] == ["migrating", "migrate"]
    event = cluster.elsad.events(user="ada")[0]
    assert f"from {home.name} to {other.name}" in event["detail"] and "0.123 s" in event["detail"]
    request = wait_asked(other, "migrate")
    assert request["from"] == home.name and request["from_at"] == "127.0.0.1:8445"
    wait_clear(cluster)
    assert home.ended_departures == [request["id"]] and session not in home.running
    assert "unexpected" not in cluster.elsad.whats()
    assert not cluster.elsad.session()["moving_to"]
    # ... and as any other from there.
    cluster.elsad.follow(cluster.elsad.act("hibernate"))
    assert cluster.elsad.session()["checkpoint"] == 1
    cluster.elsad.run()


def test_both_nodes_have_it_in_their_leases_meanwhile(cluster: Cluster):
    home, other, session = ready(cluster)
    other.before_giving = threading.Event()
    operation = migrate(cluster)
    wait_for("leases", lambda: session in home.own and session in other.own)
    shown = cluster.elsad.session()
    assert shown["state"] == "migrating" and shown["moving_to"] == other.name
    assert shown["node"] == home.name
    assert cluster.shown(other.name)["sessions"] == 1
    wait_for("the route", lambda: {
        r["address"]: r["via"] for r in cluster.hub.overlays[-1]["routes"]
    }[shown["address"]] == other.overlay)  # fmt: skip
    seen = wait_for("progress", lambda: (
        o := cluster.elsad.get("/v1/operation", id=operation["id"], wait=1))["step"] == "files" and o)
    assert seen["bytes_done"] == 40
    other.before_giving.set()
    cluster.elsad.follow(operation)
    wait_clear(cluster)
    wait_for("leases", lambda: session not in home.own and session in other.own)


def test_what_it_left_stays_until_its_memory_is_in(cluster: Cluster):
    home, other, session = ready(cluster)
    other.keeps_memory = True
    moved(cluster)
    looks = home.grants
    wait_for("looks", lambda: home.grants > looks + 15)
    assert home.given and not home.ended_departures
    assert cluster.elsad.session()["missing_bytes"] > 0
    assert cluster.shown(home.name)["sessions"] == 1
    with pytest.raises(ApiError):
        cluster.elsad.post("/v1/nodes/remove", {"node": home.name})
    cluster.elsad.kill()
    cluster.elsad.start()
    wait_for("leases", lambda: session in home.own and session in other.own)
    assert home.given and not home.ended_departures
    other.arrive(session)
    wait_clear(cluster)
    whats = [e["what"] for e in cluster.elsad.events()]
    assert not {"unexpected", "strange-session", "gave-way"} & set(whats)


def test_back_and_forth(cluster: Cluster):
    home, other, session = ready(cluster)
    other.keeps_memory = True
    moved(cluster)
    back = migrate(cluster, to=home.name)  # its memory comes first
    assert back["state"] == "running" and back["step"] == "waiting for its turn"
    assert cluster.elsad.session()["state"] == "running"
    other.keeps_memory = False
    other.arrive(session)
    assert cluster.elsad.follow(back)["state"] == "done"
    for node in other, home, other:
        moved(cluster, to=node.name)
        assert cluster.place_of(session) == [node.name]
    wait_clear(cluster)


# --- where to --------------------------------------------------------------------------------------


def test_bad_targets(cluster: Cluster):
    home, other, _ = ready(cluster)
    assert refusal(cluster, to="nowhere")["fault"] == "not-found"
    assert refusal(cluster, to=7)["fault"] == "bad-input"
    assert "there already" in answer(cluster, to=home.name)["text"]
    hub = answer(cluster, to="node1")
    assert "node1" in hub["text"] and hub["remedy"]
    cluster.elsad.post("/v1/nodes/drain", {"node": other.name})
    error = answer(cluster)
    assert error["fault"] == "full" and "draining" in error["text"]
    assert cluster.elsad.session()["state"] == "running" and not other.asked
    assert not home.departures
    with pytest.raises(ApiError) as unknown:
        migrate(cluster, "nobody")
    assert unknown.value.status == 404


@pytest.mark.parametrize("info, why", [
    ({"memory_bytes": 1 << 20, "memory_available_bytes": 1 << 20}, "small"),
    ({"features": "x86_64"}, "sse2"),
    ({"criu": "3.19"}, "CRIU"),
    ({"move_version": 4}, "version of Elsa"),
    ({"move_port": 0}, "node.move_listen"),
])  # fmt: skip
def test_a_target_that_cannot(cluster: Cluster, info: Json, why: str):
    cluster.add("n1")
    cluster.elsad.run()
    cluster.add("n2", **info)
    for more in {}, {"to": "n2"}:
        error = answer(cluster, **more)
        assert why in error["text"] and "n2" in error["text"]
    assert cluster.elsad.session()["state"] == "running"


def test_an_image_must_be_there(cluster: Cluster):
    home = cluster.add("n1")
    cluster.elsad.run(image="/images/one")
    other = cluster.joined["n2"] = Joined(cluster, "n2")
    other.images = []
    other.start()
    wait_for("n2 to be up", lambda: cluster.shown("n2")["up"])
    assert "image" in answer(cluster)["text"]
    assert where(cluster) == home.name and not other.asked


def test_a_source_that_cannot(cluster: Cluster):
    cluster.add("n1", move_port=0)
    cluster.elsad.run()
    cluster.add("n2")
    error = answer(cluster)
    assert error["fault"] == "refused" and "--safe" in error["remedy"]


def test_only_what_runs_moves(cluster: Cluster):
    home, other, _ = ready(cluster)
    cluster.elsad.follow(cluster.elsad.act("hibernate"))
    assert refusal(cluster)["fault"] == "conflict"
    assert cluster.elsad.session()["state"] == "hibernated"


# --- with others -----------------------------------------------------------------------------------


def test_twice_at_once_is_once(cluster: Cluster):
    home, other, _ = ready(cluster)
    third = cluster.add("n3", memory_bytes=64 << 30, memory_available_bytes=64 << 30)
    other.hold["migrate"] = threading.Event()
    first = migrate(cluster, to=other.name)
    assert migrate(cluster)["id"] == first["id"]
    assert migrate(cluster, to=other.name)["id"] == first["id"]
    assert refusal(cluster, to=third.name)["fault"] == "conflict"
    other.hold["migrate"].set()
    cluster.elsad.follow(first)
    assert len([r for r in other.asked if r["kind"] == "migrate"]) == 1 and not third.asked


def test_during_a_hibernation(cluster: Cluster):
    home, other, _ = ready(cluster)
    home.hold["hibernate"] = threading.Event()
    operation = cluster.elsad.act("hibernate")
    assert refusal(cluster)["fault"] == "conflict"
    home.hold["hibernate"].set()
    assert cluster.elsad.follow(operation)["state"] == "done"
    assert not other.asked


@pytest.mark.parametrize("what, state", [("hibernate", "hibernated"), ("stop", "stopped")])
def test_what_ends_it_waits_for_the_move(cluster: Cluster, what: str, state: str):
    home, other, session = ready(cluster)
    other.hold["migrate"] = threading.Event()
    begin(cluster)
    answers: list[Json] = []
    asking = threading.Thread(target=lambda: answers.append(cluster.elsad.act(what)), daemon=True)
    asking.start()
    started = cluster.elsad.start_session()
    assert started["state"] == "done"  # it runs, for who wants it
    assert cluster.elsad.session()["state"] == "migrating" and not answers
    other.hold["migrate"].set()
    asking.join(20)
    assert cluster.elsad.follow(answers[0])["state"] == "done"
    assert cluster.elsad.session()["state"] == state
    assert any(r["kind"] == what for r in other.asked)
    wait_clear(cluster)


def test_forgetting_waits_for_the_move(cluster: Cluster):
    home, other, session = ready(cluster)
    other.keeps_memory = True
    other.hold["migrate"] = threading.Event()
    begin(cluster)
    asking = threading.Thread(target=lambda: cluster.elsad.act("forget"), daemon=True)
    asking.start()
    wait_asked(other, "migrate")
    other.hold["migrate"].set()
    asking.join(20)
    wait_asked(other, "forget")
    wait_for("all of it to be gone", lambda: session not in home.running | other.running)
    wait_clear(cluster)


def test_a_snapshot_is_waited_for(cluster: Cluster):
    home, other, session = ready(cluster)
    home.hold["snapshot"] = threading.Event()
    cluster.elsad.act("snapshot")
    answers: list[Json] = []
    asking = threading.Thread(target=lambda: answers.append(migrate(cluster)), daemon=True)
    asking.start()
    wait_asked(home, "snapshot")
    assert not answers
    home.hold["snapshot"].set()
    asking.join(20)
    assert cluster.elsad.follow(answers[0])["state"] == "done"
    assert cluster.place_of(session) == [other.name]


def test_so_many_at_once(tmp_path: Path):
    with Cluster(tmp_path, move={"concurrency": 1}) as cluster:
        home = cluster.add("n1")
        users = ["ada", "bob", "eve"]
        for user in users:
            cluster.elsad.run(user)
        other = cluster.add("n2")
        other.hold["migrate"] = threading.Event()
        operations = [migrate(cluster, user) for user in users]
        assert [o["step"] for o in operations[1:]] == ["waiting for its turn"] * 2
        wait_asked(other, "migrate")
        states = [cluster.elsad.session(u)["state"] for u in users]
        assert states == ["migrating", "running", "running"]
        # Who waits can still have something else.
        cluster.elsad.follow(cluster.elsad.act("hibernate", "bob"))
        other.hold["migrate"].set()
        assert cluster.elsad.follow(operations[2])["state"] == "done"
        assert [where(cluster, u) for u in users] == ["n2", "n1", "n2"]
        assert cluster.elsad.session("bob")["state"] == "hibernated"
        assert len([r for r in other.asked if r["kind"] == "migrate"]) == 2
        assert not home.given or wait_clear(cluster) is None


# --- elsad dies ------------------------------------------------------------------------------------

STEPS = [step for step in steps() if step.startswith("migrate.")]


def test_there_are_steps():
    assert {"migrate.recorded", "migrate.granted", "migrate.asked", "migrate.done"} <= set(STEPS)


@pytest.mark.parametrize("step", STEPS)
def test_elsad_dies_at_each_step(cluster: Cluster, step: str):
    home, other, session = ready(cluster)
    cluster.elsad.end()
    cluster.elsad.start("--fault", step)
    wait_for("the nodes", lambda: all(cluster.shown(n)["up"] for n in cluster.joined))
    try:
        cluster.elsad.follow(migrate(cluster))
    except (ApiError, OSError, Exception):  # noqa: BLE001
        pass
    assert cluster.elsad.wait_dead() == -9
    cluster.elsad.start()
    wait_for("it to be settled", lambda: cluster.elsad.session()["state"] == "running")
    begun = step not in ("migrate.decided", "migrate.in-record")
    wait_runs_on(cluster, other if begun else home)
    assert cluster.place_of(session) == [(other if begun else home).name]
    wait_clear(cluster)
    wait_for("the nodes", lambda: all(cluster.shown(n)["up"] for n in cluster.joined))
    moved(cluster)
    wait_clear(cluster)


# The decision to fence it is made with the end of the migration.
@pytest.mark.parametrize("step", [f"fence.{s}" for s in (
    "asked", "answered", "in-result", "done", "acknowledged")])  # fmt: skip
def test_elsad_dies_while_it_is_taken_back(cluster: Cluster, step: str):
    home, other, session = ready(cluster)
    other.after_giving = threading.Event()
    other.fails_after_giving = "out of memory"
    cluster.elsad.end()
    cluster.elsad.start("--fault", step)
    wait_for("the nodes", lambda: all(cluster.shown(n)["up"] for n in cluster.joined))
    migrate(cluster)
    wait_given(home)
    other.after_giving.set()
    assert cluster.elsad.wait_dead() == -9
    cluster.elsad.start()
    wait_runs_on(cluster, home)
    assert cluster.place_of(session) == [home.name]
    wait_clear(cluster)


def test_routes_are_right_when_elsad_is_back(cluster: Cluster):
    home, other, session = ready(cluster)
    other.after_giving = threading.Event()
    migrate(cluster)
    wait_given(home)
    cluster.elsad.kill()
    cluster.elsad.start()
    address = cluster.elsad.session()["address"]
    wait_for("the route", lambda: {
        r["address"]: r["via"] for r in cluster.hub.overlays[-1].get("routes", [])
    }.get(address) == other.overlay)  # fmt: skip
    other.after_giving.set()
    wait_runs_on(cluster, other)


def test_only_the_target_switches_routes(cluster: Cluster):
    home, other, session = ready(cluster)
    other.hold["migrate"] = threading.Event()
    operation = migrate(cluster)
    effect = wait_asked(other, "migrate")["id"]
    for node, body in (
        (home, {"session": session, "effect": effect}),
        (other, {"session": session, "effect": "0" * 16}),
        (other, {"session": "f" * 16, "effect": effect}),
    ):
        with pytest.raises(ApiError) as refused:
            node.ask_elsad("moving", body, node.context)
        assert refused.value.status == 409
    other.hold["migrate"].set()
    cluster.elsad.follow(operation)


# --- by checkpoint ---------------------------------------------------------------------------------


def test_safe_goes_by_checkpoint(cluster: Cluster):
    home, other, session = ready(cluster)
    done = moved(cluster, safe=True)
    assert done["kind"] == "migrate"
    shown = cluster.elsad.session()
    assert shown["state"] == "running" and shown["node"] == other.name and shown["checkpoint"] == 2
    assert [r["kind"] for r in home.asked] == ["start", "snapshot", "hibernate"]
    assert [r["kind"] for r in other.asked] == ["restore"]
    assert not home.departures
    done = moved(cluster, safe=True, to=home.name)
    assert where(cluster) == home.name


def test_safe_that_is_refused_goes_on_where_it_was(cluster: Cluster):
    home, other, session = ready(cluster)
    home.fail["hibernate"] = {"fault": "refused", "text": "CRIU says no", "running": True}
    done = cluster.elsad.follow(migrate(cluster, safe=True))
    assert done["state"] == "failed" and "CRIU says no" in done["error"]["text"]
    assert cluster.place_of(session) == [home.name]


@pytest.mark.parametrize("kind", ["snapshot", "hibernate", "restore"])
def test_safe_survives_a_restart_of_elsad(cluster: Cluster, kind: str):
    """Whatever it was at: the same operation comes to its end, and that stays known."""
    home, other, session = ready(cluster)
    at = other if kind == "restore" else home
    at.hold[kind] = threading.Event()
    operation = migrate(cluster, safe=True)
    wait_asked(at, kind)
    cluster.elsad.kill()
    at.hold[kind].set()
    cluster.elsad.start()
    done = cluster.elsad.follow(operation)
    assert done["state"] == "done" and done["id"] == operation["id"] and done["kind"] == "migrate"
    assert cluster.place_of(session) == [other.name]
    cluster.elsad.kill()
    cluster.elsad.start()
    assert cluster.elsad.get("/v1/operation", id=operation["id"])["state"] == "done"
    # ... and nothing of it comes up again.
    moved(cluster, safe=True, to=home.name)


def test_safe_that_failed_stays_known(cluster: Cluster):
    home, other, session = ready(cluster)
    home.fail["hibernate"] = {"fault": "refused", "text": "CRIU says no", "running": True}
    operation = migrate(cluster, safe=True)
    assert cluster.elsad.follow(operation)["state"] == "failed"
    cluster.elsad.kill()
    cluster.elsad.start()
    done = cluster.elsad.get("/v1/operation", id=operation["id"])
    assert done["state"] == "failed" and "CRIU says no" in done["error"]["text"]
    assert cluster.place_of(session) == [home.name]


# --- draining --------------------------------------------------------------------------------------


def test_a_drained_node_is_left_by_moving(cluster: Cluster):
    home = cluster.add("n1")
    users = ["ada", "bob", "eve"]
    for user in users:
        cluster.elsad.run(user)
    other = cluster.add("n2")
    other.keeps_memory = True
    cluster.elsad.post("/v1/nodes/drain", {"node": "n1"})
    for user in users:
        wait_runs_on(cluster, other, user)
    assert {r["kind"] for r in home.asked} == {"start"}
    assert {r["kind"] for r in other.asked} == {"migrate"}
    assert not cluster.shown("n1")["drained"]
    for user in users:
        other.arrive(cluster.elsad.session(user)["id"])
    wait_for("it to be drained", lambda: cluster.shown("n1")["drained"])
    cluster.elsad.post("/v1/nodes/remove", {"node": "n1"})


def test_what_cannot_move_leaves_by_checkpoint(cluster: Cluster):
    cluster.add("n1")
    cluster.elsad.run()
    other = cluster.add("n2")
    other.fail["migrate"] = {"fault": "refused", "text": "no", "running": False, "kept": True}
    cluster.elsad.post("/v1/nodes/drain", {"node": "n1"})
    wait_runs_on(cluster, other)
    assert [r["kind"] for r in other.asked] == ["migrate", "restore"]
