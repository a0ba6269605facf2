# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the end-to-end tests; see hubkit.py (with the Hub) and nodekit.py (without)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from basekit import BUILD, PATIENCE  # noqa: E402
from browser import Browser  # noqa: E402
from hubkit import Stack  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    if not os.environ.get("ELSA_PLACE_ID"):
        raise pytest.UsageError("run these by 'make e2e', or below tools/enter: they make mounts, "
                                "namespaces and interfaces")  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if limit := item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(limit.args[0] * PATIENCE))


@pytest.fixture(scope="module")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A whole Elsa for one file. The file may have STACK, keywords for hubkit.Stack."""
    if not (BUILD / "elsad").exists():
        pytest.fail(f"there is no {BUILD}/elsad: run 'make build' first")
    with Stack(**getattr(request.module, "STACK", {})) as stack:
        yield stack


@pytest.fixture
def browse(stack: Stack):
    """Makes browsers of logged-in users."""

    def browse(user: str, server: str = "") -> Browser:
        return stack.browser(user, server).log_in()

    return browse


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """The logs of a stack go with the report of a failed test."""
    outcome = yield
    report = outcome.get_result()
    stack = getattr(item, "funcargs", {}).get("stack")
    if report.when == "call" and report.failed and isinstance(stack, Stack):
        report.sections.append(("the stack's logs", stack.logs()))
    bed = getattr(item, "funcargs", {}).get("bed")
    if report.when == "call" and report.failed and bed is not None:
        report.sections.append(("what became of the hosts", bed.story()))
