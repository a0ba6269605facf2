# SPDX-License-Identifier: Apache-2.0
"""Runs inside a session under test: holds of everything a notebook server and its kernels may hold,
and answers over HTTP whether it still does."""
import ctypes
import fcntl
import hashlib
import http.server
import json
import mmap
import os
import pty
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

HOME = os.environ["HOME"]
STARTED = time.time()


class Clock(threading.Thread):
    """Counts, and notes whether the monotonic clock ever went back or jumped."""

    def __init__(self):
        super().__init__(daemon=True)
        self.ticks, self.back, self.longest = 0, 0, 0.0

    def run(self):
        last = time.monotonic()
        while True:
            time.sleep(0.01)
            now = time.monotonic()
            self.ticks += 1
            self.back += now < last
            self.longest = max(self.longest, now - last)
            last = now


class Echo(threading.Thread):
    """A connection over loopback TCP with somebody at the other end."""

    def __init__(self):
        super().__init__(daemon=True)
        listener = socket.create_server(("127.0.0.1", 0))
        self.client = socket.create_connection(listener.getsockname())
        self.server, _ = listener.accept()

    def run(self):
        while data := self.server.recv(100):
            self.server.sendall(data)

    def works(self):
        self.client.sendall(b"hello")
        return self.client.recv(5) == b"hello"


def open_database():
    db = sqlite3.connect(HOME + "/history.sqlite", check_same_thread=False, isolation_level=None)
    db.execute("create table if not exists history (line text)")
    db.execute("begin immediate")
    db.execute("insert into history values ('half a transaction')")
    return db


def open_deleted():
    file = tempfile.TemporaryFile(dir="/tmp")
    file.write(b"deleted" * 500000)
    file.flush()
    return file


def open_linked():
    """A file whose name is gone while another name of it is left."""
    path = HOME + "/linked"
    for old in (path, path + ".other"):
        if os.path.exists(old):
            os.unlink(old)
    file = open(path, "w+")
    file.write("linked")
    file.flush()
    os.link(path, path + ".other")
    os.unlink(path)
    return file


def open_terminal():
    master, slave = pty.openpty()
    shell = subprocess.Popen(["/bin/sh", "-i"], stdin=slave, stdout=slave, stderr=slave,
                             start_new_session=True, env={"PS1": "$ ", "PATH": "/usr/bin:/bin"})
    os.close(slave)
    return master, shell


