# SPDX-License-Identifier: Apache-2.0
"""A whole Elsa on loopback.

`Stack` starts elsa-node, elsad, configurable-http-proxy and JupyterHub, each with its log in the
stack's directory, and takes everything away again.

Shared by the end-to-end tests, tools/demo and the benchmarks. Meant to run inside tools/enter.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import requests

from basekit import BUILD, CHECKOUT, HOST_ADDRESS, PASSWORD, POOL, Json, uninterrupted, wait_for
from browser import Browser
from hostkit import Host, here

if str(CHECKOUT / "spawner") not in sys.path:
    sys.path.insert(0, str(CHECKOUT / "spawner"))


# --- daemons --------------------------------------------------------------------------------------


@dataclass
class Daemon:
    """A program of the stack: started, watched, ended or killed; its log outlives it."""

    name: str
    argv: list[str]
    log: Path
    env: dict[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    host: Host | None = None  # where it runs; None: here
    process: subprocess.Popen | None = None

    def start(self) -> None:
        assert not self.alive, f"{self.name} runs already"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._argv(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.cwd,
                env={**os.environ, **self.env},
                # Ctrl-C is for the demo, not for what it runs: that is ended in order.
                process_group=0,
            )

    def _argv(self) -> list[str]:
        if self.host is None:
            return self.argv
        return [*self.host.prefix, *(["env", f"--chdir={self.cwd}"] if self.cwd else []), *self.argv]

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int | None:
        """As we see it; None when it has ended."""
        if self.process is None or self.host is None:
            return self.process.pid if self.process else None
        return self.host.pid_below(self.process)

    def signal(self, number: int) -> None:
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """nsenter stops itself when what it has started is stopped."""
        self.signal(signal.SIGCONT)
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def why_dead(self) -> str | None:
        if self.alive:
            return None
        return f"{self.name} ended:\n{self.log_tail()}"

    def stop(self, seconds: float = 30) -> None:
        """SIGTERM, then SIGKILL."""
        if self.process is None:
            return
        if self.alive:
            self.signal(signal.SIGTERM)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def kill(self) -> None:
        """kill -9, as a crash."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def log_tail(self, lines: int = 25) -> str:
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def port_is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


# --- elsad's API ----------------------------------------------------------------------------------


class ApiError(AssertionError):
    def __init__(self, status: int, answer: Any):
        super().__init__(f"elsad answered {status}: {answer}")
        self.status = status
        self.answer = answer


