# SPDX-License-Identifier: Apache-2.0
"""JupyterHub over the real elsad and elsa-node: restarts, failures, deletions, names."""

from __future__ import annotations

import time

import pytest
from accountkit import CATALOGUE
from basekit import wait_for
from browser import Browser, Kernel, SpawnFailed
from hubkit import Stack
from recount import DAY_MS, Recount

STACK = {
    # Nobody is put to sleep unless a test does it.
    "options": {"idle": {"timeout": 0}},
    # To make users whom no login form would let in.
    "hub_extra": 'c.JupyterHub.load_roles[0]["scopes"].append("admin:users")',
}


def begin(browse, user: str, server: str = "") -> tuple[Browser, Kernel]:
    """A running server with a kernel that holds something."""
    browser = browse(user, server)
    browser.start_server()
    kernel = browser.new_kernel()
    kernel.run("import os; x = os.urandom(8).hex(); print(x)")
    return browser, kernel


def hibernate(stack: Stack, user: str, server: str = "") -> None:
    stack.stop_server(user, server)
    stack.api.wait_state(user, "hibernated", server=server)
    wait_for("the Hub to be done", lambda: stack.hub_server(user, server) is None)


def test_stop_and_start_at_the_hub(stack, browse):
    browser, kernel = begin(browse, "ann")
    session = stack.api.session("ann")
    before = kernel.run("print(x, os.getpid())").output
    hibernate(stack, "ann")
    asleep = stack.api.session("ann")
    assert asleep["processes"] == 0 and asleep["checkpoint_bytes"] > 0
    browser.start_server()
    assert kernel.connect().run("print(x, os.getpid())").output == before
    awake = stack.api.session("ann")
    assert awake["address"] == session["address"] and awake["api_token"] == session["api_token"]
    shown = [event["message"] for event in browser.progress]
    assert [line for line in shown if "Waking your session from the checkpoint of" in line], shown


def test_what_a_session_costs_and_uses(stack, browse):
    _, kernel = begin(browse, "amy")
    kernel.run("data = b'x' * (300 << 20)")
    used = wait_for("its use", lambda: (stack.api.get("/v1/usage", user="amy")["now"] or {}).get("memory_bytes", 0) > 300 << 20)
    assert used
    hibernate(stack, "amy")

    def read() -> tuple | None:
        """At a moment in which nothing happens."""
        events = stack.api.get("/v1/events", limit=10000)["events"]
        said = stack.api.get("/v1/savings", by="user", since_ms=DAY_MS)
        return (events, said) if stack.api.get("/v1/events", limit=10000)["events"] == events else None

    events, said = wait_for("quiet", read)
    counted = Recount([e for e in events if e["user"] == "amy"], CATALOGUE).until(said["until"]).total()
    (amy,) = [row for row in said["rows"] if row["key"] == "amy"]
    assert amy["always_on"] == pytest.approx(counted.always, rel=0.01)
    assert amy["cost"] == pytest.approx(counted.machine + counted.store, rel=0.01)
    assert 0 < amy["awake_hours"] < amy["open_hours"]
    # What it holds was seen, and what sleeps holds nothing.
    held = [e["inputs"]["account"]["held_bytes"] for e in reversed(events)
            if e["user"] == "amy" and e["what"] in ("checkpointing", "hibernate")]  # fmt: skip
    assert held[0] > 300 << 20 and held[-1] == 0
    explained = stack.api.get("/v1/explain", user="amy")
    assert explained["next"][0]["what"] == "wake" and explained["events"][0]["what"] == "hibernate"


def test_hub_killed_while_one_runs_and_one_sleeps(stack, browse):
    awake, awake_kernel = begin(browse, "bea")
    asleep, asleep_kernel = begin(browse, "cal")
    before = [k.run("print(x)").output for k in (awake_kernel, asleep_kernel)]
    hibernate(stack, "cal")
    stack.restart_hub(kill=True)
    wait_for("the Hub to find it", lambda: (stack.hub_server("bea") or {}).get("ready"))
    # The same websocket, then the same cookie.
    assert awake_kernel.run("print(x)").output == before[0]
    assert awake.api("GET", "kernels").status_code == 200
    asleep.start_server()
    assert asleep_kernel.connect().run("print(x)").output == before[1]
    hibernate(stack, "bea")
    awake.start_server()
    assert awake_kernel.connect().run("print(x)").output == before[0]


