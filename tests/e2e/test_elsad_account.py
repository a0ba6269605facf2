# SPDX-License-Identifier: Apache-2.0
"""What sessions cost: the account that elsad keeps, against one counted from its events alone."""

from __future__ import annotations

import json
import random
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from accountkit import TYPE, check_account, database, set_clock, shift
from basekit import BUILD, CHECKOUT, wait_for
from elsad_kit import ApiError, Elsad
from recount import DAY_MS

PRICES = (CHECKOUT / "packaging/prices/aws-us-east-1").read_text()
HOUR_MS = 3_600_000
GIB = 1 << 30
SIZES = """
[size]
observed = 0
settle = 0
[[size.class]]
name = "small"
memory = "1G"
[[size.class]]
name = "large"
memory = "8G"
"""


def make(path: Path) -> Elsad:
    elsad = Elsad(path)
    elsad.node.info.update(TYPE)
    for user, groups in ("ada", ["staff"]), ("bob", ["staff", "course"]), ("cyd", []):
        elsad.hub.add(user, groups=groups, **{"": None})
    return elsad


@pytest.fixture
def elsad(tmp_path: Path) -> Iterator[Elsad]:
    with make(tmp_path) as elsad:
        yield elsad.start()
        assert not elsad.node.broken


def test_the_account_is_what_the_events_say(elsad: Elsad):
    elsad.run("ada")
    elsad.run("bob")
    elsad.follow(elsad.act("hibernate", "ada"))
    elsad.follow(elsad.act("snapshot", "bob"))
    # Ten days pass.
    elsad.kill()
    shift(elsad, 10 * DAY_MS)
    elsad.start()
    check_account(elsad, days=True)
    elsad.run("ada")
    elsad.follow(elsad.act("stop", "bob"))
    elsad.kill()
    shift(elsad, 3 * HOUR_MS)
    elsad.start()
    said = check_account(elsad)
    by_user = {row["key"]: row for row in said["rows"]}
    # Ada slept for ten days and was awake for three hours; bob was awake for all of his ten days.
    assert by_user["ada"]["awake_hours"] == pytest.approx(3, rel=0.05)
    assert by_user["ada"]["open_hours"] == pytest.approx(243, rel=0.01)
    assert by_user["ada"]["times"] > 80
    assert by_user["bob"]["awake_hours"] == pytest.approx(240, rel=0.01)
    assert 2 < by_user["bob"]["times"] < 3  # spot alone: 0.384 / 0.140
    days = elsad.get("/v1/savings", by="day", since_ms=3650 * DAY_MS)["rows"]
    assert 11 <= len(days) <= 12
    assert sum(day["always_on"] for day in days) == pytest.approx(said["total"]["always_on"])
    # Of the last days only.
    week = elsad.get("/v1/savings", since_ms=7 * DAY_MS)["total"]
    assert 0 < week["always_on"] < 0.8 * said["total"]["always_on"]


def test_by_group(elsad: Elsad):
    wait_for("the Hub's users", lambda: elsad.hub.pages > 0)
    for user in ("ada", "bob", "cyd"):
        elsad.run(user)

    def groups() -> dict | None:
        rows = elsad.get("/v1/savings", by="group", since_ms=DAY_MS)["rows"]
        found = {row["key"]: row["users"] for row in rows}
        return found if found == {"staff": 2, "course": 1, "": 1} else None

    wait_for("the groups", groups, unless=elsad.why_dead)


def test_killed_again_and_again(elsad: Elsad):
    rng = random.Random(7)
    stop = threading.Event()

    def use(user: str) -> None:
        while not stop.is_set():
            for what in ("start", "snapshot", "hibernate", "start", "stop"):
                try:
                    elsad.start_session(user) if what == "start" else elsad.act(what, user)
                except (ApiError, OSError, ValueError):
                    pass
                except Exception:  # what it had said of HTTP when it was killed
                    pass
                stop.wait(0.05)

    users = [threading.Thread(target=use, args=(u,)) for u in ("ada", "bob", "cyd")]
    for thread in users:
        thread.start()
    try:
        for _ in range(8):
            threading.Event().wait(rng.uniform(0.1, 0.6))
            elsad.kill()
            shift(elsad, 5 * HOUR_MS)
            elsad.start()
    finally:
        stop.set()
        for thread in users:
            thread.join()
    said = check_account(elsad)
    # Three sessions, forty hours each at most: nothing counts twice.
    assert said["total"]["open_hours"] <= 3 * 40.1
    assert said["total"]["awake_hours"] <= said["total"]["open_hours"]


