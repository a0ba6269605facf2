# SPDX-License-Identifier: Apache-2.0
"""A person's browser: login form, spawn page, OAuth, cookies and XSRF tokens, kernels over REST and
websocket, terminals."""

from __future__ import annotations

import contextlib
import html
import json
import re
import time
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import requests
import websocket

from basekit import PASSWORD, Json, wait_for


class SpawnFailed(AssertionError):
    """The spawn page said that the server could not be started; `message` is what it showed."""

    def __init__(self, message: str):
        super().__init__(message)
        self.message = message


class Browser:
    """One user's browser: cookies, forms, redirects. Everything goes through the proxy."""

    def __init__(self, url: str, user: str, password: str = PASSWORD, server: str = ""):
        self.url, self.user, self.password, self.server = url, user, password, server
        self.http = requests.Session()
        self.progress: list[Json] = []

    @property
    def base(self) -> str:
        """Of the user's server."""
        name = quote(self.server, safe="@~") + "/" if self.server else ""
        return f"{self.url}/user/{quote(self.user, safe='@~')}/{name}"

    @property
    def spawn_url(self) -> str:
        name = "/" + quote(self.server, safe="@~") if self.server else ""
        return f"{self.url}/hub/spawn/{quote(self.user, safe='@~')}{name}"

    def for_server(self, server: str) -> Browser:
        """Another tab of the same browser, at another of the user's servers."""
        other = Browser(self.url, self.user, self.password, server)
        other.http = self.http
        return other

    def get(self, url: str, **kwargs) -> requests.Response:
        kwargs.setdefault("timeout", 120)
        return self.http.get(urljoin(self.url, url), **kwargs)

    # --- Hub pages

    def log_in(self) -> Browser:
        answer = self._submit_login()
        # The Hub signs the first page's cookie and form one after the other, with the second in both:
        # they differ when that changes in between. The next page's form takes the cookie as it is.
        if answer.status_code == 403 and "XSRF" in answer.text:
            answer = self._submit_login()
        assert answer.status_code == 200 and "/hub/home" in answer.url, (
            f"no login: {answer.status_code} {answer.url}: {_text(answer.text)}")
        return self

    def _submit_login(self) -> requests.Response:
        form = {"username": self.user, "password": self.password,
                "_xsrf": _hidden(self.get("/hub/login").text, "_xsrf")}  # fmt: skip
        return self.http.post(f"{self.url}/hub/login?next=%2Fhub%2Fhome", data=form, timeout=60)

    def log_out(self) -> None:
        self.get("/hub/logout")
        self.http.cookies.clear()

    def start_server(self, seconds: float = 180) -> float:
        """Opens the spawn page and follows it to the running server; seconds until it was there."""
        began = time.monotonic()
        return self._follow_spawn(self._spawn_page(seconds), began, seconds)

    def _spawn_page(self, seconds: float) -> requests.Response:
        """As soon as the Hub has a choice or progress to show: while it still waits for the end of a
        stop it asks people to refresh the page."""

        def page() -> requests.Response | None:
            page = self.get(self.spawn_url)
            return None if "server is stopping" in page.text else page

        return wait_for("the Hub to be done with stopping", page, seconds=seconds)

    def submit_choice(self, page: requests.Response, *, fresh: bool, seconds: float = 180) -> float:
        """Answers the question that the spawn page asks after a failure."""
        began = time.monotonic()
        values = re.findall(r'<input type="radio" name="elsa_fresh" value="(\d*)"', page.text)
        assert len(values) == 2, f"the page does not ask:\n{page.text}"
        chosen = next(value for value in values if bool(value) == fresh)
        return self._follow_spawn(self._submit(page, elsa_fresh=chosen), began, seconds)

    def start_with_size(self, size: str, seconds: float = 180) -> str:
        """Chooses a size on the spawn page and follows it; the page."""
        page = self._spawn_page(seconds)
        assert 'name="elsa_size"' in page.text, f"the page does not ask:\n{_text(page.text)}"
        self._follow_spawn(self._submit(page, elsa_size=size), time.monotonic(), seconds)
        return page.text

    def _submit(self, page: requests.Response, **fields: str) -> requests.Response:
        """As a browser sends a form with enctype multipart/form-data."""
        action = _first(r'<form[^>]*action="([^"]+)"', page.text)
        return self.http.post(
            urljoin(self.url, html.unescape(action)),
            files={name: (None, value) for name, value in fields.items()},
            timeout=60,
        )

    def _follow_spawn(self, page: requests.Response, began: float, seconds: float) -> float:
        assert "elsa_fresh" not in page.text, "the spawn page asks what to do"
        deadline = began + seconds
        while "EventSource(" in page.text:
            self._watch(page, deadline)
            page = self.get(page.url)
        if "failed" in page.text and page.status_code >= 500:
            raise SpawnFailed(_text(page.text))
        assert page.status_code < 400, f"{page.status_code} at {page.url}: {_text(page.text)}"
        self.open_server()
        return time.monotonic() - began

    def _watch(self, page: requests.Response, deadline: float) -> None:
        """The event stream of the "starting up" page, to its end."""
        address = _first(r'EventSource\("([^"]+)"\)', page.text)
        with self.get(html.unescape(address), stream=True) as stream:
            if stream.status_code == 400:  # it just ended: the page itself knows more
                return
            stream.raise_for_status()
            for line in stream.iter_lines(decode_unicode=True):
                assert time.monotonic() < deadline, "the server does not come up"
                if not line or not line.startswith("data:"):
                    continue
                event = json.loads(line.removeprefix("data:"))
                self.progress.append(event)
                if event.get("failed"):
                    shown = event.get("html_message") or event.get("message") or ""
                    raise SpawnFailed(_text(shown))
                if event.get("ready"):
                    return

    # --- the user's server

    def open_server(self) -> requests.Response:
        """The first page of the server, with all of OAuth's redirects on the way."""
        page = self.get(self.base)
        if page.status_code >= 400 or not page.url.startswith(self.base):
            raise AssertionError(f"{page.status_code} at {page.url}: {_text(page.text)[:500]}")
        return page

    @property
    def xsrf(self) -> str:
        path = urlsplit(self.base).path
        for cookie in self.http.cookies:
            if cookie.name == "_xsrf" and cookie.path == path:
                return cookie.value or ""
        return ""

    def api(self, method: str, path: str, **kwargs) -> requests.Response:
        """The server's REST API with the browser's cookies."""
        kwargs.setdefault("timeout", 60)
        return self.http.request(
            method, f"{self.base}api/{path}", headers={"X-XSRFToken": self.xsrf}, **kwargs
        )

    def api_json(self, method: str, path: str, **kwargs) -> Any:
        answer = self.api(method, path, **kwargs)
        what = f"{method} {path}: {answer.status_code} {answer.text[:300]}"
        assert answer.status_code < 400, what
        return answer.json() if answer.content else None

    def new_kernel(self) -> Kernel:
        model = self.api_json("POST", "kernels", json={"name": "python3"})
        return Kernel(self, model["id"])

    def open_terminal(self, name: str = "") -> Terminal:
        return Terminal(self, name or self.api_json("POST", "terminals")["name"])

    def websocket(self, path: str) -> websocket.WebSocket:
        cookies = requests.Request("GET", f"{self.base}{path}", cookies=self.http.cookies)
        prepared = self.http.prepare_request(cookies)
        separator = "&" if "?" in path else "?"
        return websocket.create_connection(
            f"{self.base}{path}{separator}_xsrf={quote(self.xsrf)}".replace("http", "ws", 1),
            cookie=prepared.headers.get("Cookie"),
            origin=self.url,
            timeout=60,
        )


