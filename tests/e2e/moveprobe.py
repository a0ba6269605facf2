# SPDX-License-Identifier: Apache-2.0
"""Small sessions that are moved over and over (test_migrate_faults.py): probe.py, started through elsad
without a Hub, with somebody from the hub's host who speaks to it all the while."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

import observer
from basekit import BUILD, Json, wait_for
from clusterkit import Cluster, ClusterNode
from hubkit import ApiError, add_account
from movekit import Group, Watch, ask_migrate, remains, wait_settled
from nodekit import PROBE, Refused
from test_node import assert_same

ECHO_PORT = 8889
INSIDE = "/tmp/probe"  # its files, in the session's own layer

# In the home, which both nodes see: a file that was deleted while open, and one of whose names is left.
AT_HOME = """
import os
home = "/home/%s/"
probe.gone = open(home + "gone", "w+")
probe.gone.write("gone")
probe.gone.flush()
probe.twin = open(home + "twin", "w+")
probe.twin.write("twin")
probe.twin.flush()
os.link(home + "twin", home + "twin.other")
os.unlink(home + "twin")
os.unlink(home + "gone")
"""
AT_HOME_CHECK = """
for name in ("gone", "twin"):
    getattr(probe, name).seek(0)
    out[name] = getattr(probe, name).read()
"""

# Says every line again, to whoever connects.
ECHO = f"""
import socket, threading
def serve(connection):
    with connection, connection.makefile("rb") as lines:
        for line in lines:
            connection.sendall(line)