@pytest.mark.parametrize("ms", [7 * HOUR_MS, 400 * DAY_MS, -7 * HOUR_MS])
def test_a_clock_that_was_set(elsad: Elsad, ms: int):
    elsad.run("ada")
    elsad.kill()
    shift(elsad, HOUR_MS)
    set_clock(elsad, ms)
    elsad.start()
    step = wait_for("it to be noticed", lambda: [e for e in elsad.events() if e["what"] == "clock-step"])[0]
    assert step["why"] == ("forward" if ms > 0 else "back")
    assert step["inputs"]["to"] - step["inputs"]["from"] == pytest.approx(ms, abs=60000)
    said = check_account(elsad)
    assert said["total"]["awake_hours"] == pytest.approx(1, rel=0.05)
    assert len([e for e in elsad.events() if e["what"] == "clock-step"]) == 1


def test_another_boot_with_a_clock_put_back(elsad: Elsad):
    elsad.run("ada")
    elsad.kill()
    shift(elsad, -5 * HOUR_MS)  # it was later then than it is now
    with closing(database(elsad)) as db, db:
        db.execute("UPDATE facts SET value = 'another-boot 5' WHERE key = 'account.clock'")
    elsad.start()
    check_account(elsad)
    assert elsad.get("/v1/savings", since_ms=DAY_MS)["total"]["awake_hours"] < 0.1


def test_a_record_without_accounts_gets_them(elsad: Elsad):
    """As one of an older elsad."""
    elsad.run("ada")
    elsad.kill()
    with closing(database(elsad)) as db, db:
        db.execute("DELETE FROM accounts")
    elsad.start()
    opened = wait_for("it to be opened", lambda: [e for e in elsad.events() if e["why"] == "opened"])[0]
    assert opened["inputs"]["account"]["awake"] and opened["user"] == "ada"


def test_prices_of_ones_own(elsad: Elsad):
    elsad.run("ada")
    (elsad.dir / "prices").write_text(PRICES.replace("spot       0.140", "spot       0.07"))
    elsad.write_config(account={"prices": str(elsad.dir / "prices")})
    elsad.reload()
    event = wait_for("the new prices", lambda: [e for e in elsad.events() if e["why"] == "repriced"])[0]
    assert event["inputs"]["account"]["machine_gib_hour"] == pytest.approx(0.07 / 32)
    # One that is wrong changes nothing.
    (elsad.dir / "prices").write_text("elsa-prices 1\ntype what\n")
    elsad.reload()
    wait_for("a word", lambda: "line 2: wanted is: type" in elsad.log.read_text())
    assert elsad.get("/v1/savings")["currency"] == "USD"
    # The hub's own host, at a price of its own.
    elsad.write_config(account={"host_hour": 3.2, "prices": ""})
    elsad.reload()
    wait_for("its price", lambda: elsad.events()[0]["inputs"]["account"]["machine_gib_hour"]
             == pytest.approx(0.1))  # fmt: skip


def test_metrics(elsad: Elsad):
    def metrics() -> dict[str, float]:
        lines = elsad.get("/metrics").splitlines()
        for name in {line.split("{")[0].split(" ")[0] for line in lines if not line.startswith("#")}:
            assert f"# TYPE {name} " in "\n".join(lines) and f"# HELP {name} " in "\n".join(lines)
        return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))

    elsad.run("ada")
    elsad.kill()
    shift(elsad, 10 * HOUR_MS)
    elsad.start()
    before = metrics()
    assert before['elsa_sessions{state="running"}'] == "1"
    assert float(before["elsa_sessions_awake_seconds_total"]) == pytest.approx(36000, rel=0.02)
    always, machines = (float(before[f'elsa_cost_{what}_total{{currency="USD"}}'])
                        for what in ("always_on", "machines"))  # fmt: skip
    assert always / machines == pytest.approx(0.384 / 0.140, rel=0.001)
    elsad.follow(elsad.act("forget"))
    elsad.kill()
    elsad.start()
    after = metrics()
    assert all(float(after[k]) >= float(before[k]) for k in before if "_total" in k)


