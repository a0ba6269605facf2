# SPDX-License-Identifier: Apache-2.0
"""Sessions on other hosts: the overlay of real elsa-nodes on several hosts, without elsad."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path
from urllib.parse import quote

import pytest

import nodekit
from hostkit import BOOT_ID, TEST_ADDRESS, Host, Lan
from leasekit import pretend_lease
from nodekit import Refused, Session, wait_for

HUB, N1, N2 = "10.98.0.1", "10.98.0.2", "10.98.0.3"
HOST_ADDRESS, VNI, PORT = "10.99.0.1", 4589, 4789
ALLOW = f"{HOST_ADDRESS}:8081"


class HostNode(nodekit.Node):
    """elsa-node on a host of its own."""

    def __init__(self, host: Host, where: Path, overlay: str, joined: bool):
        self.host, self.overlay, self.joined, self.top = host, overlay, joined, where
        super().__init__(where / host.name)

    def write_config(self, more: str = "", node: str = "") -> None:
        if self.joined:
            node += '\ncontroller = "https://10.97.0.1:8443"'
        # The second of them finds out by itself which address the others know it by.
        if self.host.name == "n1":
            node += f'\naddress = "{self.host.address}"'
        super().write_config(more, node)
        text = self.config.read_text()
        for old, new in (('cgroup = "elsa-test"', f'cgroup = "{self.host.cgroup}"'),
                         (f"{self.dir}/store", f"{self.top}/store"),
                         ("allow = []", f'allow = ["{ALLOW}", "10.0.0.0/8:9999"]')):
            text = text.replace(old, new)
        self.config.write_text(text)

    def start(self, *args, **more):
        self.host.volatile[:] = [self.run_dir]
        if self.joined:
            pretend_lease(self.run_dir, self.host.run("cat", BOOT_ID).stdout)
        return super().start(*args, prefix=self.host.prefix, **more)

    def signal(self, number: int) -> None:
        pid = self.host.pid_below(self.process) if self.process else None
        if pid:
            os.kill(pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.died()

    def put(self, state: dict) -> None:
        self.ask("PUT", "/v1/overlay", state)

    def routes(self) -> dict[str, dict]:
        """Of the main table, by destination; those of sessions here and of the pool too."""
        found: dict[str, dict] = {}
        for route in json.loads(self.host.run("ip", "-j", "route").stdout):
            known = found.get(route["dst"])
            if not known or route.get("metric", 0) < known.get("metric", 0):
                found[route["dst"]] = route
        return found

    def devices(self) -> list[str]:
        links = json.loads(self.host.run("ip", "-j", "link").stdout)
        return [link["ifname"] for link in links if link["ifname"].startswith("elsavx")]

    def teardown(self) -> None:
        if self.process and self.process.poll() is None:
            self.kill()
        self.host.run(nodekit.BUILD / "elsa-node", "--config", self.config, "teardown", "--all")


class Net:
    def __init__(self, where: Path):
        self.lan = Lan()
        self.hub, self.n1, self.n2 = (
            HostNode(self.lan.host(name), where, overlay, name != "hub")
            for name, overlay in (("hub", HUB), ("n1", N1), ("n2", N2)))
        self.nodes = (self.hub, self.n1, self.n2)

    def state(self, node: HostNode, routes: dict[str, str]) -> dict:
        """`routes`: address to the overlay address of who has it."""
        peers = [{"name": n.host.name, "underlay": n.host.address, "overlay": n.overlay}
                 for n in self.nodes if n is not node]
        return {"overlay": node.overlay, "peers": peers,
                "routes": [{"address": a, "via": via} for a, via in routes.items() if via != node.overlay]}

    def tell(self, routes: dict[str, str] | None = None) -> None:
        """All nodes of all sessions."""
        for node in self.nodes:
            node.put(self.state(node, {HOST_ADDRESS: HUB, **(routes or {})}))

    def close(self) -> None:
        self.lan.close()


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    where = Path("/var/lib/elsa/overlay")
    where.mkdir(exist_ok=True)
    net = Net(where)
    try:
        for node in net.nodes:
            # The strictest of what machines have.
            node.host.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter")
            node.start()
        net.tell()
        yield net
    finally:
        net.close()


@pytest.fixture
def session(net: Net):
    """One that runs on n1, known to all."""
    made = Session(net.n1)
    net.n1.done("start", made)
    net.tell({made.address: N1})
    with net.hub.host.inside():
        wait_for(made.answers)
    yield made
    for node in (net.n1, net.n2, net.hub):
        node.done("stop", made)
    net.tell()


def run(net: Net, session: Session, code: str):
    """In the session, asked by the hub's host; what `code` leaves in `got`."""
    with net.hub.host.inside():
        return session.ask("run", timeout=20, code=quote(f"{code}\nout['got'] = got\n"))["got"]


