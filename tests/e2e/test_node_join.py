# SPDX-License-Identifier: Apache-2.0
"""How a node joins elsad, stays known to it, and what happens when it should not.

A real elsad and a real elsa-node that believe to be on two hosts; the hub's own node and the Hub
are doubles.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from basekit import BUILD, wait_for
from elsad_kit import ApiError, Elsad
from nodekit import Node


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Pair:
    """elsad, and a node that is to join it."""

    def __init__(self, where: Path, **nodes: Any):
        self.port, self.listen = free_port(), free_port()
        (where / "hub").mkdir()
        self.elsad = Elsad(where / "hub", nodes={
            "listen": f"127.0.0.1:{self.port}", "url": f"https://127.0.0.1:{self.port}", **nodes})  # fmt: skip
        self.token_file = where / "join.token"
        self.where = where
        self.node = Node(where / "n1")
        self.configure()
        self.identity = self.node.state / "identity"

    def configure(self, **more: str) -> None:
        options = {
            "name": "n1",
            "controller": f"https://127.0.0.1:{self.port}",
            "join_token_file": str(self.token_file),
            "listen": f"0.0.0.0:{self.listen}",
            **more,
        }
        self.node.write_config(node="\n".join(f'{k} = "{v}"' for k, v in options.items()))

    def token(self, **options: Any) -> str:
        return self.elsad.post("/v1/nodes/token", options)["token"]

    def put_token(self, token: str | None = None) -> str:
        token = token or self.token()
        fresh = self.token_file.with_suffix(".new")
        fresh.write_text(token + "\n")
        fresh.rename(self.token_file)
        return token

    def nodes(self) -> dict[str, Any]:
        return {node["name"]: node for node in self.elsad.get("/v1/nodes")["items"]}

    def is_up(self) -> bool:
        return self.nodes().get("n1", {}).get("up", False)

    def wait_up(self) -> None:
        wait_for("the node to have joined and to answer", self.is_up, seconds=20)

    def join(self) -> Pair:
        self.put_token()
        self.node.start()
        self.wait_up()
        return self

    def says(self, text: str, seconds: float = 15) -> str:
        wait_for(f'elsa-node to say "{text}"', lambda: text in self.node.log.read_text(), seconds=seconds)
        return self.node.log.read_text()

    def serial(self) -> str:
        return subprocess.run(
            ["openssl", "x509", "-noout", "-serial", "-in", self.identity / "cert.pem"],
            capture_output=True, text=True, check=True, timeout=20,
        ).stdout  # fmt: skip

    def remove(self, **more: Any) -> None:
        self.elsad.post("/v1/nodes/remove", {"node": "n1", **more})

    def close(self) -> None:
        self.node.teardown()
        self.elsad.__exit__()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    p = Pair(tmp_path)
    try:
        p.elsad.start()
        yield p
    finally:
        p.close()


def post(port: int, path: str, body: Any, identity: Path | None = None, method: str = "POST") -> Any:
    """(status, answer, headers) of a TLS server, whoever it is."""
    context = ssl._create_unverified_context()
    if identity:
        context.load_cert_chain(identity / "cert.pem", identity / "key.pem")
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)
    try:
        connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()), answer.headers
    finally:
        connection.close()


def csr(where: Path, name: str) -> str:
    done = subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", where / f"{name}.key", "-subj", f"/CN={name}"],
        capture_output=True, text=True, check=True, timeout=20,
    )  # fmt: skip
    return done.stdout


def question(token: str, request: str, name: str = "n9") -> dict[str, str]:
    return {"token": token, "name": name, "csr": request, "listen": "127.0.0.9:8444", "version": "1"}


# --- joining -----------------------------------------------------------------------------------------


def test_join(pair: Pair) -> None:
    pair.join()
    n1 = pair.nodes()["n1"]
    assert n1["state"] == "ready" and not n1["local"]
    assert n1["listen"] == f"127.0.0.1:{pair.listen}"  # 0.0.0.0 is the address elsad sees
    assert n1["overlay"] == "10.98.0.16"
    assert n1["memory_bytes"] > 0
    assert (pair.identity / "key.pem").stat().st_mode & 0o777 == 0o600
    assert (pair.elsad.dir / "ca").stat().st_mode & 0o777 == 0o700
    assert "node-joined" in [event["what"] for event in pair.elsad.events()]
    said = subprocess.run([BUILD / "elsa-node", "--config", pair.node.config, "doctor"],
                          capture_output=True, text=True, timeout=120, check=False).stdout  # fmt: skip
    assert "node n1, by a certificate good until" in said


def test_join_before_elsad_is_up(tmp_path: Path) -> None:
    p = Pair(tmp_path)
    try:
        p.elsad.start()
        p.put_token()
        p.elsad.kill()
        p.node.start()
        said = p.says("cannot join elsad")
        time.sleep(5)
        assert p.node.log.read_text().count("cannot join elsad") == said.count("cannot join elsad") == 1
        p.elsad.start()
        p.wait_up()
    finally:
        p.close()


def spoil(token: str, part: int) -> str:
    parts = token.split(".")
    parts[part] = ("1" if parts[part][0] == "0" else "0") + parts[part][1:]
    return ".".join(parts)


def used_up(pair: Pair) -> str:
    token = pair.token(uses=1)
    status, answer, _ = post(pair.port, "/v1/nodes/join", question(token, csr(pair.where, "n9")))
    assert status == 200, answer
    return token


def expired(pair: Pair) -> str:
    token = pair.token(ttl_ms=1)
    time.sleep(0.01)
    return token


BAD_TOKENS = [
    ("no such token", lambda p: spoil(p.token(), 1), "the join token is not valid"),
    ("wrong secret", lambda p: spoil(p.token(), 2), "the join token is not valid"),
    ("expired", expired, "the join token has expired"),
    ("used up", used_up, "the join token has been used up"),
    ("cut", lambda p: p.token()[:-1], "the join token is damaged"),
    ("garbage", lambda p: "changeme", "not a join token"),
]


@pytest.mark.parametrize("make,why", [b[1:] for b in BAD_TOKENS], ids=[b[0] for b in BAD_TOKENS])
def test_bad_token(pair: Pair, make, why: str) -> None:
    pair.put_token(make(pair))
    pair.node.start()
    said = pair.says(why)
    assert "what to do: " in said and "elsa node token" in said
    assert "n1" not in pair.nodes()
    assert not (pair.identity / "cert.pem").exists()
    # A good one in its place is seen without a restart.
    pair.put_token()
    pair.wait_up()


def test_another_elsad_answers(pair: Pair) -> None:
    """Whoever answers there is shown no token when its authority is not the token's."""
    pair.put_token(spoil(pair.token(), 3))
    pair.node.start()
    assert "not the elsad that made the token" in pair.says("cannot join elsad")
    assert "wants to join" not in pair.elsad.log.read_text()
    assert "n1" not in pair.nodes()


