# SPDX-License-Identifier: Apache-2.0
"""What the Hub is told of a session that runs, or will again by itself. None: as running."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from elsa_spawner.spawner import ElsaSpawner, _can_resume


def poll(**session: Any) -> int | None:
    async def ask() -> Any:
        return session or None

    return asyncio.run(ElsaSpawner.poll(SimpleNamespace(_starting=False, _session=ask)))


@pytest.mark.parametrize(
    "state", ["running", "dozing", "snapshotting", "migrating", "restoring", "fencing", "asleep",
              "answering", "releasing", "freezing", "thawing"]
)  # fmt: skip
def test_what_is_alive(state: str):
    assert poll(state=state) is None and _can_resume({"state": state})


def test_what_is_to_be_woken_by_itself_is_not_over():
    assert poll(state="hibernated", waking=True) is None
    assert poll(state="stopped", waking=True) is None
    assert _can_resume({"state": "stopped", "waking": True})


def test_what_sleeps_unseen_is_not_over():
    """Nobody answers for it just now: another node is about to."""
    assert poll(state="hibernated", waking=False, unseen=True) is None
    assert poll(state="hibernated", waking=False, unseen=False) == 0


def test_what_is_over():
    assert poll(state="hibernated", waking=False) == 0
    assert poll(state="stopped", waking=False) == 0
    assert poll(state="failed") == 1
    assert poll() == 0


def test_a_lost_session_whose_node_may_return_keeps_its_token():
    assert poll(state="lost", may_return=True) == 1
    assert _can_resume({"state": "lost", "may_return": True})
    assert not _can_resume({"state": "lost", "checkpoint_usable": False})
