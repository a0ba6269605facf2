# SPDX-License-Identifier: Apache-2.0
"""An S3 server that is quick enough to measure against: PUT (with If-None-Match: *), GET (with
Range), HEAD, DELETE, ListObjectsV2 and making buckets, path-style, on loopback
or `address`.

    with S3Server(directory) as server:
        url = f"s3://bucket/prefix?endpoint={server.url}&region=us-east-1"
        env |= server.credentials
        server.latency = 0.020       # from now on, each answer comes that much later
        server.stats()               # {"connections": .., "requests": .., "received": .., "sent": ..}
        server.ask(clock_ahead=1200, page=4)   # another clock; fewer entries in a listing
        server.ask(failing=True)     # 503 SlowDown is all it says

It checks what a server ought to: signatures (sigv4.py), the body's hash where it is signed, and
x-amz-checksum-crc32. An object is a file, fdatasynced and renamed or linked into place before the
answer; what is read goes from the file to the socket within the kernel. It runs in a process of
its own, which ends with the one that started it; the waits of `latency` hold up nobody else.
"""

from __future__ import annotations

import argparse
import base64
import email.utils
import hashlib
import itertools
import json
import os
import re
import secrets
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote
from xml.sax.saxutils import escape

import sigv4
from isal import isal_zlib
from sigv4 import Refused

HEAD_MOST = 64 * 1024
PIECE = 256 * 1024  # stays in the processor's cache on its way from the socket to the file
REASONS = {200: "OK", 204: "No Content", 206: "Partial Content"}
UNSIGNED = "UNSIGNED-PAYLOAD"


