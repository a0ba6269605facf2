# SPDX-License-Identifier: Apache-2.0
"""elsa-node alone: sessions that hold everything a notebook holds go to sleep and wake, and nothing
that goes wrong on the way loses one or runs it twice."""
import contextlib
import json
import os
import pathlib
import re
import subprocess
import tempfile
import threading
import time

import pytest

from nodekit import BUILD, Node, Refused, Session, new_id, wait_for

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(180)]

# What must be as it was, whatever happened between.
SAME = ("started", "pid", "uid", "transaction", "history", "deleted", "linked", "pipe", "pair",
        "shared", "shm", "layer", "digest")
TRUE = ("echo", "terminal", "child", "locked")


@pytest.fixture(name="place")
def place_fixture():
    """A directory on disk: overlays cannot have their upper layer on every file system."""
    with tempfile.TemporaryDirectory(prefix="node-", dir="/var/lib/elsa") as place:
        os.chmod(place, 0o755)
        yield pathlib.Path(place)


@pytest.fixture(name="node")
def node_fixture(place):
    node = Node(place).start()
    yield node
    node.teardown()
    assert leftovers(node, torn_down=True) == []


def leftovers(node, torn_down=False):
    """What sessions may not leave behind; nor, at the end, the node."""
    of_node = set() if torn_down else {str(node.run_dir / d) for d in ("netns", "root")}
    mounts = {line.split()[1] for line in pathlib.Path("/proc/mounts").read_text().splitlines()}
    found = [m for m in mounts - of_node if m.startswith(str(node.run_dir))]
    found += [str(p) for p in pathlib.Path("/sys/fs/cgroup").glob("**/elsa-test/*") if p.is_dir()]
    links = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True)
    of_sessions = "es" if torn_down else "es(?!sl)"
    found += [line for line in links.stdout.splitlines() if re.match(of_sessions, line)]
    return found


def assert_same(before, after, slept=0.0):
    for key in SAME:
        assert after[key] == before[key], key
    for key in TRUE:
        assert after[key] is True, key
    assert after["stopped"] == "T"
    assert after["ticks"] >= before["ticks"]
    assert after["threads"] >= before["threads"] - 1
    # The clock of the session goes on where it stopped: neither back nor over the time asleep.
    assert after["back"] == 0
    assert after["monotonic"] >= before["monotonic"]
    if slept:
        assert after["monotonic"] - before["monotonic"] < slept
        assert after["timer_left"] > before["timer_left"] - slept


def whole(node, session, generation):
    """The checkpoint is there and every byte of it is what was written."""
    mine = [c for c in node.checkpoints(session) if not c["aside"]]
    if max((c["generation"] for c in mine), default=0) != generation:
        return False
    return node.ask("POST", "/v1/checkpoints/verify",
                    {"session": session.id, "generation": generation})["ok"]


def settle(node, session):
    """Waits until nothing is being done to the session."""
    def quiet():
        status = node.sessions().get(session.id)
        return not status or not status.get("effect")
    wait_for(quiet, 60)
    return node.sessions().get(session.id)


@contextlib.contextmanager
def small_store(node, options):
    node.store.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "store", node.store], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", node.store], check=True)


