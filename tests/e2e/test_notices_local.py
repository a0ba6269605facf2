# SPDX-License-Identifier: Apache-2.0
"""Notices that do not come from a cloud's double: files, commands, drills, logind; and what any of them
leads to."""
import contextlib
import json
import os
import pathlib
import subprocess
import time

import pytest

import login1
import metadata
from leasekit import pretend_lease
from nodekit import BUILD, Refused, Session, wait_for
from noticekit import (aws_fixture, azure_fixture, has, is_after, listen, make_node_fixture,
                       notices, place_fixture, said)

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(60)]


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
