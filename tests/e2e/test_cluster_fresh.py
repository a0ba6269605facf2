# SPDX-License-Identifier: Apache-2.0
"""Fresh machines, from the asking to the giving back, with real hosts and a real Hub: who logs in waits
for one, who works is moved to one at a notice, and who sleeps needs none."""

from __future__ import annotations

import contextlib
import json
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

import observer
from basekit import Json, wait_for
from browser import Kernel
from clusterkit import Cluster
from hostkit import TEST_ADDRESS
from machineskit import Command, Group, Machines, Visitor
from s3kit import moto

NOTICE = 10  # seconds
EMPTY_FOR = 3
REGION = "eu-west-1"

# Ada is in use while her server runs, bob is not as soon as he is quiet. Nobody is put to sleep for that.
OPTIONS: dict[str, Json] = {
    "spot": {"margin": "1s", "protect": "none"},
    "nodes": {"lease": "5s", "reserve": 0},
    "controller": {"observe": "300ms"},
    "idle": {"timeout": 0, "dry_run": True, "transparent": False, "rule": [
        {"name": "away", "users": ["bob"], "timeout": "1s", "min_uptime": 0, "cpu_threshold": 0.0}]},
}  # fmt: skip
CAPACITY: Json = {"start_timeout": "60s", "empty_for": f"{EMPTY_FOR}s", "cooldown": "10s"}


def joining_token(c: Cluster) -> str:
    """As an operator makes one for a launch template."""
    return json.loads(c.elsa("node", "token", "--uses", "10", "--json").stdout)["token"]


@pytest.fixture(scope="class")
def command() -> Iterator[tuple[Cluster, Command]]:
    with tempfile.TemporaryDirectory(prefix="machines-", dir="/run") as where:
        c = Cluster(nodes=0, local=False, options=OPTIONS)
        machines = Command(c, Path(where))
        c.hub.options["capacity"] = {"provider": "command", "command": machines.argv,
                                     "pools": ["a", "b"], **CAPACITY}  # fmt: skip
        c.hub.write_config()
        with c:
            machines.token = joining_token(c)
            try:
                yield c, machines
            finally:
                machines.close()


@contextlib.contextmanager
def told(c: Cluster) -> Iterator[None]:
    """A failure comes with what elsad thinks."""
    try:
        yield
    except BaseException as error:
        for e in reversed(c.api.events(limit=200)):
            error.add_note(" ".join(str(e[k]) for k in ("at", "user", "who", "what", "why", "detail")))
        error.add_note(c.logs())
        raise


# --- what happens ---------------------------------------------------------------------------------


def wait_asleep(c: Cluster, *users: str) -> None:
    for user in users:
        c.hub.stop_server(user)
    for user in users:
        c.api.wait_state(user, "hibernated")


def wait_empty(c: Cluster, machines: Machines) -> None:
    """All machines have been given back, and nobody remembers their nodes."""
    c.wait("the machines to be given back", lambda: not machines.there)
    c.wait("their nodes to be forgotten",
           lambda: all(n["local"] for n in c.api.get("/v1/nodes")["items"]))


def whats(c: Cluster, user: str = "", who: str = "") -> list[str]:
    """Oldest first."""
    return [e["what"] for e in reversed(c.api.events(limit=1000))
            if user in ("", e["user"]) and who in ("", e["who"])]


def begin_beating(visitor: Visitor) -> Kernel:
    kernel = visitor.browser.new_kernel()
    kernel.run(observer.BEAT)
    return kernel


def answers(kernel: Kernel) -> bool:
    try:
        kernel.connect()
        return kernel.value("print(beats)", seconds=20) > 0
    except Exception:  # noqa: BLE001  whatever a browser may meet while its server is away
        return False


def assert_nothing_lost(c: Cluster, user: str) -> None:
    witness = observer.testify(c.hub.dir / "home" / user)
    assert witness.last > 0 and not witness.lost and not witness.skipped, witness


# --- a command that gives machines ----------------------------------------------------------------