def serve(host: Host, address: str, port: int) -> socket.socket:
    with host.inside():
        server = socket.create_server((address, port))
    server.settimeout(5)
    return server


REACH = """
import socket
def reaches(address, port):
    with socket.socket() as s:
        s.settimeout(0.7)
        try: s.connect((address, port))
        except OSError: return False
        return True
got = [reaches(*a) for a in {addresses!r}]
"""


def reach(net: Net, session: Session, *addresses: tuple[str, int]) -> list[bool]:
    return run(net, session, REACH.format(addresses=addresses))


# --- tests --------------------------------------------------------------------------------------------


def test_what_a_session_reaches(net: Net, session: Session):
    """As on the hub's host: the Hub's port, and nothing else, on whatever host."""
    other = Session(net.n2)
    net.n2.done("start", other)
    local = Session(net.hub)
    net.hub.done("start", local)
    net.tell({session.address: N1, other.address: N2, local.address: HUB})
    servers = [serve(net.hub.host, "0.0.0.0", port) for port in (8081, 8444, 9999)]
    servers += [serve(node.host, "0.0.0.0", 9999) for node in (net.n1, net.n2)]
    with net.hub.host.inside():
        wait_for(other.answers)
        wait_for(local.answers)
    wanted = {
        (HOST_ADDRESS, 8081): True, (HOST_ADDRESS, 8444): False, (HOST_ADDRESS, 9999): False,
        (HUB, 8081): False, (HUB, 9999): False, (N1, 9999): False, (N2, 9999): False,
        (net.hub.host.address, 8081): False, (net.n2.host.address, 22): False,
        # A network that is allowed, but for what is the hosts' own.
        (net.n2.host.address, 9999): True,
        (other.address, other.port): False, (local.address, local.port): False,
        ("169.254.169.254", 80): False,
    }
    for one in (session, other):
        asked = [a for a in wanted if not (one is other and a[0] in (other.address, net.n2.host.address))]
        if one is other:
            asked.append((session.address, session.port))
        got = dict(zip(asked, reach(net, one, *asked), strict=True))
        assert got == {a: wanted.get(a, False) for a in asked}
    # A session of the hub's host reaches none on others, either.
    assert reach(net, local, (HOST_ADDRESS, 8081), (session.address, session.port), (N1, 9999)) == [
        True, False, False]
    # Other hosts reach sessions that are not theirs no more than before.
    with net.n2.host.inside():
        assert not session.answers(timeout=1)
    for server in servers:
        server.close()
    net.n2.done("stop", other)
    net.hub.done("stop", local)


