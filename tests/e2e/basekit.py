# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests have in common: where things are, waiting, processes, signals."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Json = dict[str, Any]

CHECKOUT = Path(__file__).resolve().parents[2]
PRESET = os.environ.get("PRESET") or "release"
BUILD = Path(os.environ.get("ELSA_BUILD") or CHECKOUT / "build" / PRESET)

HOST_ADDRESS = "10.99.0.1"
POOL = "10.99.0.0/16"
PASSWORD = "elsa"


# How much longer than on a machine with nothing else to do is waited before that is a failure.
PATIENCE = float(os.environ.get("ELSA_PATIENCE", "1"))


# A daemon that is killed at a step is killed behind it, before that is noted. ELSA_LONG=1: also before it, which is
# behind the one before when that has been noted. test_node_faults.py does both in any case.
LONG = bool(os.environ.get("ELSA_LONG"))
MOMENTS = ("before", "after") if LONG else ("after",)


def wait_for(
    what: str,
    condition: Callable[[], T],
    *,
    seconds: float = 60,
    pause: float = 0.05,
    unless: Callable[[], str | None] = lambda: None,
) -> T:
    """The first true value of `condition`. Fails at once when `unless` says that it cannot come."""
    seconds *= PATIENCE
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        reason = unless()
        if reason:
            raise AssertionError(f"waiting for {what}: {reason}")
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(pause)


class ManyAtOnce:
    """Goes before a server of socketserver. Its own queue is of five: of more that connect at once
    some are dropped, and try again a second later."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128


def tree_pids(pid: int) -> set[int]:
    """A process and all below it."""
    found = {pid}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                found |= tree_pids(int(child))
    return found


def memory_available() -> int:
    text = Path("/proc/meminfo").read_text()
    return int(text.split("MemAvailable:")[1].split()[0]) * 1024


END_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Signals as exceptions, like SIGINT, so that `finally` and `with` take away what was made."""

    def raise_exit(number: int, _frame: Any) -> None:
        raise SystemExit(128 + number)

    with _handling(raise_exit, END_SIGNALS):
        yield


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    with _handling(signal.SIG_IGN, (*END_SIGNALS, signal.SIGINT)):
        yield


@contextlib.contextmanager
def _handling(handler: Any, numbers: tuple[int, ...]) -> Iterator[None]:
    # Only the main thread may; elsewhere there is nothing to be interrupted by.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in old.items():
            signal.signal(number, before)