@contextlib.contextmanager
def in_place_of(path, text, place):
    """The kernel says something else."""
    fake = place / "fake"
    fake.write_text(text)
    subprocess.run(["mount", "--bind", fake, path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


# --- the plain path -----------------------------------------------------------------


def test_a_session_sleeps_and_wakes_as_it_was(node):
    session = Session(node)
    session.start()
    before = session.ask("state")
    for generation in (1, 2):
        slept = time.monotonic()
        result = session.hibernate(generation)
        assert not result["running"] and result["generation"] == generation
        assert result["stored_bytes"] > 0 and result["frozen_us"] > 0
        assert [t["name"] for t in result["timings"]] == [s for k, s in node.steps()
                                                          if k == "hibernate"]
        assert session.processes() == set() and leftovers(node) == []
        assert not (node.state / "sessions" / session.id).exists()
        assert session.id not in node.sessions()
        time.sleep(0.5)
        result = session.restore(generation)
        assert result["running"]
        after = session.ask("state")
        assert_same(before, after, time.monotonic() - slept - 0.4)
        before = after
    assert whole(node, session, 2)


def test_a_sleeping_session_leaves_nothing_but_its_checkpoint(node):
    session = Session(node)
    session.start()
    session.hibernate(1)
    node.stop()
    subprocess.run([BUILD / "elsa-node", "--config", node.config, "teardown"], check=True)
    assert leftovers(node) == []
    node.start()
    session.restore(1)


def test_several_sessions_at_once(node):
    sessions = [Session(node) for _ in range(4)]
    states = {}
    for session in sessions:
        session.start()
        states[session.id] = session.ask("state")
    for call in (Session.hibernate, Session.restore):
        threads = [threading.Thread(target=call, args=(s, 1)) for s in sessions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for session in sessions:
        assert_same(states[session.id], session.ask("state"))


def test_only_newer_generations_are_written_and_only_the_newest_is_run(node):
    session = Session(node)
    session.start()
    session.hibernate(1)
    session.restore(1)
    again = node.effect("hibernate", session, 1)
    assert again["state"] == "failed" and again["fault"] == "conflict" and again["running"]
    session.hibernate(2)
    old = node.effect("restore", session, 1)
    assert old["fault"] == "conflict" and "set the newer aside" in old["remedy"]
    node.ask("POST", "/v1/checkpoints/aside", {"session": session.id, "generation": 2})
    session.restore(1)
    assert [(c["generation"], c["aside"]) for c in node.checkpoints(session)] == [
        (1, False), (2, True)]


def test_old_generations_are_removed(place):
    node = Node(place)
    node.config.write_text(node.config.read_text().replace("[store]", "[store]\nkeep = 2"))
    node.start()
    try:
        session = Session(node)
        session.start()
        for generation in range(1, 5):
            session.hibernate(generation)
            session.restore(generation)
        assert [c["generation"] for c in node.checkpoints(session)] == [3, 4]
    finally:
        node.teardown()


def test_forget_and_stop(node):
    session = Session(node)
    session.start()
    session.hibernate(1)
    session.restore(1)
    assert node.done("stop", session)["running"] is False
    assert session.processes() == set() and whole(node, session, 1)
    session.restore(1)
    node.done("forget", session)
    assert node.checkpoints(session) == [] and leftovers(node) == []
    assert session.home.exists()
    result = node.effect("restore", session, 1)
    assert result["fault"] == "not-found"


def test_results_are_kept_until_acknowledged(node):
    session = Session(node)
    effect = new_id()
    first = node.done("start", session, effect_id=effect)
    node.kill()
    node.start()
    assert node.effect("start", session, effect_id=effect) == first
    assert node.get(f"/v1/effects/{effect}") == first
    node.ask("DELETE", f"/v1/effects/{effect}")
    assert node.get("/v1/effects")["items"] == []
    wait_for(session.answers)


def test_a_question_that_comes_late_begins_nothing(node):
    """elsad has heard the end, and may have had it done elsewhere since."""
    session = Session(node)
    effect, stop = new_id(), new_id()
    node.done("start", session, effect_id=effect)
    node.done("stop", session, effect_id=stop)
    for acknowledged in (effect, stop):
        node.ask("DELETE", f"/v1/effects/{acknowledged}")
    with pytest.raises(Refused) as refused:
        node.effect("start", session, effect_id=effect)
    assert refused.value.status == 409 and node.sessions() == {}
    node.done("start", session)
    wait_for(session.answers)


# --- what is asked at the same time ------------------------------------------------------


def test_two_restores_at_once_are_one(node):
    session = Session(node)
    session.start()
    session.hibernate(1)
    results, effect = [], new_id()
    threads = [threading.Thread(target=lambda: results.append(
        node.effect("restore", session, 1, effect_id=effect))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1] and results[0]["state"] == "done"
    second = node.effect("restore", session, 1)
    assert second["state"] == "failed" and second["fault"] == "conflict" and second["running"]
    assert len([p for p in session.processes()]) == 5 or session.answers()


def test_a_restored_session_is_spoken_to_while_its_restore_is_tidied_up(node):
    """The result is told when the session runs: it can be acknowledged, and the next effect asked."""
    session = Session(node)
    session.start()
    session.hibernate(1)
    for generation in range(1, 6):
        effect = new_id()
        assert node.effect("restore", session, generation, effect_id=effect)["running"]
        node.ask("DELETE", f"/v1/effects/{effect}")
        session.hibernate(generation + 1)
    effect = new_id()
    first = node.done("restore", session, 6, effect_id=effect)
    again = node.effect("restore", session, 6, effect_id=effect)
    assert again == first and [t["name"] for t in first["timings"]][-1] == "thaw"
    node.ask("DELETE", f"/v1/effects/{effect}")
    settle(node, session)
    items = node.get("/v1/effects")["items"]
    assert [i for i in items if i["id"] == effect] == [] and node.sessions()[session.id]["running"]
    assert list((node.state / "images").iterdir()) == []


def told_what_is_under_way(node, kind, other):
    """Who asks for an `other` effect (kind, generation) while one of that kind is under way."""
    session = Session(node)
    session.start()
    session.ask("fill", mib=200, timeout=60)
    effect, results = new_id(), []
    thread = threading.Thread(target=lambda: results.append(
        node.effect(kind, session, 1, effect_id=effect)))
    thread.start()
    wait_for(lambda: any(e["id"] == effect for e in node.get("/v1/effects")["items"]), step=0.001)
    with pytest.raises(Refused) as refused:
        node.effect(other[0], session, other[1])
    assert refused.value.status == 409 and effect in refused.value.error["text"]
    # An end waits for its turn instead.
    assert node.done("stop", session)["running"] is False
    thread.join()
    assert results[0]["state"] == "done"
    session.restore(1)


def test_another_effect_is_told_that_one_is_under_way(node):
    told_what_is_under_way(node, "hibernate", ("restore", 1))


def test_a_caller_that_leaves_changes_nothing(node):
    session = Session(node)
    session.start()
    effect = new_id()
    with contextlib.suppress(TimeoutError):
        node.effect("hibernate", session, 1, effect_id=effect, timeout=0.05)
    assert node.done("hibernate", session, 1, effect_id=effect)["generation"] == 1


def test_an_effect_shows_how_far_it_is(node):
    session = Session(node)
    session.start()
    session.ask("fill", mib=300, timeout=60)
    effect, seen = new_id(), set()
    thread = threading.Thread(target=node.effect, args=("hibernate", session, 1, effect))
    thread.start()
    while thread.is_alive():
        with contextlib.suppress(Refused):
            now = node.get(f"/v1/effects/{effect}")
            seen.add(now["step"])
            if now["step"] == "dump" and now["bytes_done"]:
                assert now["bytes_total"] >= 300 << 20
                seen.add("bytes")
    thread.join()
    assert {"dump", "bytes"} <= seen
    with pytest.raises(Refused) as refused:
        node.effect("restore", Session(node), 1, effect_id=effect)
    assert refused.value.status == 409


# --- ends that nobody asked for -----------------------------------------------------------


def test_a_session_that_ends_is_noticed_and_its_log_kept(node):
    session = Session(node)
    session.start()
    os.kill(int(node.sessions()[session.id]["pid"]), 9)
    ended = wait_for(lambda: node.sessions()[session.id].get("ended"))
    assert ended == "exited"
    wait_for(lambda: leftovers(node) == [])
    assert "probe is up" in node.get(f"/v1/sessions/{session.id}/log?lines=5")
    node.kill()
    node.start()
    assert node.sessions()[session.id]["ended"] == "exited"
    session.start()
    assert not node.sessions()[session.id].get("ended")


def test_a_session_that_ends_while_we_are_away(node):
    session = Session(node)
    session.start()
    pid = int(node.sessions()[session.id]["pid"])
    node.kill()
    os.kill(pid, 9)
    node.start()
    assert wait_for(lambda: node.sessions()[session.id].get("ended")) == "exited"


def test_a_session_without_memory_is_told_so(node):
    session = Session(node, limits={"memory_bytes": 80 << 20, "cpus": 0, "pids": 0})
    session.start()
    with contextlib.suppress(OSError, Exception):
        session.ask("fill", mib=200, timeout=20)
    assert wait_for(lambda: node.sessions()[session.id].get("ended")) == "oom-killed"


def test_a_command_that_does_not_exist(node):
    session = Session(node, command=["no-such-program"])
    result = node.effect("start", session)
    assert result["state"] == "failed" and "no-such-program" in result["text"]
    assert leftovers(node) == []


def test_a_command_that_ends_at_once(node):
    session = Session(node, command=["sh", "-c", "echo wrong option; exit 3"])
    result = node.effect("start", session)
    if result["state"] == "done":
        assert wait_for(lambda: node.sessions()[session.id].get("ended")) == "exited"
    wait_for(lambda: leftovers(node) == [])
    assert "wrong option" in node.get(f"/v1/sessions/{session.id}/log")


def test_an_end_of_the_node_leaves_sessions_running(node):
    session = Session(node)
    session.start()
    before = session.ask("state")
    assert node.stop() == 0
    assert_same(before, session.ask("state"))
    node.start()
    assert node.sessions()[session.id]["running"]
    session.hibernate(1)


def test_what_a_node_says_of_itself(node, tmp_path):
    """Also of root file systems, of which elsad asks before it places a session."""
    (tmp_path / "file").write_text("")
    asked = ["/", str(tmp_path), str(tmp_path / "file"), str(tmp_path / "none"), "relative"]
    info = node.ask("POST", "/v1/node", {"images": asked})
    assert info["images"] == ["/", str(tmp_path)]
    assert info["features"] and info["features"] == node.get("/v1/node")["features"]
    assert info["memory_bytes"] > info["memory_available_bytes"] > 0 and info["cpus"] > 0


def test_a_reboot_is_told_from_an_end(node, place):
    """The processes are gone and the machine says it was started anew."""
    session, sleeper = Session(node), Session(node)
    session.start()
    sleeper.start()
    sleeper.hibernate(1)
    pid = int(node.sessions()[session.id]["pid"])
    node.kill()
    os.kill(pid, 9)
    wait_for(lambda: session.processes() == set())
    with in_place_of("/proc/sys/kernel/random/boot_id", "00000000-1111\n", place):
        node.start()
        assert node.get("/v1/node")["boot_id"].startswith("00000000")
        assert wait_for(lambda: node.sessions()[session.id].get("ended")) == "rebooted"
        sleeper.restore(1)
        node.kill()


# --- the API --------------------------------------------------------------------------------------


@pytest.mark.parametrize("change, text", [
    ({"id": "../../etc"}, "session.id"),
    ({"id": "0123"}, "session.id"),
    ({"user": 5}, "session.user: expected a string"),
    ({"port": 70000}, "session.port: out of range"),
    ({"cmd": "python3"}, "session.cmd"),
    ({"home": None}, "session.home: missing"),
    ({"address": "not an address"}, "address"),
    ({"uid": 0, "gid": 0}, "root"),
])
def test_bad_requests(node, change, text):
    session = Session(node)
    session.spec.update(change)
    with pytest.raises(Refused) as refused:
        node.effect("start", session)
    assert refused.value.status == 400 and text in refused.value.error["text"]
    assert leftovers(node) == []


def test_bad_paths_and_ids(node):
    session = Session(node)
    for method, path, status in [
            ("GET", "/v1/sessions/nobody", 404), ("GET", "/v1/effects/none", 404),
            ("GET", "/v1/sessions/..%2f..%2fetc/log", 404), ("GET", "/v1/nothing", 404),
            ("GET", f"/v1/sessions/{session.id}/log", 404),
            ("GET", "/v1/checkpoints/x/1", 400),
            ("GET", "/v1/checkpoints?session=..", 400)]:
        with pytest.raises(Refused) as refused:
            node.ask(method, path)
        assert refused.value.status == status, path
    for effect in ("a%2f..", "x" * 65, "%00"):
        with pytest.raises(Refused):
            node.effect("start", session, effect_id=effect)
    for body in ({"session": "x", "generation": 1}, {"session": session.id, "generation": 0}, {}):
        with pytest.raises(Refused) as refused:
            node.ask("POST", "/v1/checkpoints/verify", body)
        assert refused.value.status == 400
    assert node.ask("DELETE", "/v1/effects/unknown") == {}


def test_names_of_any_kind(node):
    for name in ("a/b", "..", "\U0001f600", "x" * 300, "-rf", "a b\n'\"$(id)", ""):
        session = Session(node, user=name, server=name)
        session.start()
        session.hibernate(1)
        assert node.checkpoints(session)[0]["user"] == name
        session.restore(1)
        node.done("forget", session)


def test_commands(node, place):
    run = lambda *args: subprocess.run([BUILD / "elsa-node", "--config", node.config, *args],
                                       capture_output=True, text=True, check=False, timeout=60)
    assert run("--check").returncode == 0
    assert "another elsa-node" in run().stderr
    assert "another elsa-node" in run("teardown").stderr
    assert run("dance").returncode == 2
    assert run("--fault", "nonsense", "--check").returncode == 0
    session = Session(node)
    session.start()
    node.stop()
    refused = run("teardown")
    assert refused.returncode == 4 and "--all" in refused.stderr
    assert session.answers()
    assert run("teardown", "--all").returncode == 0
    assert leftovers(node) == [] and session.home.exists()
    bad = place / "bad.toml"
    bad.write_text("[node]\nworkers = 'many'\n")
    node.config = bad
    failed = run()
    assert failed.returncode == 2 and "bad.toml" in failed.stderr
    node.config = place / "elsa.toml"
    node.start()


def test_a_reload_keeps_sessions_and_takes_the_new_configuration(node):
    session = Session(node)
    session.start()
    good = node.config.read_text()
    node.config.write_text(good + "\n[log]\nlevel = 7\n")
    node.process.send_signal(1)
    wait_for(lambda: "stays as it is" in node.log.read_text())
    node.config.write_text(good.replace("[node]", "[node]\nname = 'renamed'"))
    node.process.send_signal(1)
    wait_for(lambda: (node.answers() or {}).get("name") == "renamed")
    assert node.sessions()[session.id]["running"] and session.answers()


def test_status_of_a_session(node):
    session = Session(node)
    session.start()
    status = node.get(f"/v1/sessions/{session.id}")
    assert status["running"] and not status["frozen"] and status["pid"] > 1
    assert status["processes"] >= 4 and status["rss_bytes"] > 1 << 20 and status["cpu_us"] > 0
    assert json.loads(json.dumps(status)) == status
