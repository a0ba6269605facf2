# SPDX-License-Identifier: Apache-2.0
"""The client of elsad, and the words for users, without a Hub."""

from __future__ import annotations

import asyncio
import json

import pytest
from elsa_spawner import pages
from elsa_spawner.client import (
    SUPERSEDED,
    Client,
    ElsaAway,
    ElsaError,
    _read_answer,
    follow,
    patiently,
)
from elsa_spawner.progress import Progress, describe


def answer(status: int, body: object) -> dict:
    return _read_answer(status, json.dumps(body).encode())


@pytest.mark.parametrize("url", ["", "elsad", "ftp://host", "http://", "/run/elsad.sock"])
def test_bad_addresses(url):
    with pytest.raises(ValueError, match="not an address"):
        Client(url)


def test_answers():
    assert answer(200, {"a": 1}) == {"a": 1}
    assert _read_answer(202, b"") == {}
    with pytest.raises(ElsaError) as error:
        answer(502, {"error": {"fault": "corrupt", "text": "damaged", "remedy": "verify"}})
    assert (error.value.fault, error.value.text, error.value.remedy) == (
        "corrupt",
        "damaged",
        "verify",
    )


@pytest.mark.parametrize("status, body", [
    (200, b"<html>"), (200, b"[1]"), (502, b"<html>Bad gateway</html>"), (500, b"{}"),
    (503, b'{"error": {"fault": "unavailable", "text": "the node is down"}}'),
    (429, b'{"error": {"fault": "unavailable", "text": "slow down"}}'),
])  # fmt: skip
def test_answers_that_mean_ask_again(status, body):
    with pytest.raises(ElsaAway):
        _read_answer(status, body)


def test_unreadable_token_is_said(tmp_path):
    client = Client("http://127.0.0.1:1", str(tmp_path / "none"))
    with pytest.raises(ElsaError, match="token"):
        asyncio.run(client.get("/v1/health"))


def test_nobody_there():
    with pytest.raises(ElsaAway):
        asyncio.run(Client("unix:/nonexistent/socket").get("/v1/health"))


def test_patience_ends_or_is_rewarded():
    calls = []

    async def third_time_lucky():
        calls.append(1)
        if len(calls) < 3:
            raise ElsaAway("not yet")
        return "yes"

    async def never():
        raise ElsaAway("never")

    assert asyncio.run(patiently(third_time_lucky)) == "yes"
    with pytest.raises(ElsaAway, match="never"):
        asyncio.run(patiently(never, seconds=0.3))


class Scripted:
    def __init__(self, *answers):
        self.answers = list(answers)

    async def get(self, *_args, **_kwargs):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_follow_outlives_absence():
    client = Scripted(
        {"id": "1", "state": "running", "step": "read"},
        ElsaAway("restarting"),
        {"id": "1", "state": "done"},
    )
    seen = []
    first = {"id": "1", "state": "running", "step": "prepare"}
    done = asyncio.run(follow(client, first, on_change=lambda o: seen.append(o["step"])))
    assert done["state"] == "done" and seen == ["prepare", "read"]


def test_follow_tells_failure():
    error = {"fault": "refused", "text": "no", "remedy": "close it", "log_tail": "Error (x.c:1)"}
    client = Scripted({"id": "1", "state": "failed", "error": error})
    with pytest.raises(ElsaError) as failure:
        asyncio.run(follow(client, {"id": "1", "state": "running"}))
    assert failure.value.log_tail == "Error (x.c:1)"


def test_follow_tells_a_failure_from_a_successor():
    gone = Scripted(ElsaError("not-found", "there is no such operation"))
    failed = Scripted({"state": "failed", "error": {"fault": "not-found", "text": "no home"}})
    last_word = Scripted({"state": "failed", "superseded": True,
                          "error": {"fault": "not-found", "text": "something newer"}})
    for client, fault in ((gone, SUPERSEDED), (last_word, SUPERSEDED), (failed, "not-found")):
        with pytest.raises(ElsaError) as failure:
            asyncio.run(follow(client, {"id": "1", "state": "running"}))
        assert failure.value.fault == fault


