# SPDX-License-Identifier: Apache-2.0
"""Sessions that sleep unseen on several nodes: who answers when theirs cannot."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from basekit import wait_for
from elsad_nodes_kit import Cluster, Joined


@pytest.fixture
def cluster(tmp_path: Path):
    with Cluster(tmp_path, idle={"transparent": True, "timeout": "1h"}) as cluster:
        yield cluster


def sleep(cluster: Cluster) -> tuple[Joined, str]:
    """One asleep on a node of its own; the node and the session."""
    home = cluster.add("n1")
    cluster.elsad.run()
    done = cluster.elsad.follow(cluster.elsad.act("hibernate", transparent=True))
    assert done["state"] == "done"
    session = cluster.elsad.session()
    assert session["state"] == "asleep" and session["node"] == "n1"
    return home, session["id"]


def wait_answered(cluster: Cluster, node: str) -> None:
    def there() -> bool:
        session = cluster.elsad.session()
        return session["state"] == "asleep" and session["node"] == node

    wait_for(f"{node} to answer", there)


def stops(cluster: Cluster) -> list[str]:
    return [r for r in cluster.elsad.hub.requests if r.startswith("DELETE")]


def test_a_lost_node_s_sleepers_are_answered_for_elsewhere(cluster: Cluster):
    home, session = sleep(cluster)
    other = cluster.add("n2")
    home.partition()
    wait_answered(cluster, "n2")
    assert cluster.elsad.session()["checkpoint"] == 1 and not stops(cluster)
    other.touch(session)
    assert cluster.elsad.wait_state("running")["node"] == "n2"
    home.heal()
    wait_for("it to give way", lambda: session not in home.asleep)
    assert cluster.elsad.session()["state"] == "running"


def test_with_no_other_node_the_hub_s_own_host_answers(cluster: Cluster):
    """Even though it runs no sessions: who comes is heard, and it is woken where there is room."""
    home, session = sleep(cluster)
    home.die()
    wait_answered(cluster, "node1")
    assert session in cluster.hub.asleep
    cluster.hub.touch(session, unwoken="sessions do not run here")
    wait_for("it to be known", lambda: cluster.elsad.session()["unwoken"])
    wait_for("the reason", lambda: "waiting" in cluster.elsad.whats())
    # Who has come is not forgotten, whatever happens to elsad.
    cluster.elsad.kill()
    cluster.elsad.start()
    cluster.add("n2")
    assert cluster.elsad.wait_state("running")["node"] == "n2"
    assert session not in cluster.hub.asleep and not stops(cluster)


def test_one_that_its_node_may_not_wake_goes_elsewhere(cluster: Cluster):
    home, session = sleep(cluster)
    cluster.add("n2")
    home.touch(session, unwoken="no memory is left")
    assert cluster.elsad.wait_state("running")["node"] == "n2"
    assert session not in home.asleep
    whats = cluster.elsad.whats()
    assert whats[-5:] == ["unwoken", "releasing", "release", "restoring", "restore"]


def test_a_node_that_is_drained_hands_its_sleepers_on(cluster: Cluster):
    home, session = sleep(cluster)
    other = cluster.add("n2")
    cluster.elsad.post("/v1/nodes/drain", {"node": "n1"})
    wait_answered(cluster, "n2")
    assert session in other.asleep and session not in home.asleep and not stops(cluster)
    wait_for("it to be drained", lambda: cluster.shown("n1")["drained"])


def test_a_node_that_goes_away_does_so_too(cluster: Cluster):
    home, session = sleep(cluster)
    cluster.add("n2")
    at = int((time.time() + 60) * 1000)
    home.notices = [{"id": "x", "kind": "evict", "source": "test", "at": at, "seen_at": at - 60000}]
    home.info["notices"] = home.notices
    wait_answered(cluster, "n2")
    assert session not in home.asleep


def test_a_node_is_not_removed_while_it_answers(cluster: Cluster):
    home, session = sleep(cluster)
    assert cluster.shown("n1")["sessions"] == 1
    assert session in home.asleep


def test_asleep_and_lost_its_lease_names_it(cluster: Cluster):
    home, session = sleep(cluster)
    wait_for("a lease that names it", lambda: session in home.own)
    other = cluster.add("n2")
    home.partition()
    wait_answered(cluster, "n2")
    wait_for("a lease that names it", lambda: session in other.own)
    home.heal()
    grants = home.grants
    wait_for("new leases", lambda: home.grants > grants + 1)
    assert session not in home.own


def test_the_routes_lead_to_who_answers(cluster: Cluster):
    home, session = sleep(cluster)
    other = cluster.add("n2")
    address = cluster.elsad.session()["address"]
    cluster.elsad.post("/v1/nodes/drain", {"node": "n1"})
    wait_answered(cluster, "n2")

    def way() -> str | None:
        routes = cluster.hub.overlays[-1].get("routes", [])
        return {r["address"]: r["via"] for r in routes}.get(address)

    wait_for("the route", lambda: way() == other.overlay)
    assert home.overlay != other.overlay


# --- what its node does by itself ------------------------------------------------------------------


@pytest.fixture
def unwatched(tmp_path: Path):
    """elsad looks at its nodes when it is told to, and else hardly ever."""
    idle = {"transparent": True, "timeout": "1h"}
    with Cluster(tmp_path, idle=idle, controller={"observe": "1h"}) as cluster:
        yield cluster


def test_a_wake_is_heard_of_at_once(unwatched: Cluster):
    home, session = sleep(unwatched)
    home.touch(session)
    assert unwatched.elsad.wait_state("running")["node"] == home.name
    # So that its user hears what became of it when the node is lost right then.
    unwatched.add("n2")
    home.partition()
    wait_for("it to go on on n2", lambda: unwatched.elsad.session()["node"] == "n2")
    assert unwatched.elsad.wait_state("running")["checkpoint"] == 1
    assert unwatched.elsad.whats()[-5:] == ["woken", "fencing", "fence", "restoring", "restore"]


def test_so_is_one_that_its_node_may_not_wake(unwatched: Cluster):
    home, session = sleep(unwatched)
    unwatched.add("n2")
    home.touch(session, unwoken="no memory is left")
    assert unwatched.elsad.wait_state("running")["node"] == "n2"
