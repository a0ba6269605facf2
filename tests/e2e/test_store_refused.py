# SPDX-License-Identifier: Apache-2.0
"""Stores that are not what they should be, with real sessions: keys that are lost or wrong, objects put
in another's place, no room for images. All of it is told with its reason, and when it is mended the
sessions are as they were."""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator

import pytest
from nodekit import Node, Refused, Session
from storekit import Pair, settled, tmpfs

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(180)]


@contextlib.contextmanager
def directory() -> Iterator[pathlib.Path]:
    with tempfile.TemporaryDirectory(prefix="node-", dir="/var/lib/elsa") as where:
        os.chmod(where, 0o755)
        yield pathlib.Path(where)


@pytest.fixture(name="pair", scope="module")
def pair_fixture() -> Iterator[Pair]:
    with directory() as where:
        node = Node(where).start()
        try:
            yield Pair(node)
        finally:
            node.teardown()


# --- keys --------------------------------------------------------------------------------------------


@pytest.fixture(name="key")
def key_fixture(pair: Pair) -> Iterator[pathlib.Path]:
    """The master key's file, which is put back."""
    path = pair.node.dir / "store.key"
    good = path.read_bytes()
    yield path
    path.write_bytes(good)
    path.chmod(0o600)
    pair.restart()
    pair.good()


def test_a_wrong_master_key(pair: Pair, key: pathlib.Path) -> None:
    key.write_text(secrets.token_hex(32))
    pair.restart()
    pair.refuse("master key", fault="denied")


def test_a_lost_master_key(pair: Pair, key: pathlib.Path) -> None:
    key.unlink()
    pair.restart()
    pair.refuse("master key", str(key), "put that key back")
    assert not key.exists()  # another would hide the loss


def test_a_master_key_that_others_may_read(pair: Pair, key: pathlib.Path) -> None:
    key.chmod(0o644)
    pair.restart()
    pair.refuse(str(key), "chmod 600")


def test_what_is_no_master_key(pair: Pair, key: pathlib.Path) -> None:
    key.write_text("secret\n")
    pair.restart()
    pair.refuse(str(key), "not a key")


# --- objects in another's place ----------------------------------------------------------------------


def objects(session: Session, generation: int) -> dict[str, pathlib.Path]:
    """manifest, packs by number."""
    place = session.node.store / "s" / session.id / str(generation)
    found = {p.name.rsplit("-", 1)[-1]: p for p in place.iterdir()}
    assert {"manifest", "0", "1"} <= set(found)
    return found


def newest(session: Session) -> dict[str, pathlib.Path]:
    found = (session.node.store / "s" / session.id).glob("*/manifest")
    return objects(session, max(int(p.parent.name) for p in found))


@contextlib.contextmanager
def replaced(path: pathlib.Path, data: bytes) -> Iterator[None]:
    good, mode = path.read_bytes(), path.stat().st_mode
    assert data != good
    path.unlink()
    path.write_bytes(data)
    path.chmod(mode)
    try:
        yield
    finally:
        path.unlink()
        path.write_bytes(good)
        path.chmod(mode)


@pytest.fixture(name="history", scope="module")
def history_fixture(pair: Pair) -> Iterator[Session]:
    """A session with two generations, asleep."""
    session = Session(pair.node)
    session.start()
    session.ask("fill", mib=1)
    session.snapshot(1)
    session.ask("fill", mib=1)
    pair.before[session] = session.ask("state")
    session.hibernate(2)
    yield session
    session.restore(2)
    pair.same(session)
    pair.node.done("forget", session)


def refused(session: Session, generation: int, *words: str) -> None:
    result = session.node.effect("restore", session, generation)
    assert result["state"] == "failed" and result["fault"] in ("corrupt", "denied"), result
    assert all(word in result["text"] for word in words), result["text"]
    assert not settled(session) and session.processes() == set()
    with pytest.raises(Refused):
        session.node.ask("POST", "/v1/checkpoints/verify",
                         {"session": session.id, "generation": generation})


@pytest.mark.parametrize("what", ["manifest", "0", "1"])
@pytest.mark.parametrize("whose", ["another generation's", "another session's"])
def test_objects_put_in_place_of_others(
    pair: Pair, history: Session, what: str, whose: str
) -> None:
    """An old manifest replayed, packs swapped: all are well sealed, for somewhere else."""
    path = objects(history, 2)[what]
    other = objects(history, 1) if whose == "another generation's" else newest(pair.awake)
    data = other[what].read_bytes()
    if what != "manifest":  # the size alone must not give it away
        size = path.stat().st_size
        data = (data + bytes(size))[:size]
    with replaced(path, data):
        refused(history, 2, path.name)
    assert path.exists()


@contextlib.contextmanager
def away(path: pathlib.Path, left: int | None) -> Iterator[None]:
    """Removed, or cut short."""
    aside = path.with_name("aside-for-a-while")
    path.rename(aside)
    if left is not None:
        path.write_bytes(aside.read_bytes()[:left])
    try:
        yield
    finally:
        aside.rename(path)


def test_packs_that_are_missing(pair: Pair, history: Session) -> None:
    """Any of them, this generation's or an older one's: that is told at the wake, and not when the
    session wants what is in it."""
    packs = [p for p in objects(history, 2).values() if "-" in p.name]
    assert len(packs) >= 2
    for path in packs:
        for left in (None, path.stat().st_size - 1):
            with away(path, left):
                refused(history, 2, path.name)


def test_a_replayed_manifest_with_its_packs(pair: Pair, history: Session) -> None:
    """The whole of an old checkpoint under the new name."""
    new, old = objects(history, 2), objects(history, 1)
    with replaced(new["manifest"], old["manifest"].read_bytes().replace(
            b'"generation":1', b'"generation":2')):
        refused(history, 2, "manifest")
    copies = [new["0"].parent / old[n].name for n in ("0", "1")]
    with replaced(new["manifest"], old["manifest"].read_bytes()):
        for copy, n in zip(copies, ("0", "1")):
            shutil.copy(old[n], copy)
        refused(history, 2, "manifest")
        for copy in copies:
            copy.unlink()


def test_a_key_of_another_session(pair: Pair, history: Session) -> None:
    pair.restart()  # it remembers keys
    mine = next((pair.node.store / "s" / history.id).glob("key-*"))
    theirs = next((pair.node.store / "s" / pair.awake.id).glob("key-*"))
    with replaced(mine, theirs.read_bytes()):
        refused(history, 2, mine.name)


# --- disks -------------------------------------------------------------------------------------------


def test_no_room_for_images(pair: Pair) -> None:
    """Of CRIU's, while it dumps."""
    pair.node.stop()
    with tmpfs(pair.node.state / "images", "16k"):
        pair.node.start()
        for kind in ("hibernate", "snapshot"):
            pair.awakes += 1
            result = pair.node.effect(kind, pair.awake, pair.awakes)
            assert result["state"] == "failed" and result["fault"] == "full", (kind, result)
            assert result["remedy"] and not result["stored_bytes"], (kind, result)
            pair.same(pair.awake)
        pair.node.stop()
    pair.node.start()
    pair.good()
