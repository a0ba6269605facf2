# SPDX-License-Identifier: Apache-2.0
"""elsad and the store: what may be removed, what becomes of imports, memory that is still to come."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from basekit import wait_for
from elsad_kit import ApiError, Elsad


@pytest.fixture
def elsad(tmp_path: Path):
    with Elsad(tmp_path) as elsad:
        yield elsad.start()
        assert not elsad.node.broken


def begin(elsad: Elsad, kind: str, **body) -> dict:
    return elsad.post(f"/v1/store/{kind}", {"who": "tester", **body})


def end(elsad: Elsad, task: dict) -> dict:
    def look():
        shown = elsad.get("/v1/store/task", id=task["id"])
        return shown if shown["state"] != "running" else None

    return wait_for("the end", look, seconds=20)


def run(elsad: Elsad, kind: str, **body) -> dict:
    return end(elsad, begin(elsad, kind, **body))


def asleep(elsad: Elsad) -> dict:
    elsad.run()
    elsad.follow(elsad.act("hibernate"))
    return elsad.session()


def refusal(elsad: Elsad, kind: str, **body) -> dict:
    with pytest.raises(ApiError) as error:
        begin(elsad, kind, **body)
    return {"status": error.value.status, **error.value.error}


# --- looking ---------------------------------------------------------------------------------------


def test_checkpoints_are_listed_shown_and_verified(elsad: Elsad):
    session = asleep(elsad)
    (listed,) = elsad.get("/v1/checkpoints", user="ada", server="")["checkpoints"]
    assert listed["user"] == "ada" and listed["objects"] == 2
    assert listed["damaged"] is None and listed["fence"] is None
    elsad.node.fences = {(session["id"], 2), ("00000000000000ff", 7)}
    for query, generations in ({"user": "ada", "server": ""}, [2]), ({}, [7, 2]):
        fences = elsad.get("/v1/checkpoints", fences="yes", **query)["checkpoints"]
        assert [f["generation"] for f in fences] == generations
        assert fences[-1]["user"] == "ada" and fences[-1]["fence"] == "node1"
    shown = elsad.get("/v1/checkpoint", session=session["id"], generation=1)
    assert shown["user"] == "ada" and shown["frames"] == 2 and shown["generation"] == 1
    assert shown["memories"][0]["pages"] == 3 and "checkpoint" not in shown
    with pytest.raises(ApiError):
        elsad.get("/v1/checkpoint", session=session["id"], generation=2)
    which = {"user": "ada", "server": "", "generation": 1}
    assert run(elsad, "verify", **which)["state"] == "done"
    elsad.node.checkpoints[session["id"], 1]["rotten"] = True
    done = run(elsad, "verify", **which)
    assert done["state"] == "failed" and done["error"]["text"] == "object 3 is damaged"
    assert done["error"]["fault"] == "corrupt"
    assert not [w for w in elsad.whats() if w.startswith("store-")]


def test_damaged_ones_are_told(elsad: Elsad):
    session = asleep(elsad)
    stored = elsad.node.checkpoints[session["id"], 1]
    newer = {"session": session["id"], "generation": 2, "damaged": "its manifest is cut short"}
    elsad.node.checkpoints[session["id"], 2] = newer
    listed = elsad.get("/v1/checkpoints", user="ada", server="")["checkpoints"]
    assert [c["damaged"] for c in listed] == [None, "its manifest is cut short"]
    # What cannot be used is not taken for the newest.
    elsad.kill()
    elsad.start()
    time.sleep(0.5)
    assert elsad.session()["generation"] == 1
    del elsad.node.checkpoints[session["id"], 2]
    stored["damaged"] = "its packs are gone"
    elsad.kill()
    elsad.start()
    wait_for("the damage to be known", lambda: "checkpoint-damaged" in elsad.whats())


def test_nonsense_is_refused(elsad: Elsad):
    asleep(elsad)
    assert refusal(elsad, "sweep")["status"] == 404
    assert refusal(elsad, "rm", user="ada", server="")["status"] == 400
    assert refusal(elsad, "rm", user="ada", server="", generation="1")["status"] == 400
    assert refusal(elsad, "verify", user="bo", server="", generation=1)["status"] == 404
    assert refusal(elsad, "verify", session="..", generation=1)["status"] == 400
    for path in "/v1/store/task", "/v1/store/data":
        for bad in "", "../x", "0" * 15:
            with pytest.raises(ApiError) as error:
                elsad.get(path, id=bad)
            assert error.value.status == 400
    with pytest.raises(ApiError) as error:
        elsad.get("/v1/store/task", id="0" * 16)
    assert error.value.status == 404


# --- removing --------------------------------------------------------------------------------------


def test_what_a_session_needs_is_not_removed(elsad: Elsad):
    session = asleep(elsad)
    which = {"user": "ada", "server": "", "generation": 1}
    refused = refusal(elsad, "rm", **which)
    assert refused["fault"] == "conflict" and "all there is of it" in refused["text"]
    assert "--force" in refused["remedy"]
    assert refusal(elsad, "rm", dry_run=True, **which)["fault"] == "conflict"
    assert (session["id"], 1) in elsad.node.checkpoints

    assert begin(elsad, "rm", dry_run=True, force=True, **which)["dry_run"] is True
    assert (session["id"], 1) in elsad.node.checkpoints
    assert run(elsad, "rm", force=True, **which)["state"] == "done"
    # The record knows at once.
    shown = elsad.session()
    assert not shown["checkpoint_usable"] and shown["checkpoints"] == []
    assert "only a fresh start" in shown["explain"]
    assert elsad.whats()[-2:] == ["store-rm", "checkpoint-removed"]
    assert elsad.events()[0]["who"] == "tester"
    with pytest.raises(ApiError):
        elsad.start_session()
    assert elsad.follow(elsad.start_session(fresh=True))["state"] == "done"


def test_older_and_unneeded_ones_may_go(elsad: Elsad):
    session = elsad.run()
    for _ in range(2):
        elsad.follow(elsad.act("snapshot"))
    # It runs: even the newest is only a precaution.
    which = {"user": "ada", "server": ""}
    assert run(elsad, "rm", generation=1, **which)["state"] == "done"
    assert [c["generation"] for c in elsad.session()["checkpoints"]] == [2]
    assert elsad.session()["checkpoint_usable"]
    assert run(elsad, "rm", generation=2, **which)["state"] == "done"
    assert not elsad.session()["checkpoint_usable"]
    # One of a session nobody knows, by its id.
    elsad.node.checkpoints["f" * 16, 1] = {"session": "f" * 16, "generation": 1}
    assert run(elsad, "rm", session="f" * 16, generation=1)["state"] == "done"
    assert not elsad.node.checkpoints
    elsad.follow(elsad.act("hibernate"))
    assert elsad.session()["generation"] == 3
    assert (session["id"], 3) in elsad.node.checkpoints


def test_not_while_it_is_in_use(elsad: Elsad):
    session = asleep(elsad)
    held = elsad.node.hold["restore"] = threading.Event()
    which = {"user": "ada", "server": "", "generation": 1, "force": True}
    operation = elsad.start_session()
    assert "in use" in refusal(elsad, "rm", **which)["text"]
    held.set()
    elsad.follow(operation)
    elsad.node.running[session["id"]].update(missing_bytes=1 << 20, missing_total=1 << 30)
    wait_for("it to be seen", lambda: elsad.session()["missing_bytes"])
    assert "still being woken" in refusal(elsad, "rm", **which)["text"]
    elsad.node.running[session["id"]].update(missing_bytes=0)
    wait_for("it to be seen", lambda: not elsad.session()["missing_bytes"])
    assert run(elsad, "rm", **which)["state"] == "done"


def test_the_nodes_refusal_is_passed_on(elsad: Elsad):
    asleep(elsad)
    elsad.node.reject["rm"] = 409
    which = {"user": "ada", "server": "", "generation": 1, "force": True}
    assert refusal(elsad, "rm", **which)["text"] == "the node does not like it"
    assert elsad.session()["checkpoint_usable"]
    del elsad.node.reject["rm"]
    elsad.node.fail["rm"] = {"fault": "unavailable", "text": "the bucket is away", "remedy": "wait"}
    done = run(elsad, "rm", **which)
    assert done["state"] == "failed" and done["error"]["remedy"] == "wait"
    assert elsad.session()["checkpoint_usable"]


def test_the_node_goes_away_meanwhile(elsad: Elsad):
    asleep(elsad)
    elsad.node.hold["rm"] = threading.Event()
    task = begin(elsad, "rm", user="ada", server="", generation=1, force=True)
    elsad.node.stop()
    with pytest.raises(ApiError) as error:
        elsad.get("/v1/store/task", id=task["id"])
    assert error.value.status == 503
    elsad.node.start()
    done = end(elsad, task)
    assert done["state"] == "failed" and "not known" in done["error"]["remedy"]
    elsad.node.hold["rm"].set()


# --- sweeping, wrapping ----------------------------------------------------------------------------


def test_gc_and_rekey(elsad: Elsad):
    done = run(elsad, "gc")
    assert (done["objects"], done["bytes"], done["kept_objects"]) == (3, 5000, 7)
    assert run(elsad, "gc", dry_run=True)["dry_run"] is True
    elsad.node.hold["rekey"] = threading.Event()
    task = begin(elsad, "rekey")
    assert (task["state"], task["total"]) == ("running", 100)
    assert elsad.get("/v1/store/task", id=task["id"])["state"] == "running"
    elsad.node.hold["rekey"].set()
    assert end(elsad, task)["state"] == "done"
    # Who did it is on record; a dry run is nothing.
    events = [(e["what"], e["who"]) for e in elsad.events()]
    assert events == [("store-rekey", "tester"), ("store-gc", "tester")]


# --- export, import --------------------------------------------------------------------------------

BYTES = bytes(range(256)) * 4096


def test_export_part_by_part(elsad: Elsad):
    asleep(elsad)
    elsad.node.parts = [BYTES, b"\0\0", BYTES[:7]]
    task = begin(elsad, "export", user="ada", server="", generation=1)
    got = []
    while part := elsad.get("/v1/store/data", id=task["id"]):
        got.append(part)
    assert b"".join(got) == BYTES + b"\0\0" + BYTES[:7]
    assert end(elsad, task)["state"] == "done"
    assert "store-export" in elsad.whats()


def spec_of(elsad: Elsad) -> dict:
    return elsad.node.asked[-1]["session"]


def import_as(elsad: Elsad, checkpoint: dict, spec: dict | None) -> dict:
    elsad.node.import_ends = {"checkpoints": [checkpoint]}
    if spec is not None:
        elsad.node.import_ends["spec"] = json.dumps(spec)
    task = begin(elsad, "import")
    for part in BYTES, b"\0", b"":
        elsad.post(f"/v1/store/data?id={task['id']}", part)
    assert elsad.node.sent[task["id"]] == [BYTES, b"\0", b""]
    # What is only elsad's is not shown.
    shown = end(elsad, task)
    assert shown["state"] == "done" and "token" not in json.dumps(shown)
    return shown


def forget(elsad: Elsad) -> tuple[dict, dict, dict]:
    """A session as another hub had it: what is exported of it, its spec, what it was."""
    elsad.run(env={"JUPYTERHUB_API_TOKEN": "token-of-old"}, port=7777)
    elsad.follow(elsad.act("hibernate"))
    session, spec = elsad.session(), spec_of(elsad)
    checkpoint = dict(elsad.node.checkpoints[session["id"], 1], user="ada", server="")
    elsad.follow(elsad.act("forget"))
    return checkpoint, spec, session


def test_an_imported_session_can_be_woken(elsad: Elsad):
    checkpoint, spec, before = forget(elsad)
    done = import_as(elsad, checkpoint, spec)
    assert done["resumable"] is True and "its next start wakes it" in done["record"]
    assert done["checkpoint"]["user"] == "ada" and done["checkpoint"]["generation"] == 1
    session = elsad.session()
    assert session["state"] == "hibernated" and session["checkpoint_usable"]
    for field in ("id", "address", "port", "generation"):
        assert session[field] == before[field]
    assert session["api_token"] == "token-of-old"
    assert elsad.whats()[-1] == "session-imported"
    elsad.kill()
    elsad.start()
    elsad.node.checkpoints[checkpoint["session"], 1] = checkpoint
    assert elsad.follow(elsad.start_session(api_token="new"))["kind"] == "restore"
    assert elsad.session()["api_token"] == "token-of-old"
    elsad.follow(elsad.act("hibernate"))
    assert elsad.session()["generation"] == 2


def test_imports_that_cannot_be_woken(elsad: Elsad):
    checkpoint, spec, _ = forget(elsad)

    def why_not(**changes) -> str:
        done = import_as(elsad, checkpoint, {**spec, **changes})
        assert done["resumable"] is False
        with pytest.raises(ApiError):
            elsad.session()
        return done["record"]

    assert "network.pool" in why_not(address="10.1.2.3")
    assert "uid 0" in why_not(uid=0)
    assert "does not fit" in why_not(id="f" * 16)
    done = import_as(elsad, checkpoint, None)
    assert done["resumable"] is False and "in the store" in done["record"]
    # Another one has its address.
    elsad.run("bob")
    assert elsad.session("bob")["address"] == spec["address"]
    assert "another session's" in why_not()
    # Or its name.
    elsad.run("ada")
    done = import_as(elsad, checkpoint, spec)
    assert "another session of that user" in done["record"] and not done["resumable"]


def test_an_import_for_a_known_session(elsad: Elsad):
    session = asleep(elsad)
    stored = dict(elsad.node.checkpoints[session["id"], 1], user="ada", server="")
    run(elsad, "rm", user="ada", server="", generation=1, force=True)
    # The same one again.
    done = import_as(elsad, stored, None)
    assert done["resumable"] and elsad.session()["checkpoint_usable"]
    # An older one than it has.
    elsad.node.checkpoints[session["id"], 1] = stored
    elsad.follow(elsad.start_session())
    elsad.follow(elsad.act("hibernate"))
    run(elsad, "rm", user="ada", server="", generation=1)
    done = import_as(elsad, stored, None)
    assert not done["resumable"] and "generation 2" in done["record"]
    assert [c["generation"] for c in elsad.session()["checkpoints"]] == [2, 1]
    # A newer one, of a session that was ended.
    elsad.follow(elsad.act("stop"))
    newer = {**stored, "generation": 5}
    done = import_as(elsad, newer, None)
    assert done["resumable"] and elsad.session()["state"] == "hibernated"
    assert elsad.session()["generation"] == 5
    assert elsad.whats()[-2:] == ["checkpoint-imported", "imported"]
    # Of one that runs: it is what it is woken from should it be lost.
    elsad.node.checkpoints[session["id"], 5] = newer
    elsad.follow(elsad.start_session())
    done = import_as(elsad, {**stored, "generation": 6}, None)
    assert not done["resumable"] and "is running" in done["record"]
    assert elsad.session()["state"] == "running" and elsad.session()["generation"] == 6


def test_a_failed_import_leaves_nothing(elsad: Elsad):
    elsad.node.import_ends = {"state": "failed", "fault": "corrupt", "text": "a pack is cut short"}
    task = begin(elsad, "import")
    elsad.post(f"/v1/store/data?id={task['id']}", b"")
    done = end(elsad, task)
    assert done["state"] == "failed" and done["error"]["text"] == "a pack is cut short"
    assert elsad.get("/v1/sessions")["sessions"] == []


# --- memory that is still to come -------------------------------------------------------------------


def test_waking_and_stalling_are_told(elsad: Elsad):
    session = elsad.run()["id"]
    status = elsad.node.running[session]
    status.update(missing_bytes=300 << 20, missing_total=1 << 30)
    wait_for("it to be seen", lambda: elsad.session()["missing_bytes"])
    shown = elsad.session()
    assert shown["note"] == "waking: 300 MiB to come" and shown["missing_total"] == 1 << 30
    since = int(time.time() * 1000) - 5000
    status.update(stalled_since=since, stalled="the bucket does not answer")
    wait_for("it to be seen", lambda: elsad.session()["stalled_since"])
    shown = elsad.get("/v1/sessions")["sessions"][0]
    assert shown["stalled"] == "the bucket does not answer" and shown["stalled_since"] == since
    assert shown["note"].startswith("stalled since ") and "bucket" in shown["note"]
    assert "nothing is lost" in elsad.session()["explain"]
    time.sleep(0.5)  # more looks say the same, and are no news
    status.update(stalled_since=0, stalled=None, missing_bytes=0)
    wait_for("it to go on", lambda: not elsad.session()["stalled_since"])
    assert elsad.session()["note"] is None
    assert elsad.whats()[2:] == ["stalled", "unstalled"]
    stalled = [e for e in elsad.events() if e["what"] == "stalled"]
    assert stalled[0]["detail"] == "the bucket does not answer"
    assert stalled[0]["bytes"] == 300 << 20
    assert [e for e in elsad.events() if e["what"] == "unstalled"][0]["duration_us"] >= 5_000_000


def test_a_stall_is_seen_while_something_is_under_way(elsad: Elsad):
    session = elsad.run()["id"]
    held = elsad.node.hold["hibernate"] = threading.Event()
    operation = elsad.act("hibernate")
    elsad.node.running[session].update(
        missing_bytes=1, missing_total=9, stalled_since=1, stalled="no route"
    )
    wait_for("it to be seen", lambda: "stalled" in elsad.whats())
    assert elsad.session()["state"] == "checkpointing"
    held.set()
    elsad.follow(operation)
    assert elsad.session()["note"] is None