@dataclass
class Result:
    output: str = ""
    value: str = ""
    error: str = ""
    first_answer_s: float = 0.0


class Kernel:
    """A kernel over its websocket, as a notebook uses it."""

    def __init__(self, browser: Browser, kernel_id: str):
        self.browser, self.id = browser, kernel_id
        self.session_id = uuid.uuid4().hex
        self._socket: websocket.WebSocket | None = None

    def connect(self) -> Kernel:
        self.close()
        self._socket = self.browser.websocket(
            f"api/kernels/{self.id}/channels?session_id={self.session_id}"
        )
        return self

    def close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(Exception):
                self._socket.close()
            self._socket = None

    def run(self, code: str, seconds: float = 120) -> Result:
        """Executes a cell; its error is an error of the caller."""
        result = self.execute(code, seconds)
        assert not result.error, result.error
        return result

    def value(self, code: str, seconds: float = 120) -> Any:
        """Of a cell that prints JSON."""
        return json.loads(self.run(code, seconds).output)

    def send(self, code: str) -> str:
        """Starts a cell; the id of its request."""
        if self._socket is None:
            self.connect()
        message = _execute_request(self.session_id, code)
        assert self._socket is not None
        self._socket.send(json.dumps(message))
        return message["header"]["msg_id"]

    def execute(self, code: str, seconds: float = 120) -> Result:
        began = time.monotonic()
        return self.collect(self.send(code), began, seconds)

    def collect(self, request: str, began: float, seconds: float = 120) -> Result:
        result = Result()
        deadline = began + seconds
        replied = idle = False
        while not (replied and idle):
            assert time.monotonic() < deadline, f"no end of the cell: {result}"
            message = self._receive(max(0.1, deadline - time.monotonic()))
            if message.get("parent_header", {}).get("msg_id") != request:
                continue
            result.first_answer_s = result.first_answer_s or time.monotonic() - began
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                result.output += content["text"]
            elif kind == "execute_result":
                result.value = content["data"].get("text/plain", "")
            elif kind == "error":
                result.error = "\n".join(content["traceback"])
            elif kind == "execute_reply":
                replied = True
            elif kind == "status" and content["execution_state"] == "idle":
                idle = True
        return result

    def heed_pings(self, count: int, seconds: float = 120) -> None:
        """Until so many of the server's have come, and were answered; what else comes is passed over."""
        assert self._socket is not None
        deadline = time.monotonic() + seconds
        while count > 0:
            self._socket.settimeout(max(0.1, deadline - time.monotonic()))
            opcode, _ = self._socket.recv_data_frame(control_frame=True)
            assert opcode != websocket.ABNF.OPCODE_CLOSE, "the server has closed it"
            count -= opcode == websocket.ABNF.OPCODE_PING

    def _receive(self, seconds: float) -> Json:
        assert self._socket is not None
        self._socket.settimeout(seconds)
        return json.loads(self._socket.recv())


