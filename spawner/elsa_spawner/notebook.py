# SPDX-License-Identifier: Apache-2.0
"""Server extension of a session: a small sign of its sleep in Notebook and Lab pages.

On when the spawner says so (`ElsaSpawner.sign`), which it does by naming the place at elsad where a
session may ask about itself: ELSA_SESSION_URL. Without that, nothing here has any effect.

Pages get it the way they get any extension, from files that are not built (`sign/`): Lab as a
prebuilt extension, nbclassic as an nbextension. Their questions are passed on to elsad with the
server's own token, which no page ever sees.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

SIGN = Path(__file__).parent / "sign"
WHERE = "ELSA_SESSION_URL"
TOKEN = "JUPYTERHUB_API_TOKEN"
ANSWER_S = 10


class SleepHandler(APIHandler):
    """GET api/elsa/sleep, POST api/elsa/sleep, POST api/elsa/keep-awake"""

    _track_activity = False

    def initialize(self, path: str) -> None:
        self._path = path

    @web.authenticated
    async def get(self) -> None:
        await self._pass_on("GET", None)

    @web.authenticated
    async def post(self) -> None:
        await self._pass_on("POST", json.dumps(self.get_json_body() or {}))

    async def _pass_on(self, method: str, body: str | None) -> None:
        request = HTTPRequest(
            url_path_join(os.environ[WHERE], self._path),
            method=method,
            body=body,
            headers={"Authorization": f"token {os.environ.get(TOKEN, '')}"},
            connect_timeout=ANSWER_S,
            request_timeout=ANSWER_S,
        )
        try:
            answer = await AsyncHTTPClient().fetch(request, raise_error=False)
        except (HTTPClientError, OSError) as error:
            answer = getattr(error, "response", None)
        if answer is None or answer.code == 599:
            self.set_status(503)
            self.finish(json.dumps({"error": {"text": "Elsa does not answer"}}))
            return
        self.set_status(answer.code)
        self.finish(answer.body)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "elsa_spawner.notebook"}]


def _link_jupyter_server_extension(serverapp: Any) -> None:
    """Before Lab and nbclassic are set up: where they look for extensions of their pages."""
    if not os.environ.get(WHERE):
        return
    serverapp.config.LabServerApp.extra_labextensions_path.append(str(SIGN))
    serverapp.config.NotebookApp.extra_nbextensions_path.append(str(SIGN))


def _load_jupyter_server_extension(serverapp: Any) -> None:
    if not os.environ.get(WHERE):
        return
    # Which nbextensions the classic pages load.
    configs = serverapp.config_manager
    configs.read_config_path = [*configs.read_config_path, str(SIGN / "nbconfig")]
    app = serverapp.web_app
    api = url_path_join(app.settings["base_url"], "api/elsa")
    app.add_handlers(
        ".*$",
        [
            (url_path_join(api, name), SleepHandler, {"path": name})
            for name in ("sleep", "keep-awake")
        ],
    )