def test_internet(net: Net, session: Session):
    """By the session's own host and under its address, not by the hub's."""
    net.n1.write_config('internet = true')
    net.n1.kill()
    net.n1.start()
    subprocess.run(["ip", "address", "add", "203.0.113.5/32", "dev", "lo"], check=True)
    net.n1.host.run("ip", "route", "add", "203.0.113.5", "via", TEST_ADDRESS)
    try:
        with socket.create_server(("203.0.113.5", 80)) as server:
            assert reach(net, session, ("203.0.113.5", 80)) == [True]
            assert server.accept()[1][0] == net.n1.host.address
        assert reach(net, session, (HUB, 8081), (net.hub.host.address, 22)) == [False, False]
    finally:
        subprocess.run(["ip", "address", "del", "203.0.113.5/32", "dev", "lo"], check=True)
        net.n1.write_config()
        net.n1.kill()
        net.n1.start()


def test_large_packets(net: Net, session: Session):
    """Up and down, in packets as large as a session's; and through an underlay with less room."""
    net.n1.host.run("ip", "link", "set", "eth0", "mtu", "1400")
    try:
        net.tell({session.address: N1})
        for _ in range(2):
            got = run(net, session, "got = 'x' * 300000")
            assert len(got) == 300000
            mtu = json.loads(net.n1.host.run("ip", "-j", "link", "show", net.n1.devices()[0]).stdout)[0]["mtu"]
            assert mtu in (1350, 1450)
            net.n1.host.run("ip", "link", "set", "eth0", "mtu", "1500")
            net.tell({session.address: N1})
        assert mtu == 1450
    finally:
        net.n1.host.run("ip", "link", "set", "eth0", "mtu", "1500")


def ip_udp(source: str, to: str, port: int, payload: bytes) -> bytes:
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(payload), 0, 0, 64, 17, 0,
                       socket.inet_aton(source), socket.inet_aton(to))
    total = sum(struct.unpack("!10H", head))
    total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    head = head[:10] + struct.pack("!H", total) + head[12:]
    return head + struct.pack("!HHHH", 7, port, 8 + len(payload), 0) + payload


def mac(address: str) -> bytes:
    return b"\x02\xe5" + socket.inet_aton(address)


def vxlan(source: str, packet: bytes, vni: int = VNI, to: str = HUB) -> bytes:
    return struct.pack("!II", 0x08000000, vni << 8) + mac(to) + mac(source) + b"\x08\x00" + packet


class Sink:
    """A UDP socket of the Hub's port on the hub's host."""

    def __init__(self, host: Host):
        with host.inside():
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.socket.bind((HOST_ADDRESS, 8081))
        self.socket.settimeout(0.6)

    def got(self) -> set[bytes]:
        found = set()
        with contextlib.suppress(TimeoutError):
            while True:
                found.add(self.socket.recv(2000))
        return found


def send_from(host: Host, data: bytes, to: str, source: str = "") -> None:
    """A UDP packet to VXLAN's port; with another source address, as an IP packet of our own."""
    with host.inside():
        if not source:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.sendto(data, (to, PORT))
            return
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
            s.sendto(ip_udp(source, to, PORT, data), (to, 0))


