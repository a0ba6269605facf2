# SPDX-License-Identifier: Apache-2.0
"""The spawner in the real Hub: what users and operators see, and what the Hub's records say."""

from __future__ import annotations

import sqlite3

import pytest
from elsad_double import Fault
from basekit import wait_for
from browser import SpawnFailed


def own_tokens(stack, user: str) -> int:
    """How many API tokens the Hub has given this user's servers."""
    with sqlite3.connect(stack.dir / "jupyterhub.sqlite") as db:
        query = (
            "select count(*) from api_tokens t join users u on u.id = t.user_id"
            " where u.name = ? and t.client_id = 'jupyterhub' and t.note like 'Server at%'"
        )
        return db.execute(query, (user,)).fetchone()[0]


def client_scopes(stack, user: str) -> str:
    with sqlite3.connect(stack.dir / "jupyterhub.sqlite") as db:
        query = "select allowed_scopes from oauth_clients where identifier = ?"
        return db.execute(query, (f"jupyterhub-user-{user}",)).fetchone()[0]


def hibernate(stack, elsad, user: str, server: str = "") -> None:
    stack.stop_server(user, server)
    wait_for("the Hub to forget the server", lambda: stack.hub_server(user, server) is None)
    assert elsad.state(user, server) == "hibernated"


def test_start_gives_what_elsad_needs(stack, elsad, browse):
    elsad.activity_url = "http://127.0.0.1:1"
    ada = browse("ada")
    ada.start_server()
    request = elsad.asked("start")[-1]
    elsad.activity_url = ""
    assert request["user"] == "ada" and request["server"] == "" and request["fresh"] is False
    assert request["cmd"][0] == "jupyterhub-singleuser"
    assert "--MappingKernelManager.cull_idle_timeout=0" in request["cmd"]
    assert request["port"] == 8888
    assert request["env"]["JUPYTERHUB_API_TOKEN"] == request["api_token"]
    assert request["env"]["JUPYTERHUB_SERVICE_URL"] == "http://0.0.0.0:8888/user/ada/"
    assert (
        request["env"]["JUPYTERHUB_ACTIVITY_URL"] == "http://127.0.0.1:1/hub/api/users/ada/activity"
    )
    assert ada.progress[-1]["ready"]
    assert [event for event in ada.progress if "Starting" in event["message"]]


def test_tokens_cookies_and_oauth_work_after_waking(stack, elsad, browse):
    bob = browse("bob")
    bob.start_server()
    kernel = bob.new_kernel()
    code = "import os, urllib.request as r; print(r.urlopen(r.Request(os.environ["
    code += "'JUPYTERHUB_API_URL'] + '/user', headers={'Authorization': 'token ' + os.environ["
    code += "'JUPYTERHUB_API_TOKEN']})).status)"
    kernel.run("x = 41")
    scopes = client_scopes(stack, "bob")
    assert "read:users:name" in scopes and "access:servers" in scopes

    for _ in range(2):
        hibernate(stack, elsad, "bob")
        kernel.close()
        bob.start_server()
        assert elsad.asked("start")[-1]["api_token"] != elsad.sessions["bob", ""]["api_token"]
        # The session's own token at the Hub, the old cookie at the session.
        assert kernel.connect().run(code).output.strip() == "200"
        assert kernel.run("print(x)").output.strip() == "41"
        assert client_scopes(stack, "bob") == scopes
        assert own_tokens(stack, "bob") == 1
        # A browser that has never been there has to go through OAuth with the session's secret.
        other = browse("bob")
        other.open_server()
        assert other.api("GET", "kernels").status_code == 200


def test_a_server_that_ended_by_itself_gets_new_tokens(stack, elsad, browse):
    cem = browse("cem")
    cem.start_server()
    token = elsad.sessions["cem", ""]["api_token"]
    elsad._kill(("cem", ""))
    elsad.set_state("stopped", "cem")
    wait_for("the Hub to notice", lambda: stack.hub_server("cem") is None)
    assert own_tokens(stack, "cem") == 0
    cem.start_server()
    assert elsad.sessions["cem", ""]["api_token"] != token
    assert own_tokens(stack, "cem") == 1


