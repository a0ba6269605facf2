# SPDX-License-Identifier: Apache-2.0
"""Whoever works in a session that moves: one websocket through a real proxy, a cell every 50 ms. The same
for ours and for stock CRIU's."""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests
import websocket

from basekit import wait_for
from browser import Kernel
from hostkit import Host
from hubkit import Daemon
from movekit import CHECK, DATA, Cells, Sizes

TOKEN, PORT, PROXY_PORT = "bench", 8888, 8000
COMMAND = ["python3", "-m", "jupyter_server", "--ip=0.0.0.0", f"--port={PORT}", "--no-browser",
           "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}"]
QUIET_S = 5


def proxy(host: Host, target: str, log: Path) -> Daemon:
    """configurable-http-proxy, with nothing behind it but the session."""
    daemon = Daemon("proxy", ["configurable-http-proxy", "--ip", host.address, "--port", str(PROXY_PORT),
                              "--api-ip", "127.0.0.1", "--api-port", str(PROXY_PORT + 1),
                              "--default-target", f"http://{target}:{PORT}"], log, host=host)
    daemon.env = {"CONFIGPROXY_AUTH_TOKEN": TOKEN}
    daemon.start()
    return daemon


def received_by(host: Host) -> int:
    """Bytes that came over its cable, as the switch counts."""
    return int(Path(f"/sys/class/net/{host.port}/statistics/tx_bytes").read_text())


class ProxiedKernel(Kernel):
    """A kernel of a server without a Hub."""

    def __init__(self, host: Host):
        self.where = f"{host.address}:{PROXY_PORT}"
        self._socket, self.session_id = None, uuid.uuid4().hex
        wait_for("the server", self._answers, seconds=120, pause=0.1)
        self.id = self._ask("POST", "api/kernels", json={"name": "python3"}).json()["id"]

    def _ask(self, method: str, path: str, **more) -> requests.Response:
        return requests.request(method, f"http://{self.where}/{path}", timeout=60,
                                headers={"Authorization": f"token {TOKEN}"}, **more)

    def _answers(self) -> bool:
        try:
            return self._ask("GET", "api/status").status_code == 200
        except requests.RequestException:
            return False

    def connect(self) -> ProxiedKernel:
        self.close()
        self._socket = websocket.create_connection(
            f"ws://{self.where}/api/kernels/{self.id}/channels?session_id={self.session_id}",
            header=[f"Authorization: token {TOKEN}"], timeout=60)
        return self


@dataclass
class Moved:
    stall_s: float       # longest time between two answers
    quiet_p50_s: float
    p99_s: float         # of the cells from the asking until all memory was there
    transfer_s: float
    bytes: int           # that came in that time
    disconnects: int
    wrong: int           # operations lost, done twice, out of order, pages that are not as they were

    @property
    def bytes_per_s(self) -> float:
        return self.bytes / self.transfer_s if self.transfer_s else 0.0


class Worker:
    """At work in the session behind `host`'s proxy. `ops`: the file her cells write to."""

    def __init__(self, host: Host, sizes: Sizes, ops: Path):
        self.kernel, self.ops = ProxiedKernel(host), ops
        self.kernel.run(DATA.format(**sizes.__dict__), seconds=600)
        self.cells = Cells(self.kernel)
        self.cells.start()

    def watch(self, move: Callable[[], tuple[float, int]]) -> Moved:
        """`move` returns when all is there: seconds of the transfer, and bytes."""
        quiet = time.monotonic()
        wait_for("some quiet", lambda: time.monotonic() > quiet + QUIET_S or self.cells.disconnects)
        begin = time.monotonic()
        seconds, count = move()
        end = time.monotonic()
        if not self.cells.disconnects:
            self.cells.wait_for_more(10, seconds=60)
        before = [c.latency for c in self.cells.between(quiet, begin)]
        during = sorted(c.latency for c in self.cells.between(begin, end))
        return Moved(self.cells.longest_gap(begin, end), statistics.median(before),
                     during[min(len(during) - 1, int(len(during) * 0.99))] if during else 0.0, seconds, count,
                     len(self.cells.disconnects), 0)

    def finish(self, moved: list[Moved]) -> None:
        """Counts what is wrong, into the last."""
        self.cells.stop()
        if self.cells.disconnects:
            return
        state = self.kernel.value(CHECK, seconds=600)
        done = [int(n) for n in self.ops.read_text().split()]
        asked = list(range(1, len(self.cells.cells) + 1))
        moved[-1].wrong = (len(set(asked) ^ set(done)) + len(done) - len(set(done)) + len(state["wrong"])
                           + sum(not state[key] for key in ("pages", "writes", "rest")))