def test_false_sources(net: Net, session: Session):
    """What a session, a peer's host or a host that is none sends under a name that is not its own."""
    sink = Sink(net.hub.host)
    local = Session(net.hub)
    net.hub.done("start", local)
    net.tell({session.address: N1, local.address: HUB})
    # From the peer's host itself, which could send anything: taken only for sessions it may have.
    good = ip_udp(session.address, HOST_ADDRESS, 8081, b"good")
    hub = net.hub.host.address
    send_from(net.n1.host, vxlan(N1, good), hub)
    assert sink.got() == {b"good"}
    for source in (local.address, "10.99.9.9", HUB, N1, HOST_ADDRESS, "10.97.0.9", "8.8.8.8", "127.0.0.1"):
        send_from(net.n1.host, vxlan(N1, ip_udp(source, HOST_ADDRESS, 8081, f"of {source}".encode())), hub)
    assert sink.got() == set()
    # Another port, another network's number.
    send_from(net.n1.host, vxlan(N1, ip_udp(session.address, HOST_ADDRESS, 8082, b"port")), hub)
    send_from(net.n1.host, vxlan(N1, good, vni=VNI + 1), hub)
    # A host that is no peer, under its own address. (Under a peer's it cannot be told from that: the
    # network between the hosts must not let it.)
    foreign = net.lan.host("foreign")
    try:
        send_from(foreign, vxlan(N1, good), hub)
        send_from(foreign, vxlan(N1, ip_udp(session.address, session.address, session.port, b"x"), to=N1),
                  net.n1.host.address)
        assert sink.got() == set()
        # Nor does it get through a node, by taking that for its router.
        foreign.run("ip", "route", "add", "10.98.0.0/15", "via", net.n1.host.address)
        with foreign.inside(), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
            s.sendto(ip_udp(session.address, HOST_ADDRESS, 8081, b"through"), (HOST_ADDRESS, 0))
            s.sendto(ip_udp(foreign.address, HOST_ADDRESS, 8081, b"through"), (HOST_ADDRESS, 0))
        assert sink.got() == set()
        with foreign.inside():
            assert not session.answers(timeout=1)
    finally:
        foreign.power_off()
    # A session that speaks VXLAN itself would come from its host's address.
    inner = vxlan(N1, ip_udp(session.address, HOST_ADDRESS, 8081, b"inner"))
    for address in (hub, HOST_ADDRESS, HUB):
        run(net, session, f"import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
                          f"s.sendto({inner!r}, ({address!r}, {PORT})); got = 0")
    assert sink.got() == set()
    send_from(net.n1.host, vxlan(N1, good), hub)
    assert sink.got() == {b"good"}
    net.hub.done("stop", local)


def test_session_cannot_lie(net: Net, session: Session):
    """Not even with the right to make packets of its own, which it does not have: from its namespace."""
    sink = Sink(net.hub.host)
    netns = net.n1.run_dir / "netns" / session.id
    code = "\n".join((
        "import socket, sys", "s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)",
        f"for packet in {[ip_udp(a, HOST_ADDRESS, 8081, a.encode()) for a in (session.address, '10.99.9.9', N1)]!r}:",
        f"    s.sendto(packet, ({HOST_ADDRESS!r}, 0))"))
    net.n1.host.run("nsenter", f"--net={netns}", "python3", "-c", code)
    assert sink.got() == {session.address.encode()}


ECHO = """
import socket, threading
l = socket.create_server(('0.0.0.0', 7777))
def serve():
    c, _ = l.accept()
    while True:
        c.sendall(c.recv(99))
threading.Thread(target=serve, daemon=True).start()
got = 0
"""


class Talk:
    """A TCP connection of the hub's host to the session, in which something is said all the time."""

    def __init__(self, net: Net, session: Session):
        run(net, session, ECHO)
        with net.hub.host.inside():
            self.socket = socket.create_connection((session.address, 7777), timeout=30)
        self.count, self.longest, self.error = 0, 0.0, None
        self.end = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            while not self.end.is_set():
                begun = time.monotonic()
                self.socket.sendall(b"%d" % self.count)
                assert self.socket.recv(99) == b"%d" % self.count
                self.count += 1
                self.longest = max(self.longest, time.monotonic() - begun)
                time.sleep(0.01)
        except (OSError, AssertionError) as error:
            self.error = error

    def goes_on(self) -> None:
        at = self.count
        wait_for(lambda: self.count > at + 3 or self.error, 30)
        assert not self.error, self.error

    def close(self) -> None:
        self.end.set()
        self.thread.join(30)
        self.socket.close()


def move(net: Net, session: Session, generation: int, there: HostNode, back: HostNode) -> None:
    there.done("hibernate", session, generation)
    net.tell({session.address: back.overlay})
    back.done("restore", session, generation)


def test_moves(net: Net, session: Session):
    """From host to host, to the hub's own and away again, with its open connections."""
    talk = Talk(net, session)
    places = [net.n1, net.n2, net.hub, net.n1]
    try:
        talk.goes_on()
        for generation, (there, back) in enumerate(zip(places, places[1:], strict=False), 1):
            move(net, session, generation, there, back)
            talk.goes_on()
            route = net.hub.routes()[session.address]
            assert route.get("gateway") == (None if back is net.hub else back.overlay)
    finally:
        talk.close()


