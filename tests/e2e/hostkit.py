# SPDX-License-Identifier: Apache-2.0
"""Machines for tests, on this one: each with its own network, processes, mounts, host name and boot
id, on one Ethernet with the others.

    with Lan() as lan:
        a, b = lan.host("a"), lan.host("b")
        a.run("ping", "-c1", b.address)
        with a.inside(): ...          # this thread's sockets are made on a
        a.cut(); a.heal()             # its cable; a.cut("10.97.0.3"): not from there
        a.power_off(); a.power_on()   # everything on it dies at once; a new boot id

The test itself is on the Lan too, as 10.97.0.254. Files are shared: /var/lib/elsa and /run are the
same everywhere, so each host needs directories of its own in them; `volatile` ones are emptied when
it goes off. So is the clock: CRIU and the kernel take a time namespace's offsets for those from the
first one. All of it hangs on the processes of its hosts, and these on whoever runs tools/enter.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from basekit import uninterrupted, wait_for

NETWORK = "10.97.0"
TEST_ADDRESS = f"{NETWORK}.254"
BRIDGE = "lan0"
BRIDGE_MAC = "02:e5:61:00:00:fe"
BOOT_ID = "/proc/sys/kernel/random/boot_id"

# The first process of a host. $1: its name, $2: a file with its boot id.
BOOT = f"""
hostname "$1"
ip link set lo up
mount --bind "$2" {BOOT_ID}
exec tini-static -- sleep infinity
"""


def sh(*argv: str, **more) -> subprocess.CompletedProcess:
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=60, **more)
    assert done.returncode == 0, f"{' '.join(map(str, argv))}: {done.stderr or done.stdout}"
    return done


@contextlib.contextmanager
def here() -> Iterator[None]:
    """Where we are anyhow; goes with Host.inside()."""
    yield


class Host:
    """One machine. Its `cgroup` is what its elsa-node is to have as node.cgroup."""

    def __init__(self, lan: Lan, name: str, number: int):
        self.lan, self.name = lan, name
        self.address = f"{NETWORK}.{number}"
        # For life: others would go on sending to that of the life before for half a minute.
        self.mac = f"02:e5:61:00:00:{number:02x}"
        self.port = f"v-{name}"[:15]  # the switch's end of its cable
        self.cgroup = f"{lan.id}-{name}"
        self.volatile: list[Path] = []
        self.process: subprocess.Popen | None = None
        self.pid = 0
        self._boot_id = lan.dir / f"{name}.boot_id"
        self._rate = ""

    # --- power

    def power_on(self) -> Host:
        assert self.process is None, f"{self.name} is on"
        for path in self.volatile:
            path.mkdir(parents=True, exist_ok=True)
        self._boot_id.write_text(f"{uuid.uuid4()}\n")
        self.process = subprocess.Popen(
            ["unshare", "--fork", "--kill-child", "--pid", "--mount-proc", "--uts", "--ipc", "--net",
             "bash", "-ec", BOOT, "boot", self.name, str(self._boot_id)],
            stdin=subprocess.DEVNULL, process_group=0)
        self.pid = wait_for(f"{self.name} to boot", self._booted, seconds=20)
        self._plug_in()
        return self

    def _booted(self) -> int:
        pid = self.pid_below(self.process)
        assert pid is not None, f"{self.name} does not boot"
        comm = Path(f"/proc/{pid}/comm").read_text()
        return pid if comm.startswith("tini") else 0

    def _plug_in(self) -> None:
        sh("ip", "link", "add", self.port, "type", "veth", "peer", "name", "eth0",
           "address", self.mac, "netns", str(self.pid))
        sh("ip", "link", "set", self.port, "master", BRIDGE, "up")
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        if self._rate:
            self.shape(self._rate)

    @property
    def is_on(self) -> bool:
        return self.process is not None

    def power_off(self) -> None:
        """As a machine that vanishes: nothing on it has any say. Returns when nothing is left."""
        if self.process is None:
            return
        with uninterrupted():
            if self.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
            self.process.kill()
            # What is frozen dies when it thaws, and the host's first process after it.
            wait_for(f"the end of {self.name}", self._ended, seconds=60)
            self.process, self.pid = None, 0
            # The kernel takes a namespace's interfaces away in its own time.
            subprocess.run(["ip", "link", "del", self.port], capture_output=True, check=False)
            self._remove_cgroups()
            for path in self.volatile:
                shutil.rmtree(path, ignore_errors=True)

    def _ended(self) -> bool:
        for group in self._cgroups():
            for name, word in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
                with contextlib.suppress(OSError):
                    if (group / name).exists():
                        (group / name).write_text(word)
        gone = not self.pid or not Path(f"/proc/{self.pid}").exists()
        return gone and self.process.poll() is not None and not self.processes()

    def _cgroups(self) -> list[Path]:
        """Deepest first."""
        tops = Path("/sys/fs/cgroup").glob(f"**/{self.cgroup}")
        return [Path(where) for top in tops for where, _, _ in os.walk(top, topdown=False)]

    def _remove_cgroups(self) -> None:
        def gone() -> bool:
            for group in self._cgroups():
                with contextlib.suppress(OSError):
                    group.rmdir()
            return not self._cgroups()

        wait_for(f"the cgroups of {self.name} to be empty", gone, seconds=20)

    def processes(self) -> set[int]:
        """Pids (ours) of what runs in sessions there, frozen or not."""
        found: set[int] = set()
        for group in self._cgroups():
            with contextlib.suppress(OSError):
                found |= {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
        return found

    # --- cable

    def cut(self, *addresses: str) -> None:
        """Pulls the cable, or drops what comes from and goes to these addresses alone."""
        if not addresses:
            sh("ip", "link", "set", self.port, "down")
            return
        for address in addresses:
            self.run("nft", "-f", "-", input=f"""
                add table ip testbed
                add chain ip testbed in {{ type filter hook prerouting priority -400; }}
                add chain ip testbed out {{ type filter hook output priority -400; }}
                add chain ip testbed through {{ type filter hook postrouting priority 400; }}
                add rule ip testbed in ip saddr {address} drop
                add rule ip testbed out ip daddr {address} drop
                add rule ip testbed through ip daddr {address} drop
            """)

    def heal(self) -> None:
        sh("ip", "link", "set", self.port, "up")
        if self.is_on:
            self.run("nft", "-f", "-", input="add table ip testbed\ndelete table ip testbed\n")

    def shape(self, rate: str) -> None:
        """Both ways, as tc has it ("100mbit"); "" ends it."""
        self._rate = rate
        ends = (lambda *a: sh(*a), self.port), (self.run, "eth0")
        for run, device in ends:
            if rate:
                run("tc", "qdisc", "replace", "dev", device, "root", "tbf", "rate", rate,
                    "burst", "256kb", "latency", "200ms")
            else:
                with contextlib.suppress(AssertionError):
                    run("tc", "qdisc", "del", "dev", device, "root")

    # --- on it

    @property
    def prefix(self) -> list[str]:
        """Before a command, it runs on this host."""
        assert self.pid, f"{self.name} is off"
        return ["nsenter", "--target", str(self.pid), "--mount", "--uts", "--ipc", "--net", "--pid"]

    def run(self, *argv: str, **more) -> subprocess.CompletedProcess:
        return sh(*self.prefix, *argv, **more)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets made by this thread are of this host, and so is what it starts."""
        assert self.pid, f"{self.name} is off"
        before = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
        there = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
        try:
            os.setns(there, os.CLONE_NEWNET)
            yield
        finally:
            os.setns(before, os.CLONE_NEWNET)
            os.close(there)
            os.close(before)

    @staticmethod
    def pid_below(process: subprocess.Popen) -> int | None:
        """Of the program that nsenter or unshare has started; None when it has ended."""

        def child() -> int:
            if process.poll() is not None:
                return -1
            with contextlib.suppress(OSError):
                below = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                return int(below[0]) if below else 0
            return -1

        pid = wait_for("a program to begin", child, seconds=20, pause=0.002)
        return pid if pid > 0 else None


class Lan:
    """The switch, in the network namespace we are in, and the hosts on it."""

    def __init__(self) -> None:
        self.id = f"t{secrets.token_hex(2)}"
        self.dir = Path(tempfile.mkdtemp(prefix="lan-", dir="/run"))
        self.hosts: dict[str, Host] = {}
        # Its own address for good. By itself a bridge takes the lowest of its ports', another one
        # whenever such a port comes or goes, and hosts would go on sending to that for a minute.
        sh("ip", "link", "add", BRIDGE, "address", BRIDGE_MAC, "type", "bridge")
        sh("ip", "address", "add", f"{TEST_ADDRESS}/24", "dev", BRIDGE)
        sh("ip", "link", "set", BRIDGE, "up")

    def host(self, name: str) -> Host:
        """A new one, switched on."""
        host = Host(self, name, len(self.hosts) + 1)
        self.hosts[name] = host
        return host.power_on()

    def close(self) -> None:
        with uninterrupted():
            for host in self.hosts.values():
                host.power_off()
            subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True, check=False)
            shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self) -> Lan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
