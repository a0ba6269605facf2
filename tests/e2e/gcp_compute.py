# SPDX-License-Identifier: Apache-2.0
"""A double of what elsad asks of Google: instanceGroupManagers and operations of the Compute API,
after its published reference, and the metadata service's token."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from s3kit import double

Json = dict[str, Any]
TOKEN_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"


def refusal(status: int, reason: str, message: str, grpc: str = "") -> tuple[int, Json]:
    return status, {"error": {"code": status, "message": message, "status": grpc,
                              "errors": [{"message": message, "domain": "global",
                                          "reason": reason}]}}  # fmt: skip


class Compute:
    """Groups by path "projects/P/zones/Z/instanceGroupManagers/NAME"."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.groups: dict[str, Json] = {}
        self.operations: dict[str, Json] = {}
        self.requests: dict[str, str] = {}  # requestId -> operation
        self.asked: list[str] = []  # "resize NAME 3", "delete NAME n-1"
        self.token = "t-1"
        self.tokens = 0  # handed out
        self.stockout: set[str] = set()  # groups whose zone is full
        self.over_quota: set[str] = set()  # ... whose operations fail
        self.fail_next: list[tuple[int, Json]] = []  # answers before any other
        self.number = 0

    def group(self, path: str) -> Json:
        return self.groups.setdefault(path, {"target": 0, "instances": {}})

    # --- the API

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        with self.lock:
            if request.path == TOKEN_PATH:
                return self.give_token(request)
            status, answer = self.authorized(request, body)
            return status, json.dumps(answer).encode()

    def give_token(self, request: BaseHTTPRequestHandler) -> tuple[int, bytes]:
        if request.headers.get("Metadata-Flavor") != "Google":
            return 403, b"no flavour"
        self.tokens += 1
        return 200, json.dumps({"access_token": self.token, "expires_in": 3599,
                                "token_type": "Bearer"}).encode()  # fmt: skip

    def authorized(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, Json]:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return refusal(401, "authError", "Invalid Credentials", "UNAUTHENTICATED")
        if self.fail_next:
            return self.fail_next.pop(0)
        url = urlsplit(request.path)
        if not url.path.startswith("/compute/v1/"):
            return refusal(404, "notFound", "no such API")
        query = {k: v[0] for k, v in parse_qs(url.query).items()}
        return self.call(request.command, url.path.removeprefix("/compute/v1/"), query, body)

    def call(self, method: str, path: str, query: Json, body: bytes) -> tuple[int, Json]:
        if match := re.fullmatch(r"projects/[^/]+/zones/[^/]+/operations/([^/]+)", path):
            return 200, self.finish(self.operations[match[1]])
        match = re.fullmatch(r"(projects/[^/]+/zones/[^/]+/instanceGroupManagers/[^/]+)(/\w+)?", path)
        if not match or match[1] not in self.groups:
            return refusal(404, "notFound", f"The resource '{path}' was not found")
        name, verb = match[1], (match[2] or "")[1:]
        group = self.groups[name]
        if method == "GET" and not verb:
            return 200, {"kind": "compute#instanceGroupManager", "name": name.rsplit("/", 1)[1],
                         "targetSize": group["target"], "status": {"isStable": True}}  # fmt: skip
        if method != "POST":
            return refusal(405, "httpMethodNotAllowed", "no")
        if verb == "listManagedInstances":
            return 200, self.list(name, group)
        if verb == "resize":
            return self.resize(name, group, query)
        if verb == "deleteInstances":
            return self.delete(name, group, json.loads(body))
        return refusal(404, "notFound", verb)

    def list(self, name: str, group: Json) -> Json:
        zone = name.split("/instanceGroupManagers/")[0]
        items = []
        for instance, what in group["instances"].items():
            item = {"instance": f"https://www.googleapis.com/compute/v1/{zone}/instances/{instance}",
                    "currentAction": "NONE", "instanceStatus": "RUNNING", "id": what["id"]}
            if name in self.stockout and not what["made"]:
                item |= {"currentAction": "CREATING", "lastAttempt": {"errors": {"errors": [
                    {"code": "ZONE_RESOURCE_POOL_EXHAUSTED",
                     "message": "The zone does not have enough resources available."}]}}}  # fmt: skip
                del item["instanceStatus"], item["id"]
            else:
                what["made"] = True
            items.append(item)
        return {"managedInstances": items}

    def operation(self, scope: str, request_id: str | None, error: Json | None = None) -> Json:
        op = {"kind": "compute#operation", "name": f"operation-{uuid.uuid4()}", "status": "RUNNING",
              "selfLink": scope, "then": error}  # fmt: skip
        self.operations[op["name"]] = op
        if request_id:
            self.requests[request_id] = op["name"]
        return {k: v for k, v in op.items() if k != "then"}

    def finish(self, op: Json) -> Json:
        op["status"] = "DONE"
        if op["then"]:
            op["error"] = {"errors": [op["then"]]}
        return {k: v for k, v in op.items() if k != "then"}

    def resize(self, name: str, group: Json, query: Json) -> tuple[int, Json]:
        request_id = query.get("requestId")
        if request_id:
            uuid.UUID(request_id)
            if request_id in self.requests:
                return 200, self.finish(self.operations[self.requests[request_id]])
        size = int(query["size"])
        self.asked.append(f"resize {name.rsplit('/', 1)[1]} {size}")
        if name in self.over_quota:
            return 200, self.operation(name, request_id, {"code": "QUOTA_EXCEEDED",
                                                          "message": "Quota 'CPUS' exceeded."})
        assert size >= len(group["instances"]), "this would end instances of the group's choice"
        group["target"] = size
        while len(group["instances"]) < size:
            self.number += 1
            group["instances"][f"n-{self.number}"] = {"id": str(10**18 + self.number), "made": False}
        return 200, self.operation(name, request_id)

    def delete(self, name: str, group: Json, body: Json) -> tuple[int, Json]:
        zone = name.split("/instanceGroupManagers/")[0]
        for url in body["instances"]:
            assert url.startswith(f"{zone}/instances/"), url
            instance = url.rsplit("/", 1)[1]
            self.asked.append(f"delete {name.rsplit('/', 1)[1]} {instance}")
            if group["instances"].pop(instance, None):
                group["target"] -= 1
            elif not body.get("skipInstancesOnValidationError"):
                return refusal(400, "invalid", f"{url} is no member")
        return 200, self.operation(name, None)


@contextlib.contextmanager
def compute() -> Iterator[tuple[Compute, int]]:
    """The double and its port, for the API and for metadata."""
    world = Compute()
    with double(world.answer) as port:
        yield world, port
