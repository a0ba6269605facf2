# SPDX-License-Identifier: Apache-2.0
"""Sessions that move while they are used, and who looks on.

    with Cluster(options=movekit.options()) as cluster, Watch(cluster) as watch:
        busy = Busy(cluster, "ada", mib=64)       # a server through the real Hub and proxy, and with it:
        busy.cells                                # a cell every 50 ms over one websocket
        busy.terminal, busy.download, busy.upload, busy.line, and its kernel's own threads
        other = elsewhere(cluster, busy.id)
        migrate(cluster, "ada", other.name)       # the operation, done
        busy.check()                              # nothing lost, nothing doubled, nothing disconnected
        assert not watch.twice
        assert remains(source, busy.id) == []

The witness of observer.py counts in each session; Watch looks at the hosts' control groups. Neither
believes elsad or a node."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import random
import re
import signal
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests

import observer
from basekit import HOST_ADDRESS, Json, wait_for
from browser import Browser, Kernel, Terminal
from clusterkit import Cluster, ClusterNode
from nodekit import Refused

EVERY = 0.05       # seconds from one cell to the next
LINE_PORT = 9700   # of the server on the hub's host that kernels speak to
HUB_PORTS = (8081, 8082)  # hubkit.Stack's own
DOWNLOAD_MIB, UPLOAD_MIB = 48, 8


def options(**more: Json) -> dict[str, Json]:
    """Of clusterkit.Cluster; sections on top."""
    merged: dict[str, Json] = {
        "spot": {"protect": "none"},
        "nodes": {"lease": "5s", "reserve": 0},
        "controller": {"observe": "300ms"},
        "idle": {"timeout": 0},
        "network": {"allow": [f"{HOST_ADDRESS}:{port}" for port in (*HUB_PORTS, LINE_PORT)]},
    }
    for section, values in more.items():
        merged.setdefault(section, {}).update(values)
    return merged


# --- where a session is -------------------------------------------------------------------------------


class Group:
    """A session's control group on one host, as the kernel has it."""

    def __init__(self, node: ClusterNode, session: str):
        self.node, self.session = node, session
        tops = [*Path("/sys/fs/cgroup").glob("freezer*/**/" + node.host.cgroup),
                *Path("/sys/fs/cgroup").glob(node.host.cgroup),
                *Path("/sys/fs/cgroup").glob("*/" + node.host.cgroup)]
        self.path = next((t for t in tops if "freezer" in str(t)), tops[0] if tops else None)

    def _read(self, name: str) -> str:
        if self.path is None:
            return ""
        try:
            return (self.path / self.session / name).read_text()
        except OSError:
            return ""

    def pids(self) -> list[int]:
        return [int(pid) for pid in self._read("cgroup.procs").split()]

    def frozen(self) -> bool:
        """Asked to be, which is when its processes begin to stop."""
        return "THAWED" not in self._read("freezer.state") and self._read("cgroup.freeze").strip() != "0"

    def runs(self) -> bool:
        """The session's own code can run: what CRIU does in its place while it restores is not that."""
        living = [] if self.frozen() else [pid for pid in self.pids() if not _is_dying(pid)]
        if not living:
            return False
        return not any(_is_criu(pid) for pid in living) and not self.restoring()

    def restoring(self) -> bool:
        """A CRIU is at work in the session's own directory."""
        mine = f"/criu/{self.session}".encode()
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                line = Path(entry.path, "cmdline").read_bytes()
                if mine in line and b"restore" in line and str(self.node.dir).encode() in line:
                    return True
        return False