def test_hibernated_by_somebody_else_is_noticed_and_woken(stack, elsad, browse):
    dan = browse("dan")
    dan.start_server()
    token = elsad.sessions["dan", ""]["api_token"]
    elsad._do_hibernate(("dan", ""), elsad.sessions["dan", ""])
    wait_for("the Hub to notice", lambda: stack.hub_server("dan") is None)
    assert own_tokens(stack, "dan") == 1
    dan.start_server()
    assert elsad.sessions["dan", ""]["api_token"] == token
    assert dan.new_kernel().run("print(1)").output == "1\n"


def test_refused_hibernation_loses_nothing_and_is_taken_up_again(stack, elsad, browse):
    eve = browse("eve")
    eve.start_server()
    kernel = eve.new_kernel()
    kernel.run("x = 1")
    elsad.faults["hibernate"].append(Fault("refused", "io_uring is not supported by CRIU"))
    stack.stop_server("eve")
    assert elsad.state("eve") == "running"
    wait_for("the spawner to ask for it back", lambda: elsad.asked("resume"))
    assert elsad.asked("resume")[-1]["user"] == "eve"
    assert "io_uring is not supported" in stack.hub.log.read_text()
    # Whoever comes back gets into the session that was never gone.
    eve.start_server()
    assert kernel.connect().run("print(x)").output == "1\n"
    assert own_tokens(stack, "eve") == 1


def test_failed_restore_keeps_everything_and_asks(stack, elsad, browse):
    fay = browse("fay")
    fay.start_server()
    kernel = fay.new_kernel()
    kernel.run("x = 'kept'")
    hibernate(stack, elsad, "fay")
    fault = Fault("corrupt", "object 0017 of the checkpoint is damaged", "see elsa store verify")
    elsad.faults["restore"].append(fault)
    with pytest.raises(SpawnFailed) as failure:
        fay.start_server()
    assert "checkpoint of " in failure.value.message and "is kept" in failure.value.message
    assert "object 0017 of the checkpoint is damaged." in failure.value.message
    assert "elsa store verify" in failure.value.message
    assert own_tokens(stack, "fay") == 1
    assert len([body for body in elsad.asked("hibernate") if body["user"] == "fay"]) == 1
    # The next visit asks; a link cannot answer.
    page = fay.get(fay.spawn_url)
    assert "elsa_fresh" in page.text and "set aside, not deleted" in page.text
    fay.submit_choice(page, fresh=False)
    assert kernel.connect().run("print(x)").output == "kept\n"


def test_fresh_start_sets_the_checkpoint_aside_once(stack, elsad, browse):
    gil = browse("gil")
    gil.start_server()
    hibernate(stack, elsad, "gil")
    elsad.faults["restore"].append(Fault("corrupt", "damaged"))
    with pytest.raises(SpawnFailed):
        gil.start_server()
    gil.submit_choice(gil.get(gil.spawn_url), fresh=True)
    assert elsad.asked("start")[-1]["fresh"] is True
    assert [c["aside"] for c in elsad.sessions["gil", ""]["checkpoints"]] == [True]
    assert own_tokens(stack, "gil") == 1
    # The Hub repeats a start's options at the next one: the wish must not be among them.
    hibernate(stack, elsad, "gil")
    gil.start_server()
    assert elsad.asked("start")[-1]["fresh"] is False
    assert [c["aside"] for c in elsad.sessions["gil", ""]["checkpoints"]] == [True, False]


def test_a_link_cannot_start_fresh(stack, elsad, browse):
    hal = browse("hal")
    hal.start_server()
    hibernate(stack, elsad, "hal")
    hal.get(f"{hal.spawn_url}?fresh=true&elsa_fresh=1")
    wait_for("the start", lambda: elsad.state("hal") == "running")
    assert elsad.asked("start")[-1]["fresh"] is False


