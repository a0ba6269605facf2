# SPDX-License-Identifier: Apache-2.0
"""Doubles of the clouds' metadata services. What they say is set by attributes of the object, or by
POST /_double with a JSON object of them when one runs as a program:

    python3 metadata.py aws --address 169.254.169.254 --port 80
"""

from __future__ import annotations

import argparse
import email.utils
import json
import secrets
import socket
import threading
import time
import urllib.parse
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from basekit import ManyAtOnce


def iso(at: float) -> str:
    """As AWS writes it; once made, it stays the same, however often it is asked for."""
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def mail_date(at: float) -> str:
    return email.utils.formatdate(at, usegmt=True)


class Double:
    """One service. Every answer is noted in `asked` as (method, path with query, status)."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        self.asked: list[tuple[str, str, int]] = []
        self.fail: list[int] = []  # statuses of the next answers
        self.override: dict[str, tuple[int, str]] = {}  # end of a path: what is answered instead
        self.drop = False  # connections are closed without an answer
        self.hang = False  # ... or kept without one
        self.retry_after: int | None = None
        self.changed = threading.Condition()
        self.server: Server | None = None
        self.address, self.port = address, port
        self.open()

    def open(self) -> None:
        self.server = Server((self.address, self.port), self)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """As if there were none: what is under way is cut off."""
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server.cut()
        self.server = None

    def __enter__(self) -> Double:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang = False
        self.set()
        self.close()

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    def set(self, **values: Any) -> None:
        with self.changed:
            for name, value in values.items():
                assert hasattr(self, name), name
                setattr(self, name, value)
            self.changed.notify_all()

    def count(self, end: str, status: int | None = None) -> int:
        """How often a path with this end was asked for (and answered so)."""
        return sum(1 for _, path, got in list(self.asked)
                   if path.split("?")[0].endswith(end) and status in (None, got))

    # --- for the services ---

    def answer(self, request: Handler) -> tuple[int, str, dict[str, str]]:
        raise NotImplementedError

    def handle(self, request: Handler) -> None:
        while self.hang:
            time.sleep(0.02)
        if self.drop:
            request.close_connection = True
            return
        path = request.path.split("?")[0]
        odd = next((v for k, v in self.override.items() if path.endswith(k)), None)
        if path == "/_double" and request.command == "POST":
            self.set(**json.loads(request.body()))
            status, text, headers = 200, "", {}
        elif self.fail:
            status, text, headers = self.fail.pop(0), "not now", {}
        elif odd:
            status, text, headers = odd[0], odd[1], self.headers()
        else:
            status, text, headers = self.answer(request)
        if self.retry_after and status in (429, 503):
            headers["Retry-After"] = str(self.retry_after)
        self.asked.append((request.command, request.path, status))
        request.reply(status, text, headers)

    def headers(self) -> dict[str, str]:
        return {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    double: Double

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def reply(self, status: int, text: str, headers: dict[str, str]) -> None:
        data = text.encode()
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            self.close_connection = True

    def serve(self) -> None:
        self.server.double.handle(self)  # type: ignore[attr-defined]

    do_GET = do_PUT = do_POST = serve

    def log_message(self, *_: object) -> None:
        pass


class Server(ManyAtOnce, ThreadingHTTPServer):
    def __init__(self, where: tuple[str, int], double: Double) -> None:
        self.double = double
        self.connections: list[socket.socket] = []
        super().__init__(where, Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.append(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # cut off

    def cut(self) -> None:
        for connection in self.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Aws(Double):
    """IMDSv2. `action`, `rebalance`: when, and `scheduled`, `lifecycle`: what; None: nothing."""

    def __init__(self, **where: Any) -> None:
        self.action: dict[str, str] | None = None
        self.rebalance: str | None = None
        self.scheduled: list[dict[str, str]] = []
        self.lifecycle: str | None = None
        self.instance, self.type = "i-0123456789abcdef0", "m7i.large"
        self.zone, self.life_cycle = "eu-west-1a", "spot"
        self.disabled = False  # HttpEndpoint=disabled
        self.hops = True  # False: answers with tokens do not arrive
        self.token_ttl = 21600  # most that is given
        self.tokens: dict[str, float] = {}
        super().__init__(**where)

    def evict(self, seconds: float, action: str = "terminate") -> float:
        at = int(time.time() + seconds)
        self.set(action={"action": action, "time": iso(at)})
        return at

    def forget_tokens(self) -> None:
        self.tokens.clear()

    def give_token(self, request: Handler) -> tuple[int, str, dict[str, str]]:
        ttl = request.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if self.disabled or request.headers.get("X-Forwarded-For"):
            return 403, "", {}
        if request.command != "PUT":
            return 405, "", {}
        if not ttl.isdigit() or not 1 <= int(ttl) <= 21600:
            return 400, "", {}
        while not self.hops:
            time.sleep(0.02)
        token, seconds = secrets.token_urlsafe(40) + "==", min(int(ttl), self.token_ttl)
        self.tokens[token] = time.monotonic() + seconds
        return 200, token, {"X-aws-ec2-metadata-token-ttl-seconds": str(seconds)}

    def answer(self, request: Handler) -> tuple[int, str, dict[str, str]]:
        if request.path == "/latest/api/token":
            return self.give_token(request)
        token = request.headers.get("X-aws-ec2-metadata-token", "")
        if self.disabled:
            return 403, "", {}
        if self.tokens.get(token, 0) < time.monotonic():
            return 401, "", {}
        rebalance = json.dumps({"noticeTime": self.rebalance}) if self.rebalance else None
        said = {
            "spot/instance-action": json.dumps(self.action) if self.action else None,
            "events/recommendations/rebalance": rebalance,
            "events/maintenance/scheduled": json.dumps(self.scheduled),
            "autoscaling/target-lifecycle-state": self.lifecycle,
            "instance-id": self.instance,
            "instance-type": self.type,
            "placement/availability-zone": self.zone,
            "instance-life-cycle": self.life_cycle,
        }.get(request.path.removeprefix("/latest/meta-data/"))
        return (404, "<html>Not Found</html>", {}) if said is None else (200, said, {})


class Gcp(Double):
    def __init__(self, **where: Any) -> None:
        self.preempted, self.maintenance = "FALSE", "NONE"
        self.id, self.type, self.zone = "4520031799277581759", "n2-standard-4", "europe-west4-a"
        self.preemptible: str | None = "TRUE"
        self.model: str | None = "SPOT"
        super().__init__(**where)

    def headers(self) -> dict[str, str]:
        return {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}

    def said(self, name: str) -> str | None:
        return {
            "preempted": self.preempted,
            "maintenance-event": self.maintenance,
            "id": self.id,
            "machine-type": f"projects/12/machineTypes/{self.type}",
            "zone": f"projects/12/zones/{self.zone}",
            "scheduling/preemptible": self.preemptible,
            "scheduling/provisioning-model": self.model,
        }.get(name)

    @staticmethod
    def etag(value: str) -> str:
        return f"{hash(value) & 0xffffffffffff:012x}"

    def answer(self, request: Handler) -> tuple[int, str, dict[str, str]]:
        path, _, query = request.path.partition("?")
        asked = urllib.parse.parse_qs(query)
        name = path.removeprefix("/computeMetadata/v1/instance/")
        if request.headers.get("Metadata-Flavor") != "Google" or request.headers.get("X-Forwarded-For"):
            return 403, "Missing Metadata-Flavor:Google header.", {}
        value = self.said(name)
        if value is None:
            return 404, "not there", self.headers()
        if asked.get("wait_for_change") == ["true"]:
            end = time.monotonic() + float(asked.get("timeout_sec", ["300"])[0])
            known = asked.get("last_etag", [self.etag(value)])[0]
            with self.changed:
                while self.etag(self.said(name) or "") == known and not self.drop:
                    if not self.changed.wait(end - time.monotonic()):
                        break
            value = self.said(name) or ""
        return 200, value, {**self.headers(), "ETag": self.etag(value)}


class Azure(Double):
    def __init__(self, **where: Any) -> None:
        self.events: list[dict[str, Any]] = []
        self.incarnation = 1
        self.vm_id, self.name, self.type = "02aab8a4-74ef-476e-8182", "vm-1", "Standard_D4s_v5"
        self.location, self.zone, self.priority = "westeurope", "2", "Spot"
        self.started: list[str] = []
        super().__init__(**where)

    def schedule(self, kind: str, seconds: float | None, resources: list[str] | None = None) -> str:
        event = {
            "EventId": secrets.token_hex(8).upper(), "EventStatus": "Scheduled", "EventType": kind,
            "ResourceType": "VirtualMachine", "Resources": resources or [self.name],
            "NotBefore": "" if seconds is None else mail_date(time.time() + seconds),
            "Description": "", "EventSource": "Platform", "DurationInSeconds": -1,
        }
        self.set(events=[*self.events, event], incarnation=self.incarnation + 1)
        return event["EventId"]

    def answer(self, request: Handler) -> tuple[int, str, dict[str, str]]:
        path, _, query = request.path.partition("?")
        if request.headers.get("Metadata") != "true" or request.headers.get("X-Forwarded-For"):
            return 400, "Bad request", {}
        if "api-version=" not in query:
            return 400, "Bad request. api-version is invalid or was not specified", {}
        if path == "/metadata/instance/compute":
            return 200, json.dumps({
                "vmId": self.vm_id, "name": self.name, "vmSize": self.type, "zone": self.zone,
                "location": self.location, "priority": self.priority, "osType": "Linux"}), {}
        if path != "/metadata/scheduledevents":
            return 404, "", {}
        if request.command == "POST":
            return self.start(json.loads(request.body()))
        return 200, json.dumps({"DocumentIncarnation": self.incarnation, "Events": self.events}), {}

    def start(self, asked: dict[str, Any]) -> tuple[int, str, dict[str, str]]:
        ids = {e["EventId"] for e in self.events}
        for one in asked["StartRequests"]:
            if one["EventId"] not in ids:
                return 400, "no such event", {}
            self.started.append(one["EventId"])
        events = [{**e, "EventStatus": "Started", "NotBefore": ""}
                  if e["EventId"] in self.started else e for e in self.events]
        self.set(events=events, incarnation=self.incarnation + 1)
        return 200, "", {}


CLOUDS = {"aws": Aws, "gcp": Gcp, "azure": Azure}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cloud", choices=CLOUDS)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args()
    double = CLOUDS[args.cloud](address=args.address, port=args.port)
    print(double.url, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
