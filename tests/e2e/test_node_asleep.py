# SPDX-License-Identifier: Apache-2.0
"""elsa-node alone: sessions that are asleep without anybody seeing it (docs/wake.md)."""
import contextlib
import fcntl
import http.client
import json
import os
import socket
import struct
import subprocess
import termios
import threading
import urllib.parse

import pytest

from nodebed import power_cut
from nodekit import BUILD, Node, Refused, Session, wait_for
from test_node import (assert_same, in_place_of, leftovers, node_fixture, place_fixture, settle,
                       whole)

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(300)]
FIXTURES = (node_fixture, place_fixture)  # used by name

PING = b"\x89\x82maskhi"
TCP_KEEPALIVE = ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 3))


def steps_of(kind):
    with contextlib.suppress(OSError):
        return [step for k, step in Node.steps(None) if k == kind]
    return []


def begin(node):
    session = Session(node)
    session.start()
    session.before = session.ask("state")
    return session


def fall_asleep(node, session, generation=1):
    result = node.done("sleep", session, generation)
    assert result["answering"] and not result["running"] and session.processes() == set()
    return session


def asleep(node):
    return fall_asleep(node, begin(node))


def status(node, session):
    return node.sessions().get(session.id, {})


def is_asleep(node, session):
    now = status(node, session)
    return now.get("answering") and not now.get("running") and not now.get("effect")


def runs(node, session):
    now = status(node, session)
    return now.get("running") and not now.get("effect")


class Line:
    """A connection to the probe that stays open: each line said comes back."""

    def __init__(self, session, keepalive=False):
        self.socket = socket.create_connection((session.address, session.port), timeout=60)
        if keepalive:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in TCP_KEEPALIVE:
                self.socket.setsockopt(socket.IPPROTO_TCP, option, value)
        self.file = self.socket.makefile("rwb", buffering=0)
        self.file.write(b"ECHO / HTTP/1.0\r\n\r\n")
        assert self.file.readline() == b"open\n"
        self.said = 0

    def say(self, word):
        self.file.write(word + b"\n")
        answer = self.file.readline()
        assert answer == b"%d %s\n" % (self.said, word)
        self.said += 1

    def unheard(self):
        """Bytes that were said and not acknowledged."""
        return struct.unpack("i", fcntl.ioctl(self.socket, termios.TIOCOUTQ, bytes(4)))[0]

    def segments_in(self):
        """tcpi_segs_in: what the peer's kernel has sent."""
        info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        return struct.unpack_from("I", info, 140)[0]


# --- who comes ------------------------------------------------------------------------


def test_whoever_asks_wakes_it_and_is_answered_by_it(node):
    session = asleep(node)
    now = status(node, session)
    assert now["answering"] and not now["running"] and now["generation"] == 1
    assert leftovers(node) == [] and whole(node, session, 1)
    assert_same(session.before, session.ask("state"))
    wait_for(lambda: runs(node, session))
    now = status(node, session)
    assert not now.get("answering") and now["touched_at"] > 0
    fall_asleep(node, session, 2)
    assert_same(session.before, session.ask("state"))


def test_one_that_owes_an_answer_goes_on(node):
    """Its server has read the question: nothing would be there that wakes it."""
    session, answers = begin(node), []

    def ask(code):
        return session.ask("run", timeout=60, code=urllib.parse.quote(code))

    asker = threading.Thread(target=lambda: answers.append(ask(
        "import threading\nprobe.word = threading.Event()\nout['heard'] = probe.word.wait(60)")))
    asker.start()
    wait_for(lambda: ask("out['asked'] = hasattr(probe, 'word')")["asked"])
    for kind, generation in (("doze", 0), ("sleep", 1)):
        result = node.effect(kind, session, generation)
        assert (result["state"], result["fault"]) == ("failed", "conflict") and result["running"], result
        assert "not answered" in result["text"], result
    ask("probe.word.set()")
    asker.join()
    assert answers == [{"heard": True}]
    fall_asleep(node, session)
    assert_same(session.before, session.ask("state"))


