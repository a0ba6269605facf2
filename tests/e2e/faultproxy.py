# SPDX-License-Identifier: Apache-2.0
"""A proxy between our S3 client and a server, that checks what we send and breaks what it is told to.

Every request's signature is calculated again by botocore (Amazon's own signer), on the request line
as it came over the wire; the body must have the hash or the CRC that was signed. A server that checks
that itself (s3server.py, Swift) is given all of it with checks=False.

    with FaultProxy(upstream, {access: (secret, None)}) as proxy:   # upstream: a port, or an S3Server
        url = f"s3://bucket/prefix?endpoint=http://127.0.0.1:{proxy.port}&region=us-east-1&timeout=1"
        proxy.reset({3: "drop"})                      # the third request from now on
        proxy.reset({r"PUT .*/manifest": "503"})      # the first whose line matches, once
        proxy.reset({(r"^PUT ", 2): "flip-sent"})     # the second that matches
        proxy.reset({r"every GET .*-\\d+$": "delay"})  # each that matches
        proxy.reset({"all": "500"})                   # each
        proxy.reset(lambda line, head: "500" if ... else None)  # asked at each
    proxy.reset()                                 # no faults

What matches is "METHOD TARGET" as in the request line: "PUT /bucket/prefix/s/SESSION/1/manifest",
"GET /bucket?list-type=2&prefix=...". `log` has the lines of all requests since reset() and `heads`
their headers: run something once without faults to see how many requests it makes, then again with
{n: fault} for each n. `complaints` holds what a correct client never causes; assert that it is
empty. `delay` should be longer than the URL's timeout, and is what a client without one waits.
"""

from __future__ import annotations

import base64
import datetime
import email.utils
import hashlib
import http.client
import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from xml.sax.saxutils import escape

from basekit import ManyAtOnce
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from isal import isal_zlib
from s3server import S3Server

# What happens to a request. "after": the server has carried it out.
FAULTS = (
    "drop",  # the connection is closed without an answer
    "drop-after",
    "reset-after",  # likewise, but by a TCP reset
    "delay",  # longer than the client waits
    "403",
    "500",
    "500-after",
    "503",  # SlowDown
    "truncate",  # half of the answer's body
    "flip-sent",  # one bit of the request's body
    "flip-got",  # one bit of the answer's body
    "etag",  # the answer names another ETag
    "skew",  # from now on, until reset(), the server's clock is 20 minutes ahead
)
# Likewise; the client cannot tell these from some of the above.
STALLS = (
    "deaf",  # the request's body is not read
    "delay-after",
    "late",  # carried out when the client has given it up: `late` has the server's statuses
)
Plan = (dict[int | str | tuple[str, int], str]
        | Callable[[str, http.client.HTTPMessage], str | None])
SKEW = 20 * 60
SKEW_MOST = 15 * 60


def error_xml(code: str, message: str = "as planned") -> bytes:
    return (f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code>'
            f"<Message>{escape(message)}</Message></Error>").encode()


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1:] if data else data


