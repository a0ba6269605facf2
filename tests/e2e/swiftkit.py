# SPDX-License-Identifier: Apache-2.0
"""OpenStack Swift with its S3 face (s3api), all on one machine and one disk: a second server of
somebody else's that checks our signatures. Needs to be root, for /etc/swift."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from s3kit import free_port, open_url
from swift.common.ring import RingBuilder

KEYS = {"AWS_ACCESS_KEY_ID": "test:tester", "AWS_SECRET_ACCESS_KEY": "testing"}
REGION = "us-east-1"

STORE = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
user = root
swift_dir = {dir}
devices = {dir}/devices
mount_check = false
workers = 0
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""

PROXY = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
user = root
swift_dir = {dir}
workers = 0
[pipeline:main]
pipeline = catch_errors healthcheck cache listing_formats s3api tempauth slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:healthcheck]
use = egg:swift#healthcheck
# Wanted by tempauth, though only for tokens, which S3 does without: nobody listens there.
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:slo]
use = egg:swift#slo
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
auth_pipeline_check = false
"""

RUN = "import sys; from swift.common.wsgi import run_wsgi; sys.exit(run_wsgi(*sys.argv[1:]))"


def make_ring(where: Path, name: str, port: int) -> None:
    ring = RingBuilder(1, 1, 0)
    ring.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "d1",
                  "weight": 1.0, "meta": "", "replication_ip": "127.0.0.1",
                  "replication_port": port})
    ring.rebalance()
    ring.get_ring().save(str(where / f"{name}.ring.gz"))


def write_all(where: Path) -> tuple[int, list[list[str]]]:
    """The proxy's port and the servers' arguments."""
    (where / "devices" / "d1").mkdir(parents=True)
    # The one path that Swift does not take from its configuration.
    Path("/etc/swift").mkdir(exist_ok=True)
    Path("/etc/swift/swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = test\n")
    servers = []
    for kind in ("account", "container", "object"):
        port = free_port()
        make_ring(where, kind, port)
        (where / f"{kind}.conf").write_text(STORE.format(dir=where, kind=kind, port=port))
        servers.append([str(where / f"{kind}.conf"), f"{kind}-server"])
    port = free_port()
    (where / "proxy.conf").write_text(PROXY.format(dir=where, port=port))
    servers.append([str(where / "proxy.conf"), "proxy-server"])
    return port, servers


@contextlib.contextmanager
def swift(where: Path) -> Iterator[int]:
    port, servers = write_all(where)
    env = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    with open(where / "swift.log", "w") as log:
        processes = [subprocess.Popen(["python3", "-c", RUN, *arguments], stdout=log, stderr=log,
                                      env=env) for arguments in servers]
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                open_url(f"http://127.0.0.1:{port}/healthcheck")
                break
            except OSError:
                alive = all(p.poll() is None for p in processes)
                assert alive and time.monotonic() < deadline, (where / "swift.log").read_text()
                time.sleep(0.05)
        yield port
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
