# SPDX-License-Identifier: Apache-2.0
"""What the spawn page shows while a session starts or wakes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

Event = dict[str, Any]

# Steps of elsa-node's that say nothing to a user, in words that do; others go by their own names.
STEP_TEXTS = {
    "queued": "Waiting for its turn",
    "open": "Looking for its checkpoint",
    "check": "Looking for its checkpoint",
    "prepare": "Preparing a place for it",
    "images": "Reading its memory",
    "layers": "Putting its files back",
    "mount": "Putting its files back",
    "restore": "Waking its processes",
    "verify": "Looking whether all are awake",
    "record": "Looking whether all are awake",
    "thaw": "Letting them run",
    "release": "Letting them run",
    "start": "Starting its processes",
    "adopt": "Starting its processes",
    "unmount": "Tidying up",
    "tidy": "Tidying up",
    # elsad's own
    "another-node": "That did not work there; another machine is tried",
}
START_TEXTS = {"check": "Looking for a place"}

KIND_TEXTS = {
    "start": "Starting your server",
    "restore": "Waking your session",
    "hibernate": "Your session is just being put to sleep; it wakes right after",
    "snapshot": "A snapshot of your session is just being taken",
    "stop": "Ending what ran before",
    "forget": "Deleting what ran before",
}


class Progress:
    """Events of one start, for any number of pages that watch it."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._news = asyncio.Event()
        self._ended = False

    def say(self, message: str, percent: int | None = None) -> None:
        event: Event = {"message": message}
        if percent is not None:
            event["progress"] = percent
        # A page shows every event on a line of its own: repetitions would only scroll.
        if self._events and self._events[-1]["message"] == message:
            return
        self._events.append(event)
        self._wake()

    def end(self) -> None:
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def events(self) -> AsyncIterator[Event]:
        shown = 0
        while True:
            news = self._news
            while shown < len(self._events):
                yield self._events[shown]
                shown += 1
            if self._ended:
                return
            await news.wait()


def describe(operation: dict[str, Any]) -> tuple[str, int]:
    """A sentence about a running operation and how far it is, in percent."""
    kind = str(operation.get("kind") or "")
    step = str(operation.get("step") or "")
    named = step.replace("-", " ").replace("_", " ").capitalize()
    text = (START_TEXTS if kind == "start" else {}).get(step) or STEP_TEXTS.get(step, named)
    if kind not in ("start", "restore"):
        return KIND_TEXTS.get(kind, "Waiting for your session"), 5
    if not text:
        return KIND_TEXTS[kind], 10
    done = int(operation.get("bytes_done") or 0)
    total = int(operation.get("bytes_total") or 0)
    if total <= 0:
        return text, 20
    # In tenths, so that the page does not fill with lines.
    share = int(10 * min(done / total, 1.0)) / 10
    return f"{text}: {share:.0%} of {size_text(total)}", 20 + int(60 * share)


def size_text(size: int) -> str:
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
