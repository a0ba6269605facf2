# SPDX-License-Identifier: Apache-2.0
"""Doubles of nodes that joined elsad from other hosts: over TLS, with certificates of its authority,
leases and a store that all share. They keep the promises' account together: no session runs on two
of them, and none is begun while another could still put away what it holds."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from basekit import wait_for
from elsad_doubles import Node
from elsad_kit import Elsad, Json, ask
from elsad_move_kit import Moves

FREE_PORTS = iter(range(18500, 19500))
MARGIN_S = 0.3  # by which a node stands still before its lease ends


class _TlsConnection(http.client.HTTPConnection):
    """To elsad's nodes.listen, which is called controller.elsa."""

    def __init__(self, where: tuple[str, int], context: ssl.SSLContext):
        super().__init__("controller.elsa", timeout=5)
        self.where, self.context = where, context

    def connect(self) -> None:
        plain = socket.create_connection(self.where, self.timeout)
        self.sock = self.context.wrap_socket(plain, server_hostname="controller.elsa")


class Joined(Moves, Node):
    """A node of another host."""

    def __init__(self, cluster: Cluster, name: str, **info: Any):
        super().__init__(cluster.dir / name)
        self.cluster, self.name = cluster, name
        self.where = ("127.0.0.1", next(FREE_PORTS))
        self.checkpoints = cluster.elsad.node.checkpoints
        self.fences = cluster.fences
        self.info: Json = {
            "features": "x86_64 sse2", "cpus": 8, "memory_bytes": 8 << 30,
            "memory_available_bytes": 8 << 30, "underlay": "127.0.0.1", "cpu": "double",
            "criu": "4.2", "move_port": 8445, "move_version": 3, **info,
        }  # fmt: skip
        self.images = ["/images/one"]
        self.held: set[str] = set()  # frozen since the lease lapsed
        self.own: list[str] = []  # of the last grant
        self.grants = 0
        self.cut = False  # from elsad: it renews nothing and answers nothing
        self.lease_until = 0.0
        self.leaving = False
        self.asked_offset_us = 0
        self.news_at = 0
        self.evacuation: Json | None = None
        self.notices: list[Json] = []
        self.overlays: list[Json] = []
        self.overlay_status = 200
        self.dead = False
        self.join()

    # identity

    def join(self) -> None:
        self.home = self.cluster.dir / f"id-{self.name}"
        self.home.mkdir(exist_ok=True)
        key, csr = self.home / "key.pem", self.home / "csr.pem"
        subprocess.run(
            ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
             "-nodes", "-keyout", key, "-out", csr, "-subj", f"/CN={self.name}"],
            check=True, capture_output=True,
        )  # fmt: skip
        token = self.cluster.elsad.post("/v1/nodes/token", {})["token"]
        open_context = ssl.create_default_context(cafile=str(self.cluster.ca_file))
        answer = self.ask_elsad(
            "join",
            {"token": token, "name": self.name, "csr": csr.read_text(),
             "listen": f"{self.where[0]}:{self.where[1]}", "version": "0"},
            open_context,
        )  # fmt: skip
        (self.home / "cert.pem").write_text(answer["certificate"])
        self.overlay = answer["overlay"]
        self.context = ssl.create_default_context(cafile=str(self.cluster.ca_file))
        self.context.load_cert_chain(self.home / "cert.pem", key)

    def ask_elsad(self, what: str, body: Json, context: ssl.SSLContext) -> Json:
        connection = _TlsConnection(self.cluster.listen, context)
        headers = {"Content-Type": "application/json"}
        return ask(connection, "POST", f"/v1/nodes/{what}", body, headers)

    def start(self) -> None:
        super().start()
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(self.home / "cert.pem", self.home / "key.pem")
        server.load_verify_locations(self.cluster.ca_file)
        server.verify_mode = ssl.CERT_REQUIRED
        self.server.socket = server.wrap_socket(
            self.server.socket, server_side=True, do_handshake_on_connect=False
        )
        threading.Thread(target=self.keep_lease, daemon=True).start()

    # leases

    def keep_lease(self) -> None:
        while not self.dead:
            if not self.cut:
                self.renew()
            if time.monotonic() > self.lease_until - MARGIN_S:
                self.hold_all()
            time.sleep(0.1)

    def renew(self) -> None:
        asked = time.monotonic()
        try:
            body = {"boot_id": self.boot_id, "listen": f"{self.where[0]}:{self.where[1]}",
                    "asked_at": int(asked * 1e6) + self.asked_offset_us,
                    "news_at": self.news_at, "leaving": self.leaving,
                    "notices": self.notices}  # fmt: skip
            grant = self.ask_elsad("lease", body, self.context)
        except (OSError, http.client.HTTPException, Exception):  # noqa: BLE001
            return
        with self.lock:
            self.lease_until = asked + grant["lease_ms"] / 1000
            self.own = grant.get("sessions", [])
            self.grants += 1
            for session in [s for s in self.held if s in self.own]:
                self.held.discard(session)
                self.cluster.check_alone(session, self)

    def hold_all(self) -> None:
        with self.lock:
            self.held |= set(self.running) - set(self.given)

    # faults

    def partition(self) -> None:
        """Cut off: nothing comes in or goes out; what runs there stands still in time."""
        self.cut = True
        self.stop()

    def heal(self) -> None:
        self.cut = False
        Node.start(self)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(self.home / "cert.pem", self.home / "key.pem")
        server.load_verify_locations(self.cluster.ca_file)
        server.verify_mode = ssl.CERT_REQUIRED
        self.server.socket = server.wrap_socket(
            self.server.socket, server_side=True, do_handshake_on_connect=False
        )

    def die(self) -> None:
        """The machine is gone, with all that ran there."""
        self.cut = self.dead = True
        self.stop()
        with self.lock:
            self.running.clear()
            self.held.clear()
            self.given.clear()
            self.departures.clear()

    def evacuate(self, session: str) -> int:
        """Puts a session away by itself."""
        with self.lock:
            generation = self.cluster.newest(session) + 1
            self.write(session, generation)
            self.running.pop(session)
            self.ended[session] = "evacuated"
            self.cluster.evacuated[session] = generation
            self.effects[f"evac-{session}-{generation}"] = {
                "id": f"evac-{session}-{generation}", "state": "done", "running": False,
            }  # fmt: skip
        return generation

    def touch(self, session: str, unwoken: str | None = None) -> None:
        super().touch(session, unwoken)
        self.news_at = int(time.monotonic() * 1e6) + self.asked_offset_us

    # what it answers

    def answer_now(self, method: str, path: str, query: Json, body: Json) -> tuple:
        if path == "/v1/node":
            info = {"name": self.name, "version": "0", "boot_id": self.boot_id,
                    "notices": self.notices, **self.info}  # fmt: skip
            if method == "POST":
                info["images"] = [i for i in body["images"] if i in self.images]
            return 200, info, {}
        if path == "/v1/evacuation" and self.evacuation:
            return 200, self.evacuation, {}
        if path == "/v1/overlay":
            self.overlays.append(body)
            return self.overlay_status, {}, {}
        if path.startswith("/v1/departures/"):
            return self.answer_departure(method, path.removeprefix("/v1/departures/"), body)
        if path == "/v1/sessions":
            status, shown, headers = super().answer_now(method, path, query, body)
            for item in shown["items"]:
                if item.get("ended") == "evacuated":
                    item["generation"] = self.cluster.evacuated[item["id"]]
            return status, shown, headers
        if method == "DELETE" and path.startswith("/v1/effects/evac-"):
            self.ended.pop(path.split("-")[1], None)
        return super().answer_now(method, path, query, body)

    def status(self, session: str) -> Json:
        held = session in self.held
        shown = {**super().status(session), "frozen": held, "held": held}
        return {**shown, **self.status_of_moves(session)}

    def do(self, kind: str, request: Json) -> Json:
        session = request["session"]["id"]
        if kind in ("start", "restore"):
            self.cluster.check_route(session, request["session"]["address"], self)
        result = self.cluster.do(self, kind, request, super().do)
        if kind in ("stop", "forget", "hibernate"):
            self.held.discard(session)
            self.given.pop(session, None)
        return result


