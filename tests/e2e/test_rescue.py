# SPDX-License-Identifier: Apache-2.0
"""Sessions that come near their memory's limit, before the kernel ends one of their processes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from basekit import Json
from browser import Kernel
from clusterkit import Cluster, ClusterNode
from movekit import Watch, options
from moveprobe import Bed
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


# Of a probe: so many MiB in all.
HOLD = """
import os, time
probe.held = getattr(probe, "held", [])
while len(probe.held) < %d:
    probe.held.append(os.urandom(1 << 20))
    time.sleep(0.01)
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


def test_nor_less_than_its_node_gave_it():
    """... and has it moved."""
    settings = options(session={"memory": "200M", "memory_most": "1G"}, controller={"observe": "1h"})
    with (Cluster(nodes=2, local=False, options=settings, people=False) as cluster,
          Watch(cluster) as watch):
        bed = Bed(cluster, watch)
        session = bed.session
        source, target = bed.ends()
        bed.arm(target, session={"memory_most": 0})  # gives nothing by itself
        session.run(HOLD % 160)
        given = cluster.wait("it to be given more", lambda: given_by(source, session.id, 200 * MIB))
        assert not any(e["what"] == "memory-limit" for e in cluster.api.events())
        assert bed.api.wait_operation(bed.ask(session.user, target.name))["state"] == "done"
        assert session.check() is target
        assert given_by(target, session.id) == given
        session.run(HOLD % 260)  # which it would not survive with what is on record
        assert session.check() is target
        session.end()


def given_by(node: ClusterNode, session: str, more_than: int = 0) -> int:
    limit = node.sessions()[session]["memory_limit"]
    return limit if limit > more_than else 0