def _is_criu(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "criu" in os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    return False


def _is_dying(pid: int) -> bool:
    """It has been sent SIGKILL, and was thawed only to die; or it is at that, without memory already."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    pending = [int(mask, 16) for mask in re.findall(r"^(?:SigPnd|ShdPnd):\s*(\w+)", text, re.M)]
    return "VmRSS:" not in text or any(m >> signal.SIGKILL - 1 & 1 for m in pending)


class Watch(threading.Thread):
    """Looks at all hosts over and over: does a session ever run at two of them? One moment of it can be
    our own slowness in looking at one after the other; two in a row cannot."""

    def __init__(self, cluster: Cluster, pause: float = 0.02):
        super().__init__(daemon=True)
        self.cluster, self.pause = cluster, pause
        self.sessions: set[str] = set()
        self.twice: list[str] = []
        self.ended = threading.Event()
        self.groups: dict[tuple[str, str], Group] = {}

    def of(self, node: ClusterNode, session: str) -> Group:
        key = node.name, session
        if key not in self.groups or self.groups[key].path is None:
            self.groups[key] = Group(node, session)
        return self.groups[key]

    def run(self) -> None:
        seen: dict[str, int] = {}
        while not self.ended.wait(self.pause):
            for session in list(self.sessions):
                where = [n.name for n in list(self.cluster.nodes.values())
                         if n.host.is_on and self._may_run(n, session)]
                if len(where) > 1:
                    where = [n for n in where if self.of(self.cluster.nodes[n], session).runs()]
                seen[session] = seen.get(session, 0) + 1 if len(where) > 1 else 0
                if seen[session] == 2:
                    self.twice.append(f"{session} at {' and '.join(where)}: {self._seen(session)}")

    def _seen(self, session: str) -> dict[str, list[str]]:
        """For whoever looks into it."""
        def state(pid: int) -> str:
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/status").read_text()
                return " ".join(re.findall(r"^(?:Name|State|SigPnd|ShdPnd|VmRSS):\s*(.*)", text, re.M))
            return "gone"

        return {n.name: [f"{pid} {state(pid)}" for pid in self.of(n, session).pids()]
                for n in self.cluster.nodes.values() if n.host.is_on}

    def _may_run(self, node: ClusterNode, session: str) -> bool:
        group = self.of(node, session)
        return not group.frozen() and bool(group.pids())

    def where(self, session: str) -> list[str]:
        """The nodes where it runs, as the kernel has it."""
        return [n.name for n in self.cluster.nodes.values()
                if n.host.is_on and self.of(n, session).runs()]

    def has_processes(self, session: str) -> list[str]:
        return [n.name for n in self.cluster.nodes.values()
                if n.host.is_on and self.of(n, session).pids()]

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join(10)


def remains(node: ClusterNode, session: str) -> list[str]:
    """What a session has left on a node's host."""
    if not node.host.is_on:
        return []
    found = [f"process {pid}" for pid in Group(node, session).pids()]
    found += [f"cgroup {p}" for p in Path("/sys/fs/cgroup").glob(f"**/{node.host.cgroup}/{session}")]
    mounts = Path(f"/proc/{node.host.pid}/mounts").read_text().splitlines()
    found += [f"mount {line.split()[1]}" for line in mounts if session in line]
    links = node.host.run("ip", "-brief", "link").stdout.splitlines()
    found += [f"link {line.split()[0]}" for line in links if line.startswith("es" + session[:6])]
    for top in (node.dir / "state", node.run_dir):
        found += [f"file {p}" for p in top.rglob(f"*{session}*")
                  if not re.search(r"/(journal|logs?|links)/", str(p)) and p.suffix != ".log"]
    criu = [f"criu {p}" for p in criu_pids(node, session)]
    return sorted(found + criu)


def criu_pids(node: ClusterNode, session: str, word: str = "") -> list[int]:
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                line = Path(entry.path, "cmdline").read_bytes().split(b"\0")
                text = b" ".join(line).decode(errors="replace")
                if b"criu" in os.path.basename(line[0]) and str(node.dir / "state/criu" / session) in text \
                        and word in text:
                    found.append(int(entry.name))
    return found


def elsewhere(cluster: Cluster, user: str) -> ClusterNode:
    at = cluster.api.session(user)["node"]
    return next(n for n in cluster.nodes.values() if n.name != at)


def migrate(cluster: Cluster, user: str, to: str, seconds: float = 120) -> Json:
    """The operation, when it has come to its end: the session runs there."""
    done = cluster.api.wait_operation(ask_migrate(cluster, user, to), seconds)
    assert done["state"] == "done", done
    return done


def ask_migrate(cluster: Cluster, user: str, to: str) -> Json:
    return cluster.api.post("/v1/session/migrate", user=user, server="", to=to)


def wait_settled(cluster: Cluster, watch: Watch, user: str, seconds: float = 60) -> ClusterNode:
    """It runs, at one node, and the others have nothing of it any more; that node."""
    session = cluster.api.session(user)["id"]

    def settled() -> ClusterNode | None:
        with contextlib.suppress(OSError, Refused, http.client.HTTPException):
            told = cluster.api.session(user)
            if told["state"] != "running" or watch.where(session) != [told["node"]]:
                return None
            if watch.has_processes(session) != [told["node"]] or told.get("missing_bytes"):
                return None
            return cluster.nodes[told["node"]]
        return None

    try:
        node = wait_for(f"{user}'s session to run at one node", settled, seconds=seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}: elsad says {cluster.api.session(user)}; it runs at "
                             f"{watch.where(session)}, has processes at "
                             f"{watch.has_processes(session)}") from None
    for other in cluster.nodes.values():
        if other is not node:
            left: list[str] = []

            def gone(other=other, left=left) -> bool:
                left[:] = remains(other, session)
                return not left

            try:
                wait_for("nothing to be left", gone, seconds=20, pause=0.1)
            except AssertionError:
                raise AssertionError(f"left at {other.name}: {left}") from None
    return node


