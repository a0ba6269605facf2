# SPDX-License-Identifier: Apache-2.0
"""A real browser: Chromium without a window, over its DevTools protocol.

For what only a real page does by itself: its polls, its dialogs, its errors. browser.py is a person
who only wants to be logged in.

    with Chromium() as chromium:
        ada = chromium.profile()
        log_in(chromium.tab(ada), stack.url, "ada")
        chromium.tab(ada).open(f"{stack.url}/user/ada/lab")
"""

from __future__ import annotations

import base64
import contextlib
import json
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import websocket

from basekit import PASSWORD, Json, wait_for

ARGV = [
    "chromium",
    "--headless=new",
    "--no-sandbox",  # its own needs a user namespace; ours is around it
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--window-size=1280,900",
    "--remote-debugging-port=0",
]


class Chromium:
    """One browser. All its tabs are windows that are visible and have the focus."""

    def __init__(self) -> None:
        self.dir = Path(tempfile.mkdtemp(prefix="chromium-"))
        self.log = self.dir / "log"
        self.process: subprocess.Popen | None = None
        self._socket: websocket.WebSocket | None = None
        self._reader: threading.Thread | None = None
        self._lock = threading.Lock()
        self._last_id = 0
        self._answers: dict[int, queue.Queue[Json]] = {}
        self._tabs: dict[str, Tab] = {}  # by DevTools session

    def __enter__(self) -> Chromium:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: Any) -> None:
        self.close()

    def start(self) -> Chromium:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*ARGV, f"--user-data-dir={self.dir}", "about:blank"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0,
            )  # fmt: skip
        port = self.dir / "DevToolsActivePort"
        # The file is there before its second line is.
        lines = wait_for(
            "Chromium",
            lambda: port.exists() and len(port.read_text().splitlines()) == 2 and port.read_text(),
            unless=self.why_dead,
        ).splitlines()
        self._socket = websocket.create_connection(
            f"ws://127.0.0.1:{lines[0]}{lines[1]}", suppress_origin=True, timeout=60
        )
        self._socket.settimeout(None)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def why_dead(self) -> str | None:
        if self.process is not None and self.process.poll() is None:
            return None
        return f"Chromium ended:\n{self.log.read_text(errors='replace')[-2000:]}"

    def close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(Exception):
                self._socket.close()
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def profile(self) -> str:
        """Cookies and all of its own: another person."""
        return self.call("Target.createBrowserContext")["browserContextId"]

    def forget(self, profile: str) -> None:
        """With all its tabs."""
        self.call("Target.disposeBrowserContext", browserContextId=profile)

    def tab(self, profile: str) -> Tab:
        where = {"browserContextId": profile, "newWindow": True}
        target = self.call("Target.createTarget", url="about:blank", **where)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = self._tabs[session] = Tab(self, session, target)
        tab.prepare()
        return tab

    # --- the protocol

    def call(self, method: str, session: str = "", seconds: float = 60, **params: Any) -> Json:
        answers: queue.Queue[Json] = queue.Queue()
        with self._lock:
            self._last_id += 1
            number = self._last_id
            self._answers[number] = answers
            message = {"id": number, "method": method, "params": params}
            if session:
                message["sessionId"] = session
            assert self._socket is not None
            self._socket.send(json.dumps(message))
        try:
            answer = answers.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(self.why_dead() or f"no answer to {method}") from None
        finally:
            self._answers.pop(number, None)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def send(self, method: str, session: str, **params: Any) -> None:
        """Without waiting for the answer: for the reader itself."""
        with self._lock:
            self._last_id += 1
            assert self._socket is not None
            self._socket.send(json.dumps(
                {"id": self._last_id, "method": method, "params": params, "sessionId": session}
            ))  # fmt: skip

    def _read(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(Exception):  # it was closed
            while text := self._socket.recv():
                message = json.loads(text)
                answers = self._answers.get(message.get("id", 0))
                tab = self._tabs.get(message.get("sessionId", ""))
                if answers is not None:
                    answers.put(message)
                elif tab is not None and "method" in message:
                    tab.take(message["method"], message["params"])


@dataclass
class Request:
    """What a page asked for by itself."""

    at: float  # monotonic
    method: str  # "WS": a websocket that was opened
    url: str
    status: int = 0  # 0: no answer yet, or none came
    failure: str = ""

    def below(self, base: str) -> str:
        """Its path below a server's; else the whole URL."""
        path, prefix = urlsplit(self.url).path, urlsplit(base).path
        return path.removeprefix(prefix) if path.startswith(prefix) else self.url


@dataclass
class Tab:
    chromium: Chromium
    session: str
    target: str
    requests: list[Request] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)  # of the console; exceptions nobody caught
    dialogs: list[str] = field(default_factory=list)  # alert() and its kin
    frames: int = 0  # that it sent over websockets
    _by_id: dict[str, Request] = field(default_factory=dict)

    def call(self, method: str, seconds: float = 60, **params: Any) -> Json:
        return self.chromium.call(method, self.session, seconds, **params)

    def prepare(self) -> None:
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    # --- what the page does

    def take(self, method: str, params: Json) -> None:
        """An event; by the reader's thread."""
        if method == "Network.requestWillBeSent":
            self._add(params["requestId"], params["request"]["method"], params["request"]["url"])
        elif method == "Network.webSocketCreated":
            self._add(params["requestId"], "WS", params["url"])
        elif method == "Network.webSocketFrameSent":
            self.frames += params["response"]["opcode"] in (1, 2)
        elif method == "Network.responseReceived" and params["requestId"] in self._by_id:
            self._by_id[params["requestId"]].status = params["response"]["status"]
        elif method == "Network.loadingFailed" and params["requestId"] in self._by_id:
            self._by_id[params["requestId"]].failure = params["errorText"]
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            thrown = details.get("exception", {}).get("description")
            self.errors.append(thrown or details.get("text") or "exception")
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(" ".join(_said(argument) for argument in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            entry = params["entry"]
            self.errors.append(f"{entry['text']} {entry.get('url', '')}".strip())
        elif method == "Page.javascriptDialogOpening":
            # What asks whether the page may be left is no news.
            if params["type"] != "beforeunload":
                self.dialogs.append(params["message"])
            self.chromium.send("Page.handleJavaScriptDialog", self.session, accept=True)

    def _add(self, key: str, method: str, url: str) -> None:
        if urlsplit(url).scheme in ("http", "https", "ws", "wss"):
            self._by_id[key] = request = Request(time.monotonic(), method, url)
            self.requests.append(request)

    def since(self, mark: int) -> list[Request]:
        """Requests after the first `mark` ones."""
        return self.requests[mark:]

    # --- what its person does

    def open(self, url: str, seconds: float = 60) -> Tab:
        self.call("Page.navigate", seconds, url=url)
        self.wait(f"{url} to be loaded", "document.readyState === 'complete'", seconds=seconds)
        return self

    def js(self, expression: str, seconds: float = 60) -> Any:
        """The value of an expression, or of what a promise brings."""
        how = {"returnByValue": True, "awaitPromise": True}
        answer = self.call("Runtime.evaluate", seconds, expression=expression, **how)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, what: str, expression: str, seconds: float = 60) -> Any:
        """The first true value. A page that is just being replaced has none."""

        def value() -> Any:
            with contextlib.suppress(AssertionError):
                return self.js(f"(v => v instanceof Node || v)({expression})")
            return None

        try:
            return wait_for(what, value, seconds=seconds, pause=0.1, unless=self.chromium.why_dead)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.state()}") from None

    def click(self, selector: str) -> None:
        """In the middle of what is shown of the first such element."""
        where = self.wait(
            f"{selector} to be shown",
            f"(e => {{ e.scrollIntoView({{block: 'nearest'}}); const r = e.getBoundingClientRect();"
            " return r.width && [r.x + r.width / 2, r.y + r.height / 2] })"
            f"(document.querySelector({json.dumps(selector)}))",
        )
        self.click_at(*where)

    def click_at(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def press(self, key: str, code: int, modifiers: int = 0) -> None:
        """A key by its name and Windows' number; 2: with control, 8: with shift."""
        pressed = {"key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, **pressed)

    def close(self) -> None:
        self.chromium.call("Target.closeTarget", targetId=self.target)
        self.chromium._tabs.pop(self.session, None)

    # --- for people who look why a test failed

    def shoot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def state(self) -> str:
        shown = ""
        with contextlib.suppress(AssertionError):
            shown = self.js("location.href + '\\n' + document.body.innerText.slice(0, 1500)", 5)
        last = [f"{r.method} {r.url} {r.status} {r.failure}" for r in self.requests[-15:]]
        return "\n".join([f"the page: {shown}", *last, *self.errors[-10:], *self.dialogs])


def _said(argument: Json) -> str:
    return str(argument.get("value") or argument.get("description") or argument.get("type"))


# --- the Hub --------------------------------------------------------------------------------------


def log_in(tab: Tab, url: str, user: str, password: str = PASSWORD) -> None:
    """By the Hub's own form."""
    tab.open(f"{url}/hub/login")
    tab.wait("the form", "document.querySelector('#username_input')")
    for name, value in (("username_input", user), ("password_input", password)):
        tab.js(f"document.getElementById('{name}').focus()")
        tab.type(value)
    tab.js("document.querySelector('form[action*=login]').submit()")
    tab.wait("the Hub's next page", "!location.pathname.endsWith('/hub/login')")


# JupyterLab as tools/setup unpacked it, for hubkit.Stack's hub_extra: beside nbclassic, and only
# where a test asks for it.
LAB_FILES = "/opt/jupyterlab"
LAB_SERVER = f"""
c.Spawner.environment.update(
    PYTHONPATH="{LAB_FILES}/usr/lib/python3/dist-packages",
    JUPYTERLAB_DIR="{LAB_FILES}/usr/share/jupyter/lab",
    JUPYTER_PATH="{LAB_FILES}/usr/share/jupyter",
    JUPYTER_CONFIG_PATH="{LAB_FILES}/etc/jupyter",
)
"""

# --- Jupyter's pages ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Page:
    """How a kind of page is opened, used and judged, whichever application it is of."""

    name: str
    path: str  # below the server's base; {notebook}: a notebook's path
    ready: str  # JavaScript: true once it can be used
    dialog: str  # selector of its own dialogs
    cell: str = ""  # selector of where code is typed
    output: str = ""  # ... and of what comes out
    saved: str = ""  # JavaScript: true when there is nothing to save


CLASSIC_DIALOG = ".modal.in"
LAB_DIALOG = ".jp-Dialog"

TREE = Page("tree", "tree", "document.querySelectorAll('#notebook_list .list_item').length",
            CLASSIC_DIALOG)  # fmt: skip
NOTEBOOK = Page(
    "notebook",
    "notebooks/{notebook}",
    "Jupyter.notebook.kernel.is_connected() && document.querySelector('.kernel_idle_icon')",
    CLASSIC_DIALOG,
    ".code_cell .CodeMirror-line",
    ".output_text pre",
    "!Jupyter.notebook.dirty",
)
LAB = Page(
    "lab",
    "lab/tree/{notebook}",
    # The status bar's: the toolbar's says "idle" before there is a kernel.
    "[...document.querySelectorAll('.jp-StatusBar-TextItem')]"
    ".some(item => / Idle$/.test(item.textContent))",
    LAB_DIALOG,
    ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell .cm-content",
    ".jp-OutputArea-output pre",
    "!document.querySelector('.jp-mod-dirty')",
)


def run_cell(tab: Tab, page: Page, code: str) -> str:
    """Types into the page's first cell, runs it, and has what it printed."""
    tab.click(page.cell)
    tab.type(code)
    tab.press("Enter", 13, modifiers=8)
    shown = f"document.querySelector({json.dumps(page.output)})"
    return tab.wait("the cell's output", f"{shown} && {shown}.textContent").strip()


def shown_dialogs(tab: Tab, page: Page) -> list[str]:
    """The page's own dialogs that are open now, and those of the browser so far."""
    query = f"[...document.querySelectorAll({json.dumps(page.dialog)})].map(e => e.innerText)"
    return [*tab.js(query), *tab.dialogs]


def save(tab: Tab, page: Page) -> None:
    """So that the page has no reason to save by itself."""
    tab.press("s", 83, modifiers=2)
    tab.wait(f"{page.name} to be saved", page.saved)


def new_notebook(api: Any, name: str) -> str:
    """One with an empty cell, made by Browser.api_json."""
    cell = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [],
            "source": ""}  # fmt: skip
    spec = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    content = {"cells": [cell], "metadata": {"kernelspec": spec}, "nbformat": 4,
               "nbformat_minor": 4}  # fmt: skip
    api("PUT", f"contents/{name}", json={"type": "notebook", "content": content})
    return name
