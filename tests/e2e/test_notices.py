# SPDX-License-Identifier: Apache-2.0
"""elsa-node hears what clouds say of its machine's end, and nothing that they do wrong makes it miss a
notice, invent one or forget one."""
import json
import os
import pathlib
import subprocess
import time

import pytest

import metadata
from nodekit import wait_for
from noticekit import (aws_fixture, azure_fixture, gcp_fixture, has, is_after, listen,
                       make_node_fixture, notices, place_fixture, rounds, said)

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(60)]

PAGE = "<html><body>Log in to use this network</body></html>"


# --- AWS -----------------------------------------------------------------------------------


def test_aws_says_what_the_machine_is(make_node, aws):
    node = listen(make_node, "aws", aws)
    info = wait_for(lambda: (i := node.get("/v1/node")).get("price") and i)
    assert (info["cloud"], info["instance"], info["instance_type"], info["zone"], info["price"]) == (
        "aws", aws.instance, "m7i.large", "eu-west-1a", "spot")
    assert info.get("notices", []) == []
    rounds(aws)
    assert aws.count("instance-id") == 1
    assert aws.count("api/token") == 1


def test_the_price_can_be_set(make_node, aws):
    node = make_node(f'notices = "aws"\nmetadata_url = "{aws.url}"\nprice = "on-demand"').start()
    rounds(aws)
    assert node.get("/v1/node")["price"] == "on-demand"


@pytest.mark.parametrize("action", ["terminate", "stop", "hibernate"])
def test_aws_interrupts(make_node, aws, action):
    node = listen(make_node, "aws", aws)
    told = int(time.time() * 1000)
    at = aws.evict(120, action)
    [notice] = has(node, "evict")
    assert notice["at"] == at * 1000
    assert notice["source"] == "aws spot/instance-action"
    assert json.loads(notice["detail"])["action"] == action
    assert told <= notice["seen_at"] <= time.time() * 1000
    # Asked over and over, it stays the same; the cloud takes it back, and it is gone.
    rounds(aws)
    assert notices(node) == [notice]
    aws.set(action=None)
    has(node)
    aws.evict(60)
    [other] = has(node, "evict")
    assert other["id"] != notice["id"]


def test_a_notice_stays_the_same_over_a_restart(make_node, aws):
    node = listen(make_node, "aws", aws)
    aws.evict(120)
    [notice] = has(node, "evict")
    node.kill()
    node.start()
    assert notices(node) == [notice]  # before it could have asked
    rounds(aws)
    assert notices(node) == [notice]
    # Cancelled while nobody listened.
    node.stop()
    aws.set(action=None)
    node.start()
    has(node)
    # Of another boot: not even read.
    record = node.run_dir / "notices.json"
    aws.evict(120)
    has(node, "evict")
    node.kill()
    aws.set(hang=True)
    record.write_text(record.read_text().replace(node_boot(), "0" * 36))
    node.start()
    assert notices(node) == []
    node.kill()
    record.write_text("{")
    node.start()
    assert notices(node) == []
    assert said(node, "notices from before are not known") == 1


def node_boot():
    return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_the_time_of_a_notice_may_move(make_node, aws):
    node = listen(make_node, "aws", aws)
    aws.evict(120)
    [first] = has(node, "evict")
    at = aws.evict(60)
    wait_for(lambda: notices(node)[0]["at"] == at * 1000)
    assert notices(node)[0]["id"] == first["id"]
    aws.evict(-3600)  # past: now
    wait_for(lambda: abs(notices(node)[0]["at"] / 1000 - time.time()) < 10)
    now = notices(node)[0]["at"]
    rounds(aws)
    assert notices(node)[0]["at"] == now


def test_aws_bad_answers(make_node, aws):
    node = listen(make_node, "aws", aws)
    # An action with a time that nobody can read is a notice without a time.
    aws.set(action={"action": "stop", "time": "25 o'clock"})
    [notice] = has(node, "evict")
    assert notice.get("at", 0) == 0
    rounds(aws)
    assert said(node, "a time that cannot be read") == 1
    # What is no answer changes nothing.
    for odd in (PAGE, '{"action": "stop", "ti', "[]", "{}", "x" * 100000, "\xff\x00"):
        aws.set(override={"spot/instance-action": (200, odd)})
        rounds(aws)
        assert notices(node) == [notice]
    aws.set(override={"spot/instance-action": (500, "")})
    rounds(aws)
    assert notices(node) == [notice]
    aws.set(override={}, action={"action": "vaporize", "time": metadata.iso(time.time() + 60)})
    wait_for(lambda: notices(node)[0].get("at", 0) > 0)
    aws.set(action=None)
    has(node)