# --- a kernel at work ------------------------------------------------------------------------------------

# Every page says which one it is and how often it was written; what else is in it is never lost sight of
# either. A page that came twice, not at all, or as it was before does not agree with `writes`.
DATA = """
import numpy as np, os, tempfile, threading, time
PAGES, PARTS, PART = {mib} * 256, {parts}, {part}
rng = np.random.default_rng(1)
data = np.empty((PAGES, 512), np.int64)
for i in range(0, PAGES, 4096):
    data[i:i + 4096] = rng.integers(2**62, size=data[i:i + 4096].shape)
data[:, 0], data[:, 1] = np.arange(PAGES), 0
writes, flips = np.zeros(PAGES, np.int64), np.zeros(PAGES // 256, np.int64)
rest = lambda: int(np.bitwise_xor.reduce([np.bitwise_xor.reduce(data[i:i + 256, 2:], axis=None)
                                          for i in range(0, PAGES, 256)]))
truth = rest()
wrong, last = [], 0
ops = os.open(os.path.expanduser("~/ops"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

def step(n):
    global last
    if n != last + 1:
        wrong.append(("order", last, n))
    last = n
    for at in rng.integers(PAGES - PART, size=PARTS):
        own = data[at:at + PART]
        if (own[:, 0] != np.arange(at, at + PART)).any() or (own[:, 1] != writes[at:at + PART]).any():
            wrong.append(("pages", int(at)))
        writes[at:at + PART] += 1
        own[:, 1] = writes[at:at + PART]
    os.write(ops, b"%d\\n" % n)
    print(n)

RATE, locks = {rewrite}, [threading.Lock() for _ in range(4)]
def rewrite(k):
    due = time.monotonic()
    while True:
        for at in range(k, PAGES // 256, len(locks)):
            with locks[k]:
                np.invert(data[at * 256:at * 256 + 256, 2:], out=data[at * 256:at * 256 + 256, 2:])
                flips[at] += 1
            due = max(due + len(locks) / RATE, time.monotonic() - 0.25)
            time.sleep(max(0, due - time.monotonic()))
for k in range(len(locks) if RATE else 0):
    threading.Thread(target=rewrite, args=(k,), daemon=True).start()
print(truth)
"""

CHECK = """
import json
for lock in locks:
    lock.acquire()
for i in np.flatnonzero(flips % 2):
    np.invert(data[i * 256:i * 256 + 256, 2:], out=data[i * 256:i * 256 + 256, 2:])
flips[:] = 0
print(json.dumps({"wrong": wrong, "pages": bool((data[:, 0] == np.arange(PAGES)).all()),
                  "writes": bool((data[:, 1] == writes).all()), "rest": rest() == truth,
                  "last": last}))
for lock in locks:
    lock.release()
"""

# What a session has besides memory: a clock, a file of its own layer, one without a name, somebody to
# speak to on another host.
KEPT = """
import socket
own = "/tmp/own"
open(own, "w").write("layer" * 1000)
nameless = tempfile.TemporaryFile(dir="/tmp")
nameless.write(os.urandom(1 << 20))
nameless.seek(0)
import hashlib
named = hashlib.sha256(nameless.read()).hexdigest()
back, born = 0, time.monotonic()
def clock():
    global back
    before = time.monotonic()
    while True:
        time.sleep(0.005)
        now = time.monotonic()
        back += now < before
        before = now
threading.Thread(target=clock, daemon=True).start()
line, line_error, lines = socket.create_connection(("%s", %d)), "", 0
def talk():
    global lines, line_error
    file = line.makefile("rwb")
    try:
        while True:
            file.write(b"%%d\\n" %% (lines + 1))
            file.flush()
            answer = file.readline()
            if answer.strip() != b"%%d" %% (lines + 1):
                raise ValueError(answer)
            lines += 1
            time.sleep(0.02)
    except BaseException as error:
        line_error = repr(error)
threading.Thread(target=talk, daemon=True).start()
""" % (HOST_ADDRESS, LINE_PORT)

