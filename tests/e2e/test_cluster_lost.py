# SPDX-License-Identifier: Apache-2.0
"""The whole of Elsa on several hosts: machines that go away without a word, are cut off, or are drained,
under a user at work."""

from __future__ import annotations

import pytest

from basekit import wait_for
from clusterkit import Cluster

OPTIONS = {"nodes": {"lease": "4s"}, "controller": {"observe": "300ms"}, "spot": {"protect": "none"}}


@pytest.fixture
def cluster():
    with Cluster(nodes=2, local=False, options=OPTIONS) as c:
        try:
            yield c
        except BaseException as error:
            error.add_note(c.logs())
            raise


def at_work(c: Cluster):
    """Ada, logged in, with a variable that only her kernel has; and it is in a checkpoint."""
    browser = c.hub.browser("ada").log_in()
    browser.start_server()
    kernel = browser.new_kernel()
    kernel.run("x = list(range(1000)); import os; token = int.from_bytes(os.urandom(6))")
    token = kernel.value("print(token)")
    kernel.close()
    operation = c.api.post("/v1/session/snapshot", user="ada", server="")
    assert c.api.wait_operation(operation)["state"] == "done"
    home = c.api.session("ada")["node"]
    other = next(n for n in c.nodes.values() if n.name != home)
    return browser, kernel, token, c.nodes[home], other


def wait_on(c: Cluster, name: str) -> None:
    def there() -> bool:
        session = c.api.session("ada")
        return session["state"] == "running" and session["node"] == name

    c.wait(f"the session to run on {name}", there, seconds=90)


def assert_same(kernel, token: int) -> None:
    kernel.connect()
    assert kernel.value("print(token)") == token and kernel.value("print(sum(x))") == 499500
    kernel.close()


def test_a_machine_that_is_gone(cluster: Cluster):
    browser, kernel, token, home, other = at_work(cluster)
    home.power_off()
    wait_on(cluster, other.name)
    assert_same(kernel, token)
    session = cluster.api.session("ada")
    assert session["checkpoint"] == 1 and session["generation"] == 2


def test_a_machine_that_was_cut_off_gives_way(cluster: Cluster):
    browser, kernel, token, home, other = at_work(cluster)
    session = cluster.api.session("ada")["id"]
    home.cut()
    wait_on(cluster, other.name)
    assert_same(kernel, token)
    assert home.sessions()[session]["held"]
    home.heal()
    cluster.wait("it to give way", lambda: not home.sessions().get(session, {}).get("running"))
    cluster.wait("the event", lambda: any(e["what"] == "gave-way" for e in cluster.api.events()))
    assert_same(kernel, token)


def test_a_machine_that_is_drained(cluster: Cluster):
    browser, kernel, token, home, other = at_work(cluster)
    cluster.elsa("node", "drain", home.name)
    wait_on(cluster, other.name)
    assert_same(kernel, token)
    wait_for("it to be empty", lambda: cluster.node(home.name)["sessions"] == 0)
