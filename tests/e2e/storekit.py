# SPDX-License-Identifier: Apache-2.0
"""A node whose store is a bucket behind the fault proxy; what lies in the bucket, seen past all of
the product; and campaigns that bring every fault to every request."""

from __future__ import annotations

import collections
import contextlib
import http.client
import json
import os
import pathlib
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from urllib.parse import quote, unquote

import pytest
from basekit import PATIENCE
from faultproxy import FAULTS, SKEW, FaultProxy
from nodekit import Node, Refused, Session, wait_for
from s3server import S3Server
from test_node import assert_same

PREFIX = "elsa"
# Kinds that are not tried again: the one request that meets them has failed. All others pass.
FINAL = ("403",)
TIMEOUT = round(PATIENCE)  # of a request, in seconds


class S3Node(Node):
    """`tries`: of a request; few, so that what fails for good does so soon."""

    def __init__(self, where: pathlib.Path, port: int, tries: int = 3, bucket: str = "bucket",
                 more: str = ""):
        self.url = (f"s3://{bucket}/{PREFIX}?endpoint=http://127.0.0.1:{port}&region=us-east-1&"
                    f"timeout={TIMEOUT}&tries={tries}")
        super().__init__(where, more)

    def write_config(self, more: str = "") -> None:
        super().write_config()
        text = self.config.read_text().replace(f"file://{self.store}", self.url)
        self.config.write_text(text.replace("[store]", f"[store]\n{more}"))


class Bucket:
    """The objects below `prefix`, as the server keeps them: a file for each, with a quoted name."""

    def __init__(self, where: pathlib.Path, prefix: str = PREFIX + "/"):
        self.where, self.prefix = where, prefix

    def path(self, key: str) -> pathlib.Path:
        return self.where / quote(self.prefix + key, safe="")

    def keys(self, prefix: str = "") -> list[str]:
        names = sorted(unquote(name) for name in os.listdir(self.where) if name[0] != ".")
        keys = [n.removeprefix(self.prefix) for n in names if n.startswith(self.prefix)]
        return [k for k in keys if k.startswith(prefix)]

    def manifests(self, session: str) -> dict[int, dict]:
        found = {}
        for key in self.keys(f"s/{session}/"):
            if match := re.fullmatch(r"s/\w+/(\d+)/manifest", key):
                found[int(match[1])] = json.loads(self.path(key).read_text().splitlines()[1])
        return found

    def strangers(self, session: str) -> list[str]:
        """What no checkpoint of the session needs."""
        needed = set()
        for generation, manifest in self.manifests(session).items():
            needed.add(f"s/{session}/{generation}/manifest")
            needed |= {f"s/{session}/{g}/{writer}-{n}" for g, writer, n, _ in manifest["packs"]}
        return [key for key in self.keys(f"s/{session}/")
                if key not in needed and not re.search(r"/key-\w+$", key)]

    def missing(self, session: str) -> list[str]:
        """What checkpoints name and is not there."""
        return [f"{generation}: {writer}-{n}"
                for generation, manifest in self.manifests(session).items()
                for g, writer, n, size in manifest["packs"]
                if not self.has(f"s/{session}/{g}/{writer}-{n}", size)]

    def has(self, key: str, size: int) -> bool:
        return self.path(key).exists() and self.path(key).stat().st_size == size


class Place:
    """All of it, with `nodes` made on demand."""

    def __init__(self, where: pathlib.Path, server: S3Server, proxy: FaultProxy):
        self.where, self.server, self.proxy = where, server, proxy
        self.bucket = Bucket(where / "s3" / "bucket")
        self.node: S3Node | None = None

    def start(self, **options: object) -> S3Node:
        self.node = S3Node(self.where / "node", self.proxy.port, **options)
        self.node.start()
        return self.node


@contextlib.contextmanager
def s3_place() -> Iterator[Place]:
    with pytest.MonkeyPatch.context() as patch, \
         tempfile.TemporaryDirectory(prefix="node-", dir="/var/lib/elsa") as name:
        where = pathlib.Path(name)
        where.chmod(0o755)
        for variable in [v for v in os.environ if v.lower().endswith("_proxy")]:
            patch.delenv(variable)
        # The server checks signatures itself.
        with S3Server(where / "s3") as server, FaultProxy(server, {}, checks=False) as proxy:
            for variable, value in server.credentials.items():
                patch.setenv(variable, value)
            proxy.delay = 2.5 * TIMEOUT
            place = Place(where, server, proxy)
            try:
                yield place
            finally:
                proxy.reset()
                if place.node:
                    place.node.teardown()


