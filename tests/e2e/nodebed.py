# SPDX-License-Identifier: Apache-2.0
"""A node, and one session in it, that go from fault to fault as long as they are whole: to begin both takes
longer than to kill them (test_node_faults.py)."""
import contextlib
import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from nodekit import Node, Refused, Session, new_id, wait_for
from test_node import assert_same, leftovers, settle, whole

# They need another node: test_migrate_faults.py.
OF_TWO = ("migrate", "depart", "return")
# They put a session away; it goes on in the same place, or is over.
AWAY = ("hibernate", "sleep")


def steps():
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return [(kind, step) for kind, step in Node.steps(None) if kind not in OF_TWO]
    return []


class Bed:
    def __init__(self, node):
        self.node, self.session = node, None
        self.generation = 0  # of the checkpoint that was asked for last

    def running(self):
        """The session, with something that no checkpoint has yet."""
        if self.session is None:
            self.session = Session(self.node)
            self.session.start()
        self.session.ask("fill", mib=1)
        self.session.before = self.session.ask("state")
        return self.session

    def absent(self):
        """One that is not there yet."""
        self.leave()
        self.session = Session(self.node)
        self.session.before = None
        return self.session

    def leave(self):
        """The next case begins with another one."""
        if self.session:
            self.node.done("forget", self.session)
        self.session = None

    def arm(self, *argv):
        """Its elsa-node anew."""
        self.node.kill()
        self.node.start(*argv)

    def story(self):
        return self.node.log.read_text()[-4000:]

    def put_right(self):
        if self.node.process.poll() is not None:
            self.node.died()
            self.node.start()
        status = self.session and settle(self.node, self.session)
        if not status or not status["running"] or status["frozen"] or status["dozing"]:
            self.leave()


@contextlib.contextmanager
def new_bed():
    """In memory, where so many files come and go in less time; test_node.py has its own on disk."""
    with tempfile.TemporaryDirectory(prefix="node-", dir="/run") as place:
        Path(place).chmod(0o755)
        node = Node(place).start()
        try:
            yield Bed(node)
        finally:
            node.teardown()
            assert leftovers(node, torn_down=True) == []


class Beds:
    """One for a file's cases; a case that fails gets the next ones another."""

    def __init__(self):
        self.stack = contextlib.ExitStack()
        self.bed = None

    def get(self):
        if self.bed is None:
            self.bed = self.stack.enter_context(new_bed())
        return self.bed

    def end(self):
        self.bed = None
        self.stack.close()


@pytest.fixture(name="beds", scope="module")
def beds_fixture():
    beds = Beds()
    yield beds
    beds.end()


@pytest.fixture(name="bed")
def bed_fixture(beds, request):
    failed = request.session.testsfailed
    yield beds.get()
    fine = False
    try:
        if request.session.testsfailed == failed:
            beds.bed.put_right()
            fine = True
    finally:
        if not fine:
            beds.end()


def arrange(bed, kind):
    """A session that `kind` can be done to, and the arguments of that effect."""
    session = bed.absent() if kind in ("start", "fence") else bed.running()
    if kind not in ("hibernate", "sleep", "snapshot", "restore", "answer", "release"):
        if kind == "rouse":
            session.doze()
        return session, 0
    bed.generation += 1
    if kind in ("restore", "answer"):
        session.hibernate(bed.generation)
    if kind == "release":
        assert bed.node.done("sleep", session, bed.generation)["answering"]
    return session, bed.generation


def older(node, session, generation):
    """What there is of it in the store."""
    return all(c["generation"] < generation for c in node.checkpoints(session))


def check_one_truth(node, session, kind, generation, status):
    """Running, or whole in the store; never both as the newest, never neither."""
    running = bool(status and status["running"])
    if kind in ("hibernate", "sleep"):
        if running:
            assert older(node, session, generation)
            assert_same(session.before, wait_for(session.answers))
        else:
            assert session.processes() == set() and whole(node, session, generation)
    elif kind == "snapshot":
        assert running
        assert older(node, session, generation) or whole(node, session, generation)
        assert_same(session.before, wait_for(session.answers))
    elif kind in ("restore", "answer", "release"):
        assert whole(node, session, generation)
        if running:
            assert_same(session.before, wait_for(session.answers))
        else:
            assert session.processes() == set()
    elif kind in ("doze", "rouse"):
        assert running
        if not status["dozing"]:
            assert_same(session.before, wait_for(session.answers))
    elif not running:
        assert session.processes() == set()


def ask_until_killed(node, kind, session, generation):
    """The id of the effect at which it is."""
    ids = []

    def asked():
        ids.append(new_id())
        with contextlib.suppress(OSError, Exception):
            result = node.effect(kind, session, generation, effect_id=ids[-1], timeout=60)
            return "has been sent something" not in str(result.get("text"))  # Node.effect_when_read()
        return True
    wait_for(asked)
    assert node.died() == -9
    return ids[-1]


def killed_at(bed, kind, step, when):
    session, generation = arrange(bed, kind)
    node = bed.node
    bed.arm("--fault", f"{kind}:{step}:{when}")
    effect = ask_until_killed(node, kind, session, generation)
    node.start()
    check_one_truth(node, session, kind, generation, settle(node, session))
    # elsad asks again, with the same id, for what it wanted.
    result = node.effect_when_read(kind, session, generation, effect)
    assert result["state"] == "done", result
    assert result["running"] == (kind in ("start", "snapshot", "restore", "doze", "rouse"))
    assert result["dozing"] == (kind == "doze")
    assert result["answering"] == (kind in ("sleep", "answer"))
    if kind == "doze":
        node.done("rouse", session)
    if kind == "snapshot":
        assert_same(session.before, session.ask("state"))
        assert whole(node, session, generation)
        node.done("stop", session)
    if kind in ("hibernate", "sleep", "snapshot", "answer", "release"):
        assert session.processes() == set() and leftovers(node) == []
    if kind in ("hibernate", "snapshot", "release"):
        session.restore(generation)
    if kind in ("hibernate", "sleep", "snapshot", "restore", "answer", "release", "doze", "rouse"):
        assert_same(session.before, wait_for(session.answers))
    elif kind == "start":
        wait_for(session.answers)
    else:
        assert session.processes() == set() and leftovers(node) == []


def undecided(bed, kind):
    """Killed behind the commit, and now the store does not answer: the session, its arguments, the effect, and
    what makes the store answer again."""
    session, generation = arrange(bed, kind)
    node = bed.node
    bed.arm("--fault", f"{kind}:commit:after")
    effect = ask_until_killed(node, kind, session, generation)
    away = node.dir / "away"
    node.store.rename(away)
    node.store.write_text("not a directory")
    node.start()

    def store_back():
        node.store.unlink()
        away.rename(node.store)
    return session, generation, effect, store_back


def power_cut(node, session):
    """What is left when a machine goes down: disks, and no process."""
    node.kill()
    mine = str(node.state / "criu" / session.id).encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mine in (entry / "cmdline").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)
    for pid in session.processes():
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    session.thaw()
    wait_for(lambda: session.processes() == set())