def test_fresh_start_by_the_api(stack, elsad, browse):
    ivy = browse("ivy")
    ivy.start_server()
    hibernate(stack, elsad, "ivy")
    answer = stack.hub_api("POST", "users/ivy/server", json={"fresh": True})
    assert answer.status_code in (201, 202)
    wait_for("the start", lambda: elsad.state("ivy") == "running")
    assert elsad.asked("start")[-1]["fresh"] is True


def test_named_servers_are_sessions_of_their_own(stack, elsad, browse):
    jan = browse("jan", server="gpu work ü")
    jan.start_server()
    assert elsad.state("jan", "gpu work ü") == "running"
    kernel = jan.new_kernel()
    kernel.run("x = 2")
    hibernate(stack, elsad, "jan", "gpu work ü")
    jan.start_server()
    assert kernel.connect().run("print(x)").output == "2\n"
    answer = stack.hub_api("DELETE", "users/jan/servers/gpu%20work%20%C3%BC", json={"remove": True})
    assert answer.status_code in (202, 204)
    wait_for("the session to be forgotten", lambda: elsad.state("jan", "gpu work ü") == "unknown")
    wait_for("its token to be revoked", lambda: own_tokens(stack, "jan") == 0)


def test_deleting_a_user_forgets_the_session(stack, elsad, browse):
    browse("kim").start_server()
    root = browse("admin")
    answer = root.http.delete(
        f"{stack.url}/hub/api/users/kim",
        headers={"Referer": f"{stack.url}/hub/admin", "X-XSRFToken": _hub_xsrf(root)},
        timeout=60,
    )
    assert answer.status_code == 204, answer.text
    assert elsad.state("kim") == "unknown"


def _hub_xsrf(browser) -> str:
    browser.get("/hub/home")
    return next(c.value for c in browser.http.cookies if c.name == "_xsrf" and c.path == "/hub/")


def test_hub_restart_while_running_and_while_hibernated(stack, elsad, browse):
    lea, max_ = browse("lea"), browse("max")
    lea.start_server()
    max_.start_server()
    kernels = [lea.new_kernel(), max_.new_kernel()]
    for kernel in kernels:
        kernel.run("x = 7")
    hibernate(stack, elsad, "max")
    stack.restart_hub(kill=True)
    wait_for("the Hub to find it", lambda: (stack.hub_server("lea") or {}).get("ready"))
    assert kernels[0].run("print(x)").output == "7\n"
    max_.start_server()
    assert kernels[1].connect().run("print(x)").output == "7\n"
    hibernate(stack, elsad, "lea")
    lea.start_server()
    assert kernels[0].connect().run("print(x)").output == "7\n"
    assert own_tokens(stack, "lea") == own_tokens(stack, "max") == 1


def test_hub_killed_in_the_middle_of_waking(stack, elsad, browse):
    ned = browse("ned")
    ned.start_server()
    scopes = client_scopes(stack, "ned")
    kernel = ned.new_kernel()
    kernel.run("x = 8")
    hibernate(stack, elsad, "ned")
    elsad.seconds["restore"] = 2
    try:
        stack.hub_api("POST", "users/ned/server")
        wait_for("the restore to begin", lambda: elsad.state("ned") == "restoring")
        stack.restart_hub(kill=True)
        wait_for("the Hub to find it", lambda: (stack.hub_server("ned") or {}).get("ready"))
    finally:
        elsad.seconds["restore"] = 0
    # Address, token, secret and scopes were put right without a start of this Hub's own.
    ned.open_server()
    assert kernel.connect().run("print(x)").output == "8\n"
    browse("ned").open_server()
    assert own_tokens(stack, "ned") == 1
    assert client_scopes(stack, "ned") == scopes


def test_hub_start_without_elsad_keeps_sessions(stack, elsad, browse):
    olga = browse("olga")
    olga.start_server()
    kernel = olga.new_kernel()
    kernel.run("x = 9")
    elsad.go_away()
    try:
        stack.restart_hub(kill=True)
        wait_for("the Hub to find it", lambda: (stack.hub_server("olga") or {}).get("ready"))
        assert kernel.run("print(x)").output == "9\n"
    finally:
        elsad.come_back()