def accept():
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
listener = socket.create_server(("", {ECHO_PORT}))
threading.Thread(target=accept, daemon=True).start()
"""


class Pinger(threading.Thread):
    """One connection through everything: every line must come back, in order."""

    def __init__(self, cluster: Cluster, address: str):
        super().__init__(daemon=True)
        with cluster.hub.host.inside():
            self.socket = socket.create_connection((address, ECHO_PORT), timeout=10)
        self.socket.settimeout(150)
        self.count, self.longest = 0, 0.0
        self.error = ""
        self.ended = threading.Event()

    def run(self) -> None:
        lines = self.socket.makefile("rb")
        try:
            while not self.ended.wait(0.02):
                sent = time.monotonic()
                self.socket.sendall(b"%d\n" % self.count)
                answer = lines.readline()
                assert answer == b"%d\n" % self.count, f"{answer!r} in place of {self.count}"
                self.longest = max(self.longest, time.monotonic() - sent)
                self.count += 1
        except (OSError, AssertionError) as error:
            self.error = repr(error)

    def stop(self) -> None:
        self.ended.set()
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.join(10)


class Probed:
    """A session that answers whether it is as it was."""

    def __init__(self, cluster: Cluster, watch: Watch, user: str, **start: Json):
        self.cluster, self.watch, self.user = cluster, watch, user
        self.how = start
        homes = cluster.hub.dir / "home"
        add_account(homes, user)
        self.home = homes / user
        shutil.copy(PROBE, self.home / "probe.py")
        self.start()
        wait_for("the probe", self.answers)
        self.run(observer.BEAT.replace("~/", f"/home/{user}/"))
        self.run(ECHO)
        self.run(AT_HOME % user)
        self.before = self.state()
        self.returns = 0  # to a checkpoint, that are no fault
        self.pinger = Pinger(cluster, self.address)
        self.pinger.start()

    def start(self) -> Json:
        operation = self.cluster.api.post(
            "/v1/session/start", user=self.user, server="", port=8888, api_token="probe",
            cmd=["sh", "-c", f"mkdir -p {INSIDE} && exec python3 /home/{self.user}/probe.py 8888"],
            env={"PATH": "/usr/bin:/bin", "HOME": INSIDE}, **self.how)
        done = self.cluster.api.wait_operation(operation)
        assert done["state"] == "done", done
        told = self.cluster.api.session(self.user)
        self.id, self.address = told["id"], told["address"]
        self.watch.sessions.add(self.id)
        return done

    def ask(self, question: str, timeout: float = 60, **args) -> Json:
        with self.cluster.hub.host.inside():
            connection = http.client.HTTPConnection(self.address, 8888, timeout=timeout)
            connection.connect()
        try:
            connection.request("GET", f"/{question}?{urlencode(args)}")
            answer = connection.getresponse()
            data = json.loads(answer.read())
        finally:
            connection.close()
        assert answer.status == 200, data
        return data

    def run(self, code: str, timeout: float = 60) -> Json:
        return self.ask("run", timeout=timeout, code=code)

    def state(self) -> Json:
        """Threads come and go with the questions."""
        return {**self.ask("state"), "threads": 0}

    def answers(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return bool(self.ask("state", timeout=2))
        return False

    # --- what must be true in the end

    def check(self, seconds: float = 60) -> ClusterNode:
        """It runs once, as it was, and nobody who spoke to it noticed but by waiting; that node."""
        node = wait_settled(self.cluster, self.watch, self.user, seconds)
        assert_same(self.before, self.ask("state"))
        assert self.run(AT_HOME_CHECK) == {"gone": "gone", "twin": "twin"}
        count = self.pinger.count
        wait_for("the connection to go on", lambda: self.pinger.count > count or self.pinger.error, seconds=30)
        assert not self.pinger.error, self.pinger.error
        self.check_witness()
        return node

    def check_witness(self) -> None:
        witness = observer.testify(self.home)
        assert len(witness.lost) <= self.returns and not witness.skipped, witness
        assert not self.watch.twice, self.watch.twice
        wait_for("it to count on", lambda: observer.testify(self.home).last > witness.last)

    def wait_running(self) -> None:
        self.cluster.api.wait_state(self.user, "running")
        wait_for("it to run", lambda: self.watch.where(self.id))

    def came_back(self) -> None:
        """It is as a checkpoint, or another node, had it: its work since is lost, and its connections."""
        self.pinger.stop()
        wait_for("the probe", self.answers)
        self.returns = len(observer.testify(self.home).lost)
        self.before = self.state()
        self.pinger = Pinger(self.cluster, self.address)
        self.pinger.start()

    def end(self) -> None:
        self.pinger.stop()
        with contextlib.suppress(ApiError, OSError):
            self.cluster.api.wait_operation(
                self.cluster.api.post("/v1/session/forget", user=self.user, server=""))
        self.watch.sessions.discard(self.id)


class Bed:
    """Two nodes, and sessions of which each case may break one."""

    def __init__(self, cluster: Cluster, watch: Watch):
        self.c, self.watch = cluster, watch
        self.count = 0
        self._session: Probed | None = None

    @property
    def api(self):
        return self.c.api

    def fresh(self, **start: Json) -> Probed:
        """`start`: of the request, besides."""
        self.count += 1
        return Probed(self.c, self.watch, f"probe{self.count}", **start)

    @property
    def session(self) -> Probed:
        """The one that goes from case to case, as long as it is whole."""
        if self._session is None:
            self._session = self.fresh()
        return self._session

    def spoilt(self) -> None:
        """The next case gets another one."""
        if self._session:
            self._session.end()
        self._session = None
        self.watch.twice.clear()

    @contextlib.contextmanager
    def case(self) -> Iterator[None]:
        """All is as it should be, with a session that answers; and nothing of it is left."""
        self.put_right()
        assert self.session.answers()
        try:
            yield
        finally:
            for node in self.c.nodes.values():
                node.notice_file.unlink(missing_ok=True)
            self.put_right()
            self.spoilt()

    def ends(self, session: Probed | None = None) -> tuple[ClusterNode, ClusterNode]:
        """Where it is, and where it is to go."""
        at = self.api.session((session or self.session).user)["node"]
        return self.c.nodes[at], next(n for n in self.c.nodes.values() if n.name != at)

    def arm(self, at: ClusterNode, *argv: str, faked: bool = False, **options: Json) -> None:
        """Its elsa-node anew, with these arguments and options; `faked`: on a host that is not as it was,
        which put_right() is to know."""
        at.kill()
        at.write_config(**options)
        at.changed = bool(argv or options or faked)
        at.node.argv = at.argv(*argv)
        at.start()
        self.up(at)

    def up(self, node: ClusterNode) -> None:
        wait_for(f"{node.name} to be up", lambda: (self.c.node(node.name) or {}).get("up"))
        wait_for("its lease", lambda: node.get("/v1/node")["lease_left_ms"] > 0)

    def ask(self, user: str, to: str) -> Json:
        """What elsad knows of a node that was started anew may be old for a moment."""
        deadline = time.monotonic() + 15
        while True:
            try:
                return ask_migrate(self.c, user, to)
            except ApiError as error:
                final = error.status != 507 or "it is there already" in str(error)
                if final or getattr(self.c.nodes.get(to), "changed", False) or time.monotonic() > deadline:
                    raise
            time.sleep(0.2)

    def attempt(self, user: str, to: str) -> str:
        """One that must come to nothing; why, in elsad's words."""
        try:
            done = self.api.wait_operation(self.ask(user, to))
        except ApiError as refused:
            return json.dumps(refused.answer)
        assert done["state"] == "failed", done
        return json.dumps(done)

    def put_right(self) -> None:
        for node in self.c.nodes.values():
            if not node.host.is_on:
                node.power_on(start=False)
            node.heal()
            node.shape("")
            if not node.node.alive or getattr(node, "changed", False):
                self.arm(node)
        if not self.c.hub.elsad.alive:
            self.c.hub.start_elsad()
        for node in self.c.nodes.values():
            self.up(node)

    def story(self) -> str:
        if not self.c.hub.elsad.alive:
            return self.c.logs(25)
        events = [" ".join(str(e[k]) for k in ("at", "user", "who", "what", "why", "detail"))
                  for e in self.api.events()]
        shown = [f"{n.name}: {n.sessions() if n.answers() else 'no answer'}" for n in self.c.nodes.values()
                 if n.host.is_on]
        return "\n".join([*reversed(events[:25]), *shown, self.c.logs(25)])


