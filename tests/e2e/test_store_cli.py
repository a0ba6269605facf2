# SPDX-License-Identifier: Apache-2.0
"""`elsa store` and `elsa snapshot` on the real thing: elsa, elsad, elsa-node, CRIU and a store."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import secrets
import shutil
import subprocess
import tempfile
import time
import urllib.parse

import pytest
from elsad_kit import Elsad
from nodekit import BUILD, PROBE, Node, Session, wait_for
from test_node import assert_same, leftovers

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(180)]

UID = 2000000000  # elsad's first
MEMORY = 24 << 20


class Hub:
    """A node with an elsad that has no JupyterHub to speak of: its part is played by the tests."""

    def __init__(self, place: pathlib.Path):
        self.node = Node(place / "node")
        self.node.start()
        elsad_dir = place / "elsad"
        elsad_dir.mkdir()
        self.elsad = Elsad(
            elsad_dir, node={"socket": str(self.node.socket)}, network={"pool": "10.99.0.0/16"}
        )
        self.elsad.hub.add("ada")  # the checkpoints of users who are gone are set aside
        self.elsad.start()
        wait_for(lambda: self.elsad.get("/v1/health")["node"] == "up")

    def close(self) -> None:
        self.elsad.__exit__()
        self.node.teardown()

    def reconfigure(self, **store: object) -> None:
        """As with `systemctl restart elsa-node`."""
        self.node.stop()
        lines = [
            line
            for line in self.node.config.read_text().splitlines()
            if line.split(" = ")[0] not in store
        ]
        at = lines.index("[store]") + 1
        lines[at:at] = [f"{k} = {json.dumps(v)}" for k, v in store.items() if v is not None]
        self.node.config.write_text("\n".join(lines) + "\n")
        self.node.start()
        wait_for(lambda: self.elsad.get("/v1/health")["node"] == "up")

    # the command line

    def run(self, *argv: str, **options) -> subprocess.CompletedProcess:
        environment = {"ELSA_URL": f"unix:{self.elsad.dir}/elsad.sock", "PATH": os.environ["PATH"]}
        options = {"stdout": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options}
        return subprocess.run(
            [str(BUILD / "elsa"), *map(str, argv)],
            stderr=subprocess.PIPE, timeout=120, check=False, env=environment, **options,
        )  # fmt: skip

    def good(self, *argv: str, **options) -> str:
        done = self.run(*argv, **options)
        assert done.returncode == 0, done
        return (done.stdout or b"").decode()

    def bad(self, status: int, *argv: str) -> str:
        done = self.run(*argv)
        assert done.returncode == status, done
        return done.stderr.decode()

    def listed(self, *argv: str) -> list[dict]:
        return json.loads(self.good("store", "ls", *argv, "--json"))

    # a session, as the spawner would have it

    def start(self, user: str = "ada", **more) -> Session:
        home = self.node.dir / "homes" / user
        if not home.exists():
            home.mkdir(parents=True)
            os.chmod(home.parent, 0o755)
            os.chown(home, UID, UID)
            shutil.copy(PROBE, home / "probe.py")
        inside = f"/home/{user}"
        done = self.elsad.follow(
            self.elsad.start_session(
                user,
                cmd=["python3", f"{inside}/probe.py", "8888"],
                env={"PATH": "/usr/bin:/bin", "HOME": inside, "JUPYTERHUB_API_TOKEN": "secret"},
                home=str(home),
                **more,
            ),
            seconds=60,
        )
        assert done["state"] == "done", done
        session = Session.__new__(Session)
        session.node, session.home = self.node, home
        shown = self.elsad.session(user)
        session.id, session.address, session.port = shown["id"], shown["address"], shown["port"]
        wait_for(session.answers)
        return session

    def hibernate(self, user: str = "ada") -> None:
        done = self.elsad.follow(self.elsad.act("hibernate", user), seconds=60)
        assert done["state"] == "done", done


@pytest.fixture(name="hub")
def hub_fixture():
    with tempfile.TemporaryDirectory(prefix="store-", dir="/var/lib/elsa") as place:
        os.chmod(place, 0o755)
        hub = Hub(pathlib.Path(place))
        yield hub
        assert hub.elsad.process.poll() is None, hub.elsad.log.read_text()[-3000:]
        hub.close()
        assert leftovers(hub.node, torn_down=True) == []


def fill(session: Session, size: int = MEMORY) -> dict:
    """Memory that does not shrink, and what it all is."""
    code = f"""
