# SPDX-License-Identifier: Apache-2.0
"""A user of a real Hub whose session runs on another host than the Hub, and moves to a third."""

from __future__ import annotations

import contextlib
import time

import pytest

from basekit import wait_for
from browser import Kernel
from clusterkit import Cluster, ClusterNode
from evictions import is_back
from movekit import Watch


@pytest.fixture(scope="module")
def cluster():
    with Cluster(nodes=("n1",), options={"nodes": {"lease": "4s"}}, local=False) as cluster:
        yield cluster


def where(cluster: Cluster, user: str) -> str:
    """The node where the session runs, as the kernel there has it, not as elsad says. What stands still
    elsewhere is memory on its way."""
    found = Watch(cluster).where(cluster.api.session(user)["id"])
    assert len(found) <= 1, f"the session runs at {found}"
    return found[0] if found else ""


def value(kernel: Kernel, expression: str):
    return kernel.value(f"import json; print(json.dumps({expression}))")


def test_drained(cluster: Cluster):
    """Log in, compute; the node is drained; all goes on elsewhere, under the same address."""
    ada = cluster.hub.browser("ada").log_in()
    ada.start_server()
    assert where(cluster, "ada") == "n1"
    kernel = ada.new_kernel()
    kernel.run("import random; secret = random.random(); numbers = list(range(1000))")
    secret = value(kernel, "secret")
    before = cluster.hub.hub_server("ada")
    session = cluster.api.session("ada")
    assert session["node"] == "n1"
    n2 = cluster.add("n2")
    begun = time.monotonic()
    cluster.api.post("/v1/nodes/drain", node="n1")
    cluster.wait("the session to be elsewhere", lambda: where(cluster, "ada") == "n2", seconds=120)
    cluster.api.wait_state("ada", "running")
    assert cluster.api.session("ada")["node"] == "n2"
    # Over the websocket that was open all the while, through the Hub's proxy.
    assert value(kernel, "secret") == secret and value(kernel, "sum(numbers)") == 499500
    print(f"elsewhere after {time.monotonic() - begun:.1f} s")
    # The Hub has seen nothing of it.
    after = cluster.hub.hub_server("ada")
    assert (after["url"], after["started"], after["ready"]) == (before["url"], before["started"], True)
    assert cluster.api.session("ada")["address"] == session["address"]
    assert not cluster.nodes["n1"].sessions().get(session["id"], {}).get("running")
    # Nothing more is sent to the drained one, until it is not that any more.
    bob = cluster.hub.browser("bob").log_in()
    bob.start_server()
    assert cluster.api.session("bob")["node"] == "n2"
    assert n2.sessions().keys() >= {session["id"]}
    cluster.hub.stop_server("bob")
    cluster.api.wait_state("bob", "hibernated")
    cluster.api.post("/v1/nodes/undrain", node="n1")


@contextlib.contextmanager
def failing(cluster: Cluster, home: ClusterNode, fault: str):
    """`home` is the one that is chosen first, and fails; the name of the one that is left."""

    def restart(*more: str) -> None:
        home.stop()
        home.node.argv = home.argv(*more)
        home.start()
        cluster.wait("it to be up", lambda: is_back(cluster, home.name))

    restart("--fault", fault)
    other = next(name for name in cluster.nodes if name != home.name)
    cluster.api.post("/v1/nodes/drill", node=other, kind="rebalance", in_ms=600_000)
    cluster.wait("the notice", lambda: cluster.node(other).get("notices"))
    yield other
    cluster.api.post("/v1/nodes/drill/cancel", node=other)
    restart()


def tells_of_failure(cluster: Cluster, home: ClusterNode, could_not: str) -> None:
    failed = [e["detail"] for e in cluster.api.events() if e["what"] == "node-failed"]
    words = f"could not be {could_not} on {home.name}"
    assert any(words in text and "asked for (--fault)" in text for text in failed), failed


def test_a_wake_that_fails_on_one_host_goes_on_on_another(cluster: Cluster):
    """What CRIU had restored there by then is gone before the other host begins."""
    ada = cluster.hub.browser("ada").log_in()
    ada.start_server()
    kernel = ada.new_kernel()
    kernel.run("kept = 'once'")
    kernel.close()
    home = cluster.nodes[cluster.api.session("ada")["node"]]
    cluster.hub.stop_server("ada")
    cluster.api.wait_state("ada", "hibernated")
    wait_for("its processes to end", lambda: where(cluster, "ada") == "")
    with failing(cluster, home, "restore:settle:fail") as other:
        ada.start_server()
        assert cluster.api.session("ada")["node"] == other == where(cluster, "ada")
        tells_of_failure(cluster, home, "restored")
    kernel.connect()
    assert value(kernel, "kept") == "once"
    kernel.close()


def test_a_start_that_fails_on_one_host_goes_on_on_another(cluster: Cluster):
    """Its user sees a server that starts; what had begun on the first host is gone there."""
    home = cluster.nodes["n1"]
    with failing(cluster, home, "start:adopt:fail") as other:
        eve = cluster.hub.browser("eve").log_in()
        eve.start_server()
        assert cluster.api.session("eve")["node"] == other == where(cluster, "eve")
        tells_of_failure(cluster, home, "started")
        kernel = eve.new_kernel()
        assert value(kernel, "6 * 7") == 42
        kernel.close()
        cluster.hub.stop_server("eve")
        cluster.api.wait_state("eve", "hibernated")


def test_sleeps_and_wakes_elsewhere(cluster: Cluster):
    """Hibernated on a host that then goes away for good, woken on another."""
    ada = cluster.hub.browser("ada").log_in()
    ada.start_server()
    kernel = ada.new_kernel()
    kernel.run("kept = 'still here'")
    kernel.close()
    home = cluster.api.session("ada")["node"]
    cluster.hub.stop_server("ada")
    cluster.api.wait_state("ada", "hibernated")
    wait_for("its processes to end", lambda: where(cluster, "ada") == "")
    cluster.nodes[home].power_off()
    ada.start_server()
    other = cluster.api.session("ada")["node"]
    assert other != home and where(cluster, "ada") == other
    kernel.connect()
    assert value(kernel, "kept") == "still here"
    cluster.nodes[home].power_on()