def work(node: Node, kind: str, **request: object) -> dict:
    """Work on the store, to its end. The node's own first sweep may be under way."""

    def begun() -> dict | None:
        try:
            return node.ask("POST", "/v1/store", {"kind": kind, **request}, good=(202,))
        except Refused as refused:
            if "another sweep" not in str(refused):
                raise
        return None

    return node.get(f"/v1/store/{wait_for(begun)['id']}/end")


# --- one request among those of an effect ----------------------------------------------------------


class Run:
    """What is asked for one session while one effect is at work. Requests get names that are the
    same in every run."""

    def __init__(self, session: Session, generation: int):
        self.session, self.generation = session, generation
        self.seen: dict[str, str] = {}
        self.counts: collections.Counter[str] = collections.Counter()
        self.faults: list[tuple[str, str]] = []
        self.retried: set[str] = set()  # lines that will come once more
        self.lines: list[str] = []  # for whoever has to find out

    def kind_of(self, line: str) -> str:
        method, target = line.split(" ", 1)
        path, _, query = unquote(target).partition("?")
        if "list-type" in query:
            return "LIST the session" if self.session.id in query else "LIST the store"
        key = path.split(f"/{PREFIX}/", 1)[-1].replace(self.session.id, "S")
        key = re.sub(rf"\b{self.generation}/", "NEW/", key)
        key = re.sub(r"\b\d+/", "OLD/", key)
        return f"{method} " + re.sub(r"[0-9a-f]{16}", "X", key)

    def name(self, line: str, head: http.client.HTTPMessage) -> tuple[str, bool]:
        """And whether this is its first try."""
        key = f"{line} {head.get('range')}"
        if key in self.retried:
            self.retried.discard(key)
            return self.seen[key], False
        kind = self.kind_of(line)
        self.counts[kind] += 1
        # Only listings are the same wherever they stand.
        number = f" ({min(self.counts[kind], 4)})" if kind.startswith("LIST") else ""
        self.seen[key] = kind + number
        return self.seen[key], True

    def comes_again(self, line: str, head: http.client.HTTPMessage) -> None:
        self.retried.add(f"{line} {head.get('range')}")

    def is_mine(self, line: str) -> bool:
        return self.session.id in line


class Once:
    """Every kind of fault at every request, each one time, several in one run. What is still to come
    is only known as requests are seen."""

    def __init__(self, proxy: FaultProxy, kinds: tuple[str, ...] = FAULTS):
        self.proxy = proxy
        # Those that end a run come last: until then runs see all there is.
        self.kinds = [k for k in kinds if k not in FINAL] + [k for k in kinds if k in FINAL]
        self.left: dict[str, list[str]] = {}
        self.done: dict[str, set[str]] = collections.defaultdict(set)
        self.always: dict[str, str] = {}

    def any_left(self, names: set[str]) -> bool:
        return any(self.left[name] for name in names)

    def open(self, names: set[str] | None = None) -> list[str]:
        """Requests at which some fault has never been."""
        return [f"{name}: {set(self.kinds) - self.done[name]}" for name in names or set(self.done)
                if set(self.kinds) - self.done[name]]

    def allowed(self, fault: str, run: Run) -> bool:
        if fault in FINAL:
            return not any(f in FINAL and n not in self.always for n, f in run.faults)
        # The clock must not be set twice while a request is made.
        return fault != "skew" or time.monotonic() - self.proxy.clock_set > 0.5

    def choose(self, run: Run, line: str, head: http.client.HTTPMessage) -> str | None:
        name, first = run.name(line, head)
        if name not in self.left:
            passing = [k for k in self.kinds if k not in FINAL]
            turn = len(self.left) % len(passing)  # so that those of one run differ
            self.left[name] = passing[turn:] + passing[:turn] + [k for k in self.kinds if k in FINAL]
        if name in self.always:
            run.faults.append((name, self.always[name]))
            return self.always[name]
        fault = next((f for f in self.left[name] if first and self.allowed(f, run)), None)
        if not fault:
            return None
        self.left[name].remove(fault)
        self.done[name].add(fault)
        run.faults.append((name, fault))
        if fault not in FINAL:
            run.comes_again(line, head)
        if fault == "skew":
            self.proxy.set_clock(0 if self.proxy.clock_ahead else SKEW)
            return None
        return fault