KEPT_CHECK = """
import json
nameless.seek(0)
print(json.dumps({"own": open(own).read() == "layer" * 1000,
                  "nameless": hashlib.sha256(nameless.read()).hexdigest() == named,
                  "back": back, "monotonic": time.monotonic(), "lines": lines,
                  "line_error": line_error, "pid": os.getpid(), "beats": beats}))
"""


@dataclass
class Cell:
    asked: float
    answered: float

    @property
    def latency(self) -> float:
        return self.answered - self.asked


class Cells(threading.Thread):
    """Runs step(n) over one websocket, the next one 50 ms after the one before, or when that has been
    answered."""

    def __init__(self, kernel: Kernel, every: float = EVERY):
        super().__init__(daemon=True)
        self.kernel, self.every = kernel, every
        self.cells: list[Cell] = []
        self.disconnects: list[str] = []
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            number, asked = len(self.cells) + 1, time.monotonic()
            try:
                result = self.kernel.execute(f"step({number})", seconds=180)
                assert not result.error and result.output.strip() == str(number), result
            except Exception as error:  # noqa: BLE001  whatever a browser may meet
                self.disconnects.append(f"cell {number}: {error!r}")
                return
            self.cells.append(Cell(asked, time.monotonic()))
            time.sleep(max(0.0, asked + self.every - time.monotonic()))

    def between(self, begin: float, end: float) -> list[Cell]:
        return [c for c in list(self.cells) if c.answered >= begin and c.asked <= end]

    def longest_gap(self, begin: float, end: float) -> float:
        """Between two answers."""
        times = [c.answered for c in list(self.cells)]
        return max((b - a for a, b in zip(times, times[1:]) if b >= begin and a <= end), default=0.0)

    def wait_for_more(self, count: int = 5, seconds: float = 60) -> None:
        wanted = len(self.cells) + count
        wait_for("cells to be answered", lambda: len(self.cells) >= wanted, seconds=seconds, pause=0.01,
                 unless=lambda: self.disconnects[0] if self.disconnects else None)

    def stop(self) -> None:
        self.ended.set()
        self.join(200)


class Line:
    """The server on the hub's host: says every line again. A session that moves must not be a new
    connection here."""

    def __init__(self, cluster: Cluster):
        with cluster.hub.host.inside():
            self.listener = socket.create_server((HOST_ADDRESS, LINE_PORT))
        self.connections = 0
        self.broken: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        number = 0
        try:
            for text in connection.makefile("rb"):
                number += 1
                if int(text) != number:
                    self.broken.append(f"{text!r} in place of {number}")
                connection.sendall(text)
        except OSError as error:
            self.broken.append(repr(error))

    def close(self) -> None:
        self.listener.close()


class Download:
    """A file of the user's home that is half here."""

    def __init__(self, browser: Browser, home: Path):
        self.digest = hashlib.sha256()
        path = home / "large.bin"
        block = random.Random(1).randbytes(1 << 20)
        with path.open("wb") as file:
            for n in range(DOWNLOAD_MIB):
                piece = n.to_bytes(8, "big") + block[8:]
                file.write(piece)
                self.digest.update(piece)
        os.chown(path, home.stat().st_uid, home.stat().st_gid)
        self.answer = browser.get(f"{browser.base}files/large.bin", stream=True)
        assert self.answer.status_code == 200, self.answer.status_code
        self.got = hashlib.sha256()
        self._take(1 << 20)

    def _take(self, most: int) -> int:
        done = 0
        while done < most and (data := self.answer.raw.read(min(1 << 16, most - done))):
            self.got.update(data)
            done += len(data)
        return done

    def finish(self) -> None:
        left = (DOWNLOAD_MIB - 1) << 20
        assert self._take(left + 1) == left
        assert self.got.digest() == self.digest.digest()


