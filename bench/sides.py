# SPDX-License-Identifier: Apache-2.0
"""The two sides of a comparison: a session on a real elsad and elsa-node, and the same under podman."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from pathlib import Path

from basekit import wait_for
from hubkit import Stack
from jupyter import Server
from podman import Podman

COMMAND = ["python3", "-m", "jupyter_server", "--ip=0.0.0.0", "--port=8888", "--no-browser",
           "--ServerApp.port_retries=0", "--IdentityProvider.token=bench"]
ROUNDS = int(os.environ.get("ELSA_ROUNDS", "5"))
DIRECTORY = Path("/var/lib/elsa/bench")


class Ours:
    """One session on a real elsad and elsa-node, without a Hub in between."""

    def __init__(self, stack: Stack, user: str):
        self.stack, self.api, self.user = stack, stack.api, user
        self.wake(COMMAND)
        self.server = Server(self.api.session(user)["address"], 8888, "bench")

    def wake(self, command: list[str]) -> dict:
        return self.ended(self.api.post("/v1/session/start", user=self.user, server="", cmd=command,
                                        env={}, port=8888, api_token="bench"))

    def ended(self, operation: dict) -> dict:
        operation = self.api.wait_operation(operation)
        if operation["state"] != "done":
            raise RuntimeError(f"{operation['kind']}: {operation['error']}")
        return operation

    def act(self, what: str) -> dict:
        """Its result, with `s`: seconds from asking to the operation's end."""
        begin = time.monotonic()
        operation = self.ended(self.api.post(f"/v1/session/{what}", user=self.user, server=""))
        return {"s": time.monotonic() - begin, **operation["result"]}

    def hibernate(self) -> dict:
        return self.act("hibernate")

    def resume(self) -> float:
        """Until the first HTTP answer; returns when it was asked for. As the Hub does it: the server is
        spoken to when elsad says that it is there."""
        begin = time.monotonic()
        self.wake([])
        self.server.wait_answer()
        return begin

    def wait_arrived(self) -> None:
        """Until no page of its memory is missing any more."""
        wait_for(f"{self.user}'s memory to be there",
                 lambda: not self.api.session(self.user).get("missing_bytes"), seconds=120, pause=0.02)

    def forget(self) -> None:
        self.ended(self.api.post("/v1/session/forget", user=self.user, server=""))


def settle() -> None:
    """What one side has left in the page cache is not to be written on the other's time: podman does
    not wait for the disk."""
    os.sync()


def podman_round(podman: Podman, server: Server, check: str, truth: str) -> tuple[Server, dict]:
    """Asleep and awake again, its data checked."""
    settle()
    times = {"hibernate": podman.checkpoint(), "stored": podman.archive_bytes()}
    settle()
    begin = time.monotonic()
    podman.restore()
    kernel, server = server.kernel, podman.server()
    server.kernel = kernel
    server.wait_answer()
    times["answer"] = time.monotonic() - begin
    if server.execute(check) != truth:
        raise RuntimeError("podman brought back other data")
    times["cell"] = time.monotonic() - begin
    return server, times


def our_round(ours: Ours, check: str, truth: str) -> dict:
    settle()
    slept = ours.hibernate()
    settle()
    begin = ours.resume()
    answer = time.monotonic() - begin
    if ours.server.execute(check) != truth:
        raise RuntimeError("other data came back")
    return {"hibernate": slept["s"], "frozen": slept["frozen_us"] / 1e6,
            "stored": slept["stored_bytes"], "answer": answer,
            "cell": time.monotonic() - begin}


def prepared(server: Server, *cells: str) -> str:
    """What the last cell prints."""
    server.wait_answer()
    server.start_kernel()
    return [server.execute(cell) for cell in cells][-1]


def median(rounds: list[dict], key: str) -> float:
    return statistics.median(r[key] for r in rounds)


def run_parts(report, *parts) -> None:
    """All of a group's, or those that ELSA_BENCH names, each in a directory that is empty."""
    wanted = os.environ.get("ELSA_BENCH", "").split() or [part.__name__ for part in parts]
    for part in parts:
        if part.__name__ not in wanted:
            continue
        report.progress(part.__name__)
        shutil.rmtree(DIRECTORY, ignore_errors=True)
        DIRECTORY.mkdir(parents=True)
        try:
            part(report)
        finally:
            shutil.rmtree(DIRECTORY, ignore_errors=True)
