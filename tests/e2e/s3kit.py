# SPDX-License-Identifier: Apache-2.0
"""S3 and its surroundings for tests: moto's server, metadata services, object_tool."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import re
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from basekit import BUILD, ManyAtOnce
from swift.common.utils import checksum

TOOL = BUILD / "object_tool"
ACCESS, SECRET = "AKIDTEST", "dGVzdC9zZWNyZXQra2V5"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def open_url(url: str, data: bytes | None = None, method: str | None = None) -> bytes:
    """Without the environment's proxy. moto takes whoever has an Authorization for the owner."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    headers = {"Content-Type": "application/octet-stream",
               "Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request"}
    request = urllib.request.Request(url, data, headers, method=method)
    with opener.open(request, timeout=10) as answer:
        return answer.read()


@contextlib.contextmanager
def moto(where: Path, address: str = "127.0.0.1") -> Iterator[int]:
    """An S3 server on a port; it keeps all in memory and checks no signatures unless told to."""
    port = free_port()
    env = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    with open(where / "moto.log", "w") as log:
        server = subprocess.Popen(["moto_server", "-H", address, "-p", str(port)],
                                  stdout=log, stderr=log, env=env)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                open_url(f"http://{address}:{port}/moto-api/")
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, "no moto"
                time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait()


@dataclass
class Result:
    code: int
    out: bytes
    error: str
    remedy: str
    fault: str
    seconds: float


class Tool:
    """object_tool on one URL with an environment of its own."""

    def __init__(self, url: str, home: Path, **env: str):
        self.url, self.home = url, home
        self.env = {"PATH": os.environ["PATH"], "HOME": str(home),
                    "AWS_EC2_METADATA_DISABLED": "true", **env}

    def run(self, *words: str | Path, **env: str) -> Result:
        begin = time.monotonic()
        done = subprocess.run([TOOL, self.url, *map(str, words)], capture_output=True, timeout=180,
                              env=self.env | env)
        said = dict(line.split(": ", 1) for line in done.stderr.decode().splitlines()
                    if ": " in line)
        return Result(done.returncode, done.stdout, said.get("error", ""), said.get("remedy", ""),
                      said.get("fault", ""), time.monotonic() - begin)

    def good(self, *words: str | Path, **env: str) -> str:
        result = self.run(*words, **env)
        assert result.code == 0, result
        return result.out.decode()


