# SPDX-License-Identifier: Apache-2.0
"""`elsa store` against a stand-in for elsad (test_cli.py)."""

from __future__ import annotations

import json
import time

import pytest
from cli_kit import Double, fault, good, on_terminal, run, session


@pytest.fixture
def elsad():
    double = Double()
    yield double
    double.close()


TASK = "00000000000000c1"


def checkpoint(generation, **changes):
    return {"user": "ada", "server": "", "session": "0123456789abcdef", "generation": generation,
            "created_at": 1795400000000, "memory_bytes": 1 << 30, "stored_bytes": 3 << 20,
            "shared_bytes": 5 << 20, "objects": 4, "basis": generation - 1, "aside": False,
            "damaged": None, "cpu": "avx2", "criu": "4.2", "kernel": "6.12", **changes}  # fmt: skip


class Work:
    """Work on the store: begun, looked at as often as there are looks, then as the end says."""

    def __init__(self, elsad, kind, end=None, looks=1, **begun):
        self.looks, self.end = looks, end or {}
        task = {"id": TASK, "kind": kind, "state": "running", "done": 0, "total": 100, "error": None}
        self.task = task
        elsad.answers[f"POST /v1/store/{kind}"] = lambda asked: self.begin(asked, begun)
        elsad.answers["GET /v1/store/task"] = self.look

    def begin(self, asked, begun):
        self.asked = asked["body"]
        return 202, {**self.task, **begun}

    def look(self, asked):
        assert asked["query"] == {"id": TASK}
        self.looks -= 1
        if self.looks >= 0:
            return {**self.task, "done": 50 << 20, "total": 200 << 20}
        end = self.end(self.asked) if callable(self.end) else self.end
        return {**self.task, "state": "done", **end}


def failed(name, text="something", remedy="do something"):
    return {"state": "failed", **fault(name, text, remedy)[1]}


def test_store_ls(elsad):
    rows = [
        checkpoint(1, damaged="s/x/1/manifest is cut short"),
        checkpoint(2),
        checkpoint(1, server="lab", aside=True),
        checkpoint(1, user="bo"),
        checkpoint(7, user="", damaged="its key is not known"),
    ]
    elsad.answers["GET /v1/checkpoints"] = {"checkpoints": rows}
    lines = good("store", "ls", url=elsad.url).splitlines()
    assert len(lines) == 6 and lines[0].split()[-1] == "STATE"
    assert lines[1].endswith("damaged: s/x/1/manifest is cut short")
    assert lines[2].endswith("good") and lines[3].endswith("aside")
    assert "3.0 MiB" in lines[2] and "5.0 MiB" in lines[2]
    assert len(good("store", "ls", "ada", url=elsad.url).splitlines()) == 4
    assert json.loads(good("store", "ls", "bo", "--json", url=elsad.url)) == [rows[3]]
    assert good("store", "ls", "nobody", url=elsad.url) == "no checkpoints\n"
    good("store", "ls", "ada", "-s", "lab", url=elsad.url)
    assert [a["query"] for a in elsad.asked[-2:]] == [
        {"user": "ada", "server": "lab"}, {"user": "ada", "server": "lab", "fences": "yes"}]  # fmt: skip


def test_store_ls_shows_fences(elsad):
    good_one, fence = checkpoint(3), checkpoint(4, fence="n2", stored_bytes=0, objects=0)
    other = checkpoint(9, user="bo", fence="n1")
    elsad.answers["GET /v1/checkpoints"] = lambda asked: {
        "checkpoints": [fence, other] if asked["query"].get("fences") == "yes" else [good_one]}
    lines = good("store", "ls", "ada", url=elsad.url).splitlines()
    assert len(lines) == 3 and lines[1].endswith("good")
    assert lines[2].endswith("fence, taken by n2") and " 4 " in lines[2] and "MiB" not in lines[2]
    assert json.loads(good("store", "ls", "ada", "--json", url=elsad.url)) == [good_one, fence]
    # It is nothing that could be used.
    assert run("store", "show", "ada", "--generation", "4", url=elsad.url).returncode == 3


def test_store_show(elsad):
    rows = [checkpoint(1), checkpoint(3, aside=True), checkpoint(2, cpu="avx2 avx512f"),
            checkpoint(4, damaged="short"), checkpoint(9, server="lab")]  # fmt: skip
    elsad.answers["GET /v1/checkpoints"] = {"checkpoints": rows}
    memories = [{"name": "pagemap-7.img", "pages": 262144, "zero_pages": 1000}]
    elsad.answers["GET /v1/checkpoint"] = {**rows[2], "frames": 16384, "memories": memories}
    shown = good("store", "show", "ada", url=elsad.url)
    query = elsad.asked[-1]["query"]
    assert query == {"session": "0123456789abcdef", "generation": "2"}  # the newest usable
    for word in "1.0 GiB", "3.0 MiB", "5.0 MiB", "avx512f", "6.12", "16384", "pagemap-7.img":
        assert word in shown, shown
    good("store", "show", "ada", "--generation", "4", url=elsad.url)
    assert elsad.asked[-1]["query"]["generation"] == "4"
    for argv in ["bo"], ["ada", "--generation", "5"], ["ada", "-s", "none"]:
        done = run("store", "show", *argv, url=elsad.url)
        assert done.returncode == 3 and "elsa store ls" in done.stderr