def machines_come(c: Cluster, machines: Command) -> tuple[Kernel, Kernel]:
    machines.power.clear()
    ada = Visitor(c, "ada")
    wait_for("the spawn page to say it", lambda: ada.sees("aiting for a machine"))
    c.wait("a machine to be asked for", lambda: machines.asked)
    assert "ada" in [w["user"] for w in c.api.get("/v1/capacity")["wanted"]]
    bob = Visitor(c, "bob")
    wait_for("bob's spawn page, too", lambda: bob.sees("aiting for a machine"))
    machines.power.set()
    ada.there()
    bob.there()
    assert machines.asked == ["grow a 1"]
    assert [c.api.session(user)["node"] for user in ("ada", "bob")] == ["a-1", "a-1"]
    assert c.node("a-1")["price"] == "spot"
    bobs = bob.browser.new_kernel()
    bobs.run("secret = 4711")
    bobs.close()
    return begin_beating(ada), bobs


def one_is_taken_away(c: Cluster, machines: Command, kernel: Kernel, bobs: Kernel) -> None:
    wait_for("bob to be away", lambda: (whats(c, "bob", who="idle-policy") or [""])[-1] == "would-hibernate")
    assert "would-hibernate" not in whats(c, "ada")
    old = machines.machines["a-1"].node
    begun = time.monotonic()
    old.notice_file.write_text('{"kind": "evict", "in": "%ss"}' % NOTICE)
    machines.end_in("a-1", NOTICE)
    c.wait("another to be asked for", lambda: "grow a 2" in machines.asked)
    assert "a-1" in machines.there and c.api.session("ada")["node"] == "a-1"
    print(f"asked for another {time.monotonic() - begun:.1f} s after the notice")
    wait_for("ada's kernel", lambda: answers(kernel), seconds=90, pause=0.1)
    print(f"ada's kernel answers on the fresh machine {time.monotonic() - begun:.1f} s after the notice")
    assert c.api.session("ada")["node"] == "a-2"
    c.wait("the old one to be gone", lambda: machines.there == ["a-2"])
    c.wait("its node to be forgotten", lambda: c.node("a-1") is None)
    c.wait("the Hub to know of bob", lambda: c.hub.hub_server("bob") is None)
    assert c.api.session("bob")["state"] == "hibernated"
    Visitor(c, "bob").there()
    assert c.api.session("bob")["node"] == "a-2" and bobs.connect().value("print(secret)") == 4711
    bobs.close()
    assert [a for a in machines.asked if a.startswith("grow")] == ["grow a 1", "grow a 2"]
    assert_nothing_lost(c, "ada")


def machines_go(c: Cluster, machines: Command) -> None:
    """But for the fewest that are to stay."""
    c.hub.write_config(capacity={"min": 1})
    c.hub.elsad.signal(signal.SIGHUP)
    c.wait("that to be known", lambda: c.api.get("/v1/capacity")["min"] == 1)
    wait_asleep(c, "ada", "bob")
    time.sleep(2 * EMPTY_FOR)
    assert machines.there == ["a-2"] and c.node("a-2")["up"]
    c.hub.write_config()
    c.hub.elsad.signal(signal.SIGHUP)
    wait_empty(c, machines)
    assert machines.asked[-1] == "shrink a a-2" and "capacity-given-back" in whats(c)


