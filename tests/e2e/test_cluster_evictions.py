# SPDX-License-Identifier: Apache-2.0
"""Machines that vanish under sessions at work (evictions.py)."""

import os

import evictions

COUNT = int(os.environ.get("ELSA_EVICTIONS", "6"))
SEED = int(os.environ.get("ELSA_SEED", "1"))
# Between two snapshots, and until the second is durable; the machine of a test is a slow one.
MOST_LOST = evictions.RPO + 4


def test_nothing_is_lost_beyond_the_rpo_and_nothing_runs_twice():
    outcome = evictions.run(COUNT, SEED, print)
    assert not outcome.lost and outcome.doubled == 0
    assert outcome.evictions == COUNT
    assert outcome.most_lost_s <= MOST_LOST
    assert outcome.sessions_moved >= COUNT
