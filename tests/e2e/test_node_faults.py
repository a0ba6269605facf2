# SPDX-License-Identifier: Apache-2.0
"""elsa-node killed or failing at every step there is, driven from the list of steps in the program: nothing is
lost, nothing runs twice (test_node.py)."""
import contextlib
import os
import shutil
import subprocess
import threading
import time

import pytest

from nodekit import Node, Refused, Session, new_id, wait_for
from test_node import assert_same, leftovers, node_fixture, place_fixture, settle, whole

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(180)]
FIXTURES = (node_fixture, place_fixture)  # used by name


# They need another node: test_migrate_faults.py.
OF_TWO = ("migrate", "depart", "return")
# Killed at their steps here; at those of all others: test_node_faults_rest.py.
AWAY = ("hibernate", "sleep")


def steps():
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return [(kind, step) for kind, step in Node.steps(None) if kind not in OF_TWO]
    return []


def arrange(node, kind):
    """A session that `kind` can be done to, and the arguments of that effect."""
    session = Session(node)
    session.before = None
    if kind not in ("start", "fence"):
        session.start()
        session.before = session.ask("state")
    if kind in ("restore", "answer"):
        session.hibernate(1)
    if kind == "rouse":
        session.doze()
    if kind == "release":
        assert node.done("sleep", session, 1)["answering"]
    with_number = ("hibernate", "sleep", "snapshot", "restore", "answer", "release")
    return session, 1 if kind in with_number else 0


def check_one_truth(node, session, kind, status):
    """Running, or whole in the store; never both as the newest, never neither."""
    running = bool(status and status["running"])
    if kind in ("hibernate", "sleep"):
        if running:
            assert node.checkpoints(session) == []
            assert_same(session.before, wait_for(session.answers))
        else:
            assert session.processes() == set() and whole(node, session, 1)
    elif kind == "snapshot":
        assert running
        assert node.checkpoints(session) == [] or whole(node, session, 1)
        assert_same(session.before, wait_for(session.answers))
    elif kind in ("restore", "answer", "release"):
        assert whole(node, session, 1)
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


def ask_until_killed(node, kind, session, generation, effect):
    with contextlib.suppress(OSError, Exception):
        node.effect(kind, session, generation, effect_id=effect, timeout=60)
    assert node.died() == -9


def killed_at(node, kind, step, when):
    session, generation = arrange(node, kind)
    node.kill()
    node.start("--fault", f"{kind}:{step}:{when}")
    effect = new_id()
    ask_until_killed(node, kind, session, generation, effect)
    node.start()
    check_one_truth(node, session, kind, settle(node, session))
    # elsad asks again, with the same id, for what it wanted.
    result = node.effect(kind, session, generation, effect_id=effect)
    if kind == "doze" and result.get("fault") == "conflict":
        result = session.doze()  # its server had not read all
    assert result["state"] == "done", result
    assert result["running"] == (kind in ("start", "snapshot", "restore", "doze", "rouse"))
    assert result["dozing"] == (kind == "doze")
    assert result["answering"] == (kind in ("sleep", "answer"))
    if kind == "doze":
        node.done("rouse", session)
    if kind == "snapshot":
        assert_same(session.before, session.ask("state"))
        assert whole(node, session, 1)
        node.done("stop", session)
    if kind in ("hibernate", "sleep", "snapshot", "answer", "release"):
        assert session.processes() == set() and leftovers(node) == []
    if kind in ("hibernate", "snapshot", "release"):
        session.restore(1)
    if kind in ("hibernate", "sleep", "snapshot", "restore", "answer", "release", "doze", "rouse"):
        assert_same(session.before, wait_for(session.answers))
    elif kind == "start":
        wait_for(session.answers)
    else:
        assert session.processes() == set() and leftovers(node) == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind, step", [s for s in steps() if s[0] in AWAY])
def test_killed_at(node, kind, step, when):
    killed_at(node, kind, step, when)


@pytest.mark.parametrize("step, when", [(s, w) for k, s in steps() if k == "ended"
                                        for w in ("before", "after")])
def test_killed_while_a_session_ends(node, step, when):
    session = Session(node)
    session.start()
    pid = int(node.sessions()[session.id]["pid"])
    node.kill()
    node.start("--fault", f"ended:{step}:{when}")
    os.kill(pid, 9)
    assert node.died() == -9
    node.start()
    assert wait_for(lambda: node.sessions()[session.id].get("ended")) == "exited"
    session.start()


def undecided(node, kind):
    """Killed behind the commit, and now the store does not answer: the session, its arguments, the effect, and
    what makes the store answer again."""
    session, generation = arrange(node, kind)
    node.kill()
    node.start("--fault", f"{kind}:commit:after")
    effect = new_id()
    ask_until_killed(node, kind, session, generation, effect)
    away = node.dir / "away"
    node.store.rename(away)
    node.store.write_text("not a directory")
    node.start()

    def store_back():
        node.store.unlink()
        away.rename(node.store)
    return session, generation, effect, store_back


def test_killed_behind_the_commit_and_the_store_does_not_answer(node):
    """Whether the session is in the store cannot be told: it must not be woken, nor ended."""
    session, generation, effect, store_back = undecided(node, "hibernate")
    result = node.effect("hibernate", session, generation, effect_id=effect)
    assert result["state"] == "failed" and result["fault"] != "refused" and not result["running"]
    time.sleep(0.5)
    status = node.sessions()[session.id]
    assert status["running"] and status["frozen"] and session.processes()
    with pytest.raises(Refused) as refused:
        node.effect("restore", session, generation)
    assert refused.value.status == 409
    store_back()
    wait_for(lambda: not session.processes())
    assert whole(node, session, generation)
    assert node.done("hibernate", session, generation, effect_id=effect)["generation"] == generation
    session.restore(generation)
    assert_same(session.before, session.ask("state"))