def test_lost_answer(pair: Pair) -> None:
    """The same host asks once more: that is no second use, and its first certificate is over."""
    token = pair.token(uses=1)
    mine = csr(pair.where, "n9")
    first = post(pair.port, "/v1/nodes/join", question(token, mine))
    second = post(pair.port, "/v1/nodes/join", question(token, mine))
    assert first[0] == second[0] == 200
    assert first[1]["overlay"] == second[1]["overlay"]
    assert post(pair.port, "/v1/nodes/join", question(token, csr(pair.where, "n8"), "n8"))[0] == 403
    for status, answer in ((403, first[1]), (200, second[1])):
        identity = pair.where / f"identity-{status}"
        identity.mkdir()
        (identity / "cert.pem").write_text(answer["certificate"])
        shutil.copy(pair.where / "n9.key", identity / "key.pem")
        assert post(pair.port, "/v1/nodes/renew", {"csr": mine}, identity)[0] == status


def test_name_is_taken(pair: Pair) -> None:
    token = pair.token(uses=0)
    assert post(pair.port, "/v1/nodes/join", question(token, csr(pair.where, "a"), "n1"))[0] == 200
    status, answer, _ = post(pair.port, "/v1/nodes/join", question(token, csr(pair.where, "b"), "n1"))
    assert status == 409 and "elsa node remove n1" in answer["error"]["remedy"]
    # The node says so, too, and joins as soon as the name is free.
    pair.put_token()
    pair.node.start()
    pair.says("another host, at 127.0.0.9:8444, has joined")
    pair.remove()
    pair.wait_up()


@pytest.mark.parametrize("change,why", [
    ({"name": "controller.elsa"}, "is not a name for a node"),
    ({"name": "a/b"}, "is not a name for a node"),
    ({"csr": "none"}, "not a request for a certificate"),
    ({"listen": "nowhere"}, "not an IPv4 address and port"),
    ({"listen": "127.0.0.1:0"}, "not an IPv4 address and port"),
])  # fmt: skip
def test_bad_questions(pair: Pair, change: dict[str, str], why: str) -> None:
    token = pair.token(uses=1)
    asked = question(token, csr(pair.where, "n9"))
    status, answer, _ = post(pair.port, "/v1/nodes/join", {**asked, **change})
    assert status == 400 and why in answer["error"]["text"]
    assert post(pair.port, "/v1/nodes/join", asked)[0] == 200  # it was no use of the token


def test_guessing_is_slowed_down(pair: Pair) -> None:
    bad = question(spoil(pair.token(), 2), csr(pair.where, "n9"))
    statuses = [post(pair.port, "/v1/nodes/join", bad)[0] for _ in range(8)]
    assert statuses[:5] == [403] * 5 and statuses[-1] == 503
    status, _, headers = post(pair.port, "/v1/nodes/join", {**bad, "token": pair.token()})
    assert status == 503 and int(headers["Retry-After"]) >= 1


