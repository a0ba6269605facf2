# SPDX-License-Identifier: Apache-2.0
"""Machines that elsad asks for and gives back, with doubles of who gives them and of nodes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from basekit import wait_for
from capacity_kit import Pools, capacity, growing, join, kill_hard, notice, whats
from elsad_doubles import iso
from elsad_kit import Elsad, Json
from elsad_nodes_kit import Joined

FAST = {"cooldown": "1h", "start_timeout": "60s", "empty_for": "1h"}


@pytest.fixture
def pools(tmp_path: Path) -> Pools:
    return Pools(tmp_path / "pools")


@pytest.fixture
def elsad(tmp_path: Path, pools: Pools) -> Iterator[Elsad]:
    with growing(tmp_path, provider="command", command=pools.argv, pools=["a", "b"],
                 **FAST) as elsad:  # fmt: skip
        yield elsad


def wait_machines(pools: Pools, pool: str, count: int, seconds: float = 20) -> list[str]:
    wait_for(f"{count} machines of {pool}", lambda: len(pools.machines(pool)) == count,
             seconds=seconds)
    return pools.machines(pool)


def machine(elsad: Elsad, name: str) -> Json:
    return next((m for m in capacity(elsad)["machines"] if m["id"] == name), {"state": None})


def wait_machine(elsad: Elsad, name: str, state: str | None, seconds: float = 20) -> None:
    wait_for(f"{name} to be {state}", lambda: machine(elsad, name)["state"] == state,
             seconds=seconds)


def node_names(elsad: Elsad) -> list[str]:
    return [n["name"] for n in elsad.get("/v1/nodes")["items"] if not n["local"]]


def wait_node(elsad: Elsad, name: str, there: bool = True) -> None:
    wait_for(f"node {name}", lambda: (name in node_names(elsad)) == there)


# --- asking ---------------------------------------------------------------------------------------


def test_the_minimum_is_asked_for_once(elsad, pools):
    elsad.write_config(capacity={"min": 2})
    elsad.start()
    wait_machines(pools, "a", 2)
    wait_machine(elsad, "a-2", "running")
    assert pools.asked("grow") == ["a 2"]
    assert not pools.machines("b")
    assert whats(elsad) == ["capacity-asked"]


@pytest.mark.parametrize("moment", ["asked", "answered", "lost"])
def test_grown_once_though_elsad_is_killed(elsad, pools, moment):
    """`asked`: it was killed while the cloud was thinking; `answered`: that had just answered."""
    elsad.write_config(capacity={"min": 1})
    pools.flag("a.lost", moment == "lost")
    pools.flag("hold", moment != "lost")
    elsad.start()
    wait_for("the question", lambda: moment == "lost" or whats(elsad))
    if moment == "asked":
        kill_hard(elsad)
        pools.flag("hold", False)
    elif moment == "answered":
        wait_for("the command", lambda: pools.asked("grow"))
        pools.flag("hold", False)
        kill_hard(elsad)
    else:
        wait_machines(pools, "a", 1)
        kill_hard(elsad)
        pools.flag("a.lost", False)
    elsad.start()
    wait_machine(elsad, "a-1", "running")
    assert set(pools.asked("grow")) <= {"a 1"}
    assert pools.machines("a") == ["a-1"] and not pools.machines("b")


def test_the_next_pool_when_one_has_nothing(elsad, pools):
    elsad.write_config(capacity={"min": 1})
    pools.flag("a.full")
    elsad.start()
    wait_machines(pools, "b", 1)
    assert pools.asked("grow") == ["a 1", "b 1"]
    refused = next(e for e in elsad.events(limit=100) if e["what"] == "capacity-refused")
    assert "no capacity left in this zone" in refused["detail"]


def test_a_pool_that_cannot_be_looked_at_is_passed_over(elsad, pools):
    elsad.write_config(capacity={"min": 1})
    pools.flag("a.broken")
    elsad.start()
    wait_machines(pools, "b", 1)
    wait_for("its word", lambda: "capacity-failed" in whats(elsad))
    failed = next(e for e in elsad.events(limit=100) if e["what"] == "capacity-failed")
    assert "not today" in failed["detail"] and failed["why"] == "a"
    assert capacity(elsad)["pools"][0]["problem"]


def test_asked_again_after_the_cooldown(elsad, pools):
    elsad.write_config(capacity={"min": 1, "cooldown": "2s", "pools": ["a"]})
    pools.flag("a.full")
    elsad.start()
    wait_for("a refusal", lambda: "capacity-refused" in whats(elsad))
    wait_for("its word", lambda: "capacity-none" in whats(elsad))
    assert capacity(elsad)["block"]
    pools.flag("a.full", False)
    wait_machines(pools, "a", 1)
    assert set(pools.asked("grow")) == {"a 1"} and len(pools.asked("grow")) <= 12


def test_never_more_than_the_maximum(elsad, pools):
    elsad.write_config(capacity={"min": 5, "max": 3})
    elsad.start()
    wait_machines(pools, "a", 3)
    wait_machine(elsad, "a-3", "running")
    assert pools.asked("grow") == ["a 3"] and not pools.machines("b")


def test_a_machine_that_never_joins_is_given_up(elsad, pools):
    elsad.write_config(capacity={"min": 1, "start_timeout": "2s"})
    elsad.start()
    wait_for("the first to be given back", lambda: pools.asked("shrink"), seconds=20)
    assert pools.asked("shrink")[0] == "a a-1"
    wait_machines(pools, "b", 1)  # a counts as having had nothing to give
    wait_for("the record of it", lambda: "capacity-given-back" in whats(elsad))
    assert pools.asked("grow") == ["a 1", "b 1"]


def test_memory_is_kept_free(elsad, pools):
    elsad.write_config(capacity={"spare": "900T"})
    elsad.start()
    wait_machines(pools, "a", 1)  # of a pool that nobody has seen a machine of: one first
    asked = next(e for e in elsad.events(limit=1000) if e["what"] == "capacity-asked")
    assert asked["detail"].endswith("(spare)")


# --- joining, and giving back ---------------------------------------------------------------------


@pytest.fixture
def joined(elsad, pools) -> Iterator[Joined]:
    """One machine of pool a that has joined; the minimum holds it."""
    elsad.write_config(capacity={"min": 1, "empty_for": "1s"})
    elsad.start()
    wait_machines(pools, "a", 1)
    node = join(elsad, "n1", "a-1")
    wait_machine(elsad, "a-1", "joined")
    yield node


def reload(elsad: Elsad, **config) -> None:
    elsad.write_config(capacity=config)
    elsad.reload()


def test_joined_and_kept(elsad, pools, joined):
    told = capacity(elsad)
    assert told["machines"][0]["node"] == "n1"
    assert told["pools"][0]["memory_bytes"] == 8 << 30
    wait_for("it to be empty", lambda: machine(elsad, "a-1")["empty_since"])
    assert whats(elsad)[0] == "capacity-joined"
    assert not pools.asked("shrink")  # the minimum


def test_an_empty_node_is_given_back(elsad, pools, joined):
    reload(elsad, min=0)
    wait_machines(pools, "a", 0)
    wait_machine(elsad, "a-1", None)
    wait_node(elsad, "n1", there=False)
    assert pools.asked("shrink") == ["a a-1"]
    assert pools.state("a")["desired"] == 0
    assert {"capacity-giving-back", "capacity-given-back"} <= set(whats(elsad))
    assert "node-draining" in [e["what"] for e in elsad.events(limit=100)]


def test_an_empty_node_that_is_the_spare_stays(elsad, pools, joined):
    reload(elsad, min=0, spare="900T", max=1)
    wait_for("it to be empty for long",
             lambda: time.time() * 1000 - (machine(elsad, "a-1")["empty_since"] or 1e18) > 4000)
    assert not pools.asked("shrink")
    reload(elsad, min=0, spare="0")
    wait_machines(pools, "a", 0)


def test_given_back_once_though_elsad_is_killed(elsad, pools, joined):
    pools.flag("hold")
    reload(elsad, min=0)
    wait_for("the question", lambda: pools.asked("shrink"))
    kill_hard(elsad)
    pools.flag("hold", False)
    elsad.start()
    wait_node(elsad, "n1", there=False)
    assert pools.state("a") == {"desired": 0, "instances": [], "made": 1}
    assert set(pools.asked("shrink")) == {"a a-1"}


def test_not_taken_for_a_stranger_after_a_restart(elsad, pools, joined):
    """A node that is down while elsad starts has joined all the same."""
    joined.die()
    kill_hard(elsad)
    elsad.write_config(capacity={"start_timeout": "1s"})
    elsad.start()
    wait_machine(elsad, "a-1", "joined")
    wait_for("some looks", lambda: len(pools.asked("describe")) > 8)
    assert not pools.asked("shrink")


def test_what_an_operator_drains_is_left_alone(elsad, pools, joined):
    elsad.post("/v1/nodes/drain", {"node": "n1"})
    looks = len(pools.asked("describe"))
    reload(elsad, min=0)
    wait_for("some looks", lambda: len(pools.asked("describe")) > looks + 4)
    assert not pools.asked("shrink")
    elsad.post("/v1/nodes/undrain", {"node": "n1"})
    wait_machines(pools, "a", 0)


def test_a_doomed_machine_is_replaced_at_the_notice(elsad, pools, joined):
    notice(joined)
    wait_for("another", lambda: "a-2" in pools.machines("a") or "a 2" in pools.asked("grow"))
    wait_for("the first to be given back", lambda: pools.asked("shrink") == ["a a-1"])
    wait_for("the other alone", lambda: pools.machines("a") == ["a-2"])
    wait_node(elsad, "n1", there=False)


def test_one_that_vanished_is_taken_off_the_record(elsad, pools, joined):
    joined.die()
    pools.set("a", {"desired": 1, "made": 5, "instances": [{"id": "a-6", "state": "pending"}]})
    wait_node(elsad, "n1", there=False)
    wait_for("the record of it", lambda: "capacity-gone" in whats(elsad))
    assert not pools.asked("shrink")


def test_removed_by_the_operator_it_is_given_back(elsad, pools, joined):
    joined.die()
    reload(elsad, start_timeout="2s")
    elsad.post("/v1/nodes/remove", {"node": "n1", "force": True})
    wait_for("its machine to go", lambda: pools.asked("shrink") == ["a a-1"])


# --- sessions -------------------------------------------------------------------------------------


def machines_come(elsad: Elsad, pools: Pools, pool: str, number: int, **info) -> Joined:
    """The next machine of a pool, once it is there, is node "POOL-NUMBER"."""
    name = f"{pool}-{number}"
    wait_for(name, lambda: name in pools.machines(pool), seconds=30)
    return join(elsad, name, name, **info)


def test_a_start_gets_a_machine_and_gives_it_back(elsad, pools):
    elsad.write_config(capacity={"empty_for": "2s"})
    elsad.start()
    operation = elsad.start_session()
    machines_come(elsad, pools, "a", 1)
    assert elsad.follow(operation)["state"] == "done"
    assert elsad.session()["node"] == "a-1"
    assert pools.asked("grow") == ["a 1"] and not capacity(elsad)["wanted"]
    looks = len(pools.asked("describe"))
    wait_for("some looks", lambda: len(pools.asked("describe")) > looks + 4)
    assert not pools.asked("shrink")  # it is not empty
    elsad.follow(elsad.act("stop"))
    wait_machines(pools, "a", 0)
    wait_node(elsad, "a-1", there=False)


def test_only_a_spot_machine_will_do(elsad, pools):
    """Its group's budget is spent, and new sessions are for spot machines: one is asked for, and of a pool that is
    known to have others none."""
    spent = {"group": "course", "per": "day", "amount": 1e-12, "starts": "spot"}
    elsad.hub.add("bob", groups=["course"], **{"": iso(0)})
    elsad.write_config(hub={"poll": "1s"}, budget={"group": [spent]})
    elsad.start()
    operation = elsad.start_session("bob", groups=["course"])
    wait_machines(pools, "a", 1)
    elsad.cluster.add("a-1", instance="a-1", price="on-demand", instance_type="m6i.2xlarge")
    assert elsad.follow(operation)["state"] == "done"
    wait_for("its budget to be spent", lambda: elsad.get("/v1/budgets")["budgets"][0]["level"] == "spent", seconds=60)
    operation = elsad.start_session("cyd", groups=["course"])
    machines_come(elsad, pools, "b", 1)
    assert elsad.follow(operation)["state"] == "done"
    assert elsad.session("cyd")["node"] == "b-1"
    assert pools.asked("grow") == ["a 1", "b 1"]


@pytest.mark.parametrize("kills", [1, 3])
def test_one_machine_though_elsad_is_killed_while_it_is_wanted(elsad, pools, kills):
    """Who starts a session asks again when elsad is back."""
    pools.flag("hold")
    elsad.start()
    for _ in range(kills):
        elsad.start_session()
        wait_for("the question", lambda: "capacity-asked" in whats(elsad), seconds=30)
        kill_hard(elsad)
        elsad.start()
    pools.flag("hold", False)
    operation = elsad.start_session()
    machines_come(elsad, pools, "a", 1)
    assert elsad.follow(operation)["state"] == "done"
    assert pools.machines("a") == ["a-1"] and not pools.machines("b")
    assert set(pools.asked("grow")) == {"a 1"}


def test_as_many_machines_as_the_sessions_need(elsad, pools):
    """The first shows how large they are; the others are packed by that."""
    gib = 1 << 30
    elsad.start()
    first = elsad.start_session("u0", memory_bytes=3 * gib)
    machines_come(elsad, pools, "a", 1, memory_bytes=4 * gib, memory_available_bytes=4 * gib)
    elsad.follow(first)
    operations = [elsad.start_session(f"u{i}", memory_bytes=2 * gib)
                  for i in range(1, 5)]  # fmt: skip
    for number in 2, 3:
        machines_come(elsad, pools, "a", number, memory_bytes=4 * gib,
                      memory_available_bytes=4 * gib)  # fmt: skip
    assert all(elsad.follow(o)["state"] == "done" for o in operations)
    wait_for("nobody to wait", lambda: not capacity(elsad)["wanted"])
    assert pools.state("a")["desired"] == 3 and not pools.machines("b")


def test_a_session_too_large_for_the_machines_asks_for_none(elsad, pools, joined):
    elsad.start_session(memory_bytes=64 << 30)
    wait_for("a word", lambda: any("no pool has machines" in (w["text"] or "")
                                   for w in capacity(elsad)["wanted"])
             or pools.asked("grow")[1:], seconds=30)  # fmt: skip
    assert pools.asked("grow")[1:] in ([], ["b 1"])  # of b nobody has seen a machine


def test_a_doomed_machine_with_a_session_in_use(elsad, pools):
    """Its replacement is asked for while the session is still there, and takes it."""
    elsad.start()
    operation = elsad.start_session()
    node = machines_come(elsad, pools, "a", 1)
    session = elsad.follow(operation)["session"]["id"]
    notice(node)
    wait_for("another machine", lambda: "a-2" in pools.machines("a"))
    assert session in node.running and not pools.asked("shrink")
    node.evacuate(session)
    machines_come(elsad, pools, "a", 2)
    wait_for("it to go on", lambda: elsad.session()["node"] == "a-2"
             and elsad.session()["state"] == "running")  # fmt: skip
    wait_for("the first to be given back", lambda: pools.machines("a") == ["a-2"])
    assert pools.asked("shrink") == ["a a-1"]


def test_nodes_that_do_not_answer_yet_are_waited_for(elsad, pools, joined):
    """After elsad's start a node may have room as soon as it has been heard."""
    elsad.follow(elsad.start_session())
    kill_hard(elsad)
    elsad.start()
    elsad.start_session("bob")
    wait_for("bob", lambda: elsad.session("bob")["state"] == "running")
    assert pools.asked("grow") == ["a 1"]


# --- showing it -----------------------------------------------------------------------------------


def test_shown_by_elsa(elsad, pools, joined):
    from basekit import BUILD

    def elsa(*words: str) -> str:
        return subprocess.run([BUILD / "elsa", "--url", f"unix:{elsad.dir}/elsad.sock", *words],
                              capture_output=True, text=True, check=True).stdout  # fmt: skip

    shown = elsa("capacity")
    assert "a-1" in shown and "joined" in shown and "n1" in shown
    assert '"provider": "command"' in elsa("capacity", "--json")


def test_nobody_gives_machines(tmp_path):
    with Elsad(tmp_path).start() as elsad:
        assert capacity(elsad)["provider"] == "none"


@pytest.mark.parametrize("config,word", [
    ({"provider": "command", "pools": []}, "capacity.pools"),
    ({"provider": "gcp", "pools": ["x"]}, "instanceGroupManagers"),
    ({"provider": "fleet", "pools": ["x"]}, "TEMPLATE:VERSION"),
])  # fmt: skip
def test_what_cannot_be_is_said_at_once(tmp_path, config, word):
    with Elsad(tmp_path, capacity=config) as elsad:
        done = subprocess.run(elsad.argv, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode and word in done.stderr
