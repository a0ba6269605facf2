# SPDX-License-Identifier: Apache-2.0
"""Sessions that move while their users work: there and back, by hand and by draining, with a real Hub and
proxy in between. Nobody is disconnected, nothing is lost or done twice, and nothing stays behind."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator

import pytest

from basekit import BUILD, wait_for
from clusterkit import Cluster
from movekit import Busy, Line, Sizes, Watch, elsewhere, options, remains, wait_settled

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(nodes=2, local=False, options=options()) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def watch(cluster: Cluster) -> Iterator[Watch]:
    with Watch(cluster) as watch:
        yield watch


@pytest.fixture(scope="module")
def line(cluster: Cluster) -> Iterator[Line]:
    line = Line(cluster)
    yield line
    line.close()


@pytest.fixture(scope="module")
def busy(cluster: Cluster, watch: Watch, line: Line) -> Busy:
    busy = Busy(cluster, "ada", line=line)
    watch.sessions.add(busy.id)
    return busy


@pytest.fixture(autouse=True)
def told(cluster: Cluster, watch: Watch) -> Iterator[None]:
    yield
    twice, watch.twice = watch.twice, []
    assert not twice, twice


def newest_event(cluster: Cluster) -> int:
    return max((e["id"] for e in cluster.api.events()), default=0)


# --- there and back -------------------------------------------------------------------------------------


def test_there(cluster: Cluster, watch: Watch, busy: Busy):
    """By hand, as JSON. The Hub and the user's line of events are all that say so."""
    source, target = busy.node, elsewhere(cluster, "ada")
    newest = newest_event(cluster)
    said = json.loads(cluster.elsa("migrate", "ada", "--to", target.name, "--wait", "--json").stdout)
    assert said["state"] == "running" and said["node"] == target.name, said
    assert said["frozen_us"] > 0
    assert wait_settled(cluster, watch, "ada") is target
    busy.assert_whole()
    assert remains(source, busy.id) == []
    events = [e for e in cluster.api.events(after=newest) if e["user"] == "ada"]
    assert any(target.name in (e["detail"] or "") for e in events), events
    told = cluster.api.session("ada")
    assert told["node"] == target.name and told["id"] == busy.id and told["address"] == busy.address


def test_and_back_watched(cluster: Cluster, watch: Watch, busy: Busy):
    """Progress, throughput, stall, what is left: for whoever looks."""
    source, target = busy.node, elsewhere(cluster, "ada")
    shown = cluster.elsa("migrate", "ada", "--to", target.name, "--watch").stdout
    assert target.name in shown, shown
    assert re.search(r"\d+(\.\d+)? ?(MiB|GiB|MB|GB|M|G)\b", shown), shown
    assert re.search(r"\d+(\.\d+)? ?m?s\b", shown), shown
    assert wait_settled(cluster, watch, "ada") is target
    busy.assert_whole()
    assert remains(source, busy.id) == []


def test_anywhere(cluster: Cluster, watch: Watch, busy: Busy):
    """Without a word where to: wherever there is room."""
    target = elsewhere(cluster, "ada")
    cluster.elsa("migrate", "ada")
    assert wait_settled(cluster, watch, "ada") is target
    busy.assert_whole()


def test_drained(cluster: Cluster, watch: Watch, busy: Busy):
    """Who is at work moves as she is: no checkpoint, no other generation, no cell that waits for a wake."""
    source, target = busy.node, elsewhere(cluster, "ada")
    before = cluster.api.session("ada")
    newest = newest_event(cluster)
    cluster.elsa("node", "drain", source.name)
    assert wait_settled(cluster, watch, "ada") is target
    after = cluster.api.session("ada")
    assert after["generation"] == before["generation"]
    states = {e["what"] for e in cluster.api.events(after=newest) if e["user"] == "ada"}
    assert not states & {"hibernated", "checkpointing", "restoring"}, states
    busy.assert_whole()
    cluster.elsa("node", "undrain", source.name)


def test_in_the_end_all_is_there(cluster: Cluster, watch: Watch, busy: Busy):
    """The download and the upload that were half done four moves ago, the terminal, the file without a
    name, every page. Then it sleeps where it is, and wakes."""
    busy.finish()
    busy.kernel.close()
    cluster.hub.stop_server("ada")
    cluster.api.wait_state("ada", "hibernated")
    wait_for("its processes to end", lambda: not watch.has_processes(busy.id))
    assert all(not [r for r in remains(n, busy.id) if "/links/" not in r] for n in cluster.nodes.values())
    busy.browser.start_server()
    busy.kernel.connect()
    assert busy.kernel.value("print(last)") == len(busy.cells.cells)
    busy.cells.disconnects.clear()
    witness = busy.witness()
    assert not witness.skipped and not witness.lost, witness


def test_again_after_a_wake(cluster: Cluster, watch: Watch, busy: Busy):
    """What woke moves as well."""
    target = elsewhere(cluster, "ada")
    cluster.elsa("migrate", "ada", "--to", target.name)
    assert wait_settled(cluster, watch, "ada") is target
    assert busy.kernel.value("print(last)") == len(busy.cells.cells)
    witness = busy.witness()
    assert not witness.skipped and not witness.lost, witness


# --- two at once ----------------------------------------------------------------------------------------


def test_two_cross_each_other(cluster: Cluster, watch: Watch, busy: Busy):
    """Ada there, bob back, at the same time; both with all they have open."""
    source, target = busy.node, elsewhere(cluster, "ada")
    bob = Busy(cluster, "bob", Sizes(mib=16), transfers=False)
    watch.sessions.add(bob.id)
    if bob.node is not target:
        cluster.elsa("migrate", "bob", "--to", target.name, "--watch")
    moves = [subprocess.Popen([*cluster.hub.host.prefix, str(BUILD / "elsa"), "--url", cluster.hub.elsa_url,
                               "migrate", user, "--to", to.name, "--wait"])
             for user, to in (("ada", target), ("bob", source))]
    assert [m.wait(120) for m in moves] == [0, 0]
    assert wait_settled(cluster, watch, "ada") is target
    assert wait_settled(cluster, watch, "bob") is source
    bob.finish()


# --- words ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argv, said", [
    (("migrate", "nobody"), "nobody"),
    (("migrate", "ada", "--to", "nowhere"), "nowhere"),
    (("migrate",), "name of a user"),
])
def test_refused(cluster: Cluster, busy: Busy, argv: tuple[str, ...], said: str):
    done = cluster.elsa(*argv, good=False)
    assert done.returncode != 0 and said in done.stderr, done
