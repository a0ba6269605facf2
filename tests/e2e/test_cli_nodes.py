# SPDX-License-Identifier: Apache-2.0
"""`elsa node`, `drill` and `capacity` against a stand-in for elsad (test_cli.py)."""

from __future__ import annotations

import json
import re
import time

import pytest
from cli_kit import Double, fault, good, run


@pytest.fixture
def elsad():
    double = Double()
    yield double
    double.close()


# --- machines of the cloud ------------------------------------------------------------------------


def test_capacity(elsad):
    pool = {"name": "spot-a", "desired": 2, "machines": 1, "nodes": 1, "problem": "none left"}
    machine = {"id": "i-1", "pool": "spot-a", "state": "joined", "node": "n1", "price": "spot"}
    wanted = {"user": "ada", "server": "", "memory_bytes": 1 << 30, "text": "a machine comes"}
    answer = {"provider": "autoscaling", "pools": [pool], "machines": [machine], "wanted": [wanted]}
    elsad.answers["GET /v1/capacity"] = answer
    shown = good("capacity", url=elsad.url)
    for word in "spot-a", "none left", "i-1", "joined", "n1", "ada", "a machine comes", "1.0 GiB":
        assert word in shown, word
    assert json.loads(good("capacity", "--json", url=elsad.url)) == answer
    elsad.answers["GET /v1/capacity"] = {"provider": "none", "pools": [], "machines": []}
    assert "capacity.provider" in good("capacity", url=elsad.url)


# --- nodes -------------------------------------------------------------------

NODE = {
    "name": "n1",
    "state": "ready",
    "local": False,
    "up": True,
    "price": "spot",
    "zone": "eu-1a",
    "instance_type": "m7i.large",
    "sessions": 3,
    "memory_bytes": 8 << 30,
    "memory_available_bytes": 1 << 30,
    "lease_left_ms": 21000,
    "seen_at": 0,
}


def test_node_list(elsad):
    local = {"name": "hub", "state": "ready", "local": True, "up": False, "sessions": 0, "price": None}
    elsad.answers["GET /v1/nodes"] = {"items": [local, NODE]}
    lines = good("node", "list", url=elsad.url).splitlines()
    assert lines[0].split() == "NAME STATE PRICE ZONE TYPE SESSIONS MEMORY LEASE SEEN NOTICE".split()
    assert lines[1].split()[:5] == ["hub", "ready,", "no", "answer", "-"]
    for cell in "n1", "spot", "eu-1a", "m7i.large", "3", "1.0 GiB of 8.0 GiB free", "21.0 s":
        assert cell in lines[2]
    assert json.loads(good("node", "list", "--json", url=elsad.url))[1] == NODE


def test_node_token(elsad):
    answer = {"token": "elsa1.a.b.c", "expires_at": 1795300000000, "uses": 2, "url": "https://hub:8443"}
    elsad.answers["POST /v1/nodes/token"] = answer
    said = good("node", "token", "--ttl", "30m", "--uses", "2", url=elsad.url)
    assert elsad.asked[-1]["body"] == {"ttl_ms": 1800000, "uses": 2}
    assert said.startswith("elsa1.a.b.c\n")
    assert 'controller = "https://hub:8443"' in said and "for 2 hosts" in said
    good("node", "token", url=elsad.url)
    assert elsad.asked[-1]["body"] == {"ttl_ms": 3600000, "uses": 1}
    assert json.loads(good("node", "token", "--json", url=elsad.url)) == answer
    done = run("node", "token", "--ttl", "soon", url=elsad.url)
    assert done.returncode == 2 and "--ttl wants a time" in done.stderr


@pytest.mark.parametrize("what", ["drain", "undrain", "remove"])
def test_node_changes(elsad, what):
    elsad.answers[f"POST /v1/nodes/{what}"] = {"node": "n1"}
    assert good("node", what, "n1", url=elsad.url).startswith("n1: ")
    assert elsad.asked[-1]["body"] == {"node": "n1"}
    done = run("node", what, url=elsad.url)
    assert done.returncode == 2 and "wants the name of a node" in done.stderr
    elsad.answers[f"POST /v1/nodes/{what}"] = fault("not-found", "no node")
    assert run("node", what, "n1", url=elsad.url).returncode == 3


def test_node_remove_force(elsad):
    elsad.answers["POST /v1/nodes/remove"] = {"node": "n1"}
    good("node", "remove", "n1", "--force", url=elsad.url)
    assert elsad.asked[-1]["body"] == {"node": "n1", "force": True}


def test_node_list_shows_notices(elsad):
    at = int((time.time() + 3600) * 1000)
    soon = [{"kind": "rebalance", "source": "aws", "id": "r"},
            {"kind": "evict", "source": "drill", "id": "d", "at": at}]
    elsad.answers["GET /v1/nodes"] = {"items": [{**NODE, "notices": soon},
                                                {**NODE, "notices": soon[:1]},
                                                {**NODE, "notices": "?"}]}
    lines = good("node", "list", url=elsad.url).splitlines()
    assert re.search(r"evict in (59|60) min$", lines[1])
    assert lines[2].endswith("rebalance")
    assert not re.search("evict|rebalance", lines[3])


@pytest.mark.parametrize("kind", ["evict", "rebalance", "reboot", "freeze"])
def test_drill(elsad, kind):
    elsad.answers["POST /v1/nodes/drill"] = {"node": "n1"}
    assert good("drill", kind, "n1", "--in", "2m", url=elsad.url).startswith("n1: ")
    asked = elsad.asked[-1]["body"]
    assert (asked["node"], asked["kind"], asked["in_ms"]) == ("n1", kind, 120000)
    good("drill", kind, "n1", url=elsad.url)
    assert elsad.asked[-1]["body"]["in_ms"] == 30000
    done = run("drill", kind, url=elsad.url)
    assert done.returncode == 2 and "wants the name of a node" in done.stderr
    done = run("drill", kind, "n1", "--in", "soon", url=elsad.url)
    assert done.returncode == 2 and "--in wants a time" in done.stderr


def test_drill_cancel(elsad):
    elsad.answers["POST /v1/nodes/drill/cancel"] = {"node": "n1"}
    assert good("drill", "cancel", "n1", url=elsad.url).startswith("n1: ")
    assert elsad.asked[-1]["body"]["node"] == "n1"
    elsad.answers["POST /v1/nodes/drill/cancel"] = fault("not-found", "there is no drill")
    assert run("drill", "cancel", "n1", url=elsad.url).returncode == 3