class S3Server:
    """Starts and stops the server's process. `keys`: access key -> secret."""

    def __init__(self, where: Path, keys: dict[str, str] | None = None, latency: float = 0.0,
                 buckets: tuple[str, ...] = ("bucket", "bench"), address: str = "127.0.0.1"):
        self.where, self.buckets, self._latency = where, buckets, latency
        self.address = address
        self.keys = keys or {"AKIDTEST": secrets.token_hex(20)}
        self.process: subprocess.Popen[str] | None = None
        self.port = 0

    def start(self) -> S3Server:
        for bucket in self.buckets:
            (self.where / bucket).mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), str(self.where), self.address],
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.port = self.ask(keys=self.keys, latency=self._latency)["port"]
        return self

    def stop(self) -> None:
        if self.process:
            self.process.communicate()  # it ends with its standard input
            self.process = None

    def ask(self, **settings: object) -> dict:
        print(json.dumps(settings), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    @property
    def credentials(self) -> dict[str, str]:
        access, secret = next(iter(self.keys.items()))
        return {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret}

    @property
    def latency(self) -> float:
        return self._latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        self._latency = seconds
        self.ask(latency=seconds)

    def stats(self) -> dict[str, int]:
        return self.ask()

    def __enter__(self) -> S3Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


# --- the server's process --------------------------------------------------------------------------


class Service:
    def __init__(self, where: Path, address: str):
        self.where = where
        self.keys: dict[str, str] = {}
        self.latency = self.clock_ahead = 0.0
        self.page = 1000
        self.failing = False
        self.numbers = itertools.count()
        self.connections = self.requests = self.received = self.sent = 0
        self.listener = socket.create_server((address, 0), backlog=128)
        self.port = self.listener.getsockname()[1]

    def now(self) -> float:
        return time.time() + self.clock_ahead

    def serve(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            self.connections += 1
            threading.Thread(target=Connection(self, connection).serve, daemon=True).start()

    def obey(self, settings: dict) -> dict:
        self.keys = settings.get("keys", self.keys)
        self.latency = settings.get("latency", self.latency)
        self.clock_ahead = settings.get("clock_ahead", self.clock_ahead)
        self.page = settings.get("page", self.page)
        self.failing = settings.get("failing", self.failing)
        return {"port": self.port, "connections": self.connections, "requests": self.requests,
                "received": self.received, "sent": self.sent}


class Connection:
    def __init__(self, service: Service, sock: socket.socket):
        self.service, self.sock = service, sock
        # Not settimeout(): that would put a poll() before each read and write.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 120, 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 120, 0))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.piece = memoryview(bytearray(PIECE))
        self.early = b""  # read already, behind the request's head
        self.left = 0  # of the request's body

    def serve(self) -> None:
        try:
            while self.one_request():
                pass
        except OSError:
            pass  # the peer is gone
        finally:
            self.sock.close()

    def one_request(self) -> bool:
        head, found, self.early = self.early.partition(b"\r\n\r\n")
        while not found:
            data = self.sock.recv(HEAD_MOST)
            if not data or len(head) > HEAD_MOST:
                return False
            head, found, self.early = (head + data).partition(b"\r\n\r\n")
        request, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = request.split(" ", 2)
        self.headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        self.left = int(self.headers.get("content-length", 0))
        self.service.requests += 1
        try:
            self.handle()
        except Refused as refused:
            self.refuse(refused)
        except ConnectionError:
            return False
        except OSError as error:
            self.refuse(Refused(500, "InternalError", str(error)))
        return True

    def handle(self) -> None:
        if self.service.failing:
            raise Refused(503, "SlowDown")
        sigv4.verify(self.service.keys, self.method, self.target, self.headers,
                      self.service.now())
        path, _, query = self.target.partition("?")
        bucket, _, key = unquote(path).removeprefix("/").partition("/")
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{2,62}", bucket):
            raise Refused(400, "InvalidBucketName")
        self.bucket = self.service.where / bucket
        if self.method == "PUT" and not key:
            self.bucket.mkdir(exist_ok=True)
            return self.answer(200)
        if not self.bucket.is_dir():
            raise Refused(404, "NoSuchBucket")
        kind = self.method if key else f"{self.method} bucket"
        handler = {"PUT": self.put, "GET": self.get, "HEAD": self.head, "DELETE": self.delete,
                   "GET bucket": self.list}.get(kind)
        if not handler:
            raise Refused(501, "NotImplemented")
        name = re.sub(r"^\.", "%2E", quote(key, safe=""))  # what begins with "." is not an object
        if len(name) > 250:
            raise Refused(400, "KeyTooLongError")
        handler(str(self.bucket / name), dict(parse_qsl(query, keep_blank_values=True)))

    # --- answers ---------------------------------------------------------------

    def answer(self, status: int, headers: dict[str, object] | None = None, body: bytes = b"",
               length: int | None = None) -> None:
        """`length`: of a body that follows, or, for HEAD, does not."""
        self.drain()
        if self.service.latency:
            time.sleep(self.service.latency)
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Error')}",
                 f"Date: {email.utils.formatdate(self.service.now(), usegmt=True)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if status != 204:
            lines.append(f"Content-Length: {len(body) if length is None else length}")
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        self.service.sent += len(body)

    def refuse(self, refused: Refused) -> None:
        body = (f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{refused.code}</Code>'
                f"<Message>{escape(refused.message)}</Message></Error>").encode()
        if self.method == "HEAD":
            return self.answer(refused.status, length=len(body))
        self.answer(refused.status, {"Content-Type": "application/xml"}, body)

    # --- the request's body ----------------------------------------------------

    def read_piece(self) -> memoryview:
        if self.early:
            taken, self.early = self.early[:self.left], self.early[self.left:]
            piece = memoryview(taken)
        else:
            want = min(self.left, PIECE)
            got = self.sock.recv_into(self.piece, want, socket.MSG_WAITALL)
            if not got:
                raise ConnectionError("the peer has hung up")
            piece = self.piece[:got]
        self.left -= len(piece)
        self.service.received += len(piece)
        return piece

    def drain(self) -> None:
        while self.left:
            self.read_piece()

    def receive(self, fd: int) -> dict[str, str]:
        """Into a file; checked. The digest goes into the answer."""
        signed = self.headers.get("x-amz-content-sha256", "")
        wanted = self.headers.get("x-amz-checksum-crc32")
        wanted_sha = self.headers.get("x-amz-checksum-sha256")
        sha = hashlib.sha256() if signed != UNSIGNED or wanted_sha else None
        crc = 0
        while self.left:
            piece = self.read_piece()
            crc = isal_zlib.crc32(piece, crc)
            if sha:
                sha.update(piece)
            while piece:
                piece = piece[os.write(fd, piece):]
        got = base64.b64encode(crc.to_bytes(4, "big")).decode()
        if signed != UNSIGNED and sha and signed != sha.hexdigest():
            raise Refused(400, "XAmzContentSHA256Mismatch")
        if wanted is not None and wanted != got:
            raise Refused(400, "BadDigest", f"CRC32 is {got}")
        if wanted_sha and sha and wanted_sha != base64.b64encode(sha.digest()).decode():
            raise Refused(400, "BadDigest", "SHA-256 is another")
        if wanted_sha:
            return {"x-amz-checksum-sha256": wanted_sha}
        return {"x-amz-checksum-crc32": got} if wanted else {}

    # --- operations ------------------------------------------------------------

    def put(self, path: str, _: dict[str, str]) -> None:
        if_absent = self.headers.get("if-none-match") == "*"
        temporary = f"{self.bucket}/.{next(self.service.numbers)}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            headers = self.receive(fd)
            os.fdatasync(fd)
            headers["ETag"] = etag(os.fstat(fd))
            if if_absent:
                os.link(temporary, path)
            else:
                os.rename(temporary, path)
        except FileExistsError:
            raise Refused(412, "PreconditionFailed") from None
        finally:
            os.close(fd)
            if os.path.exists(temporary):
                os.unlink(temporary)
        self.answer(200, headers)

    def open(self, path: str) -> int:
        try:
            return os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            raise Refused(404, "NoSuchKey") from None

    def get(self, path: str, _: dict[str, str], body: bool = True) -> None:
        fd = self.open(path)
        try:
            st = os.fstat(fd)
            if self.headers.get("if-match", etag(st)) != etag(st):
                raise Refused(412, "PreconditionFailed")
            status, first, end = 200, 0, st.st_size
            headers = {"ETag": etag(st), "Accept-Ranges": "bytes",
                       "Last-Modified": email.utils.formatdate(st.st_mtime, usegmt=True)}
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
            if wanted:
                status, first = 206, int(wanted[1])
                end = min(int(wanted[2] or st.st_size) + 1, st.st_size)
                if first >= end:
                    return self.answer(416, {"Content-Range": f"bytes */{st.st_size}"})
                headers["Content-Range"] = f"bytes {first}-{end - 1}/{st.st_size}"
            self.answer(status, headers, length=end - first)
            while body and first < end:
                n = os.sendfile(self.sock.fileno(), fd, first, end - first)
                first += n
                self.service.sent += n
        finally:
            os.close(fd)

    def head(self, path: str, asked: dict[str, str]) -> None:
        self.get(path, asked, body=False)

    def delete(self, path: str, _: dict[str, str]) -> None:
        if os.path.exists(path):
            os.unlink(path)
        self.answer(204)

    def list(self, _: str, asked: dict[str, str]) -> None:
        if asked.get("list-type") != "2":
            raise Refused(501, "NotImplemented")
        most = min(int(asked.get("max-keys", 1000)), self.service.page)
        prefix = asked.get("prefix", "")
        after = asked.get("continuation-token") or asked.get("start-after", "")
        entries = {unquote(e.name): e for e in os.scandir(self.bucket) if e.name[0] != "."}
        keys = sorted((k for k in entries if k.startswith(prefix) and k > after),
                      key=lambda key: key.encode())
        text = "".join(describe(key, entries[key]) for key in keys[:most])
        more = len(keys) > most
        if more and most:
            text += f"<NextContinuationToken>{escape(keys[most - 1])}</NextContinuationToken>"
        self.answer(200, {"Content-Type": "application/xml"},
                    ('<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult>'
                     f"<Prefix>{escape(prefix)}</Prefix><KeyCount>{len(keys[:most])}</KeyCount>"
                     f"<IsTruncated>{str(more).lower()}</IsTruncated>{text}"
                     "</ListBucketResult>").encode())


def etag(st: os.stat_result) -> str:
    """Another one for each write; S3 promises no more where it is not an MD5."""
    return f'"{st.st_ino:x}-{st.st_mtime_ns:x}-{st.st_size:x}"'


def describe(key: str, entry: os.DirEntry[str]) -> str:
    try:
        st = entry.stat()
    except FileNotFoundError:
        return ""
    modified = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(st.st_mtime))
    return (f"<Contents><Key>{escape(key)}</Key><LastModified>{modified}</LastModified>"
            f"<ETag>{escape(etag(st))}</ETag><Size>{st.st_size}</Size></Contents>")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("address")
    args = parser.parse_args()
    service = Service(args.directory, args.address)
    threading.Thread(target=service.serve, daemon=True).start()
    for line in sys.stdin:
        print(json.dumps(service.obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
