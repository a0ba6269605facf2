# SPDX-License-Identifier: Apache-2.0
"""elsad's side of leases, as a double over TLS, and an elsa-node that has joined it."""
import contextlib
import http.server
import json
import pathlib
import socket
import ssl
import struct
import subprocess
import threading
import time

from basekit import ManyAtOnce
from nodekit import Node, wait_for


def openssl(*args):
    subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True, timeout=30)


def make_ca(at):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
            "2", "-subj", "/CN=elsad", "-keyout", at / "ca.key", "-out", at / "ca.pem",
            "-addext", "basicConstraints=critical,CA:TRUE")


def make_certificate(ca, to, name, host):
    """key.pem, cert.pem and ca.pem in the directory `to`."""
    to.mkdir(parents=True, exist_ok=True)
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", f"/CN={name}", "-keyout", to / "key.pem", "-out", to / "csr.pem")
    (to / "ext").write_text(f"subjectAltName=DNS:{host}\nextendedKeyUsage=serverAuth,clientAuth\n")
    openssl("x509", "-req", "-in", to / "csr.pem", "-CA", ca / "ca.pem", "-CAkey", ca / "ca.key",
            "-CAcreateserial", "-days", "2", "-extfile", to / "ext", "-out", to / "cert.pem")
    (to / "ca.pem").write_bytes((ca / "ca.pem").read_bytes())
    for name in ("csr.pem", "ext"):
        (to / name).unlink()


class Controller:
    """Grants leases, or does not."""

    def __init__(self, where, lease_ms=3000):
        self.where = pathlib.Path(where)
        self.where.mkdir(parents=True, exist_ok=True)
        make_ca(self.where)
        make_certificate(self.where, self.where / "own", "elsad", "controller.elsa")
        self.lease_ms = lease_ms
        self.sessions = set()  # ids of those that are the node's
        self.mode = "grant"  # "hang", "refuse", "garbage"
        self.asked = []  # (wall clock, question, common name, answered) of each
        self.server = None
        self.port = 0
        self.open()

    def open(self):
        controller = self
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.where / "own" / "cert.pem", self.where / "own" / "key.pem")
        context.load_verify_locations(self.where / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_POST(self):
                controller.answer(self)

        class Server(ManyAtOnce, http.server.ThreadingHTTPServer):
            def get_request(self):
                connection, address = self.socket.accept()
                connection.settimeout(20)
                return context.wrap_socket(connection, server_side=True,
                                           do_handshake_on_connect=False), address

            def handle_error(self, request, address):
                pass

        self.server = Server(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def answer(self, x):
        at = time.time()
        question = json.loads(x.rfile.read(int(x.headers["Content-Length"])))
        peer = dict(part[0] for part in x.connection.getpeercert()["subject"])["commonName"]
        mode = self.mode
        self.asked.append((at, question, peer, mode))
        assert x.path == "/v1/nodes/lease"
        if mode == "hang":
            with contextlib.suppress(OSError):
                while self.mode == "hang":
                    time.sleep(0.05)
            x.close_connection = True
            return
        body = {"grant": json.dumps({"lease_ms": self.lease_ms, "sessions": sorted(self.sessions)}),
                "refuse": "{}", "garbage": "<html>"}[mode].encode()
        x.send_response(403 if mode == "refuse" else 200)
        x.send_header("Content-Type", "application/json")
        x.send_header("Content-Length", str(len(body)))
        x.end_headers()
        x.wfile.write(body)

    def cut(self, mode="hang"):
        """From now on no lease; when the last one that was given ends at the latest."""
        self.mode = mode
        return time.time() + self.lease_ms / 1000

    def heal(self):
        self.mode = "grant"


class JoinedNode(Node):
    """Has its certificate from the start."""

    def __init__(self, where, controller, name="n1"):
        self.controller = controller
        super().__init__(where)
        self.write_config(node=f"""
name = "{name}"
controller = "https://127.0.0.1:{controller.port}"
listen = "127.0.0.1:{free_port()}"
""")
        make_certificate(controller.where, self.state / "identity", name, f"{name}.node.elsa")

    def start(self, *args, **options):
        super().start(*args, **options)
        # The tests are in the place of the hub's host.
        subprocess.run(["ip", "address", "replace", "10.99.0.1/32", "dev", "lo"], check=True)
        return self

    def lease_left(self):
        return self.get("/v1/node").get("lease_left_ms", -1)

    def leased(self):
        return wait_for(lambda: self.lease_left() > 0)

    def acknowledge_all(self):
        for result in self.get("/v1/effects")["items"]:
            self.ask("DELETE", f"/v1/effects/{result['id']}", good=(200, 204))

    def guards(self):
        """Pids of this node's guards."""
        mine = str(self.run_dir / "lease").encode()
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mine in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
        return found


def pretend_lease(run_dir, boot_id):
    """As if a joined node that is about to start had been granted a lease for good
    (guard/guard.h), for tests that have no elsad."""
    run_dir.mkdir(parents=True, exist_ok=True)
    for_ever = 10 ** 17
    (run_dir / "lease").write_bytes(struct.pack(
        "<Q40sI4xqqqqI4x", 0x31647261756761, boot_id.strip().encode(), 2, 0, for_ever, for_ever, -1, 0))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