# --- why --------------------------------------------------------------------------------------------


def test_explain(tmp_path: Path):
    with make(tmp_path) as elsad:
        elsad.write_config(idle={"timeout": "1h", "cpu_threshold": 0.0})
        elsad.start()
        elsad.run("ada")
        said = elsad.get("/v1/explain", user="ada")
        assert said["state"] == "running"
        assert said["decision"]["inputs"]["rule"]["timeout_ms"] == HOUR_MS
        assert {"starting", "start"} <= {e["what"] for e in said["events"]}
        assert said["events"][0]["inputs"]["account"]["awake"]
        # When its user goes away: then.
        elsad.node.info["notices"] = [
            {"id": "n", "kind": "evict", "source": "drill", "at": 1795300130000, "seen_at": 1}
        ]
        wait_for("the notice", lambda: [n for n in elsad.get("/v1/explain", user="ada")["next"]
                                        if n["what"] == "evict" and n["at"] == 1795300130000])  # fmt: skip
        elsad.node.info["notices"] = []
        elsad.follow(elsad.act("hibernate"))
        said = elsad.get("/v1/explain", user="ada")
        assert said["decision"] is None and said["next"][0]["what"] == "wake"
        with pytest.raises(ApiError) as failure:
            elsad.get("/v1/explain", user="nobody")
        assert failure.value.status == 404


