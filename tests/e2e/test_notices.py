# SPDX-License-Identifier: Apache-2.0
"""elsa-node hears what clouds, files, commands, logind and drills say of its machine's end, and
nothing that they do wrong makes it miss a notice, invent one or forget one."""
import contextlib
import json
import os
import pathlib
import subprocess
import tempfile
import time

import pytest

import login1
import metadata
from leasekit import pretend_lease
from nodekit import BUILD, Node, Refused, Session, wait_for

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(60)]

PAGE = "<html><body>Log in to use this network</body></html>"


@pytest.fixture(name="place")
def place_fixture():
    with tempfile.TemporaryDirectory(prefix="notices-", dir="/var/lib/elsa") as place:
        yield pathlib.Path(place)


@pytest.fixture(name="make_node")
def make_node_fixture(place):
    """A node that is not started, with these lines under [node]."""
    made = []

    def make_node(lines, interval="100ms", more=""):
        node = Node(place / str(len(made)))
        node.write_config(more, f'{lines}\nnotice_interval = "{interval}"')
        made.append(node)
        return node

    yield make_node
    for node in made:
        node.teardown()


@pytest.fixture(name="aws")
def aws_fixture():
    with metadata.Aws() as double:
        yield double


@pytest.fixture(name="gcp")
def gcp_fixture():
    with metadata.Gcp() as double:
        yield double


@pytest.fixture(name="azure")
def azure_fixture():
    with metadata.Azure() as double:
        yield double


def listen(make_node, cloud, double, **options):
    return make_node(f'notices = "{cloud}"\nmetadata_url = "{double.url}"', **options).start()


def notices(node):
    return node.get("/v1/node").get("notices", [])


def has(node, *kinds):
    """Exactly these are present; the list, or False."""
    def look():
        found = notices(node)
        return sorted(n["kind"] for n in found) == sorted(kinds) and (found or True)
    return wait_for(look)


def is_after(notice, told, seconds):
    """The notice is for so long after it was given; clouds say that in whole seconds."""
    return told + seconds - 1 <= notice["at"] / 1000 <= time.time() + seconds


def said(node, text):
    return node.log.read_text().count(text)


def rounds(double, count=3, end="spot/instance-action"):
    """Until it has been asked so often again."""
    before = double.count(end)
    wait_for(lambda: double.count(end) >= before + count)


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


# --- files, commands, drills -------------------------------------------------------------------


def test_a_file(make_node, place):
    file = place / "notice.json"
    node = make_node(f'notices = "file"\nnotice_file = "{file}"').start()
    assert notices(node) == []
    file.write_text('{"kind": "evict", "in": "30s", "detail": "a test"}')
    [notice] = has(node, "evict")
    assert notice["source"] == "file" and notice["detail"] == "a test"
    assert abs(notice["at"] / 1000 - file.stat().st_mtime - 30) < 0.1
    node.kill()
    node.start()
    assert notices(node) == [notice]
    file.write_text('{"kind": "evi')
    wait_for(lambda: said(node, "is no notice"))
    time.sleep(0.5)
    assert said(node, "is no notice") == 1
    assert notices(node) == [notice]
    file.write_text('[{"kind": "freeze"}, {"kind": "rebalance"}]')
    has(node, "freeze", "rebalance")
    file.write_text(" " * 200000)
    time.sleep(0.5)
    has(node, "freeze", "rebalance")
    file.unlink()
    has(node)


def test_a_command(make_node, place):
    says = place / "says"
    says.write_text("")
    node = make_node('notices = "command"\n'
                     f'notice_command = ["sh", "-c", "cat {says} && exit $(cat {says}.status)"]')
    status = place / "says.status"
    status.write_text("0")
    node.start()
    says.write_text('{"kind": "evict", "in": 30}')
    [notice] = has(node, "evict")
    assert notice["source"] == "command"
    time.sleep(1)
    assert notices(node) == [notice]  # counted from when it was seen first
    status.write_text("3")
    says.write_text("")
    wait_for(lambda: said(node, "it ends with 3"))
    assert notices(node) == [notice]
    status.write_text("0")
    has(node)