@contextlib.contextmanager
def double(answer: Callable[[BaseHTTPRequestHandler, bytes], tuple[int, bytes]]) -> Iterator[int]:
    """A small HTTP server: `answer` gets the request and its body."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        extra: dict[str, str]

        def log_message(self, *_: object) -> None:
            pass

        def handle_any(self) -> None:
            self.extra = {}
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, data = answer(self, body)
            self.send_response(status)
            for name, value in self.extra.items():
                self.send_header(name, value)
            if "Content-Length" not in self.extra:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

    class Server(ManyAtOnce, ThreadingHTTPServer):
        pass

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


class Imds:
    """IMDSv2 with a role: tokens are checked, each fetch of credentials is a new key."""

    def __init__(self, lifetime: float = 3600):
        self.lifetime, self.fetched, self.failing = lifetime, 0, False

    def key(self, number: int) -> tuple[str, tuple[str, str]]:
        return f"ASIA{number}", (f"secret{number}", f"session/token+{number}==")

    def __call__(self, request: BaseHTTPRequestHandler, _: bytes) -> tuple[int, bytes]:
        if self.failing:
            return 500, b""
        if (request.command, request.path) == ("PUT", "/latest/api/token"):
            good = request.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "").isdigit()
            return (200, b"TOKEN") if good and "X-Forwarded-For" not in request.headers else (403, b"")
        if request.headers.get("X-aws-ec2-metadata-token") != "TOKEN":
            return 401, b""
        if request.path == "/latest/meta-data/iam/security-credentials/":
            return 200, b"my-role"
        if request.path == "/latest/meta-data/iam/security-credentials/my-role":
            self.fetched += 1
            key, (secret, token) = self.key(self.fetched)
            until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + self.lifetime))
            return 200, json.dumps({"Code": "Success", "AccessKeyId": key, "SecretAccessKey": secret,
                                    "Token": token, "Expiration": until}).encode()
        return 404, b""


class Google:
    """Google's XML API as far as we use it: the signatures of HMAC keys and bearer tokens are
    checked, bodies by Content-MD5 or x-goog-hash, and generation 0 means "if absent"."""

    def __init__(self, key: str = "GOOGKEY", secret: str = "google/secret", bearer: str = "ya29.x"):
        self.key, self.secret, self.bearer = key, secret, bearer
        self.objects: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self.complaints: list[str] = []

    def signature(self, request: BaseHTTPRequestHandler, signed: str, day: str, region: str) -> str:
        """By Google's document "Signatures", from the request as it came."""
        path, _, query = request.path.partition("?")
        headers = "".join(f"{n}:{' '.join(request.headers[n].split())}\n" for n in signed.split(";"))
        canonical = "\n".join([request.command, path, "&".join(sorted(query.split("&"))), headers,
                               signed, request.headers["x-goog-content-sha256"]])
        scope = f"{day}/{region}/storage/goog4_request"
        text = "\n".join(["GOOG4-HMAC-SHA256", request.headers["x-goog-date"], scope,
                          hashlib.sha256(canonical.encode()).hexdigest()])
        key = ("GOOG4" + self.secret).encode()
        for word in (*scope.split("/"), text):
            key = hmac.digest(key, word.encode(), "sha256")
        return key.hex()

    def allowed(self, request: BaseHTTPRequestHandler, body: bytes) -> bool:
        how = request.headers.get("Authorization", "")
        if any(name.lower().startswith("x-amz-") for name in request.headers):
            self.complaints.append("x-amz- and x-goog- headers are not to be mixed")
        if how == f"Bearer {self.bearer}":
            return True
        found = re.match(r"GOOG4-HMAC-SHA256 Credential=([^/]+)/(\d+)/([^/]+)/storage/goog4_request, "
                         r"SignedHeaders=([^,]+), Signature=(\w+)", how)
        if not found or found[1] != self.key:
            return False
        return (request.headers["x-goog-content-sha256"] in (
                    "UNSIGNED-PAYLOAD", hashlib.sha256(body).hexdigest())
                and found[5] == self.signature(request, found[4], found[2], found[3]))

    def __call__(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        path, _, query = request.path.partition("?")
        asked = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        name = urllib.parse.unquote(path).removeprefix("/bucket").removeprefix("/")
        md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
        if not self.allowed(request, body):
            return 401, b"<Error><Code>AuthenticationRequired</Code></Error>"
        crc = "crc32c=" + base64.b64encode(checksum.crc32c(body).digest()).decode()
        if (request.headers.get("content-md5", md5) != md5
                or request.headers.get("x-goog-hash", crc) != crc):
            return 400, b"<Error><Code>BadDigest</Code></Error>"
        if body and not {"content-md5", "x-goog-hash"} & {n.lower() for n in request.headers}:
            self.complaints.append("a body without a digest")
        with self.lock:
            if request.command == "PUT":
                return self.put(request, name, body)
            if request.command == "DELETE":
                return (204, b"") if self.objects.pop(name, None) is not None else (404, b"")
            return self.list(asked) if "list-type" in asked else self.get(request, name)

    def put(self, request: BaseHTTPRequestHandler, name: str, body: bytes) -> tuple[int, bytes]:
        if request.headers.get("x-goog-if-generation-match") == "0" and name in self.objects:
            return 412, b"<Error><Code>PreconditionFailed</Code></Error>"
        self.objects[name] = body
        request.extra["ETag"] = f'"{hashlib.md5(body).hexdigest()}"'
        return 200, b""

    def get(self, request: BaseHTTPRequestHandler, name: str) -> tuple[int, bytes]:
        if name not in self.objects:
            return 404, b"<Error><Code>NoSuchKey</Code></Error>"
        data = self.objects[name]
        request.extra["ETag"] = f'"{hashlib.md5(data).hexdigest()}"'
        request.extra["Last-Modified"] = "Fri, 24 May 2013 00:00:00 GMT"
        request.extra["Content-Length"] = str(len(data))
        wanted = re.match(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
        if not wanted:
            return 200, data
        first, last = int(wanted[1]), min(int(wanted[2]), len(data) - 1)
        request.extra["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        request.extra["Content-Length"] = str(last - first + 1)
        return 206, data[first:last + 1]

    def list(self, asked: dict[str, str]) -> tuple[int, bytes]:
        found = "".join(f"<Contents><Key>{k}</Key><Size>{len(v)}</Size></Contents>"
                        for k, v in sorted(self.objects.items())
                        if k.startswith(asked.get("prefix", "")))
        return 200, f"<ListBucketResult>{found}</ListBucketResult>".encode()
