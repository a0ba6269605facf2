# SPDX-License-Identifier: Apache-2.0
"""What can go wrong when spot machines go away, one fault after the other on the same hosts, under two
users whose kernels count. In the end of each the witness (observer.py) is heard: nothing ran twice,
nothing is lost that was put away in time, and no more than since its last snapshot of what was not."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator

import pytest

from basekit import wait_for
from browser import Browser
from clusterkit import Cluster, ClusterNode
from evictions import LEASE, OPTIONS, Person, is_back, power_off
from hubkit import HOME_PYTHON, ApiError, add_account
from nodekit import Refused
from observer import PER_SECOND

pytestmark = pytest.mark.timeout(240)

NODES = ("n1", "n2", "n3")
# What is in use goes by checkpoint, too: moves have faults of their own (test_evacuation_moves.py).
BY_CHECKPOINT = {**OPTIONS, "spot": {**OPTIONS["spot"], "move": False}}


class Worker(Person):
    """Who also has a variable that is in her kernel alone."""

    def __init__(self, cluster: Cluster, user: str):
        super().__init__(cluster, user)
        self.kernel.run("import os; token = int.from_bytes(os.urandom(6))")
        self.token = self.kernel.value("print(token)")
        self.kernel.close()
        self.snapshot()
        self.returns = 0  # to a checkpoint, until the case that is under way

    def snapshot(self) -> None:
        done = self.cluster.api.wait_operation(
            self.cluster.api.post("/v1/session/snapshot", user=self.user, server=""))
        assert done["state"] == "done", done

    @property
    def session(self) -> dict:
        return self.cluster.api.session(self.user)

    def knows(self) -> bool:
        try:
            self.kernel.connect()
            return self.kernel.value("print(token)", seconds=20) == self.token
        except Exception:  # noqa: BLE001  whatever a browser may meet while its server is away
            return False
        finally:
            self.kernel.close()

    def runs_at(self) -> str:
        """The node; "" while it does not run."""
        with contextlib.suppress(OSError, ApiError):
            session = self.session
            return session["node"] if session["state"] in ("running", "snapshotting") else ""
        return ""

    def lost_s(self) -> float:
        """Since the case began. Fails if it ran twice."""
        witness = self.testify()
        assert not witness.skipped, f"{self.user} ran twice: {witness}"
        return sum(witness.lost[self.returns:]) / PER_SECOND


class Bed:
    """The hosts, and who is at work on them."""

    def __init__(self, cluster: Cluster):
        self.c = cluster
        self.people = [Worker(cluster, "ada")]
        # Beside each other to begin with.
        self.drill(self.home, 600_000, kind="rebalance")
        wait_for("the notice", lambda: self.c.node(self.home.name).get("notices"))
        self.people.append(Worker(cluster, "bob"))
        self.cancel(self.home)

    @property
    def home(self) -> ClusterNode:
        return self.c.nodes[self.people[0].node]

    def of(self, node: ClusterNode) -> list[Worker]:
        return [p for p in self.people if p.node == node.name]

    def begin(self) -> tuple[ClusterNode, list[Worker]]:
        """The node that is to go, and whom it has."""
        for person in self.people:
            person.returns = len(person.testify().lost)
        return self.home, self.of(self.home)

    def drill(self, node: ClusterNode, in_ms: int, kind: str = "evict") -> None:
        self.c.api.post("/v1/nodes/drill", node=node.name, kind=kind, in_ms=in_ms)

    def cancel(self, node: ClusterNode) -> None:
        self.c.api.post("/v1/nodes/drill/cancel", node=node.name)
        wait_for("no notice", lambda: is_back(self.c, node.name))

    def elsewhere(self, people: list[Worker], *gone: ClusterNode, seconds: float = 120) -> None:
        names = {node.name for node in gone}
        for person in people:
            wait_for(f"{person.user} to go on elsewhere than at {names}",
                     lambda p=person: p.runs_at() not in {"", *names}, seconds=seconds)

    def end(self, most_lost: dict[str, float] | None = None) -> None:
        """Everybody answers, nothing ran twice, and nobody has lost more than that, by user, the others
        nothing."""
        for person in self.people:
            wait_for(f"{person.user}'s kernel", person.knows, seconds=60, pause=0.2)
            before = person.testify().last
            wait_for(f"{person.user} to count on", lambda p=person, n=before: p.testify().last > n)
        lost = {p.user: p.lost_s() for p in self.people}
        print(f"lost: {lost} s")
        for person in self.people:
            assert lost[person.user] <= (most_lost or {}).get(person.user, 0), (lost, most_lost)

    def put_right(self) -> None:
        """As it was: every fault over, all machines on, both at work."""
        self.c.s3.ask(failing=False, latency=0.0)
        if not self.c.hub.elsad.alive:
            self.c.hub.start_elsad()
        if not self.c.hub.hub.alive:
            self.c.hub.start_hub()
        for node in self.c.nodes.values():
            if node.host.is_on:
                node.heal()
                node.shape("")
            else:
                node.power_on()
            wait_for(f"{node.name}'s elsa-node", node.answers)
            with contextlib.suppress(Refused):
                node.ask("DELETE", "/v1/drill")
        for name in self.c.nodes:
            wait_for(f"{name} to be back", lambda n=name: is_back(self.c, n))
        for person in self.people:
            wait_for(f"{person.user} to run", person.runs_at)

    def story(self) -> str:
        """What elsad thinks, for whoever looks into a failure."""
        if not self.c.hub.elsad.alive:
            return self.c.logs(25)
        events = [" ".join(str(e[k]) for k in ("at", "user", "who", "what", "why", "detail"))
                  for e in self.c.api.events() if e["what"] not in ("snapshot", "snapshotting")]
        sessions = [str(p.session) for p in self.people]
        return "\n".join([*sessions, *reversed(events[:40]), self.c.logs(25)])


def own(node: ClusterNode) -> dict:
    """The evacuation as the node itself tells it; none: empty."""
    with contextlib.suppress(Refused, OSError):
        return node.get("/v1/evacuation")
    return {}


def all_saved(node: ClusterNode) -> dict:
    """The evacuation when it has ended, and saved all."""

    def ended() -> dict:
        last = own(node)
        return last if last.get("ended_at") else {}

    last = wait_for(f"the evacuation of {node.name}", ended)
    assert {s["state"] for s in last["sessions"]} == {"saved"}, last
    return last


def evacuee_states(node: ClusterNode) -> set[str]:
    return {s["state"] for s in own(node).get("sessions", [])}


def wait_until(deadline: float) -> None:
    wait_for("the deadline", lambda: time.monotonic() >= deadline)


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with Cluster(nodes=NODES, spot=NODES, local=False, store="s3", options=BY_CHECKPOINT) as cluster:
        yield Bed(cluster)


@pytest.fixture(autouse=True)
def story(bed: Bed) -> Iterator[None]:
    begun = time.monotonic()
    yield
    print(f"took {time.monotonic() - begun:.1f} s")
    bed.put_right()


# --- notices -----------------------------------------------------------------------------------------


def test_two_are_evicted_together(bed: Bed):
    """Each with one of the two; the third takes both."""
    bed.begin()
    first, second = (bed.c.nodes[p.node] for p in bed.people)
    assert first is not second
    for node in (first, second):
        bed.drill(node, 30_000)
    for node in (first, second):
        assert all_saved(node)["margin_ms"] > 0
    bed.elsewhere(bed.people, first, second)
    first.power_off()
    second.power_off()
    bed.end()


def test_a_notice_of_120_s(bed: Bed):
    """All is elsewhere long before the machine is gone."""
    node, moved = bed.begin()
    bed.drill(node, 120_000)
    bed.elsewhere(moved, node)
    assert all_saved(node)["margin_ms"] > 60_000
    node.power_off()
    bed.end()


@pytest.mark.parametrize("seconds", [30, 5, 0])
def test_a_notice_that_is_kept_to_the_moment(bed: Bed, seconds: int):
    node, moved = bed.begin()
    deadline = time.monotonic() + seconds
    bed.drill(node, seconds * 1000)
    if seconds == 30:
        bed.elsewhere(moved, node)
        assert all_saved(node)["margin_ms"] > 0
    wait_until(deadline)
    in_time = {s["session"] for s in own(node).get("sessions", []) if s["state"] == "saved"}
    late = [p for p in moved if p.session["id"] not in in_time]
    most_lost = power_off(node, late)
    bed.elsewhere(moved, node)
    bed.end(most_lost)


# --- elsad -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_elsad_is_killed(bed: Bed, when: str):
    """And started again when the machine is gone; killed after the evacuation, at once."""
    node, moved = bed.begin()
    elsad = bed.c.hub.elsad
    if when == "before":
        elsad.kill()
    node.ask("POST", "/v1/drill", {"kind": "evict", "in_ms": 30_000})
    if when == "during":
        wait_for("the evacuation to begin", lambda: own(node))
        elsad.kill()
    all_saved(node)
    if when == "after":
        elsad.kill()
        bed.c.hub.start_elsad()
        bed.elsewhere(moved, node)
    node.power_off()
    if when != "after":
        bed.c.hub.start_elsad()
    bed.elsewhere(moved, node)
    bed.end()


# --- partitions --------------------------------------------------------------------------------------


def test_a_node_is_cut_off_from_elsad(bed: Bed):
    """Not from the store. Its sessions are held, fenced and go on elsewhere; when it is back they give
    way."""
    node, moved = bed.begin()
    newest = max(e["id"] for e in bed.c.api.events())
    ids = {p.session["id"] for p in moved}
    since = {p.user: p.saved_since() for p in moved}
    node.cut(bed.c.hub.address)
    # It runs on until its lease ends, and elsad can ask for no snapshot.
    most_lost = {user: time.time() + LEASE - at for user, at in since.items()}
    bed.elsewhere(moved, node)
    held = node.sessions()
    assert all(held[i]["held"] for i in ids)
    for person in moved:
        wait_for(f"{person.user}'s kernel", person.knows, seconds=60)
    node.heal()
    wait_for("them to give way", lambda: not any(
        s["running"] for i, s in node.sessions().items() if i in ids))
    wait_for("the events", lambda: {e["user"] for e in bed.c.api.events(after=newest)
                                    if e["what"] == "gave-way"} >= {p.user for p in moved})
    bed.end(most_lost)


def test_a_node_is_cut_off_from_the_store_for_a_while(bed: Bed):
    """While it is to put its sessions away."""
    node, moved = bed.begin()
    node.cut(bed.c.store_address)
    bed.drill(node, 30_000)
    # Or a snapshot is under way, which tries in vain before it is its turn.
    tried = time.monotonic() + 5
    wait_for("it to try", lambda: evacuee_states(node) & {"saving", "failed"} or time.monotonic() > tried)
    node.heal()
    assert all_saved(node)["margin_ms"] > 0
    bed.elsewhere(moved, node)
    node.power_off()
    bed.end()


def test_a_node_is_cut_off_from_the_store_to_the_end(bed: Bed):
    """Its sessions' last snapshots count."""
    node, moved = bed.begin()
    cut = time.monotonic()
    node.cut(bed.c.store_address)
    bed.drill(node, 3_000)
    wait_until(cut + 3)
    most_lost = power_off(node, moved)
    bed.elsewhere(moved, node)
    bed.end(most_lost)