def test_strangers(pair: Pair) -> None:
    """Without a certificate there is nothing but joining; and a node's own is none for other nodes."""
    pair.join()
    for path in "/v1/nodes/renew", "/v1/nodes/lease", "/v1/nodes", "/v1/sessions":
        assert post(pair.port, path, {})[0] == 403
    assert post(pair.listen, "/v1/node", {}, method="GET")[0] == 403
    status, answer, _ = post(pair.listen, "/v1/node", {}, pair.identity, method="GET")
    assert status == 403 and "may not use this node's API" in answer["error"]["text"]
    assert post(pair.port, "/v1/sessions", {}, pair.identity)[0] == 404


# --- staying known -----------------------------------------------------------------------------------


def test_renewal(tmp_path: Path) -> None:
    p = Pair(tmp_path, certificate="12s")
    try:
        p.elsad.start()
        p.join()
        before = p.serial()
        old = tmp_path / "old"
        shutil.copytree(p.identity, old)
        p.says("was renewed", seconds=20)
        wait_for("another certificate", lambda: p.serial() != before)
        end = time.monotonic() + 14
        while time.monotonic() < end:  # longer than any one of them is good
            assert p.is_up()
            time.sleep(0.5)
        with pytest.raises(OSError):  # an alert, or the hang-up that follows it
            post(p.port, "/v1/nodes/renew", {}, old)
    finally:
        p.close()


def test_restarts(pair: Pair) -> None:
    pair.join()
    before = pair.serial()
    pair.elsad.kill()
    pair.node.kill()
    pair.node.start()  # without elsad
    assert pair.node.log.read_text().count("serves elsad on") == 2
    pair.elsad.start()
    pair.wait_up()
    assert pair.serial() == before
    assert pair.node.log.read_text().count("has joined elsad") == 1


def test_another_address(pair: Pair) -> None:
    """A node that starts again elsewhere says so with its lease, and is reached there."""
    pair.join()
    pair.node.kill()
    pair.listen = free_port()
    pair.configure()
    pair.node.start()
    lease = {"boot_id": "x", "listen": f"0.0.0.0:{pair.listen}"}
    assert post(pair.port, "/v1/nodes/lease", lease, pair.identity)[0] == 200
    pair.wait_up()
    assert pair.nodes()["n1"]["listen"] == f"127.0.0.1:{pair.listen}"


def test_drain_is_kept(pair: Pair) -> None:
    pair.join()
    pair.elsad.post("/v1/nodes/drain", {"node": "n1"})
    pair.elsad.kill()
    pair.elsad.start()
    assert pair.nodes()["n1"]["state"] == "draining"
    pair.elsad.post("/v1/nodes/undrain", {"node": "n1"})
    assert pair.nodes()["n1"]["state"] == "ready"
    with pytest.raises(ApiError) as failed:
        pair.elsad.post("/v1/nodes/drain", {"node": "nobody"})
    assert failed.value.status == 404


def test_removed(pair: Pair) -> None:
    pair.join()
    pair.remove()
    assert "n1" not in pair.nodes()
    status, answer, _ = post(pair.port, "/v1/nodes/renew", {"csr": csr(pair.where, "n1")}, pair.identity)
    assert status == 403 and "no node" in answer["error"]["text"]
    # A new token lets it in again, without a restart.
    old = pair.where / "old"
    shutil.copytree(pair.identity, old)
    pair.put_token()
    pair.wait_up()
    assert post(pair.port, "/v1/nodes/renew", {"csr": csr(pair.where, "n1")}, old)[0] == 403


def test_new_token_while_it_still_counts(pair: Pair) -> None:
    pair.join()
    token = pair.put_token()
    pair.says("was renewed")
    assert pair.node.log.read_text().count("has joined elsad") == 1
    assert post(pair.port, "/v1/nodes/join", question(token, csr(pair.where, "n9")))[0] == 200


def test_identity_is_lost(pair: Pair) -> None:
    """The same host with a new key: what it had before does not count any more."""
    pair.join()
    pair.node.kill()
    old = pair.where / "old"
    pair.identity.rename(old)
    pair.put_token()
    pair.node.start()
    pair.wait_up()
    assert "node-rejoined" in [event["what"] for event in pair.elsad.events()]
    assert post(pair.port, "/v1/nodes/renew", {"csr": csr(pair.where, "n1")}, old)[0] == 403


def test_authority_is_lost(pair: Pair) -> None:
    pair.join()
    pair.elsad.kill()
    shutil.rmtree(pair.elsad.dir / "ca")
    pair.elsad.start()
    assert "is not the one that 1 node has joined" in pair.elsad.log.read_text()
    time.sleep(1)
    assert not pair.is_up()
    pair.put_token()
    pair.wait_up()


def test_no_listener(tmp_path: Path) -> None:
    with Elsad(tmp_path) as elsad:
        elsad.start()
        with pytest.raises(ApiError) as failed:
            elsad.post("/v1/nodes/token", {})
        assert "nodes.listen is not set" in str(failed.value)
        assert [node["local"] for node in elsad.get("/v1/nodes")["items"]] == [True]
    assert not (tmp_path / "ca").exists()