class Probe:
    def __init__(self):
        self.turn = threading.Lock()
        self.clock, self.echo = Clock(), Echo()
        self.clock.start()
        self.echo.start()
        self.db = open_database()
        self.deleted = open_deleted()
        self.linked = open_linked()
        self.terminal, self.shell = open_terminal()
        self.child = subprocess.Popen(["sleep", "100000"])
        self.stopped = subprocess.Popen(["sleep", "100000"])
        self.stopped.send_signal(19)
        self.pipe = os.pipe()
        os.write(self.pipe[1], b"in the pipe")
        self.pair = socket.socketpair()
        self.pair[0].send(b"in the socket")
        self.shared = mmap.mmap(-1, 1 << 20)
        self.shared[:6] = b"shared"
        self.shm = open("/dev/shm/probe", "w+b")
        self.shm.write(b"shm" * 100000)
        self.shm.flush()
        self.lock = open(HOME + "/lock", "w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.timer_due = time.monotonic() + 3600
        self.timer = threading.Timer(3600, print)
        self.timer.daemon = True
        self.timer.start()
        self.memory, self.digest, self.odd = b"", "", []
        with open("/usr/local/own-layer" if os.access("/usr/local", os.W_OK) else "/tmp/own-layer",
                  "w") as f:
            f.write("layer")

    def in_terminal(self):
        os.write(self.terminal, b"echo $((6*7))-x\n")
        seen, end = b"", time.monotonic() + 5
        while b"42-x" not in seen and time.monotonic() < end:
            seen += os.read(self.terminal, 1000)
        return b"42-x" in seen

    def peek_pipe(self):
        data = os.read(self.pipe[0], 100)
        os.write(self.pipe[1], data)
        return data

    @staticmethod
    def state_of(process):
        with open(f"/proc/{process.pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0]

    def state(self):
        with self.turn:  # they read from one place in the same files
            return self.look()

    def look(self):
        self.deleted.seek(0)
        self.linked.seek(0)
        lock = open(HOME + "/lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            locked = False
        except BlockingIOError:
            locked = True
        stopped = self.state_of(self.stopped)
        for _ in range(100):  # after a restore it goes into its stop anew, when its turn comes
            if stopped == "R":
                time.sleep(0.01)
                stopped = self.state_of(self.stopped)
        return {
            "started": STARTED, "pid": os.getpid(), "uid": os.getuid(),
            "ticks": self.clock.ticks, "back": self.clock.back, "longest": self.clock.longest,
            "monotonic": time.monotonic(), "timer_left": self.timer_due - time.monotonic(),
            "threads": threading.active_count(),
            "echo": self.echo.works(),
            "transaction": self.db.in_transaction,
            "history": self.db.execute("select count(*) from history").fetchone()[0],
            "deleted": hashlib.sha256(self.deleted.read()).hexdigest(),
            "linked": self.linked.read(),
            "terminal": self.in_terminal(),
            "child": self.child.poll() is None,
            "stopped": stopped,
            "pipe": self.peek_pipe().decode(),
            "pair": self.pair[1].recv(100, socket.MSG_PEEK).decode(),
            "shared": self.shared[:6].decode(),
            "shm": os.path.getsize("/dev/shm/probe"),
            "locked": locked,
            "layer": open("/tmp/own-layer").read(),
            "digest": hashlib.sha256(self.memory).hexdigest() if self.memory else "",
        }

    def fill(self, mib):
        """Random memory that no compression makes small."""
        self.memory = bytearray(int(mib) << 20)
        with open("/dev/urandom", "rb", buffering=0) as random:
            for at in range(0, len(self.memory), 1 << 20):
                random.readinto(memoryview(self.memory)[at:at + (1 << 20)])
        self.digest = hashlib.sha256(self.memory).hexdigest()
        return {"digest": self.digest}

    def hold(self, what):
        """Something that CRIU cannot take."""
        if what == "alg":
            s = socket.socket(38, socket.SOCK_SEQPACKET)  # AF_ALG
            s.bind(("hash", "sha256"))
            self.odd.append(s)
        elif what == "io_uring":
            libc = ctypes.CDLL(None, use_errno=True)
            params = ctypes.create_string_buffer(120)
            fd = libc.syscall(425, 4, params)
            return {"fd": fd, "errno": ctypes.get_errno()}
        elif what == "netlink":
            s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15)  # KOBJECT_UEVENT
            s.bind((0, 1))
            self.odd.append(s)
        elif what == "memfd_secret":
            libc = ctypes.CDLL(None, use_errno=True)
            fd = libc.syscall(447, 0)
            return {"fd": fd, "errno": ctypes.get_errno()}
        elif what == "userfaultfd":
            libc = ctypes.CDLL(None, use_errno=True)
            fd = libc.syscall(323, 1)
            return {"fd": fd, "errno": ctypes.get_errno()}
        elif what == "perf":
            libc = ctypes.CDLL(None, use_errno=True)
            attr = bytearray(112)
            attr[0:8] = (1).to_bytes(4, "little") + (112).to_bytes(4, "little")
            fd = libc.syscall(298, bytes(attr), 0, -1, -1, 0)
            return {"fd": fd, "errno": ctypes.get_errno()}
        elif what == "mqueue":
            libc = ctypes.CDLL(None, use_errno=True)
            fd = libc.syscall(240, b"probe", 0o102, 0o600, None)
            return {"fd": fd, "errno": ctypes.get_errno()}
        elif what == "vsock":
            self.odd.append(socket.socket(40, socket.SOCK_STREAM))
        elif what == "mptcp":
            s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
            s.bind(("127.0.0.1", 0))
            s.listen()
            self.odd.append(s)
        elif what == "icmp":
            self.odd.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1))
        return {}

    def clients(self):
        """The ports of whoever is connected."""
        return {"ports": sorted(server.clients)}

    def drop(self):
        for s in self.odd:
            s.close()
        self.odd.clear()
        return {}

    def run(self, code):
        out = {}
        exec(code, {"out": out, "probe": self})  # pylint: disable=exec-used
        return out


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlparse(self.path)
        args = dict(urllib.parse.parse_qsl(url.query))
        status = 200
        try:
            answer = getattr(probe, url.path.strip("/"))(**args)
        except Exception as e:  # pylint: disable=broad-except
            status, answer = 500, {"error": repr(e)}
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_ECHO(self):
        """A connection that stays: each line comes back, with a number."""
        self.wfile.write(b"open\n")
        for number, line in enumerate(self.rfile):
            self.wfile.write(b"%d %s" % (number, line))
        self.close_connection = True

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128  # as tornado's

    def __init__(self, *args):
        super().__init__(*args)
        self.clients = set()

    def process_request_thread(self, request, client_address):
        self.clients.add(client_address[1])
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.clients.discard(client_address[1])


probe = Probe()
print("probe is up", flush=True)
server = Server(("", int(sys.argv[1])), Handler)
server.serve_forever()