class Hub_node(Node):
    """The hub's own host, among others."""

    def __init__(self, cluster: Cluster, path: Path):
        super().__init__(path)
        self.cluster = cluster
        self.name = "node1"
        self.held: set[str] = set()
        self.overlays: list[Json] = []
        self.overlay_status = 200
        self.info: Json = {"features": "x86_64 sse2", "cpus": 8, "memory_bytes": 4 << 30,
                           "memory_available_bytes": 4 << 30}  # fmt: skip
        self.images: list[str] = []

    def runs(self, session: str) -> bool:
        return session in self.running

    def answer_now(self, method: str, path: str, query: Json, body: Json) -> tuple:
        if path == "/v1/node":
            info = {"name": "node1", "version": "0", "boot_id": self.boot_id, **self.info}
            if method == "POST":
                info["images"] = [i for i in body["images"] if i in self.images]
            return 200, info, {}
        if path == "/v1/overlay":
            self.overlays.append(body)
            return self.overlay_status, {}, {}
        return super().answer_now(method, path, query, body)

    def do(self, kind: str, request: Json) -> Json:
        if kind in ("start", "restore"):
            self.cluster.check_route(request["session"]["id"], request["session"]["address"], self)
        return self.cluster.do(self, kind, request, super().do)


class Cluster:
    """One elsad, the hub's own node, and others."""

    def __init__(self, directory: Path, lease: str = "2s", **config: Json):
        self.dir = directory
        port = next(FREE_PORTS)
        self.listen = ("127.0.0.1", port)
        self.fences: set[tuple[str, int]] = set()
        self.evacuated: dict[str, int] = {}
        self.joined: dict[str, Joined] = {}
        nodes = {"listen": f"127.0.0.1:{port}", "lease": lease, "local": False, "reserve": 0,
                 **config.pop("nodes", {})}  # fmt: skip
        # Its users are nobody's business here, unless a test adds them.
        config.setdefault("hub", {}).setdefault("poll", "1d")
        self.elsad = Elsad(directory, nodes=nodes, **config)
        self.elsad.hub.fault = lambda method, path: (
            (200, {"items": [], "_pagination": {"offset": 0, "next": None}}, {})
            if path == "/users" and not self.elsad.hub.users else None)  # fmt: skip
        self.elsad.node.stop()
        self.elsad.node = self.hub = Hub_node(self, directory / "node.sock")
        self.hub.start()
        self.ca_file = directory / "ca" / "ca.pem"

    def __enter__(self) -> Cluster:
        self.elsad.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        for node in self.joined.values():
            node.dead = True
            node.stop()
        self.elsad.__exit__(*exception)
        print(self.elsad.log.read_text()[-20000:])  # shown when a test fails
        if not exception or exception[0] is None:
            assert not self.broken(), self.broken()

    def add(self, name: str, **info: Any) -> Joined:
        node = Joined(self, name, **info)
        self.joined[name] = node
        node.start()
        wait_for(f"{name} to be up", lambda: self.shown(name)["up"])
        return node

    def shown(self, name: str) -> Json:
        return next(n for n in self.elsad.get("/v1/nodes")["items"] if n["name"] == name)

    @property
    def all(self) -> list[Any]:
        return [self.hub, *self.joined.values()]

    def broken(self) -> list[str]:
        return [text for node in self.all for text in node.broken]

    def place_of(self, session: str) -> list[str]:
        """Where it runs, not counting where it stands still."""
        return [n.name for n in self.all if n.runs(session)]

    # the store, and the account

    def numbers(self, session: str) -> list[int]:
        written = [g for s, g in self.hub.checkpoints if s == session]
        return written + [g for s, g in self.fences if s == session]

    def newest(self, session: str) -> int:
        return max(self.numbers(session), default=0)

    def check_alone(self, session: str, node: Any) -> None:
        for other in self.all:
            if other is not node and other.runs(session):
                node.broken.append(f"{session} runs on {node.name} and {other.name}")

    def check_route(self, session: str, address: str, node: Any) -> None:
        """The hub's host knew the way before the effect came."""
        if not self.joined:
            return
        routes = self.hub.overlays[-1].get("routes", []) if self.hub.overlays else []
        via = {r["address"]: r["via"] for r in routes}.get(address)
        wanted = getattr(node, "overlay", None)
        if via != wanted:
            node.broken.append(f"{session} begins on {node.name}, but the route is via {via}")

    def do(self, node: Any, kind: str, request: Json, act: Any) -> Json:
        session, generation = request["session"]["id"], request["generation"]
        if kind == "fence":
            number = max(self.newest(session), generation) + 1
            self.fences.add((session, number))
            found = [g for s, g in self.hub.checkpoints
                     if s == session and not self.hub.checkpoints[s, g]["aside"]]  # fmt: skip
            return {"running": False, "generation": number, "checkpoint": max(found, default=0)}
        if kind in ("start", "restore"):
            self.check_alone(session, node)
            for other in self.all:
                if other is node or session not in other.running or session in other.given:
                    continue
                if not any(s == session for s, _ in self.fences):
                    node.broken.append(f"{kind} of {session}, which {other.name} may still put away")
            if kind == "restore" and generation != max(
                (g for s, g in self.hub.checkpoints if s == session), default=0
            ):
                node.broken.append(f"restore of {session}/{generation}, which is not the newest")
        if kind in ("hibernate", "snapshot") and generation <= self.newest(session):
            node.broken.append(f"{session}/{generation} is not new")
        return act(kind, request)