@pytest.mark.parametrize("how", ["down", "silent"])
def test_the_hub_is_away_meanwhile(bed: Bed, how: str):
    """`silent`: it takes every question and answers none, as through a partition."""
    node, moved = bed.begin()
    bed.drill(node, 30_000)
    wait_for("the evacuation to begin", lambda: own(node))
    if how == "down":
        bed.c.hub.hub.kill()
    else:
        bed.c.hub.hub.signal(signal.SIGSTOP)
    try:
        all_saved(node)
        bed.elsewhere(moved, node)
        node.power_off()
    finally:
        if how == "silent":
            bed.c.hub.hub.signal(signal.SIGCONT)
            os.kill(bed.c.hub.hub.process.pid, signal.SIGCONT)  # nsenter stops with its child
    if how == "down":
        bed.c.hub.start_hub()
    bed.end()
    for person in moved:
        assert bed.c.hub.hub_server(person.user)["ready"]


# --- the store ---------------------------------------------------------------------------------------


def test_the_store_is_slow(bed: Bed):
    node, moved = bed.begin()
    bed.c.s3.latency = 0.3
    node.shape("100mbit")
    bed.drill(node, 30_000)
    assert all_saved(node)["margin_ms"] > 0
    bed.elsewhere(moved, node)
    node.power_off()
    bed.end()