class Upload:
    """A file of which half is there."""

    def __init__(self, browser: Browser, home: Path):
        self.path = home / "sent.txt"
        self.text = "".join(random.Random(2).choices("abcdefgh", k=1 << 16)) * (UPLOAD_MIB * 16)
        body = json.dumps({"type": "file", "format": "text", "content": self.text}).encode()
        url = urlsplit(f"{browser.base}api/contents/sent.txt")
        request = browser.http.prepare_request(requests.Request("GET", url.geturl()))
        self.connection = http.client.HTTPConnection(url.hostname, url.port, timeout=120)
        self.connection.putrequest("PUT", url.path)
        for name, value in {"Cookie": request.headers["Cookie"], "X-XSRFToken": browser.xsrf,
                            "Content-Type": "application/json", "Content-Length": str(len(body))}.items():
            self.connection.putheader(name, value)
        self.connection.endheaders()
        half = len(body) // 2
        self.connection.send(body[:half])
        self.rest = body[half:]

    def finish(self) -> None:
        self.connection.send(self.rest)
        answer = self.connection.getresponse()
        assert answer.status in (200, 201), (answer.status, answer.read()[:300])
        answer.read()
        assert self.path.read_text() == self.text


@dataclass
class Sizes:
    mib: int = 48
    parts: int = 20     # a cell touches so many places of the data
    part: int = 10      # of so many pages
    rewrite: int = 0    # MiB per second that four threads write anew


class Busy:
    """A user at work, with all that can be open open."""

    def __init__(self, cluster: Cluster, user: str, sizes: Sizes | None = None, *, line: Line | None = None,
                 transfers: bool = True):
        self.cluster, self.user = cluster, user
        self.line = line
        sizes = sizes or Sizes()
        self.browser = cluster.hub.browser(user).log_in()
        self.browser.start_server()
        self.home = cluster.hub.dir / "home" / user
        told = cluster.api.session(user)
        self.id, self.address = told["id"], told["address"]
        self.kernel = self.browser.new_kernel()
        self.kernel.run(DATA.format(**sizes.__dict__), seconds=300)
        self.kernel.run(observer.BEAT)
        self.hub_server = cluster.hub.hub_server(user)
        if line:
            self.kernel.run(KEPT)
            self.before = self.kernel.value(KEPT_CHECK)
        self.terminal: Terminal | None = None
        self.download: Download | None = None
        self.upload: Upload | None = None
        if transfers:
            self.open_transfers()
        self.cells = Cells(self.kernel)
        self.cells.start()
        self.cells.wait_for_more()

    def open_transfers(self) -> None:
        self.terminal = self.browser.open_terminal()
        self.token = uuid.uuid4().hex
        self.shell = self.terminal.run(f"KEPT={self.token}; echo $$")
        self.download = Download(self.browser, self.home)
        self.upload = Upload(self.browser, self.home)

    @property
    def node(self) -> ClusterNode:
        return self.cluster.nodes[self.cluster.api.session(self.user)["node"]]

    def witness(self) -> observer.Witness:
        return observer.testify(self.home)

    def assert_whole(self) -> None:
        """While the cells go on: no one lost, nothing twice, nobody disconnected."""
        self.cells.wait_for_more()
        assert not self.cells.disconnects, self.cells.disconnects
        witness = self.witness()
        assert not witness.lost and not witness.skipped, witness
        if self.terminal:
            assert self.terminal.run("echo $KEPT $$") == f"{self.token} {self.shell}"
        now = self.cluster.api.session(self.user)
        assert now["address"] == self.address and now["state"] == "running", now
        server = self.cluster.hub.hub_server(self.user)
        for key in ("url", "started", "ready"):
            assert server[key] == self.hub_server[key], (key, server)

    def finish(self) -> Json:
        """The cells end; everything that was half done is done, and all is checked."""
        self.assert_whole()
        self.cells.stop()
        assert not self.cells.disconnects, self.cells.disconnects
        state = self.kernel.value(CHECK, seconds=300)
        assert state == {"wrong": [], "pages": True, "writes": True, "rest": True,
                         "last": len(self.cells.cells)}, state
        done = [int(n) for n in (self.home / "ops").read_text().split()]
        assert done == list(range(1, len(self.cells.cells) + 1)), "an operation was lost or done twice"
        if self.line:
            self._check_kept()
        for transfer in (self.download, self.upload):
            if transfer:
                transfer.finish()
        return state

    def _check_kept(self) -> None:
        kept = self.kernel.value(KEPT_CHECK)
        for key in ("own", "nameless"):
            assert kept[key] is True, kept
        assert kept["back"] == 0 and kept["monotonic"] > self.before["monotonic"], kept
        assert kept["pid"] == self.before["pid"] and kept["beats"] > self.before["beats"]
        assert kept["line_error"] == "" and kept["lines"] > self.before["lines"], kept
        assert self.line.connections == 1 and not self.line.broken, self.line.broken
