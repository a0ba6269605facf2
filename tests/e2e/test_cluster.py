# SPDX-License-Identifier: Apache-2.0
"""The test bed of several hosts itself (hostkit.py, clusterkit.py)."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from basekit import wait_for
from clusterkit import Cluster
from hostkit import BOOT_ID, BRIDGE, TEST_ADDRESS, Host, Lan, sh
from nodekit import PROBE, new_id
from traces import Traces


SESSION = {"user": "ada", "server": "", "address": "10.99.0.77", "port": 8888, "uid": 1500, "gid": 1500,
           "home_inside": "/home/ada", "image": "/", "cmd": ["python3", "/home/ada/probe.py", "8888"],
           "env": ["PATH=/usr/bin:/bin", "HOME=/home/ada"],
           "limits": {"memory_bytes": 0, "cpus": 0, "pids": 0}}


def effect(node, kind: str, generation: int, spec: dict) -> dict:
    name = new_id()
    result = node.ask("PUT", f"/v1/effects/{name}",
                      {"id": name, "kind": kind, "generation": generation, "session": spec})
    assert result["state"] == "done", result
    return result


def start_session(cluster: Cluster, node) -> dict:
    spec = {**SESSION, "id": new_id(), "home": str(cluster.hub.dir / "home/ada")}
    home = Path(spec["home"])
    home.mkdir(exist_ok=True)
    (home / "probe.py").write_bytes(PROBE.read_bytes())
    os.chown(home, 1500, 1500)
    effect(node, "start", 0, spec)
    return spec


@pytest.mark.parametrize("store", ["file", "s3"])
def test_nodes(store: str):
    """Nodes run sessions on their own hosts; a host that goes off takes all of its with it, and comes
    back with nothing but its disk."""
    before = Traces.now()
    with Cluster(nodes=2, join=False, store=store) as c:
        n1, n2 = c.nodes["n1"], c.nodes["n2"]
        assert n1.get("/v1/node")["name"] == "n1"
        assert n1.get("/v1/node")["boot_id"] != n2.get("/v1/node")["boot_id"]
        spec = start_session(c, n1)
        assert set(n1.sessions()) == {spec["id"]} and not n2.sessions()
        with n1.host.inside():
            wait_for("the session", lambda: answers(spec))
        pids = n1.host.processes()
        assert pids
        with n2.host.inside():
            assert not answers(spec)
        n1.kill()
        assert n1.host.processes() >= pids
        n1.start()
        assert n1.sessions()[spec["id"]]["running"]
        n1.power_off()
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids) and not list(n1.run_dir.glob("*"))
        assert (n1.dir / "state").is_dir() and n2.answers()
        n1.power_on()
        session = n1.sessions().get(spec["id"])
        assert not session or not session["running"]
        # All see one store.
        other = start_session(c, n1)
        with n1.host.inside():
            wait_for("the session", lambda: answers(other))
        effect(n1, "hibernate", 1, other)
        effect(n2, "restore", 1, other)
        with n2.host.inside():
            wait_for("the session", lambda: answers(other))
        # The Hub is there for the test, and for what is on the hub's host.
        assert c.hub.hub_api("GET", "").status_code == 200
        assert c.api.up()
    after = Traces.now()
    for kind in ("processes", "interfaces", "cgroups", "mounts"):
        assert getattr(after, kind) <= getattr(before, kind), kind


def test_joined():
    """By token and certificate; a node that was cut off or dead comes back without another token."""
    with Cluster(nodes=2, spot=("n2",), options={"nodes": {"lease": "4s"}}) as c:
        n1, n2 = c.nodes["n1"], c.nodes["n2"]
        assert c.node("hub")["local"] and c.node("n1")["up"] and c.node("n2")["up"]
        assert (n2.dir / "state/identity/cert.pem").exists()
        n1.cut()
        c.wait("n1 to be missed", lambda: not c.node("n1")["up"], seconds=120)
        assert c.node("n2")["up"]
        n1.heal()
        c.wait("n1 to be back", lambda: c.node("n1")["up"])
        n2.power_off()
        c.wait("n2 to be missed", lambda: not c.node("n2")["up"], seconds=120)
        n2.token_file.unlink()
        n2.power_on()
        c.wait("n2 to be back", lambda: c.node("n2")["up"])
        assert c.add("n3").answers()


def answers(spec: dict) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection((spec["address"], spec["port"]), timeout=1).close()
        return True
    return False


# --- hosts alone; one Lan at a time ----------------------------------------------------------------


@pytest.fixture(scope="module")
def lan():
    with Lan() as lan:
        lan.host("a"), lan.host("b")
        yield lan


def reaches(host: Host, address: str) -> bool:
    """A refusal is an answer."""
    with host.inside(), socket.socket() as s:
        s.settimeout(1)
        try:
            s.connect((address, 9))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return True


def test_hosts_reach_each_other(lan: Lan):
    a, b = lan.hosts["a"], lan.hosts["b"]
    assert reaches(a, b.address) and reaches(b, a.address) and reaches(a, TEST_ADDRESS)
    names = {host.run("hostname").stdout.strip() for host in (a, b)}
    assert names == {"a", "b"}
    assert a.run("cat", BOOT_ID).stdout != b.run("cat", BOOT_ID).stdout
    here = os.readlink("/proc/thread-self/ns/net")
    with a.inside():
        assert os.readlink("/proc/thread-self/ns/net") != here
    assert os.readlink("/proc/thread-self/ns/net") == here


def test_cut_and_heal(lan: Lan):
    a, b = lan.hosts["a"], lan.hosts["b"]
    a.cut()
    assert not reaches(a, b.address) and not reaches(b, a.address)
    a.heal()
    assert reaches(a, b.address)
    a.cut(b.address)
    assert not reaches(a, b.address) and not reaches(b, a.address) and reaches(a, TEST_ADDRESS)
    a.heal()
    assert reaches(b, a.address)


def test_shaped(lan: Lan):
    """1 MB at 8 Mbit/s takes a second."""
    a = lan.hosts["a"]
    a.shape("8mbit")
    try:
        with socket.create_server((TEST_ADDRESS, 0)) as server, a.inside():
            client = socket.create_connection(server.getsockname())
            other, _ = server.accept()
            begun = time.monotonic()
            done = 0
            client.setblocking(False)
            left = memoryview(bytes(1_000_000))
            while done < 1_000_000:
                with contextlib.suppress(BlockingIOError):
                    left = left[client.send(left):] if left else left
                other.settimeout(5)
                done += len(other.recv(1 << 16))
            assert time.monotonic() - begun > 0.5
            client.close(), other.close()
    finally:
        a.shape("")


def test_a_port_that_goes_takes_no_address_with_it(lan: Lan):
    """A bridge without an address of its own has the lowest of its ports': others would go on sending
    to one that is gone, until they ask again."""
    a = lan.hosts["a"]
    sh("ip", "link", "add", "v-low", "address", "02:00:00:00:00:01", "type", "veth", "peer", "name", "low")
    sh("ip", "link", "set", "v-low", "master", BRIDGE, "up")
    with socket.create_server((TEST_ADDRESS, 0)) as server:
        with a.inside():
            client = socket.create_connection(server.getsockname())
        other, _ = server.accept()
        with client, other:
            for end in (client, other):
                end.settimeout(5)
            client.sendall(b"before")
            assert other.recv(6) == b"before"
            sh("ip", "link", "del", "v-low")
            client.sendall(b"after")
            assert other.recv(5) == b"after"


def test_power(lan: Lan):
    """All that runs there is gone when power_off() returns, what is frozen in a cgroup too."""
    c = lan.host("c")
    group = next(Path("/sys/fs/cgroup").glob("freezer*"), Path("/sys/fs/cgroup")) / c.cgroup
    (group / "s").mkdir(parents=True)
    child = subprocess.Popen([*c.prefix, "sleep", "1000"])
    pid = c.pid_below(child)
    (group / "s/cgroup.procs").write_text(str(pid))
    frozen = group / "s/freezer.state"
    if frozen.exists():
        frozen.write_text("FROZEN")
    else:
        (group / "s/cgroup.freeze").write_text("1")
    before = c.run("cat", BOOT_ID).stdout
    c.power_off()
    assert child.wait(10) != 0
    assert not Path(f"/proc/{pid}").exists() and not group.exists()
    assert not c.is_on and not Path(f"/sys/class/net/{c.port}").exists()
    c.power_on()
    assert c.run("cat", BOOT_ID).stdout != before and reaches(c, TEST_ADDRESS)
    c.power_off()