class Api:
    """elsad's API over its unix socket, for tests: no retries, no mercy."""

    def __init__(self, path: Path):
        self.path = path

    def ask(self, method: str, path: str, body: Json | None = None, seconds: float = 60, **query):
        connection = http.client.HTTPConnection("elsad", timeout=seconds)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(seconds)
        try:
            connection.sock.connect(str(self.path))
            target = path + ("?" + urlencode(query) if query else "")
            data = None if body is None else json.dumps(body)
            connection.request(method, target, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            raw = response.read()
        finally:
            connection.close()
        is_json = "json" in (response.headers.get("Content-Type") or "")
        answer = json.loads(raw) if raw and is_json else raw.decode(errors="replace")
        if response.status >= 400:
            raise ApiError(response.status, answer)
        return answer

    def get(self, path: str, **query) -> Any:
        return self.ask("GET", path, **query)

    def post(self, path: str, **body) -> Any:
        return self.ask("POST", path, body)

    def up(self) -> bool:
        with contextlib.suppress(OSError, ApiError, ValueError):
            return bool(self.get("/v1/health"))
        return False

    def session(self, user: str, server: str = "") -> Json | None:
        try:
            return self.get("/v1/session", user=user, server=server)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def state(self, user: str, server: str = "") -> str:
        session = self.session(user, server)
        return session["state"] if session else "unknown"

    def wait_state(self, user: str, *states: str, server: str = "", seconds: float = 60) -> Json:
        def there() -> Json | None:
            with contextlib.suppress(OSError):
                session = self.session(user, server)
                return session if session and session["state"] in states else None
            return None

        try:
            return wait_for(f"{user}/{server} to be {' or '.join(states)}", there, seconds=seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {self._describe(user, server)}") from None

    def _describe(self, user: str, server: str) -> str:
        with contextlib.suppress(OSError, ApiError):
            session = self.session(user, server)
            return json.dumps(session) if session else "unknown"
        return "not to be asked: elsad does not answer"

    def wait_operation(self, operation: Json, seconds: float = 120) -> Json:
        """The operation, ended. Failing is the caller's to judge."""
        deadline = time.monotonic() + seconds
        while operation.get("state") == "running":
            assert time.monotonic() < deadline, f"still under way: {operation}"
            operation = self.get("/v1/operation", id=operation["id"], wait=5)
        return operation

    def events(self, after: int = 0, **query) -> list[Json]:
        return self.get("/v1/events", after=after, **query)["events"]


# --- the stack ------------------------------------------------------------------------------------

HUB_CONFIG = """
import json, os, sys
c = get_config()
settings = json.loads(os.environ["HUBKIT_SETTINGS"])
sys.path[:0] = settings["python_path"]

c.JupyterHub.bind_url = settings["public_url"]
c.JupyterHub.hub_ip = settings["hub_ip"]
c.JupyterHub.hub_port = settings["hub_port"]
c.JupyterHub.db_url = "sqlite:///" + settings["dir"] + "/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = settings["dir"] + "/cookie_secret"
c.JupyterHub.allow_named_servers = True
# Sessions and the proxy outlive a restart of the Hub.
c.JupyterHub.cleanup_servers = False
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0, "slow_stop_timeout": 120}
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.api_url = settings["proxy_api_url"]
c.ConfigurableHTTPProxy.auth_token = settings["proxy_token"]

c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = settings["password"]
c.Authenticator.allow_all = True
c.Authenticator.username_pattern = ""
c.Authenticator.admin_users = {"admin"}

c.JupyterHub.spawner_class = "elsa_spawner.ElsaSpawner"
c.ElsaSpawner.elsa_url = settings["elsa_url"]
c.ElsaSpawner.patience = 60
c.Spawner.poll_interval = 2
# On a busy machine a server needs longer than the 30 s of default until it answers.
c.Spawner.http_timeout = 120
c.Spawner.cmd = ["jupyterhub-singleuser"]
c.Spawner.default_url = "/tree"
c.Spawner.environment = {"JUPYTERHUB_SINGLEUSER_EXTENSION": "1"}

c.JupyterHub.services = [{"name": "elsa", "api_token": settings["elsa_token"]}]
c.JupyterHub.load_roles = [{
    "name": "elsa",
    "services": ["elsa"],
    "scopes": ["list:users", "read:users", "read:users:activity", "users:activity", "read:servers",
               "servers", "delete:servers", "access:servers", "read:hub"],
}, {
    "name": "server",
    "scopes": ["users:activity!user", "access:servers!server"],
}]

import pathlib, hubkit
c.Spawner.pre_spawn_hook = lambda spawner: hubkit.add_account(
    pathlib.Path(settings["dir"]) / "home", spawner.user.name)
exec(settings["extra"])
"""

# What "pip install --user" would put into a home. In production the package is part of the image;
# here the image is this machine's own root, which nobody should write to, and an overlay over it
# would not do: CRIU cannot find the files of an overlay below the session's own.
HOME_PYTHON = ".local/lib/python{0.major}.{0.minor}/site-packages/elsa_spawner"
HOME_CONFIG = ".jupyter/jupyter_server_config.d"


class Stack:
    """elsa-node, elsad, proxy and Hub in one directory.

    `options` are settings of elsa.toml, by section: {"idle": {"timeout": "5s"}}.
    `hub_extra` is Python put at the end of the Hub's configuration.
    `elsa_url` names an elsad that runs already; then neither it nor elsa-node is started.
    `host` is where all of it runs (hostkit.py); None: here, on loopback.
    """

    def __init__(
        self,
        *,
        options: Json | None = None,
        hub_extra: str = "",
        elsa_url: str = "",
        port: int = 8000,
        hub_ip: str = HOST_ADDRESS,
        host: Host | None = None,
    ):
        self.host = host
        self.address = host.address if host else "127.0.0.1"
        top = Path("/var/lib/elsa")
        self.dir = Path(tempfile.mkdtemp(prefix="stack-", dir=top if top.is_dir() else None))
        self.dir.chmod(0o755)
        self.options = options or {}
        self.hub_extra = hub_extra
        self.own_elsad = not elsa_url
        self.run_dir = Path(tempfile.mkdtemp(prefix="elsa-", dir="/run"))
        self.run_dir.chmod(0o755)
        self.socket = self.run_dir / "elsad.sock"
        self.elsa_url = elsa_url or f"unix:{self.socket}"
        self.api = Api(Path(self.elsa_url.removeprefix("unix:")))
        self.port, self.hub_port, self.proxy_port = port, port + 81, port + 1
        self.activity_port = port + 82
        self.hub_ip = hub_ip
        self.url = f"http://{self.address}:{port}"
        self.proxy_token, self.elsa_token = secrets.token_hex(16), secrets.token_hex(16)
        self._write_files()
        self.node = self._daemon("elsa-node", self._own_argv("elsa-node"))
        self.elsad = self._daemon("elsad", self._own_argv("elsad"))
        self.proxy = self._daemon("proxy", self._proxy_argv())
        self.proxy.env = {"CONFIGPROXY_AUTH_TOKEN": self.proxy_token}
        self.hub = self._daemon("hub", ["jupyterhub", "-f", str(self.dir / "jupyterhub_config.py")])
        self.hub.env = {"HUBKIT_SETTINGS": json.dumps(self._hub_settings())}

    def _daemon(self, name: str, argv: list[str]) -> Daemon:
        return Daemon(name, argv, self.dir / f"{name}.log", cwd=self.dir, host=self.host)

    def _own_argv(self, program: str, *more: str) -> list[str]:
        return [str(BUILD / program), "--config", str(self.config), *more]

    @property
    def daemons(self) -> list[Daemon]:
        """In the order of starting."""
        own = [self.node, self.elsad] if self.own_elsad else []
        return [*own, self.proxy, self.hub]

    # --- files

    @property
    def config(self) -> Path:
        return self.dir / "elsa.toml"

    @property
    def store(self) -> Path:
        return self.dir / "store"

    def _write_files(self) -> None:
        (self.dir / "home").mkdir(mode=0o755)
        (self.dir / "jupyterhub_config.py").write_text(HUB_CONFIG)
        token = self.dir / "hub.token"
        token.write_text(self.elsa_token)
        token.chmod(0o600)
        self.write_config()

    def write_config(self, **options: Json) -> None:
        """elsa.toml with these sections' options on top of the stack's own."""
        merged: dict[str, Json] = {}
        for layer in (self._own_options(), self.options, options):
            for section, values in layer.items():
                merged.setdefault(section, {}).update(values)
        self.config.write_text(to_toml(merged))

    def _own_options(self) -> dict[str, Json]:
        return {
            "hub": {
                "api_url": f"http://{self.hub_ip}:{self.hub_port}/hub/api",
                "token_file": str(self.dir / "hub.token"),
                "poll": "5s",
            },
            "controller": {
                "socket": str(self.socket),
                "database": str(self.dir / "elsad.db"),
                "activity_listen": f"{HOST_ADDRESS}:{self.activity_port}",
                "observe": "1s",
            },
            "node": {
                "socket": str(self.run_dir / "node.sock"),
                "state_dir": str(self.dir / "node"),
                "run_dir": str(self.run_dir),
                "allowed_user": "root",
            },
            "session": {
                "home": f"{self.dir}/home/{{user}}",
                "home_inside": "/home/{user}",
            },
            "network": {
                "pool": POOL,
                "host_address": HOST_ADDRESS,
                "allow": [
                    f"{HOST_ADDRESS}:{self.hub_port}",
                    f"{HOST_ADDRESS}:{self.activity_port}",
                ],
            },
            "store": {
                "url": f"file://{self.store}",
                "key_file": str(self.dir / "store.key"),
                "cache": str(self.dir / "cache"),
            },
        }

    def _hub_settings(self) -> Json:
        return {
            "dir": str(self.dir),
            "public_url": self.url,
            "hub_ip": self.hub_ip,
            "hub_port": self.hub_port,
            "proxy_api_url": f"http://127.0.0.1:{self.proxy_port}",
            "proxy_token": self.proxy_token,
            "password": PASSWORD,
            "elsa_url": self.elsa_url,
            "elsa_token": self.elsa_token,
            "python_path": [str(CHECKOUT / "spawner"), str(CHECKOUT / "tests/e2e")],
            "extra": self.hub_extra,
        }

    def _proxy_argv(self) -> list[str]:
        return [
            "configurable-http-proxy",
            *("--ip", self.address, "--port", str(self.port)),
            *("--api-ip", "127.0.0.1", "--api-port", str(self.proxy_port)),
            *("--error-target", f"http://{self.hub_ip}:{self.hub_port}/hub/error"),
            *("--default-target", f"http://{self.hub_ip}:{self.hub_port}"),
        ]

    # --- life

    def start(self) -> Stack:
        try:
            self._check_ports()
            if self.own_elsad:
                self.start_node()
                self.start_elsad()
            self.start_proxy()
            self.start_hub()
        except BaseException:
            self.close()
            raise
        return self

    def _port_is_free(self, address: str, port: int) -> bool:
        with self.host.inside() if self.host else here():
            return port_is_free(address, port)

    def _check_ports(self) -> None:
        for port in (self.port, self.proxy_port, self.hub_port):
            if not self._port_is_free("127.0.0.1", port):
                raise SystemExit(f"port {port} of 127.0.0.1 is in use: stop what uses it")

    def start_node(self) -> None:
        self.node.start()
        wait_for(
            "elsa-node's socket",
            lambda: _accepts(self.run_dir / "node.sock"),
            unless=self.node.why_dead,
        )

    def start_elsad(self) -> None:
        self.elsad.start()
        wait_for("elsad", self.api.up, unless=self.elsad.why_dead)

    def start_proxy(self) -> None:
        self.proxy.start()
        wait_for(
            "the proxy",
            lambda: not self._port_is_free(self.address, self.port)
            and not self._port_is_free("127.0.0.1", self.proxy_port),
            unless=self.proxy.why_dead,
        )

    def start_hub(self) -> None:
        self.hub.start()
        wait_for("the Hub", self.hub_up, unless=self.hub.why_dead)

    def hub_up(self) -> bool:
        """Reached through the proxy, and done with looking for its servers."""
        if self._port_is_free(self.hub_ip, self.hub_port):
            return False
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"{self.url}/hub/api/", timeout=5).status_code == 200
        return False

    def restart_hub(self, *, kill: bool = False) -> None:
        self.hub.kill() if kill else self.hub.stop()
        self.start_hub()

    def restart_elsad(self, *, kill: bool = False) -> None:
        self.elsad.kill() if kill else self.elsad.stop()
        self.start_elsad()

    def restart_node(self, *, kill: bool = False) -> None:
        self.node.kill() if kill else self.node.stop()
        self.start_node()

    def browser(self, user: str, server: str = "") -> Browser:
        return Browser(self.url, user, server=server)

    def close(self) -> None:
        """Everything away: sessions, daemons, network, files. May be called at any time, twice, and
        once begun is not to be interrupted: the next Ctrl-C would leave things behind."""
        with uninterrupted():
            self._close()

    def _close(self) -> None:
        for daemon in reversed(self.daemons):
            daemon.stop()
        there = self.host is None or self.host.is_on
        if there and self.own_elsad and (BUILD / "elsa-node").exists():
            subprocess.run(
                [*(self.host.prefix if self.host else ()),
                 *self._own_argv("elsa-node", "teardown", "--all")],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
        if not os.environ.get("ELSA_KEEP_STACK"):
            shutil.rmtree(self.dir, ignore_errors=True)
            shutil.rmtree(self.run_dir, ignore_errors=True)

    def __enter__(self) -> Stack:
        return self.start()

    def __exit__(self, *_: Any) -> None:
        self.close()

    def logs(self, lines: int = 40) -> str:
        return "\n".join(
            f"--- {daemon.name}\n{daemon.log_tail(lines)}" for daemon in self.daemons
        )

    # --- the Hub's API, as an administrator

    def hub_api(self, method: str, path: str, **kwargs) -> requests.Response:
        return requests.request(
            method,
            f"{self.url}/hub/api/{path}",
            headers={"Authorization": f"token {self.elsa_token}"},
            timeout=180,
            **kwargs,
        )

    def hub_user(self, user: str) -> Json:
        return self.hub_api("GET", f"users/{quote(user, safe='')}").json()

    def hub_server(self, user: str, server: str = "") -> Json | None:
        """What the Hub says of a server that it takes for started."""
        return (self.hub_user(user).get("servers") or {}).get(server)

    def stop_server(self, user: str, server: str = "") -> requests.Response:
        kind = f"servers/{quote(server, safe='')}" if server else "server"
        return self.hub_api("DELETE", f"users/{quote(user, safe='')}/{kind}")

    def raw_hub_api(self, method: str, *names: str) -> int:
        """A request to the Hub itself that nobody tidies up on the way: clients and proxies take
        a ".." in a path for what it is in a file system. Returns the status."""
        path = "/".join(quote(name, safe="").replace(".", "%2e") for name in names)
        connection = http.client.HTTPConnection(self.hub_ip, self.hub_port, timeout=180)
        headers = {"Authorization": f"token {self.elsa_token}"}
        try:
            with self.host.inside() if self.host else here():
                connection.connect()
            connection.request(method, f"/hub/api/{path}", headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()


def add_account(homes: Path, name: str) -> None:
    """A system account with a furnished home, for a name that can be one's. For other names elsad
    and elsa-node make up a user id and a home."""
    home = homes / name
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,30}", name) or home.exists():
        return
    with open("/etc/passwd", "a+") as passwd, open("/etc/group", "a") as group:
        fcntl.flock(passwd, fcntl.LOCK_EX)
        passwd.seek(0)
        fields = [line.split(":") for line in passwd]
        uid = next((int(f[2]) for f in fields if f[0] == name), 0)
        if not uid:
            uid = max([1500, *(int(f[2]) for f in fields if 1500 < int(f[2]) < 60000)]) + 1
            passwd.write(f"{name}:x:{uid}:{uid}::/home/{name}:/bin/bash\n")
            group.write(f"{name}:x:{uid}:\n")
    _furnish(home, uid)


def _furnish(home: Path, uid: int) -> None:
    """The server extension in a new home."""
    home.mkdir(mode=0o700)
    package = home / HOME_PYTHON.format(sys.version_info)
    shutil.copytree(
        CHECKOUT / "spawner/elsa_spawner", package, ignore=shutil.ignore_patterns("__pycache__")
    )
    (home / HOME_CONFIG).mkdir(parents=True)
    shutil.copy(CHECKOUT / "spawner/elsa_spawner.json", home / HOME_CONFIG)
    for path in [home, *home.rglob("*")]:
        os.chown(path, uid, uid)


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def to_toml(sections: dict[str, Json]) -> str:
    """Enough TOML for elsa.toml; JSON's strings, numbers, booleans and lists are TOML's."""
    lines = []
    for section, values in sections.items():
        tables = {key: values.get(key) or [] for key in ("rule", "class", "group")}
        lines.append(f"[{section}]")
        lines += [f"{k} = {json.dumps(v)}" for k, v in values.items() if k not in tables]
        for name, entry in ((name, entry) for name, of in tables.items() for entry in of):
            lines.append(f"[[{section}.{name}]]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in entry.items()]
    return "\n".join(lines) + "\n"
