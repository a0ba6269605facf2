# SPDX-License-Identifier: Apache-2.0
"""Who wakes a session that sleeps unseen, and what is answered meanwhile, and to whom.

The whole stack: a user who is logged in asks through configurable-http-proxy, as an open page does.
"""

from __future__ import annotations

import json
import os
import socket
import time

import pytest
import requests

from basekit import wait_for
from hubkit import Stack
from nodekit import UnixHTTP

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(500)]

# As Chromium was seen to ask, of JupyterLab and of the classic tree page.
POLLS = (
    "api/kernels?1795990579987",
    "api/sessions?1795990579987",
    "api/terminals?1795990579987",
    "api/kernelspecs?1795990579987",
    "api/me?1795990579987",
    "api/contents?content=1&1795990579987",
    "api/contents/sub/deep?content=1&hash=0&1795990579987",
    "api/contents?type=directory&_=1795990344183",
    "api/status",
)

# Who may make tokens for users, and who is a guest in everybody's server.
TOKENS = "makes-tokens-0123456789"
VISITS = "visits-servers-0123456789"
HUB_EXTRA = f"""
c.JupyterHub.services.append({{"name": "tokens", "api_token": "{TOKENS}"}})
c.JupyterHub.services.append({{"name": "visitor", "api_token": "{VISITS}"}})
c.JupyterHub.load_roles.append(
    {{"name": "tokens", "services": ["tokens"], "scopes": ["tokens", "admin:users", "list:users"]}}
)
c.JupyterHub.load_roles.append(
    {{"name": "visitor", "services": ["visitor"], "scopes": ["access:servers"]}}
)
"""


@pytest.fixture(scope="module", name="stack")
def stack_fixture():
    options = {"idle": {"transparent": True, "timeout": 0}, "doze": {"swap": "off"}}
    with Stack(options=options, hub_extra=HUB_EXTRA) as stack:
        yield stack


@pytest.fixture(scope="module", name="ada")
def ada_fixture(stack):
    ada = stack.browser("ada")
    ada.log_in()
    ada.start_server()
    ada.open_server()
    for name in ("sub", "sub/deep"):
        ada.api_json("PUT", f"contents/{name}", json={"type": "directory"})
    ada.kernel = ada.new_kernel().connect()
    assert ada.kernel.value("print(6 * 7)") == 42
    return ada


def at_its_node(stack, user):
    connection = UnixHTTP(stack.run_dir / "node.sock", 20)
    try:
        connection.request("GET", "/v1/sessions")
        items = json.loads(connection.getresponse().read())["items"]
    finally:
        connection.close()
    return next(s for s in items if s["id"] == stack.api.session(user)["id"])


def put_to_sleep(stack, user="ada"):
    """What its node knows counts: elsad may not have heard yet that it was woken."""
    now = at_its_node(stack, user)
    if now["answering"] and not now["running"] and not now["touched_at"]:
        return None
    stack.api.wait_state(user, "running")
    operation = stack.api.post("/v1/session/hibernate", user=user, server="", transparent=True)
    stack.api.wait_operation(operation)
    return stack.api.wait_state(user, "asleep")


