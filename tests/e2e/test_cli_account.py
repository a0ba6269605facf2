# SPDX-License-Identifier: Apache-2.0
"""`elsa savings`, `usage`, `explain` and `policy try` against a stand-in for elsad."""

from __future__ import annotations

import json

import pytest
from cli_kit import Double, good, run

ROW = {"key": "ada", "users": 1, "awake_hours": 3.0, "open_hours": 243.0, "always_on": 0.729, "machines": 0.0034,
       "store": 0.00001, "cost": 0.00341, "saved": 0.72559, "times": 213.8}  # fmt: skip
SAVINGS = {"currency": "USD", "as_of": "2026-06-17", "from": 1795300000000, "until": 1795900000000,
           "total": {**ROW, "key": None}, "rows": [ROW]}  # fmt: skip
USE = {"at": 1795300000000, "awake_ms": 60000, "memory_bytes": 300 << 20, "memory_p95_bytes": 310 << 20,
       "memory_peak_bytes": 320 << 20, "cpu_share": 0.05, "cpu_stall": 0.011, "memory_stall": None, "io_stall": 0.0,
       "changed_bytes": 1 << 20, "changed_bytes_per_minute": 1048576.0}  # fmt: skip
DECISION = {"user": "ada", "server": "", "hibernate": True, "dry_run": False, "report": False, "reason": "timeout",
            "text": "nobody has used it for the timeout", "rule": "new", "person_at": 1795300000000, "next_at": 0,
            "changed": True, "now": {"reason": "person", "rule": None, "hibernate": False}}  # fmt: skip


@pytest.fixture
def elsad():
    double = Double()
    yield double
    double.close()


def test_savings(elsad):
    elsad.answers["GET /v1/savings"] = SAVINGS
    said = good("savings", "--by", "user", "--since", "7d", url=elsad.url)
    assert elsad.asked[-1]["query"] == {"by": "user", "since_ms": str(7 * 86400000)}
    rows = said.splitlines()
    assert rows[0].split() == ["currency", "USD"]
    assert rows[-2].split() == ["ada", "1", "243.00", "3.00", "0.7290", "0.0034", "0.0000", "0.0034", "0.7256", "213.80"]
    assert rows[-1].split()[0] == "all"
    assert json.loads(good("savings", "--json", url=elsad.url)) == SAVINGS
    assert elsad.asked[-1]["query"]["by"] == "all"
    for wrong in ["--by", "week"], ["--since", "soon"], ["ada"]:
        assert run("savings", *wrong, url=elsad.url).returncode == 2
    for garbage in {}, {"currency": "USD"}, {"currency": "USD", "rows": 3, "total": {}}:
        elsad.answers["GET /v1/savings"] = garbage
        assert run("savings", url=elsad.url).returncode == 1


@pytest.mark.parametrize("since, span", [(None, "hour"), ("2h", "minute"), ("3d", "hour"), ("90d", "day")])
def test_usage(elsad, since: str | None, span: str):
    elsad.answers["GET /v1/usage"] = {"total": USE, "rows": [USE]}
    words = ["usage", "ada", "-s", "lab", *(["--since", since] if since else [])]
    said = good(*words, url=elsad.url)
    asked = elsad.asked[-1]["query"]
    assert asked["user"] == "ada" and asked["server"] == "lab" and asked["span"] == span
    row = said.splitlines()[1].split("  ")
    assert [cell.strip() for cell in row if cell][2:] == ["300 MiB", "310 MiB", "320 MiB", "5.0%", "1.0 MiB", "1.1%", "-", "0.0%"]
    assert json.loads(good(*words, "--json", url=elsad.url))["rows"] == [USE]
    elsad.answers["GET /v1/usage"] = {"now": {"memory_bytes": 400 << 20, "cpu_share": None}, "total": USE, "rows": []}
    said = good(*words, url=elsad.url)
    assert "memory now       400 MiB" in said and "nothing was seen" in said


def test_explain(elsad):
    inputs = {"reason": "person", "person_at": 1795300000000, "kernel_busy": False, "cpu_share": 0.01,
              "rule": {"name": "students", "timeout_ms": 3600000}}  # fmt: skip
    told = {
        "user": "ada", "server": "", "state": "running", "reason": None, "since": 1795300000000,
        "explain": "awake: somebody used it lately", "decision": {"reason": "person", "inputs": inputs},
        "next": [{"what": "hibernate", "at": 1795303600000, "why": "timeout", "text": "if nobody uses it until then"}],
        "events": [{"at": 1795300000000, "what": "start", "who": "spawner", "why": "start\x1b[2J", "detail": None}],
    }  # fmt: skip
    elsad.answers["GET /v1/explain"] = told
    said = good("explain", "ada", url=elsad.url)
    for words in "awake: somebody used it lately", "students", "timeout", "if nobody uses it until then":
        assert words in said
    assert "\x1b" not in said
    assert json.loads(good("explain", "ada", "--json", url=elsad.url)) == told
    assert run("explain", url=elsad.url).returncode == 2
    elsad.answers["GET /v1/explain"] = {"state": "stopped"}
    assert "stopped" in good("explain", "ada", url=elsad.url)


def test_policy_try(elsad, tmp_path):
    new = tmp_path / "new.toml"
    new.write_text('[idle]\ntimeout = "30m"\n')
    told = {
        "decisions": [DECISION],
        "protection": [{"user": "ada", "server": "lab", "text": "waits, every 2 min", "changed": True,
                        "now": {"text": "waits, every 5\x1b min"}},
                       {"user": "bob", "server": "", "text": "waits", "changed": False, "now": {"text": "waits"}}],
        "consolidation": [{"node": "n1", "text": "off", "changed": False, "now": {"text": "off"}}],
        "rescue": [],
        "sizes": [{"user": "cyd", "server": "", "text": "small: a cheaper one will do", "changed": True,
                   "now": {"text": "large stays: there are no size classes"}}],
    }  # fmt: skip
    elsad.answers["POST /v1/policy/try"] = told
    said = good("policy", "try", str(new), url=elsad.url)
    assert elsad.asked[-1]["body"] == {"name": str(new), "config": new.read_text()}
    assert said.splitlines()[1].split()[:8] == ["ada", "-", "yes", "person", "-", "timeout", "new", "yes"]
    snapshots = said[said.index("Snapshots"):].splitlines()
    assert snapshots[0] == "Snapshots: 1 of 2 change"
    assert snapshots[2].split()[0] == "ada/lab" and snapshots[2].endswith("waits, every 2 min")
    assert "Sizes: 1 of 1 change" in said and "small: a cheaper one will do" in said
    assert "Nodes that are emptied: as now" in said and "Memory limits" not in said and "\x1b" not in said
    assert json.loads(good("policy", "try", str(new), "--json", url=elsad.url)) == told
    elsad.answers["POST /v1/policy/try"] = {"decisions": []}
    assert "no running sessions" in good("policy", "try", str(new), url=elsad.url)
    # What is wrong is said with its place, and elsad is not asked.
    asked = len(elsad.asked)
    new.write_text('[idle]\ntimeout = "30m"\n[idle]\n')
    wrong = run("policy", "try", str(new), url=elsad.url)
    assert wrong.returncode == 2 and f"{new}:3:" in wrong.stderr
    assert run("policy", "try", str(tmp_path / "none"), url=elsad.url).returncode == 3
    assert run("policy", "try", url=elsad.url).returncode == 2
    assert len(elsad.asked) == asked