def test_store_verify_names_all_that_is_bad(elsad):
    rows = [checkpoint(n, server="lab") for n in (1, 2, 3)]

    def end(asked):
        if asked["generation"] == 3:
            return {}
        return failed("corrupt", f"object {asked['generation']}/pages-1: wrong sum")

    elsad.answers["GET /v1/checkpoints"] = {"checkpoints": rows}
    Work(elsad, "verify", end)
    done = run("store", "verify", url=elsad.url)
    assert done.returncode == 10
    assert done.stdout.splitlines() == [
        "ada/lab generation 1: object 1/pages-1: wrong sum",
        "ada/lab generation 2: object 2/pages-1: wrong sum",
        "ada/lab generation 3: good",
    ]
    done = run("store", "verify", "--json", url=elsad.url)
    assert [r["ok"] for r in json.loads(done.stdout)] == [False, False, True]
    assert good("store", "verify", "--generation", "3", url=elsad.url).endswith("3: good\n")


def test_store_work_shows_a_bar_on_a_terminal(elsad):
    Work(elsad, "gc", {"objects": 3, "bytes": 5 << 20, "kept_objects": 7, "kept_bytes": 9 << 30}, 3)
    seen, status = on_terminal("store", "gc", url=elsad.url)
    assert status == 0
    assert b"\r\x1b[Kgc: [#####...............]  25 %" in seen
    assert seen.endswith(
        b"\r\x1b[K3 objects of 5.0 MiB removed; 7 objects of 9.0 GiB are needed\r\n"
    )
    elsad.answers["GET /v1/checkpoints"] = {"checkpoints": [checkpoint(1)]}
    Work(elsad, "verify", looks=2)
    seen, status = on_terminal("store", "verify", "ada", url=elsad.url)
    assert b"verify: [#####...............]  25 %  50.0 MiB of 200 MiB" in seen


def test_store_gc(elsad):
    work = Work(elsad, "gc", {"objects": 3, "bytes": 0, "kept_objects": 7, "kept_bytes": 0})
    assert "would be removed" in good("store", "gc", "--dry-run", url=elsad.url)
    assert work.asked == {"dry_run": True, "who": "elsa"}
    assert json.loads(good("store", "gc", "--json", url=elsad.url))["objects"] == 3
    assert work.asked == {"who": "elsa"}
    elsad.answers["POST /v1/store/gc"] = fault("conflict", "the store is being swept already")
    assert run("store", "gc", url=elsad.url).returncode == 4


def test_store_rm(elsad):
    elsad.answers["GET /v1/checkpoints"] = {"checkpoints": [checkpoint(1), checkpoint(2)]}
    done = run("store", "rm", "ada", url=elsad.url)
    assert done.returncode == 2 and "--generation" in done.stderr
    work = Work(elsad, "rm")
    said = good("store", "rm", "ada", "--generation", "2", "--force", url=elsad.url)
    assert said == "ada generation 2: removed\n"
    assert work.asked == {"user": "ada", "server": "", "session": "0123456789abcdef",
                          "generation": 2, "force": True, "who": "elsa"}  # fmt: skip
    Work(elsad, "rm", state="done", dry_run=True, id=None)
    said = good("store", "rm", "ada", "--generation", "2", "--dry-run", url=elsad.url)
    assert said == "ada generation 2: would be removed\n"
    refusal = fault("conflict", "it is all there is of ada's session", "say --force")
    elsad.answers["POST /v1/store/rm"] = refusal
    done = run("store", "rm", "ada", "--generation", "2", url=elsad.url)
    assert done.returncode == 4 and "--force" in done.stderr
    assert run("store", "rm", "ada", "--generation", "9", url=elsad.url).returncode == 3


def test_store_rekey(elsad):
    Work(elsad, "rekey", {"count": 12})
    assert good("store", "rekey", url=elsad.url) == "the keys of 12 sessions are wrapped anew\n"
    Work(elsad, "rekey", failed("denied", "the old key is not known", "name it"))
    done = run("store", "rekey", url=elsad.url)
    assert done.returncode == 5 and "name it" in done.stderr


PARTS = [bytes(range(256)) * 4096, b"\0\r\n", b"end"]


