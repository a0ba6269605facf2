# SPDX-License-Identifier: Apache-2.0
"""elsad with several nodes: what fails on one of them is tried on another, and there is an end to that."""

from __future__ import annotations

import contextlib
import http.client
import threading
from pathlib import Path

import pytest

from basekit import wait_for
from elsad_kit import ApiError, Json, steps
from elsad_nodes_kit import Cluster, Joined, asleep, restores, wait_runs_on, where


@pytest.fixture
def cluster(tmp_path: Path):
    with Cluster(tmp_path) as cluster:
        yield cluster


# --- a restore that fails --------------------------------------------------------------------------

FULL = {"fault": "full", "text": "the disk is full", "remedy": "make room", "step": "images"}


def all_up(cluster: Cluster) -> None:
    for name in cluster.joined:
        wait_for(f"{name} to be up", lambda: cluster.shown(name)["up"])  # noqa: B023


def test_what_fails_on_one_node_is_tried_on_another(cluster: Cluster):
    home, other = asleep(cluster)
    home.fail["restore"] = FULL
    done = cluster.elsad.follow(cluster.elsad.start_session())
    # Who waits for it need not know.
    assert done["state"] == "done" and done["kind"] == "restore"
    session = wait_runs_on(cluster, other)
    assert session["reason"] is None and (restores(home), restores(other)) == (1, 1)
    event = next(e for e in cluster.elsad.events() if e["what"] == "node-failed")
    assert "the disk is full" in event["detail"] and home.name in event["detail"]
    assert session["checkpoint"] == 1 and cluster.place_of(session["id"]) == [other.name]
    # Another wake is another matter.
    home.fail.clear()
    other.fail["restore"] = FULL
    cluster.elsad.follow(cluster.elsad.act("hibernate"))
    assert cluster.elsad.follow(cluster.elsad.start_session())["state"] == "done"
    wait_runs_on(cluster, home)


def test_none_is_left(cluster: Cluster):
    home, other = asleep(cluster)
    third = cluster.add("n3")
    cluster.elsad.post("/v1/nodes/drain", {"node": "n3"})
    for node in (home, other):
        node.fail["restore"] = {**FULL, "text": f"the disk of {node.name} is full"}
    done = cluster.elsad.follow(cluster.elsad.start_session())
    assert done["state"] == "failed" and done["error"]["fault"] == "full"
    session = cluster.elsad.session()
    assert session["state"] == "failed" and session["checkpoint_usable"] and not session["waking"]
    for words in ("the disk of n1 is full", "the disk of n2 is full", "n3: draining"):
        assert words in session["reason"] and words in done["error"]["text"]
    assert (restores(home), restores(other), restores(third)) == (1, 1, 0)
    # It can be asked again, of all of them.
    home.fail.clear()
    other.fail.clear()
    assert cluster.elsad.follow(cluster.elsad.start_session())["state"] == "done"
    assert restores(home) + restores(other) == 3


def test_there_is_an_end_to_trying(cluster: Cluster):
    asleep(cluster)
    for name in ("n3", "n4", "n5"):
        cluster.add(name)
    for node in cluster.joined.values():
        node.fail["restore"] = {"fault": "internal", "text": "CRIU failed", "step": "restore"}
    done = cluster.elsad.follow(cluster.elsad.start_session())
    assert done["state"] == "failed" and "4 nodes were tried" in done["error"]["text"]
    assert sorted(map(restores, cluster.joined.values())) == [0, 1, 1, 1, 1]


@pytest.mark.parametrize("failure", [
    {"fault": "corrupt", "text": "frame 3 is damaged", "step": "images"},
    {"fault": "not-found", "text": "no such checkpoint", "step": "open"},
    {"fault": "conflict", "text": "there is a newer one", "step": "open"},
])
def test_what_would_fail_anywhere_is_not(cluster: Cluster, failure: Json):
    home, other = asleep(cluster)
    home.fail["restore"] = failure
    done = cluster.elsad.follow(cluster.elsad.start_session())
    assert done["state"] == "failed" and done["error"]["fault"] == failure["fault"]
    assert (restores(home), restores(other)) == (1, 0)
    assert cluster.elsad.session()["state"] == "failed"


def killed_at(cluster: Cluster, step: str) -> None:
    """elsad dies there in a start, and is started again."""
    cluster.elsad.end()
    cluster.elsad.start("--fault", step)
    all_up(cluster)
    with contextlib.suppress(OSError, http.client.HTTPException):
        cluster.elsad.start_session()
    assert cluster.elsad.wait_dead() == -9
    cluster.elsad.start()


@pytest.mark.parametrize("step", [s for s in steps() if s.startswith("restore.")])
def test_elsad_dies_at_each_step_of_a_restore_that_fails(cluster: Cluster, step: str):
    home, other = asleep(cluster)
    home.fail["restore"] = FULL
    killed_at(cluster, step)
    if cluster.elsad.session()["state"] == "hibernated" and not cluster.elsad.session()["waking"]:
        all_up(cluster)
        cluster.elsad.start_session()  # it was not decided yet
    session = wait_runs_on(cluster, other)
    assert cluster.place_of(session["id"]) == [other.name] and restores(other) == 1