def test_a_connection_that_was_open_wakes_it_and_goes_on(node):
    session = begin(node)
    lines = [Line(session) for _ in range(3)]
    for line in lines:
        line.say(b"before")
    for generation in (1, 2):
        fall_asleep(node, session, generation)
        for line in lines:
            line.say(b"while it slept")
        wait_for(lambda: runs(node, session))
    assert_same(session.before, session.ask("state"))


def test_keepalives_are_answered_and_wake_nobody(node):
    session = begin(node)
    line = Line(session, keepalive=True)
    fall_asleep(node, session)
    heard = line.segments_in()
    # More than would be needed to give the connection up.
    wait_for(lambda: line.segments_in() >= heard + 6, 60)
    assert is_asleep(node, session) and not status(node, session).get("touched_at")
    line.say(b"here I am")
    assert_same(session.before, session.ask("state"))


def say_idly(line):
    """A ping, which the sender need not send again."""
    line.file.write(PING)
    wait_for(lambda: line.unheard() == 0)


def test_pings_wake_nobody_and_are_not_lost(node):
    session = begin(node)
    line = Line(session)
    fall_asleep(node, session)
    for _ in range(2):
        say_idly(line)
    assert is_asleep(node, session) and not status(node, session).get("touched_at")
    node.kill()
    node.start()
    line.file.write(b" and here I am\n")
    assert line.file.readline() == b"0 " + 2 * PING + b" and here I am\n"
    assert_same(session.before, session.ask("state"))


@pytest.mark.parametrize("fault", ["release:before", "release:after", "thaw:before"])
def test_what_was_acknowledged_outlives_a_wake_that_was_killed(node, fault):
    session = begin(node)
    line = Line(session)
    fall_asleep(node, session)
    say_idly(line)
    node.kill()
    node.start("--fault", f"restore:{fault}")
    with contextlib.suppress(OSError, http.client.HTTPException):
        session.ask("state", timeout=60)
    node.died()
    node.start()
    wait_for(lambda: runs(node, session))
    line.file.write(b"\n")
    assert line.file.readline() == b"0 " + PING + b"\n"
    assert_same(session.before, session.ask("state"))


def test_what_was_acknowledged_outlives_a_wake_that_failed(node):
    session = begin(node)
    line = Line(session)
    fall_asleep(node, session)
    node.kill()
    node.start("--fault", "restore:thaw:once")
    say_idly(line)
    connection = http.client.HTTPConnection(session.address, session.port, timeout=60)
    connection.request("GET", "/state")
    assert connection.getresponse().status == 503
    wait_for(lambda: is_asleep(node, session))
    say_idly(line)
    line.file.write(b"\n")
    assert line.file.readline() == b"0 " + 2 * PING + b"\n"
    assert_same(session.before, session.ask("state"))


def test_a_peer_that_hangs_up_wakes_nobody(node):
    session = begin(node)
    gone, stays = Line(session), Line(session)
    fall_asleep(node, session)
    gone.file.close()
    gone.socket.close()
    stays.say(b"still here")
    wait_for(lambda: runs(node, session))
    assert_same(session.before, session.ask("state"))


def silent_end(session, port, data=b""):
    """What comes of a connection on which that is said, and nothing else."""
    try:
        with socket.create_connection((session.address, port), timeout=2) as c:
            c.sendall(data)
            c.settimeout(40)
            return c.recv(1000)
    except OSError as e:
        return e


def test_scans_and_garbage_wake_nobody(node):
    session = asleep(node)
    for port in (1, 22, session.port + 1):
        assert isinstance(silent_end(session, port), OSError)
    half_open = [socket.create_connection((session.address, session.port)) for _ in range(20)]
    for garbage in (b"\x00" * 3000, b"\x16\x03\x01\x02\x00\x01\x00", b"SSH-2.0-x\r\n", b"\r\n\r\n\r\n"):
        silent_end(session, session.port, garbage)
    # A segment of no connection.
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
        for flags in (0, 0x10, 0x18, 0x11, 0x04, 0x29):
            head = struct.pack("!HHIIBBHHH", 4000, session.port, 1, 1, 0x50, flags, 100, 0, 0)
            raw.sendto(head + b"GET / HTTP/1.1\r\n\r\n", (session.address, 0))
    assert is_asleep(node, session) and not status(node, session).get("touched_at")
    assert_same(session.before, session.ask("state"))
    for c in half_open:
        c.close()


