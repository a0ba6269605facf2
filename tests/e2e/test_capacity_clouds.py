# SPDX-License-Identifier: Apache-2.0
"""Machines of clouds: EC2 Auto Scaling and EC2 fleets against moto, with faults put in between, and
Google's managed instance groups against a double."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest

from basekit import wait_for
from capacity_kit import capacity, growing, join, kill_hard, whats
from elsad_kit import Elsad
from gcp_compute import compute, refusal
from s3kit import double, moto
from test_capacity import reload, wait_machine, wait_node

REGION = "eu-west-1"
KEYS = {"aws_access_key_id": "AKID", "aws_secret_access_key": "secret"}


# --- Amazon ---------------------------------------------------------------------------------------


class Front:
    """In front of moto: what was asked, and faults by action."""

    def __init__(self, port: int):
        self.port = port
        self.asked: list[dict[str, str]] = []
        self.faults: dict[str, list[Callable | tuple[int, str, str]]] = {}
        self.instead: dict[str, bytes] = {}  # action -> answer
        self.authorization = ""

    def answer(self, request: Any, body: bytes) -> tuple[int, bytes]:
        what = {k: v[0] for k, v in parse_qs(body.decode()).items()}
        action = what.get("Action", "")
        self.asked.append(what)
        self.authorization = request.headers["Authorization"]
        if self.faults.get(action):
            status, code, message = self.faults[action].pop(0)
            return status, (f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message>"
                            f"</Error></ErrorResponse>").encode()  # fmt: skip
        if action in self.instead:
            return 200, self.instead[action]
        return self.forward(request, body)

    def forward(self, request: Any, body: bytes) -> tuple[int, bytes]:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in ("connection",)}
        url = f"http://127.0.0.1:{self.port}{request.path}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(urllib.request.Request(url, body, headers), timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as e:
            return e.code, e.read()

    def actions(self, action: str) -> list[dict[str, str]]:
        return [a for a in self.asked if a.get("Action") == action]


@pytest.fixture(scope="module")
def aws_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with moto(tmp_path_factory.mktemp("moto")) as port:
        yield port


@pytest.fixture
def aws(aws_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Front, int]]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        urllib.request.Request(f"http://127.0.0.1:{aws_port}/moto-api/reset", method="POST"))
    front = Front(aws_port)
    with double(front.answer) as port:
        yield front, port


def client(service: str, port: int) -> Any:
    return boto3.client(service, region_name=REGION, endpoint_url=f"http://127.0.0.1:{port}", **KEYS)


def make_template(port: int, **more: Any) -> str:
    ec2 = client("ec2", port)
    image = ec2.describe_images()["Images"][0]["ImageId"]
    made = ec2.create_launch_template(LaunchTemplateName="elsa-node", LaunchTemplateData={
        "ImageId": image, "InstanceType": "t3.large", **more})  # fmt: skip
    return made["LaunchTemplate"]["LaunchTemplateId"]


def make_group(port: int, name: str, *, most: int = 10, protected: bool = True) -> None:
    client("autoscaling", port).create_auto_scaling_group(
        AutoScalingGroupName=name, MinSize=0, MaxSize=most, DesiredCapacity=0,
        LaunchTemplate={"LaunchTemplateName": "elsa-node", "Version": "$Latest"},
        AvailabilityZones=[f"{REGION}a"], NewInstancesProtectedFromScaleIn=protected)


def group(port: int, name: str) -> dict:
    found = client("autoscaling", port).describe_auto_scaling_groups(AutoScalingGroupNames=[name])
    return found["AutoScalingGroups"][0]


@pytest.fixture
def scaling(aws, aws_port: int, tmp_path: Path) -> Iterator[tuple[Elsad, Front]]:
    front, port = aws
    make_template(aws_port)
    make_group(aws_port, "spot-a")
    make_group(aws_port, "spot-b")
    with growing(tmp_path, provider="autoscaling", pools=["spot-a", "spot-b"], region=REGION,
                 endpoint=f"http://127.0.0.1:{port}", min=2, empty_for="1s",
                 start_timeout="60s") as elsad:  # fmt: skip
        yield elsad, front


def test_a_group_grows_and_shrinks(scaling, aws_port):
    elsad, front = scaling
    elsad.start()
    wait_for("two instances", lambda: len(group(aws_port, "spot-a")["Instances"]) == 2)
    assert [a["DesiredCapacity"] for a in front.actions("SetDesiredCapacity")] == ["2"]
    assert f"/{REGION}/autoscaling/aws4_request" in front.authorization
    wait_for("both to be seen", lambda: len(capacity(elsad)["machines"]) == 2)
    first, second = (m["id"] for m in capacity(elsad)["machines"])
    join(elsad, "n1", first)
    join(elsad, "n2", second)
    wait_machine(elsad, first, "joined")
    wait_machine(elsad, second, "joined")
    reload(elsad, min=1)
    wait_for("one to go", lambda: group(aws_port, "spot-a")["DesiredCapacity"] == 1)
    wait_for("its record", lambda: "capacity-given-back" in whats(elsad))
    ended = front.actions("TerminateInstanceInAutoScalingGroup")
    assert len(ended) == 1 and ended[0]["ShouldDecrementDesiredCapacity"] == "true"
    assert len(group(aws_port, "spot-a")["Instances"]) == 1


def test_a_group_grows_once_though_elsad_is_killed(scaling, aws_port):
    elsad, front = scaling
    for _ in range(4):
        elsad.start()
        wait_for("a word", lambda: whats(elsad))
        kill_hard(elsad)
    elsad.start()
    wait_for("two instances", lambda: len(capacity(elsad)["machines"]) == 2)
    assert {a["DesiredCapacity"] for a in front.actions("SetDesiredCapacity")} == {"2"}
    assert group(aws_port, "spot-a")["DesiredCapacity"] == 2


def test_no_capacity_in_a_group(scaling, aws_port):
    """The group takes the number and launches nothing: its activities say why. The number is
    lowered again, and the next pool is asked."""
    elsad, front = scaling
    front.instead["SetDesiredCapacity"] = b"<SetDesiredCapacityResponse/>"
    front.instead["DescribeAutoScalingGroups"] = (
        b"<R><X><AutoScalingGroups><member><DesiredCapacity>2</DesiredCapacity><MaxSize>9</MaxSize>"
        b"<NewInstancesProtectedFromScaleIn>true</NewInstancesProtectedFromScaleIn><Instances/>"
        b"</member></AutoScalingGroups></X></R>")
    front.instead["DescribeScalingActivities"] = (
        b"<R><X><Activities><member><Description>Launching a new EC2 instance</Description>"
        b"<StatusCode>Failed</StatusCode><StatusMessage>Could not launch Spot Instances. "
        b"InsufficientInstanceCapacity - There is no Spot capacity available.</StatusMessage>"
        b"<StartTime>2099-01-01T00:00:00Z</StartTime></member></Activities></X></R>")
    elsad.start()
    wait_for("the refusal", lambda: "capacity-refused" in whats(elsad))
    wait_for("both pools to be lowered", lambda: {
        a["AutoScalingGroupName"] for a in front.actions("SetDesiredCapacity")
        if a["DesiredCapacity"] == "0"} == {"spot-a", "spot-b"})
    detail = [e for e in elsad.events(limit=100) if e["what"] == "capacity-refused"][0]["detail"]
    assert "no Spot capacity" in detail


def test_a_groups_own_maximum(scaling, aws_port):
    elsad, front = scaling
    client("autoscaling", aws_port).update_auto_scaling_group(
        AutoScalingGroupName="spot-a", MaxSize=1)
    elsad.start()
    wait_for("one of each", lambda: [group(aws_port, g)["DesiredCapacity"]
                                     for g in ("spot-a", "spot-b")] == [1, 1])


@pytest.mark.parametrize("fault,event,word", [
    ((403, "AccessDenied", "not authorized"), "capacity-failed",
     "allow autoscaling:SetDesiredCapacity"),
    ((500, "InsufficientInstanceCapacity", "none left"), "capacity-refused", "none left"),
    ((400, "ValidationError", "new value 2 is above max value 1"), "capacity-refused", "MaxSize"),
], ids=["denied", "insufficient", "maximum"])  # fmt: skip
def test_what_a_group_refuses(scaling, aws_port, fault, event, word):
    elsad, front = scaling
    front.faults["SetDesiredCapacity"] = [fault]
    elsad.start()
    wait_for("the other group", lambda: group(aws_port, "spot-b")["DesiredCapacity"] == 2)
    assert any(e["what"] == event and word in e["detail"] for e in elsad.events(limit=100))
    assert group(aws_port, "spot-a")["DesiredCapacity"] == 0


def test_throttled_it_is_asked_again(scaling, aws_port):
    elsad, front = scaling
    front.faults["SetDesiredCapacity"] = [(400, "Throttling", "Rate exceeded")] * 2
    elsad.start()
    wait_for("the group", lambda: group(aws_port, "spot-a")["DesiredCapacity"] == 2, seconds=30)
    assert not [w for w in whats(elsad) if w != "capacity-asked"]


def test_no_such_group(scaling, aws_port):
    elsad, front = scaling
    elsad.write_config(capacity={"pools": ["nowhere", "spot-b"]})
    elsad.start()
    wait_for("the other group", lambda: group(aws_port, "spot-b")["DesiredCapacity"] == 2)
    assert any(e["what"] == "capacity-failed" and "correct capacity.pools" in e["detail"]
               for e in elsad.events(limit=100))


def test_fleets(aws, aws_port, tmp_path):
    front, port = aws
    template = make_template(aws_port, TagSpecifications=[
        {"ResourceType": "instance", "Tags": [{"Key": "elsa:pool", "Value": "elsa-node:1"}]}])
    front.instead = {}
    with growing(tmp_path, provider="fleet", pools=[f"{template}:7", "elsa-node:1"], region=REGION,
                 endpoint=f"http://127.0.0.1:{port}", min=2, start_timeout="60s") as elsad:
        insufficient = (b"<CreateFleetResponse><errorSet><item><errorCode>InsufficientInstanceCapacity"
                        b"</errorCode><errorMessage>No spot left.</errorMessage></item></errorSet>"
                        b"</CreateFleetResponse>")
        front.instead["CreateFleet"] = insufficient
        elsad.start()
        wait_for("the refusal", lambda: "capacity-refused" in whats(elsad))
        front.instead.clear()
        wait_for("two machines", lambda: len(capacity(elsad)["machines"]) == 2)
        kill_hard(elsad)
        elsad.write_config(capacity={"start_timeout": "2s"})
        elsad.start()
        wait_for("both to be given up", lambda: len(front.actions("TerminateInstances")) >= 2)
        asked = front.actions("CreateFleet")
        assert all(a["ClientToken"] and a["Type"] == "instant" for a in asked)
        assert len({a["ClientToken"] for a in asked}) == len(asked)
        assert asked[0]["LaunchTemplateConfigs.1.LaunchTemplateSpecification.Version"] == "7"


# --- Google ---------------------------------------------------------------------------------------

POOLS = [f"projects/p/zones/z-{z}/instanceGroupManagers/nodes-{z}" for z in "ab"]


@pytest.fixture
def google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Elsad, Any]]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with compute() as (world, port):
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{port}")
        for pool in POOLS:
            world.group(pool)
        with growing(tmp_path, provider="gcp", pools=POOLS, endpoint=f"http://127.0.0.1:{port}",
                     min=1, empty_for="1s", start_timeout="60s") as elsad:  # fmt: skip
            yield elsad, world


def test_a_managed_group_grows_and_shrinks(google):
    elsad, world = google
    elsad.start()
    wait_machine(elsad, "n-1", "running")
    # Its node knows its number, not its name.
    join(elsad, "n1", str(10**18 + 1))
    wait_machine(elsad, "n-1", "joined")
    reload(elsad, min=0)
    wait_for("it to go", lambda: not world.groups[POOLS[0]]["instances"])
    wait_node(elsad, "n1", there=False)
    assert world.asked == ["resize nodes-a 1", "delete nodes-a n-1"]
    assert world.groups[POOLS[0]]["target"] == 0
    assert world.tokens == 1


def test_a_zone_without_resources(google):
    """The group goes on trying; what it cannot make is deleted, and the next zone is asked."""
    elsad, world = google
    world.stockout.add(POOLS[0])
    elsad.start()
    wait_machine(elsad, "n-2", "running")
    wait_for("the first group to be let be", lambda: world.groups[POOLS[0]]["target"] == 0)
    assert sorted(world.asked) == ["delete nodes-a n-1", "resize nodes-a 1", "resize nodes-b 1"]
    assert any("ZONE_RESOURCE_POOL_EXHAUSTED" in (e["detail"] or "") for e in elsad.events(limit=100))


def test_over_quota(google):
    elsad, world = google
    world.over_quota.add(POOLS[0])
    elsad.start()
    wait_machine(elsad, "n-1", "running")
    assert world.asked == ["resize nodes-a 1", "resize nodes-b 1"]
    assert any(e["what"] == "capacity-refused" and "quota" in e["detail"]
               for e in elsad.events(limit=100))


def test_a_token_that_ran_out(google):
    elsad, world = google
    elsad.start()
    wait_machine(elsad, "n-1", "running")
    world.token = "t-2"
    reload(elsad, min=2)
    wait_machine(elsad, "n-2", "running")
    assert world.tokens == 2


@pytest.mark.parametrize("answer,word", [
    (refusal(403, "forbidden", "Required 'compute.instanceGroupManagers.get' permission", "PERMISSION_DENIED"),
     "allow compute.instanceGroupManagers.get"),
    (refusal(403, "accessNotConfigured", "Compute Engine API has not been used"), "enable the"),
], ids=["permission", "disabled"])  # fmt: skip
def test_what_google_refuses(google, answer, word):
    elsad, world = google
    world.fail_next = [answer]
    elsad.start()
    wait_for("a machine of the other zone", lambda: capacity(elsad)["machines"])
    assert any(e["what"] == "capacity-failed" and word in e["detail"]
               for e in elsad.events(limit=100))


def test_throttled_by_google(google):
    elsad, world = google
    world.fail_next = [refusal(403, "rateLimitExceeded", "slow down")] * 2
    elsad.start()
    wait_machine(elsad, "n-1", "running", seconds=30)
    assert whats(elsad) == ["capacity-asked"]


def test_no_service_account(google, monkeypatch):
    elsad, world = google
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:9")
    elsad.start()
    wait_for("a word", lambda: "capacity-failed" in whats(elsad))
    detail = [e for e in elsad.events(limit=100) if e["what"] == "capacity-failed"][0]["detail"]
    assert "run elsad on a machine with a service account" in detail