def test_speaks_first(net: Net, session: Session):
    """A session that has moved and is the first to say something in a connection that the new host has
    not seen begin."""
    with net.hub.host.inside():
        server = socket.create_server((HOST_ADDRESS, 8081))
    server.settimeout(10)
    run(net, session, f"""
import socket, threading, time
import builtins
builtins.kept = socket.create_connection(({HOST_ADDRESS!r}, 8081))
got = 0
""")
    accepted, _ = server.accept()
    listener = run(net, session, """
import builtins, socket, threading, time
l = socket.create_server(('0.0.0.0', 7777))
def serve():
    c, _ = l.accept()
    while True:
        c.send(b'x'); time.sleep(0.05)
threading.Thread(target=serve, daemon=True).start()
got = 1
""")
    assert listener == 1
    with net.hub.host.inside():
        stream = socket.create_connection((session.address, 7777), timeout=10)
    assert stream.recv(1) == b"x"
    # Not a byte from us until it is there, and no retransmission to wait for.
    net.n1.done("hibernate", session, 1)
    net.tell({session.address: N2})
    with contextlib.suppress(BlockingIOError):
        stream.setblocking(False)
        while stream.recv(1 << 16):
            pass
    stream.settimeout(20)
    net.n2.done("restore", session, 1)
    assert stream.recv(1) == b"x"
    stream.close(), accepted.close(), server.close()


def twin(node: HostNode) -> str:
    return f"twin-{node.host.name}"


def test_route_moves_in_one_step(net: Net):
    """Between two hosts that both have the address, nothing is lost and nothing goes elsewhere."""
    address = "10.99.200.1"
    for node in (net.n1, net.n2):
        node.host.run("ip", "netns", "add", twin(node))
        node.host.run("ip", "link", "add", "es00twin", "type", "veth", "peer", "name", "eth0", "netns", twin(node))
        node.host.run("ip", "link", "set", "es00twin", "address", "02:e5:00:00:00:01", "up")
        node.host.run("ip", "neigh", "replace", address, "lladdr", mac(address).hex(":"), "dev", "es00twin",
                      "nud", "permanent")
        node.host.run("ip", "route", "replace", address, "dev", "es00twin")
        for argv in (("link", "set", "lo", "up"), ("address", "add", f"{address}/32", "dev", "eth0"),
                     ("link", "set", "eth0", "address", mac(address).hex(":"), "up"),
                     ("neigh", "add", HOST_ADDRESS, "lladdr", "02:e5:00:00:00:01", "dev", "eth0",
                      "nud", "permanent"),
                     ("route", "add", "default", "via", HOST_ADDRESS, "dev", "eth0", "onlink")):
            node.host.run("ip", "-n", twin(node), *argv)
    echoes = [subprocess.Popen(
        [*node.host.prefix, "ip", "netns", "exec", twin(node), "python3", "-c",
         "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
         f"s.bind(('{address}', 7))\n"
         "while True:\n    d, a = s.recvfrom(99); s.sendto(d + b'" + node.host.name + "', a)"])
        for node in (net.n1, net.n2)]
    try:
        net.tell({address: N1})
        with net.hub.host.inside():
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            client.connect((address, 7))
        client.settimeout(0.2)

        def ask(text: bytes) -> bytes:
            client.send(text)
            return client.recv(99)

        def first() -> bool:
            with contextlib.suppress(OSError):
                return ask(b"") == b"n1"
            return False

        wait_for(first)
        net.tell({address: N2})
        for _ in range(30):
            try:
                print("DBG", ask(b""))
            except OSError as error:
                print("DBG", error)
            time.sleep(0.1)
        print(net.n2.host.run("ip", "route").stdout, net.n2.host.run("ip", "neigh").stdout, net.hub.host.run("ip", "route").stdout)
        print(net.n2.host.run("ip", "-n", twin(net.n2), "route").stdout, net.n2.host.run("ip", "-n", twin(net.n2), "neigh").stdout, net.n2.host.run("ip", "-n", twin(net.n2), "addr").stdout)
        wait_for(lambda: ask(b"") == b"n2")
        stop, lost, who = threading.Event(), [], set()

        def flood() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                try:
                    who.add(ask(b"%d" % number)[-2:])
                except OSError as error:
                    lost.append(error)

        thread = threading.Thread(target=flood)
        thread.start()
        for i in range(40):
            net.hub.put(net.state(net.hub, {address: (N1, N2)[i % 2]}))
        stop.set()
        thread.join()
        assert not lost and who == {b"n1", b"n2"}
    finally:
        for echo in echoes:
            echo.kill()
            echo.wait()
        for node in (net.n1, net.n2):
            subprocess.run([*node.host.prefix, "ip", "link", "del", "es00twin"], check=False)
            for pid in node.host.run("ip", "netns", "pids", twin(node)).stdout.split():
                node.host.run("kill", "-9", pid)
            node.host.run("ip", "netns", "del", twin(node))
        net.tell()


