# SPDX-License-Identifier: Apache-2.0
"""Server extension of a session: when did its user last do something?

Jupyter's own `last_activity` counts the polls of a forgotten browser tab. This one counts what an
open tab does not do by itself: requests that change something, and websocket frames with data.
Elsa asks for it at `api/elsa/activity`; without the extension it makes do with less.

Nothing here counts as activity, and nothing here may ever break the server it is loaded into.
"""

from __future__ import annotations

import json
import time
from typing import Any

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web
from tornado.web import OutputTransform
from tornado.websocket import WebSocketProtocol13

MUTATING = {"POST", "PUT", "PATCH", "DELETE"}
TEXT_FRAME, BINARY_FRAME = 0x1, 0x2


class Activity:
    """Wall clock times in milliseconds; 0: not since the session was first started."""

    def __init__(self) -> None:
        self.last_request_ms = 0
        self.last_data_ms = 0

    def as_json(self) -> dict[str, int]:
        return {"last_request_ms": self.last_request_ms, "last_data_ms": self.last_data_ms}


activity = Activity()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class CountRequests(OutputTransform):
    """Sees every answer with its request. Refused requests do not count: they can come from
    anybody."""

    def __init__(self, request: Any) -> None:
        self._mutating = request.method in MUTATING

    def transform_first_chunk(self, status_code, headers, chunk, finishing):
        if self._mutating and status_code < 400:
            activity.last_request_ms = now_ms()
        return status_code, headers, chunk


def count_frames(protocol: type = WebSocketProtocol13) -> bool:
    """Counts data frames that browsers send. There is no public place to see all of them, so this
    wraps an internal method, and does without if it is not there."""
    original = getattr(protocol, "_handle_message", None)
    if original is None:
        return False
    if getattr(original, "counts_for_elsa", False):
        return True

    def _handle_message(self, opcode, data):
        if opcode in (TEXT_FRAME, BINARY_FRAME):
            activity.last_data_ms = now_ms()
        return original(self, opcode, data)

    _handle_message.counts_for_elsa = True
    protocol._handle_message = _handle_message
    return True


class ActivityHandler(APIHandler):
    """GET api/elsa/activity"""

    _track_activity = False

    @web.authenticated
    def get(self) -> None:
        self.finish(json.dumps(activity.as_json()))


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "elsa_spawner.session"}]


def _load_jupyter_server_extension(serverapp: Any) -> None:
    app = serverapp.web_app
    app.add_transform(CountRequests)
    if not count_frames():
        serverapp.log.warning("elsa: websocket frames cannot be counted with this tornado")
    path = url_path_join(app.settings["base_url"], "api/elsa/activity")
    app.add_handlers(".*$", [(path, ActivityHandler)])