def test_aws_tokens(make_node, aws):
    aws.set(token_ttl=2)
    node = listen(make_node, "aws", aws)
    wait_for(lambda: aws.count("api/token") >= 4)
    assert not [a for a in aws.asked if a[2] == 401]  # renewed before their end
    aws.set(token_ttl=21600)
    wait_for(lambda: aws.count("api/token") >= 5)
    before = aws.count("api/token")
    aws.forget_tokens()
    aws.evict(120)
    has(node, "evict")
    assert aws.count("api/token") == before + 1
    assert len([a for a in aws.asked if a[2] == 401]) == 1


def test_aws_throttles(make_node, aws):
    node = listen(make_node, "aws", aws)
    rounds(aws)
    aws.set(fail=[503] * 3 + [429] * 3)
    aws.evict(120)
    before = len(aws.asked)
    wait_for(lambda: not aws.fail)
    # It slows down, and does not mistake it for a lack of notices.
    assert len(aws.asked) - before <= 7
    has(node, "evict")
    aws.set(fail=[503] * 4)
    wait_for(lambda: not aws.fail)
    assert has(node, "evict")


def test_aws_is_switched_off(make_node, aws):
    aws.set(disabled=True)
    node = listen(make_node, "aws", aws)
    wait_for(lambda: said(node, "HttpEndpoint=enabled"))
    time.sleep(0.5)
    assert len(aws.asked) == 1


def test_aws_other_sources(make_node, aws):
    node = listen(make_node, "aws", aws)
    at = int(time.time()) + 7 * 86400
    aws.set(lifecycle="InService", rebalance=metadata.iso(time.time()))
    [rebalance] = has(node, "rebalance")
    assert rebalance.get("at", 0) == 0
    event = {"NotBefore": metadata.mail_date(at).split(", ")[1], "Code": "system-reboot",
             "Description": "scheduled reboot", "EventId": "instance-event-0d59", "State": "active"}
    aws.set(scheduled=[event])
    found = has(node, "rebalance", "reboot")
    assert [n["at"] for n in found if n["kind"] == "reboot"] == [at * 1000]
    aws.set(scheduled=[{**event, "State": "canceled", "Description": "[Canceled] scheduled reboot"}])
    has(node, "rebalance")
    aws.set(lifecycle="Terminated", rebalance=None)
    has(node, "evict")
    aws.set(lifecycle="Detached")
    has(node, "rebalance")
    aws.set(lifecycle=None)
    has(node)


def test_an_outage_hides_nothing(make_node, aws):
    node = listen(make_node, "aws", aws)
    aws.evict(120)
    [notice] = has(node, "evict")
    aws.close()
    time.sleep(1)
    assert notices(node) == [notice]
    aws.set(action=None)
    aws.open()
    has(node)
    for how in "drop", "hang":
        aws.set(**{how: True})
        time.sleep(0.5)
        aws.evict(60)
        aws.set(**{how: False})
        has(node, "evict")
        aws.set(**{how: True}, action=None)
        time.sleep(0.5)
        assert notices(node)
        aws.set(**{how: False})
        has(node)


@pytest.mark.timeout(200)
def test_a_long_outage_is_told_once_and_when_it_is_over(make_node, aws, place):
    """And a limit of hops that keeps tokens from a container is named. A minute of waiting."""
    with metadata.Aws() as far:
        far.set(hops=False)
        behind = listen(make_node, "aws", far)
        node = listen(make_node, "aws", aws)
        rounds(aws)
        aws.close()
        wait_for(lambda: said(node, "notices cannot be asked for"), 75)
        wait_for(lambda: said(behind, "HttpPutResponseHopLimit=2"), 30)
        aws.open()
        wait_for(lambda: said(node, "notices can be asked for again"))
        far.set(hops=True)
        wait_for(lambda: said(behind, "notices can be asked for again"), 30)
        assert said(node, "notices cannot be asked for") == 1
        assert said(behind, "notices cannot be asked for") == 1


# --- Google --------------------------------------------------------------------------------


def test_gcp(make_node, gcp):
    node = listen(make_node, "gcp", gcp, interval="2s")
    info = wait_for(lambda: (i := node.get("/v1/node")).get("price") and i)
    assert (info["cloud"], info["instance"], info["instance_type"], info["zone"], info["price"]) == (
        "gcp", gcp.id, "n2-standard-4", "europe-west4-a", "spot")
    assert info.get("notices", []) == []
    wait_for(lambda: gcp.count("preempted") and gcp.count("maintenance-event"))
    time.sleep(0.5)
    assert gcp.count("preempted") <= 2  # it waits to be told
    asked = gcp.count("preempted")
    gcp.set(preempted="TRUE")
    [notice] = has(node, "evict")
    assert gcp.count("preempted") <= asked + 1  # told in answer to what it had asked before
    assert notice["source"] == "gcp preempted"
    gcp.set(preempted="FALSE", maintenance="MIGRATE_ON_HOST_MAINTENANCE")
    has(node, "freeze")
    gcp.set(maintenance="TERMINATE_ON_HOST_MAINTENANCE")
    has(node, "evict")
    gcp.set(maintenance="NONE")
    has(node)


