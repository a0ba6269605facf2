# SPDX-License-Identifier: Apache-2.0
"""elsa-node under test: one daemon with its own state, and sessions driven over its socket."""
import contextlib
import http.client
import json
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from basekit import PATIENCE

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("ELSA_BUILD",
                                    SOURCE / "build" / os.environ.get("PRESET", "release")))
PROBE = SOURCE / "tests" / "e2e" / "probe.py"


class UnixHTTP(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


class Refused(Exception):
    """An answer of the API that is no 200."""

    def __init__(self, status, body):
        super().__init__(f"{status}: {body}")
        self.status = status
        self.error = body.get("error", {}) if isinstance(body, dict) else {}


def new_id():
    return secrets.token_hex(8)


def wait_for(what, timeout=60, step=0.02):
    """Until what() is true; its value."""
    timeout *= PATIENCE
    end = time.monotonic() + timeout
    while True:
        value = what()
        if value:
            return value
        assert time.monotonic() < end, f"waited {timeout} s in vain for {what}"
        time.sleep(step)


class Node:
    """One elsa-node, its directories and what it says."""

    def __init__(self, where, config=""):
        self.dir = pathlib.Path(where)
        self.config = self.dir / "elsa.toml"
        self.socket = self.dir / "node.sock"
        self.state = self.dir / "state"
        self.store = self.dir / "store"
        self.run_dir = pathlib.Path(tempfile.mkdtemp(prefix="elsa-", dir="/run"))
        self.run_dir.chmod(0o755)
        self.process = None
        self.log = self.dir / "node.log"
        self.dir.mkdir(parents=True, exist_ok=True)
        self.write_config(config)

    def write_config(self, more="", node=""):
        doze = "" if "[doze]" in more else '[doze]\nswap = "zram"'
        self.config.write_text(f"""
[node]
socket = "{self.socket}"
state_dir = "{self.state}"
run_dir = "{self.run_dir}"
allowed_user = "root"
cgroup = "elsa-test"
effect_timeout = "60s"
{node}
[store]
url = "file://{self.store}"
key_file = "{self.dir}/store.key"
cache = "{self.dir}/cache"
{doze}
[network]
allow = []
{more}
""")

    def start(self, *args, prefix=(), wait=True):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*prefix, BUILD / "elsa-node", "--config", self.config, *args],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        if wait:
            wait_for(self.answers, 30)
        return self

    def answers(self):
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.get("/v1/node")

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
        self.died()

    def died(self, timeout=60):
        """Waits for its end, however that came."""
        if self.process:
            self.process.wait(timeout * PATIENCE)
        return self.process and self.process.returncode

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
        return self.died()

    def teardown(self):
        self.kill()
        subprocess.run([BUILD / "elsa-node", "--config", self.config, "teardown", "--all"],
                       check=True, timeout=120)
        shutil.rmtree(self.run_dir, ignore_errors=True)

    # --- its API ---

    def ask(self, method, path, body=None, timeout=120, good=(200,)):
        connection = UnixHTTP(self.socket, timeout)
        try:
            connection.request(method, path, None if body is None else json.dumps(body),
                               {"Content-Type": "application/json"})
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        kind = answer.headers.get("Content-Type", "")
        body = json.loads(data) if "json" in kind else data.decode("utf-8", "replace")
        if answer.status not in good:
            raise Refused(answer.status, body)
        return body

    def get(self, path, **options):
        return self.ask("GET", path, **options)

    def effect(self, kind, session, generation=0, effect_id=None, **options):
        effect_id = effect_id or new_id()
        return self.ask("PUT", f"/v1/effects/{effect_id}", {
            "id": effect_id, "kind": kind, "generation": generation, "session": session.spec},
            **options)

    def effect_when_read(self, kind, session, generation=0, effect_id=None, **options):
        """Of a session that has read and answered all that it was sent, as it must have to be put to sleep. While
        it has not, it is asked for anew; the last result."""
        ids = iter([effect_id or new_id()])
        results = []

        def read():
            results.append(self.effect(kind, session, generation, next(ids, None), **options))
            return "has been sent something" not in str(results[-1].get("text"))
        wait_for(read)
        return results[-1]

    def done(self, *args, **options):
        """An effect that must succeed."""
        result = self.effect_when_read(*args, **options)
        assert result["state"] == "done", json.dumps(result, indent=1)
        return result

    def sessions(self):
        return {s["id"]: s for s in self.get("/v1/sessions")["items"]}

    def checkpoints(self, session=None):
        query = f"?session={session.id}" if session else ""
        return self.get("/v1/checkpoints" + query)["items"]

    def steps(self):
        out = subprocess.run([BUILD / "elsa-node", "--list-steps"], check=True, timeout=20,
                             capture_output=True, text=True).stdout
        return [tuple(line.split()) for line in out.splitlines()]