@pytest.mark.parametrize("kind, step", [s for s in steps()
                                        if s[0] in ("hibernate", "sleep", "snapshot", "restore")])
def test_a_step_that_fails(node, kind, step):
    session, generation = arrange(node, kind)
    node.kill()
    node.start("--fault", f"{kind}:{step}:fail")
    result = node.effect(kind, session, generation)
    status = settle(node, session)
    assert result["running"] == bool(status and status["running"] and not status["frozen"])
    if step == "kill":
        # The checkpoint is good, but its processes could not be ended: they stay frozen.
        assert result["state"] == "failed" and status["frozen"]
        node.kill()
        node.start()
        node.done("stop", session)
        status = None
    check_one_truth(node, session, kind, status)
    assert leftovers(node) == [] or result["running"] or step == "teardown"
    node.kill()
    node.start()
    if not result["running"]:
        session.restore(1)
    assert_same(session.before, wait_for(session.answers))


def kill_when_seen(pattern, victim=None, after=0.0):
    """SIGKILL for the first process with this command line (or for `victim`'s) some time after it
    was seen."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, check=False)
        if found.stdout.strip():
            time.sleep(after)
            subprocess.run(["pkill", "-9", "-f", victim or pattern], check=False)
            return
    raise AssertionError(f"{pattern} was not seen")


@pytest.mark.parametrize("moment", [0, 0.02, 0.05, 0.08, 0.12])
def test_criu_is_killed_while_it_restores(node, moment):
    """Out of memory, say."""
    session, generation = arrange(node, "restore")
    criu = f"^criu restore .*{node.state}/criu/{session.id}"
    killer = threading.Thread(target=kill_when_seen, args=(criu, None, moment))
    killer.start()
    node.effect("restore", session, generation)
    killer.join()
    status = settle(node, session)
    check_one_truth(node, session, "restore", status)
    if not status:
        session.restore(1)
        assert_same(session.before, session.ask("state"))


def with_a_script(node, words):
    """CRIU's scripts do this first; $CRIU is then who waits for them."""
    script, criu = node.dir / "script", node.dir / "criu"
    script.write_text(f'#!/bin/sh -p\nCRIU=$PPID\n{words}\nexec "$ELSA_WORK/script"\n')
    criu.write_text('#!/bin/sh -p\nfor word; do\n\tshift\n'
                    f'\tcase $word in */script) word={script} ;; esac\n\tset -- "$@" "$word"\n'
                    f'done\nexec {shutil.which("criu")} "$@"\n')
    script.chmod(0o755)
    criu.chmod(0o755)
    node.write_config(node=f'criu = "{criu}"')


def test_criu_is_killed_while_it_holds_the_processes(node):
    """They stay frozen: what is committed then is what they were."""
    session, generation = arrange(node, "hibernate")
    node.kill()
    # Once the script has frozen them, it tells.
    with_a_script(node, 'frozen() { grep -qs FROZEN "$ELSA_FREEZER/freezer.state" || '
                  'grep -qs "frozen 1" "$ELSA_FREEZER/cgroup.events"; }\n'
                  'case $CRTOOLS_SCRIPT_ACTION in post-dump)\n'
                  '\t(until frozen; do :; done; kill -KILL $CRIU) & ;;\nesac')
    node.start()
    result = node.effect("hibernate", session, generation)
    check_one_truth(node, session, "hibernate", settle(node, session))
    if result["state"] == "done":
        session.restore(1)
        assert_same(session.before, session.ask("state"))


def test_criu_is_killed_before_the_processes_are_frozen(node):
    """They have run on since their images were made, so that must not be committed. Nor must what is left of
    CRIU's script freeze them later."""
    session, generation = arrange(node, "hibernate")
    node.kill()
    # As long as it is not gone it holds them.
    with_a_script(node, 'case $CRTOOLS_SCRIPT_ACTION in post-dump)\n\tkill -KILL $CRIU\n'
                  '\tuntil grep -qs ") Z" /proc/$CRIU/stat || [ ! -e /proc/$CRIU ]; do :; done ;;\nesac')
    node.start()
    result = node.effect("hibernate", session, generation)
    assert result["state"] == "failed" and "killed by signal 9" in result["text"], result
    assert result["running"] and node.checkpoints(session) == []
    assert subprocess.run(["pgrep", "-f", f"{node.state}/criu/{session.id}/script"], check=False).returncode == 1
    # Not what it holds: a connection of its own can have met with an error while it was in repair mode.
    assert session.ask("fill", mib=1) and not node.sessions()[session.id]["frozen"]


def test_criu_is_killed_while_it_dumps(node):
    """Nobody can promise that the session survives this. That it is told can be."""
    session, generation = arrange(node, "hibernate")
    session.ask("fill", mib=300, timeout=60)
    killer = threading.Thread(target=kill_when_seen, args=(
        f"^criu dump .*{node.state}/criu/{session.id}", None, 0.1))
    killer.start()
    result = node.effect("hibernate", session, generation)
    killer.join()
    assert result["state"] == "failed" and "killed by signal 9" in result["text"]
    assert node.checkpoints(session) == []
    node.done("stop", session)
