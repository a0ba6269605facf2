# SPDX-License-Identifier: Apache-2.0
"""Machines that vanish under sessions at work (evictions.py)."""

import os

import evictions

COUNT = int(os.environ.get("ELSA_EVICTIONS", "6"))
SEED = int(os.environ.get("ELSA_SEED", "1"))


def test_nothing_is_lost_but_since_the_last_snapshot_and_nothing_runs_twice():
    outcome = evictions.run(COUNT, SEED, print)
    assert not outcome.lost and outcome.doubled == 0
    assert outcome.evictions == COUNT
    assert not outcome.beyond
    assert outcome.sessions_moved >= COUNT
