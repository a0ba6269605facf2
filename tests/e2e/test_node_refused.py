# SPDX-License-Identifier: Apache-2.0
"""What CRIU, the store, the home or another machine refuses leaves a session as it was (test_node.py)."""
import contextlib
import os
import pathlib
import socket
import subprocess
import time
import urllib.parse

import pytest

from nodekit import Refused, Session, kill_group, wait_for
from test_node import (assert_same, in_place_of, leftovers, node_fixture, place_fixture, small_store,
                       whole)

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(180)]
FIXTURES = (node_fixture, place_fixture)  # used by name


@pytest.mark.parametrize("thing, said, means", [
    ("mqueue", "Can't lookup mount=", "Close it."),
    ("mptcp", "Unsupported proto 262", "End that program."),
])
def test_a_refusal_by_criu_leaves_the_session_running(node, thing, said, means):
    session = Session(node)
    session.start()
    before = session.ask("state")
    session.ask("hold", what=thing)
    result = node.effect("hibernate", session, 1)
    assert result["state"] == "failed" and result["fault"] == "refused" and result["running"]
    assert said in result["text"] and means in result["remedy"] and said in result["log_tail"]
    assert node.checkpoints(session) == []
    assert_same(before, session.ask("state"))
    session.ask("drop")
    if thing == "mptcp":
        session.hibernate(1)


def test_io_uring_is_not_there_to_be_refused(node):
    session = Session(node)
    session.start()
    assert session.ask("hold", what="io_uring") == {"fd": -1, "errno": 38}
    session.hibernate(1)


def test_a_full_store_leaves_the_session_running(node):
    with small_store(node, "size=1m"):
        node.kill()
        node.start()
        session = Session(node)
        session.start()
        before = session.ask("state")
        result = node.effect("hibernate", session, 1)
        assert result["state"] == "failed" and result["running"]
        assert result["fault"] == "full", result
        assert_same(before, session.ask("state"))
        assert node.checkpoints(session) == []
        subprocess.run(["mount", "-o", "remount,size=500m", node.store], check=True)
        session.hibernate(1)
        session.restore(1)
        node.done("stop", session)
        node.kill()
    node.start()


def test_an_unwritable_store_leaves_the_session_running(node):
    with small_store(node, "size=500m"):
        node.kill()
        node.start()
        session = Session(node)
        session.start()
        session.hibernate(1)
        session.restore(1)
        before = session.ask("state")
        subprocess.run(["mount", "-o", "remount,ro", node.store], check=True)
        result = node.effect("hibernate", session, 2)
        assert result["state"] == "failed" and result["running"], result
        assert_same(before, session.ask("state"))
        assert whole(node, session, 1)
        subprocess.run(["mount", "-o", "remount,rw", node.store], check=True)
        session.hibernate(2)
        node.kill()
    node.start()


