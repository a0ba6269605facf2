# SPDX-License-Identifier: Apache-2.0
"""The demo, which is the whole story: real Hub, real proxy, real kernels, real CRIU."""

from __future__ import annotations

import json
import os
import subprocess

from basekit import CHECKOUT

MIB = 2**20


def test_the_demo_tells_its_story():
    done = subprocess.run(
        [str(CHECKOUT / "tools/demo")],
        env={**os.environ, "ONCE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout
    facts = json.loads((CHECKOUT / "build/demo.json").read_text())
    assert facts["ok"] and facts["state_intact"] and facts["leftovers"] == []
    assert facts["session_rss_bytes"] > 300 * MIB
    assert isinstance(facts["memory_freed_bytes"], int)  # of the machine, on which others are at work, too
    assert facts["processes_after"] == 0
    # Random numbers do not compress much.
    assert 200 * MIB < facts["checkpoint_stored_bytes"] < 1000 * MIB
    assert 0 < facts["frozen_s"] <= facts["hibernate_s"]
    assert facts["page_s"] > 0 and facts["first_cell_s"] > 0
    assert "hibernate" not in done.stdout.split("closes her laptop")[0]
