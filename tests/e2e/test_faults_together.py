# SPDX-License-Identifier: Apache-2.0
"""kill -9 of elsad and of elsa-node at every step of both, together and on real CRIU.

test_elsad_faults.py and test_node.py kill one daemon against a double or alone; here an independent
observer, the session itself, says whether it was lost, came back older, or ran twice: a server that
counts its callers in memory. The steps come from the daemons' own lists.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from basekit import BUILD, MOMENTS, wait_for
from hubkit import ApiError, Stack

COUNTER = """
import socket
server = socket.create_server(("", 8888))
count = 0
while True:
    caller, _ = server.accept()
    if caller.recv(64).startswith(b"count"):  # elsad looks in, too
        count += 1
        caller.sendall(b"%d" % count)
    caller.close()
"""
KINDS = ("hibernate", "snapshot", "restore")


def steps_of(daemon: str) -> list[tuple[str, str]]:
    """(kind, step) of the effects in KINDS, from the daemon's own list."""
    done = subprocess.run([BUILD / daemon, "--list-steps"], capture_output=True, text=True, check=True)
    pairs = (line.replace(".", " ").split() for line in done.stdout.splitlines())
    return [(kind, step) for kind, step in pairs if kind in KINDS]


class Counter:
    """The session, and what it must say at the next call."""

    def __init__(self, stack: Stack):
        self.stack, self.api, self.user, self.calls = stack, stack.api, "counter", 0
        self.start()
        self.address = self.api.wait_state(self.user, "running")["address"]
        wait_for("the counter", self.answers)
        self.calls = self.call()

    def start(self) -> dict:
        return self.api.post("/v1/session/start", user=self.user, server="", env={}, port=8888,
                             cmd=["/usr/bin/python3", "-c", COUNTER], api_token="counter")

    def hibernate(self) -> dict:
        return self.api.post("/v1/session/hibernate", user=self.user, server="")

    def snapshot(self) -> dict:
        return self.api.post("/v1/session/snapshot", user=self.user, server="")

    def call(self) -> int:
        with socket.create_connection((self.address, 8888), 10) as caller:
            caller.sendall(b"count")
            return int(caller.recv(64))

    def answers(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            self.calls = self.call()
            return True
        return False

    def check(self) -> None:
        """It goes on exactly where it was: no call forgotten, none answered by a second one."""
        self.calls += 1
        assert self.call() == self.calls

    def settle(self) -> str:
        return self.api.wait_state(self.user, "running", "hibernated", seconds=90)["state"]

    def ask(self, kind: str) -> None:
        """Whoever is killed meanwhile does not answer."""
        with contextlib.suppress(OSError, ApiError, ValueError):
            {"hibernate": self.hibernate, "snapshot": self.snapshot, "restore": self.start}[kind]()

    def be_in(self, state: str) -> None:
        if self.settle() == state:
            return
        operation = self.hibernate() if state == "hibernated" else self.start()
        ended = self.api.wait_operation(operation)
        assert ended["state"] == "done", ended


@pytest.fixture(scope="module")
def counter() -> Iterator[Counter]:
    stack = Stack()
    try:
        stack.start_node()
        stack.start_elsad()
        yield Counter(stack)
    finally:
        stack.close()


def processes() -> int:
    """How many there are of the session's server, as the kernel sees it."""
    found = 0
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += cmdline.read_bytes().startswith(b"/usr/bin/python3\0-c\0" + COUNTER.encode())
    return found


def recovered(counter: Counter, kind: str) -> None:
    """Running or whole in the store, one of both; and what was asked comes true in the end."""
    state = counter.settle()
    expected = 1 if state == "running" else 0
    assert processes() <= expected, state
    # The command line is memory too, which may not be there yet.
    wait_for(f"its {expected} processes", lambda: processes() == expected)
    counter.be_in("hibernated" if kind == "hibernate" else "running")
    counter.be_in("running")
    counter.check()


@contextlib.contextmanager
def restarted_with(stack: Stack, name: str, fault: str) -> Iterator[None]:
    """The daemon runs with the fault, is seen dead of it, and comes back without."""
    daemon = getattr(stack, name)
    start = stack.start_node if name == "node" else stack.start_elsad
    plain = list(daemon.argv)
    daemon.stop()
    daemon.argv = [*plain, "--fault", fault]
    try:
        start()
        yield
        wait_for(f"{name} to die at {fault}", lambda: not daemon.alive, seconds=60)
    finally:
        daemon.argv = plain
        daemon.kill()
        start()


@pytest.mark.parametrize("kind,step", steps_of("elsad"))
def test_elsad_is_killed(counter: Counter, kind: str, step: str) -> None:
    counter.be_in("hibernated" if kind == "restore" else "running")
    with restarted_with(counter.stack, "elsad", f"{kind}.{step}"):
        counter.ask(kind)
    recovered(counter, kind)


@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize("kind,step", steps_of("elsa-node"))
def test_elsa_node_is_killed(counter: Counter, kind: str, step: str, when: str) -> None:
    counter.be_in("hibernated" if kind == "restore" else "running")
    with restarted_with(counter.stack, "node", f"{kind}:{step}:{when}"):
        counter.ask(kind)
    recovered(counter, kind)


def test_both_are_killed(counter: Counter) -> None:
    """At the moment of truth: the checkpoint is committed, the processes are not gone yet."""
    counter.be_in("running")
    with restarted_with(counter.stack, "node", "hibernate:kill:before"):
        counter.ask("hibernate")
        wait_for("elsa-node to die", lambda: not counter.stack.node.alive)
        counter.stack.elsad.kill()
        counter.stack.start_elsad()
    recovered(counter, "hibernate")
