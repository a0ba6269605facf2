# SPDX-License-Identifier: Apache-2.0
"""elsad's API and the lives of its sessions, with a double of elsa-node and of the Hub."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from elsad_kit import ELSAD, ApiError, Elsad, ask
from basekit import wait_for


@pytest.fixture
def elsad(tmp_path: Path):
    with Elsad(tmp_path) as elsad:
        yield elsad.start()
        assert not elsad.node.broken


# --- lives -----------------------------------------------------------------------------------------


def test_a_session_sleeps_and_wakes(elsad: Elsad):
    operation = elsad.start_session(env={"A": "1"}, port=9999)
    assert (operation["kind"], operation["user"]) == ("start", "ada")
    assert elsad.follow(operation)["state"] == "done"
    before = elsad.session()
    assert before["state"] == "running" and before["generation"] == 0
    assert before["address"] == "127.77.0.16" and before["port"] == 9999
    assert before["api_token"] == "token-ada" and before["spawner"] == {"n": 1}

    done = elsad.follow(elsad.act("hibernate", who="tester", why="because"))
    assert done["state"] == "done" and done["who"] == "tester" and done["why"] == "because"
    assert done["result"]["stored_bytes"] == 4000
    assert done["result"]["timings"] == [{"name": "dump", "us": 55}]
    asleep = elsad.session()
    assert asleep["state"] == "hibernated" and asleep["generation"] == 1
    assert asleep["checkpoint_usable"] and asleep["checkpoint_bytes"] == 4000
    assert [c["generation"] for c in asleep["checkpoints"]] == [1]

    done = elsad.follow(elsad.start_session(api_token="another", env={"A": "2"}, port=1))
    assert done["kind"] == "restore" and done["session"]["state"] == "running"
    after = elsad.session()
    for field in ("id", "address", "port", "api_token", "spawner"):
        assert after[field] == before[field]
    request = elsad.node.asked[-1]
    assert request["kind"] == "restore" and request["generation"] == 1
    assert "A=1" in request["session"]["env"]
    assert elsad.whats() == ["starting", "start", "checkpointing", "hibernate", "restoring",
                             "restore"]  # fmt: skip
    wait_for("the results to be acknowledged", lambda: not elsad.node.effects)


def test_the_record_outlives_elsad(elsad: Elsad):
    elsad.run()
    asked = elsad.follow(elsad.act("hibernate"))
    before = elsad.session()
    elsad.kill()
    elsad.start()
    after = elsad.session()
    assert after == before
    assert elsad.get("/v1/operation", id=asked["id"])["result"] == asked["result"]


def test_a_fresh_start_sets_the_checkpoint_aside(elsad: Elsad):
    first = elsad.run()
    elsad.follow(elsad.act("hibernate"))
    assert elsad.follow(elsad.start_session(fresh=True, api_token="new"))["kind"] == "start"
    session = elsad.session()
    assert session["api_token"] == "new" and session["address"] == first["address"]
    assert not session["checkpoint_usable"] and session["checkpoints"][0]["aside"]
    wait_for("the store to know", lambda: elsad.node.checkpoints[session["id"], 1]["aside"])
    elsad.follow(elsad.act("hibernate"))
    assert elsad.session()["generation"] == 2


def test_stop_and_forget(elsad: Elsad):
    session = elsad.run()
    elsad.follow(elsad.act("hibernate"))
    assert elsad.follow(elsad.act("stop"))["state"] == "done"
    assert elsad.session()["state"] == "stopped" and not elsad.session()["checkpoint_usable"]
    operation = elsad.follow(elsad.act("forget"))
    assert operation["state"] == "done" and operation["session"] is None
    with pytest.raises(ApiError) as error:
        elsad.session()
    assert error.value.status == 404
    assert not elsad.node.checkpoints
    assert elsad.run("bob")["address"] == session["address"]


def test_two_starts_are_one(elsad: Elsad):
    elsad.node.seconds = 0.5
    first, second = elsad.start_session(), elsad.start_session()
    assert first["id"] == second["id"]
    assert elsad.follow(second)["state"] == "done"
    third = elsad.follow(elsad.start_session())
    assert third["state"] == "done" and third["id"] != first["id"]
    assert [r["kind"] for r in elsad.node.asked] == ["start"]


def test_hibernate_while_a_resume_is_under_way(elsad: Elsad):
    elsad.run()
    elsad.follow(elsad.act("hibernate"))
    held = elsad.node.hold["restore"] = threading.Event()
    operation = elsad.start_session()
    with pytest.raises(ApiError) as error:
        elsad.act("hibernate")
    assert error.value.status == 409 and error.value.error["fault"] == "conflict"
    held.set()
    assert elsad.follow(operation)["state"] == "done"


def test_stop_takes_the_place_of_a_start(elsad: Elsad):
    held = elsad.node.hold["start"] = threading.Event()
    operation = elsad.start_session()
    stop = elsad.act("stop")
    told = elsad.get("/v1/operation", id=operation["id"])
    assert told["state"] == "failed" and told["superseded"] and told["session"] is None
    held.set()
    assert elsad.follow(stop)["state"] == "done"
    assert elsad.session()["state"] == "stopped"
    wait_for("both to be acknowledged", lambda: len(elsad.node.acknowledged) == 2)


def test_a_refusal_by_criu_leaves_it_running(elsad: Elsad):
    elsad.run()
    elsad.node.fail["hibernate"] = {
        "fault": "refused", "text": "CRIU: io_uring is not supported", "remedy": "end it",
        "log_tail": "Error (criu/x.c:1): io_uring", "running": True,
    }  # fmt: skip
    done = elsad.follow(elsad.act("hibernate"))
    assert done["state"] == "failed" and done["error"]["fault"] == "refused"
    assert "io_uring" in done["log_tail"] and "io_uring" in done["error"]["log_tail"]
    session = elsad.session()
    assert session["state"] == "running" and session["generation"] == 0
    assert "CRIU: io_uring is not supported" in session["reason"]
    assert "refused" in elsad.whats()
    del elsad.node.fail["hibernate"]
    assert elsad.follow(elsad.act("hibernate"))["state"] == "done"
    assert elsad.session()["reason"] is None


# --- snapshots -------------------------------------------------------------------------------------


def begin_snapshot(elsad: Elsad) -> tuple[threading.Event, dict]:
    held = elsad.node.hold["snapshot"] = threading.Event()
    operation = elsad.act("snapshot", who="tester")
    assert operation["kind"] == "snapshot" and operation["state"] == "running"
    assert elsad.session()["state"] == "snapshotting"
    return held, operation


def test_a_snapshot_lets_it_run_on(elsad: Elsad):
    before = elsad.run()
    done = elsad.follow(elsad.act("snapshot"))
    assert done["state"] == "done" and done["result"]["stored_bytes"] == 4000
    session = elsad.session()
    assert session["state"] == "running" and session["started_at"] == before["started_at"]
    assert session["generation"] == 1 and session["checkpoint_usable"]
    assert [c["generation"] for c in session["checkpoints"]] == [1]
    assert elsad.whats() == ["starting", "start", "snapshotting", "snapshot"]
    elsad.follow(elsad.act("snapshot"))
    elsad.follow(elsad.act("hibernate"))
    assert elsad.session()["generation"] == 3
    # It is asleep: its newest state is in the store already.
    done = elsad.follow(elsad.act("snapshot"))
    assert done["state"] == "done" and elsad.session()["state"] == "hibernated"
    elsad.follow(elsad.start_session())
    assert elsad.node.asked[-1]["generation"] == 3


def test_a_session_being_snapshotted_counts_as_running(elsad: Elsad):
    elsad.run()
    held, operation = begin_snapshot(elsad)
    assert elsad.act("snapshot")["id"] == operation["id"]
    start = elsad.start_session()
    assert start["state"] == "done" and start["kind"] == "start" and start["session"]["address"]
    assert elsad.session()["operation"]["id"] == operation["id"]
    with pytest.raises(ApiError) as error:
        elsad.start_session(fresh=True)
    assert error.value.status == 409 and "snapshotting" in error.value.error["text"]
    assert error.value.error["remedy"] == "ask again when that is done"
    assert elsad.post("/v1/policy/run", {})["decisions"] == []
    held.set()
    assert elsad.follow(operation)["state"] == "done"
    assert elsad.session()["state"] == "running"
    assert [r["kind"] for r in elsad.node.asked] == ["start", "snapshot"]


def test_a_snapshot_that_fails_is_told(elsad: Elsad):
    elsad.run()
    elsad.node.fail["snapshot"] = {
        "fault": "unavailable", "text": "the bucket does not answer", "remedy": "", "running": True,
    }  # fmt: skip
    done = elsad.follow(elsad.act("snapshot"))
    assert done["state"] == "failed" and done["error"]["text"] == "the bucket does not answer"
    session = elsad.session()
    assert session["state"] == "running" and session["generation"] == 0
    assert session["reason"] == "no snapshot could be taken: the bucket does not answer"
    event = elsad.get("/v1/events")["events"][0]
    assert event["what"] == "refused" and "the bucket does not answer" in event["detail"]
    # That says nothing about whether it can be put to sleep.
    del elsad.node.fail["snapshot"]
    assert elsad.follow(elsad.act("hibernate"))["state"] == "done"
    assert elsad.session()["generation"] == 1


def test_a_session_that_ends_during_its_snapshot(elsad: Elsad):
    session = elsad.run()["id"]
    held, operation = begin_snapshot(elsad)
    elsad.node.exit(session)
    elsad.node.fail["snapshot"] = {"fault": "not-found", "text": "it does not run"}
    held.set()
    assert elsad.follow(operation)["state"] == "failed"
    wait_for("it to be known as ended", lambda: elsad.session()["state"] == "stopped")
    assert "ended by themselves" in elsad.session()["reason"]


@pytest.mark.parametrize("older", [True, False])
def test_a_reboot_during_a_snapshot(elsad: Elsad, older: bool):
    """What it is then restored from is the checkpoint before."""
    session = elsad.run()["id"]
    if older:
        elsad.follow(elsad.act("snapshot"))
    held, operation = begin_snapshot(elsad)
    elsad.node.reboot()
    elsad.node.ended[session] = "rebooted"
    elsad.node.fail["snapshot"] = {"fault": "unavailable", "text": "interrupted"}
    time.sleep(0.5)  # some looks at the node, which must decide nothing yet
    assert elsad.session()["state"] == "snapshotting"
    held.set()
    elsad.follow(operation)
    wanted = "hibernated" if older else "lost"
    wait_for(f"it to be {wanted}", lambda: elsad.session()["state"] == wanted)
    assert elsad.session()["generation"] == int(older)
    if older:
        elsad.follow(elsad.start_session())
        assert elsad.session()["state"] == "running"


def test_forget_takes_the_place_of_a_snapshot(elsad: Elsad):
    elsad.run()
    held, operation = begin_snapshot(elsad)
    forget = elsad.act("forget")
    assert forget["kind"] == "forget"
    held.set()
    assert elsad.follow(forget)["state"] == "done"


# --- failures --------------------------------------------------------------------------------------


def test_a_failed_restore_keeps_the_checkpoint(elsad: Elsad):
    elsad.run()
    elsad.follow(elsad.act("hibernate"))
    elsad.node.fail["restore"] = {"fault": "corrupt", "text": "object 7 is damaged"}
    done = elsad.follow(elsad.start_session())
    assert done["state"] == "failed" and done["error"]["fault"] == "corrupt"
    session = elsad.session()
    assert session["state"] == "failed" and session["checkpoint_usable"]
    assert "object 7 is damaged" in session["reason"]
    del elsad.node.fail["restore"]
    assert elsad.follow(elsad.start_session())["kind"] == "restore"


def test_keep_awake_and_log(elsad: Elsad):
    session = elsad.run()
    until = int(time.time() * 1000) + 3600_000
    assert elsad.act("keep-awake", until=until)["keep_awake_until"] == until
    with pytest.raises(ApiError):
        elsad.act("keep-awake", until="tomorrow")
    elsad.node.logs[session["id"]] = "line 1\nline 2\n"
    assert elsad.get("/v1/session/log", user="ada", server="") == "line 1\nline 2\n"


# --- names and other input -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["a/b", "..", "../../etc", "ünï cödé", "日本" * 150, "x" * 300, "a%2Fb", "a\nb\x1b[1m", "{id}"],
    ids=["slash", "dots", "path", "accents", "300-wide", "300", "escape", "control", "braces"],
)
def test_any_name_the_hub_may_have(elsad: Elsad, name: str):
    session = elsad.run(name, name)
    assert session["user"] == name and session["server"] == name
    spec = elsad.node.asked[-1]["session"]
    home = Path(spec["home"])
    assert home.parent == Path("/home") and home.name not in (".", "..") and len(home.name) < 255
    assert elsad.get("/v1/sessions")["sessions"][0]["user"] == name
    elsad.follow(elsad.act("hibernate", name, name))
    elsad.kill()
    elsad.start()
    assert elsad.follow(elsad.start_session(name, name))["kind"] == "restore"


def test_homes_differ_where_names_do(elsad: Elsad):
    names = ["a/b", "a%2Fb", "a%2fb", "x" * 300, "x" * 299 + "y", ".a", "%2Ea"]
    for name in names:
        elsad.run(name)
    assert len({r["session"]["home"] for r in elsad.node.asked}) == len(names)
    assert len({r["session"]["uid"] for r in elsad.node.asked}) == len(names)


@pytest.mark.parametrize(
    "change",
    [
        {"user": ""}, {"user": "x" * 301}, {"user": 7}, {"user": "a\0b"}, {"server": None, "user": None},
        {"cmd": "server"}, {"cmd": [1]}, {"env": {"A": 1}}, {"env": {"A=B": "1"}}, {"env": ["A=1"]},
        {"port": 0}, {"port": 65536}, {"port": "80"}, {"home": "relative"}, {"home": "/a/../b"},
        {"image": "/.."}, {"memory_bytes": -1}, {"cpus": -1}, {"pids": 1.5}, {"fresh": "yes"},
        {"api_token": 1},
    ],
)  # fmt: skip
def test_bad_requests_are_refused(elsad: Elsad, change: dict):
    with pytest.raises(ApiError) as error:
        elsad.post("/v1/session/start", {"user": "ada", "server": "", **change})
    assert error.value.status == 400 and error.value.error["text"]
    assert elsad.get("/v1/sessions")["sessions"] == [] and not elsad.node.asked


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"\xff\xfe", b"{}" + b" " * (5 << 20)],
    ids=["empty", "cut", "list", "binary", "large"],
)
def test_garbage_is_refused(elsad: Elsad, body: bytes):
    with pytest.raises((ApiError, OSError, http.client.HTTPException)):
        elsad.post("/v1/session/start", body)
    assert elsad.is_up()


@pytest.mark.parametrize(
    "path",
    ["/v1/session?user=nobody&server=", "/v1/session", "/v1/operation?id=x", "/v1/nothing",
     "/v1/session?user=%00", "/v1/events?limit=x", "/v1/session/log?user=ada&lines=-1"],
)  # fmt: skip
def test_bad_questions(elsad: Elsad, path: str):
    with pytest.raises(ApiError) as error:
        elsad.get(path)
    assert error.value.status in (400, 404) and error.value.error["text"]


def test_system_accounts_are_nobodys(elsad: Elsad):
    for name in ("root", "daemon"):
        elsad.run(name)
        spec = elsad.node.asked[-1]["session"]
        assert spec["uid"] >= 2000000000 and spec["home"] == f"/home/{name}"


# --- waiting ---------------------------------------------------------------------------------------


def test_an_operation_tells_of_its_progress(elsad: Elsad):
    held = elsad.node.hold["start"] = threading.Event()
    operation = elsad.start_session()
    effect = wait_for("the node to know", lambda: elsad.node.effects.get(operation["id"]))

    def move():
        time.sleep(0.5)
        effect.update(step="exec", bytes_done=50)

    threading.Thread(target=move).start()
    moved = operation
    while moved["step"] != "exec":
        moved = elsad.get("/v1/operation", id=operation["id"], wait=20)
    assert moved["bytes_done"] == 50 and moved["bytes_total"] == 100
    began = time.monotonic()
    assert elsad.get("/v1/operation", id=operation["id"], wait=1)["state"] == "running"
    assert 0.9 < time.monotonic() - began < 20
    held.set()
    assert elsad.follow(operation)["state"] == "done"


def test_events_can_be_waited_for(elsad: Elsad):
    elsad.run()

    def quiet() -> int | None:
        last = elsad.events()[0]["id"]
        return last if elsad.events(after=last, wait=1) == [] else None

    newest = wait_for("a second without any", quiet)
    threading.Timer(0.5, lambda: elsad.act("hibernate")).start()
    began = time.monotonic()
    (event, *_) = elsad.events(after=newest, wait=25)
    assert event["what"] == "checkpointing" and time.monotonic() - began < 20
    assert elsad.events(after=newest, user="somebody") == []


def test_callers_who_leave_are_forgotten(elsad: Elsad):
    held = elsad.node.hold["start"] = threading.Event()
    operation = elsad.start_session()
    for path in (f"/v1/operation?id={operation['id']}&wait=100", "/v1/events?after=9999&wait=100"):
        s = socket.socket(socket.AF_UNIX)
        s.connect(str(elsad.dir / "elsad.sock"))
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        time.sleep(0.2)
        s.close()
    held.set()
    assert elsad.follow(operation)["state"] == "done"


# --- who may ask -----------------------------------------------------------------------------------


def as_nobody(path: Path) -> int:
    """HTTP status that another account gets on the socket."""
    code = (
        "import os, socket\nos.setuid(65534)\ns = socket.socket(socket.AF_UNIX)\n"
        f"s.connect({str(path)!r})\ns.sendall(b'GET /v1/sessions HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n"
        "print(s.recv(4096).split()[1].decode())"
    )
    out = subprocess.run(["python3", "-c", code], capture_output=True, text=True, check=True)
    return int(out.stdout)


def test_other_accounts_are_refused(elsad: Elsad):
    for directory in (elsad.dir, *elsad.dir.parents):
        if directory.stat().st_mode & 0o001 == 0:
            directory.chmod(directory.stat().st_mode | 0o011)
    assert as_nobody(elsad.dir / "elsad.sock") in (401, 403)


def test_tcp_needs_the_token(tmp_path: Path):
    (tmp_path / "api.token").write_text("secret\n")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    listen = {"listen": f"127.0.0.1:{port}", "token_file": str(tmp_path / "api.token")}
    with Elsad(tmp_path, controller=listen) as elsad:
        elsad.start()

        def get(**headers: str):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            return ask(connection, "GET", "/v1/sessions", headers=headers)

        assert get(Authorization="Bearer secret") == {"sessions": []}
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer secre"}):
            with pytest.raises(ApiError) as error:
                get(**headers)
            assert error.value.status in (401, 403)


def test_lists_do_not_hold_tokens(elsad: Elsad):
    elsad.run()
    assert "token-ada" not in str(elsad.get("/v1/sessions"))


# --- the program -----------------------------------------------------------------------------------


def run_elsad(elsad: Elsad, *options: str) -> subprocess.CompletedProcess:
    argv = [*elsad.argv, *options]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30)


def test_check(elsad: Elsad):
    assert run_elsad(elsad, "--check").returncode == 0
    elsad.write_config(idle={"timout": "1h"})
    wrong = run_elsad(elsad, "--check")
    assert wrong.returncode == 2 and "elsa.toml:" in wrong.stderr and "timout" in wrong.stderr


def test_options():
    assert subprocess.run([ELSAD, "--fault", "x"], capture_output=True).returncode == 2
    assert subprocess.run([ELSAD, "extra"], capture_output=True).returncode == 2
    assert subprocess.run([ELSAD, "--help"], capture_output=True).returncode == 0


def test_reload(elsad: Elsad):
    elsad.write_config(session={"env": ["ADDED=yes"]})
    elsad.reload()
    wait_for("the reload", lambda: "config reloaded" in elsad.log.read_text())
    elsad.run()
    assert "ADDED=yes" in elsad.node.asked[-1]["session"]["env"]
    elsad.write_config(idle={"interval": "never"})
    elsad.reload()
    wait_for("the complaint", lambda: "the old one stays" in elsad.log.read_text())
    assert elsad.is_up()


def test_a_second_elsad_is_told(elsad: Elsad):
    second = run_elsad(elsad)
    assert second.returncode != 0 and "held by another process" in second.stderr


def test_a_damaged_database_is_left_alone(tmp_path: Path):
    with Elsad(tmp_path) as elsad:
        elsad.start().run()
        elsad.kill()
        database = tmp_path / "elsad.db"
        database.write_bytes(b"garbage" * 1000)
        done = run_elsad(elsad)
        assert done.returncode == 10 or done.returncode != 0
        assert "elsad.db" in done.stderr and database.read_bytes().startswith(b"garbage")


def test_it_needs_no_privileges(tmp_path: Path):
    account = 61234
    with Elsad(tmp_path) as elsad:
        for path in (tmp_path, *tmp_path.parents):
            if path.stat().st_mode & 0o001 == 0:
                path.chmod(path.stat().st_mode | 0o011)
        for path in (tmp_path, tmp_path / "hub.token", tmp_path / "elsa.toml"):
            os.chown(path, account, account)
        (tmp_path / "node.sock").chmod(0o666)
        elsad.prefix = ["setpriv", f"--reuid={account}", f"--regid={account}", "--clear-groups",
                        "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]  # fmt: skip
        elsad.start().run()
        assert elsad.follow(elsad.act("hibernate"))["state"] == "done"
        status = Path(f"/proc/{elsad.process.pid}/status").read_text()
        assert f"Uid:\t{account}\t" in status and "CapEff:\t0000000000000000" in status


def test_it_ends_when_told(elsad: Elsad):
    held = elsad.node.hold["start"] = threading.Event()
    elsad.start_session()
    assert elsad.end() == 0
    assert not (elsad.dir / "elsad.sock").exists()
    held.set()
    elsad.start()
    elsad.wait_state("running")
    assert os.path.exists(elsad.dir / "elsad.sock")