def test_one_that_was_lost_with_it_is_tried_only_before_none(cluster: Cluster):
    home, other = asleep(cluster)
    other.fail["restore"] = FULL
    home.hold["restore"] = threading.Event()
    cluster.elsad.start_session()
    wait_for("the question", lambda: restores(home))
    home.partition()
    # The other one is asked, fails, and there is none left: the lost one is out of reach.
    failed = cluster.elsad.wait_state("failed")
    assert "the disk is full" in failed["reason"] and restores(other) == 1
    home.hold.clear()
    home.heal()
    wait_for("it to be back", lambda: cluster.shown(home.name)["up"])
    assert cluster.elsad.follow(cluster.elsad.start_session())["state"] == "done"


# --- a start that fails ----------------------------------------------------------------------------

NO_DISK = {"fault": "internal", "text": "its disk is read-only", "remedy": "", "step": "mount"}


def starts(node: Joined) -> int:
    return len({r["id"] for r in node.asked if r["kind"] == "start"})


def failing(cluster: Cluster) -> tuple[Joined, Joined]:
    """The node that is chosen first, where no start comes to anything, and the other one."""
    size = 7 << 30
    bad = cluster.add("bad", memory_bytes=size, memory_available_bytes=size)
    bad.fail["start"] = NO_DISK
    return bad, cluster.add("good")


def test_a_start_that_fails_on_one_node_is_tried_on_another(cluster: Cluster):
    bad, good = failing(cluster)
    done = cluster.elsad.follow(cluster.elsad.start_session())
    assert done["state"] == "done" and done["kind"] == "start"
    session = wait_runs_on(cluster, good)
    assert session["reason"] is None and (starts(bad), starts(good)) == (1, 1)
    event = next(e for e in cluster.elsad.events() if e["what"] == "node-failed")
    assert "read-only" in event["detail"] and "started on bad" in event["detail"]
    assert cluster.place_of(session["id"]) == ["good"]
    # With what was asked for, not only with its name.
    first, second = (next(r for r in n.asked if r["kind"] == "start") for n in (bad, good))
    assert first["id"] != second["id"] and first["session"] == second["session"]
    # Another start is another matter.
    bad.fail.clear()
    cluster.elsad.follow(cluster.elsad.act("stop"))
    cluster.elsad.run()
    assert cluster.place_of(session["id"]) == ["bad"]


def test_no_node_is_left_for_a_start(cluster: Cluster):
    bad, other = failing(cluster)
    other.fail["start"] = {**NO_DISK, "text": "its disk is full"}
    done = cluster.elsad.follow(cluster.elsad.start_session())
    assert done["state"] == "failed"
    session = cluster.elsad.session()
    assert session["state"] == "failed" and not session["waking"]
    for words in ("could not be started", "read-only", "full", "bad", "good"):
        assert words in session["reason"]
    assert (starts(bad), starts(other)) == (1, 1)
    other.fail.clear()
    assert cluster.elsad.follow(cluster.elsad.start_session())["state"] == "done"
    assert (starts(bad), starts(other)) == (2, 2)


def test_a_start_that_would_fail_anywhere_is_not_tried_again(cluster: Cluster):
    bad, good = failing(cluster)
    bad.fail["start"] = {"fault": "bad-input", "text": "it has no command", "step": "start"}
    assert cluster.elsad.follow(cluster.elsad.start_session())["state"] == "failed"
    assert (starts(bad), starts(good)) == (1, 0)


def test_a_start_is_given_up_between_two_nodes(tmp_path: Path):
    """It waits for another machine; nobody wants it any more when that comes."""
    config = {"capacity": {"provider": "command", "command": ["/bin/true"], "pools": ["p"],
                           "start_timeout": "60s"}}  # fmt: skip
    with Cluster(tmp_path, **config) as cluster:
        bad = cluster.add("bad")
        bad.fail["start"] = NO_DISK
        operation = cluster.elsad.start_session()
        wait_for("it to wait", lambda: cluster.elsad.session()["waking"])
        session = cluster.elsad.session()
        assert session["state"] == "stopped"
        cluster.elsad.act("stop")
        assert cluster.elsad.follow(operation)["superseded"]
        good = cluster.add("good")
        cluster.elsad.run("bob")
        assert cluster.elsad.session()["state"] == "stopped" and not cluster.elsad.session()["waking"]
        asked = [r for node in (bad, good) for r in node.asked if r["session"]["id"] == session["id"]]
        assert len(asked) == 1


@pytest.mark.parametrize("step", [s for s in steps() if s.startswith("start.")])
def test_elsad_dies_at_each_step_of_a_start_that_fails(cluster: Cluster, step: str):
    bad, good = failing(cluster)
    killed_at(cluster, step)
    try:
        cluster.elsad.session()
    except ApiError:  # it was not decided yet
        all_up(cluster)
        cluster.elsad.start_session()
    session = wait_runs_on(cluster, good)
    assert cluster.place_of(session["id"]) == ["good"] and starts(good) == 1
