# SPDX-License-Identifier: Apache-2.0
"""Real pages in a real browser.

An open tab is not a person: what pages ask for by themselves when nobody touches them. The same in
words is docs/polls.md; who answers polls for a session that sleeps relies on it. And the sign.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from basekit import wait_for
from browser import Browser
from chromium import (LAB, LAB_SERVER, NOTEBOOK, TREE, Chromium, Page, Request, Tab, log_in,
                      new_notebook, run_cell, save, shown_dialogs)  # fmt: skip
from hubkit import Stack

# How long tabs are open over a session that sleeps: two rounds of polls; ELSA_LONG=1: half an hour.
LONG_S = 1800 if os.environ.get("ELSA_LONG") else 0

pytestmark = pytest.mark.timeout(900 + LONG_S)

# "Sleep now" is seen by the Hub here: its pages say so.
STACK = {"options": {"idle": {"transparent": False}}, "hub_extra": LAB_SERVER + """
import elsa_spawner
c.ElsaSpawner.sign = True
c.JupyterHub.template_paths = [elsa_spawner.TEMPLATES]
"""}  # fmt: skip


@dataclass(frozen=True)
class Poll:
    """What an idle, visible page asks for again and again."""

    path: str  # below the server; a regular expression
    every_s: int  # at the least


# What each page polls, all of it by GET. What else an idle page asks for fails the test.
POLLS = {
    "tree": [
        Poll(r"api/contents(/.*)?", 60),
        Poll(r"api/sessions", 60),
        Poll(r"api/terminals", 60),
    ],
    "notebook": [],
    "lab": [
        Poll(r"api/contents(/.*)?", 10),
        Poll(r"api/kernels", 10),
        Poll(r"api/sessions", 10),
        Poll(r"api/terminals", 10),
        Poll(r"api/kernelspecs", 61),
        Poll(r"api/me", 61),
    ],
}

@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with Chromium() as chromium:
        yield chromium


class Desk:
    """A user's server that runs, and the user's tabs."""

    def __init__(self, stack: Stack, chromium: Chromium, user: str):
        self.stack, self.chromium, self.user = stack, chromium, user
        self.person = Browser(stack.url, user).log_in()
        self.person.start_server()
        self.base = self.person.base
        self.profile = chromium.profile()
        log_in(chromium.tab(self.profile), stack.url, user)

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *_: Any) -> None:
        self.chromium.forget(self.profile)

    def open(self, page: Page) -> Tab:
        """A page that has run a cell, if it can, and has nothing left to save."""
        notebook = new_notebook(self.person.api_json, f"{page.name}.ipynb")
        tab = self.chromium.tab(self.profile)
        tab.open(self.base + page.path.format(notebook=notebook))
        tab.wait(f"{page.name} to be ready", page.ready, seconds=180)
        if page.cell:
            assert run_cell(tab, page, "print(6 * 7)") == "42"
            save(tab, page)
        return tab


def matching(asked: list[Request], base: str, poll: Poll) -> list[Request]:
    return [r for r in asked if r.method == "GET" and re.fullmatch(poll.path, r.below(base))]


def wait_for_polls(tabs: dict[Page, Tab], base: str, times: int) -> None:
    """Until each of the pages' has come so often from now on."""
    marks = {page: len(tab.requests) for page, tab in tabs.items()}
    for page, tab in tabs.items():
        for poll in POLLS[page.name]:
            wait_for(
                f"{page.name} to ask {times} times for {poll.path}",
                lambda: len(matching(tab.since(marks[page]), base, poll)) >= times,
                seconds=60 + 2 * times * poll.every_s,
                pause=0.5,
            )


def test_an_idle_tab_asks_for_nothing_but_its_polls(stack: Stack, chromium: Chromium):
    with Desk(stack, chromium, "ada") as desk:
        tabs = {page: desk.open(page) for page in (TREE, NOTEBOOK, LAB)}
        # What opening a page and working in it leads to is over by then.
        wait_for_polls(tabs, desk.base, 1)
        marks = {page: (len(tab.requests), tab.frames, len(tab.errors))
                 for page, tab in tabs.items()}  # fmt: skip
        wait_for_polls(tabs, desk.base, 2)
        for page, tab in tabs.items():
            mark, frames, errors = marks[page]
            asked = tab.since(mark)
            polls = [r for poll in POLLS[page.name] for r in matching(asked, desk.base, poll)]
            others = [f"{r.method} {r.url}" for r in asked if r not in polls]
            assert not others, f"{page.name} asked for more than it polls"
            assert tab.frames == frames, f"{page.name} sent data over a websocket"
            assert tab.js("document.visibilityState") == "visible"
            assert shown_dialogs(tab, page) == [] and tab.errors[errors:] == []


# --- the sign -------------------------------------------------------------------------------------


