# SPDX-License-Identifier: Apache-2.0
"""Budgets of groups: what follows when one is spent, and what does not."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from accountkit import TYPE, database
from basekit import BUILD, wait_for
from elsad_doubles import iso
from elsad_kit import ApiError, Elsad
from elsad_nodes_kit import Cluster

NOTHING, PLENTY = 1e-12, 1e9


def budget(amount: float, **more) -> dict:
    return {"group": "course", "per": "day", "amount": amount, **more}


@pytest.fixture
def elsad(tmp_path: Path) -> Iterator[Elsad]:
    """Ada is of the staff, bob and cyd attend the course; ada and bob were active an hour ago."""
    with Elsad(tmp_path, idle={"interval": "200ms", "timeout": "2d", "transparent": True}) as elsad:
        elsad.node.info.update(TYPE)
        for user, groups in ("ada", ["staff"]), ("bob", ["course", "all"]), ("cyd", ["course"]):
            elsad.hub.add(user, groups=groups, **{"": iso(3600)})
        elsad.start()
        for user in "ada", "bob":
            elsad.run(user)
        wait_for("bob's groups", lambda: "course" in [
            row["key"] for row in elsad.get("/v1/savings", by="group", since_ms=86400000)["rows"]])
        yield elsad
        assert not elsad.node.broken


def give(elsad: Elsad, *budgets: dict, **more) -> None:
    elsad.write_config(budget={"group": list(budgets)}, **more)
    elsad.reload()


def told(elsad: Elsad) -> list[str]:
    """The oldest first."""
    return [e["what"] for e in reversed(elsad.events(limit=1000)) if e["who"] == "budget"]


def level(elsad: Elsad) -> str:
    return "".join(b["level"] for b in elsad.get("/v1/budgets")["budgets"])


def wait_level(elsad: Elsad, wanted: str) -> None:
    wait_for(f"the budget to be {wanted}", lambda: level(elsad) == wanted, unless=elsad.why_dead)


def test_told_once(elsad: Elsad):
    give(elsad, budget(PLENTY))
    wait_level(elsad, "within")
    assert told(elsad) == []
    spent = elsad.get("/v1/budgets")["budgets"][0]["spent"]
    assert 0 < spent < 1
    # So little that it is near its end, and not beyond.
    give(elsad, budget(spent * 1000, **{}))
    elsad.write_config(budget={"tell": 0.0001})
    elsad.reload()
    wait_for("it to be told that it comes to its end", lambda: told(elsad) == ["budget-near"], unless=elsad.why_dead)
    give(elsad, budget(NOTHING))
    wait_for("it to be told that it is spent", lambda: told(elsad) == ["budget-near", "budget-spent"],
             unless=elsad.why_dead)
    event = next(e for e in elsad.events() if e["who"] == "budget")
    assert event["why"] == "group=course per=day" and event["inputs"]["budget"]["spent"] > 0, event
    elsad.kill()
    elsad.start()
    wait_level(elsad, "spent")
    metrics = elsad.get("/metrics")
    assert 'elsa_budget_amount{group="course",per="day"} 1e-12' in metrics, metrics
    # What was told is on record, in one with that it was: a look after the restart says nothing anew.
    give(elsad, budget(PLENTY))
    wait_for("it to be told that there is more", lambda: told(elsad)[-1] == "budget-renewed", unless=elsad.why_dead)
    assert told(elsad) == ["budget-near", "budget-spent", "budget-renewed"]


def test_told_when_it_can_be_recorded(elsad: Elsad):
    """What could not be is not taken for told."""
    give(elsad, budget(PLENTY))
    wait_level(elsad, "within")
    db = database(elsad)
    db.execute("CREATE TRIGGER no BEFORE INSERT ON events WHEN NEW.what = 'budget-spent' "
               "BEGIN SELECT RAISE(ABORT, 'not now'); END")
    db.commit()
    give(elsad, budget(NOTHING))
    wait_level(elsad, "spent")
    wait_for("it to fail", lambda: "cannot be recorded" in elsad.log.read_text(), unless=elsad.why_dead)
    db.execute("DROP TRIGGER no")
    db.commit()
    db.close()
    elsad.reload()
    wait_for("it to be told", lambda: told(elsad) == ["budget-spent"], unless=elsad.why_dead)


def test_its_sessions_sleep_sooner(elsad: Elsad):
    give(elsad, budget(NOTHING, timeout="1s"))
    bob = elsad.wait_state("asleep", "bob")
    event = next(e for e in elsad.events(user="bob") if e["what"] == "checkpointing")
    assert (event["who"], event["inputs"]["idle"]["reason"]) == ("idle-policy", "budget"), event
    assert event["inputs"]["idle"]["budget_timeout_ms"] == 1000
    assert elsad.session("ada")["state"] == "running"
    shown = elsad.get("/v1/explain", user="bob", server="")["budgets"]
    assert [(b["group"], b["level"]) for b in shown] == [("course", "spent")]
    assert elsad.get("/v1/explain", user="ada", server="")["budgets"] == []
    # It is woken as ever.
    elsad.write_config(idle={"interval": "1d"})
    elsad.reload()
    elsad.node.touch(bob["id"])
    assert elsad.wait_state("running", "bob")["id"] == bob["id"]


@pytest.mark.parametrize("keeps", ["min_uptime", "exempt", "keep-awake"])
def test_what_keeps_it_awake_does(elsad: Elsad, keeps: str):
    if keeps == "keep-awake":
        elsad.act("keep-awake", "bob", until=int(time.time() * 1000) + 3_600_000)
    idle = {"min_uptime": "1h"} if keeps == "min_uptime" else {}
    if keeps == "exempt":
        idle = {"rule": [{"users": ["bob"], "exempt": True}]}
    give(elsad, budget(NOTHING, timeout="1s"), idle=idle)
    wait_level(elsad, "spent")
    reason = {"min_uptime": "young", "exempt": "exempt", "keep-awake": "keep-awake"}[keeps]
    decided = {d["user"]: d for d in elsad.post("/v1/policy/run", {})["decisions"]}["bob"]
    assert (decided["reason"], decided["hibernate"]) == (reason, False), decided
    # And when that ends it is put away.
    if keeps == "keep-awake":
        elsad.act("keep-awake", "bob", until=0)
    else:
        give(elsad, budget(NOTHING, timeout="1s"), idle={"min_uptime": 0, "rule": []})
    elsad.wait_state("asleep", "bob")


def test_nobody_starts_anew(elsad: Elsad):
    elsad.follow(elsad.act("hibernate", "bob"))
    give(elsad, budget(NOTHING, starts="refuse"))
    wait_level(elsad, "spent")
    with pytest.raises(ApiError) as refused:
        elsad.start_session("cyd", groups=["course"])
    assert refused.value.status == 422, refused.value
    assert "the budget of the group course is spent" in str(refused.value)
    with pytest.raises(ApiError) as gone:
        elsad.session("cyd")
    assert gone.value.status == 404
    elsad.run("bob", groups=["course"])  # which was there
    elsad.run("eve", groups=["staff"])
    elsad.run("fay")  # of whom the Hub has said nothing
    give(elsad, budget(PLENTY, starts="refuse"))
    wait_level(elsad, "within")
    elsad.run("cyd", groups=["course"])


def test_on_spot_machines_only(elsad: Elsad):
    give(elsad, budget(NOTHING, starts="spot"))
    wait_level(elsad, "spent")
    elsad.run("cyd", groups=["course"])  # its machine is one
    elsad.node.info["price"] = "on-demand"
    wait_for("elsad to know", lambda: elsad.get("/v1/nodes")["items"][0]["price"] == "on-demand",
             unless=elsad.why_dead)
    with pytest.raises(ApiError) as refused:
        elsad.start_session("dan", groups=["course"])
    assert refused.value.status == 507 and "the budget of the group course is spent" in str(refused.value)
    elsad.run("eve", groups=["staff"])


def test_a_start_that_fails_is_tried_on_spot_machines_only(tmp_path: Path):
    """And what a session costs counts from the moment in which the Hub says whose it is."""
    cluster = Cluster(tmp_path)
    cluster.elsad.write_config(hub={"poll": "1s"}, budget={"group": [budget(NOTHING, starts="spot")]})
    cluster.elsad.hub.add("bob", groups=["course"], **{"": iso(0)})
    with cluster:
        spot = cluster.add("n1", price="spot", instance_type=TYPE["instance_type"])
        cluster.elsad.run("bob", groups=["course"])
        wait_level(cluster.elsad, "spent")
        dear = cluster.add("n2", price="on-demand", instance_type=TYPE["instance_type"])
        spot.fail["start"] = {"fault": "full", "text": "the disk is full", "step": "images"}
        done = cluster.elsad.follow(cluster.elsad.start_session("bob", "two", groups=["course"]))
        assert done["state"] == "failed" and "the budget of the group course is spent" in done["error"]["text"], done
        assert not dear.running


def test_tried(elsad: Elsad):
    give(elsad, budget(PLENTY))
    wait_level(elsad, "within")
    config = elsad.dir / "new.toml"
    text = (elsad.dir / "elsa.toml").read_text()
    config.write_text(text.replace(f"amount = {PLENTY}", f"amount = {NOTHING}\ntimeout = \"1s\""))

    def tried() -> str:
        return subprocess.run([BUILD / "elsa", "--url", f"unix:{elsad.dir}/elsad.sock", "policy", "try", config],
                              capture_output=True, text=True, check=True).stdout

    def bobs() -> str:
        return next(line for line in tried().splitlines() if line.startswith("bob"))

    # Its start was a sign of somebody.
    wait_for("bob to be away for a second", lambda: "budget" in bobs(), unless=elsad.why_dead)
    assert "yes" in bobs(), tried()
    said = tried()
    assert "Budgets of groups: 1 of 1 change" in said and "spent; asleep after" in said, said
    assert elsad.session("bob")["state"] == "running" and level(elsad) == "within"
    config.write_text(text.replace("per = \"day\"", "per = \"week\""))
    done = subprocess.run([BUILD / "elsa", "policy", "try", config], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "is not one of: day month" in done.stderr, done.stderr