def test_here_wins(net: Net, session: Session):
    """A session that is here is reached here, whatever elsad says; and when it leaves, the way is
    there at once."""
    net.tell({session.address: N2})
    net.n1.put(net.state(net.n1, {HOST_ADDRESS: HUB, session.address: N2}))
    assert net.n1.routes()[session.address]["dev"].startswith("es")
    with net.n1.host.inside():
        assert session.answers()
    net.n1.done("stop", session)
    assert net.n1.routes()[session.address]["gateway"] == N2
    net.tell()
    assert session.address not in net.n1.routes()
    assert "unreachable" in net.n1.host.run("ip", "route").stdout


def test_restart(net: Net, session: Session):
    """elsa-node may end and come again: nothing of it is needed, and it takes nothing away."""
    talk = Talk(net, session)
    try:
        for node in (net.hub, net.n1):
            before = node.get("/v1/overlay")
            monitor = subprocess.Popen([*node.host.prefix, "ip", "monitor", "route"], stdout=subprocess.PIPE,
                                       text=True)
            pid = node.host.pid_below(monitor)
            node.kill()
            talk.goes_on()
            node.start()
            assert node.get("/v1/overlay") == before
            talk.goes_on()
            os.kill(pid, signal.SIGTERM)
            changes = [line for line in monitor.communicate()[0].splitlines() if "elsavx" in line]
            assert changes == []
        assert talk.longest < 30
    finally:
        talk.close()


def listeners(net: Net) -> int:
    """How many are told what becomes of the hub's routes."""
    rows = [line.split() for line in net.hub.host.run("cat", "/proc/net/netlink").stdout.splitlines()]
    return sum(row[1] == "0" and int(row[3], 16) != 0 for row in rows)


def test_many(net: Net):
    """5,000 sessions elsewhere; and what is as it was is left alone."""
    routes = {f"10.99.{100 + i // 250}.{i % 250 + 1}": (N1, N2)[i % 2] for i in range(5000)}
    state = net.state(net.hub, routes)
    took = []
    for _ in range(3):
        begun = time.monotonic()
        net.hub.put(state)
        took.append(time.monotonic() - begun)
    print("5,000 routes:", ["%.0f ms" % (t * 1000) for t in took])
    found = {a: r.get("gateway") for a, r in net.hub.routes().items() if a in routes}
    assert found == routes
    before = listeners(net)
    monitor = subprocess.Popen([*net.hub.host.prefix, "ip", "monitor", "route"], stdout=subprocess.PIPE,
                               text=True)
    pid = net.hub.host.pid_below(monitor)
    wait_for(lambda: listeners(net) > before)
    net.hub.put(net.state(net.hub, {**routes, "10.99.100.1": N2, "10.99.1.77": N1}))
    net.hub.put(net.state(net.hub, {a: via for a, via in routes.items() if a != "10.99.100.1"}))
    changed = {"10.99.100.1", "10.99.1.77"}
    deleted = set()
    while deleted != changed:
        line = monitor.stdout.readline()
        assert changed & set(line.split()), line
        if line.startswith("Deleted"):
            deleted |= changed & set(line.split())
    os.kill(pid, signal.SIGTERM)
    monitor.communicate()
    net.tell()
    assert not set(routes) & set(net.hub.routes())


