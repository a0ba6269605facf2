# SPDX-License-Identifier: Apache-2.0
"""A whole Elsa on several hosts (hostkit.py): the hub's host with a real Hub, proxy, elsad and
elsa-node, and nodes that join it.

    with Cluster(nodes=2, spot=("n1",)) as c:
        c.hub                     # hubkit.Stack, on c.hub.host; c.api is its elsad
        c.hub.browser("ada")      # works from the test
        n1 = c.nodes["n1"]
        n1.kill(); n1.start(); n1.restart(kill=True)       # elsa-node alone
        n1.cut(); n1.heal()                                # cable; n1.cut(c.hub.address), c.store_address
        n1.power_off(); n1.power_on()                      # the machine; on again with elsa-node
        n1.host.run("ip", "route"); n1.get("/v1/node")     # its elsa-node's own API, over its socket
        with c.hub.host.inside(): ...                      # reach sessions as the proxy does

Homes, accounts, image and the store's key are the same for all hosts. `store`: "file", a directory
all of them see, or "s3", a server next to the test.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import nodekit
from basekit import BUILD, Json, uninterrupted, wait_for
from hostkit import TEST_ADDRESS, Host, Lan
from hubkit import Daemon, Stack, to_toml
from s3server import S3Server

NODES_PORT, LISTEN_PORT = 8443, 8444


def merge(*layers: dict[str, Json]) -> dict[str, Json]:
    """Sections of elsa.toml, later ones on top."""
    merged: dict[str, Json] = {}
    for layer in layers:
        for section, values in layer.items():
            merged.setdefault(section, {}).update(values)
    return merged


class ClusterNode:
    """A host with an elsa-node and nothing else."""

    def __init__(self, cluster: Cluster, name: str, options: dict[str, Json]):
        self.cluster, self.name, self.options = cluster, name, options
        self.host: Host = cluster.lan.host(name)
        self.dir = cluster.hub.dir / "hosts" / name
        self.run_dir = Path(tempfile.mkdtemp(prefix=f"elsa-{name}-", dir="/run"))
        self.run_dir.chmod(0o755)
        self.dir.mkdir(parents=True, mode=0o755)
        self.host.volatile.append(self.run_dir)
        self.socket = self.run_dir / "node.sock"
        self.notice_file = self.run_dir / "notice.json"
        self.token_file = self.dir / "join.token"
        self.config = self.dir / "elsa.toml"
        self.write_config()
        self.node = Daemon("elsa-node", self.argv(), self.dir / "elsa-node.log", cwd=self.dir,
                           env=cluster.env, host=self.host)
        self.others: list[Daemon] = []
        self.token = ""  # to join with; "": one of its own

    @property
    def address(self) -> str:
        return self.host.address

    def argv(self, *more: str) -> list[str]:
        return [str(BUILD / "elsa-node"), "--config", str(self.config), *more]

    def write_config(self, **options: Json) -> None:
        own = {
            "node": {
                "name": self.name,
                "socket": str(self.socket),
                "state_dir": str(self.dir / "state"),
                "run_dir": str(self.run_dir),
                "allowed_user": "root",
                "cgroup": self.host.cgroup,
                "listen": f"{self.address}:{LISTEN_PORT}",
                "address": self.address,
                "join_token_file": str(self.token_file),
                "notices": "file",
                "notice_file": str(self.notice_file),
                "notice_interval": "200ms",
                "price": "spot" if self.name in self.cluster.spot else "on-demand",
            },
            "store": {"cache": str(self.dir / "cache")},
        }
        if self.cluster.join:
            own["node"]["controller"] = self.cluster.nodes_url
        shared = {key: self.cluster.shared()[key] for key in ("session", "network", "store")}
        self.config.write_text(to_toml(merge(shared, own, self.options, options)))

    # --- its elsa-node

    def start(self, *, wait: bool = True) -> ClusterNode:
        if self.cluster.join and not (self.dir / "state/identity/cert.pem").exists():
            self.token_file.write_text((self.token or self.cluster.token()) + "\n")
            self.token_file.chmod(0o600)
        self.node.start()
        if wait:
            wait_for(f"elsa-node of {self.name}", self.answers, unless=self.node.why_dead)
        return self

    def kill(self) -> None:
        """kill -9 of elsa-node; the sessions run on."""
        self.node.kill()

    def stop(self) -> None:
        self.node.stop()

    def restart(self, *, kill: bool = False) -> None:
        self.node.kill() if kill else self.node.stop()
        self.start()

    def answers(self) -> bool:
        with contextlib.suppress(OSError, nodekit.http.client.HTTPException):
            return bool(self.get("/v1/node"))
        return False

    def ask(self, method: str, path: str, body: Any = None, seconds: float = 120) -> Any:
        """elsa-node's API over its unix socket; nodekit.Refused."""
        connection = nodekit.UnixHTTP(str(self.socket), seconds)
        try:
            connection.request(method, path, None if body is None else json.dumps(body),
                               {"Content-Type": "application/json"})
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        said = json.loads(data) if "json" in (answer.headers.get("Content-Type") or "") else data
        if answer.status != 200:
            raise nodekit.Refused(answer.status, said)
        return said

    def get(self, path: str, **more: Any) -> Any:
        return self.ask("GET", path, **more)

    def sessions(self) -> dict[str, Json]:
        return {s["id"]: s for s in self.get("/v1/sessions")["items"]}

    # --- its host

    def cut(self, *addresses: str) -> None:
        self.host.cut(*addresses)

    def heal(self) -> None:
        self.host.heal()

    def shape(self, rate: str) -> None:
        self.host.shape(rate)

    def power_off(self) -> None:
        """Everything of that host is gone at once, its RUN_DIR too; its STATE_DIR stays."""
        self.host.power_off()
        for daemon in (self.node, *self.others):
            if daemon.process is not None:
                daemon.process.wait(20)
                daemon.process = None

    def power_on(self, *, start: bool = True) -> None:
        self.host.power_on()
        if start:
            self.start()

    def daemon(self, name: str, *argv: str, env: dict[str, str] | None = None) -> Daemon:
        """Another program on that host, started; ended with it."""
        daemon = Daemon(name, list(argv), self.dir / f"{name}.log", cwd=self.dir, env=env or {},
                        host=self.host)
        daemon.start()
        self.others.append(daemon)
        return daemon

    def log(self, lines: int = 60) -> str:
        return self.node.log_tail(lines)


