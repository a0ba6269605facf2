# SPDX-License-Identifier: Apache-2.0
"""An HTTP client of elsad: requests, its errors, and patience while it is away."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp

T = TypeVar("T")
Json = dict[str, Any]

# How long elsad may keep a question that waits for news, and how long an answer may take on top.
WAIT_S = 20
ANSWER_S = 15

# A fault of our own, besides elsad's (base/error.c).
SUPERSEDED = "superseded"


class ElsaError(Exception):
    """elsad's answer is no: what happened and what to do about it."""

    def __init__(self, fault: str, text: str, remedy: str = "", log_tail: str = ""):
        super().__init__(text)
        self.fault = fault
        self.text = text
        self.remedy = remedy
        self.log_tail = log_tail

    @classmethod
    def from_json(cls, error: Json) -> ElsaError:
        return cls(
            str(error.get("fault") or "internal"),
            str(error.get("text") or "no reason was given"),
            str(error.get("remedy") or ""),
            str(error.get("log_tail") or ""),
        )


class ElsaAway(Exception):
    """No answer that means anything: elsad is down, restarting or overloaded. Ask again later."""


class Client:
    """Talks to one elsad.

    Every request makes its own connection: elsad may restart between any two of them, and a kept
    connection would only turn that into errors.
    """

    def __init__(self, url: str, token_file: str = ""):
        self._base, self._socket = _split_url(url)
        self._token_file = token_file

    async def get(self, path: str, *, seconds: float = ANSWER_S, **query: Any) -> Json:
        return await self._ask("GET", path, seconds, params=_query(query))

    async def post(self, path: str, body: Json, *, seconds: float = ANSWER_S) -> Json:
        return await self._ask("POST", path, seconds, json=body)

    async def session(self, user: str, server: str, *, seconds: float = ANSWER_S) -> Json | None:
        """What elsad knows of a session; None if it never heard of it."""
        try:
            return await self.get("/v1/session", seconds=seconds, user=user, server=server)
        except ElsaError as error:
            if error.fault == "not-found":
                return None
            raise

    async def _ask(self, method: str, path: str, seconds: float, **kwargs: Any) -> Json:
        timeout = aiohttp.ClientTimeout(total=seconds, connect=5)
        try:
            async with aiohttp.ClientSession(
                connector=self._connector(), timeout=timeout, headers=self._headers()
            ) as http:
                async with http.request(
                    method, self._base + path, allow_redirects=False, **kwargs
                ) as response:
                    return _read_answer(response.status, await response.read())
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise ElsaAway(f"elsad does not answer: {error or type(error).__name__}") from error

    def _connector(self) -> aiohttp.BaseConnector:
        if self._socket:
            return aiohttp.UnixConnector(self._socket)
        return aiohttp.TCPConnector()

    def _headers(self) -> dict[str, str]:
        if not self._token_file:
            return {}
        # Read each time: the file may be replaced while the Hub runs.
        try:
            token = Path(self._token_file).read_text().strip()
        except OSError as error:
            raise ElsaError(
                "denied",
                f"cannot read elsad's token: {error}",
                "check ElsaSpawner.token_file and who may read it",
            ) from error
        return {"Authorization": f"Bearer {token}"}


def _split_url(url: str) -> tuple[str, str]:
    """Base URL and unix socket (or "")."""
    if url.startswith("unix:"):
        path = url.removeprefix("unix:")
        return "http://elsad", "/" + path.lstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"not an address of elsad: {url!r} (unix:/PATH or http://HOST:PORT)")
    return url.rstrip("/"), ""


def _query(query: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in query.items()}


def _read_answer(status: int, body: bytes) -> Json:
    try:
        answer = json.loads(body or b"{}")
    except ValueError as error:
        raise ElsaAway(f"elsad answered {status} with something that is not JSON") from error
    if not isinstance(answer, dict):
        raise ElsaAway(f"elsad answered {status} with something unexpected")
    if status < 400:
        return answer
    error = answer.get("error")
    if status in (429, 503) or not isinstance(error, dict):
        text = error.get("text") if isinstance(error, dict) else None
        raise ElsaAway(f"elsad answered {status}: {text or 'no reason given'}")
    raise ElsaError.from_json(error)


async def patiently(
    call: Callable[[], Awaitable[T]],
    *,
    seconds: float | None = None,
    on_wait: Callable[[ElsaAway], None] | None = None,
) -> T:
    """Repeats `call` while elsad is away, for at most `seconds` (None: until cancelled).

    Only for calls that may be repeated; all of elsad's are, since asking twice joins what the
    first one began.
    """
    loop = asyncio.get_running_loop()
    deadline = None if seconds is None else loop.time() + seconds
    pause = 0.1
    while True:
        try:
            return await call()
        except ElsaAway as away:
            if deadline is not None and loop.time() + pause > deadline:
                raise
            if on_wait:
                on_wait(away)
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))
        pause = min(2 * pause, 3.0)


async def follow(
    client: Client,
    operation: Json,
    *,
    seconds: float | None = None,
    on_change: Callable[[Json], None] | None = None,
    on_wait: Callable[[ElsaAway], None] | None = None,
) -> Json:
    """Waits for the end of an operation, through restarts of elsad. Returns it, done.

    Raises ElsaError when it failed, with fault SUPERSEDED when another operation took its place:
    then only the session itself tells what came of it.
    """

    async def ask() -> Json:
        try:
            return await client.get(
                "/v1/operation", id=operation["id"], wait=WAIT_S, seconds=WAIT_S + ANSWER_S
            )
        except ElsaError as error:
            if error.fault != "not-found":
                raise
            raise ElsaError(SUPERSEDED, "another operation took its place") from error

    while operation.get("state") == "running":
        if on_change:
            on_change(operation)
        operation = await patiently(ask, seconds=seconds, on_wait=on_wait)
        # News can come in quick succession; nobody reads faster than this.
        await asyncio.sleep(0.05)
    if operation.get("superseded"):
        raise ElsaError(SUPERSEDED, "another operation took its place")
    if operation.get("state") == "failed":
        raise ElsaError.from_json(operation.get("error") or {})
    return operation