def export_parts(elsad, *parts, end=b""):
    left = [*parts, end]
    elsad.answers["GET /v1/checkpoints"] = {"checkpoints": [checkpoint(1), checkpoint(2)]}
    elsad.answers["GET /v1/store/data"] = lambda _: (
        left.pop(0) if isinstance(left[0], tuple) else (200, left.pop(0))
    )
    return Work(elsad, "export")


def test_store_export_to_a_file(elsad, tmp_path):
    path = tmp_path / "ada.tar"
    work = export_parts(elsad, *PARTS)
    said = good("store", "export", "ada", str(path), url=elsad.url)
    assert said == f"1.0 MiB of ada's checkpoint 2 are in {path}\n"
    assert work.asked["generation"] == 2
    assert path.read_bytes() == b"".join(PARTS)
    assert path.stat().st_mode & 0o777 == 0o600 and list(tmp_path.iterdir()) == [path]
    # It is not written over, and half of one is not left behind.
    export_parts(elsad, *PARTS)
    done = run("store", "export", "ada", str(path), url=elsad.url)
    assert done.returncode == 4 and "there is a" in done.stderr
    other = tmp_path / "other.tar"
    export_parts(elsad, *PARTS, end=fault("corrupt", "a pack is short"))
    done = run("store", "export", "ada", str(other), url=elsad.url)
    assert done.returncode == 10 and "a pack is short" in done.stderr
    assert list(tmp_path.iterdir()) == [path]
    export_parts(elsad, *PARTS)
    assert run("store", "export", "ada", "/dev/full", url=elsad.url).returncode == 4
    export_parts(elsad, *PARTS)
    assert run("store", "export", "ada", str(tmp_path / "no" / "x"), url=elsad.url).returncode == 3


def test_store_export_to_standard_output(elsad, tmp_path):
    for argv in [], ["-"]:
        export_parts(elsad, *PARTS)
        with (tmp_path / "out").open("wb") as out:
            done = run("store", "export", "ada", *argv, "--generation", "1",
                       url=elsad.url, stdout=out)  # fmt: skip
        assert done.returncode == 0
        assert (tmp_path / "out").read_bytes() == b"".join(PARTS)
        assert done.stderr == "1.0 MiB of ada's checkpoint 1 written\n"
    export_parts(elsad, *PARTS)
    with open("/dev/full", "wb") as full:
        done = run("store", "export", "ada", url=elsad.url, stdout=full)
    assert done.returncode == 9 and "standard output" in done.stderr
    export_parts(elsad, *PARTS)
    seen, status = on_terminal("store", "export", "ada", url=elsad.url)
    assert status == 2 and b"nothing for a terminal" in seen


def test_store_import(elsad, tmp_path):
    path = tmp_path / "ada.tar"
    path.write_bytes(b"".join(PARTS) * 3)
    got = []
    elsad.answers["POST /v1/store/data"] = lambda asked: got.append(asked["body"]) or (200, b"")
    end = {"checkpoint": checkpoint(2, server="lab"), "resumable": True,
           "record": "ada/lab is known from now on; its next start wakes it"}  # fmt: skip
    Work(elsad, "import", end)
    said = good("store", "import", str(path), url=elsad.url)
    assert said == f"ada/lab generation 2: imported; {end['record']}\n"
    assert b"".join(got) == path.read_bytes() and got[-1] == b"" and len(got) == 5
    assert max(map(len, got)) == 1 << 20
    Work(elsad, "import", end)
    assert json.loads(good("store", "import", str(path), "--json", url=elsad.url))["resumable"]
    Work(elsad, "import", end)
    assert "imported" in good("store", "import", "-", url=elsad.url)  # an empty one
    assert got[-1] == b""
    # Why it is refused is told when it is known, also half-way.
    elsad.answers["POST /v1/store/data"] = fault("corrupt", "that is no export", "give another")
    done = run("store", "import", str(path), url=elsad.url)
    assert done.returncode == 10 and "that is no export" in done.stderr
    elsad.answers["POST /v1/store/data"] = 200, b""
    Work(elsad, "import", failed("conflict", "that generation is there already"))
    done = run("store", "import", str(path), url=elsad.url)
    assert done.returncode == 4 and not done.stdout
    assert run("store", "import", url=elsad.url).returncode == 2
    assert run("store", "import", str(tmp_path / "none"), url=elsad.url).returncode == 3
    assert run("store", "import", str(tmp_path), url=elsad.url).returncode != 0


def test_store_work_has_an_end(elsad):
    Work(elsad, "rekey", looks=10**9)
    began = time.monotonic()
    done = run("store", "rekey", "--timeout", "1", url=elsad.url)
    assert done.returncode == 8 and time.monotonic() - began < 25
    assert "goes on without us" in done.stderr