def damaged(path, how):
    """Near its beginning: at the end of an index are digests, which a restore does not need."""
    data = bytearray(path.read_bytes())
    place = min(len(data) // 2, 200)
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(data[:place])
    else:
        data[place] ^= 1
        path.write_bytes(data)


def biggest_objects(node, session, generation):
    place = node.store / "s" / session.id / str(generation)
    files = [p for p in place.rglob("*") if p.is_file() and p.suffix != ".mark"]
    return sorted(files, key=lambda p: -p.stat().st_size)


@pytest.mark.parametrize("how", ["missing", "truncated", "flipped"])
def test_a_damaged_checkpoint_is_refused_named_and_kept(node, how):
    session = Session(node)
    session.start()
    before = session.ask("state")
    session.hibernate(1)
    objects = biggest_objects(node, session, 1)
    assert {"manifest"} < {p.name for p in objects}
    # What is found only when it is wanted is told otherwise: test_lazy.py.
    node.stop()
    node.write_config(node="lazy_restore = false")
    node.start()
    for path in objects:
        good = path.read_bytes()
        mode = path.stat().st_mode
        damaged(path, how)
        result = node.effect("restore", session, 1)
        assert result["state"] == "failed" and not result["running"], path
        assert result["fault"] in ("corrupt", "not-found"), (path, result)
        # Without its manifest it is no checkpoint.
        named = "no checkpoint" if (how, path.name) == ("missing", "manifest") else path.name
        assert named in result["text"], (path, result["text"])
        assert session.processes() == set() and leftovers(node) == []
        with contextlib.suppress(Refused):
            assert not whole(node, session, 1)
        path.unlink(missing_ok=True)
        path.write_bytes(good)
        path.chmod(mode)
    session.restore(1)
    assert_same(before, session.ask("state"))


def test_a_weaker_processor_is_refused(node, place):
    session = Session(node)
    session.start()
    session.hibernate(1)
    node.kill()
    info = pathlib.Path("/proc/cpuinfo").read_text()
    assert " aes " in info
    with in_place_of("/proc/cpuinfo", info.replace(" aes ", " ").replace(" popcnt ", " "), place):
        node.start()
        result = node.effect("restore", session, 1)
        assert result["fault"] == "refused" and "aes, popcnt" in result["text"], result
        assert "such a processor" in result["remedy"]
        node.kill()
    node.start()
    session.restore(1)


def test_what_the_home_lost_is_named(node):
    session = Session(node)
    session.start()
    session.ask("run", code=urllib.parse.quote(
        "probe.large = open('/home/ada/large', 'wb'); probe.large.truncate(2 << 20)"))
    session.hibernate(1)
    (session.home / "lock").unlink()
    (session.home / "large").rename(session.home / "elsewhere")
    result = node.effect("restore", session, 1)
    assert result["state"] == "failed" and result["fault"] == "refused"
    assert "home/ada/large" in result["text"] and result["remedy"]
    (session.home / "elsewhere").rename(session.home / "large")
    session.restore(1)
    assert (session.home / "lock").exists()  # small and open for writing: put back


def test_a_home_that_lived_on_and_a_checkpoint_restored_twice(node):
    """Another server of the user appends to what is open, and takes a permission away."""
    session = Session(node)
    session.start()
    before = session.ask("state")
    session.hibernate(1)
    assert list(session.home.glob("link_remap.*"))
    with open(session.home / "lock", "a", encoding="utf-8") as file:
        file.write("more")
    (session.home / "lock").chmod(0o600)
    for _ in range(2):
        session.restore(1)
        assert_same(before, session.ask("state"))
        assert not list(session.home.glob("link_remap.*"))
        node.done("stop", session)
    # The way back does not lead out of the home.
    (session.home / "history.sqlite").rename(session.home / "old.sqlite")
    (session.home / "history.sqlite").symlink_to("/etc/passwd")
    assert node.effect("restore", session, 1)["state"] == "failed"
    (session.home / "old.sqlite").rename(session.home / "history.sqlite")
    session.restore(1)


def test_a_fresh_start_takes_away_what_a_dump_has_left_in_the_home(node):
    """The next dump would find its names taken."""
    session = Session(node)
    session.start()
    session.hibernate(1)
    assert list(session.home.glob("link_remap.*"))
    session.start(1)
    assert not list(session.home.glob("link_remap.*"))
    session.hibernate(2)
    session.restore(2)


# --- the clock where the machine is younger ----------------------------------------------------


def test_the_clock_goes_on_where_the_uptime_is_smaller(node):
    session = Session(node)
    session.start()
    before = session.ask("state")
    session.hibernate(1)
    node.kill()
    back = -int(time.monotonic() - 20)
    node.start(prefix=["unshare", "--time", "--fork", "--kill-child", f"--monotonic={back}",
                       f"--boottime={back}"])
    session.restore(1)
    after = session.ask("state")
    assert_same(before, after, 15)
    kill_group(node.process)


HALF_CLOSED = """
import http.server, socket, threading
server = socket.create_server(("0.0.0.0", 8888))
kept = []
while True:
    connection, _ = server.accept()
    word = connection.recv(100)
    connection.send(b"%d %s" % (len(kept), word))
    kept.append(connection)
"""


def test_connections_that_others_have_closed(node):
    """The session has not closed its side of them yet: a FIN was in, and is so after the wake."""
    session = Session(node, command=["python3", "-c", HALF_CLOSED])

    def say(word):
        with contextlib.suppress(OSError), socket.create_connection((session.address, 8888), 5) as c:
            c.sendall(word)
            return c.recv(100)
        return None
    node.done("start", session)
    wait_for(lambda: say(b"hello"))
    for generation in (1, 2):
        before = int(say(b"x").split()[0])
        session.hibernate(generation)
        node.done("restore", session, generation)
        assert wait_for(lambda: say(b"again")).split() == [b"%d" % (before + 1), b"again"]