class Session:
    """What elsad would know of a session, and the probe program that runs in it."""
    count = 0

    def __init__(self, node, command=None, env=(), **more):
        Session.count += 1
        self.node = node
        self.id = new_id()
        self.home = node.dir / "homes" / self.id
        self.home.mkdir(parents=True)
        os.chmod(self.home.parent, 0o755)
        os.chown(self.home, 1500, 1500)
        shutil.copy(PROBE, self.home / "probe.py")
        self.address = f"10.99.{Session.count // 250 + 1}.{Session.count % 250 + 2}"
        self.port = 8888
        self.spec = {
            "id": self.id, "user": "ada/../\u00e9\U0001f600", "server": "", "address": self.address,
            "port": self.port, "uid": 1500, "gid": 1500, "home": str(self.home),
            "home_inside": "/home/ada", "image": "/",
            "cmd": command or ["python3", "/home/ada/probe.py", str(self.port)],
            "env": ["PATH=/usr/bin:/bin", "HOME=/home/ada", *env],
            "limits": {"memory_bytes": 0, "cpus": 0, "pids": 0}, **more,
        }

    def ask(self, question, timeout=10, **args):
        """A question to the probe over its one address."""
        query = "&".join(f"{k}={v}" for k, v in args.items())
        connection = http.client.HTTPConnection(self.address, self.port, timeout=timeout)
        try:
            connection.request("GET", f"/{question}?{query}")
            answer = connection.getresponse()
            data = json.loads(answer.read())
        finally:
            connection.close()
        assert answer.status == 200, data
        return data

    def answers(self, timeout=10):
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.ask("state", timeout=timeout)

    def start(self, generation=0):
        result = self.node.done("start", self, generation)
        wait_for(self.answers)
        return result

    def hibernate(self, generation):
        return self.node.done("hibernate", self, generation)

    def snapshot(self, generation):
        return self.node.done("snapshot", self, generation)

    def restore(self, generation):
        result = self.node.done("restore", self, generation)
        wait_for(self.answers)
        return result

    def doze(self):
        """As soon as its server has read all that it was sent."""
        def dozes():
            result = self.node.effect("doze", self)
            assert result["state"] == "done" or result["fault"] == "conflict", result
            return result["state"] == "done" and result
        return wait_for(dozes)

    def processes(self):
        """Pids (ours) of everything in its cgroups."""
        found = set()
        for root in pathlib.Path("/sys/fs/cgroup").glob(f"**/elsa-test/{self.id}/cgroup.procs"):
            with contextlib.suppress(OSError):
                found.update(int(pid) for pid in root.read_text().split())
        return found

    def thaw(self):
        """As a hand from outside."""
        for name, word in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            for file in pathlib.Path("/sys/fs/cgroup").glob(f"**/elsa-test/{self.id}/{name}"):
                with contextlib.suppress(OSError):
                    file.write_text(word)


def group_file(group, session, name):
    """What the kernel says of a session's control group `group`; "" where it has no such file."""
    for file in pathlib.Path("/sys/fs/cgroup").glob(f"**/{group}/{session}/{name}"):
        with contextlib.suppress(OSError):
            return file.read_text().strip()
    return ""


def at_memory_limit(group, session):
    """Where it waits. What the kernel says of that (under_oom) comes and goes with each try."""
    if limit := group_file(group, session, "memory.limit_in_bytes"):
        return int(group_file(group, session, "memory.usage_in_bytes")) > int(limit) - (1 << 20)
    high = group_file(group, session, "memory.high")
    return high.isdecimal() and int(group_file(group, session, "memory.current")) > int(high)


def kill_group(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
