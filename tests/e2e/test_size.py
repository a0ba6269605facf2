# SPDX-License-Identifier: Apache-2.0
"""Size classes: what a session's use asks for, when it gets it, and what its user has chosen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from basekit import Json
from browser import Browser, Kernel
from clusterkit import Cluster
from hubkit import ApiError
from movekit import options
from nodekit import Refused, UnixHTTP

pytestmark = pytest.mark.timeout(300)

MIB = 1 << 20
CLASSES = [
    {"name": "small", "memory": "500M", "cpus": 1.0},
    {"name": "medium", "memory": "1200M", "cpus": 1.0, "price": 0.5},
    {"name": "large", "memory": "2G", "cpus": 2.0, "price": 1.0},
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    settings = options(session={"memory": "2G", "cpus": 2.0},
                       size={"class": CLASSES, "observed": "3s", "settle": 0})
    extra = "c.ElsaSpawner.choose_size = True\n"
    with Cluster(nodes=(), options=settings, hub_extra=extra) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def ada(cluster: Cluster) -> Browser:
    ada = cluster.hub.browser("ada").log_in()
    ada.start_with_size("")
    return ada


@pytest.fixture(scope="module")
def kernel(ada: Browser) -> Kernel:
    kernel = ada.new_kernel()
    kernel.run("x = 41")
    return kernel


# --- what is so -----------------------------------------------------------------------------------


def limit(cluster: Cluster, user: str = "ada") -> int:
    """Its control group's, as the kernel has it."""
    session = cluster.api.session(user)["id"]
    group = cluster.hub.host.cgroup
    found = [*Path("/sys/fs/cgroup").glob(f"**/{group}/{session}/memory.limit_in_bytes"),
             *Path("/sys/fs/cgroup").glob(f"**/{group}/{session}/memory.max")]
    assert found, f"{user} has no control group with a limit"
    return int(found[0].read_text())


def put_limits(cluster: Cluster, session: str, mib: int) -> Json:
    """To elsa-node itself."""
    connection = UnixHTTP(cluster.hub.run_dir / "node.sock", 30)
    try:
        connection.request("PUT", f"/v1/sessions/{session}/limits",
                           json.dumps({"memory_bytes": mib * MIB}))
        answer = connection.getresponse()
        body = json.loads(answer.read())
    finally:
        connection.close()
    if answer.status != 200:
        raise Refused(answer.status, body)
    return body


def size(cluster: Cluster, user: str = "ada") -> Json:
    return cluster.api.get("/v1/sizes", user=user)["session"]


def choose(cluster: Cluster, name: str, user: str = "ada") -> Json:
    return cluster.api.post("/v1/session/size", user=user, server="", size=name)


def changes(cluster: Cluster, user: str = "ada") -> list[Json]:
    """The newest first."""
    return [e for e in cluster.api.events() if e["user"] == user and e["what"] == "memory-limit"]


def put_to_sleep(cluster: Cluster, state: str) -> None:
    cluster.api.post("/v1/session/hibernate", user="ada", server="",
                     transparent=state == "asleep")
    cluster.api.wait_state("ada", state)


def wake(cluster: Cluster) -> None:
    cluster.api.post("/v1/session/resume", user="ada", server="")
    cluster.api.wait_state("ada", "running")
    cluster.wait("the Hub to know", lambda: (cluster.hub.hub_server("ada") or {}).get("ready"))


def wait_for_limit(cluster: Cluster, mib: int) -> None:
    try:
        cluster.wait(f"{mib} MiB to be on record",
                     lambda: cluster.api.session("ada")["memory_limit"] == mib * MIB, 20)
    except AssertionError as error:
        raise AssertionError(f"{error}: {size(cluster)}") from None


# --- by its use -----------------------------------------------------------------------------------


def test_its_use_asks_for_less(cluster: Cluster, kernel: Kernel):
    cluster.wait("it to be seen for long enough", lambda: size(cluster)["recommended"] == "small")
    seen = size(cluster)
    assert seen["class"] == "large" and seen["to"] == "small" and not seen["chosen"], seen
    assert seen["reason"] == "cheaper-will-do" and seen["observed_ms"] >= 3000, seen
    assert limit(cluster) == 2048 * MIB
    told = cluster.elsa("explain", "ada").stdout
    assert "resize" in told and "to small, when it wakes next" in told, told
    assert "small" in cluster.elsa("show", "ada").stdout
    assert "has it" in cluster.elsa("sizes", "ada").stdout


@pytest.mark.parametrize("state", ["hibernated", "asleep"])
def test_wakes_with_it(cluster: Cluster, kernel: Kernel, state: str):
    """... also if its node wakes it by itself. The asleep one has been made large again."""
    if state == "asleep":
        assert choose(cluster, "large")["applies"] == "now"
        assert choose(cluster, "")["applies"] == "use"
        assert limit(cluster) == 2048 * MIB
    put_to_sleep(cluster, state)
    wait_for_limit(cluster, 500)
    event = changes(cluster)[0]
    assert (event["who"], event["why"]) == ("size-policy", "cheaper-will-do"), event
    assert event["inputs"]["size"]["to"] == "small" and event["inputs"]["size"]["need_bytes"] > 0
    wake(cluster)
    assert limit(cluster) == 500 * MIB
    assert kernel.connect().value("print(x)") == 41
    assert not size(cluster)["to"]
    metrics = cluster.api.get("/metrics")
    assert 'elsa_sessions_size{class="small"} 1' in metrics, metrics