def test_hundreds_come_during_the_wake(node):
    session = asleep(node)
    answers = []

    def ask():
        answers.append(session.ask("run", timeout=120, code="out[1]=1")["1"])

    threads = [threading.Thread(target=ask) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [1] * 200
    assert_same(session.before, session.ask("state"))


def test_many_wake_in_turn(node):
    node.stop()
    node.write_config("[wake]\nconcurrency = 2")
    node.start()
    sessions = [asleep(node) for _ in range(8)]
    most, over = [0], threading.Event()

    def watch():
        while not over.is_set():
            most[0] = max(most[0], sum(1 for s in node.sessions().values()
                                       if (s.get("effect") or "").startswith("wake-")
                                       and not s["running"]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    answers = {}
    threads = [threading.Thread(target=lambda s=s: answers.update({s.id: s.ask("state", 120)}))
               for s in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    watcher.join()
    for session in sessions:
        assert_same(session.before, answers[session.id])
    assert most[0] <= 2


# --- at every step ----------------------------------------------------------------------


@pytest.mark.parametrize("step", steps_of("sleep"))
def test_who_comes_at_a_step_of_its_falling_asleep_is_answered(node, step):
    session = begin(node)
    line = Line(session)
    node.kill()
    node.start("--fault", f"sleep:{step}:wait")
    sleeping = threading.Thread(target=lambda: node.effect("sleep", session, 1))
    sleeping.start()
    wait_for(lambda: any(e.get("step") == step for e in node.get("/v1/effects")["items"]))
    assert_same(session.before, session.ask("state", timeout=60))
    line.say(b"and so am I")
    sleeping.join()
    assert_same(session.before, session.ask("state", timeout=60))
    wait_for(lambda: runs(node, session))


@pytest.mark.parametrize("step", steps_of("restore"))
def test_who_comes_at_a_step_of_its_waking_is_answered(node, step):
    session = begin(node)
    line = Line(session)
    fall_asleep(node, session)
    node.kill()
    node.start("--fault", f"restore:{step}:wait")
    first = threading.Thread(target=session.ask, args=("state", 60))
    first.start()
    wait_for(lambda: status(node, session).get("effect"))
    assert_same(session.before, session.ask("state", timeout=60))
    line.say(b"and so am I")
    first.join()


# --- what goes wrong --------------------------------------------------------------------


def test_its_node_is_killed_while_it_sleeps(node):
    session = begin(node)
    line = Line(session)
    fall_asleep(node, session)
    node.kill()
    node.start()
    assert is_asleep(node, session)
    line.say(b"it was restarted")
    assert_same(session.before, session.ask("state"))
    fall_asleep(node, session, 2)
    node.stop()
    node.start()
    assert_same(session.before, session.ask("state"))


def test_its_machine_is_rebooted_while_it_sleeps(node, place):
    session = asleep(node)
    power_cut(node, session)
    links = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True)
    for name in (line.split()[0] for line in links.stdout.splitlines() if line.startswith("essl")):
        subprocess.run(["ip", "link", "delete", name], check=True)
    with in_place_of("/proc/sys/kernel/random/boot_id", "00000000-2222\n", place):
        node.start()
        assert is_asleep(node, session)
        assert_same(session.before, session.ask("state"))
        node.kill()


def test_the_store_is_away_when_somebody_comes(node):
    session = asleep(node)
    away = node.dir / "away"
    node.store.rename(away)
    node.store.write_text("not a directory")
    node.stop()
    node.start()
    connection = http.client.HTTPConnection(session.address, session.port, timeout=60)
    connection.request("GET", "/state")
    answer = connection.getresponse()
    assert answer.status == 503 and int(answer.headers["Retry-After"]) >= 1
    assert answer.read() and is_asleep(node, session)
    node.store.unlink()
    away.rename(node.store)

    def is_awake():
        with contextlib.suppress(AssertionError):
            return session.answers(60)

    wait_for(is_awake)
    assert_same(session.before, session.ask("state"))


WITHOUT_TUN = ("unshare", "-m", "sh", "-c", 'mount --bind /dev/null /dev/net/tun && exec "$@"', "-")


def test_one_that_nobody_can_answer_for_is_not_said_to_be(node):
    """elsad has it done elsewhere, then."""
    session = asleep(node)
    node.kill()
    node.start(prefix=WITHOUT_TUN)
    assert not status(node, session)["answering"] and not status(node, session)["running"]
    failed = node.effect("answer", session, 1)
    assert failed["state"] == "failed" and "network device" in failed["text"], failed
    node.kill()
    node.start()
    if not is_asleep(node, session):
        node.done("answer", session, 1)
    assert_same(session.before, session.ask("state"))


def test_doctor_names_what_it_takes(node):
    for prefix, ok in (((), True), (WITHOUT_TUN, False)):
        text = subprocess.run([*prefix, BUILD / "elsa-node", "--config", node.config, "doctor",
                               "--json"], capture_output=True, text=True, timeout=120, check=False)
        checks = {c["name"]: c for c in json.loads(text.stdout)["checks"]}
        assert checks["nat"]["ok"] and checks["tun"]["ok"] == ok, checks
        assert ok or "modprobe tun" in checks["tun"]["remedy"]
        assert checks["tun"]["level"] == "advised"
    links = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True)
    assert links.stdout.count("essl") == 1, links.stdout


def test_a_wake_that_fails_leaves_it_asleep(node):
    session = begin(node)
    line = Line(session)
    fall_asleep(node, session)
    node.kill()
    node.start("--fault", "restore:release:fail")
    connection = http.client.HTTPConnection(session.address, session.port, timeout=60)
    connection.request("GET", "/state")
    assert connection.getresponse().status == 503
    wait_for(lambda: is_asleep(node, session))
    assert whole(node, session, 1) and status(node, session)["unwoken"]
    node.kill()
    node.start()
    line.say(b"as if nothing had been")
    assert_same(session.before, session.ask("state"))


# --- what elsad may want of it -------------------------------------------------------------


def test_what_elsad_asks_for(node):
    session = asleep(node)
    result = node.done("restore", session, 1)
    assert result["running"] and not result.get("answering")
    assert_same(session.before, session.ask("state"))
    settle(node, session)
    fall_asleep(node, session, 2)
    refused = node.effect("hibernate", session, 3)
    assert refused["state"] == "failed" and refused["answering"]
    assert not node.done("release", session, 2).get("answering")
    assert isinstance(silent_end(session, session.port), OSError)
    assert whole(node, session, 2)
    assert node.done("answer", session, 2)["answering"]
    assert node.done("answer", session, 2)["answering"]
    assert_same(session.before, session.ask("state"))
    settle(node, session)
    assert node.effect("answer", session, 2)["running"]
    assert node.effect("release", session, 2)["running"]
    fall_asleep(node, session, 3)
    node.done("stop", session)
    assert not status(node, session).get("answering") and whole(node, session, 3)
    node.done("answer", session, 3)
    node.done("forget", session)
    assert node.checkpoints(session) == [] and leftovers(node) == []


def test_it_is_started_anew(node):
    session = asleep(node)
    session.start(1)
    assert session.ask("state")["started"] > session.before["started"]


def test_a_fence_forbids_its_node_to_wake_it(node):
    session = asleep(node)
    assert node.done("fence", session, 1)["generation"] == 2
    connection = http.client.HTTPConnection(session.address, session.port, timeout=60)
    connection.request("GET", "/state")
    assert connection.getresponse().status == 503
    assert is_asleep(node, session) and session.processes() == set()
    # Whoever has asked for the fence may.
    session.restore(1)
    assert_same(session.before, session.ask("state"))


def test_an_answer_that_cannot_be_given(node):
    session = begin(node)
    session.hibernate(1)
    refused = node.effect("answer", session, 7)
    assert refused["state"] == "failed" and not refused.get("answering")
    assert isinstance(silent_end(session, session.port), OSError)
    with pytest.raises(Refused):
        node.get(f"/v1/sessions/{session.id}")
