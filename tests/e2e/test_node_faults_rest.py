# SPDX-License-Identifier: Apache-2.0
"""elsa-node killed at every step of whatever does not put a session away: test_node_faults.py, in two files
since they take long."""
import os

import pytest

from nodebed import AWAY, bed_fixture, beds_fixture, killed_at, steps

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(180)]
FIXTURES = (bed_fixture, beds_fixture)  # used by name


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind, step", [s for s in steps() if s[0] not in (*AWAY, "ended")])
def test_killed_at(bed, kind, step, when):
    killed_at(bed, kind, step, when)
