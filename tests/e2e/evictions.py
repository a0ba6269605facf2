# SPDX-License-Identifier: Apache-2.0
"""Spot machines taken away at random moments, with and without notice, under sessions at work; the
witness (observer.py) says what became of them. For a test (some) and for the benchmark (200)."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from basekit import Json, wait_for
from browser import Browser, Kernel
from clusterkit import Cluster, ClusterNode
from observer import BEAT, Witness, testify

RPO, LEASE, MARGIN = 6, 3, 1  # seconds
NOTICES = (None, 0, 3, 10)    # seconds of warning; None: none at all
USERS = ("ada", "bob")

OPTIONS: dict[str, Json] = {
    "spot": {"protect": "spot", "rpo": f"{RPO}s", "bandwidth_share": 1.0, "margin": f"{MARGIN}s"},
    "nodes": {"lease": f"{LEASE}s", "reserve": 0},
    "controller": {"observe": "300ms"},
    "idle": {"timeout": 0},
}


@dataclass
class Outcome:
    evictions: int = 0
    sessions_moved: int = 0
    beyond: list[str] = field(default_factory=list)  # who has lost more than since the last snapshot
    lost: list[str] = field(default_factory=list)  # whose kernel does not come back: ends the run
    away_s: list[float] = field(default_factory=list)  # from the machine's end to the kernel's answer
    witnesses: dict[str, Witness] = field(default_factory=dict)

    @property
    def doubled(self) -> int:
        return sum(len(w.skipped) for w in self.witnesses.values())

    @property
    def most_lost_s(self) -> float:
        return max((s for w in self.witnesses.values() for s in w.lost_s), default=0.0)


class Person:
    """With a notebook open, whose kernel counts."""

    def __init__(self, cluster: Cluster, user: str):
        self.cluster, self.user = cluster, user
        self.browser: Browser = cluster.hub.browser(user).log_in()
        self.browser.start_server()
        self.kernel: Kernel = self.browser.new_kernel()
        self.kernel.run(BEAT)
        cluster.api.wait_operation(cluster.api.post("/v1/session/snapshot", user=user, server=""))

    @property
    def node(self) -> str:
        return self.cluster.api.session(self.user)["node"]

    def answers(self) -> bool:
        """Through the proxy, from a kernel that still knows its variables."""
        try:
            self.kernel.connect()
            return self.kernel.value("print(beats)", seconds=20) > 0
        except Exception:  # noqa: BLE001  whatever a browser may meet while its server is away
            return False

    def testify(self) -> Witness:
        return testify(self.cluster.hub.dir / "home" / self.user)

    def saved_since(self) -> float:
        """The wall clock when the newest snapshot that elsad knows was asked for, which was before the
        session stood still for it."""
        events = iter(self.cluster.api.events(user=self.user, limit=1000))  # newest first
        next(e for e in events if e["what"] == "snapshot")
        return next(e["at"] for e in events if e["what"] == "snapshotting") / 1000


def power_off(node: ClusterNode, people: list[Person]) -> dict[str, float]:
    """The most that each of them may lose, in seconds: all since the last snapshot. That is about the
    RPO, if the machine is quick enough for it, which is the benchmark's business."""
    since = {p.user: p.saved_since() for p in people}
    node.power_off()
    return {user: time.time() - at for user, at in since.items()}


def warn(node: ClusterNode, notice: float | None, early: float) -> None:
    """`early`: seconds before the time it was said to go."""
    if notice is not None:
        node.notice_file.write_text('{"kind": "evict", "in": "%ss"}' % notice)
        time.sleep(max(0.0, notice - early))


def evict_once(cluster: Cluster, people: list[Person], rng: random.Random, outcome: Outcome) -> None:
    node = cluster.nodes[rng.choice(people).node]
    moved = [p for p in people if p.node == node.name]
    returns = {p.user: len(p.testify().lost) for p in people}
    time.sleep(rng.uniform(0, RPO / 2))
    warn(node, rng.choice(NOTICES), rng.choice((0.0, 0.0, rng.uniform(0, 3))))
    most_lost = power_off(node, moved)
    began = time.monotonic()
    outcome.lost = [p.user for p in people if not comes_back(p)]
    outcome.away_s.append(time.monotonic() - began)
    outcome.evictions += 1
    outcome.sessions_moved += len(moved)
    for person in people:
        lost = sum(person.testify().lost_s[returns[person.user]:])
        if lost > most_lost.get(person.user, 0):
            outcome.beyond.append(f"{person.user} {lost} s instead of {most_lost.get(person.user, 0)}")
    node.power_on()
    wait_for(f"{node.name} to be back", lambda: is_back(cluster, node.name), seconds=60)


def comes_back(person: Person) -> bool:
    deadline = time.monotonic() + 90
    while not person.answers():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def is_back(cluster: Cluster, name: str) -> bool:
    listed = {n["name"]: n for n in cluster.api.get("/v1/nodes")["items"]}
    return bool(listed[name].get("up")) and not listed[name].get("notices")


def run(count: int, seed: int, progress: Callable[[str], None] = lambda _: None) -> Outcome:
    rng = random.Random(seed)
    outcome = Outcome()
    with Cluster(nodes=3, spot=("n1", "n2", "n3"), local=False, options=OPTIONS) as cluster:
        people = [Person(cluster, user) for user in USERS]
        for n in range(count):
            evict_once(cluster, people, rng, outcome)
            for person in people:
                outcome.witnesses[person.user] = person.testify()
            progress(f"{n + 1} of {count}: away {outcome.away_s[-1]:.1f} s, most lost "
                     f"{outcome.most_lost_s:.1f} s, doubled {outcome.doubled}")
            if outcome.lost or outcome.doubled:
                progress(f"lost: {outcome.lost}\n{story(cluster)}")
                break
    return outcome


def story(cluster: Cluster) -> str:
    """What elsad thinks, for whoever looks into a failure."""
    events = [" ".join(str(e[k]) for k in ("at", "user", "who", "what", "why", "detail"))
              for e in cluster.api.events() if e["what"] not in ("snapshot", "snapshotting")]
    sessions = [str(cluster.api.session(user)) for user in USERS]
    return "\n".join([*sessions, *reversed(events[:60]), cluster.logs()])