def elsa(elsad: Elsad, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run([BUILD / "elsa", "--url", f"unix:{elsad.dir}/elsad.sock", *words],
                          capture_output=True, text=True, timeout=60)  # fmt: skip


def test_sizes_by_another_config_are_said_and_nothing_is_done(elsad: Elsad, tmp_path: Path):
    for user, held, limit in ("ada", GIB // 4, 4 * GIB), ("bob", 3 * GIB, 4 * GIB), ("cyd", 6 * GIB, 12 * GIB):
        elsad.follow(elsad.start_session(user, memory_bytes=limit))
        elsad.node.running[elsad.session(user)["id"]]["rss_bytes"] = held
    wait_for("what they hold to be seen", lambda: elsad.session("cyd")["rss_bytes"] == 6 * GIB)
    assert elsad.session("bob")["rss_bytes"] == 3 * GIB
    before = {user: elsad.whats(user) for user in ("ada", "bob", "cyd")}
    new = tmp_path / "new.toml"

    def told(text: str) -> dict:
        new.write_text(text)
        rows = json.loads(elsa(elsad, "policy", "try", str(new), "--json").stdout)["sizes"]
        return {row["user"]: row for row in rows}

    assert not told('[idle]\ntimeout = "1s"\n')
    # What it holds counts at once, and half as much again when it has been noted for a minute's use.
    wait_for("bob's use to count", lambda: told(SIZES)["bob"]["to"])
    rows = told(SIZES)
    ada, bob, cyd = (rows[user] for user in ("ada", "bob", "cyd"))
    assert ada["class"] == ada["to"] == "small" and ada["reason"] == "cheaper-will-do" and ada["changed"]
    assert ada["now"]["reason"] == "no-classes" and ada["now"]["text"].startswith("4096 MiB stays")
    assert bob["to"] == "large" and bob["reason"] == "needs-more" and bob["memory_bytes"] == 8 * GIB
    assert bob["need_bytes"] > 4 * GIB
    assert cyd["to"] is None and cyd["reason"] == "fits" and cyd["memory_bytes"] == 12 * GIB
    said = elsa(elsad, "policy", "try", str(new)).stdout
    assert "Sizes: 3 of 3 change" in said and "small: a cheaper one will do" in said
    # Seen for long enough is a matter of the config that is tried, as is how far back that counts.
    rows = told(SIZES.replace('observed = 0', 'observed = "1h"\nwindow = "2d"'))
    assert rows["ada"]["to"] is None and rows["ada"]["reason"] == "not-seen-enough"
    assert {user: elsad.whats(user) for user in before} == before
    assert elsad.session("ada")["memory_limit"] == 4 * GIB and elsad.get("/v1/sizes")["classes"] == []


def test_a_decision_is_recorded_with_its_inputs(tmp_path: Path):
    with make(tmp_path) as elsad:
        elsad.hub.on_stop = lambda user, server: (elsad.act("hibernate", user, server), 202)[1]
        elsad.start()
        elsad.run("ada")
        elsad.hub.add("ada", **{"": "2026-01-01T00:00:00Z"})
        new = tmp_path / "new.toml"
        new.write_text('[idle]\ntimeout = "1s"\ncpu_threshold = 0.0\nmin_uptime = 0\n')
        # What it would be: said, and not done.
        wait_for("the policy to say so", lambda: [
            d for d in json.loads(elsa(elsad, "policy", "try", str(new), "--json").stdout)["decisions"]
            if d["hibernate"] and d["changed"] and not d["now"]["hibernate"]])  # fmt: skip
        assert elsad.session()["state"] == "running" and not elsad.node.checkpoints
        assert "timeout" in elsa(elsad, "policy", "try", str(new)).stdout
        new.write_text('[idle]\ntimeout = "1s"\ncpu_treshold = 0.0\n')
        wrong = elsa(elsad, "policy", "try", str(new))
        assert wrong.returncode == 2 and "new.toml:3:" in wrong.stderr
        with pytest.raises(ApiError) as failure:
            elsad.post("/v1/policy/try", {"config": "[idle]\ntimeout = true\n"})
        assert failure.value.status == 400 and ":2:" in failure.value.error["text"]
        # Now in earnest.
        elsad.write_config(idle={"timeout": "1s", "cpu_threshold": 0.0, "interval": "100ms"})
        elsad.reload()
        elsad.wait_state("hibernated")
        event = [e for e in elsad.events(user="ada") if e["what"] == "checkpointing"][0]
        assert event["who"] == "idle-policy"
        inputs = event["inputs"]["idle"]
        assert inputs["reason"] == "timeout" and inputs["rule"]["timeout_ms"] == 1000
        assert event["at"] - inputs["person_at"] >= 1000
        check_account(elsad)
        # As people see it.
        for words in (["explain", "ada"], ["savings"], ["savings", "--by", "user", "--since", "7d"],
                      ["savings", "--by", "day"], ["usage", "ada"]):  # fmt: skip
            said = elsa(elsad, *words)
            assert said.returncode == 0, said.stderr
            assert elsa(elsad, *words, "--json").stdout.startswith("{")
        assert "m6i" not in elsa(elsad, "savings", "--by", "group").stdout
        assert elsa(elsad, "savings", "--by", "weather").returncode == 2


# --- use --------------------------------------------------------------------------------------------


def test_usage(elsad: Elsad):
    session = elsad.run("ada")
    elsad.node.running[session["id"]].update(
        rss_bytes=300 << 20, stalls_known=True, cpu_stall_us=0, memory_stall_us=0, io_stall_us=0
    )
    # A minute is on record when it is over.
    row = wait_for("a minute", lambda: elsad.get("/v1/usage", user="ada", span="minute")["rows"], seconds=150)[0]
    assert 0 < row["awake_ms"] <= 60_000
    assert elsad.get("/v1/usage", user="ada")["now"]["memory_bytes"] == 300 << 20
    assert row["memory_peak_bytes"] == 300 << 20
    assert elsad.get("/v1/usage", user="ada", span="minute")["total"]["awake_ms"] > 0
    assert elsad.get("/v1/usage", user="nobody", span="day")["rows"] == []
    with pytest.raises(ApiError):
        elsad.get("/v1/usage", user="ada", span="year")
