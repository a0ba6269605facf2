# SPDX-License-Identifier: Apache-2.0
"""The spawner alone with the real Hub, the real proxy and a stand-in for elsad."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1] / "tests/e2e")]

from elsad_double import Double  # noqa: E402
from browser import Browser  # noqa: E402
from hubkit import Stack  # noqa: E402


@pytest.fixture
def double() -> Iterator[Double]:
    with Double() as double:
        yield double


# Scopes that the tests look for on the server's OAuth client after a restore.
HUB_EXTRA = """
c.Spawner.oauth_client_allowed_scopes = ["read:users:name!user"]
c.JupyterHub.load_roles[0]["scopes"].append("admin:users")

def hasty(spawner):
    if (pathlib.Path(settings["dir"]) / "hasty").exists():
        spawner.start_timeout, spawner.http_timeout = 4, 2

c.Spawner.pre_spawn_hook = hasty
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Stack, Double]]:
    """One Hub for a file's tests; each uses users of its own."""
    with Double() as double:
        stack = Stack(elsa_url=double.url, hub_ip="127.0.0.1", hub_extra=HUB_EXTRA)
        with stack:
            yield stack, double


@pytest.fixture
def stack(shared, request) -> Iterator[Stack]:
    yield shared[0]
    report = getattr(request.node, "report_call", None)
    if report is not None and report.failed:
        print(shared[0].logs(), shared[1].log())


@pytest.fixture
def hasty(stack):
    """While this is entered, the Hub gives up starts soon."""

    @contextlib.contextmanager
    def hasty() -> Iterator[None]:
        flag = stack.dir / "hasty"
        flag.touch()
        try:
            yield
        finally:
            flag.unlink()

    return hasty


@pytest.fixture
def elsad(shared) -> Double:
    return shared[1]


@pytest.fixture
def browse(stack):
    """Makes browsers of logged-in users."""

    def browse(user: str, server: str = "") -> Browser:
        return Browser(stack.url, user, server=server).log_in()

    return browse


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call":
        item.report_call = outcome.get_result()