def in_sign(tab: Tab, expression: str) -> str:
    """JavaScript with `root`, what is inside the sign."""
    host = "document.getElementById('elsa-sign')"
    return f"(root => {expression})({host}.shadowRoot)"


def press_in_sign(tab: Tab, name: str) -> None:
    """Opens the sign and clicks a button of that text or title."""
    for button in ("[...root.querySelectorAll('#sign')]",
                   "[...root.querySelectorAll('#menu button')].filter("
                   f"b => b.textContent === {name!r} || b.title === {name!r})"):  # fmt: skip
        middle = f"({button}.map(b => b.getBoundingClientRect()).filter(r => r.width)" \
                 ".map(r => [r.x + r.width / 2, r.y + r.height / 2])[0])"  # fmt: skip
        tab.click_at(*tab.wait(f"the sign's {name}", in_sign(tab, middle)))


def refuse_news(tab: Tab) -> None:
    """Lab asks whether one wants some, right where the sign is."""
    asks = "[...document.querySelectorAll('.jp-toast-button')].find(b => b.textContent === 'No')"
    tab.wait("Lab to ask", asks)
    tab.js(f"{asks}.click()")
    tab.wait("Lab to have heard", f"!{asks}")


def sign_text(tab: Tab) -> str:
    return in_sign(tab, "root.getElementById('sign').textContent")


@pytest.mark.parametrize("page", [NOTEBOOK, LAB], ids=lambda page: page.name)
def test_the_sign(stack: Stack, chromium: Chromium, page: Page):
    user = f"sign-{page.name}"
    with Desk(stack, chromium, user) as desk:
        tab = desk.open(page)
        if page is LAB:
            refuse_news(tab)

        press_in_sign(tab, "awake for 2 h")
        tab.wait("the sign to say so", f"/awake until/.test({sign_text(tab)})")
        until = stack.api.session(user)["keep_awake_until"]
        press_in_sign(tab, "no longer")
        wait_for("elsad to know", lambda: stack.api.session(user)["keep_awake_until"] == 0)
        # It is narrower then: a click that was meant for its middle before would miss it.
        tab.wait("the sign to say no more", f"!/awake/.test({sign_text(tab)})")
        assert until > 0

        press_in_sign(tab, "Sleep now")
        stack.api.wait_state(user, "hibernated")
        wait_for("the Hub to know", lambda: stack.hub_server(user) is None)
        tab.open(tab.js("location.href"))
        tab.wait("the Hub to say so", "/fell asleep .* ago/.test(document.body.innerText)")
        tab.click("#start")
        tab.wait("the sign to tell", f"/slept .*, woke in .* s/.test({sign_text(tab)})")
        tab.wait("it to fade", f"!/slept/.test({sign_text(tab)})")
        tab.wait(f"{page.name} to be ready", page.ready, seconds=180)
        assert shown_dialogs(tab, page) == []


# --- over a session that sleeps ---------------------------------------------------------------------


def answered(asked: list[Request]) -> list[str]:
    """What did not get a good answer."""
    return [f"{r.method} {r.url}: {r.status} {r.failure}" for r in asked
            if r.failure or r.status not in (0, 200, 304)]  # fmt: skip


def test_open_tabs_let_a_session_sleep(stack: Stack, chromium: Chromium):
    """Nothing that they do by themselves wakes it, and they show no error; the first cell does."""
    with Desk(stack, chromium, "night") as desk:
        tabs = {page: desk.open(page) for page in (TREE, NOTEBOOK, LAB)}
        wait_for_polls(tabs, desk.base, 1)
        stack.api.post("/v1/session/hibernate", user="night", server="", transparent=True)
        stack.api.wait_state("night", "asleep")
        marks = {page: (len(tab.requests), len(tab.errors)) for page, tab in tabs.items()}
        ends = time.monotonic() + LONG_S
        while True:
            wait_for_polls(tabs, desk.base, 2)
            session = stack.api.session("night")
            assert session["state"] == "asleep", stack.api.events(user="night", limit=10)
            if time.monotonic() >= ends:
                break
        assert stack.hub_server("night"), "the Hub thinks that it runs"
        for page, tab in tabs.items():
            mark, errors = marks[page]
            assert answered(tab.since(mark)) == [] and tab.errors[errors:] == [], page.name
            assert shown_dialogs(tab, page) == [], page.name
        # The websocket is the one that was opened before.
        opened = [r for r in tabs[NOTEBOOK].requests if r.method == "WS"]
        tabs[NOTEBOOK].type("print(6 * 9)")
        tabs[NOTEBOOK].press("Enter", 13, modifiers=8)
        outputs = f"[...document.querySelectorAll('{NOTEBOOK.output}')].map(e => e.textContent)"
        tabs[NOTEBOOK].wait("the second cell", f"{outputs}.some(text => text.trim() === '54')")
        stack.api.wait_state("night", "running")
        assert [r for r in tabs[NOTEBOOK].requests if r.method == "WS"] == opened
