# SPDX-License-Identifier: Apache-2.0
"""What elsad makes of it that a node has put its sessions away: told once, however much elsad missed."""
import contextlib
import json
import os
import subprocess

import pytest

from basekit import wait_for
from hubkit import BUILD, ApiError, Stack
from nodekit import UnixHTTP

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(180)]
COMMAND = ["python3", "-m", "http.server", "8888"]


class Machine:
    def __init__(self):
        self.stack = Stack(options={
            "spot": {"margin": "1s", "protect": "none"}, "controller": {"observe": "300ms"}})
        self.notice_file = self.stack.dir / "notice.json"
        self.stack.options["node"] = {"notices": "file", "notice_file": str(self.notice_file),
                                      "notice_interval": "100ms", "name": "doomed"}
        self.stack.write_config()
        self.stack.start_node()
        self.stack.start_elsad()

    def start(self, user):
        api = self.stack.api
        done = api.wait_operation(api.post("/v1/session/start", user=user, server="", cmd=COMMAND,
                                           env={}, port=8888, api_token="x"))
        assert done["state"] == "done", done

    def notice(self, **more):
        temporary = self.notice_file.with_suffix(".new")
        temporary.write_text(json.dumps({"kind": "evict", **more}))
        temporary.rename(self.notice_file)

    def node_says(self):
        connection = UnixHTTP(self.stack.run_dir / "node.sock", 20)
        try:
            connection.request("GET", "/v1/evacuation")
            answer = connection.getresponse()
            return json.loads(answer.read()) if answer.status == 200 else {}
        finally:
            connection.close()

    def events(self, *what):
        return [e for e in self.stack.api.get("/v1/events", limit=500)["events"]
                if e["what"] in what]

    def cli(self, *args):
        return subprocess.run([BUILD / "elsa", "--url", self.stack.elsa_url, *args], check=True,
                              capture_output=True, text=True, timeout=60).stdout


@pytest.fixture(name="machine")
def machine_fixture():
    machine = Machine()
    yield machine
    machine.stack.close()


def told(machine, user):
    return [e for e in machine.events("put-away", "left-behind") if e["user"] == user]


def test_what_elsad_missed_is_told_once(machine):
    api = machine.stack.api
    for user in ("ada", "bob"):
        machine.start(user)
    with pytest.raises(ApiError) as unknown:
        api.get("/v1/nodes/evacuation", node="doomed")
    assert unknown.value.status == 404
    machine.stack.elsad.kill()
    machine.notice(**{"in": "60s"})
    wait_for("the evacuation", lambda: machine.node_says().get("ended_at"))
    machine.stack.start_elsad()
    wait_for("the news", lambda: machine.events("evacuation"))
    for user in ("ada", "bob"):
        event, = told(machine, user)
        assert event["what"] == "put-away" and event["bytes"] > 0 and event["duration_us"] > 0
        assert event["why"] == "file" and "doomed" in event["detail"]
    whole, = machine.events("evacuation")
    assert "2 of 2 sessions saved, 0 left behind" in whole["detail"]
    assert "before the deadline" in whole["detail"]
    last = api.get("/v1/nodes/evacuation", node="doomed")
    assert {s["label"] for s in last["sessions"]} == {"ada", "bob"} and last["node"] == "doomed"
    # Known for good: not told again, and there when the machine is not.
    machine.stack.elsad.kill()
    machine.stack.node.kill()
    machine.stack.start_elsad()
    wait_for("elsad to miss it", lambda: not api.get("/v1/nodes")["items"][0]["up"])
    assert api.get("/v1/nodes/evacuation", node="doomed")["margin_ms"] > 0
    assert len(machine.events("evacuation", "put-away")) == 3
    lines = machine.cli("evacuation", "doomed").splitlines()
    table = next(i for i, line in enumerate(lines) if line.startswith("SESSION"))
    assert lines[table].split()[:7] == ["SESSION", "STATE", "BEGAN", "TOOK", "BYTES",
                                        "LEFT_OF_WINDOW", "SNAPSHOT_AGE"]
    assert sorted(line.split()[:2] for line in lines[table + 1:]) == [["ada", "saved"],
                                                                      ["bob", "saved"]]
    assert json.loads(machine.cli("evacuation", "doomed", "--json"))["sessions"]


def test_a_node_that_did_not_live_to_end_it(machine):
    """With a session that nobody could save."""
    machine.start("eve")
    wait_for("it to be seen", lambda: machine.stack.api.get("/v1/nodes")["items"][0]["up"])
    machine.notice(**{"in": "500ms"})  # less than the margin
    wait_for("elsad to know", lambda: known(machine), pause=0.01)
    machine.stack.node.kill()
    wait_for("the end", lambda: machine.events("evacuation"))
    whole, = machine.events("evacuation")
    event, = told(machine, "eve")
    assert "of 1 sessions saved" in whole["detail"]
    assert event["what"] in ("left-behind", "put-away")


def known(machine):
    with contextlib.suppress(ApiError):
        return machine.stack.api.get("/v1/nodes/evacuation", node="doomed")
    return None
