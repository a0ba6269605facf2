# SPDX-License-Identifier: Apache-2.0
"""The baseline: the same Jupyter session under podman, by checkpoint --export and restore --import.

This is the way Elsa's prototype went. The image holds only what must be writable; /usr is bound
read-only from outside, which spares podman its file-system diff of a gigabyte and so flatters it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

from jupyter import Server

COMMAND = ["python3", "-m", "jupyter_server", "--ip=127.0.0.1", "--port=8888", "--no-browser", "--allow-root",
           "--ServerApp.port_retries=0", "--IdentityProvider.token=bench", "--ServerApp.root_dir=/tmp"]


class Podman:
    """A private podman storage and at most one container in it."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.archive = directory / "session.tar.zst"
        self.name = "bench"
        directory.mkdir(parents=True)
        self._import_image()

    def run(self, *arguments: str, **options) -> str:
        environment = dict(os.environ, PODMAN_IGNORE_CGROUPSV1_WARNING="1")
        done = subprocess.run(
            ["podman", "--cgroup-manager=cgroupfs", f"--root={self.directory}/root",
             f"--runroot={self.directory}/run", f"--tmpdir={self.directory}/tmp",
             "--events-backend=none", *arguments],
            env=environment, cwd="/", capture_output=True, text=True, check=False, **options)
        if done.returncode:
            raise RuntimeError(f"podman {' '.join(arguments)}: {done.stderr[-2000:]}")
        return done.stdout

    def _import_image(self) -> None:
        image = self.directory / "image"
        for name in ("usr", "proc", "sys", "dev", "tmp", "run", "home", "root", "var"):
            (image / name).mkdir(parents=True)
        (image / "tmp").chmod(0o1777)
        for name in ("bin", "sbin", "lib", "lib64"):
            os.symlink(f"usr/{name}", image / name)
        shutil.copytree("/etc", image / "etc", symlinks=True)
        archive = self.directory / "image.tar"
        subprocess.run(["tar", "-C", image, "-cf", archive, "."], check=True)
        self.run("import", "--quiet", str(archive), "bench")

    def start(self) -> Server:
        self.run("run", "--detach", "--log-driver=k8s-file", "--network=none",
                 f"--name={self.name}", "-v", "/usr:/usr:ro", "bench", *COMMAND)
        return self.server()

    def server(self) -> Server:
        state = json.loads(self.run("inspect", self.name))[0]["State"]
        return Server("127.0.0.1", 8888, "bench", netns=f"/proc/{state['Pid']}/ns/net")

    def checkpoint(self) -> float:
        """Seconds. The container is frozen from the beginning and gone at the end."""
        begin = time.monotonic()
        self.run("container", "checkpoint", f"--export={self.archive}", "--tcp-established",
                 "--file-locks", self.name)
        took = time.monotonic() - begin
        self.run("rm", "--force", self.name)
        return took

    def restore(self) -> None:
        self.run("container", "restore", f"--import={self.archive}", "--tcp-established",
                 "--file-locks")

    def archive_bytes(self) -> int:
        return self.archive.stat().st_size

    def close(self) -> None:
        self.run("rm", "--all", "--force", "--time=0")
        subprocess.run(["umount", "-R", "-l", self.directory / "root" / "overlay"],
                       check=False, capture_output=True)
        shutil.rmtree(self.directory, ignore_errors=True)
