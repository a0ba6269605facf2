# SPDX-License-Identifier: Apache-2.0
"""Sessions that run before their memory is there, out of a bucket that takes its time or goes away:
with real CRIU, and a probe that has a digest of all its memory."""

from __future__ import annotations

import os
import pathlib
import tempfile
import threading
from urllib.parse import quote

import pytest
from nodekit import Node, Refused, Session, wait_for
from s3server import S3Server
from test_node import assert_same, leftovers, settle, whole

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(180)]

SLOW = 0.3   # for each request: a hundred MiB take long enough for anything that is tried meanwhile
FAIR = 0.1   # ... some seconds
AWAY = 30.0  # longer than anybody waits for an answer
MIB = 100


class SlowNode(Node):
    """Its store is a bucket, and it keeps nothing of it."""

    def __init__(self, where: pathlib.Path, server: S3Server):
        self.server = server
        super().__init__(where)

    def write_config(self, more="", node=""):
        super().write_config(more, node)
        text = self.config.read_text()
        text = text.replace(f"file://{self.store}",
                            f"s3://bucket/{self.dir.name}?endpoint={self.server.url}&region=us-east-1&timeout=1")
        self.config.write_text(text.replace(f'cache = "{self.dir}/cache"', 'cache_size = "0"'))


@pytest.fixture(scope="module")
def server():
    with pytest.MonkeyPatch.context() as patch, \
         tempfile.TemporaryDirectory(prefix="s3-", dir="/var/lib/elsa") as where, \
         S3Server(pathlib.Path(where)) as server:
        for name in [n for n in os.environ if n.lower().endswith("_proxy")]:
            patch.delenv(name)
        for name, value in server.credentials.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def node(server: S3Server):
    with tempfile.TemporaryDirectory(prefix="node-", dir="/var/lib/elsa") as where:
        os.chmod(where, 0o755)
        server.latency = 0
        node = SlowNode(pathlib.Path(where), server).start()
        yield node
        server.latency = 0
        node.teardown()
        assert leftovers(node, torn_down=True) == []


@pytest.fixture
def asleep(node: SlowNode):
    """A session in the bucket, and what it was like."""
    session = Session(node)
    session.start()
    session.ask("fill", mib=MIB, timeout=60)
    before = session.ask("state")
    session.hibernate(1)
    node.server.latency = SLOW
    return session, before


def wake(session: Session, generation: int) -> None:
    session.node.done("restore", session, generation)


def status(session: Session) -> dict:
    return session.node.sessions()[session.id]


def missing(session: Session) -> int:
    return status(session).get("missing_bytes") or 0


def in_background(function, *args, **options):
    """Runs it on a thread; the result is in the list when the thread has ended."""
    result: list = []
    thread = threading.Thread(target=lambda: result.append(function(*args, **options)))
    thread.start()
    return thread, result


def test_runs_before_its_memory_is_there(asleep):
    session, before = asleep
    wake(session, 1)
    assert missing(session) > MIB << 19
    session.node.server.latency = FAIR
    assert_same(before, session.ask("state", timeout=60))
    wait_for(lambda: missing(session) == 0, 60)
    assert_same(before, session.ask("state"))
    assert status(session)["running"]
    # It sleeps and wakes again, and what it wanted first is known by now.
    session.node.server.latency = 0
    session.hibernate(2)
    assert whole(session.node, session, 2)
    wake(session, 2)
    assert_same(before, session.ask("state", timeout=60))


@pytest.mark.parametrize("moment", [0.0, 0.5, 2.0])
def test_killed_while_pages_are_missing(asleep, moment):
    session, before = asleep
    node = session.node
    wake(session, 1)
    asked, answers = in_background(session.ask, "state", timeout=120)
    asked.join(moment)
    assert missing(session) > 0
    node.kill()
    # The session waits where it touches what is missing; it does not go on with zeros.
    node.start()
    node.server.latency = FAIR
    asked.join(120)
    assert answers
    assert_same(before, answers[0])
    wait_for(lambda: missing(session) == 0, 60)
    assert_same(before, session.ask("state"))
    node.kill()
    node.start()
    assert missing(session) == 0 and status(session)["running"]
    assert_same(before, session.ask("state"))


WIPED = """
import mmap
probe.wiped = mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
probe.wiped.madvise(18)  # MADV_WIPEONFORK
probe.wiped.write(b"mine" * (1 << 18))
"""
FORK = """
import os
r, w = os.pipe()
pid = os.fork()
if pid == 0:
    os.write(w, b"zeros" if bytes(probe.wiped) == bytes(1 << 20) else b"something")
    os._exit(0)
os.waitpid(pid, 0)
out["child"] = os.read(r, 100).decode()
out["own"] = bytes(probe.wiped) == b"mine" * (1 << 18)
"""