def test_the_store_fails_for_a_while(bed: Bed):
    node, moved = bed.begin()
    bed.c.s3.ask(failing=True)
    bed.drill(node, 60_000)  # a request is tried for up to 20 s
    # Or a snapshot is under way, which has more than one to try in vain before it is its turn.
    tried = time.monotonic() + 25
    wait_for("it to fail", lambda: "failed" in evacuee_states(node) or time.monotonic() > tried)
    bed.c.s3.ask(failing=False)
    assert all_saved(node)["margin_ms"] > 0
    bed.elsewhere(moved, node)
    node.power_off()
    bed.end()


# --- where they go -----------------------------------------------------------------------------------


def test_the_target_dies_during_the_restore(bed: Bed):
    node, moved = bed.begin()
    bed.drill(node, 30_000)

    def target() -> ClusterNode | None:
        for session in (p.session for p in moved):
            if session["state"] == "restoring" and session["node"] != node.name:
                return bed.c.nodes[session["node"]]
        return None

    died = wait_for("a restore", target, pause=0.01)
    # Who was there by then has been snapshotted before.
    on_it = bed.of(died)
    most_lost = power_off(died, [*moved, *on_it])
    all_saved(node)
    bed.elsewhere([*moved, *on_it], node, died)
    node.power_off()
    bed.end(most_lost)