def test_elsad_killed_while_users_work_and_wait(stack, browse):
    working, kernel = begin(browse, "dot")
    waiting, waiting_kernel = begin(browse, "eli")
    before = waiting_kernel.run("print(x)").output
    hibernate(stack, "eli")
    stack.elsad.kill()
    # Whoever works notices nothing, longer than the Hub's poll takes to ask.
    began = time.monotonic()
    while time.monotonic() < began + 5:
        kernel.run("print(x)")
    assert (stack.hub_server("dot") or {}).get("ready")
    page = waiting.get(waiting.spawn_url)
    assert "EventSource(" in page.text
    stack.start_elsad()
    waiting.start_server()
    assert waiting_kernel.connect().run("print(x)").output == before


def test_damaged_checkpoint_is_kept_and_said(stack, browse):
    browser, kernel = begin(browse, "fry")
    hibernate(stack, "fry")
    session = stack.api.session("fry")
    # The last pack, with the index. Damage to memory shows when the page is wanted (test_lazy.py).
    packs = (stack.store / "s" / session["id"] / str(session["generation"])).glob("*-*")
    index = max(packs, key=lambda path: int(path.name.split("-")[1]))
    good = index.read_bytes()
    bad = bytearray(good)
    bad[100] ^= 0xFF
    index.write_bytes(bad)
    with pytest.raises(SpawnFailed) as failure:
        browser.start_server()
    message = failure.value.message
    assert "could not be woken from the checkpoint of" in message and "is kept" in message
    page = browser.get(browser.spawn_url)
    assert "elsa_fresh" in page.text and "set aside, not deleted" in page.text
    assert stack.api.state("fry") == "failed"
    # Mended (say, from a backup): try again from the very same page.
    index.write_bytes(good)
    browser.submit_choice(page, fresh=False)
    assert kernel.connect().run("print(len(x))").output == "16\n"


def test_fresh_start_sets_the_damaged_checkpoint_aside(stack, browse):
    browser, _kernel = begin(browse, "gus")
    hibernate(stack, "gus")
    session = stack.api.session("gus")
    for path in stack.store.rglob("*"):
        if path.is_file() and session["id"] in str(path) and path.stat().st_size > 100_000:
            path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SpawnFailed):
        browser.start_server()
    browser.submit_choice(browser.get(browser.spawn_url), fresh=True)
    browser.new_kernel().run("assert 'x' not in globals()")
    checkpoints = stack.api.get("/v1/checkpoints", user="gus", server="")["checkpoints"]
    assert [c["aside"] for c in checkpoints] == [True]
    hibernate(stack, "gus")
    browser.start_server()
    assert stack.api.session("gus")["generation"] == session["generation"] + 1


def test_user_deleted_in_the_hub(stack, browse):
    begin(browse, "hob")
    hibernate(stack, "hob")
    session = stack.api.session("hob")
    root = browse("admin")
    answer = root.http.delete(
        f"{stack.url}/hub/api/users/hob",
        headers={"X-XSRFToken": hub_xsrf(root), "Referer": f"{stack.url}/hub/admin"},
        timeout=60,
    )
    assert answer.status_code == 204, answer.text
    wait_for(
        "the session to be gone",
        lambda: stack.api.state("hob") in ("unknown", "stopped"),
    )
    assert not [path for path in stack.store.rglob("*") if session["id"] in str(path)]


def hub_xsrf(browser: Browser) -> str:
    browser.get("/hub/home")
    return next(c.value for c in browser.http.cookies if c.name == "_xsrf" and c.path == "/hub/")


def test_named_servers_are_sessions_of_their_own(stack, browse):
    one, kernel = begin(browse, "ike")
    two = one.for_server("gpu work ü")
    two.start_server()
    other = two.new_kernel()
    other.run("x = 'two'")
    addresses = {stack.api.session("ike", name)["address"] for name in ("", "gpu work ü")}
    assert len(addresses) == 2
    hibernate(stack, "ike", "gpu work ü")
    assert kernel.run("print(len(x))").output == "16\n"
    two.start_server()
    assert other.connect().run("print(x)").output == "two\n"
    answer = stack.hub_api("DELETE", "users/ike/servers/gpu%20work%20%C3%BC", json={"remove": True})
    assert answer.status_code in (202, 204)
    wait_for(
        "the session to be forgotten",
        lambda: stack.api.state("ike", "gpu work ü") in ("unknown", "stopped"),
    )
    assert kernel.run("print(len(x))").output == "16\n"


