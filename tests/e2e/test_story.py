# SPDX-License-Identifier: Apache-2.0
"""The demos, which are the whole story: real Hub, real proxy, real kernels, real CRIU."""

from __future__ import annotations

import json
import os
import subprocess

from basekit import CHECKOUT, Json

MIB = 2**20


def told(demo: str, **env: str) -> tuple[str, Json]:
    """What it says, and its facts."""
    done = subprocess.run(
        [str(CHECKOUT / "tools" / demo)],
        env={**os.environ, "ONCE": "1", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout, json.loads((CHECKOUT / f"build/{demo}.json").read_text())


def test_the_demo_tells_its_story():
    said, facts = told("demo")
    assert facts["ok"] and facts["state_intact"] and facts["leftovers"] == []
    assert facts["session_rss_bytes"] > 300 * MIB
    assert isinstance(facts["memory_freed_bytes"], int)  # of the machine, on which others are at work, too
    assert facts["processes_after"] == 0
    # Random numbers do not compress much.
    assert 200 * MIB < facts["checkpoint_stored_bytes"] < 1000 * MIB
    assert 0 < facts["frozen_s"] <= facts["hibernate_s"]
    assert facts["page_s"] > 0 and facts["first_cell_s"] > 0
    assert "hibernate" not in said.split("closes her laptop")[0]


def test_a_spot_machine_is_taken_away():
    said, facts = told("demo-spot", ELSA_NOTICE="60")
    assert facts["ok"] and facts["state_intact"] and facts["leftovers"] == []
    assert facts["sessions"] == 3 and facts["lost"] == facts["disconnects"] == 0
    assert 0 < facts["evacuated_s"] < facts["notice_s"]
    assert facts["ledger"]["total"]["users"] == 3
    assert "n1 is gone" in said
