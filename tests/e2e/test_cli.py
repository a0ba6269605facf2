# SPDX-License-Identifier: Apache-2.0
"""`elsa` against a stand-in for elsad that answers by script: what it prints, asks and exits with.

What the real elsad answers is tested elsewhere; here it may also be garbage, late or gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from basekit import BUILD, CHECKOUT

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


class Unix(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


class Tcp(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


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


@pytest.fixture
def elsad():
    double = Double()
    yield double
    double.close()


@pytest.fixture
def tcp_elsad():
    double = Double(tcp=True)
    yield double
    double.close()


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


def on_terminal(*argv, url, seconds=20):
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


# --- looking --------------------------------------------------------------------------------------


def test_status(elsad):
    health = {"ok": True, "version": "1.2", "node": "up", "hub": "up", "sessions": 2}
    elsad.answers["GET /v1/health"] = health
    assert "node             up\n" in good("status", url=elsad.url)
    assert json.loads(good("status", "--json", url=elsad.url)) == health


def test_status_of_what_is_down(elsad):
    elsad.answers["GET /v1/health"] = {"ok": False, "version": "1", "hub": "down", "hub_error": "no answer"}
    done = run("status", url=elsad.url)
    assert done.returncode == 7
    assert "hub error        no answer" in done.stdout
    assert "not everything" in done.stderr


def test_sessions(elsad):
    rows = [session(), session(user="J\u00fcrgen", server="lab", state="hibernated", rss_bytes=0)]
    elsad.answers["GET /v1/sessions"] = {"sessions": rows}
    head, ada, juergen = good("sessions", url=elsad.url).splitlines()
    assert head.split()[:4] == ["USER", "SERVER", "STATE", "GEN"]
    assert ada.split()[:8] == ["ada", "-", "running", "3", "hub", "10.99.0.17", "1.5", "GiB"]
    assert juergen.index("lab") == head.index("SERVER")
    assert "secret" not in ada + juergen


def test_sessions_as_json(elsad):
    elsad.answers["GET /v1/sessions"] = {"sessions": [session()]}
    (row,) = json.loads(good("sessions", "--json", url=elsad.url))
    wanted = {"user", "server", "state", "generation", "node", "address", "rss_bytes"}
    wanted |= {"last_person_activity", "checkpoint_bytes", "reason"}
    assert wanted <= set(row)
    assert not {"api_token", "spawner"} & set(row)


def test_no_sessions(elsad):
    elsad.answers["GET /v1/sessions"] = {"sessions": []}
    assert good("sessions", url=elsad.url) == "no sessions\n"
    assert json.loads(good("--json", "sessions", url=elsad.url)) == []


def test_ten_thousand_sessions(elsad):
    rows = [session(user=f"user-{i}") for i in range(10000)]
    elsad.answers["GET /v1/sessions"] = {"sessions": rows}
    assert len(good("sessions", url=elsad.url).splitlines()) == 10001


def test_show(elsad):
    checkpoint = {"generation": 3, "created_at": 1795400000000, "stored_bytes": 5 << 20}
    failed = operation(state="failed", error=REFUSAL, log_tail=REFUSAL["log_tail"])
    elsad.answers["GET /v1/session"] = session(
        checkpoints=[checkpoint], operation=failed, explain="sleeps in 3 min"
    )
    shown = good("show", "ada", url=elsad.url)
    assert "next             sleeps in 3 min\n" in shown
    assert "io_uring is in use" in shown
    assert "restart the kernel" in shown
    assert "anon_inode:[io_uring]?[2J" in shown
    assert "5.0 MiB" in shown
    assert "secret" not in shown + good("show", "ada", "--json", url=elsad.url)
    assert elsad.asked[0]["query"] == {"user": "ada", "server": ""}


def test_logs(elsad):
    elsad.answers["GET /v1/session/log"] = b"one\ntwo\x1b[31m\n"
    assert good("logs", "ada", "-n", "2", url=elsad.url) == "one\ntwo\x1b[31m\n"
    assert elsad.asked[0]["query"] == {"user": "ada", "server": "", "lines": "2"}
    assert json.loads(good("logs", "ada", "--json", url=elsad.url)) == {"log": "one\ntwo\x1b[31m\n"}
    seen, status = on_terminal("logs", "ada", url=elsad.url)
    assert status == 0
    assert seen == b"one\r\ntwo?[31m\r\n"


EVENTS = [
    {"id": 2, "at": 1795400001000, "user": "ada", "what": "hibernated", "duration_us": 1500000},
    {"id": 1, "at": 1795400000000, "user": "ada", "what": "checkpointing", "who": "idle"},
]


def test_events(elsad):
    elsad.answers["GET /v1/events"] = {"events": EVENTS}
    lines = good("events", "ada", "-n", "5", url=elsad.url).splitlines()
    assert [line.split()[0] for line in lines] == [
        "WHEN",
        "2026-11-23T02:13:20Z",
        "2026-11-23T02:13:21Z",
    ]
    # All servers of the user unless one is named.
    assert elsad.asked[0]["query"] == {"after": "0", "limit": "5", "wait": "0", "user": "ada"}
    good("events", "ada", "--server", "", url=elsad.url)
    assert elsad.asked[1]["query"]["server"] == ""
    assert [e["id"] for e in json.loads(good("events", "--json", url=elsad.url))] == [1, 2]


class Stream:
    """Events that come while somebody follows."""

    def __init__(self, elsad):
        self.come = [EVENTS[1]]
        self.more = threading.Condition()
        elsad.answers["GET /v1/events"] = self.answer

    def add(self, event):
        with self.more:
            self.come.append(event)
            self.more.notify_all()

    def answer(self, asked):
        after, wait = int(asked["query"]["after"]), int(asked["query"]["wait"])
        with self.more:
            self.more.wait_for(lambda: any(e["id"] > after for e in self.come), min(wait, 5))
            return {"events": [e for e in self.come if e["id"] > after]}


def follow(*argv, url):
    env = os.environ | {"ELSA_URL": url}
    return subprocess.Popen(
        [ELSA, "events", "--follow", *argv], stdout=subprocess.PIPE, env=env, text=True
    )


def test_events_as_they_come(elsad):
    stream = Stream(elsad)
    with follow(url=elsad.url) as process:
        assert process.stdout.readline().startswith("WHEN")
        assert "checkpointing" in process.stdout.readline()
        for number in range(2, 5):
            stream.add({"id": number, "at": 1795400000000 + number, "what": f"thing-{number}"})
            assert f"thing-{number}" in process.stdout.readline()
        process.terminate()
    assert process.returncode == -signal.SIGTERM


def test_events_as_they_come_for_programs(elsad):
    stream = Stream(elsad)
    with follow("--json", url=elsad.url) as process:
        assert json.loads(process.stdout.readline())["id"] == 1
        stream.add({"id": 7, "what": "\u00fc"})
        assert json.loads(process.stdout.readline()) == {"id": 7, "what": "\u00fc"}
        process.terminate()


def test_following_over_a_restart_of_elsad(elsad):
    stream = Stream(elsad)
    with follow("--json", url=elsad.url) as process:
        process.stdout.readline()
        elsad.answers["GET /v1/events"] = fault("unavailable")
        stream.add({"id": 2})
        asked = len(elsad.asked)
        while len(elsad.asked) == asked:
            time.sleep(0.02)
        elsad.answers["GET /v1/events"] = stream.answer
        assert json.loads(process.stdout.readline())["id"] == 2
        process.terminate()


# --- the store ------------------------------------------------------------------------------------

TASK = "00000000000000c1"


def checkpoint(generation, **changes):
    return {"user": "ada", "server": "", "session": "0123456789abcdef", "generation": generation,
            "created_at": 1795400000000, "memory_bytes": 1 << 30, "stored_bytes": 3 << 20,
            "shared_bytes": 5 << 20, "objects": 4, "basis": generation - 1, "aside": False,
            "damaged": None, "cpu": "avx2", "criu": "4.2", "kernel": "6.12", **changes}  # fmt: skip


class Work:
    """Work on the store: begun, looked at as often as there are looks, then as the end says."""

    def __init__(self, elsad, kind, end=None, looks=1, **begun):
        self.looks, self.end = looks, end or {}
        task = {"id": TASK, "kind": kind, "state": "running", "done": 0, "total": 100, "error": None}
        self.task = task
        elsad.answers[f"POST /v1/store/{kind}"] = lambda asked: self.begin(asked, begun)
        elsad.answers["GET /v1/store/task"] = self.look

    def begin(self, asked, begun):
        self.asked = asked["body"]
        return 202, {**self.task, **begun}

    def look(self, asked):
        assert asked["query"] == {"id": TASK}
        self.looks -= 1
        if self.looks >= 0:
            return {**self.task, "done": 50 << 20, "total": 200 << 20}
        end = self.end(self.asked) if callable(self.end) else self.end
        return {**self.task, "state": "done", **end}


def failed(name, text="something", remedy="do something"):
    return {"state": "failed", **fault(name, text, remedy)[1]}


def test_store_ls(elsad):
    rows = [
        checkpoint(1, damaged="s/x/1/manifest is cut short"),
        checkpoint(2),
        checkpoint(1, server="lab", aside=True),
        checkpoint(1, user="bo"),
        checkpoint(7, user="", damaged="its key is not known"),
    ]
    elsad.answers["GET /v1/checkpoints"] = {"checkpoints": rows}
    lines = good("store", "ls", url=elsad.url).splitlines()
    assert len(lines) == 6 and lines[0].split()[-1] == "STATE"
    assert lines[1].endswith("damaged: s/x/1/manifest is cut short")
    assert lines[2].endswith("good") and lines[3].endswith("aside")
    assert "3.0 MiB" in lines[2] and "5.0 MiB" in lines[2]
    assert len(good("store", "ls", "ada", url=elsad.url).splitlines()) == 4
    assert json.loads(good("store", "ls", "bo", "--json", url=elsad.url)) == [rows[3]]
    assert good("store", "ls", "nobody", url=elsad.url) == "no checkpoints\n"
    good("store", "ls", "ada", "-s", "lab", url=elsad.url)
    assert elsad.asked[-1]["query"] == {"user": "ada", "server": "lab"}


def test_store_show(elsad):
    rows = [checkpoint(1), checkpoint(3, aside=True), checkpoint(2, cpu="avx2 avx512f"),
            checkpoint(4, damaged="short"), checkpoint(9, server="lab")]  # fmt: skip
    elsad.answers["GET /v1/checkpoints"] = {"checkpoints": rows}
    memories = [{"name": "pagemap-7.img", "pages": 262144, "zero_pages": 1000}]
    elsad.answers["GET /v1/checkpoint"] = {**rows[2], "frames": 16384, "memories": memories}
    shown = good("store", "show", "ada", url=elsad.url)
    query = elsad.asked[-1]["query"]
    assert query == {"session": "0123456789abcdef", "generation": "2"}  # the newest usable
    for word in "1.0 GiB", "3.0 MiB", "5.0 MiB", "avx512f", "6.12", "16384", "pagemap-7.img":
        assert word in shown, shown
    good("store", "show", "ada", "--generation", "4", url=elsad.url)
    assert elsad.asked[-1]["query"]["generation"] == "4"
    for argv in ["bo"], ["ada", "--generation", "5"], ["ada", "-s", "none"]:
        done = run("store", "show", *argv, url=elsad.url)
        assert done.returncode == 3 and "elsa store ls" in done.stderr


def test_store_verify_names_all_that_is_bad(elsad):
    rows = [checkpoint(n, server="lab") for n in (1, 2, 3)]

    def end(asked):
        if asked["generation"] == 3:
            return {}
        return failed("corrupt", f"object {asked['generation']}/pages-1: wrong sum")

    elsad.answers["GET /v1/checkpoints"] = {"checkpoints": rows}
    Work(elsad, "verify", end)
    done = run("store", "verify", url=elsad.url)
    assert done.returncode == 10
    assert done.stdout.splitlines() == [
        "ada/lab generation 1: object 1/pages-1: wrong sum",
        "ada/lab generation 2: object 2/pages-1: wrong sum",
        "ada/lab generation 3: good",
    ]
    done = run("store", "verify", "--json", url=elsad.url)
    assert [r["ok"] for r in json.loads(done.stdout)] == [False, False, True]
    assert good("store", "verify", "--generation", "3", url=elsad.url).endswith("3: good\n")


def test_store_work_shows_a_bar_on_a_terminal(elsad):
    Work(elsad, "gc", {"objects": 3, "bytes": 5 << 20, "kept_objects": 7, "kept_bytes": 9 << 30}, 3)
    seen, status = on_terminal("store", "gc", url=elsad.url)
    assert status == 0
    assert b"\r\x1b[Kgc: [#####...............]  25 %" in seen
    assert seen.endswith(
        b"\r\x1b[K3 objects of 5.0 MiB removed; 7 objects of 9.0 GiB are needed\r\n"
    )
    elsad.answers["GET /v1/checkpoints"] = {"checkpoints": [checkpoint(1)]}
    Work(elsad, "verify", looks=2)
    seen, status = on_terminal("store", "verify", "ada", url=elsad.url)
    assert b"verify: [#####...............]  25 %  50.0 MiB of 200 MiB" in seen


def test_store_gc(elsad):
    work = Work(elsad, "gc", {"objects": 3, "bytes": 0, "kept_objects": 7, "kept_bytes": 0})
    assert "would be removed" in good("store", "gc", "--dry-run", url=elsad.url)
    assert work.asked == {"dry_run": True, "who": "elsa"}
    assert json.loads(good("store", "gc", "--json", url=elsad.url))["objects"] == 3
    assert work.asked == {"who": "elsa"}
    elsad.answers["POST /v1/store/gc"] = fault("conflict", "the store is being swept already")
    assert run("store", "gc", url=elsad.url).returncode == 4


def test_store_rm(elsad):
    elsad.answers["GET /v1/checkpoints"] = {"checkpoints": [checkpoint(1), checkpoint(2)]}
    done = run("store", "rm", "ada", url=elsad.url)
    assert done.returncode == 2 and "--generation" in done.stderr
    work = Work(elsad, "rm")
    said = good("store", "rm", "ada", "--generation", "2", "--force", url=elsad.url)
    assert said == "ada generation 2: removed\n"
    assert work.asked == {"user": "ada", "server": "", "session": "0123456789abcdef",
                          "generation": 2, "force": True, "who": "elsa"}  # fmt: skip
    Work(elsad, "rm", state="done", dry_run=True, id=None)
    said = good("store", "rm", "ada", "--generation", "2", "--dry-run", url=elsad.url)
    assert said == "ada generation 2: would be removed\n"
    refusal = fault("conflict", "it is all there is of ada's session", "say --force")
    elsad.answers["POST /v1/store/rm"] = refusal
    done = run("store", "rm", "ada", "--generation", "2", url=elsad.url)
    assert done.returncode == 4 and "--force" in done.stderr
    assert run("store", "rm", "ada", "--generation", "9", url=elsad.url).returncode == 3


def test_store_rekey(elsad):
    Work(elsad, "rekey", {"count": 12})
    assert good("store", "rekey", url=elsad.url) == "the keys of 12 sessions are wrapped anew\n"
    Work(elsad, "rekey", failed("denied", "the old key is not known", "name it"))
    done = run("store", "rekey", url=elsad.url)
    assert done.returncode == 5 and "name it" in done.stderr


PARTS = [bytes(range(256)) * 4096, b"\0\r\n", b"end"]


def export_parts(elsad, *parts, end=b""):
    left = [*parts, end]
    elsad.answers["GET /v1/checkpoints"] = {"checkpoints": [checkpoint(1), checkpoint(2)]}
    elsad.answers["GET /v1/store/data"] = lambda _: (
        left.pop(0) if isinstance(left[0], tuple) else (200, left.pop(0))
    )
    return Work(elsad, "export")


def test_store_export_to_a_file(elsad, tmp_path):
    path = tmp_path / "ada.tar"
    work = export_parts(elsad, *PARTS)
    said = good("store", "export", "ada", str(path), url=elsad.url)
    assert said == f"1.0 MiB of ada's checkpoint 2 are in {path}\n"
    assert work.asked["generation"] == 2
    assert path.read_bytes() == b"".join(PARTS)
    assert path.stat().st_mode & 0o777 == 0o600 and list(tmp_path.iterdir()) == [path]
    # It is not written over, and half of one is not left behind.
    export_parts(elsad, *PARTS)
    done = run("store", "export", "ada", str(path), url=elsad.url)
    assert done.returncode == 4 and "there is a" in done.stderr
    other = tmp_path / "other.tar"
    export_parts(elsad, *PARTS, end=fault("corrupt", "a pack is short"))
    done = run("store", "export", "ada", str(other), url=elsad.url)
    assert done.returncode == 10 and "a pack is short" in done.stderr
    assert list(tmp_path.iterdir()) == [path]
    export_parts(elsad, *PARTS)
    assert run("store", "export", "ada", "/dev/full", url=elsad.url).returncode == 4
    export_parts(elsad, *PARTS)
    assert run("store", "export", "ada", str(tmp_path / "no" / "x"), url=elsad.url).returncode == 3


def test_store_export_to_standard_output(elsad, tmp_path):
    for argv in [], ["-"]:
        export_parts(elsad, *PARTS)
        with (tmp_path / "out").open("wb") as out:
            done = run("store", "export", "ada", *argv, "--generation", "1",
                       url=elsad.url, stdout=out)  # fmt: skip
        assert done.returncode == 0
        assert (tmp_path / "out").read_bytes() == b"".join(PARTS)
        assert done.stderr == "1.0 MiB of ada's checkpoint 1 written\n"
    export_parts(elsad, *PARTS)
    with open("/dev/full", "wb") as full:
        done = run("store", "export", "ada", url=elsad.url, stdout=full)
    assert done.returncode == 9 and "standard output" in done.stderr
    export_parts(elsad, *PARTS)
    seen, status = on_terminal("store", "export", "ada", url=elsad.url)
    assert status == 2 and b"nothing for a terminal" in seen


def test_store_import(elsad, tmp_path):
    path = tmp_path / "ada.tar"
    path.write_bytes(b"".join(PARTS) * 3)
    got = []
    elsad.answers["POST /v1/store/data"] = lambda asked: got.append(asked["body"]) or (200, b"")
    end = {"checkpoint": checkpoint(2, server="lab"), "resumable": True,
           "record": "ada/lab is known from now on; its next start wakes it"}  # fmt: skip
    Work(elsad, "import", end)
    said = good("store", "import", str(path), url=elsad.url)
    assert said == f"ada/lab generation 2: imported; {end['record']}\n"
    assert b"".join(got) == path.read_bytes() and got[-1] == b"" and len(got) == 5
    assert max(map(len, got)) == 1 << 20
    Work(elsad, "import", end)
    assert json.loads(good("store", "import", str(path), "--json", url=elsad.url))["resumable"]
    Work(elsad, "import", end)
    assert "imported" in good("store", "import", "-", url=elsad.url)  # an empty one
    assert got[-1] == b""
    # Why it is refused is told when it is known, also half-way.
    elsad.answers["POST /v1/store/data"] = fault("corrupt", "that is no export", "give another")
    done = run("store", "import", str(path), url=elsad.url)
    assert done.returncode == 10 and "that is no export" in done.stderr
    elsad.answers["POST /v1/store/data"] = 200, b""
    Work(elsad, "import", failed("conflict", "that generation is there already"))
    done = run("store", "import", str(path), url=elsad.url)
    assert done.returncode == 4 and not done.stdout
    assert run("store", "import", url=elsad.url).returncode == 2
    assert run("store", "import", str(tmp_path / "none"), url=elsad.url).returncode == 3
    assert run("store", "import", str(tmp_path), url=elsad.url).returncode != 0


def test_store_work_has_an_end(elsad):
    Work(elsad, "rekey", looks=10**9)
    began = time.monotonic()
    done = run("store", "rekey", "--timeout", "1", url=elsad.url)
    assert done.returncode == 8 and time.monotonic() - began < 5
    assert "goes on without us" in done.stderr


def test_what_is_still_to_come(elsad):
    waking = session(note="waking: 300 MiB to come", missing_bytes=300 << 20)
    stalled = session(
        user="bo", note="stalled since now: no route", reason="older", stalled_since=1795400000000
    )
    elsad.answers["GET /v1/sessions"] = {"sessions": [waking, stalled]}
    lines = good("sessions", url=elsad.url).splitlines()
    assert lines[1].endswith("waking: 300 MiB to come")
    assert lines[2].endswith("stalled since now: no route")
    elsad.answers["GET /v1/session"] = waking
    assert "300 MiB" in good("show", "ada", url=elsad.url)
    elsad.answers["GET /v1/session"] = stalled
    shown = good("show", "bo", url=elsad.url)
    assert "older" in shown and "stalled since" in shown


def test_policy_run(elsad):
    decision = {"user": "ada", "server": "", "hibernate": True, "reason": "away", "rule": "default"}
    elsad.answers["POST /v1/policy/run"] = {"decisions": [decision]}
    assert "yes" in good("policy", "run", url=elsad.url)
    assert json.loads(good("policy", "run", "--json", url=elsad.url)) == [decision]


# --- acting ---------------------------------------------------------------------------------------


def test_acting_without_waiting(elsad):
    answer = (202, operation(session=session()))
    for command in "hibernate", "snapshot", "stop", "forget":
        elsad.answers[f"POST /v1/session/{command}"] = answer
    elsad.answers["POST /v1/session/resume"] = 202, {}
    for command in "hibernate", "snapshot", "resume", "stop", "forget":
        said = good(command, "ada", "-s", "lab", "--why", "it is late", url=elsad.url)
        assert said.startswith("ada/lab: ")
        body = elsad.asked[-1]["body"]
        assert body.pop("through_hub", None) is (True if command == "hibernate" else None)
        assert body == {"user": "ada", "server": "lab", "who": "elsa", "why": "it is late"}
        assert "secret" not in good(command, "ada", "--json", url=elsad.url)


def test_keep_awake(elsad):
    elsad.answers["POST /v1/session/keep-awake"] = session()
    for text, seconds in ("90m", 5400), ("2d", 172800), ("30", 30), ("8h", 28800):
        good("keep-awake", "ada", "--for", text, url=elsad.url)
        until = elsad.asked[-1]["body"]["until"] / 1000
        assert abs(until - time.time() - seconds) < 30
    good("keep-awake", "ada", "--for", "0", url=elsad.url)
    assert elsad.asked[-1]["body"]["until"] == 0
    assert run("keep-awake", "ada", "--for", "soon", url=elsad.url).returncode == 2


class Story:
    """A session that goes through states, one per look, and stays in the last."""

    def __init__(self, elsad, command, *states, reply=None):
        self.states = list(states)
        elsad.answers["GET /v1/session"] = self.look
        elsad.answers["GET /v1/operation"] = self.move
        elsad.answers[f"POST /v1/session/{command}"] = 202, reply or operation(session=session())

    def look(self, _asked):
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return state if isinstance(state, tuple) else session(**state)

    def move(self, _asked):
        return operation()


def test_wait(elsad):
    going = {"state": "checkpointing", "operation": operation()}
    Story(elsad, "hibernate", {}, {}, going, going, {"state": "hibernated", "generation": 4})
    assert good("hibernate", "ada", "--wait", url=elsad.url) == "ada: hibernated\n"
    Story(elsad, "resume", {"state": "hibernated"}, {"state": "restoring"}, {}, reply={})
    answer = json.loads(good("resume", "ada", "--wait", "--json", url=elsad.url))
    assert answer["state"] == "running"
    assert "api_token" not in answer
    Story(elsad, "forget", {}, {"state": "forgetting"}, fault("not-found"))
    assert good("forget", "ada", "--wait", url=elsad.url) == "ada: forgotten\n"


def test_wait_shows_progress_on_a_terminal(elsad):
    going = {"state": "checkpointing", "operation": operation(step="du\x1bmp")}
    Story(elsad, "hibernate", {}, going, going, {"state": "hibernated"})
    seen, status = on_terminal("hibernate", "ada", "--wait", url=elsad.url)
    assert status == 0
    assert b"\r\x1b[Khibernate: du?mp 10.0 MiB of 100 MiB" in seen
    assert seen.endswith(b"\r\x1b[Kada: hibernated\r\n")


def test_wait_for_what_is_refused(elsad):
    failed = operation(state="failed", error=REFUSAL, log_tail=REFUSAL["log_tail"])
    Story(elsad, "hibernate", {}, {"state": "checkpointing"}, {"operation": failed})
    done = run("hibernate", "ada", "--wait", url=elsad.url)
    assert done.returncode == 6
    assert "io_uring is in use" in done.stderr
    assert "restart the kernel" in done.stderr
    assert "anon_inode:[io_uring]?[2J\n" in done.stderr
    assert not done.stdout


def test_wait_for_a_snapshot(elsad):
    going = {"state": "snapshotting", "operation": operation(kind="snapshot")}
    done = {"operation": operation(kind="snapshot", state="done"), "generation": 4}
    Story(elsad, "snapshot", {}, going, going, done)
    said = good("snapshot", "ada", "--wait", url=elsad.url)
    assert said == "ada: a checkpoint is taken; it goes on\n"
    # It runs in either case: only the operation tells.
    failed = operation(kind="snapshot", state="failed", error=REFUSAL)
    Story(elsad, "snapshot", {}, going, {"operation": failed})
    done = run("snapshot", "ada", "--wait", url=elsad.url)
    assert done.returncode == 6 and "io_uring is in use" in done.stderr and not done.stdout


def test_a_failure_of_before_is_not_ours(elsad):
    old = operation(id="00000000000000bb", state="failed", error=REFUSAL)
    Story(
        elsad, "resume", {"operation": old}, {"operation": old, "state": "hibernated"}, {}, reply={}
    )
    assert good("resume", "ada", "--wait", url=elsad.url) == "ada: running\n"


def test_wait_for_a_session_that_fails(elsad):
    lost = {"state": "failed", "reason": "the CPU lacks avx512", "changed_at": 1795400000009}
    Story(elsad, "resume", {"state": "hibernated"}, {"state": "restoring"}, lost, reply={})
    done = run("resume", "ada", "--wait", url=elsad.url)
    assert done.returncode == 6
    assert "avx512" in done.stderr


def test_wait_has_an_end(elsad):
    Story(elsad, "hibernate", {"state": "checkpointing"})
    began = time.monotonic()
    done = run("hibernate", "ada", "--wait", "--timeout", "1", url=elsad.url)
    assert done.returncode == 8
    assert time.monotonic() - began < 5
    assert "still checkpointing, not hibernated, after 1 s" in done.stderr
    assert "--timeout" in done.stderr


def test_wait_over_a_restart_of_elsad(elsad):
    down = fault("unavailable")
    Story(elsad, "hibernate", {}, {}, down, down, down, {"state": "hibernated"})
    assert good("hibernate", "ada", "--wait", url=elsad.url) == "ada: hibernated\n"


def test_waiting_for_an_elsad_that_hangs(elsad):
    release = threading.Event()
    elsad.answers["GET /v1/session"] = lambda _: (release.wait(20), session())[1]
    done = run("hibernate", "ada", "--wait", "--timeout", "1", url=elsad.url)
    release.set()
    assert done.returncode == 8
    assert "does not answer" in done.stderr


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAULTS)
def test_exit_status_by_kind_of_failure(elsad, name):
    elsad.answers["GET /v1/session"] = fault(name, "what was", "what to do")
    done = run("show", "ada", url=elsad.url)
    assert done.returncode == FAULTS[name][1]
    assert done.stderr == "elsa: what was\n      what to do\n"
    done = run("show", "ada", "--json", url=elsad.url)
    assert not done.stdout
    assert json.loads(done.stderr) == {
        "error": {"fault": name, "text": "what was", "remedy": "what to do"}
    }


COMMANDS = [
    ["status"],
    ["sessions"],
    ["show", "ada"],
    ["hibernate", "ada"],
    ["resume", "ada", "--wait"],
    ["stop", "ada"],
    ["forget", "ada", "--wait"],
    ["keep-awake", "ada"],
    ["events"],
    ["events", "--follow"],
    ["policy", "run"],
    ["capacity"],
    ["store", "ls"],
    ["store", "verify"],
    ["node", "list"],
    ["node", "token"],
    ["node", "drain", "n1"],
    ["node", "remove", "n1", "--force"],
    ["capacity"],
    ["evacuation", "n1"],
    ["drill", "evict", "n1"],
    ["drill", "cancel", "n1"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_elsad(command, tmp_path):
    done = run(*command, url=f"unix:{tmp_path}/elsad.sock")
    assert done.returncode == 7
    assert "cannot reach elsad" in done.stderr
    assert "systemctl start elsad" in done.stderr


GARBAGE = [b"", b"<html>", b"5", b"[]", b"null", b'"\\ud800"', b"{", b'{"sessions": 5}', b"\xff" * 9]
GARBAGE += [b"[" * 100000]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_garbage(elsad, command):
    for garbage in GARBAGE:
        for path in "health", "sessions", "session", "events", "checkpoints", "capacity":
            elsad.answers[f"GET /v1/{path}"] = garbage
        for path in "hibernate", "resume", "stop", "forget", "keep-awake":
            elsad.answers[f"POST /v1/session/{path}"] = garbage
        elsad.answers["POST /v1/policy/run"] = garbage
        for path in "nodes", "nodes/evacuation", "capacity":
            elsad.answers[f"GET /v1/{path}"] = garbage
        for path in "token", "drain", "remove", "drill", "drill/cancel":
            elsad.answers[f"POST /v1/nodes/{path}"] = garbage
        done = run(*command, "--timeout", "5", url=elsad.url)
        assert done.returncode in (1, 7), (garbage[:20], done)
        assert done.stderr.startswith("elsa: elsad "), (garbage[:20], done)
        assert not done.stdout


def test_errors_that_are_not_of_elsad(elsad):
    for status, exit_status in (404, 3), (500, 1), (302, 1), (429, 7), (418, 2):
        elsad.answers["GET /v1/sessions"] = status, b"<html>nginx</html>"
        done = run("sessions", url=elsad.url)
        assert done.returncode == exit_status, done
        assert f"HTTP status {status}" in done.stderr
        assert "--url" in done.stderr


def test_something_else_behind_the_socket(tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer():
            connection, _ = listener.accept()
            connection.recv(1000)
            connection.sendall(b"SSH-2.0-OpenSSH\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        assert run("sessions", url=f"unix:{path}").returncode == 7


def test_no_permission(elsad):
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    elsad.dir.chmod(0o711)
    elsad.path.chmod(0o600)
    done = run("sessions", url=elsad.url, user=65534, group=65534, extra_groups=[])
    assert done.returncode == 5
    assert "may not use" in done.stderr
    assert "controller.allowed_users" in done.stderr


# --- tokens and addresses -------------------------------------------------------------------------


def test_token(tcp_elsad, tmp_path):
    def check(asked):
        if asked["token"] == "Bearer right":
            return {"sessions": []}
        return 401, {"error": {"fault": "denied", "text": "no or a wrong token", "remedy": ""}}

    tcp_elsad.answers["GET /v1/sessions"] = check
    right, wrong, empty = tmp_path / "right", tmp_path / "wrong", tmp_path / "empty"
    right.write_text("right\n")
    wrong.write_text("wrong")
    empty.write_text("\n")
    url = tcp_elsad.url
    assert good("sessions", "--token-file", str(right), url=url) == "no sessions\n"
    assert good("sessions", url=url + "/", env={"ELSA_TOKEN": "right"}) == "no sessions\n"
    done = run("sessions", url=url)
    assert done.returncode == 5
    assert "--token-file" in done.stderr
    done = run("sessions", "--token-file", str(wrong), url=url)
    assert done.returncode == 5
    assert "controller.token_file" in done.stderr
    assert run("sessions", "--token-file", str(empty), url=url).returncode == 2
    assert run("sessions", "--token-file", str(tmp_path / "none"), url=url).returncode == 3


def test_where_elsad_is(elsad, tmp_path):
    elsad.answers["GET /v1/sessions"] = {"sessions": []}
    config = tmp_path / "elsa.toml"
    config.write_text(f'[controller]\nsocket = "{elsad.path}"\n')
    good("sessions", "--config", str(config))
    good("sessions", "-c", str(config))
    good("sessions", "--url", elsad.url, env={"ELSA_URL": "unix:/nowhere"})
    config.write_text("[controller]\nsoket = 1\n")
    done = run("sessions", "--config", str(config))
    assert done.returncode == 2
    assert f"{config}:2:1: " in done.stderr
    for url in "ftp://here", "elsad", "", "unix:relative":
        assert run("sessions", "--url", url).returncode == 2


# --- names ----------------------------------------------------------------------------------------

NAMES = [
    "a/b",
    "../../etc/passwd",
    "..",
    "J\u00fcrgen M\u00fcller",
    "\u65e5\u672c\u8a9e",
    "x" * 300,
    "\u00fc" * 300,
    "a&server=b",
    "a?b#c%00",
    "\x1b]0;owned\x07\x1b[2J",
    "\u009b2J",
    "\u202enimda",
    "new\nline\ttab",
    "'; rm -rf /",
    " ",
    "{user}",
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:20])
def test_names(elsad, name):
    elsad.answers["GET /v1/session"] = lambda asked: session(**asked["query"])
    elsad.answers["GET /v1/sessions"] = {"sessions": [session(user=name, server=name)]}
    elsad.answers["POST /v1/session/stop"] = 202, operation()
    shown = json.loads(good("show", name, "-s", name, "--json", url=elsad.url))
    assert (shown["user"], shown["server"]) == (name, name)
    (listed,) = json.loads(good("sessions", "--json", url=elsad.url))
    assert listed["user"] == name
    good("stop", f"--server={name}", "--", name, url=elsad.url)
    assert elsad.asked[-1]["body"]["server"] == name
    for argv in ["sessions"], ["sessions", "--json"], ["show", name], ["stop", name]:
        seen, status = on_terminal(*argv, url=elsad.url)
        assert status == 0
        text = seen.decode().replace("\r\n", "")
        assert not [c for c in text if ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 or c == "\u202e"]
        assert "secret" not in text


def test_errors_are_harmless_too(elsad):
    elsad.answers["GET /v1/session"] = fault("not-found", "no \x1b[2J", "\u009b2J")
    seen, status = on_terminal("show", "x", url=elsad.url)
    assert (seen, status) == (b"elsa: no ?[2J\r\n      ?2J\r\n", 3)
    seen, status = on_terminal("\x1b[2J", url=elsad.url)
    assert status == 2
    assert b"\x1b" not in seen


def test_names_that_are_no_text(elsad):
    for argv in ["show", "\udcff"], ["stop", "ada", "--server", "\udcff"]:
        done = run(*argv, url=elsad.url)
        assert done.returncode == 2
        assert "UTF-8" in done.stderr
        assert json.loads(run(*argv, "--json", url=elsad.url).stderr)["error"]["fault"] == "bad-input"


# --- the line -------------------------------------------------------------------------------------


@pytest.mark.parametrize("posix", [False, True])
def test_options_stand_anywhere(elsad, posix):
    env = {"POSIXLY_CORRECT": "1"} if posix else {}
    elsad.answers["GET /v1/session"] = session()
    for argv in (
        ["--json", "-s", "lab", "show", "ada"],
        ["show", "--json", "ada", "-slab"],
        ["show", "ada", "--server=lab", "--json"],
        ["--json", "show", "-s", "lab", "--", "ada"],
    ):
        assert json.loads(good(*argv, url=elsad.url, env=env))["user"] == "ada"
        assert elsad.asked[-1]["query"] == {"user": "ada", "server": "lab"}
    good("show", "--", "--json", url=elsad.url, env=env)
    assert elsad.asked[-1]["query"]["user"] == "--json"


BAD_LINES = [
    ([], "no command given"),
    (["nonsense"], 'no command "nonsense"'),
    (["stor"], "elsa store ls"),
    (["store"], "elsa store ls"),
    (["show"], "wants the name of a user"),
    (["show", ""], "is empty"),
    (["show", "ada", "bo"], '"bo" is one word too many'),
    (["sessions", "ada"], '"ada" is one word too many'),
    (["a"] * 20, "one word too many"),
    (["sessions", "--wait"], "takes no --wait"),
    (["sessions", "--nonsense"], "no option --nonsense"),
    (["sessions", "-x"], "no option -x"),
    (["sessions", "-fx"], "no option -x"),
    (["sessions", "--json=yes"], "--json takes no value"),
    (["show", "ada", "--server"], "--server wants a value"),
    (["show", "ada", "-s"], "-s wants a value"),
    (["events", "-n", "many"], "--lines wants a whole number"),
    (["events", "-n", "-1"], "--lines wants a whole number"),
    (["events", "-n", ""], "--lines wants a whole number"),
    (["events", "-n", "99999999999999999999"], "--lines wants a whole number"),
    (["stop", "ada", "--wait", "--timeout", "1e9"], "--timeout wants a whole number"),
    (["events", "--server", "lab"], "goes with the name of a user"),
    (["hibernate", "ada", "--generation", "3"], "takes no --generation"),
]


@pytest.mark.parametrize(("argv", "text"), BAD_LINES, ids=lambda x: " ".join(x)[:40])
def test_bad_lines(argv, text):
    done = run(*argv, url="unix:/nowhere")
    assert done.returncode == 2
    assert text in done.stderr
    assert not done.stdout


def test_help_anywhere():
    everything = good("--help")
    for argv in ["-h"], ["help"], ["--nonsense", "-h"], ["nonsense", "-h"], ["-h", "sessions"]:
        assert good(*argv) == everything
    one = good("hibernate", "--help")
    assert one.startswith("elsa hibernate")
    assert "--wait" in one
    for argv in ["hibernate", "ada", "-h"], ["help", "hibernate"], ["hibernate", "-n", "x", "-h"]:
        assert good(*argv) == one
    assert "--generation" in good("store", "verify", "-h")
    # After "--" it is a name.
    assert run("show", "--", "-h", url="unix:/nowhere").returncode == 7
    assert good("--version").startswith("elsa ")


def test_broken_pipe(elsad):
    rows = [session(user=f"user-{i}") for i in range(10000)]
    elsad.answers["GET /v1/sessions"] = {"sessions": rows}
    done = subprocess.run(
        ["bash", "-c", f'{ELSA} sessions | head -1; echo "${{PIPESTATUS[0]}}"'],
        env=os.environ | {"ELSA_URL": elsad.url},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert not done.stderr
    head, status = done.stdout.splitlines()
    assert head.startswith("USER")
    assert status == "141"


def test_full_disk(elsad):
    elsad.answers["GET /v1/sessions"] = {"sessions": [session()]}
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = run("sessions", url=elsad.url, stdout=full)
    assert done.returncode == 9
    assert "cannot write" in done.stderr


# --- what needs no elsad --------------------------------------------------------------------------


def test_config_check(tmp_path):
    config = tmp_path / "elsa.toml"
    config.write_text('[idle]\ntimeout = "2h"\n')
    assert good("config", "check", str(config)) == f"{config}: good\n"
    assert good("config", "check", "--config", str(config)) == f"{config}: good\n"
    assert json.loads(good("config", "check", str(config), "--json")) == {"ok": True}
    for text, where in (
        ('[idle]\ntimeot = "2h"\n', "2:1"),
        ("[idle]\n\n  timeout = true\n", "3:13"),
        ("[idle\n", "1:"),
        ('[hub]\napi_url = "nonsense"\n', "2:11"),
    ):
        config.write_text(text)
        done = run("config", "check", str(config))
        assert done.returncode == 2
        assert f"{config}:{where}" in done.stderr, done.stderr
        error = json.loads(run("config", "check", str(config), "--json").stderr)["error"]
        assert error["fault"] == "bad-input"
    assert run("config", "check", str(tmp_path / "none")).returncode == 3


def test_config_show_can_be_read_back(tmp_path):
    config = tmp_path / "elsa.toml"
    shown = good("config", "show", str(CHECKOUT / "config.example.toml"))
    config.write_text(shown)
    assert good("config", "show", str(config)) == shown
    as_json = good("config", "show", str(config), "--json")
    assert json.loads(as_json) == {"toml": shown}


def test_doctor_is_elsa_nodes(tmp_path):
    shutil.copy(ELSA, tmp_path / "elsa")
    node = tmp_path / "elsa-node"
    node.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 6\n')
    node.chmod(0o755)
    done = subprocess.run(
        [str(tmp_path / "elsa"), "doctor", "--json", "--config", "x y"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 6
    assert done.stdout.splitlines() == ["--config", "x y", "doctor", "--json"]


# --- machines of the cloud ------------------------------------------------------------------------


def test_capacity(elsad):
    pool = {"name": "spot-a", "desired": 2, "machines": 1, "nodes": 1, "problem": "none left"}
    machine = {"id": "i-1", "pool": "spot-a", "state": "joined", "node": "n1", "price": "spot"}
    wanted = {"user": "ada", "server": "", "memory_bytes": 1 << 30, "text": "a machine comes"}
    answer = {"provider": "autoscaling", "pools": [pool], "machines": [machine], "wanted": [wanted]}
    elsad.answers["GET /v1/capacity"] = answer
    shown = good("capacity", url=elsad.url)
    for word in "spot-a", "none left", "i-1", "joined", "n1", "ada", "a machine comes", "1.0 GiB":
        assert word in shown, word
    assert json.loads(good("capacity", "--json", url=elsad.url)) == answer
    elsad.answers["GET /v1/capacity"] = {"provider": "none", "pools": [], "machines": []}
    assert "capacity.provider" in good("capacity", url=elsad.url)


# --- what is made from the table ------------------------------------------------------------------


# --- nodes -------------------------------------------------------------------

NODE = {
    "name": "n1",
    "state": "ready",
    "local": False,
    "up": True,
    "price": "spot",
    "zone": "eu-1a",
    "instance_type": "m7i.large",
    "sessions": 3,
    "memory_bytes": 8 << 30,
    "memory_available_bytes": 1 << 30,
    "lease_left_ms": 21000,
    "seen_at": 0,
}


def test_node_list(elsad):
    local = {"name": "hub", "state": "ready", "local": True, "up": False, "sessions": 0, "price": None}
    elsad.answers["GET /v1/nodes"] = {"items": [local, NODE]}
    lines = good("node", "list", url=elsad.url).splitlines()
    assert lines[0].split() == "NAME STATE PRICE ZONE TYPE SESSIONS MEMORY LEASE SEEN NOTICE".split()
    assert lines[1].split()[:5] == ["hub", "ready,", "no", "answer", "-"]
    for cell in "n1", "spot", "eu-1a", "m7i.large", "3", "1.0 GiB of 8.0 GiB free", "21.0 s":
        assert cell in lines[2]
    assert json.loads(good("node", "list", "--json", url=elsad.url))[1] == NODE


def test_node_token(elsad):
    answer = {"token": "elsa1.a.b.c", "expires_at": 1795300000000, "uses": 2, "url": "https://hub:8443"}
    elsad.answers["POST /v1/nodes/token"] = answer
    said = good("node", "token", "--ttl", "30m", "--uses", "2", url=elsad.url)
    assert elsad.asked[-1]["body"] == {"ttl_ms": 1800000, "uses": 2}
    assert said.startswith("elsa1.a.b.c\n")
    assert 'controller = "https://hub:8443"' in said and "for 2 hosts" in said
    good("node", "token", url=elsad.url)
    assert elsad.asked[-1]["body"] == {"ttl_ms": 3600000, "uses": 1}
    assert json.loads(good("node", "token", "--json", url=elsad.url)) == answer
    done = run("node", "token", "--ttl", "soon", url=elsad.url)
    assert done.returncode == 2 and "--ttl wants a time" in done.stderr


@pytest.mark.parametrize("what", ["drain", "undrain", "remove"])
def test_node_changes(elsad, what):
    elsad.answers[f"POST /v1/nodes/{what}"] = {"node": "n1"}
    assert good("node", what, "n1", url=elsad.url).startswith("n1: ")
    assert elsad.asked[-1]["body"] == {"node": "n1"}
    done = run("node", what, url=elsad.url)
    assert done.returncode == 2 and "wants the name of a node" in done.stderr
    elsad.answers[f"POST /v1/nodes/{what}"] = fault("not-found", "no node")
    assert run("node", what, "n1", url=elsad.url).returncode == 3


def test_node_remove_force(elsad):
    elsad.answers["POST /v1/nodes/remove"] = {"node": "n1"}
    good("node", "remove", "n1", "--force", url=elsad.url)
    assert elsad.asked[-1]["body"] == {"node": "n1", "force": True}


def test_node_list_shows_notices(elsad):
    at = int((time.time() + 3600) * 1000)
    soon = [{"kind": "rebalance", "source": "aws", "id": "r"},
            {"kind": "evict", "source": "drill", "id": "d", "at": at}]
    elsad.answers["GET /v1/nodes"] = {"items": [{**NODE, "notices": soon},
                                                {**NODE, "notices": soon[:1]},
                                                {**NODE, "notices": "?"}]}
    lines = good("node", "list", url=elsad.url).splitlines()
    assert re.search(r"evict in (59|60) min$", lines[1])
    assert lines[2].endswith("rebalance")
    assert not re.search("evict|rebalance", lines[3])


@pytest.mark.parametrize("kind", ["evict", "rebalance", "reboot", "freeze"])
def test_drill(elsad, kind):
    elsad.answers["POST /v1/nodes/drill"] = {"node": "n1"}
    assert good("drill", kind, "n1", "--in", "2m", url=elsad.url).startswith("n1: ")
    asked = elsad.asked[-1]["body"]
    assert (asked["node"], asked["kind"], asked["in_ms"]) == ("n1", kind, 120000)
    good("drill", kind, "n1", url=elsad.url)
    assert elsad.asked[-1]["body"]["in_ms"] == 30000
    done = run("drill", kind, url=elsad.url)
    assert done.returncode == 2 and "wants the name of a node" in done.stderr
    done = run("drill", kind, "n1", "--in", "soon", url=elsad.url)
    assert done.returncode == 2 and "--in wants a time" in done.stderr


def test_drill_cancel(elsad):
    elsad.answers["POST /v1/nodes/drill/cancel"] = {"node": "n1"}
    assert good("drill", "cancel", "n1", url=elsad.url).startswith("n1: ")
    assert elsad.asked[-1]["body"]["node"] == "n1"
    elsad.answers["POST /v1/nodes/drill/cancel"] = fault("not-found", "there is no drill")
    assert run("drill", "cancel", "n1", url=elsad.url).returncode == 3


def test_documents_are_up_to_date():
    for option, path in ("--help-markdown", "docs/cli.md"), ("--help-manual", "packaging/man/elsa.1"):
        assert good(option) == (CHECKOUT / path).read_text(), f"elsa {option} >{path}"


def test_every_command_is_tried_here():
    source = Path(__file__).read_text(encoding="utf-8")
    for word in good("--help-words").split():
        assert word.lstrip("-") in source, word


def complete(line, **options):
    """What bash would offer."""
    script = CHECKOUT / "packaging" / "completion" / "elsa"
    words = line.split(" ")
    done = subprocess.run(
        [
            "bash",
            "-c",
            'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
            'COMPREPLY=(); _elsa; printf "%s\\n" "${COMPREPLY[@]}"',
            "bash",
            str(script),
            *words,
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{BUILD}:{os.environ['PATH']}", **options.get("env", {})},
        timeout=30,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.stdout.split("\n")[:-1]


def test_completion(elsad):
    env = {"ELSA_URL": elsad.url}
    names = ["ada", "a b", "$(touch /tmp/owned)", "x\ny", "bo"]
    elsad.answers["GET /v1/sessions"] = {"sessions": [session(user=name) for name in names]}
    assert complete("elsa st", env=env) == ["status", "stop", "store"]
    assert complete("elsa store ", env=env) == [
        "ls", "show", "verify", "gc", "rm", "export", "import", "rekey",
    ]  # fmt: skip
    elsad.answers["GET /v1/nodes"] = {"items": [{"name": "hub"}, {"name": "n1"}, {"name": "$(id)"}]}
    assert complete("elsa node un", env=env) == ["undrain"]
    assert complete("elsa node drain ", env=env) == ["hub", "n1"]
    assert complete("elsa hibernate --wa", env=env) == ["--wait"]
    assert sorted(complete("elsa show a", env=env)) == ["a\\ b", "ada"]
    assert complete("elsa show $", env=env) == ["\\$\\(touch\\ /tmp/owned\\)"]
    assert complete("elsa show b", env={"ELSA_URL": "unix:/nowhere"}) == [""]
    assert not Path("/tmp/owned").exists()
