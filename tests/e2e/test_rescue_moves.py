# SPDX-License-Identifier: Apache-2.0
"""A session that was given more memory than is on record, and moves."""

from __future__ import annotations

import pytest

from basekit import wait_for
from clusterkit import ClusterNode
from movekit import options
from moveprobe import two_nodes

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