def test_gcp_bad_answers(make_node, gcp):
    gcp.set(model=None, preemptible="FALSE")
    node = listen(make_node, "gcp", gcp)
    wait_for(lambda: node.get("/v1/node").get("price") == "on-demand")
    gcp.set(preempted="TRUE")
    [notice] = has(node, "evict")
    gcp.set(fail=[503] * 6)
    wait_for(lambda: not gcp.fail)
    for odd in (PAGE, "PERHAPS", "TRUE" * 100000):
        gcp.set(override={"preempted": (200, odd)}, preempted="TRUE")
        gcp.set(drop=True)
        time.sleep(0.2)
        gcp.set(drop=False)
        rounds(gcp, 2, "preempted")
        assert notices(node) == [notice]
    gcp.set(override={}, preempted="FALSE")
    has(node)
    # Something else at that address says that it is all over.
    with metadata.Gcp() as other:
        other.headers = dict
        other.set(preempted="TRUE")
        elsewhere = listen(make_node, "gcp", other)
        rounds(other, 3, "preempted")
        assert notices(elsewhere) == []
        assert said(elsewhere, "does not come from the metadata service") >= 1


# --- Azure -----------------------------------------------------------------------------------


def test_azure(make_node, azure):
    node = listen(make_node, "azure", azure)
    info = wait_for(lambda: (i := node.get("/v1/node")).get("price") and i)
    assert (info["cloud"], info["instance"], info["instance_type"], info["zone"], info["price"]) == (
        "azure", azure.vm_id, "Standard_D4s_v5", "westeurope-2", "spot")
    azure.schedule("Preempt", 30, ["vm-2"])  # somebody else's
    azure.schedule("Freeze", 900, ["vm-2", "vm-1"])
    has(node, "freeze")
    told = time.time()
    azure.schedule("Preempt", 30)
    [evict] = [n for n in has(node, "freeze", "evict") if n["kind"] == "evict"]
    assert is_after(evict, told, 30)
    # It begins, and has no time any more: the one from before counts.
    azure.set(events=[{**e, "EventStatus": "Started", "NotBefore": ""} for e in azure.events])
    rounds(azure, 3, "scheduledevents")
    assert evict["at"] in [n.get("at") for n in notices(node)]
    azure.set(events=[])
    has(node)
    azure.schedule("Reboot", None)
    azure.schedule("Rewrite", 60)
    has(node, "reboot", "rebalance")
    for odd in (PAGE, "{}", '{"Events": [{"EventType": "Preempt"}]}', '{"Events": 1}'):
        azure.set(override={"scheduledevents": (200, odd)})
        rounds(azure, 3, "scheduledevents")
        has(node, "reboot", "rebalance")
    for status in 404, 500, 503:
        azure.set(override={"scheduledevents": (status, PAGE)})
        rounds(azure, 2, "scheduledevents")
        has(node, "reboot", "rebalance")
    azure.set(override={}, hang=True)
    time.sleep(0.5)
    has(node, "reboot", "rebalance")
    azure.set(hang=False, events=[])
    has(node)


# --- which cloud ---------------------------------------------------------------------------------


@pytest.fixture(name="firmware")
def firmware_fixture(place):
    """Says what the machine's strings are."""
    strings = place / "class" / "dmi" / "id"
    strings.mkdir(parents=True)
    (place / "class" / "net").symlink_to("/sys/devices/virtual/net")
    subprocess.run(["mount", "--bind", place / "class", "/sys/class"], check=True)

    def firmware(**values):
        for name, value in values.items():
            (strings / name).write_text(value + "\n")

    yield firmware
    subprocess.run(["umount", "/sys/class"], check=True)


def test_the_cloud_is_found_out(make_node, aws, firmware):
    node = make_node(f'notices = "auto"\nmetadata_url = "{aws.url}"').start()
    assert "cloud" not in node.get("/v1/node")
    assert said(node, "no cloud that is known") == 1
    assert aws.asked == []
    node.stop()
    firmware(sys_vendor="Amazon EC2", product_name="m7i.large")
    node.start()
    wait_for(lambda: node.get("/v1/node").get("instance"))
    assert node.get("/v1/node")["cloud"] == "aws"
