# SPDX-License-Identifier: Apache-2.0
"""A stand-in for elsad that answers by script, and `elsa` run against it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import shutil
import socketserver
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from basekit import BUILD, ManyAtOnce

ELSA = str(BUILD / "elsa")

FAULTS = {
    # fault: (HTTP status, exit status), as in base/error.c
    "internal": (500, 1),
    "bad-input": (400, 2),
    "not-found": (404, 3),
    "conflict": (409, 4),
    "denied": (403, 5),
    "refused": (422, 6),
    "unavailable": (503, 7),
    "timeout": (504, 8),
    "full": (507, 9),
    "corrupt": (502, 10),
}

SESSION = {
    "id": "0123456789abcdef",
    "user": "ada",
    "server": "",
    "state": "running",
    "reason": None,
    "generation": 3,
    "node": "hub",
    "address": "10.99.0.17",
    "port": 8888,
    "rss_bytes": 1536 * 1024 * 1024,
    "cpu_share": 0.013,
    "processes": 5,
    "last_person_activity": 1795400000000,
    "started_at": 1795300000000,
    "changed_at": 1795300000000,
    "checkpoint_bytes": 0,
    "checkpoint_usable": True,
    "keep_awake_until": 0,
    "api_token": "session-secret",
    "spawner": {"secret": "spawner-secret"},
    "operation": None,
}

OPERATION = {
    "id": "00000000000000aa",
    "kind": "hibernate",
    "state": "running",
    "step": "dump",
    "bytes_done": 10 << 20,
    "bytes_total": 100 << 20,
    "user": "ada",
    "server": "",
    "who": "elsa",
    "why": "asked",
    "error": None,
    "result": None,
}

REFUSAL = {
    "fault": "refused",
    "text": "CRIU cannot checkpoint the session: io_uring is in use",
    "remedy": "the session goes on; restart the kernel that uses io_uring",
    "log_tail": "Error (criu/files.c:1): anon_inode:[io_uring]\x1b[2J\n",
}


def session(**changes):
    return {**SESSION, **changes}


def operation(**changes):
    return {**OPERATION, **changes}


def fault(name, text="something", remedy="do something"):
    return FAULTS[name][0], {"error": {"fault": name, "text": text, "remedy": remedy}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self):
        return "somebody"

    def log_message(self, *_):
        pass

    def answer(self):
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        query = {k: v[0] for k, v in parse_qs(url.query, keep_blank_values=True).items()}
        double = self.server.double
        is_bytes = "octet" in (self.headers.get("Content-Type") or "")
        asked = {
            "method": self.command,
            "path": url.path,
            "query": query,
            "body": body if is_bytes else json.loads(body) if body else None,
            "token": self.headers.get("Authorization"),
        }
        with double.lock:
            double.asked.append(asked)
        found = double.answers.get(f"{self.command} {url.path}", fault("not-found", "no such thing"))
        found = found(asked) if callable(found) else found
        status, value = found if isinstance(found, tuple) else (200, found)
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    do_GET = do_POST = answer


class Unix(ManyAtOnce, socketserver.ThreadingUnixStreamServer):
    pass


class Tcp(ManyAtOnce, socketserver.ThreadingTCPServer):
    pass


class Double:
    """answers: by "METHOD /path", a value, a (status, value) or a function of what was asked."""

    def __init__(self, tcp=False):
        self.dir = Path(tempfile.mkdtemp(prefix="cli-"))
        self.path = self.dir / "elsad.sock"
        self.asked, self.answers = [], {}
        self.lock = threading.Lock()
        self.server = Tcp(("127.0.0.1", 0), Handler) if tcp else Unix(str(self.path), Handler)
        self.server.double = self
        self.url = (
            f"http://127.0.0.1:{self.server.server_address[1]}" if tcp else f"unix:{self.path}"
        )
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        shutil.rmtree(self.dir, ignore_errors=True)


def run(*argv, url="", seconds=30, env=None, **options):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ELSA_")}
    environment |= {"ELSA_URL": url} if url else {}
    return subprocess.run(
        [ELSA, *argv],
        stdin=subprocess.DEVNULL,
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        timeout=seconds,
        env={**environment, **(env or {})},
        text=True,
        errors="surrogateescape",
        check=False,
        **options,
    )


def good(*argv, **options):
    done = run(*argv, **options)
    assert done.returncode == 0, done
    assert not done.stderr, done.stderr
    return done.stdout


def on_terminal(*argv, url, seconds=60):
    """Output of all kinds, and the exit status, with a terminal on standard output and error."""
    master, slave = pty.openpty()
    env = {k: v for k, v in os.environ.items() if not k.startswith("ELSA_")} | {"ELSA_URL": url}
    process = subprocess.Popen([ELSA, *argv], stdin=slave, stdout=slave, stderr=slave, env=env)
    os.close(slave)
    seen = b""
    deadline = time.monotonic() + seconds
    with contextlib.suppress(OSError):  # EIO: the other side is gone
        while time.monotonic() < deadline:
            if select.select([master], [], [], 0.1)[0]:
                chunk = os.read(master, 65536)
                if not chunk:
                    break
                seen += chunk
    os.close(master)
    return seen, process.wait(10)