def test_who_cannot_be_checkpointed(bed: Bed):
    """CRIU refuses it: it runs to the end, and begins anew elsewhere with its home as it was."""
    c = bed.c
    node, moved = bed.begin()
    eve = refused_by_criu(c, bed)
    home = c.hub.dir / "home" / "eve"
    at = c.nodes[c.api.session("eve")["node"]]
    moved = bed.of(at)
    newest = max(e["id"] for e in c.api.events())
    kernel = eve.new_kernel()
    bed.drill(at, 20_000)
    deadline = time.monotonic() + 20
    wait_for("CRIU to refuse", lambda: "failed" in evacuee_states(at))
    one = next(s for s in own(at)["sessions"] if s["state"] == "failed")
    assert one["session"] == c.api.session("eve")["id"] and "Unsupported proto 262" in one["why"]
    wait_for("its user to be told", lambda: "cannot be saved" in (c.api.session("eve")["note"] or ""))
    note = home / f"SAVE-YOUR-WORK.{c.api.session('eve')['id']}.txt"
    wait_for("the note in her home", note.exists)
    assert "Unsupported proto 262" in note.read_text() and note.owner() == "eve"
    # To the end.
    wait_until(deadline)
    kernel.run("open('last', 'w').write('words')")
    at.power_off()
    events = wait_for("the event", lambda: [e for e in c.api.events(after=newest)
                                            if e["what"] == "left-behind" and e["user"] == "eve"])
    assert "Unsupported proto 262" in events[0]["detail"]
    assert (home / "last").read_text() == "words"
    wait_for("the Hub to know", lambda: c.hub.hub_server("eve") is None)
    assert c.api.session("eve")["left_behind"]["node"] == at.name
    eve.progress.clear()
    eve.start_server()
    shown = [event.get("message") or "" for event in eve.progress]
    assert [line for line in shown if "could not be saved: " in line and "proto 262" in line], shown
    assert c.api.session("eve")["node"] != at.name and note.exists()
    assert eve.new_kernel().value("print(repr(open('last').read()).replace(\"'\", '\"'))") == "words"
    bed.elsewhere(moved, at)
    bed.end()


def refused_by_criu(c: Cluster, bed: Bed) -> Browser:
    """Eve's server, never to be checkpointed: it has a socket that CRIU does not know, from the moment
    that Python runs. By the time its own configuration is read, it may have been snapshotted."""
    add_account(c.hub.dir / "home", "eve")
    site = (c.hub.dir / "home/eve" / HOME_PYTHON.format(sys.version_info)).parent
    (site / "usercustomize.py").write_text(
        "import socket\n"
        "odd = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)\n"
        "odd.bind(('127.0.0.1', 0))\nodd.listen()\n"
        "import builtins; builtins.odd = odd\n")
    eve = c.hub.browser("eve").log_in()
    eve.start_server()
    return eve
