# SPDX-License-Identifier: Apache-2.0
"""Who gives machines, for tests: a command with its machines in files."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from elsad_kit import Elsad, Json
from elsad_nodes_kit import Cluster, Joined

# A pool of machines kept in a directory. Files there tell it what to do:
#   POOL.json         {"desired": N, "instances": [...]}
#   POOL.full         no capacity
#   POOL.lost         grow does it, then fails as if the answer had been lost
#   hold              waits while this is there
COMMAND = r'''#!/usr/bin/python3
import json, os, pathlib, sys, time
where = pathlib.Path(sys.argv[1])
verb, pool, *rest = sys.argv[2:]
log = open(where / "log", "a")
log.write(" ".join([verb, pool, *rest]) + "\n")
log.close()
path = where / (pool + ".json")
state = json.loads(path.read_text()) if path.exists() else {"desired": 0, "instances": []}
def save():
    new = path.with_suffix(".new." + str(os.getpid()))
    new.write_text(json.dumps(state))
    new.rename(path)
if verb != "describe":
    while (where / "hold").exists():
        time.sleep(0.05)
if verb == "describe":
    if (where / (pool + ".broken")).exists():
        print("not today", file=sys.stderr)
        sys.exit(1)
    print(json.dumps(state))
elif verb == "grow":
    if (where / (pool + ".full")).exists():
        print("no capacity left in this zone", file=sys.stderr)
        sys.exit(75)
    state["desired"] = int(rest[0])
    while sum(i["state"] != "ending" for i in state["instances"]) < state["desired"]:
        state["made"] = state.get("made", 0) + 1
        state["instances"].append({"id": f"{pool}-{state['made']}", "state": "running", "price": "spot"})
    save()
    if (where / (pool + ".lost")).exists():
        sys.exit(1)
elif verb == "shrink":
    if any(i["id"] == rest[0] for i in state["instances"]):
        state["desired"] -= 1
    state["instances"] = [i for i in state["instances"] if i["id"] != rest[0]]
    save()
'''


class Pools:
    """What the command has: `where` is its directory."""

    def __init__(self, where: Path):
        self.where = where
        where.mkdir()
        self.program = where / "pools"
        self.program.write_text(COMMAND)
        self.program.chmod(0o755)

    @property
    def argv(self) -> list[str]:
        return [str(self.program), str(self.where)]

    def asked(self, verb: str) -> list[str]:
        """What it was asked for, without the verb."""
        path = self.where / "log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.removeprefix(verb + " ") for line in lines if line.startswith(verb + " ")]

    def machines(self, pool: str) -> list[str]:
        path = self.where / (pool + ".json")
        return [i["id"] for i in json.loads(path.read_text())["instances"]] if path.exists() else []

    def state(self, pool: str) -> Json:
        return json.loads((self.where / (pool + ".json")).read_text())

    def set(self, pool: str, state: Json) -> None:
        new = self.where / (pool + ".put")
        new.write_text(json.dumps(state))
        new.rename(self.where / (pool + ".json"))

    def flag(self, name: str, on: bool = True) -> None:
        path = self.where / name
        path.touch() if on else path.unlink(missing_ok=True)


@contextlib.contextmanager
def growing(directory: Path, **capacity: Any) -> Iterator[Elsad]:
    """An elsad, not started yet, that asks for machines; `elsad.cluster` has its nodes. Nothing runs on
    its own."""
    cluster = Cluster(directory, capacity=capacity)
    cluster.elsad.cluster = cluster
    try:
        yield cluster.elsad
    finally:
        cluster.__exit__(None)


def join(elsad: Elsad, name: str, instance: str, **info: Any) -> Joined:
    """A machine comes up as a node."""
    return elsad.cluster.add(name, instance=instance, price="spot", **info)


def notice(node: Joined, seconds: float = 30) -> None:
    now = int(time.time() * 1000)
    node.notices = [{"id": "n1", "kind": "evict", "source": "test", "seen_at": now,
                     "at": now + int(seconds * 1000)}]  # fmt: skip


def kill_hard(elsad: Elsad) -> None:
    os.kill(elsad.process.pid, signal.SIGKILL)
    elsad.process.wait()


def capacity(elsad: Elsad) -> Json:
    return elsad.get("/v1/capacity")


def whats(elsad: Elsad) -> list[str]:
    return [e["what"] for e in elsad.events(limit=1000) if e["what"].startswith("capacity-")]