class TestCommand:
    def test_from_the_first_login_to_the_last(self, command):
        c, machines = command
        with told(c):
            kernel, bobs = machines_come(c, machines)
            one_is_taken_away(c, machines, kernel, bobs)
            machines_go(c, machines)
            # And comes again, for whoever wakes.
            ada = Visitor(c, "ada")
            ada.there()
            assert answers(kernel) and machines.there == ["a-3"]
            assert_nothing_lost(c, "ada")
            wait_asleep(c, "ada")
            wait_empty(c, machines)

    def test_a_pool_without_capacity(self, command):
        c, machines = command
        with told(c):
            machines.asked.clear()
            machines.full.add("a")
            ada = Visitor(c, "ada")
            ada.there()
            assert machines.asked == ["grow a 1", "grow b 1"] and machines.there == ["b-1"]
            refused = next(e for e in c.api.events() if e["what"] == "capacity-refused")
            assert refused["why"] == "a" and "no spot capacity here" in refused["detail"]
            machines.full.clear()
            wait_asleep(c, "ada")
            wait_empty(c, machines)

    def test_elsad_is_killed_while_a_machine_boots(self, command):
        c, machines = command
        with told(c):
            machines.asked.clear()
            made = len(machines.made)
            machines.power.clear()
            cy = Visitor(c, "cy")
            c.wait("a machine to be asked for", lambda: machines.asked)
            c.hub.elsad.kill()
            machines.power.set()
            time.sleep(2)  # it is up, and nobody there to join
            c.hub.start_elsad()
            cy.there()
            assert len(set(machines.asked)) == 1 and len(machines.made) == made + 1
            assert c.api.session("cy")["node"] == machines.made[-1]
            wait_asleep(c, "cy")
            wait_empty(c, machines)


# --- an Auto Scaling group ------------------------------------------------------------------------


GROUP = "elsa-spot"
KEYS = {"aws_access_key_id": "AKID", "aws_secret_access_key": "secret"}


def make_group(port: int) -> Any:
    """As packaging/aws says; its client."""
    where = {"region_name": REGION, "endpoint_url": f"http://{TEST_ADDRESS}:{port}", **KEYS}
    ec2, scaling = boto3.client("ec2", **where), boto3.client("autoscaling", **where)
    image = ec2.describe_images()["Images"][0]["ImageId"]
    ec2.create_launch_template(LaunchTemplateName="elsa-node", LaunchTemplateData={
        "ImageId": image, "InstanceType": "t3.large"})  # fmt: skip
    scaling.create_auto_scaling_group(
        AutoScalingGroupName=GROUP, MinSize=0, MaxSize=10, DesiredCapacity=0,
        LaunchTemplate={"LaunchTemplateName": "elsa-node", "Version": "$Latest"},
        AvailabilityZones=[f"{REGION}a"], NewInstancesProtectedFromScaleIn=True)
    return scaling


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Cluster, Group]]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    c = Cluster(nodes=0, local=False, options=OPTIONS)
    with contextlib.ExitStack() as stack:
        stack.callback(c.close)
        port = stack.enter_context(moto(tmp_path, TEST_ADDRESS))
        scaling = make_group(port)
        c.hub.options["capacity"] = {"provider": "autoscaling", "pools": [GROUP], "region": REGION,
                                     "endpoint": f"http://{TEST_ADDRESS}:{port}", **CAPACITY}  # fmt: skip
        c.hub.write_config()
        c.hub.elsad.env = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret"}
        c.start()
        machines = Group(c, scaling, GROUP)
        stack.callback(machines.close)
        machines.token = joining_token(c)
        yield c, machines


def test_an_auto_scaling_group(group):
    c, machines = group
    with told(c):
        ada = Visitor(c, "ada")
        wait_for("the spawn page to say it", lambda: ada.sees("aiting for a machine"))
        ada.there()
        first, = machines.there
        node = c.node(first)
        assert c.api.session("ada")["node"] == first and machines.desired == 1
        assert (node["instance"], node["price"]) == (first, "spot")
        kernel = begin_beating(ada)
        begun = time.monotonic()
        machines.doubles[first].evict(NOTICE)
        c.wait("another to be asked for", lambda: machines.desired == 2)
        wait_for("ada's kernel", lambda: answers(kernel), seconds=90, pause=0.1)
        print(f"ada's kernel answers on the fresh machine {time.monotonic() - begun:.1f} s after the notice")
        second = c.api.session("ada")["node"]
        assert second != first and second in machines.there
        # The emptied one is ended, and no other is launched in its place.
        c.wait("the old one to be gone", lambda: machines.there == [second])
        c.wait("its node to be forgotten", lambda: c.node(first) is None)
        assert machines.desired == 1 and machines.made == [first, second]
        assert_nothing_lost(c, "ada")
        wait_asleep(c, "ada")
        wait_empty(c, machines)
        assert machines.desired == 0