class Terminal:
    """A terminal over its websocket."""

    def __init__(self, browser: Browser, name: str):
        self.browser, self.name = browser, name
        self._socket = browser.websocket(f"terminals/websocket/{name}")

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._socket.close()

    def run(self, command: str, seconds: float = 30) -> str:
        """What a command line prints, between two marks that the shell itself puts together."""
        mark = uuid.uuid4().hex[:12]
        head, tail = mark[:6], mark[6:]
        line = f"echo {head}''{tail}:; {command}; echo :{head}''{tail}\r"
        self._socket.send(json.dumps(["stdin", line]))
        seen = ""
        deadline = time.monotonic() + seconds
        while f":{mark}" not in seen:
            assert time.monotonic() < deadline, f"no end of {command!r}: {seen!r}"
            self._socket.settimeout(max(0.1, deadline - time.monotonic()))
            kind, *rest = json.loads(self._socket.recv())
            if kind == "stdout":
                seen += rest[0]
        return seen.split(f"{mark}:")[-1].split(f":{mark}")[0].strip()


def _execute_request(session_id: str, code: str) -> Json:
    return {
        "header": {
            "msg_id": uuid.uuid4().hex,
            "msg_type": "execute_request",
            "username": "",
            "session": session_id,
            "date": "",
            "version": "5.3",
        },
        "parent_header": {},
        "metadata": {},
        "channel": "shell",
        "content": {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
        },
    }


def _first(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, f"no {pattern} in:\n{text}"
    return match.group(1)


def _hidden(page: str, name: str) -> str:
    return html.unescape(_first(rf'name="{name}"\s+value="([^"]*)"', page))


def _text(page: str) -> str:
    page = re.sub(r"<(script|style|head)\b.*?</\1>", " ", page, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
