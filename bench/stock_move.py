# SPDX-License-Identifier: Apache-2.0
"""The baseline of move.*: the same Jupyter server moved by CRIU's own lazy migration, from one host of the
test bed to another: criu dump --lazy-pages, criu lazy-pages --page-server, criu restore --lazy-pages, and
one route.

It is flattered: the images need not be copied, since both hosts see one file system, and everything
on the target is ready before."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from basekit import wait_for
from hostkit import Host, Lan
from move_client import COMMAND, Moved, Worker, proxy, received_by
from movekit import Sizes

ADDRESS, GATEWAY, MAC = "10.96.0.2", "10.96.0.1", "02:e5:61:96:00:02"
PAGE_PORT = 9999
FIRST_PID = 5000  # no host has one of these by itself


class Place:
    """A host with a network namespace that has the session's address."""

    def __init__(self, host: Host):
        self.host = host
        netns = f"/run/stock-{host.name}"
        Path(netns).touch()
        host.run("sh", "-c", f"unshare --net={netns} true")
        self.netns = netns
        host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        host.run("ip", "link", "add", "stock", "type", "veth", "peer", "name", "eth0", "address", MAC,
                 "netns", netns)
        host.run("ip", "address", "add", f"{GATEWAY}/32", "dev", "stock")
        host.run("ip", "link", "set", "stock", "address", "02:e5:61:96:00:01", "up")
        host.run("ip", "route", "add", ADDRESS, "dev", "stock")
        for words in (("link", "set", "lo", "up"), ("address", "add", f"{ADDRESS}/32", "dev", "eth0"),
                      ("link", "set", "eth0", "up"), ("route", "add", GATEWAY, "dev", "eth0"),
                      ("route", "add", "default", "via", GATEWAY)):
            self.inside("ip", *words)

    def inside(self, *argv: str) -> None:
        self.host.run("nsenter", f"--net={self.netns}", *argv)

    @property
    def inode(self) -> int:
        return int(self.host.run("stat", "-Lc", "%i", self.netns).stdout)


class Stock:
    def __init__(self, lan: Lan, directory: Path, rate: str):
        self.dir = directory
        shutil.rmtree(directory, ignore_errors=True)
        for name in ("images", "work", "home"):
            (directory / name).mkdir(parents=True)
        self.front = lan.host("s0")
        self.places = [Place(lan.host("s1")), Place(lan.host("s2"))]
        for place in self.places:
            place.host.shape(rate)
        self._route(self.places[0])
        self._start()
        self.proxy = proxy(self.front, ADDRESS, directory / "proxy.log")

    def _route(self, to: Place) -> None:
        self.front.run("ip", "route", "replace", ADDRESS, "via", to.host.address)

    def _start(self) -> None:
        host = self.places[0].host
        host.run("sh", "-c", f"echo {FIRST_PID} >/proc/sys/kernel/ns_last_pid")
        words = " ".join([*COMMAND, "--allow-root", f"--ServerApp.root_dir={self.dir}/home"])
        self.server = subprocess.Popen(
            [*host.prefix, "nsenter", f"--net={self.places[0].netns}", "sh", "-c",
             f"cd {self.dir}/home && HOME={self.dir}/home exec setsid {words} </dev/null "
             f">{self.dir}/server.log 2>&1"], process_group=0)
        self.pid = wait_for("the server", self._pid_there)

    def _pid_there(self) -> int:
        """As its host counts; not of a shell that is about to start it, which is gone in a moment."""
        found = self.places[0].host.run(
            "sh", "-c", rf"pgrep -o -f '^{COMMAND[0]} .*m jupyter_server' || true").stdout.split()
        return int(found[0]) if found else 0

    def criu(self, place: Place, name: str, *argv: str, fds: tuple[int, ...] = ()) -> subprocess.Popen:
        command = ["criu", *argv, "-D", str(self.dir / "images"), "-W", str(self.dir / "work"),
                   "-o", f"{name}.log", "-v2"]
        return subprocess.Popen([*place.host.prefix, *command], pass_fds=fds, stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def move(self) -> tuple[float, int]:
        """Until the last page is there; seconds from the route, bytes of memory."""
        source, target = self.places
        told, tell = os.pipe()
        os.set_inheritable(tell, True)
        dump = self.criu(source, "dump", "dump", "-t", str(self.pid), "--lazy-pages", "--address",
                         source.host.address, "--port", str(PAGE_PORT), "--status-fd", str(tell),
                         "--tcp-established", "--file-locks", "--ghost-limit", "1G", "--link-remap",
                         "--external", f"net[{source.inode}]:sess", "--manage-cgroups=ignore", fds=(tell,))
        os.close(tell)
        if os.read(told, 1) != b"\0":
            raise RuntimeError(self.log("dump"))
        os.close(told)
        daemon = self.criu(target, "lazy", "lazy-pages", "--page-server", "--address", source.host.address,
                           "--port", str(PAGE_PORT))
        wait_for("criu lazy-pages", (self.dir / "work/lazy-pages.socket").exists, seconds=20, pause=0.001,
                 unless=lambda: self.log("lazy") if daemon.poll() is not None else None)
        ns = os.open(f"/proc/{target.host.pid}/root{target.netns}", os.O_RDONLY)
        os.set_inheritable(ns, True)
        restore = self.criu(target, "restore", "restore", "-d", "--lazy-pages", "--tcp-established",
                            "--file-locks", "--link-remap", "--inherit-fd", f"fd[{ns}]:sess",
                            "--manage-cgroups=ignore", fds=(ns,))
        self._ended("restore", restore)
        self._route(target)
        begin = time.monotonic()
        received = received_by(target.host)
        os.close(ns)
        self._ended("lazy", daemon, 600)
        self._ended("dump", dump)
        return time.monotonic() - begin, received_by(target.host) - received

    def _ended(self, name: str, process: subprocess.Popen, seconds: float = 60) -> None:
        try:
            if process.wait(seconds) == 0:
                return
        except subprocess.TimeoutExpired:
            process.kill()
        raise RuntimeError("\n".join(self.log(n) for n in ("dump", "lazy", "restore")) + f"\nin {name}")

    def log(self, name: str) -> str:
        path = self.dir / f"work/{name}.log"
        return f"{name}:\n" + ("\n".join(path.read_text().splitlines()[-15:]) if path.exists() else "no log\n")

    def close(self) -> None:
        self.proxy.kill()
        for host in (*(p.host for p in self.places), self.front):
            host.power_off()
        for place in self.places:
            Path(place.netns).unlink(missing_ok=True)


def measure(lan: Lan, directory: Path, sizes: Sizes, rate: str) -> Moved:
    stock = Stock(lan, directory, rate)
    try:
        worker = Worker(stock.front, sizes, directory / "home/ops")
        moved = worker.watch(stock.move)
        worker.finish([moved])
        return moved
    finally:
        stock.close()
