# SPDX-License-Identifier: Apache-2.0
"""elsa-node alone: sessions that are asleep without anybody seeing it."""
import contextlib
import os
import socket
import threading
import time

import pytest

from nodekit import Session, new_id, wait_for
from test_node import assert_same, leftovers, node_fixture, place_fixture, settle, whole

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(180)]
FIXTURES = (node_fixture, place_fixture)  # used by name


def put_to_sleep(node, generation=1, session=None):
    session = session or Session(node)
    if generation == 1:
        session.start()
    session.before = session.ask("state")
    result = node.done("sleep", session, generation)
    assert result["answering"] and not result["running"] and session.processes() == set()
    return session


def status(node, session):
    return node.sessions().get(session.id, {})


def test_whoever_asks_wakes_it_and_is_answered_by_it(node):
    session = put_to_sleep(node)
    now = status(node, session)
    assert now["answering"] and not now["running"] and now["generation"] == 1
    assert whole(node, session, 1)
    assert_same(session.before, session.ask("state"))
    now = wait_for(lambda: status(node, session).get("running") and status(node, session))
    assert not now.get("answering") and now["touched_at"] > 0
    settle(node, session)
    put_to_sleep(node, 2, session)
    assert_same(session.before, session.ask("state"))