import hashlib
probe.memory = bytearray(os.urandom({size}))
probe.digest = hashlib.sha256(probe.memory).hexdigest()
"""
    session.ask("run", timeout=60, code=urllib.parse.quote("import os\n" + code))
    return session.ask("state")


def objects(hub: Hub, session: Session, pattern: str = "**/*") -> list[pathlib.Path]:
    found = [p for p in hub.node.store.glob(f"**/{session.id}/{pattern}") if p.is_file()]
    found = [p for p in found if not p.name.startswith("sweep-")]  # of a sweep that is under way
    assert found, pattern
    return sorted(found)


# --- snapshots -------------------------------------------------------------------------------------


def test_snapshots_of_a_running_session(hub: Hub):
    session = hub.start()
    before = fill(session)
    assert "it goes on" in hub.good("snapshot", "ada", "--wait")
    assert_same(before, session.ask("state"))
    first = hub.elsad.session()
    assert first["state"] == "running" and first["generation"] == 1 and first["checkpoint_usable"]
    assert hub.good("snapshot", "ada", "--wait", "--json")
    newer = hub.listed("ada")[-1]
    assert newer["generation"] == 2 and newer["basis"] == 1
    assert newer["stored_bytes"] < MEMORY / 4 and newer["shared_bytes"] > MEMORY * 3 / 4
    hub.hibernate()
    assert hub.elsad.session()["generation"] == 3
    again = hub.start()
    assert again.id == session.id
    assert_same(before, session.ask("state"))


def test_a_session_lost_after_its_snapshot_wakes_from_it(hub: Hub):
    """What a reboot of the node is to its sessions, and what elsad then does."""
    session = hub.start()
    before = fill(session)
    hub.good("snapshot", "ada", "--wait")
    hub.node.kill()
    for pid in session.processes():
        os.kill(pid, 9)
    hub.node.start()
    wait_for(lambda: hub.elsad.session()["state"] != "running", 30)
    shown = hub.elsad.session()
    # It did not reboot: its processes ended, which is an end like any other.
    assert shown["state"] == "stopped" and shown["checkpoint_usable"]
    path = hub.node.dir / "ada.tar"
    hub.good("store", "export", "ada", path)
    hub.good("forget", "ada", "--wait")
    hub.good("store", "import", path)
    hub.start()
    assert_same(before, session.ask("state"))


# --- looking ---------------------------------------------------------------------------------------


def test_ls_show_verify(hub: Hub):
    session = hub.start()
    fill(session)
    hub.hibernate()
    hub.start()
    hub.hibernate()
    first, second = hub.listed()
    assert (first["generation"], second["generation"]) == (1, 2)
    assert first["user"] == "ada" and first["session"] == session.id and not first["damaged"]
    assert second["basis"] == 1 and second["shared_bytes"] > 0
    table = hub.good("store", "ls").splitlines()
    assert len(table) == 3 and table[1].split()[-1] == "good"
    shown = hub.good("store", "show", "ada")
    assert "generation       2" in shown and "on the basis of  1" in shown
    assert "pagemap-" in shown
    detail = json.loads(hub.good("store", "show", "ada", "--generation", "1", "--json"))
    assert sum(m["pages"] for m in detail["memories"]) * 4096 > MEMORY
    assert detail["frames"] > 0 and detail["criu"] and detail["kernel"]
    assert hub.good("store", "verify") == "ada generation 1: good\nada generation 2: good\n"


def test_damage_is_named(hub: Hub):
    session = hub.start()
    fill(session)
    hub.hibernate()
    pack = max(objects(hub, session), key=lambda path: path.stat().st_size)
    whole = pack.read_bytes()
    middle = len(whole) // 2
    pack.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    told = hub.bad(10, "store", "verify", "ada")
    assert pack.name in told
    pack.write_bytes(whole)
    assert "good" in hub.good("store", "verify", "ada")
    manifest = next(p for p in objects(hub, session) if p.name.startswith("manifest"))
    text = manifest.read_bytes()
    manifest.write_bytes(text[: len(text) // 2])
    (listed,) = hub.listed()
    assert listed["damaged"] and listed["session"] == session.id
    assert "damaged: " in hub.good("store", "ls")
    assert "no checkpoint that can be used" in hub.bad(3, "store", "show", "ada")
    manifest.write_bytes(text)
    hub.start()


# --- keeping house ---------------------------------------------------------------------------------


def test_rm(hub: Hub):
    session = hub.start()
    before = fill(session)
    hub.good("snapshot", "ada", "--wait")
    hub.hibernate()
    told = hub.bad(4, "store", "rm", "ada", "--generation", "2")
    assert "all there is of it" in told and "--force" in told
    assert "would be removed" in hub.good("store", "rm", "ada", "--generation", "1", "--dry-run")
    assert len(hub.listed()) == 2
    # What the newer one shares of it stays.
    assert "removed" in hub.good("store", "rm", "ada", "--generation", "1")
    assert [c["generation"] for c in hub.listed()] == [2]
    assert hub.good("store", "verify") == "ada generation 2: good\n"
    hub.start()
    assert_same(before, session.ask("state"))
    hub.hibernate()
    hub.good("store", "rm", "ada", "--generation", "2")
    hub.good("store", "rm", "ada", "--generation", "3", "--force")
    assert hub.listed() == []
    shown = hub.elsad.session()
    assert shown["state"] == "hibernated" and not shown["checkpoint_usable"]
    hub.start(fresh=True)
    assert hub.elsad.session()["state"] == "running"


def test_gc(hub: Hub):
    session = hub.start()
    fill(session)
    hub.hibernate()
    needed = objects(hub, session)
    packs = [p for p in needed if p.stat().st_size > 1 << 20]
    orphan = packs[0].parent.parent / "7" / packs[0].name

    def leave_orphan() -> None:
        """There all at once: it may be swept at any moment."""
        staged = hub.node.dir / "staged"
        staged.mkdir()
        shutil.copy(packs[0], staged / orphan.name)
        staged.rename(orphan.parent)

    leave_orphan()
    size = orphan.stat().st_size
    done = json.loads(hub.good("store", "gc", "--dry-run", "--json"))
    assert (done["objects"], done["bytes"]) == (1, size) and orphan.exists()
    assert done["kept_bytes"] >= size
    assert hub.good("store", "gc").startswith("1 objects of ")
    assert not orphan.exists() and objects(hub, session) == needed
    assert hub.good("store", "verify").endswith("good\n")
    # The same by itself, at the start and then again.
    leave_orphan()
    hub.reconfigure(gc="1s")
    wait_for(lambda: not orphan.exists())
    leave_orphan()
    wait_for(lambda: not orphan.exists())
    assert objects(hub, session) == needed


def test_rekey(hub: Hub):
    session = hub.start()
    before = fill(session)
    hub.hibernate()
    old, new = hub.node.dir / "store.key", hub.node.dir / "new.key"
    new.write_text(secrets.token_hex(32) + "\n")
    new.chmod(0o600)
    # The new one alone opens nothing, and says so.
    hub.reconfigure(key_file=str(new))
    told = hub.bad(5, "store", "verify", "ada")
    assert "key" in told
    hub.reconfigure(key_file=str(new), old_key_files=[str(old)])
    assert "good" in hub.good("store", "verify", "ada")
    assert hub.good("store", "rekey") == "the keys of 1 sessions are wrapped anew\n"
    assert hub.good("store", "rekey") == "the keys of 0 sessions are wrapped anew\n"
    old.unlink()
    hub.reconfigure(key_file=str(new), old_key_files=[])
    assert "good" in hub.good("store", "verify", "ada")
    hub.start()
    assert_same(before, session.ask("state"))


# --- taking a session elsewhere --------------------------------------------------------------------


def test_export_and_import(hub: Hub):
    session = hub.start()
    before = fill(session)
    hub.good("snapshot", "ada", "--wait")
    hub.hibernate()
    address = hub.elsad.session()["address"]
    path = hub.node.dir / "ada.tar"
    said = hub.good("store", "export", "ada", path)
    assert "checkpoint 2" in said and path.stat().st_mode & 0o777 == 0o600
    with (hub.node.dir / "again.tar").open("wb") as out:
        hub.good("store", "export", "ada", stdout=out)
    assert (hub.node.dir / "again.tar").stat().st_size == path.stat().st_size
    told = hub.bad(4, "store", "import", path)
    assert "exist" in told or "already" in told or "there" in told
    hub.good("forget", "ada", "--wait")
    assert hub.listed() == []
    with path.open("rb") as tar:
        said = hub.good("store", "import", "-", stdin=tar)
    assert said == "ada generation 2: imported; ada is known from now on; its next start wakes it\n"
    shown = hub.elsad.session()
    assert (shown["state"], shown["generation"]) == ("hibernated", 2)
    assert shown["id"] == session.id and shown["address"] == address
    assert shown["api_token"] == "secret"
    again = hub.start(api_token="another")
    assert again.id == session.id and again.address == address
    assert_same(before, session.ask("state"))
    assert hub.elsad.session()["api_token"] == "secret"
    hub.hibernate()
    assert hub.elsad.session()["generation"] == 3


def test_what_is_no_export_is_refused(hub: Hub):
    session = hub.start()
    fill(session)
    hub.hibernate()
    path = hub.node.dir / "ada.tar"
    hub.good("store", "export", "ada", path)
    hub.good("forget", "ada", "--wait")
    whole = path.read_bytes()
    middle = len(whole) // 2
    damaged = {
        "short": whole[:middle],
        "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "empty": b"",
        "noise": secrets.token_bytes(1 << 20),
    }
    for name, content in damaged.items():
        (hub.node.dir / name).write_bytes(content)
        done = hub.run("store", "import", str(hub.node.dir / name))
        assert done.returncode not in (0, 1, 7), (name, done)
        assert hub.listed() == [] and hub.elsad.get("/v1/sessions")["sessions"] == [], name
    # What they left is swept, and the good one still fits.
    hub.good("store", "gc")
    hub.good("store", "import", path)
    hub.start()


def test_who_goes_away_meanwhile(hub: Hub):
    session = hub.start()
    fill(session)
    hub.hibernate()
    environment = {"ELSA_URL": f"unix:{hub.elsad.dir}/elsad.sock", "PATH": os.environ["PATH"]}
    # The reader of an export that stops reading, and is killed then.
    process = subprocess.Popen(
        [str(BUILD / "elsa"), "store", "export", "ada"], env=environment, stdout=subprocess.PIPE
    )
    assert process.stdout.read(1000)
    time.sleep(0.2)
    process.kill()
    process.wait()
    assert "good" in hub.good("store", "verify")
    # The node is restarted during one: that one fails, and nothing else.
    process = subprocess.Popen(
        [str(BUILD / "elsa"), "store", "export", "ada"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.read(1000)
    hub.node.kill()
    hub.node.start()
    _, told = process.communicate(timeout=60)
    assert process.returncode != 0 and told
    wait_for(lambda: hub.elsad.get("/v1/health")["node"] == "up")
    # And during an import: half of one is nothing, is swept, and is in the way of no other.
    path = hub.node.dir / "ada.tar"
    hub.good("store", "export", "ada", path)
    hub.good("forget", "ada", "--wait")
    process = subprocess.Popen(
        [str(BUILD / "elsa"), "store", "import", "-"],
        env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    tar = path.read_bytes()
    process.stdin.write(tar[: len(tar) * 3 // 4])
    process.stdin.flush()
    wait_for(lambda: list(hub.node.store.glob(f"**/{session.id}/**/*-*")))
    hub.node.kill()
    hub.node.start()
    with contextlib.suppress(BrokenPipeError):
        process.communicate(tar[len(tar) * 3 // 4 :], timeout=60)
    assert process.returncode != 0
    wait_for(lambda: hub.elsad.get("/v1/health")["node"] == "up")
    assert hub.listed() == []
    hub.good("store", "gc")
    hub.good("store", "import", path)
    hub.start()