def test_progress_reaches_every_page():
    async def scene():
        progress = Progress()
        progress.say("one", 1)

        async def page():
            return [event["message"] async for event in progress.events()]

        first = asyncio.ensure_future(page())
        await asyncio.sleep(0)
        progress.say("two")
        progress.say("two")
        second = asyncio.ensure_future(page())
        await asyncio.sleep(0)
        progress.end()
        return await first, await second, await page()

    assert asyncio.run(scene()) == (["one", "two"],) * 3


def test_description_of_operations():
    done = {"kind": "restore", "step": "images", "bytes_done": 57 << 20, "bytes_total": 100 << 20}
    assert describe(done) == ("Reading its memory: 50% of 100.0 MiB", 50)
    assert describe({"kind": "restore", "step": "something-new"}) == ("Something new", 20)
    assert describe({"kind": "hibernate", "step": "dump"})[0].startswith("Your session is just")
    assert describe({"kind": "unheard-of"}) == ("Waiting for your session", 5)


CHECKPOINTS = [
    {"generation": 3, "created_at": 1795343520000, "aside": False},
    {"generation": 2, "created_at": 1795300000000, "aside": False},
    {"generation": 4, "created_at": 1795400000000, "aside": True},
]


def test_users_are_asked_only_when_there_is_a_choice():
    failed = {"state": "failed", "checkpoint_usable": True, "generation": 3, "reason": "a <b>",
              "checkpoints": CHECKPOINTS}  # fmt: skip
    why = pages.trouble(failed, False)
    assert "could not be woken from the checkpoint of Sun 22 Nov, 10:32 UTC: a <b>." in why
    form = pages.choice_form(failed, why)
    assert 'value="3"' in form and "a &lt;b&gt;" in form and "<b>" not in form
    assert pages.trouble({**failed, "checkpoint_usable": False}, False) == ""
    for state in ("hibernated", "running", "stopped", "restoring"):
        assert pages.trouble({**failed, "state": state}, False) == ""
    assert pages.trouble({"state": "hibernated", "checkpoint_usable": False}, False) != ""
    assert pages.trouble({"state": "running"}, True) != ""
    assert pages.trouble({"state": "stopped"}, True) == ""
    assert pages.trouble(None, True) == ""


def test_who_could_not_be_saved_is_told():
    left = {"node": "n1", "at": 1795343520000, "why": "odd socket", "snapshot_at": 0}
    lost = {"state": "lost", "checkpoint_usable": False, "left_behind": left}
    before, after = left["at"] - 1, left["at"] + 1
    text = pages.left_behind_text(lost, after)
    assert "went away at Sun 22 Nov, 10:32 UTC" in text and "not be saved: odd socket." in text
    assert text.endswith("What was only in its memory is lost.")
    older = {"state": "hibernated", "checkpoint_usable": True, "checkpoints": CHECKPOINTS,
             "left_behind": left}  # fmt: skip
    assert "goes on from the checkpoint of Sun 22 Nov" in pages.left_behind_text(older, after)
    runs = {**older, "state": "running"}
    assert "Save your work into files" in pages.left_behind_text(runs, before)
    assert "went away" in pages.left_behind_text(runs, after)
    for session in (None, {}, {"state": "running", "left_behind": None}):
        assert pages.left_behind_text(session, after) == ""


def test_messages_are_escaped():
    error = pages.start_failed(ElsaError("internal", "<script>", ""))
    assert "<script>" in error.jupyterhub_message
    assert "&lt;script&gt;" in error.jupyterhub_html_message
    assert "<script>" not in error.jupyterhub_html_message


def test_timeouts_are_timeouts_to_the_hub():
    assert isinstance(pages.out_of_reach(), asyncio.TimeoutError)
    assert "goes on waking" in pages.took_too_long({"state": "restoring"}).jupyterhub_message