@pytest.mark.parametrize("name", ["ünïcode ☃", "x" * 300, "a b%2f..%2f", "<b>&amp;"])
def test_odd_names(stack, browse, name):
    browser, kernel = begin(browse, name)
    before = kernel.run("print(x)").output
    hibernate(stack, name)
    browser.start_server()
    assert kernel.connect().run("print(x)").output == before


@pytest.mark.parametrize("user, server", [("leo", ".."), ("leo", "..%2f.."), ("..", "")])
def test_names_that_no_browser_can_open(stack, browse, user, server):
    """They may be of no use, but what is started must sleep, wake and go like any other."""
    if user == "..":
        assert stack.raw_hub_api("POST", "users", user) == 201
    else:
        browse(user)
    path = ("users", user, "servers", server) if server else ("users", user, "server")
    assert stack.raw_hub_api("POST", *path) in (201, 202)
    address = stack.api.wait_state(user, "running", server=server)["address"]
    assert stack.raw_hub_api("DELETE", *path) in (202, 204)
    stack.api.wait_state(user, "hibernated", server=server)
    assert stack.raw_hub_api("POST", *path) in (201, 202)
    assert stack.api.wait_state(user, "running", server=server)["address"] == address


def test_long_server_names(stack, browse):
    name = "n" * 300
    browser, kernel = begin(browse, "mia", name)
    hibernate(stack, "mia", name)
    browser.start_server()
    assert kernel.connect().run("print(len(x))").output == "16\n"


def test_what_cannot_be_checkpointed_runs_on_in_the_hubs_view(stack, browse):
    browser, kernel = begin(browse, "jim")
    before = kernel.run("print(x)").output
    # Multipath TCP, which CRIU does not know.
    kernel.run("import socket; odd = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)")
    kernel.run("odd.bind(('127.0.0.1', 0)); odd.listen()")
    stack.stop_server("jim")
    assert stack.api.state("jim") == "running"
    # Nobody but the spawner asks for it.
    wait_for("the Hub to take it up again", lambda: (stack.hub_server("jim") or {}).get("ready"))
    assert kernel.connect().run("print(x)").output == before
    assert "runs on" in stack.hub.log.read_text() or "goes on running" in stack.hub.log.read_text()
    kernel.run("odd.close()")
    hibernate(stack, "jim")
    browser.start_server()
    assert kernel.connect().run("print(x)").output == before


def test_activity_extension_is_loaded_in_sessions(stack, browse):
    browser, kernel = begin(browse, "kay")
    seen = browser.api_json("GET", "elsa/activity")
    assert seen["last_request_ms"] > 0 and seen["last_data_ms"] >= seen["last_request_ms"]
    kernel.run("1 + 1")
    assert browser.api_json("GET", "elsa/activity")["last_data_ms"] > seen["last_data_ms"]


def test_sessions_report_their_activity_to_elsad(stack, browse):
    _browser, kernel = begin(browse, "ned")
    url = kernel.run("print(os.environ['JUPYTERHUB_ACTIVITY_URL'])").output.strip()
    base = stack.api.get("/v1/health")["activity_url"].rstrip("/")
    assert base and url == f"{base}/hub/api/users/ned/activity"
    code = """
import datetime, json, urllib.request
now = datetime.datetime.now(datetime.timezone.utc).isoformat()
request = urllib.request.Request(
    os.environ['JUPYTERHUB_ACTIVITY_URL'], method='POST',
    data=json.dumps({'last_activity': now, 'servers': {'': {'last_activity': now}}}).encode(),
    headers={'Authorization': 'token ' + os.environ['JUPYTERHUB_API_TOKEN'],
             'Content-Type': 'application/json'})
print(urllib.request.urlopen(request).status, now)
"""
    status, now = kernel.run(code).output.split()
    assert status in ("200", "202", "204")
    # It is passed on to the Hub.
    wait_for("the Hub to know", lambda: stack.hub_user("ned")["last_activity"] >= now[:19])