def test_what_a_fork_does_not_inherit(node: SlowNode):
    session = Session(node)
    session.start()
    session.ask("fill", mib=MIB, timeout=60)
    session.ask("run", code=quote(WIPED))
    assert session.ask("run", code=quote(FORK)) == {"child": "zeros", "own": True}
    session.hibernate(1)
    node.server.latency = FAIR
    wake(session, 1)
    assert session.ask("run", code=quote(FORK), timeout=60) == {"child": "zeros", "own": True}
    assert missing(session) > 0


def test_ended_and_started_while_pages_are_missing(asleep):
    session, before = asleep
    wake(session, 1)
    assert missing(session) > 0
    session.node.stop()
    session.node.start()
    assert missing(session) > 0
    session.node.server.latency = FAIR
    assert_same(before, session.ask("state", timeout=120))


@pytest.mark.parametrize("kind", ["hibernate", "snapshot"])
def test_a_dump_waits_for_the_rest(asleep, kind):
    session, before = asleep
    wake(session, 1)
    assert missing(session) > 0
    session.node.server.latency = FAIR
    session.node.done(kind, session, 2, timeout=120)
    assert whole(session.node, session, 2)
    if kind == "hibernate":
        wake(session, 2)
    assert_same(before, session.ask("state", timeout=120))


def test_stopped_while_pages_are_missing(asleep):
    session, before = asleep
    node = session.node
    wake(session, 1)
    assert missing(session) > 0
    node.done("stop", session)
    assert session.processes() == set() and leftovers(node) == []
    assert whole(node, session, 1)
    node.server.latency = 0
    wake(session, 1)
    assert_same(before, session.ask("state", timeout=60))


def test_its_checkpoint_cannot_be_removed_meanwhile(asleep):
    session, _ = asleep
    node = session.node
    wake(session, 1)
    node.server.latency = FAIR
    settle(node, session)
    with pytest.raises(Refused, match="woken from it"):
        node.ask("POST", "/v1/store", {"kind": "rm", "session": session.id, "generation": 1})


def test_a_store_that_goes_away(asleep):
    session, before = asleep
    node = session.node
    wake(session, 1)
    node.server.latency = AWAY
    asked, answers = in_background(session.ask, "state", timeout=150)
    stalled = wait_for(lambda: status(session).get("stalled"), 60)
    assert stalled and status(session)["stalled_since"] > 0
    assert status(session)["running"] and not answers
    # Nothing is lost by asking for what cannot be now.
    result = node.effect("snapshot", session, 2, timeout=150)
    assert result["state"] == "failed" and result["fault"] in ("unavailable", "timeout"), result
    assert status(session)["running"]
    node.server.latency = 0
    asked.join(120)
    assert_same(before, answers[0])
    wait_for(lambda: missing(session) == 0, 60)
    wait_for(lambda: not status(session).get("stalled_since"))


def test_killed_and_the_store_is_away(asleep):
    session, before = asleep
    node = session.node
    wake(session, 1)
    node.kill()
    node.server.latency = AWAY
    asked, answers = in_background(session.ask, "state", timeout=150)
    node.start()
    wait_for(lambda: status(session).get("stalled"), 90)
    assert missing(session) > 0 and not answers
    node.server.latency = 0
    asked.join(120)
    assert_same(before, answers[0])
    settle(node, session)


def test_damage_is_told_and_goes_nowhere(asleep):
    """Bits of a pack that is read only after the session runs."""
    session, before = asleep
    node = session.node
    wake(session, 1)
    packs = [p for p in (node.server.where / "bucket").iterdir()
             if session.id in p.name and "manifest" not in p.name and "mark" not in p.name and
             "key" not in p.name]
    largest = max(packs, key=lambda p: p.stat().st_size)
    good = largest.read_bytes()
    # Some of it has been read already, around what was wanted first, but not all.
    bad = bytearray(good)
    for at in range(1000, len(bad), 50_000):
        bad[at] ^= 1
    largest.write_bytes(bad)
    asked, answers = in_background(session.ask, "state", timeout=150)
    node.server.latency = 0
    wait_for(lambda: status(session).get("stalled"), 60)
    assert largest.name.rpartition("%2F")[2] in status(session)["stalled"]
    assert not answers
    largest.write_bytes(good)
    asked.join(120)
    assert_same(before, answers[0])
