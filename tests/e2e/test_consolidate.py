# SPDX-License-Identifier: Apache-2.0
"""Nodes that could be empty are emptied, to be given back: with doubles of nodes and of who gives
machines, and once with real ones."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from basekit import BUILD, wait_for
from capacity_kit import Pools, capacity, growing, join, kill_hard, notice
from clusterkit import Cluster
from elsad_doubles import iso
from elsad_kit import Elsad, Json
from elsad_nodes_kit import Joined
from movekit import Busy, Sizes, Watch, options, wait_settled

GIB = 1 << 30
ON = {"enabled": True, "steady": "0s", "calm": "0s"}


@pytest.fixture
def pools(tmp_path: Path) -> Pools:
    pools = Pools(tmp_path / "pools")
    pools.set("a", {"desired": 2, "made": 2, "instances": [
        {"id": name, "state": "running"} for name in ("a-1", "a-2")]})  # fmt: skip
    return pools


@pytest.fixture
def elsad(tmp_path: Path, pools: Pools) -> Iterator[Elsad]:
    with growing(tmp_path, provider="command", command=pools.argv, pools=["a"], min=1, max=2,
                 empty_for="1s", start_timeout="1h") as elsad:  # fmt: skip
        elsad.write_config(capacity={"min": 2})
        elsad.start()
        yield elsad


@pytest.fixture
def nodes(elsad: Elsad) -> tuple[Joined, Joined]:
    """Machines a-1 and a-2, ada with 3 GiB on the one and bob with 2 GiB on the other."""
    n1, n2 = join(elsad, "n1", "a-1"), join(elsad, "n2", "a-2")
    elsad.reload()  # it looks at machines at once
    wait_for("both to be nodes", lambda: [m["node"] for m in capacity(elsad)["machines"]] == ["n1", "n2"])
    run_on(elsad, "n1", "ada", 3)
    run_on(elsad, "n2", "bob", 2)
    return n1, n2


def offer(elsad: Elsad, free: dict[str, int]) -> None:
    """The nodes say that they have so much memory free, and elsad has heard it."""
    for name, n in elsad.cluster.joined.items():
        n.info["memory_available_bytes"] = free.get(name, 1)
    wait_for("that to be known", lambda: all(
        shown(elsad, n["name"])["memory_available_bytes"] == free.get(n["name"], 1)
        for n in elsad.get("/v1/nodes")["items"] if not n["local"]))  # fmt: skip


def run_on(elsad: Elsad, node: str, user: str, gib: int) -> None:
    """The others have no memory, for a moment."""
    offer(elsad, {node: 8 * GIB})
    elsad.hub.add(user, **{"": iso()})
    elsad.run(user, memory_bytes=gib * GIB)
    assert elsad.session(user)["node"] == node
    offer(elsad, dict.fromkeys(elsad.cluster.joined, 8 * GIB))


def consolidate(elsad: Elsad, **more: Json) -> None:
    elsad.write_config(capacity={"min": 1}, consolidation={**ON, **more})
    elsad.reload()


def shown(elsad: Elsad, node: str) -> Json:
    return elsad.cluster.shown(node)


def reason(elsad: Elsad, node: str) -> str | None:
    return (shown(elsad, node)["consolidation"] or {}).get("reason")


def wait_reason(elsad: Elsad, node: str, wanted: str) -> None:
    wait_for(f"{node} to be {wanted}", lambda: reason(elsad, node) == wanted)


def wait_given_back(elsad: Elsad, pools: Pools) -> None:
    wait_for("a-2 to be given back", lambda: pools.machines("a") == ["a-1"], seconds=30)
    wait_for("n2 to be off the record",
             lambda: "n2" not in [n["name"] for n in elsad.get("/v1/nodes")["items"]])  # fmt: skip
    assert pools.asked("shrink") == ["a a-2"]


def whats(elsad: Elsad) -> list[str]:
    """What was decided of nodes, oldest first."""
    return [e["what"] for e in reversed(elsad.events(limit=1000))
            if e["who"] == "consolidation" and not e["user"]]  # fmt: skip


def moves(elsad: Elsad, user: str) -> int:
    """Begun for that."""
    return sum(e["what"] == "migrating" and e["who"] == "consolidation"
               for e in elsad.events(user=user, limit=1000))  # fmt: skip


def elsa(elsad: Elsad, *words: str) -> str:
    return subprocess.run([BUILD / "elsa", "--url", f"unix:{elsad.dir}/elsad.sock", *words],
                          capture_output=True, text=True, check=True).stdout  # fmt: skip


@pytest.fixture
def held(elsad: Elsad, nodes: tuple[Joined, Joined]) -> Iterator[tuple[Joined, Joined]]:
    """n2 is being emptied, and bob waits on his way to n1."""
    n1, n2 = nodes
    n1.before_giving = threading.Event()
    consolidate(elsad, calm="1h")
    elsad.wait_state("migrating", "bob")
    assert reason(elsad, "n2") == "emptying"
    yield nodes
    n1.before_giving.set()


# --- it is emptied --------------------------------------------------------------------------------


def test_the_emptier_one_of_two_is_emptied_and_given_back(elsad, pools, nodes):
    consolidate(elsad)
    wait_given_back(elsad, pools)
    assert [elsad.session(u)["node"] for u in ("ada", "bob")] == ["n1", "n1"]
    assert elsad.session("bob")["state"] == "running"
    assert moves(elsad, "bob") == 1 and not moves(elsad, "ada")
    wait_for("its end", lambda: whats(elsad) == ["node-emptying", "node-emptied"])
    begun = next(e for e in elsad.events(limit=1000) if e["what"] == "node-emptying")
    assert begun["why"] == "n2" and begun["detail"].startswith("1 session in use (2048 MiB) of 1")
    assert begun["inputs"]["in_use_bytes"] == 2 * GIB and begun["inputs"]["in_use"] == 1
    wait_reason(elsad, "n1", "min")


def test_shown_while_it_lasts(elsad, held):
    assert "emptying" in elsa(elsad, "node", "list")
    next_ = elsad.get("/v1/explain", user="bob", server="")["next"]
    assert any(n["what"] in ("move", "leave") and n["why"] == "consolidation" for n in next_)


def test_who_sleeps_is_answered_for_elsewhere(elsad, pools, nodes):
    elsad.follow(elsad.act("hibernate", "bob", transparent=True))
    session = elsad.session("bob")
    assert session["state"] == "asleep" and session["node"] == "n2"
    consolidate(elsad, moves_per_hour=0)
    wait_given_back(elsad, pools)
    after = elsad.session("bob")
    assert after["state"] == "asleep" and after["node"] == "n1" and not moves(elsad, "bob")


def test_who_is_idle_is_put_to_sleep_and_not_moved(elsad, pools, nodes):
    elsad.write_config(idle={"timeout": "1s", "cpu_threshold": 0.0, "transparent": True})
    elsad.reload()
    wait_for("both to be idle", lambda: all(
        elsad.get("/v1/explain", user=user, server="")["decision"]["hibernate"] for user in ("ada", "bob")))
    consolidate(elsad)
    wait_for("a machine to be given back", lambda: len(pools.machines("a")) == 1, seconds=30)
    user, home = ("ada", "n2") if pools.machines("a") == ["a-2"] else ("bob", "n1")
    session = elsad.session(user)
    assert session["state"] == "asleep" and session["node"] == home
    assert not moves(elsad, "ada") and not moves(elsad, "bob")
    asleep = next(e for e in elsad.events(user=user, limit=1000) if e["what"] == "checkpointing")
    assert asleep["who"] == "consolidation"


def test_what_another_config_would_do_is_said_and_not_done(elsad, pools, nodes, tmp_path):
    for _ in range(2):
        elsad.follow(elsad.act("snapshot", "bob"))
    nodes[1].running[elsad.session("bob")["id"]]["rss_bytes"] = 2 * GIB - 1
    wait_for("that to be seen", lambda: elsad.session("bob")["rss_bytes"] == 2 * GIB - 1)
    before = elsad.whats("bob")
    new = tmp_path / "new.toml"
    elsad.write_config(capacity={"min": 1}, consolidation=ON, spot={"protect": "none"}, store={"keep": 1},
                       session={"memory_most": "4G"})  # fmt: skip
    (elsad.dir / "elsa.toml").rename(new)
    told = json.loads(elsa(elsad, "policy", "try", str(new), "--json"))
    rows = {row["node"]: row for row in told["consolidation"]}
    assert rows["n2"]["reason"] == "emptying" and rows["n2"]["now"]["reason"] == "off"
    assert rows["n1"]["reason"] == "ready" and rows["n1"]["changed"]
    protection = {row["user"]: row for row in told["protection"]}
    assert protection["bob"]["reason"] == "not-wanted" != protection["bob"]["now"]["reason"]
    assert not any(row["changed"] for row in told["capacity"])
    kept = {row["user"]: row for row in told["retention"]}
    assert kept["bob"]["remove"] == [1] and kept["bob"]["now"]["remove"] == [] and kept["bob"]["changed"]
    limits = {row["user"]: row for row in told["rescue"]}
    assert limits["bob"]["text"] == "near: raised to 3072 MiB" and limits["bob"]["now"]["reason"] == "most"
    assert not limits["ada"]["changed"]
    said = elsa(elsad, "policy", "try", str(new))
    assert "Nodes that are emptied: 2 of 2 change" in said and "Snapshots: 2 of 2 change" in said
    assert not whats(elsad) and not moves(elsad, "bob") and shown(elsad, "n2")["consolidation"] is None
    assert elsad.whats("bob") == before


def test_what_another_config_would_do_for_who_waits(elsad, pools, nodes, tmp_path):
    elsad.start_session("carl", memory_bytes=7 * GIB)
    wait_for("too few machines to be the reason", lambda: "capacity.max" in capacity(elsad)["block"])
    new = tmp_path / "new.toml"
    elsad.write_config(capacity={"max": 3})
    (elsad.dir / "elsa.toml").rename(new)
    told = json.loads(elsa(elsad, "policy", "try", str(new), "--json"))
    pool = next(row for row in told["capacity"] if row["pool"] == "a")
    assert pool["desired"] == 3 and pool["text"] == "to 3 machines (wanted)" and pool["now"]["desired"] == 2
    carl = next(row for row in told["placement"] if row["user"] == "carl")
    assert carl["node"] is None and "1.0 GiB short" in carl["text"] and not carl["changed"]
    assert "to 3 machines (wanted)" in elsa(elsad, "policy", "try", str(new)) and not pools.asked("grow")


# --- the budget -----------------------------------------------------------------------------------


def test_not_with_more_moves_than_the_hour_has(elsad, pools, nodes):
    run_on(elsad, "n2", "carl", 0)
    consolidate(elsad, moves_per_hour=1, steady="2s")
    wait_reason(elsad, "n2", "budget")
    # The other one has a single session, for which this one has room.
    wait_for("the other to go", lambda: pools.machines("a") == ["a-2"], seconds=30)
    assert moves(elsad, "ada") == 1 and moves(elsad, "bob") == moves(elsad, "carl") == 0


def test_one_that_was_moved_rests(elsad, pools, nodes):
    consolidate(elsad)
    wait_given_back(elsad, pools)
    pools.set("a", {"desired": 2, "made": 3, "instances": [
        {"id": name, "state": "running"} for name in ("a-1", "a-3")]})  # fmt: skip
    elsad.write_config(capacity={"min": 2})
    elsad.reload()
    join(elsad, "n3", "a-3")
    run_on(elsad, "n3", "dora", 1)
    consolidate(elsad, steady="2s")
    wait_reason(elsad, "n1", "resting")
    wait_for("dora to go instead", lambda: elsad.session("dora")["node"] == "n1", seconds=30)
    assert moves(elsad, "bob") == 1


# --- faults, and others who want something ---------------------------------------------------------


@pytest.mark.parametrize("moment", ["before it is given", "after it is given"])
def test_elsad_is_killed_in_the_middle(elsad, pools, nodes, moment):
    """Both sessions of the node arrive, and neither is moved twice."""
    n1, n2 = nodes
    run_on(elsad, "n2", "carl", 0)
    event = threading.Event()
    n1.before_giving, n1.after_giving = (event, None) if "before" in moment else (None, event)
    consolidate(elsad)
    elsad.wait_state("migrating", "bob")
    kill_hard(elsad)
    elsad.start()
    event.set()
    wait_given_back(elsad, pools)
    for user in "ada", "bob", "carl":
        session = elsad.session(user)
        assert session["state"] == "running" and session["node"] == "n1"
    assert moves(elsad, "bob") == moves(elsad, "carl") == 1
    assert whats(elsad)[0] == "node-emptying" and "node-emptying-ended" not in whats(elsad)


def test_who_comes_gets_the_room_at_once(elsad, pools, held):
    elsad.hub.add("carl", **{"": iso()})
    elsad.run("carl", memory_bytes=5 * GIB)
    assert elsad.session("carl")["node"] == "n2"
    wait_for("it to be called off", lambda: whats(elsad) == ["node-emptying", "node-emptying-ended"])
    ended = next(e for e in elsad.events(limit=1000) if e["what"] == "node-emptying-ended")
    assert ended["inputs"]["reason"] == "no-room"
    held[0].before_giving.set()
    elsad.wait_state("running", "bob")
    assert not pools.asked("shrink")


def test_what_the_operator_drains_is_the_operator_s(elsad, pools, held):
    elsad.post("/v1/nodes/drain", {"node": "n2"})
    wait_for("it to be left alone", lambda: "node-emptying-ended" in whats(elsad))
    held[0].before_giving.set()
    wait_for("it to be drained", lambda: shown(elsad, "n2")["drained"])
    assert reason(elsad, "n2") == "held"
    looks = len(pools.asked("describe"))
    wait_for("some looks", lambda: len(pools.asked("describe")) > looks + 4)
    assert not pools.asked("shrink")


def test_a_notice_is_heeded_first(elsad, held):
    notice(held[1])
    wait_for("it to be left alone", lambda: "node-emptying-ended" in whats(elsad))
    ended = next(e for e in elsad.events(limit=1000) if e["what"] == "node-emptying-ended")
    assert ended["inputs"]["reason"] == "ends"


def test_switched_off_it_ends(elsad, held):
    elsad.write_config(consolidation={"enabled": False})
    elsad.reload()
    wait_for("its end", lambda: whats(elsad) == ["node-emptying", "node-emptying-ended"])
    assert shown(elsad, "n2")["consolidation"] is None


def test_what_cannot_move_ends_it(elsad, pools, nodes):
    """Once, and no more for a while."""
    n1, _ = nodes
    n1.fail["migrate"] = {"fault": "refused", "text": "no", "running": False, "kept": True}
    consolidate(elsad, calm="1h")
    wait_for("its end", lambda: "node-emptying-ended" in whats(elsad))
    wait_reason(elsad, "n2", "stuck")
    assert elsad.session("bob")["state"] == "running" and elsad.session("bob")["node"] == "n2"
    assert moves(elsad, "bob") == 1 and not pools.asked("shrink")


# --- as it is ---------------------------------------------------------------------------------------


def start_apart(c: Cluster) -> tuple[Busy, Busy]:
    """ada on n1, bob on n2, which is better for him for a moment."""
    n1, n2 = c.nodes["n1"], c.nodes["n2"]
    n2.notice_file.write_text('{"kind": "rebalance"}')
    c.wait("n2 to be avoided", lambda: c.node("n2")["notices"])
    ada = Busy(c, "ada", Sizes(mib=8), transfers=False)
    n2.notice_file.unlink()
    n1.notice_file.write_text('{"kind": "rebalance"}')
    c.wait("n1 to be avoided", lambda: c.node("n1")["notices"] and not c.node("n2")["notices"])
    bob = Busy(c, "bob", Sizes(mib=32))
    n1.notice_file.unlink()
    c.wait("both to be as others", lambda: not c.node("n1")["notices"])
    assert (ada.node, bob.node) == (n1, n2)
    return ada, bob


@pytest.mark.timeout(240)
def test_a_real_node_is_emptied_while_its_user_works(tmp_path: Path):
    """And elsad is killed meanwhile."""
    pools = Pools(tmp_path / "pools")
    pools.set("a", {"desired": 2, "instances": [{"id": n, "state": "running"} for n in ("n1", "n2")]})
    growth = {"provider": "command", "command": pools.argv, "pools": ["a"], "max": 2, "start_timeout": "1h",
              "empty_for": "2s"}  # fmt: skip
    with Cluster(nodes=2, local=False, options=options(capacity={**growth, "min": 2})) as c, Watch(c) as watch:
        ada, bob = start_apart(c)
        watch.sessions |= {ada.id, bob.id}
        c.hub.write_config(capacity={**growth, "min": 1}, consolidation={**ON, "fill": 1.0})
        c.hub.elsad.signal(signal.SIGHUP)
        c.wait("one to leave", lambda: "migrating" in (
            c.api.session("ada")["state"], c.api.session("bob")["state"]))
        c.hub.restart_elsad(kill=True)
        c.wait("a machine to be given back", lambda: len(pools.machines("a")) == 1, seconds=90)
        c.wait("its node to be forgotten", lambda: [n for n in ("n1", "n2") if c.node(n)] == pools.machines("a"))
        homes = {wait_settled(c, watch, user).name for user in ("ada", "bob")}
        assert homes == set(pools.machines("a"))
        ada.finish()
        bob.finish()
        assert not watch.twice, watch.twice
        assert sum(e["what"] == "migrating" for e in c.api.events()) == 1