@contextlib.contextmanager
def two_nodes(options: dict[str, Json]) -> Iterator[Bed]:
    """With a store between them, and no Hub."""
    with Cluster(nodes=2, local=False, store="s3", options=options, people=False) as cluster:
        with Watch(cluster) as watch:
            yield Bed(cluster, watch)


@pytest.fixture(name="whole_bed", scope="module")
def whole_bed_fixture(request: pytest.FixtureRequest) -> Iterator[Bed]:
    """One for a file's cases, with the file's OPTIONS."""
    with two_nodes(request.module.OPTIONS) as bed:
        yield bed


@pytest.fixture(name="bed")
def bed_fixture(whole_bed: Bed) -> Iterator[Bed]:
    """With a session that has just been begun: its node takes it for one in use."""
    with whole_bed.case():
        yield whole_bed


def steps(plan: str) -> list[str]:
    """Of elsa-node's, by their names."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run([BUILD / "elsa-node", "--list-steps"], capture_output=True, text=True,
                              check=True, timeout=20).stdout
        return [line.split()[1] for line in said.splitlines() if line.split()[0] == plan]
    return []


def given(node: ClusterNode, session: str) -> bool:
    with contextlib.suppress(Refused, OSError):
        return bool(node.sessions().get(session, {}).get("given_to"))
    return False


@contextlib.contextmanager
def in_place_of(node: ClusterNode, path: str, text: str) -> Iterator[None]:
    """The kernel of that host says something else."""
    fake = node.dir / "fake"
    fake.write_text(text)
    node.host.run("mount", "--bind", str(fake), path)
    try:
        yield
    finally:
        node.host.run("umount", path)


__all__ = ["Bed", "Group", "Probed", "bed_fixture", "given", "in_place_of", "remains", "steps", "two_nodes",
           "whole_bed_fixture"]
