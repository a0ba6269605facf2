# SPDX-License-Identifier: Apache-2.0
"""What a run leaves on the machine: processes, mounts, namespaces, interfaces, cgroups, files."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from basekit import HOST_ADDRESS


@dataclass
class Traces:
    """What programs can leave behind, as seen from inside tools/enter: there, all of it is ours,
    but for the network when that is the machine's own."""

    processes: set[str]
    mounts: set[str]
    namespaces: set[str]
    interfaces: set[str]
    addresses: set[str]
    tables: set[str]
    cgroups: set[str]
    files: set[str]

    @classmethod
    def now(cls) -> Traces:
        return cls(
            processes=_processes(),
            mounts=_mounts(),
            namespaces=_namespaces(),
            interfaces={name for name in os.listdir("/sys/class/net") if _may_be_ours(name)},
            addresses={line for line in _addresses() if _may_be_ours(line)},
            tables={line for line in _lines("nft", "list", "tables") if _may_be_ours(line)},
            cgroups={str(path) for path in Path("/sys/fs/cgroup").glob("**/")},
            files=_files(),
        )

    def new_since(self, before: Traces) -> list[str]:
        """What is here now and was not before, as "kind: thing"."""
        return sorted(
            f"{kind}: {thing}"
            for kind in self.__dataclass_fields__
            for thing in getattr(self, kind) - getattr(before, kind)
        )


def leftovers(before: Traces, seconds: float = 10) -> list[str]:
    """New traces that do not go away within `seconds`: what just ended may take a moment."""
    deadline = time.monotonic() + seconds
    while True:
        left = Traces.now().new_since(before)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def network_is_private() -> bool:
    """Nobody else makes interfaces in it: the only way out of it is what a stack has made."""
    return not _lines("ip", "-o", "route", "show", "default")


def _may_be_ours(text: str) -> bool:
    """On the machine's own network others come and go meanwhile; ours have their names."""
    ours = rf"^es[0-9a-f]{{6}}|\bes[0-9a-f]{{6,}}|elsa|vx0|{re.escape(HOST_ADDRESS)}"
    return network_is_private() or bool(re.search(ours, text))


def _processes() -> set[str]:
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if line:
                found.add(f"{path.name} {line.strip()[:100]}")
    return found


def _mounts() -> set[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line.split(" ")[4] for line in lines}


def _namespaces() -> set[str]:
    """Network namespaces of processes; those held by a bind mount count as mounts."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(path))
    return found


def _lines(*argv: str) -> set[str]:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return {line.strip() for line in done.stdout.splitlines() if line.strip()}


def _addresses() -> set[str]:
    return {" ".join(line.split()[1:4]) for line in _lines("ip", "-o", "addr")}


def _files() -> set[str]:
    places = [Path(name) for name in ("/run", "/tmp", "/var/lib/elsa")]
    found = {str(path) for place in places if place.is_dir() for path in place.iterdir()}
    # CRIU's own note of what this kernel can do, good until the next boot; and mount(8)'s directory.
    return found - {"/run/criu.kdat", "/run/mount"}