def poll(browser, path, **more):
    headers = {"X-XSRFToken": browser.xsrf, "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
    headers.update(more)
    return browser.http.get(f"{browser.base}{path}", headers=headers, timeout=20)


def as_token(stack, path, token):
    url = f"{stack.url}/user/ada/{path}"
    return requests.get(url, headers={"Authorization": f"token {token}"} if token else {}, timeout=20)


def new_token(stack, user):
    answer = requests.post(
        f"{stack.url}/hub/api/users/{user}/tokens",
        headers={"Authorization": f"token {TOKENS}"},
        timeout=60,
    )
    assert answer.status_code == 201, answer.text
    return answer.json()["token"]


def still_asleep(stack):
    """Nobody woke it: neither now nor, by what was asked, soon."""
    session = stack.api.session("ada")
    assert session["state"] == "asleep" and not session.get("touched_at"), stack.logs()


def test_an_open_page_is_answered_and_wakes_nobody(stack, ada):
    before = {path: poll(ada, path) for path in POLLS}
    assert all(answer.status_code == 200 for answer in before.values()), before
    put_to_sleep(stack)
    for path in POLLS:
        answer = poll(ada, path)
        assert answer.status_code == 200, (path, answer.text)
        assert answer.headers["Cache-Control"] == "no-store"
        told, knew = answer.json(), before[path].json()
        if path.startswith("api/contents"):
            assert [e["path"] for e in told["content"]] == [e["path"] for e in knew["content"]]
        elif path.startswith(("api/kernels?", "api/sessions")):
            assert [k["id"] for k in told] == [k["id"] for k in knew]
        elif not path.startswith("api/status"):
            assert told == knew
    still_asleep(stack)


def test_nobody_else_learns_anything_or_wakes_it_by_polls(stack, ada):
    put_to_sleep(stack)
    eve = stack.browser("eve")
    eve.log_in()
    token = new_token(stack, "eve")
    for path in POLLS:
        for who in ("", "wrong", token):
            answer = as_token(stack, path, who)
            assert answer.status_code == 403 and "ipynb" not in answer.text, (path, who)
    # Her own cookies are of her own server; and a page of hers cannot use his.
    assert eve.http.get(f"{stack.url}/user/ada/api/kernels", timeout=20).status_code == 403
    forged = poll(ada, "api/kernels", **{"X-XSRFToken": "x"})
    assert forged.status_code == 403
    # What everybody may know, and the Hub asks for.
    assert as_token(stack, "api", "").json()["version"]
    own = new_token(stack, "ada")
    assert as_token(stack, "api/kernels", own).status_code == 200
    still_asleep(stack)


def test_a_guest_is_answered_as_the_session_would(stack, ada):
    paths = [path for path in POLLS if path.startswith(("api/me", "api/kernels?", "api/terminals"))]
    before = {path: as_token(stack, path, VISITS) for path in paths}
    assert before[paths[-1]].json()["identity"]["username"] == "visitor"
    put_to_sleep(stack)
    for path in paths:
        answer = as_token(stack, path, VISITS)
        assert answer.status_code == 200, (path, answer.text)
        if path.startswith("api/me"):
            assert answer.json() == before[path].json()
    still_asleep(stack)


def test_scans_and_garbage_wake_nobody(stack, ada):
    put_to_sleep(stack)
    session = stack.api.session("ada")
    for garbage in (b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"SSH-2.0-x\r\n", b"\0" * 64):
        with socket.create_connection((session["address"], session["port"]), timeout=20) as scan:
            scan.sendall(garbage)
            if garbage:
                assert scan.recv(1) == b""
    still_asleep(stack)


def test_a_page_wakes_it_and_is_answered_by_it(stack, ada):
    put_to_sleep(stack)
    began = time.monotonic()
    page = ada.http.get(f"{ada.base}tree", timeout=60)
    print(f"answered after {time.monotonic() - began:.3f} s")
    assert page.status_code == 200 and "text/html" in page.headers["Content-Type"]
    assert stack.api.wait_state("ada", "running")["generation"] >= 1
    assert ada.kernel.value("print(6 * 7 + 1)", seconds=60) == 43


def test_what_is_done_wakes_it(stack, ada):
    put_to_sleep(stack)
    terminal = ada.api_json("POST", "terminals")
    assert [t["name"] for t in ada.api_json("GET", "terminals")] == [terminal["name"]]
    put_to_sleep(stack)
    assert ada.api("DELETE", f"terminals/{terminal['name']}").status_code == 204
    put_to_sleep(stack)
    body = "x" * 5_000_000
    ada.api_json("PUT", "contents/big.txt", json={"type": "file", "format": "text", "content": body})
    assert ada.api_json("GET", "contents/big.txt")["content"] == body


def test_a_new_directory_wakes_it_once(stack, ada):
    """The file browser of an open page asks for its directory again and again."""
    deep = "/".join("abcdefgh")
    for end in range(1, 16, 2):
        ada.api_json("PUT", f"contents/{deep[:end]}", json={"type": "directory"})
    for n in range(70):
        ada.api_json("PUT", f"contents/many-{n:02}", json={"type": "directory"})
    put_to_sleep(stack)
    path = f"api/contents/{deep}?content=1&1"
    assert poll(ada, path).json()["path"] == deep
    stack.api.wait_state("ada", "running")
    put_to_sleep(stack)
    assert poll(ada, path).json()["path"] == deep
    still_asleep(stack)


def test_a_hub_that_is_away_is_waited_for(stack, ada):
    put_to_sleep(stack)
    # Not asked about lately: a token that is new.
    own = new_token(stack, "ada")
    stack.hub.kill()
    with pytest.raises(requests.Timeout):
        requests.get(
            f"{stack.url}/user/ada/api/kernels",
            headers={"Authorization": f"token {own}"},
            timeout=2,
        )
    still_asleep(stack)
    # Nor does it wake worse: the node asks nobody.
    page = ada.http.get(f"{ada.base}api/contents/big.txt?content=0", timeout=60)
    assert page.status_code == 200
    stack.start_hub()
    wait_for("the Hub", stack.hub_up, seconds=60)
    stack.api.wait_state("ada", "running")