# --- as its user says -----------------------------------------------------------------------------


def test_more_is_given_at_once(cluster: Cluster, kernel: Kernel):
    told = cluster.elsa("resize", "ada", "large").stdout
    assert "it has it now" in told, told
    assert limit(cluster) == 2048 * MIB
    assert size(cluster)["chosen"] == "large"
    kernel.run("held = [bytes([i + 1]) * (10 << 20) for i in range(50)]")
    assert kernel.value("print(sum(h == bytes([h[0]]) * len(h) for h in held))") == 50


def test_never_less_than_it_holds(cluster: Cluster, kernel: Kernel):
    cluster.wait("what it holds to be seen", lambda: size(cluster)["held_bytes"] > 500 * MIB)
    assert choose(cluster, "small")["applies"] == "held"
    session = cluster.api.session("ada")["id"]

    def told() -> str:
        with pytest.raises(Refused) as refused:
            put_limits(cluster, session, 500)
        assert refused.value.status == 409
        return refused.value.error["text"]

    # It was woken just before, and its memory may come for some seconds.
    cluster.wait("its memory to be there", lambda: "is still coming" not in told())
    assert "it uses" in told()
    assert limit(cluster) == 2048 * MIB
    put_to_sleep(cluster, "asleep")
    wait_for_limit(cluster, 1200)
    assert changes(cluster)[0]["why"] == "holds-more"
    with pytest.raises(Refused) as refused:
        put_limits(cluster, session, 500)
    assert refused.value.status == 409 and "it holds" in refused.value.error["text"]
    wake(cluster)
    assert limit(cluster) == 1200 * MIB
    assert kernel.connect().value("print(sum(h == bytes([h[0]]) * len(h) for h in held))") == 50


def test_what_was_chosen_holds(cluster: Cluster, kernel: Kernel):
    """It is smaller than what its use asks for, which its peak still does; once it fits."""
    kernel.run("del held; import ctypes; ctypes.CDLL(None).malloc_trim(0)")
    put_to_sleep(cluster, "hibernated")
    wait_for_limit(cluster, 500)
    assert changes(cluster)[0]["why"] == "chosen"
    assert size(cluster)["recommended"] == "medium"
    wake(cluster)
    assert limit(cluster) == 500 * MIB
    assert kernel.connect().value("print(x)") == 41
    cluster.hub.restart_elsad(kill=True)
    cluster.api.wait_state("ada", "running")
    assert size(cluster)["chosen"] == "small"


def test_chosen_on_the_spawn_page(cluster: Cluster):
    bob = cluster.hub.browser("bob").log_in()
    page = bob.start_with_size("medium")
    assert "medium: 1.172 GiB, 1 processor, 0.5 USD an hour" in page, page
    assert cluster.api.session("bob")["size"]["chosen"] == "medium"
    assert limit(cluster, "bob") == 1200 * MIB
    cluster.elsa("resize", "bob", "small")
    cluster.hub.stop_server("bob")
    cluster.api.wait_state("bob", "hibernated")
    # The Hub does not say again what was chosen before.
    cluster.hub.hub_api("POST", "users/bob/server", json={})
    cluster.api.wait_state("bob", "running")
    assert cluster.api.session("bob")["size"]["chosen"] == "small"
    assert limit(cluster, "bob") == 500 * MIB


# --- what is not --------------------------------------------------------------------------------


def test_no_such_class(cluster: Cluster, ada: Browser):
    before = cluster.api.session("ada")
    done = cluster.elsa("resize", "ada", "huge", good=False)
    assert done.returncode == 2 and 'no class "huge"' in done.stderr, done
    assert "small, medium, large" in done.stderr
    done = cluster.elsa("resize", "ada", good=False)
    assert done.returncode == 2 and "name of a class" in done.stderr
    for body in ({"size": 3}, {"size": None}, {}, {"size": "huge"}):
        with pytest.raises(ApiError) as refused:
            cluster.api.ask("POST", "/v1/session/size", {"user": "ada", "server": "", **body})
        assert refused.value.status == 400, body
    for body in ({"size": 3}, {"size": "huge"}):
        with pytest.raises(ApiError) as refused:
            cluster.api.ask("POST", "/v1/session/start", {"user": "dan", "server": "", **body})
        assert refused.value.status == 400, body
    assert cluster.api.session("dan") is None
    with pytest.raises(ApiError) as refused:
        choose(cluster, "small", user="nobody")
    assert refused.value.status == 404
    after = cluster.api.session("ada")
    assert (after["size"]["chosen"], after["memory_limit"]) == (
        before["size"]["chosen"], before["memory_limit"])
    with pytest.raises(Refused) as missing:
        put_limits(cluster, "0" * 16, 500)
    assert missing.value.status == 404