# --- what tests say of a cluster ----------------------------------------------------------------------


def two(cluster: Cluster, **info) -> tuple[Joined, Joined]:
    return cluster.add("n1", **info), cluster.add("n2", **info)


def where(cluster: Cluster, user: str = "ada") -> str:
    return cluster.elsad.session(user)["node"]


def away(cluster: Cluster, user: str = "ada") -> tuple[Joined, Joined]:
    """The node that has the session, and the other one."""
    home = cluster.joined[where(cluster, user)]
    return home, next(n for n in cluster.joined.values() if n is not home)


def wait_runs_on(cluster: Cluster, node: Joined, user: str = "ada", seconds: float = 20) -> Json:
    def there() -> Json | None:
        session = cluster.elsad.session(user)
        return session if session["state"] == "running" and session["node"] == node.name else None

    return wait_for(f"{user} to run on {node.name}", there, unless=cluster.elsad.why_dead,
                    seconds=seconds)  # fmt: skip


def snapshot(cluster: Cluster, user: str = "ada") -> None:
    assert cluster.elsad.follow(cluster.elsad.act("snapshot", user))["state"] == "done"


def asleep(cluster: Cluster) -> tuple[Joined, Joined]:
    two(cluster)
    cluster.elsad.run()
    cluster.elsad.follow(cluster.elsad.act("hibernate"))
    return away(cluster)


