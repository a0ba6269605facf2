# SPDX-License-Identifier: Apache-2.0
"""Machines made of hosts of the test (clusterkit.py), as whoever elsad asks for them would make them:
each boots with a token in its user-data, joins, and is ended when it is given back.

    Command(cluster, directory)      capacity.provider = "command": `argv` is the command
    Group(cluster, client, name)     an Auto Scaling group: follows what its API says
"""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from basekit import Json, ManyAtOnce, wait_for
from clusterkit import Cluster, ClusterNode
from hostkit import TEST_ADDRESS
from metadata import Aws

COMMAND = """#!/usr/bin/python3
import json, socket, sys
test = socket.socket(socket.AF_UNIX)
test.connect(sys.argv[1])
test.sendall(json.dumps(sys.argv[2:]).encode() + b"\\n")
answer = json.loads(test.makefile().readline())
sys.stdout.write(answer.get("out", ""))
sys.stderr.write(answer.get("err", ""))
sys.exit(answer.get("status", 0))
"""


@dataclass
class Machine:
    id: str
    pool: str
    state: str = "pending"
    node: ClusterNode | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Machines:
    """Those that are there. They boot when `power` is on."""

    def __init__(self, cluster: Cluster):
        self.cluster = cluster
        self.token = ""
        self.made: list[str] = []
        self.machines: dict[str, Machine] = {}
        self.power = threading.Event()
        self.power.set()
        self.threads: list[threading.Thread] = []
        self.failures: list[BaseException] = []

    @property
    def there(self) -> list[str]:
        return list(self.machines)

    def options(self, machine: Machine) -> dict[str, Json]:
        return {}

    def in_thread(self, work: Any, *args: Any) -> None:
        def run() -> None:
            try:
                work(*args)
            except BaseException as error:  # noqa: BLE001  the test is to hear of it
                self.failures.append(error)

        thread = threading.Thread(target=run)
        self.threads.append(thread)
        thread.start()

    def make(self, machine_id: str, pool: str) -> None:
        machine = self.machines[machine_id] = Machine(machine_id, pool)
        self.made.append(machine_id)
        self.in_thread(self._boot, machine)

    def _boot(self, machine: Machine) -> None:
        self.power.wait()
        with machine.lock:
            if machine.state == "pending":
                machine.node = self.cluster.boot(machine.id, token=self.token,
                                                 **self.options(machine))
                machine.state = "running"

    def end(self, machine_id: str) -> None:
        """Everything on it dies at once; it is gone from the list when it is off. Twice is fine."""
        machine = self.machines.get(machine_id)
        if machine is None:
            return
        with machine.lock:
            machine.state = "ending"
            if machine.node is not None and machine.node.host.is_on:
                machine.node.power_off()
            self.machines.pop(machine_id, None)

    def end_in(self, machine_id: str, seconds: float) -> None:
        """Unless it has been given back before. What a slow test machine has not done by then is
        waited for, and said."""

        def end() -> None:
            time.sleep(seconds)
            begun, machine = time.monotonic(), self.machines.get(machine_id)
            while machine and machine_id in self.machines and machine.node.host.processes():
                time.sleep(0.1)
            if time.monotonic() - begun > 0.1:
                print(f"{machine_id} stood {time.monotonic() - begun:.1f} s longer than it was said to")
            self.end(machine_id)

        self.in_thread(end)

    def close(self) -> None:
        self.power.set()
        for thread in self.threads:
            thread.join(60)
        assert not self.failures, self.failures


class Command(Machines):
    """`full`: pools without capacity. `asked`: every grow and shrink."""

    def __init__(self, cluster: Cluster, directory: Path):
        super().__init__(cluster)
        self.full: set[str] = set()
        self.asked: list[str] = []
        self.program = directory / "machines"
        self.program.write_text(COMMAND)
        self.program.chmod(0o755)
        self.socket = directory / "machines.sock"
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                answer = outer.answer(*json.loads(self.rfile.readline()))
                with contextlib.suppress(OSError):  # elsad was killed meanwhile
                    self.wfile.write(json.dumps(answer).encode() + b"\n")

        class Server(ManyAtOnce, socketserver.ThreadingUnixStreamServer):
            pass

        self.server = Server(str(self.socket), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def argv(self) -> list[str]:
        return [str(self.program), str(self.socket)]

    def answer(self, verb: str, pool: str, what: str = "") -> Json:
        mine = [m for m in list(self.machines.values()) if m.pool == pool]
        if verb == "describe":
            return {"out": json.dumps({"instances": [
                {"id": m.id, "state": m.state, "price": "spot"} for m in mine]})}  # fmt: skip
        self.asked.append(f"{verb} {pool} {what}")
        if verb == "shrink":
            self.end(what)
        elif pool in self.full:
            return {"status": 75, "err": "no spot capacity here\n"}
        else:
            for _ in range(int(what) - sum(m.state != "ending" for m in mine)):
                number = 1 + sum(name.startswith(f"{pool}-") for name in self.made)
                self.make(f"{pool}-{number}", pool)
        return {}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        super().close()


class Group(Machines):
    """What is launched and ended in an EC2 Auto Scaling group. `doubles`: each one's metadata."""

    def __init__(self, cluster: Cluster, client: Any, name: str):
        super().__init__(cluster)
        self.client, self.name = client, name
        self.doubles: dict[str, Aws] = {}
        self.over = threading.Event()
        self.in_thread(self._watch)

    @property
    def desired(self) -> int:
        return self.described()["DesiredCapacity"]

    def described(self) -> Json:
        found = self.client.describe_auto_scaling_groups(AutoScalingGroupNames=[self.name])
        return found["AutoScalingGroups"][0]

    def _watch(self) -> None:
        while not self.over.wait(0.3):
            listed = {i["InstanceId"] for i in self.described()["Instances"]}
            for instance in sorted(listed - set(self.made)):
                self.doubles[instance] = Aws(address=TEST_ADDRESS)
                self.doubles[instance].set(instance=instance)
                self.make(instance, self.name)
            for instance in set(self.there) - listed:
                self.end(instance)

    def options(self, machine: Machine) -> dict[str, Json]:
        return {"node": {"notices": "aws", "price": "auto",
                         "metadata_url": self.doubles[machine.id].url}}  # fmt: skip

    def close(self) -> None:
        self.over.set()
        super().close()
        for double in self.doubles.values():
            double.close()


class Visitor:
    """Somebody who opens the spawn page, and waits there in a thread of their own."""

    def __init__(self, cluster: Cluster, user: str):
        self.browser = cluster.hub.browser(user).log_in()
        self.error: BaseException | None = None
        self.seconds = 0.0
        self.thread = threading.Thread(target=self._wait, daemon=True)
        self.thread.start()

    def _wait(self) -> None:
        try:
            self.seconds = self.browser.start_server()
        except BaseException as error:  # noqa: BLE001
            self.error = error

    def sees(self, text: str) -> bool:
        assert self.error is None, self.error
        return any(text in (event.get("message") or "") for event in list(self.browser.progress))

    def there(self, seconds: float = 180) -> Any:
        wait_for("the session", lambda: not self.thread.is_alive(), seconds=seconds)
        if self.error is not None:
            raise self.error
        return self.browser
