# SPDX-License-Identifier: Apache-2.0
"""A Jupyter server as a client sees it: REST and the kernel's websocket, from any network namespace.

The benchmarks speak to ours and to podman's session with this same code, so that the client's own
time is the same on both sides.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
import uuid

import websocket  # python3-websocket


def connect(address: str, port: int, netns: str | None, timeout: float) -> socket.socket:
    """A TCP connection made from within `netns` (a path), or from here.

    A network namespace belongs to a thread, so the socket is made in a thread of its own.
    """
    if netns is None:
        return socket.create_connection((address, port), timeout)
    made: list[socket.socket | OSError] = []

    def make() -> None:
        fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.setns(fd, os.CLONE_NEWNET)
            made.append(socket.create_connection((address, port), timeout))
        except OSError as error:
            made.append(error)
        finally:
            os.close(fd)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]


class Server:
    """One Jupyter server and, once started, one kernel on it."""

    def __init__(self, address: str, port: int, token: str, base: str = "/",
                 netns: str | None = None):
        self.address, self.port, self.token, self.base = address, port, token, base
        self.netns = netns
        self.kernel = ""
        self.session = uuid.uuid4().hex

    def request(self, method: str, path: str, body: object = None, timeout: float = 30) -> object:
        connection = http.client.HTTPConnection(self.address, self.port, timeout=timeout)
        connection.sock = connect(self.address, self.port, self.netns, timeout)
        try:
            connection.request(method, self.base + path,
                               json.dumps(body) if body is not None else None,
                               {"Authorization": f"token {self.token}"})
            reply = connection.getresponse()
            data = reply.read()
            if reply.status >= 400:
                raise OSError(f"{method} {path}: {reply.status} {data[:200]!r}")
            return json.loads(data) if data else None
        finally:
            connection.close()

    def wait_answer(self, timeout: float = 120) -> None:
        """Until the server answers; tries again every 2 ms, so that the time can be measured."""
        end = time.monotonic() + timeout
        while True:
            try:
                self.request("GET", "api", timeout=5)
                return
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.002)

    def start_kernel(self) -> None:
        self.kernel = self.request("POST", "api/kernels", {"name": "python3"}, 60)["id"]

    def execute(self, code: str, timeout: float = 300) -> str:
        """Runs a cell over a fresh websocket; what it printed, or OSError with its traceback. A server whose
        kernel is gone goes on sending pings, so the end after `timeout` is for all of it."""
        ws = websocket.WebSocket()
        ws.settimeout(timeout)
        path = f"{self.base}api/kernels/{self.kernel}/channels?session_id={self.session}"
        ws.connect(f"ws://{self.address}:{self.port}{path}",
                   socket=connect(self.address, self.port, self.netns, timeout),
                   header=[f"Authorization: token {self.token}"])
        end = threading.Timer(timeout, ws.sock.shutdown, [socket.SHUT_RDWR])
        end.daemon = True
        end.start()
        try:
            return self._run_cell(ws, code)
        finally:
            end.cancel()
            ws.close()

    def _run_cell(self, ws: websocket.WebSocket, code: str) -> str:
        cell = uuid.uuid4().hex
        ws.send(json.dumps({
            "header": {"msg_id": cell, "msg_type": "execute_request", "username": "", "version":
                       "5.3", "session": self.session, "date": ""},
            "parent_header": {}, "metadata": {}, "channel": "shell", "buffers": [],
            "content": {"code": code, "silent": False, "store_history": False,
                        "user_expressions": {}, "allow_stdin": False, "stop_on_error": True}}))
        printed: list[str] = []
        replied = idle = False
        while not (replied and idle):
            message = json.loads(ws.recv())
            if message.get("parent_header", {}).get("msg_id") != cell:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                printed.append(content["text"])
            elif kind == "error":
                raise OSError("\n".join(content["traceback"]))
            replied = replied or kind == "execute_reply"
            idle = idle or (kind == "status" and content["execution_state"] == "idle")
        return "".join(printed)