class FaultProxy:
    """`keys`: access key -> (secret, session token or None). Use as a context manager."""

    def __init__(self, upstream: int | S3Server, keys: dict[str, tuple[str, str | None]],
                 checks: bool = True):
        self.server_behind = upstream if isinstance(upstream, S3Server) else None
        self.upstream = upstream.port if isinstance(upstream, S3Server) else upstream
        self.keys, self.checks = keys, checks
        self.plan: Plan = {}
        self.delay = 3.0
        self.clock_ahead = 0.0  # seconds that this server's clock differs from ours
        self.clock_set = 0.0  # when that was changed
        self.page = 0  # most entries of a page of a listing; 0: the server's own limit
        self.hook: Callable[[str, str], tuple[int, bytes] | None] | None = None
        self.lock = threading.Lock()
        self.log: list[str] = []  # "PUT /bucket/key?query" of each request
        self.heads: list[http.client.HTTPMessage] = []
        self.complaints: list[str] = []
        self.connections = 0
        self.late: list[int] = []
        proxy = self

        class Handler(Relay):
            owner = proxy

        class Server(ManyAtOnce, socketserver.ThreadingTCPServer):
            pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]

    def __enter__(self) -> FaultProxy:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def reset(self, plan: Plan | None = None) -> None:
        assert callable(plan) or set((plan or {}).values()) <= {*FAULTS, *STALLS}
        with self.lock:
            if not callable(self.plan) and "skew" in self.plan.values():
                self.set_clock(0)
            self.plan = plan or {}
            self.log.clear()
            self.heads.clear()
            self.complaints.clear()
            self.late.clear()

    def set_clock(self, ahead: float) -> None:
        self.clock_ahead, self.clock_set = ahead, time.monotonic()
        if self.server_behind:
            self.server_behind.ask(clock_ahead=ahead)

    def count(self, line: str, head: http.client.HTTPMessage) -> str | None:
        """Notes a request; the fault that is planned for it."""
        with self.lock:
            self.log.append(line)
            self.heads.append(head)
            fault = self.plan(line, head) if callable(self.plan) else self.planned(line)
            if fault == "skew":
                self.set_clock(SKEW)
            return fault

    def planned(self, line: str) -> str | None:
        for key, fault in self.plan.items():
            if isinstance(key, tuple):
                seen = sum(bool(re.search(key[0], earlier)) for earlier in self.log)
                if seen == key[1] and re.search(key[0], line):
                    return fault
            elif isinstance(key, str) and key.startswith("every "):
                if re.search(key.removeprefix("every "), line):
                    return fault
            elif isinstance(key, str) and key != "all" and re.search(key, line):
                if fault != "skew":  # which reset() must still see
                    del self.plan[key]
                return fault
        return self.plan.get(len(self.log), self.plan.get("all"))

    def now(self) -> float:
        return time.time() + self.clock_ahead

    # --- checks ---------------------------------------------------------------

    def check(self, method: str, target: str, headers: http.client.HTTPMessage,
              body: bytes) -> tuple[int, bytes] | None:
        """An answer for a request that a real S3 would refuse."""
        found = re.match(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d+)/([^/]+)/s3/aws4_request, "
                         r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})$",
                         headers.get("authorization", ""))
        if not found:
            return self.refuse(400, "AuthorizationHeaderMalformed", headers.get("authorization"))
        key, _, region, signed, signature = found.groups()
        if key not in self.keys:
            return 403, error_xml("InvalidAccessKeyId")
        when = headers.get("x-amz-date", "")
        sent = datetime.datetime.strptime(when, "%Y%m%dT%H%M%S%z").timestamp()
        if abs(sent - self.now()) > SKEW_MOST:
            return 403, error_xml("RequestTimeTooSkewed")
        if self.sign(method, target, headers, signed, key, region) != signature:
            return self.refuse(403, "SignatureDoesNotMatch", f"{method} {target}")
        if (headers.get("x-amz-security-token") or None) != self.keys[key][1]:
            return 403, error_xml("InvalidToken")
        return self.check_body(headers, signed, body)

    def sign(self, method: str, target: str, headers: http.client.HTTPMessage, signed: str,
             key: str, region: str) -> str:
        request = AWSRequest(method=method, url=f"http://{headers['host']}{target}",
                             headers={name: headers[name] for name in signed.split(";")})
        request.context["timestamp"] = headers["x-amz-date"]
        signer = S3SigV4Auth(Credentials(key, self.keys[key][0]), "s3", region)
        text = signer.string_to_sign(request, signer.canonical_request(request))
        return signer.signature(text, request)

    def check_body(self, headers: http.client.HTTPMessage, signed: str,
                   body: bytes) -> tuple[int, bytes] | None:
        must = {"host"} | {name.lower() for name in headers if name.lower().startswith("x-amz-")}
        if not must <= set(signed.split(";")):
            return self.refuse(403, "AccessDenied", f"{must} must be signed")
        hashed = headers["x-amz-content-sha256"]
        crc = headers.get("x-amz-checksum-crc32")
        if hashed == "UNSIGNED-PAYLOAD" and not crc:
            return self.refuse(400, "InvalidRequest", "a body with neither hash nor CRC")
        if hashed != "UNSIGNED-PAYLOAD" and hashed != hashlib.sha256(body).hexdigest():
            return 400, error_xml("XAmzContentSHA256Mismatch")
        digests = {"x-amz-checksum-crc32": isal_zlib.crc32(body).to_bytes(4, "big")}
        if headers.get("x-amz-checksum-sha256"):
            digests["x-amz-checksum-sha256"] = hashlib.sha256(body).digest()
        for name, digest in digests.items():
            if headers.get(name, "") not in ("", base64.b64encode(digest).decode()):
                return 400, error_xml("BadDigest")
        return None

    def refuse(self, status: int, code: str, why: object) -> tuple[int, bytes]:
        """What our client must never cause."""
        self.complaints.append(f"{code}: {why}")
        return status, error_xml(code, str(why))


class Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FaultProxy
    timeout = 60

    def log_message(self, *_: object) -> None:
        pass

    def setup(self) -> None:
        super().setup()
        self.owner.connections += 1

    def relay(self) -> None:
        fault = self.owner.count(f"{self.command} {self.path}", self.headers) or ""
        if fault == "deaf":
            time.sleep(self.owner.delay)
            return self.hang_up()
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if fault == "drop":
            return self.hang_up()
        if fault == "delay":
            time.sleep(self.owner.delay)
            return self.hang_up()
        if fault == "late":
            time.sleep(self.owner.delay)
            self.owner.late.append(self.forward(body)[0])
            return self.hang_up()
        if fault in ("403", "500", "503"):
            code = {"403": "AccessDenied", "500": "InternalError", "503": "SlowDown"}[fault]
            return self.answer(int(fault), {}, error_xml(code))
        if fault == "flip-sent":
            body = flip(body)
        refused = None
        if self.owner.checks:
            refused = self.owner.check(self.command, self.path, self.headers, body)
        if not refused and self.owner.hook:
            refused = self.owner.hook(self.command, self.path)
        if refused:
            return self.answer(refused[0], {}, refused[1])
        status, headers, data = self.forward(body)
        self.spoil(fault, status, headers, data)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = relay

    def forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self.owner.upstream, timeout=60)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
            page = self.owner.page if "list-type=2" in self.path else 0
            target = f"{self.path}&max-keys={page}" if page else self.path
            upstream.request(self.command, target, body=body, headers=headers)
            answer = upstream.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            upstream.close()

    def spoil(self, fault: str, status: int, headers: dict[str, str], data: bytes) -> None:
        if fault == "delay-after":
            time.sleep(self.owner.delay)
        if fault in ("drop-after", "delay-after"):
            return self.hang_up()
        if fault == "reset-after":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return self.hang_up()
        if fault == "500-after":
            return self.answer(500, {}, error_xml("InternalError"))
        if fault == "etag" and "etag" in headers:
            headers["etag"] = '"00000000000000000000000000000000"'
        if fault == "flip-got":
            data = flip(data)
        self.answer(status, headers, data, cut=fault == "truncate")

    def answer(self, status: int, headers: dict[str, str], data: bytes, cut: bool = False) -> None:
        length = headers.get("content-length") if self.command == "HEAD" else str(len(data))
        self.send_response_only(status)
        self.send_header("Date", email.utils.formatdate(self.owner.now(), usegmt=True))
        for name, value in headers.items():
            if name not in ("content-length", "connection", "date", "transfer-encoding", "server"):
                self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", length)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(data[:len(data) // 2] if cut else data)
        if cut:
            self.hang_up()

    def hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        # A reset needs the socket closed, not shut down in order.
        self.connection.close()