@pytest.mark.parametrize("wrong, why", [
    ({"overlay": "10.50.0.1"}, "overlay"),
    ({"overlay": "", "keep": True}, "overlay"),
    ({"peers": [{"name": "x", "underlay": "10.97.0.2", "overlay": HUB}]}, "peers[0].overlay"),
    ({"peers": [{"name": "x", "underlay": "10.97.0", "overlay": N1}]}, "peers[0].underlay"),
    ({"peers": [{"name": "x", "underlay": "10.97.0.2; drop", "overlay": N1}]}, "peers[0].underlay"),
    ({"peers": [{"name": n, "underlay": "10.97.0.2", "overlay": N1} for n in "ab"]}, "peers"),
    ({"routes": [{"address": "0.0.0.0", "via": N1}]}, "routes[0].address"),
    ({"routes": [{"address": "10.97.0.254", "via": N1}]}, "routes[0].address"),
    ({"routes": [{"address": "10.99.3.3", "via": "10.98.9"}]}, "routes[0].via"),
    ({"routes": [{"address": "10.99.3.3", "via": v} for v in (N1, N2)]}, "twice"),
])
def test_refused(net: Net, wrong: dict, why: str):
    """And what was before stays."""
    before = net.hub.get("/v1/overlay")
    with pytest.raises(Refused) as refused:
        net.hub.put({**net.state(net.hub, {}), **wrong})
    assert refused.value.status == 400 and why in refused.value.error["text"]
    assert net.hub.get("/v1/overlay") == before


def test_another_address(net: Net):
    """A peer that has come back under another address, and a host that is none any more."""
    state = net.state(net.hub, {"10.99.7.7": N2})
    state["peers"] = [{**p, "underlay": "10.97.0.77"} for p in state["peers"] if p["overlay"] == N2]
    net.hub.put(state)
    shown = net.hub.host.run("bridge", "fdb", "show", "dev", net.hub.devices()[0]).stdout
    assert "10.97.0.77" in shown and net.n1.host.address not in shown
    shown = net.hub.host.run("ip", "neigh", "show", "dev", net.hub.devices()[0]).stdout
    assert N2 in shown and N1 not in shown
    assert N1 not in net.hub.routes() and N2 in net.hub.routes()
    net.tell()
    assert N1 in net.hub.routes() and "10.99.7.7" not in net.hub.routes()


def test_taken_away(net: Net):
    """By elsad's word, and with the rest of Elsa; and a boot begins without."""
    net.n1.put({})
    assert net.n1.devices() == [] and net.n1.get("/v1/overlay").get("overlay") in (None, "")
    assert "overlay" not in net.n1.host.run("nft", "list", "tables").stdout
    net.tell()
    assert len(net.n1.devices()) == 1
    net.n1.teardown()
    assert net.n1.devices() == [] and "elsa" not in net.n1.host.run("nft", "list", "tables").stdout
    assert "unreachable" not in net.n1.host.run("ip", "route").stdout
    assert not (net.n1.run_dir / "overlay.json").exists()
    net.n2.host.power_off()
    net.n2.process.wait()
    net.n2.host.power_on()
    net.n2.start()
    assert net.n2.devices() == []
    net.n1.start()
    net.tell()
    assert len(net.n2.devices()) == 1