def test_a_drill(make_node):
    node = make_node('notices = "none"').start()
    with pytest.raises(Refused, match="no drill"):
        node.ask("DELETE", "/v1/drill")
    for bad in ({}, {"kind": "none"}, {"kind": "explode"}, {"kind": "evict", "in_ms": -1},
                {"kind": "evict", "in_ms": "30s"}):
        with pytest.raises(Refused) as refused:
            node.ask("POST", "/v1/drill", bad)
        assert refused.value.status == 400
    told = time.time()
    node.ask("POST", "/v1/drill", {"kind": "evict", "in_ms": 30000})
    [notice] = notices(node)
    assert notice["source"] == "drill" and notice["kind"] == "evict"
    assert is_after(notice, told, 30)
    assert "uid 0" in notice["detail"]
    node.kill()
    node.start()
    assert notices(node) == [notice]
    node.ask("POST", "/v1/drill", {"kind": "reboot", "in_ms": 60000})
    [moved] = notices(node)
    assert moved["id"] == notice["id"] and moved["at"] > notice["at"] and moved["kind"] == "reboot"
    node.ask("DELETE", "/v1/drill")
    assert notices(node) == []
    node.kill()
    node.start()
    assert notices(node) == []


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


# --- logind ----------------------------------------------------------------------------------------


@pytest.fixture(name="system_bus")
def system_bus_fixture(place, monkeypatch):
    with login1.bus(place) as address:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        yield address


LOCK = ("shutdown", "elsa-node", "delay")


def test_a_shutdown_is_a_notice(make_node, system_bus):
    with login1.Logind(system_bus, delay_s=20) as logind:
        node = make_node('notices = "none"').start()
        wait_for(lambda: logind.locks == [LOCK])
        told = time.time()
        logind.shut_down()
        [notice] = has(node, "evict")
        assert notice["source"].startswith("logind")
        assert is_after(notice, told, 20)
        wait_for(lambda: logind.locks == [])  # nothing is here that would have to be put away
        logind.shut_down(False)
        has(node)
        wait_for(lambda: logind.locks == [LOCK])  # for the next time
        node.stop()
        wait_for(lambda: logind.locks == [])


def test_a_shutdown_that_began_before(make_node, system_bus):
    with login1.Logind(system_bus, preparing=True):
        node = make_node('notices = "none"').start()
        [notice] = has(node, "evict")
        node.kill()
        node.start()
        assert notices(node) == [notice]
        time.sleep(0.3)
        assert notices(node) == [notice]
        node.kill()
    with login1.Logind(system_bus):
        node.start()
        has(node)  # called off while nobody listened


def test_logind_comes_late_and_comes_back(make_node, system_bus):
    node = make_node('notices = "none"').start()
    for _ in range(2):
        with login1.Logind(system_bus) as logind:
            wait_for(lambda: logind.locks == [LOCK])
            logind.shut_down()
            has(node, "evict")
            logind.shut_down(False)
            has(node)


def test_logind_refuses(make_node, system_bus):
    with login1.Logind(system_bus) as logind:
        logind.refuse = True
        node = make_node('notices = "none"').start()
        wait_for(lambda: said(node, "will not wait for sessions") == 1)
        assert notices(node) == []


def test_a_machine_without_systemd(make_node, monkeypatch, place):
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={place}/nothing")
    node = make_node('notices = "none"').start()
    assert said(node, "there is no system bus") == 1
    with contextlib.suppress(Refused):
        node.ask("DELETE", "/v1/drill")
    assert node.stop() == 0


# --- drills by the command line ------------------------------------------------------------------


@pytest.fixture(name="elsa")
def elsa_fixture(make_node, place):
    """The command line, elsad and its own host's node."""
    (place / "hub.token").write_text("t")
    node = make_node('name = "hub"\nnotices = "none"', more=f"""
[hub]
api_url = "http://127.0.0.1:9/hub/api"
token_file = "{place}/hub.token"
[controller]
socket = "{place}/elsad.sock"
database = "{place}/elsad.db"
observe = "200ms"
""").start()
    with open(place / "elsad.log", "w") as log:
        elsad = subprocess.Popen([BUILD / "elsad", "--config", node.config], stdout=log, stderr=log)

    def elsa(*words, status=0):
        done = subprocess.run([BUILD / "elsa", "--config", node.config, *words], timeout=60,
                              capture_output=True, text=True)
        assert done.returncode == status, (done.stdout, done.stderr)
        return done.stdout + done.stderr

    wait_for(lambda: (place / "elsad.sock").exists() and '"hub"' in elsa("node", "list", "--json"))
    yield elsa, node
    elsad.terminate()
    elsad.wait(20)


