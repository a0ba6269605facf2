# SPDX-License-Identifier: Apache-2.0
"""Who gives machines, for tests: a command with its machines in a file, nodes that join over TLS."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from elsad_kit import Elsad, Json, Node
from s3kit import free_port

# A pool of machines kept in a directory. Files there tell it what to do:
#   POOL.json         {"desired": N, "instances": [...]}
#   POOL.full         no capacity
#   POOL.lost         grow does it, then fails as if the answer had been lost
#   hold              waits while this is there
COMMAND = r'''#!/usr/bin/python3
import json, os, pathlib, sys, time
where = pathlib.Path(sys.argv[1])
verb, pool, *rest = sys.argv[2:]
log = open(where / "log", "a")
log.write(" ".join([verb, pool, *rest]) + "\n")
log.close()
path = where / (pool + ".json")
state = json.loads(path.read_text()) if path.exists() else {"desired": 0, "instances": []}
def save():
    new = path.with_suffix(".new." + str(os.getpid()))
    new.write_text(json.dumps(state))
    new.rename(path)
if verb != "describe":
    while (where / "hold").exists():
        time.sleep(0.05)
if verb == "describe":
    if (where / (pool + ".broken")).exists():
        print("not today", file=sys.stderr)
        sys.exit(1)
    print(json.dumps(state))
elif verb == "grow":
    if (where / (pool + ".full")).exists():
        print("no capacity left in this zone", file=sys.stderr)
        sys.exit(75)
    state["desired"] = int(rest[0])
    while sum(i["state"] != "ending" for i in state["instances"]) < state["desired"]:
        state["made"] = state.get("made", 0) + 1
        state["instances"].append({"id": f"{pool}-{state['made']}", "state": "running", "price": "spot"})
    save()
    if (where / (pool + ".lost")).exists():
        sys.exit(1)
elif verb == "shrink":
    if any(i["id"] == rest[0] for i in state["instances"]):
        state["desired"] -= 1
    state["instances"] = [i for i in state["instances"] if i["id"] != rest[0]]
    save()
'''


class Pools:
    """What the command has: `where` is its directory."""

    def __init__(self, where: Path):
        self.where = where
        where.mkdir()
        self.program = where / "pools"
        self.program.write_text(COMMAND)
        self.program.chmod(0o755)

    @property
    def argv(self) -> list[str]:
        return [str(self.program), str(self.where)]

    def asked(self, verb: str) -> list[str]:
        """What it was asked for, without the verb."""
        path = self.where / "log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.removeprefix(verb + " ") for line in lines if line.startswith(verb + " ")]

    def machines(self, pool: str) -> list[str]:
        path = self.where / (pool + ".json")
        return [i["id"] for i in json.loads(path.read_text())["instances"]] if path.exists() else []

    def state(self, pool: str) -> Json:
        return json.loads((self.where / (pool + ".json")).read_text())

    def set(self, pool: str, state: Json) -> None:
        new = self.where / (pool + ".put")
        new.write_text(json.dumps(state))
        new.rename(self.where / (pool + ".json"))

    def flag(self, name: str, on: bool = True) -> None:
        path = self.where / name
        path.touch() if on else path.unlink(missing_ok=True)


class JoinedNode(Node):
    """A node that joins elsad over TLS and renews its lease until it is stopped."""

    def __init__(self, elsad: Elsad, name: str, instance: str | None = None, memory: int = 8 << 30):
        super().__init__(elsad.dir / f"{name}.sock")
        self.where = ("127.0.0.1", free_port())
        self.elsad, self.name, self.dir = elsad, name, elsad.dir
        self.boot_id = f"boot-of-{name}"
        self.info = {"name": name, "instance": instance, "memory_bytes": memory, "cpus": 4,
                     "memory_available_bytes": memory, "lease_left_ms": 10000,
                     "features": "x86_64 avx", "price": "spot", "images": ["/"]}  # fmt: skip
        self.leaving = threading.Event()
        self.url = f"https://{elsad.sections['nodes']['listen']}"

    def join(self) -> JoinedNode:
        token = self.elsad.post("/v1/nodes/token", {"uses": 1})["token"]
        key, csr = self.dir / f"{self.name}.key", self.dir / f"{self.name}.csr"
        subprocess.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", csr,
                        "-subj", f"/CN={self.name}"], check=True, capture_output=True)  # fmt: skip
        request = {"token": token, "name": self.name, "csr": csr.read_text(), "version": "0",
                   "listen": "%s:%d" % self.where}  # fmt: skip
        answer = self.post("/v1/nodes/join", request, ssl._create_unverified_context())
        (self.dir / f"{self.name}.pem").write_text(answer["certificate"])
        (self.dir / f"{self.name}.ca").write_text(answer["ca"])
        self.serve()
        threading.Thread(target=self.renew, daemon=True).start()
        return self

    def context(self, purpose: ssl.Purpose) -> ssl.SSLContext:
        context = ssl.create_default_context(purpose, cafile=self.dir / f"{self.name}.ca")
        context.load_cert_chain(self.dir / f"{self.name}.pem", self.dir / f"{self.name}.key")
        context.check_hostname = False
        return context

    def serve(self) -> None:
        super().start()
        self.server.handle_error = lambda *_: None  # whoever went away
        self.server.socket = self.context(ssl.Purpose.CLIENT_AUTH).wrap_socket(
            self.server.socket, server_side=True, do_handshake_on_connect=False)

    def post(self, path: str, body: Json, context: ssl.SSLContext) -> Json:
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}),
                                             urllib.request.HTTPSHandler(context=context))
        with opener.open(request, timeout=5) as answer:
            return json.loads(answer.read())

    def renew(self) -> None:
        context = self.context(ssl.Purpose.SERVER_AUTH)
        while not self.leaving.wait(0.3):
            try:
                self.post("/v1/nodes/lease", {"boot_id": self.boot_id, "leaving": False,
                                              "listen": "%s:%d" % self.where,
                                              "notices": self.info.get("notices", [])}, context)
            except OSError:
                pass

    def notice(self, seconds: float = 30) -> None:
        now = int(time.time() * 1000)
        self.info["notices"] = [{"id": "n1", "kind": "evict", "source": "test", "seen_at": now,
                                 "at": now + int(seconds * 1000)}]  # fmt: skip

    def vanish(self) -> None:
        self.leaving.set()
        self.stop()


def nodes_on(elsad: Elsad, **capacity: Any) -> Elsad:
    """Lets nodes of other hosts join; nothing runs on elsad's own."""
    elsad.write_config(nodes={"listen": f"127.0.0.1:{free_port()}", "local": False, "lease": "2s",
                              "reserve": 0}, capacity=capacity)  # fmt: skip
    return elsad


def kill_hard(elsad: Elsad) -> None:
    os.kill(elsad.process.pid, signal.SIGKILL)
    elsad.process.wait()


def capacity(elsad: Elsad) -> Json:
    return elsad.get("/v1/capacity")


def whats(elsad: Elsad) -> list[str]:
    return [e["what"] for e in elsad.events(limit=1000) if e["what"].startswith("capacity-")]
