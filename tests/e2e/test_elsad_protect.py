# SPDX-License-Identifier: Apache-2.0
"""Standing protection: elsad has sessions snapshotted by itself, with a double of elsa-node."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from basekit import wait_for
from elsad_kit import ApiError, Elsad

RPO = 5  # seconds; the least there is


@contextlib.contextmanager
def protected(path: Path, price: str | None = "spot", **spot) -> Iterator[Elsad]:
    with Elsad(path, spot={"rpo": f"{RPO}s", "bandwidth_share": 1.0, **spot}) as elsad:
        for user in ("ada", "bob", "cyd"):
            elsad.hub.add(user, **{"": None})
        if price:
            elsad.node.info["price"] = price
        yield elsad.start()
        assert not elsad.node.broken


def snapshots(elsad: Elsad) -> int:
    return sum(request["kind"] == "snapshot" for request in elsad.node.asked)


def wait_snapshots(elsad: Elsad, count: int) -> None:
    wait_for(f"{count} snapshots", lambda: snapshots(elsad) >= count, unless=elsad.why_dead)


def test_a_session_on_a_spot_machine_is_snapshotted_over_and_over(tmp_path: Path):
    with protected(tmp_path) as elsad:
        elsad.run()
        begin = time.monotonic()
        wait_snapshots(elsad, 3)
        # At the RPO's pace, neither faster nor much slower.
        assert time.monotonic() - begin > 2 * (RPO - 1) - 1
        session = elsad.wait_state("running")
        assert session["checkpoint_usable"] and session["protection"]["saved_at"] > 0
        assert not session["protection"]["stretched"]
        assert [e["who"] for e in elsad.events(user="ada") if e["what"] == "snapshot"][0] == "protection"


@pytest.mark.parametrize("price, protect, count", [("on-demand", "spot", 0), (None, "spot", 0),
                                                   ("spot", "none", 0), ("on-demand", "all", 2)])  # fmt: skip
def test_where(tmp_path: Path, price: str | None, protect: str, count: int):
    with protected(tmp_path, price, protect=protect) as elsad:
        elsad.run()
        if count:
            wait_snapshots(elsad, count)
            return
        due = elsad.session()["started_at"] / 1000 + RPO
        wait_for("it to be due if it were protected", lambda: time.time() > due)
        assert snapshots(elsad) == 0 and elsad.session()["protection"] is None
        # By nothing else is it kept from being taken.
        elsad.write_config(spot={"protect": "all"})
        elsad.reload()
        wait_snapshots(elsad, 1)


def test_one_of_a_node_at_a_time(tmp_path: Path):
    with protected(tmp_path) as elsad:
        gate = elsad.node.hold["snapshot"] = threading.Event()
        for user in ("ada", "bob", "cyd"):
            elsad.run(user)
        wait_snapshots(elsad, 1)
        wait_for("the others to be due", lambda: sum(
            elsad.session(u)["protection"]["reason"] == "not-its-turn" for u in ("ada", "bob", "cyd")) == 2)  # fmt: skip
        assert snapshots(elsad) == 1
        gate.set()
        wait_snapshots(elsad, 3)
        assert len({r["session"]["user"] for r in elsad.node.asked if r["kind"] == "snapshot"}) == 3


def test_one_that_fails_is_tried_again_later(tmp_path: Path):
    with protected(tmp_path) as elsad:
        elsad.node.fail["snapshot"] = {"fault": "refused", "text": "CRIU says no", "remedy": ""}
        elsad.run()
        wait_snapshots(elsad, 1)
        wait_for("the reason", lambda: elsad.session()["protection"]["reason"] == "failed-lately")
        assert elsad.session()["state"] == "running"
        failed = elsad.node.fail.pop("snapshot")
        assert failed
        wait_for("one that is good", lambda: elsad.session()["checkpoint_usable"], seconds=30)


def test_an_rpo_that_cannot_be_held_is_told(tmp_path: Path):
    with protected(tmp_path, bandwidth_share=0.01) as elsad:
        elsad.node.seconds = 0.2
        elsad.run()
        wait_for("the event", lambda: "rpo-missed" in elsad.whats())
        protection = elsad.session()["protection"]
        assert protection["stretched"] and protection["interval_ms"] > RPO * 1000


def test_who_ends_the_session_waits_for_its_snapshot(tmp_path: Path):
    with protected(tmp_path) as elsad:
        gate = elsad.node.hold["snapshot"] = threading.Event()
        for user, what in (("ada", "hibernate"), ("bob", "stop")):
            elsad.run(user)
            before = snapshots(elsad)
            wait_for("a snapshot under way", lambda: snapshots(elsad) > before)
            wait_for("its state", lambda: elsad.session(user)["state"] == "snapshotting")
            got: list = []
            asked = threading.Thread(target=lambda: got.append(elsad.act(what, user)))
            asked.start()
            asked.join(1)
            assert asked.is_alive() and not got
            gate.set()
            asked.join(20)
            assert elsad.follow(got[0])["state"] == "done" and got[0]["kind"] == what
            gate.clear()
        assert elsad.session("ada")["state"] == "hibernated"
        assert elsad.session("bob")["state"] == "stopped"
        gate.set()


def test_a_session_that_is_deleted_meanwhile(tmp_path: Path):
    with protected(tmp_path) as elsad:
        gate = elsad.node.hold["snapshot"] = threading.Event()
        elsad.run()
        wait_for("its state", lambda: elsad.session()["state"] == "snapshotting")
        got: list = []

        def ask() -> None:
            try:
                got.append(elsad.act("hibernate"))
            except ApiError as e:
                got.append(e)

        asked = threading.Thread(target=ask)
        asked.start()
        asked.join(0.5)
        elsad.act("forget")
        gate.set()
        asked.join(20)
        assert isinstance(got[0], ApiError) and got[0].status in (404, 409)


def test_elsad_is_killed_in_between(tmp_path: Path):
    with protected(tmp_path) as elsad:
        elsad.run()
        for _ in range(3):
            before = snapshots(elsad)
            wait_for("another", lambda: snapshots(elsad) > before, unless=elsad.why_dead)
            elsad.kill()
            elsad.start()
        assert elsad.wait_state("running")["checkpoint_usable"]
