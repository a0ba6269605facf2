# SPDX-License-Identifier: Apache-2.0
"""What runs gets a cheaper size as it runs, and goes to a machine where its memory costs less."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from basekit import Json
from browser import Kernel
from clusterkit import Cluster
from hostkit import TEST_ADDRESS
from metadata import Aws
from movekit import options

pytestmark = pytest.mark.timeout(300)

MIB = 1 << 20
CLASSES = [{"name": "small", "memory": "500M"}, {"name": "large", "memory": "1200M"}]
SIZE = {"class": CLASSES, "observed": "3s", "settle": 0, "stall_hour": 0}
HELD = "print(sum(h == bytes([h[0]]) * len(h) for h in held))"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(nodes=(), local=False, options=options(session={"memory": "1200M"}, size=SIZE)) as cluster:
        cluster.doubles = []
        try:
            add(cluster, "dear", "on-demand")
            yield cluster
        finally:
            for double in cluster.doubles:
                double.close()


def add(cluster: Cluster, name: str, life_cycle: str) -> None:
    """A machine of the catalogue's m6i.2xlarge, at that price."""
    double = Aws(address=TEST_ADDRESS)
    cluster.doubles.append(double)
    double.set(instance=f"i-{name}", type="m6i.2xlarge", life_cycle=life_cycle)
    cluster.node_options[name] = {"node": {"notices": "aws", "price": "auto", "metadata_url": double.url}}
    cluster.add(name)
    cluster.wait(f"{name} to say what it is", lambda: cluster.node(name).get("price"))


def decide(cluster: Cluster, running: str) -> None:
    cluster.hub.write_config(size={**SIZE, "running": running})
    cluster.hub.elsad.signal(signal.SIGHUP)


@pytest.fixture(scope="module")
def kernel(cluster: Cluster) -> Kernel:
    ada = cluster.hub.browser("ada").log_in()
    ada.start_server()
    kernel = ada.new_kernel()
    kernel.run("x, held = 41, []")
    return kernel


def seen(cluster: Cluster) -> Json:
    """As its node has it, and elsad."""
    session = cluster.api.session("ada")
    return {**session, **cluster.nodes[session["node"]].sessions()[session["id"]], "state": session["state"]}


def wait_for_limit(cluster: Cluster, mib: int) -> None:
    cluster.wait(f"{mib} MiB to be on record",
                 lambda: cluster.api.session("ada")["memory_limit"] == mib * MIB, 90)
    assert seen(cluster)["memory_limit"] == mib * MIB


def whats(cluster: Cluster) -> list[tuple[str, str]]:
    return [(e["what"], e["who"]) for e in cluster.api.events() if e["user"] == "ada"]


def test_keeps_what_it_has_by_default(cluster: Cluster, kernel: Kernel):
    cluster.wait("a cheaper one to do", lambda: cluster.api.get("/v1/sizes", user="ada")["session"]["to"] == "small")
    assert seen(cluster)["memory_limit"] == 1200 * MIB
    assert "to small, when it wakes next" in cluster.elsa("explain", "ada").stdout


def test_gets_less_as_it_runs(cluster: Cluster, kernel: Kernel):
    decide(cluster, "lower")
    wait_for_limit(cluster, 500)
    event = next(e for e in cluster.api.events() if e["what"] == "memory-limit")
    assert (event["who"], event["why"]) == ("size-policy", "cheaper-will-do"), event
    assert event["inputs"]["size"]["held_bytes"] * 1.25 < 500 * MIB, event
    assert kernel.value("print(x)") == 41
    assert not any(what in ("checkpointing", "hibernate", "stopped") for what, _ in whats(cluster))


def test_never_less_than_it_holds(cluster: Cluster, kernel: Kernel):
    assert "it has it now" in cluster.elsa("resize", "ada", "large").stdout
    kernel.run("held = [bytes([i + 1]) * (10 << 20) for i in range(60)]")
    # Its node knows better than what elsad saw last.
    told = cluster.elsa("resize", "ada", "small").stdout
    assert "has it now" not in told, told
    cluster.wait("what it holds to be seen",
                 lambda: cluster.api.get("/v1/sizes", user="ada")["session"]["held_bytes"] > 600 * MIB)
    assert "it holds more" in cluster.elsa("resize", "ada", "small").stdout
    assert seen(cluster)["memory_limit"] == 1200 * MIB
    assert kernel.value(HELD) == 60
    kernel.run("del held[20:]; import ctypes; ctypes.CDLL(None).malloc_trim(0)")
    wait_for_limit(cluster, 500)
    assert kernel.value(HELD) == 20


def test_moves_to_where_it_costs_less(cluster: Cluster, kernel: Kernel):
    add(cluster, "cheap", "spot")
    assert cluster.api.session("ada")["node"] == "dear"
    decide(cluster, "move")
    cluster.wait("it to have moved", lambda: (
        (now := cluster.api.session("ada"))["node"] == "cheap" and now["state"] == "running"))
    event = next(e for e in cluster.api.events() if e["what"] == "migrating")
    assert event["who"] == "size-policy" and event["why"].startswith("costs-less saves="), event
    assert seen(cluster)["memory_limit"] == 500 * MIB
    assert (kernel.value("print(x)"), kernel.value(HELD)) == (41, 20)
    # It is as good as it gets: nothing is to be done about it any more.
    add(cluster, "other", "spot")
    decide(cluster, "move")
    assert "move" not in [n["what"] for n in cluster.api.get("/v1/explain", user="ada", server="")["next"]]
    assert whats(cluster).count(("migrating", "size-policy")) == 1