class ForGood:
    """From one request on every one fails in one way, until lifted."""

    def __init__(self, name: str, fault: str):
        self.at, self.fault = name, fault
        self.hit = self.lifted = False

    def choose(self, run: Run, line: str, head: http.client.HTTPMessage) -> str | None:
        name, _ = run.name(line, head)
        if self.lifted:
            return None
        self.hit = self.hit or name == self.at
        if self.hit:
            run.faults.append((name, self.fault))
        return self.fault if self.hit else None


class Director:
    """The proxy's plan: which fault is for whom. Effects of several sessions may be at work."""

    def __init__(self, proxy: FaultProxy):
        self.proxy = proxy
        self.lock = threading.Lock()
        self.runs: dict[Run, object] = {}
        proxy.reset(self.plan)

    def plan(self, line: str, head: http.client.HTTPMessage) -> str | None:
        with self.lock:
            for run, how in self.runs.items():
                if run.is_mine(line):
                    known = len(run.faults)
                    fault = how.choose(run, line, head)
                    run.lines.append(f"{time.monotonic():.2f} {line} {run.faults[known:]}")
                    return fault
        return None

    @contextlib.contextmanager
    def directs(self, run: Run, how: object) -> Iterator[Run]:
        with self.lock:
            self.runs[run] = how
        try:
            yield run
        finally:
            with self.lock:
                del self.runs[run]


class Nothing:
    """No faults: the names of all requests in their order."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def choose(self, run: Run, line: str, head: http.client.HTTPMessage) -> str | None:
        name, _ = run.name(line, head)
        if name not in self.names:
            self.names.append(name)
        return None


def settled(session: Session) -> dict | None:
    """Its status once nothing is being done to it."""
    def quiet() -> bool:
        status = session.node.sessions().get(session.id)
        return not status or not status.get("effect")
    wait_for(quiet, 60)
    return session.node.sessions().get(session.id)


class Pair:
    """One session that runs and one that sleeps, on one node."""

    def __init__(self, node: Node):
        self.node = node
        self.awake, self.asleep = Session(node), Session(node)
        self.before = {}
        for session in (self.awake, self.asleep):
            session.start()
            session.ask("fill", mib=1)
            self.before[session] = session.ask("state")
        self.awake.snapshot(1)
        self.asleep.hibernate(1)
        self.awakes, self.asleeps = 1, 1  # their generations

    def restart(self) -> None:
        self.node.stop()
        self.node.start()

    def refuse(self, *words: str, fault: str | None = None) -> None:
        """Neither can the one be put to sleep nor the other woken, and both are as they were."""
        for kind, session, generation in (("hibernate", self.awake, self.awakes + 1),
                                          ("restore", self.asleep, self.asleeps)):
            result = self.node.effect(kind, session, generation)
            assert result["state"] == "failed", result
            said = f"{result['text']} {result['remedy']}"
            assert all(word in said for word in words), said
            assert fault in (None, result["fault"]), result
            self.awakes += kind == "hibernate"
        assert not settled(self.asleep) and self.asleep.processes() == set()
        status = settled(self.awake)
        assert status["running"] and not status["frozen"]
        self.same(self.awake)

    def same(self, session: Session) -> None:
        wait_for(session.answers)
        after = session.ask("state")
        assert_same(self.before[session], after)
        self.before[session] = after

    def good(self) -> None:
        """All works."""
        self.awakes += 1
        self.asleeps += 1
        self.awake.hibernate(self.awakes)
        self.asleep.restore(self.asleeps - 1)
        self.same(self.asleep)
        self.asleep.hibernate(self.asleeps)
        self.awake.restore(self.awakes)
        self.same(self.awake)


@contextlib.contextmanager
def tmpfs(path: pathlib.Path, size: str) -> Iterator[None]:
    path.mkdir(exist_ok=True, parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "small", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)
