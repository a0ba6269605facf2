# SPDX-License-Identifier: Apache-2.0
"""A notice for a node of clusterkit's, and what that one says of the evacuation which follows."""

from __future__ import annotations

import contextlib
import json
import time

from basekit import Json, wait_for
from clusterkit import ClusterNode
from nodekit import Refused

NOTICED: dict[str, float] = {}  # milliseconds; by node, the last one


def notice(node: ClusterNode, seconds: float) -> None:
    NOTICED[node.name] = time.time() * 1000
    temporary = node.notice_file.with_suffix(".new")
    temporary.write_text(json.dumps({"kind": "evict", "in": f"{seconds}s"}))
    temporary.rename(node.notice_file)


def evacuation(node: ClusterNode) -> Json:
    """Of the last notice."""
    with contextlib.suppress(Refused, OSError):
        found = node.get("/v1/evacuation")
        if found["begun_at"] >= int(NOTICED[node.name]):
            return found
    return {"sessions": []}


def evacuee(node: ClusterNode, session: str) -> Json:
    return next((s for s in evacuation(node)["sessions"] if s["session"] == session), {"state": None})


def over(node: ClusterNode, seconds: float = 90) -> Json:
    return wait_for("the evacuation to end", lambda: (e := evacuation(node)).get("ended_at") and e, seconds=seconds)