def test_start_waits_for_an_elsad_that_is_away(stack, elsad, browse):
    pia = browse("pia")
    elsad.go_away()
    page = pia.get(pia.spawn_url)
    assert "EventSource" in page.text
    elsad.come_back()
    pia.start_server()
    assert elsad.state("pia") == "running"


def test_elsad_restarts_in_the_middle_of_waking(stack, elsad, browse):
    quin = browse("quin")
    quin.start_server()
    hibernate(stack, elsad, "quin")
    elsad.seconds["restore"] = 2
    try:
        stack.hub_api("POST", "users/quin/server")
        wait_for("the restore to begin", lambda: elsad.state("quin") == "restoring")
        elsad.go_away()
        elsad.come_back()
        wait_for("the server", lambda: (stack.hub_server("quin") or {}).get("ready"))
    finally:
        elsad.seconds["restore"] = 0


def test_stop_during_waking_hibernates_again(stack, elsad, browse):
    rob = browse("rob")
    rob.start_server()
    hibernate(stack, elsad, "rob")
    elsad.seconds["restore"] = 3
    try:
        stack.hub_api("POST", "users/rob/server")
        wait_for("the restore to begin", lambda: elsad.state("rob") == "restoring")
        stack.stop_server("rob")
        wait_for("it to sleep again", lambda: elsad.state("rob") == "hibernated")
    finally:
        elsad.seconds["restore"] = 0
    wait_for("the Hub to be done", lambda: stack.hub_server("rob") is None)
    rob.start_server()
    assert elsad.state("rob") == "running"


def test_start_during_hibernation_wakes_after_it(stack, elsad, browse):
    sue = browse("sue")
    sue.start_server()
    kernel = sue.new_kernel()
    kernel.run("x = 3")
    # The Hub takes it for stopped, elsad does not.
    elsad.faults["hibernate"].append(Fault("refused", "for once"))
    stack.stop_server("sue")
    assert elsad.state("sue") == "running"
    elsad.seconds["hibernate"] = 3
    try:
        elsad._loop.call_soon_threadsafe(elsad._begin, ("sue", ""), "hibernate", "checkpointing")
        wait_for("it to begin", lambda: elsad.state("sue") == "checkpointing")
        sue.start_server()
    finally:
        elsad.seconds["hibernate"] = 0
    assert elsad.sessions["sue", ""]["generation"] == 1
    assert kernel.connect().run("print(x)").output == "3\n"


def begin_snapshot(elsad, user):
    elsad._loop.call_soon_threadsafe(elsad._begin, (user, ""), "snapshot", "snapshotting")
    wait_for("it to begin", lambda: elsad.state(user) == "snapshotting")


def test_a_snapshot_is_in_nobodys_way(stack, elsad, browse):
    ann = browse("ann")
    ann.start_server()
    elsad.faults["hibernate"].append(Fault("refused", "for once"))
    stack.stop_server("ann")
    elsad.seconds["snapshot"] = 5
    try:
        # A start while it is being taken does not wait for it.
        begin_snapshot(elsad, "ann")
        ann.start_server()
        assert elsad.state("ann") == "snapshotting"
        # A stop does, and then hibernates.
        stack.stop_server("ann")
        wait_for("it to sleep", lambda: elsad.state("ann") == "hibernated")
    finally:
        elsad.seconds["snapshot"] = 0
    assert elsad.sessions["ann", ""]["generation"] == 2
    wait_for("the Hub to be done", lambda: stack.hub_server("ann") is None)


