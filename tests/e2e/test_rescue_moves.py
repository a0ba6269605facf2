# SPDX-License-Identifier: Apache-2.0
"""A session that was given more memory than is on record, and moves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from basekit import wait_for
from clusterkit import ClusterNode
from movekit import options
from moveprobe import two_nodes
from nodekit import at_memory_limit

pytestmark = pytest.mark.timeout(150)

MIB = 1 << 20

# Of a probe: so many MiB in all.
HOLD = """
import os, time
probe.held = getattr(probe, "held", [])
while len(probe.held) < %d:
    probe.held.append(os.urandom(1 << 20))
    time.sleep(0.01)
"""


# As fast as it can, and with nothing but touched memory.
GROW = """
probe.grown = [bytes([i % 251 + 1]) * (1 << 20) for i in range(400)]
out["right"] = all(p == bytes([i % 251 + 1]) * (1 << 20) for i, p in enumerate(probe.grown))
"""


def given_by(node: ClusterNode, session: str, more_than: int = 0) -> int:
    limit = node.sessions()[session]["memory_limit"]
    return limit if limit > more_than else 0


def test_what_its_node_gave_it_moves_with_it():
    """elsad has not heard of that when it has it moved."""
    settings = options(session={"memory": "200M", "memory_most": "1G"}, controller={"observe": "1h"})
    with two_nodes(settings) as bed:
        session = bed.session
        source, target = bed.ends()
        bed.arm(target, session={"memory_most": 0})  # gives nothing by itself
        session.run(HOLD % 160)
        given = wait_for("it to be given more", lambda: given_by(source, session.id, 200 * MIB))
        assert not any(e["what"] == "memory-limit" for e in bed.api.events())
        assert bed.api.wait_operation(bed.ask(session.user, target.name))["state"] == "done"
        assert session.check() is target
        assert given_by(target, session.id) == given
        session.run(HOLD % 260)  # which it would not survive with what is on record
        assert session.check() is target
        session.end()


def test_moves_from_where_it_waits():
    """elsa-node comes too late, and has no room for it."""
    settings = options(session={"memory": "150M", "memory_most": "1G"}, nodes={"lease": "30s"})
    with two_nodes(settings) as bed:
        session = bed.session
        source, target = bed.ends()
        bed.arm(source, node={"memory": "170M"})
        source.node.pause()
        try:
            with ThreadPoolExecutor(1) as at_work:
                grown = at_work.submit(session.run, GROW, 120)
                wait_for("it to wait", lambda: at_memory_limit(source.host.cgroup, session.id))
                assert not grown.done()
                source.node.go_on()
                assert grown.result()["right"]
        finally:
            source.node.go_on()
        assert session.check() is target
        assert given_by(target, session.id) > 400 * MIB
        session.end()