def restores(node: Joined) -> int:
    return len({r["id"] for r in node.asked if r["kind"] == "restore"})


# --- and of a move ------------------------------------------------------------------------------------


def ready(cluster: Cluster, *, checkpoint: bool = False, **info) -> tuple[Joined, Joined, str]:
    """A session that runs: its node, the other one, its id."""
    two(cluster, **info)
    cluster.elsad.run()
    if checkpoint:
        snapshot(cluster)
    home, other = away(cluster)
    return home, other, cluster.elsad.session()["id"]


def migrate(cluster: Cluster, user: str = "ada", **more) -> Json:
    return cluster.elsad.act("migrate", user, **more)


def moved(cluster: Cluster, user: str = "ada", **more) -> Json:
    done = cluster.elsad.follow(migrate(cluster, user, **more))
    assert done["state"] == "done", done
    return done


def wait_clear(cluster: Cluster) -> None:
    """Nothing of a departure is left at any node."""
    wait_for("nothing to be left", lambda: not any(
        n.departures or n.given for n in cluster.joined.values()))  # fmt: skip


def wait_asked(node: Joined, kind: str) -> Json:
    return wait_for(f"{kind} to be asked of {node.name}",
                    lambda: next((r for r in node.asked if r["kind"] == kind), None))  # fmt: skip


def wait_given(node: Joined) -> None:
    wait_for("it to be given away", lambda: node.given)