def test_a_drill_by_the_command_line(elsa):
    elsa, node = elsa
    told = time.time()
    assert "hub: was told" in elsa("drill", "evict", "hub", "--in", "1h")
    [notice] = notices(node)
    assert notice["kind"] == "evict" and notice["source"] == "drill"
    assert is_after(notice, told, 3600)
    wait_for(lambda: "evict in" in elsa("node", "list"))
    [row] = json.loads(elsa("node", "list", "--json"))
    assert row["notices"] == [notice]
    assert "hub: it is taken back" in elsa("drill", "cancel", "hub")
    assert notices(node) == []
    assert "no drill on this node" in elsa("drill", "cancel", "hub", status=3)
    assert "no node" in elsa("drill", "evict", "elsewhere", status=3)
    wait_for(lambda: "evict in" not in elsa("node", "list"))
    said = elsa("events")
    assert "drill" in said and "drill-cancelled" in said
    # Its node is away.
    node.stop()
    elsa("drill", "evict", "hub", status=7)


# --- what it leads to ---------------------------------------------------------------------------


@pytest.fixture(name="busy_node")
def busy_node_fixture(make_node, aws):
    """With a session."""
    node = listen(make_node, "aws", aws)
    session = Session(node)
    session.start()
    return node, session


def evacuated(node, session):
    return wait_for(lambda: (s := node.sessions().get(session.id)) and s.get("ended") == "evacuated"
                    and not s["running"] and not s.get("effect"), 60)


def test_sessions_are_put_away(busy_node, aws):
    node, session = busy_node
    at = aws.evict(60)
    evacuated(node, session)
    assert time.time() < at
    with pytest.raises(Refused, match="goes away"):
        node.effect("restore", session, 1)
    aws.set(action=None)
    has(node)
    session.restore(1)


def test_what_is_days_ahead_can_wait(busy_node, aws):
    node, session = busy_node
    event = {"NotBefore": metadata.mail_date(time.time() + 3 * 86400), "Code": "instance-stop",
             "EventId": "instance-event-1", "State": "active"}
    aws.set(scheduled=[event], rebalance=metadata.iso(time.time()))
    has(node, "evict", "rebalance")
    time.sleep(1)
    assert node.sessions()[session.id]["running"]
    assert not node.get("/v1/node").get("evacuating")
    aws.set(scheduled=[{**event, "NotBefore": metadata.mail_date(time.time() + 300)}])
    evacuated(node, session)


def test_a_shutdown_waits_for_sessions(make_node, system_bus):
    with login1.Logind(system_bus, delay_s=60) as logind:
        node = make_node('notices = "none"').start()
        session = Session(node)
        session.start()
        wait_for(lambda: logind.locks == [LOCK])
        logind.shut_down()
        evacuated(node, session)
        wait_for(lambda: logind.locks == [])


def test_azure_may_go_on_when_all_is_put_away(make_node, azure):
    node = make_node(f'notices = "azure"\nmetadata_url = "{azure.url}"\n'
                     'controller = "https://127.0.0.1:9"')
    pretend_lease(node.run_dir, pathlib.Path("/proc/sys/kernel/random/boot_id").read_text())
    node.start()
    session = Session(node)
    node.done("start", session)  # only the hub's host reaches it
    event = azure.schedule("Preempt", 60)
    evacuated(node, session)
    wait_for(lambda: azure.started == [event])


@pytest.mark.parametrize("what", ["avoid", "evacuate"])
def test_a_recommendation_is_followed_where_that_is_wanted(make_node, aws, what):
    node = listen(make_node, "aws", aws, more=f'[spot]\nrebalance = "{what}"')
    session = Session(node)
    session.start()
    aws.set(rebalance=metadata.iso(time.time()))
    has(node, "rebalance")
    if what == "evacuate":
        evacuated(node, session)
        return
    time.sleep(1)
    assert node.sessions()[session.id]["running"]