class Cluster:
    """`nodes`: how many, or their names. `options`: elsa.toml of all, `hub_options` and
    `node_options` (by name) of single ones. `join` False: the nodes know of no elsad. `people` False:
    there is neither Hub nor proxy, and sessions are asked of elsad alone."""

    def __init__(self, nodes: int | Iterable[str] = 2, *, spot: Iterable[str] = (),
                 store: str = "file", options: dict[str, Json] | None = None,
                 hub_options: dict[str, Json] | None = None,
                 node_options: dict[str, dict[str, Json]] | None = None, join: bool = True,
                 hub_extra: str = "", local: bool = True, people: bool = True):
        self.names = [f"n{i + 1}" for i in range(nodes)] if isinstance(nodes, int) else list(nodes)
        self.spot, self.join, self.people = set(spot), join, people
        self.node_options = node_options or {}
        self.options = options or {}
        self.env: dict[str, str] = {}
        self.s3: S3Server | None = None
        self.nodes: dict[str, ClusterNode] = {}
        self.lan = Lan()
        try:
            self._make_hub(store, hub_options or {}, hub_extra, local)
            for name in self.names:
                self._make_node(name)
        except BaseException:
            self.close()
            raise

    def _make_hub(self, store: str, hub_options: dict[str, Json], hub_extra: str, local: bool) -> None:
        host = self.lan.host("hub")
        self.nodes_url = f"https://{host.address}:{NODES_PORT}"
        own: dict[str, Json] = {"node": {"name": "hub", "cgroup": host.cgroup}}
        if self.join:
            own["nodes"] = {"listen": f"{host.address}:{NODES_PORT}", "url": self.nodes_url,
                            "address": host.address, "local": local}
        self.hub = Stack(options=merge(own, self.options, hub_options), host=host, hub_extra=hub_extra)
        host.volatile.append(self.hub.run_dir)
        if store == "s3":
            (self.hub.dir / "s3").mkdir()
            self.s3 = S3Server(self.hub.dir / "s3", address=TEST_ADDRESS).start()
            self.env = self.s3.credentials
            url = f"s3://bucket/prefix?endpoint={self.s3.url}&region=us-east-1"
            self.hub.options = merge(self.hub.options, {"store": {"url": url}})
            self.hub.write_config()
            self.hub.node.env = self.env

    def _make_node(self, name: str) -> ClusterNode:
        options = merge(self.options, self.node_options.get(name, {}))
        self.nodes[name] = ClusterNode(self, name, options)
        return self.nodes[name]

    def add(self, name: str, *, spot: bool = False) -> ClusterNode:
        """One more node, started and joined."""
        self.spot |= {name} if spot else set()
        node = self._make_node(name).start()
        if self.join:
            wait_for(f"{name} to have joined", lambda: (self.node(name) or {}).get("up"))
        return node

    def boot(self, name: str, *, token: str, **options: Json) -> ClusterNode:
        """One more spot machine, with what its user-data would say; not waited for."""
        self.spot |= {name}
        self.node_options[name] = options
        node = self._make_node(name)
        node.token = token
        return node.start(wait=False)

    def shared(self) -> dict[str, Json]:
        """What all hosts' elsa.toml agree on."""
        return merge(self.hub._own_options(), self.hub.options)

    @property
    def api(self):
        return self.hub.api

    @property
    def store_address(self) -> str:
        return TEST_ADDRESS

    def start(self) -> Cluster:
        try:
            self._start_hub()
            for node in self.nodes.values():
                node.start()
            if self.join:
                wait_for("all nodes to have joined", self.joined, seconds=60)
        except BaseException as error:
            error.add_note(self.logs())
            self.close()
            raise
        return self

    def _start_hub(self) -> None:
        if self.people:
            self.hub.start()
            return
        self.hub.start_node()
        self.hub.start_elsad()

    def elsa(self, *argv: str, good: bool = True) -> subprocess.CompletedProcess:
        """The command line, on the hub's host."""
        done = subprocess.run([*self.hub.host.prefix, str(BUILD / "elsa"), "--url", self.hub.elsa_url, *argv],
                              capture_output=True, text=True, timeout=120, check=False)
        assert not good or done.returncode == 0, f"elsa {' '.join(argv)}: {done.stderr}{done.stdout}"
        return done

    def token(self) -> str:
        """A join token."""
        return self.api.post("/v1/nodes/token")["token"]

    def node(self, name: str) -> Json | None:
        """As elsad has it."""
        return next((n for n in self.api.get("/v1/nodes")["items"] if n["name"] == name), None)

    def joined(self) -> bool:
        return all((self.node(name) or {}).get("up") for name in self.nodes)

    def wait(self, what: str, condition: Callable[[], Any], seconds: float = 60) -> Any:
        return wait_for(what, condition, seconds=seconds, pause=0.1)

    def logs(self, lines: int = 40) -> str:
        texts = [self.hub.logs(lines)] if hasattr(self, "hub") else []
        texts += [f"--- elsa-node of {n.name}\n{n.log(lines)}" for n in self.nodes.values()]
        return "\n".join(texts)

    def close(self) -> None:
        with uninterrupted():
            for node in self.nodes.values():
                node.power_off()
            if hasattr(self, "hub"):
                self.hub.close()
            if self.s3:
                self.s3.stop()
            self.lan.close()
            for node in self.nodes.values():
                shutil.rmtree(node.run_dir, ignore_errors=True)

    def __enter__(self) -> Cluster:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()
