# SPDX-License-Identifier: Apache-2.0
"""Sessions that come near their memory's limit, before the kernel ends one of their processes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from basekit import Json
from browser import Kernel
from clusterkit import Cluster
from movekit import options
from nodekit import Session
from test_node import node_fixture, place_fixture

FIXTURES = (node_fixture, place_fixture)  # used by name
pytestmark = pytest.mark.timeout(300)

MIB = 1 << 20
GROW = """
import time
held = globals().get("held", [])
def grow(mib, per_s):
    for _ in range(mib // 10):
        held.append(bytes([len(held) % 251 + 1]) * (10 << 20))
        time.sleep(10 / per_s)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    settings = options(session={"memory": "400M", "memory_most": "3G"}, nodes={"reserve": "0"})
    with Cluster(nodes=("small",), local=False, options=settings,
                 node_options={"small": {"node": {"memory": "900M"}}}) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def kernel(cluster: Cluster) -> Kernel:
    ada = cluster.hub.browser("ada").log_in()
    ada.start_server()
    kernel = ada.new_kernel()
    kernel.run(GROW)
    return kernel


def grow(kernel: Kernel, mib: int, per_s: int = 100) -> None:
    before = kernel.value("print(len(held))")
    kernel.run(f"grow({mib}, {per_s})")
    assert kernel.value("print(len(held))") == before + mib // 10
    assert kernel.value("print(sum(h == bytes([h[0]]) * len(h) for h in held))") == before + mib // 10


def limits(cluster: Cluster) -> list[Json]:
    return [e for e in cluster.api.events() if e["user"] == "ada" and e["what"] == "memory-limit"]


def test_given_more_where_it_is(cluster: Cluster, kernel: Kernel):
    grow(kernel, 450)
    assert cluster.api.session("ada")["node"] == "small"
    cluster.wait("its new limit to be on record", lambda: limits(cluster))
    assert limits(cluster)[-1]["why"] == "near-limit", limits(cluster)


def test_taken_where_there_is_more(cluster: Cluster, kernel: Kernel):
    """It stands still before it meets its limit, and goes on where there is room as soon as there is."""
    session = cluster.api.session("ada")["id"]
    with ThreadPoolExecutor(1) as at_work:
        cell = at_work.submit(grow, kernel, 1000)
        cluster.wait("it to stand still", lambda: cluster.nodes["small"].sessions()[session]["short_of"])
        cluster.wait("it to be said", lambda: "memory" in (cluster.api.session("ada")["note"] or ""))
        cluster.add("big")
        cell.result(200)
    cluster.wait("it to have moved", lambda: cluster.api.session("ada")["node"] == "big")
    whos = {(e["who"], e["why"]) for e in cluster.api.events() if e["user"] == "ada"}
    assert ("rescue", "short-of-memory") in whos, whos


def test_keeps_it_when_it_wakes(cluster: Cluster, kernel: Kernel):
    cluster.api.post("/v1/session/hibernate", user="ada", server="")
    cluster.api.wait_state("ada", "hibernated")
    cluster.api.post("/v1/session/resume", user="ada", server="")
    cluster.api.wait_state("ada", "running")
    node = cluster.nodes[cluster.api.session("ada")["node"]]
    status = node.sessions()[cluster.api.session("ada")["id"]]
    assert status["memory_limit"] > 1400 * MIB, status
    assert status["rss_bytes"] < status["memory_limit"]


def test_never_less_than_it_holds(node):
    """It was given more, and elsad has not heard of it when it is woken."""
    session = Session(node)
    session.start()
    digest = session.ask("fill", mib=200, timeout=60)["digest"]
    session.hibernate(1)
    session.spec["limits"]["memory_bytes"] = 100 * MIB
    session.restore(1)
    assert session.ask("state", timeout=60)["digest"] == digest
    assert node.sessions()[session.id]["memory_limit"] > 200 * MIB
