# SPDX-License-Identifier: Apache-2.0
"""elsa-node alone: what grows faster than it looks, or while it is stopped or dead, waits for memory and
is not ended; and where nothing can be done it is ended as ever."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal

import pytest

from nodekit import Node, Session, at_memory_limit, group_file, wait_for
from test_node import leftovers, place_fixture

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(180)]
FIXTURES = (place_fixture,)  # used by name
MIB = 1 << 20
RAISED = '[session]\nmemory_most = "%s"\n[nodes]\nreserve = 0\n'

# Grows to as many MiB as it is told to, as fast as it can, and says so when every byte is right.
GROWER = """
import os, time
held = []
def piece(i):
    return bytes([i % 251 + 1]) * (1 << 20)
while True:
    while not os.path.exists("/home/ada/grow"):
        time.sleep(0.01)
    mib = int(open("/home/ada/grow").read())
    while len(held) < mib:
        held.append(piece(len(held)))
    assert all(h == piece(i) for i, h in enumerate(held))
    os.unlink("/home/ada/grow")
"""


class Grower(Session):
    """A session whose only program grows."""

    def __init__(self, node: Node, limit: int):
        super().__init__(node, command=["python3", "-c", GROWER],
                         limits={"memory_bytes": limit * MIB, "cpus": 0, "pids": 0})
        node.done("start", self)
        self.pids = self.processes()

    def read(self, name: str) -> str:
        return group_file("elsa-test", self.id, name)

    def limit(self) -> int:
        return int(self.read("memory.limit_in_bytes") or self.read("memory.high"))

    def is_waiting(self) -> bool:
        return at_memory_limit("elsa-test", self.id)

    def grow(self, mib: int) -> None:
        file = self.home / "next"
        file.write_text(str(mib))
        file.chmod(0o666)
        file.rename(self.home / "grow")

    def has_grown(self) -> bool:
        status = self.status()
        assert status["running"], self.node.log.read_text()[-1500:] + self.logged() + str(status)
        return not (self.home / "grow").exists()

    def logged(self) -> str:
        return self.node.get(f"/v1/sessions/{self.id}/log")

    def status(self):
        return self.node.sessions()[self.id]

    def is_whole(self) -> bool:
        return self.pids <= self.processes() and "oom_kill 0" in \
            self.read("memory.oom_control") + self.read("memory.events")


@pytest.fixture(name="made")
def made_fixture(place):
    """Makes a node where limits are raised."""
    nodes = []

    def make(most: str = "1G", memory: str = "") -> Node:
        node = Node(place)
        nodes.append(node)
        node.write_config(RAISED % most, node=f'memory = "{memory}"' if memory else "")
        return node.start()
    yield make
    for node in nodes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(node.process.pid, signal.SIGCONT)
        node.teardown()
        assert leftovers(node, torn_down=True) == []


def meets_its_limit(node: Node, session: Grower, mib: int) -> None:
    """While elsa-node is stopped."""
    os.kill(node.process.pid, signal.SIGSTOP)
    session.grow(mib)
    wait_for(session.is_waiting)


def goes_on(node: Node) -> None:
    os.kill(node.process.pid, signal.SIGCONT)


def test_waits_while_elsa_node_is_stopped(made):
    node = made()
    session = Grower(node, 100)
    meets_its_limit(node, session, 400)
    assert session.is_whole() and session.is_waiting()
    goes_on(node)
    wait_for(session.has_grown)
    assert session.is_whole() and session.status()["memory_limit"] > 400 * MIB


def test_waits_while_elsa_node_is_dead(made):
    node = made()
    session = Grower(node, 100)
    meets_its_limit(node, session, 400)
    node.kill()
    assert session.is_whole() and session.is_waiting()
    node.start()
    wait_for(session.has_grown)
    assert session.is_whole() and session.status()["memory_limit"] > 400 * MIB


def test_as_fast_as_it_can(made):
    """Many times in a row, from each limit to the next."""
    node = made("3G")
    session = Grower(node, 60)
    session.grow(1500)
    wait_for(session.has_grown)
    assert session.is_whole()


@pytest.mark.parametrize("stopped", [False, True])
def test_ends_where_it_may_have_no_more(made, stopped):
    node = made(most="110M")
    session = Grower(node, 100)
    if stopped:
        meets_its_limit(node, session, 400)
        goes_on(node)
    else:
        session.grow(400)
    wait_for(lambda: session.status().get("ended"))
    assert session.status()["ended"] == "oom-killed"


def test_ends_where_limits_are_not_raised_any_more(made):
    """The configuration was changed while it waited, and elsa-node was away."""
    node = made()
    session = Grower(node, 100)
    meets_its_limit(node, session, 400)
    node.kill()
    node.write_config('[session]\nmemory_most = 0\n')
    node.start()
    wait_for(lambda: session.status().get("ended"))
    assert session.status()["ended"] == "oom-killed"


def test_stands_still_wherever_it_waits(made):
    """There is no room: it is held though it waits in the kernel, is snapshotted, sleeps, and goes on in a larger
    place."""
    node = made(memory="130M")
    session = Grower(node, 100)
    meets_its_limit(node, session, 300)
    goes_on(node)
    wait_for(lambda: session.status()["short_of"] > 130 * MIB and session.status()["frozen"])
    session.snapshot(1)
    wait_for(lambda: session.status()["frozen"])
    assert session.is_whole() and not session.has_grown()
    session.hibernate(2)
    node.stop()
    node.write_config(RAISED % "1G")
    node.start()
    session.spec["limits"]["memory_bytes"] = 500 * MIB
    node.done("restore", session, 2)
    session.pids = session.processes()
    wait_for(session.has_grown)
    assert session.is_whole()


@pytest.mark.parametrize("when", ["after", "fail"])
@pytest.mark.parametrize("kind", ["snapshot", "hibernate"])
def test_has_its_limit_again(made, kind, when):
    """It has none while CRIU works on it; elsa-node is killed then, or the dump comes to nothing."""
    node = made()
    session = Grower(node, 100)
    assert session.limit() == 100 * MIB
    node.kill()
    node.start("--fault", f"{kind}:dump:{when}")
    with contextlib.suppress(OSError, http.client.HTTPException):
        assert node.effect(kind, session, 1)["state"] == "failed"
    if when == "after":
        assert node.died() == -signal.SIGKILL
        assert session.limit() > 1 << 40
        node.start()
    wait_for(lambda: not session.status()["frozen"])
    assert session.limit() == 100 * MIB and session.is_whole()


def test_what_waits_can_be_stopped(made):
    node = made()
    session = Grower(node, 100)
    meets_its_limit(node, session, 400)
    node.kill()
    node.start()
    node.done("stop", session)
    assert session.processes() == set()
