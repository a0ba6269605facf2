# SPDX-License-Identifier: Apache-2.0
"""Buckets that are not there, refuse us or have another clock, and caches that are of no use, with real
sessions: told with its reason, and when it is mended the sessions are as they were."""

from __future__ import annotations

import os
import secrets
import shutil

import pytest
from faultproxy import FAULTS
from storekit import FINAL, Pair, s3_place, tmpfs

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(180)]


@pytest.fixture(name="s3", scope="module")
def s3_fixture():
    with s3_place() as place:
        place.start()
        place.pair = Pair(place.node)
        yield place


def test_a_cache_without_room(s3) -> None:
    s3.node.stop()
    cache = s3.node.dir / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    with tmpfs(cache, "64k"):
        s3.node.start()
        s3.pair.good()
        s3.node.stop()
    s3.node.start()
    s3.pair.good()


def test_a_cache_that_holds_garbage(s3) -> None:
    cache = s3.node.dir / "cache"
    s3.pair.good()
    s3.node.stop()
    pieces = [p for p in cache.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in pieces) > 1 << 16
    for i, path in enumerate(pieces):
        data = bytearray(path.read_bytes())
        if i % 3 == 0:
            path.write_bytes(secrets.token_bytes(len(data)))
        elif i % 3 == 1:
            path.write_bytes(data[:len(data) // 2])
        else:
            path.unlink()
            path.mkdir()
    (cache / "what is this").write_text("hello")
    s3.node.start()
    s3.pair.good()


def test_the_servers_clock_is_wrong(s3) -> None:
    for ahead in (20 * 60, -20 * 60):
        s3.pair.restart()
        s3.proxy.set_clock(ahead)
        s3.pair.good()
    s3.proxy.set_clock(0)
    s3.pair.good()


def deny(method: str, listing: bool):
    def plan(line: str, _head) -> str | None:
        return "403" if line.startswith(method) and ("list-type" in line) == listing else None
    return plan


@pytest.mark.parametrize("method, listing, action", [
    ("GET", True, "s3:ListBucket"), ("GET", False, "s3:GetObject"), ("PUT", False, "s3:PutObject")])
def test_without_a_permission(s3, method: str, listing: bool, action: str) -> None:
    s3.node.stop()
    shutil.rmtree(s3.node.dir / "cache", ignore_errors=True)
    s3.proxy.reset(deny(method, listing))
    s3.node.start()
    if method == "GET":
        s3.pair.refuse("permission denied", action, fault="denied")
    else:
        result = s3.node.effect("hibernate", s3.pair.awake, s3.pair.awakes + 1)
        assert result["fault"] == "denied" and action in result["remedy"], result
        s3.pair.awakes += 1
        s3.pair.same(s3.pair.awake)
    s3.proxy.reset()
    s3.pair.good()


def test_a_bucket_that_is_gone(s3) -> None:
    bucket = s3.bucket.where
    away = bucket.with_name("away")
    s3.node.stop()
    bucket.rename(away)
    s3.node.start()
    s3.pair.refuse("bucket")
    away.rename(bucket)
    s3.pair.good()


def test_nobody_answers(s3) -> None:
    """When elsa-node starts, either."""
    s3.node.stop()
    good = s3.node.config.read_text()
    s3.node.config.write_text(good.replace(f":{s3.proxy.port}", ":9"))
    s3.node.start()
    s3.pair.refuse("127.0.0.1:9", fault="unavailable")
    s3.node.stop()
    s3.node.config.write_text(good)
    s3.node.start()
    s3.pair.good()


@pytest.mark.parametrize("fault", FAULTS)
def test_the_first_write_of_all(s3, fault: str) -> None:
    """Before it elsa-node finds out whether the server heeds conditions on writes."""
    s3.pair.restart()
    s3.proxy.reset({r"^GET .*max-keys=1": fault, r"^PUT .*/probe/": fault, r"^DELETE .*/probe/": fault,
                    r"every PUT .*\.mark$": "403"})
    s3.pair.awakes += 1
    result = s3.node.effect("hibernate", s3.pair.awake, s3.pair.awakes)
    assert result["state"] == "failed" and result["running"], result
    # What is no answer of S3's at all may be another server: that is not gone into.
    if fault not in (*FINAL, "flip-got"):
        assert ".mark: " in result["text"], result
        assert any("/probe/" in line for line in s3.proxy.log)
    s3.proxy.reset()
    s3.pair.same(s3.pair.awake)
    assert s3.bucket.keys("probe/") == []