def test_waking_that_takes_too_long_goes_on(stack, elsad, browse, hasty):
    ian = browse("ian")
    ian.start_server()
    kernel = ian.new_kernel()
    kernel.run("x = 6")
    hibernate(stack, elsad, "ian")
    elsad.seconds["restore"] = 6
    try:
        with hasty(), pytest.raises(SpawnFailed, match="It goes on waking. Nothing is lost"):
            ian.start_server()
        assert elsad.state("ian") == "restoring"
        wait_for("it to wake", lambda: elsad.state("ian") == "running")
    finally:
        elsad.seconds["restore"] = 0
    ian.start_server()
    assert kernel.connect().run("print(x)").output == "6\n"
    assert own_tokens(stack, "ian") == 1


def test_elsad_away_for_too_long_is_said(stack, elsad, browse, hasty):
    amy = browse("amy")
    elsad.go_away()
    try:
        with hasty(), pytest.raises(SpawnFailed, match="does not answer"):
            amy.start_server()
    finally:
        elsad.come_back()
    amy.start_server()
    assert own_tokens(stack, "amy") == 1


def test_new_server_that_never_answers_is_ended(stack, elsad, browse, hasty):
    liz = browse("liz")
    elsad.deaf.add("liz")
    with hasty(), pytest.raises(SpawnFailed):
        liz.start_server()
    wait_for("its end", lambda: elsad.state("liz") == "stopped")
    wait_for("its token to be revoked", lambda: own_tokens(stack, "liz") == 0)
    elsad.deaf.discard("liz")
    liz.start_server()


@pytest.mark.parametrize("fresh", [False, True])
def test_woken_server_that_does_not_answer_is_left_alone(stack, elsad, browse, hasty, fresh):
    user = f"joe-{fresh}".lower()
    joe = browse(user)
    joe.start_server()
    kernel = joe.new_kernel()
    kernel.run("x = 4")
    hibernate(stack, elsad, user)
    elsad.deaf.add(user)
    with hasty(), pytest.raises(SpawnFailed):
        joe.start_server()
    wait_for("the Hub to be done", lambda: stack.hub_server(user) is None)
    # A checkpoint of it would have replaced the good one.
    assert elsad.state(user) == "running" and elsad.sessions[user, ""]["generation"] == 1
    page = joe.get(joe.spawn_url)
    assert "did not answer when it was last opened" in page.text
    elsad.hear(user)
    joe.submit_choice(page, fresh=fresh)
    if fresh:
        assert elsad.asked("stop")[-1]["user"] == user
        joe.new_kernel().run("assert 'x' not in globals()")
    else:
        assert kernel.connect().run("print(x)").output == "4\n"
    assert own_tokens(stack, user) == 1
    assert "elsa_fresh" not in joe.get(joe.spawn_url).text


@pytest.mark.parametrize("name", ["ünïcode ☃", "x" * 300, "a b%2f..%2f", "<b>&amp;", "a@b"])
def test_odd_names(stack, elsad, browse, name):
    browser = browse(name)
    browser.start_server()
    assert elsad.asked("start")[-1]["user"] == name
    kernel = browser.new_kernel()
    kernel.run("x = 5")
    hibernate(stack, elsad, name)
    browser.start_server()
    assert kernel.connect().run("print(x)").output == "5\n"


@pytest.mark.parametrize("user, server", [("..", ""), ("tom", ".."), ("tom", "..%2f..")])
def test_names_that_no_browser_can_open(stack, elsad, browse, user, server):
    """They may be of no use, but what is started must sleep, wake and go like any other."""
    if user == "..":
        assert stack.raw_hub_api("POST", "users", user) == 201
    else:
        browse(user)
    path = ("users", user, "servers", server) if server else ("users", user, "server")
    assert stack.raw_hub_api("POST", *path) in (201, 202)
    wait_for("the start", lambda: elsad.state(user, server) == "running")
    assert stack.raw_hub_api("DELETE", *path) in (202, 204)
    wait_for("it to sleep", lambda: elsad.state(user, server) == "hibernated")
    assert stack.raw_hub_api("POST", *path) in (201, 202)
    wait_for("it to wake", lambda: elsad.state(user, server) == "running")
    assert elsad.asked("start")[-1]["server"] == server
