# SPDX-License-Identifier: Apache-2.0
"""Object storage against OpenStack Swift's S3 face, straight."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from faultproxy import FaultProxy
from s3kit import Tool
from swiftkit import KEYS, REGION, swift

LARGE = 10 * 1024 * 1024 + 4321  # by CRC


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with swift(tmp_path_factory.mktemp("swift")) as port:
        boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name=REGION,
                     aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
                     aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
                     config=Config(proxies={})).create_bucket(Bucket="bucket")
        yield port


def tool(server: int, where: Path, more: str = f"&region={REGION}", bucket: str = "bucket") -> Tool:
    return Tool(f"s3://{bucket}/pre?endpoint=http://127.0.0.1:{server}{more}", where,
                **KEYS)


def test_all_that_a_store_does(server: int, tmp_path: Path) -> None:
    t = tool(server, tmp_path)
    small, large, back = tmp_path / "small", tmp_path / "large", tmp_path / "back"
    small.write_bytes(b"hello")
    large.write_bytes(data := os.urandom(LARGE))
    t.good("put", "s/x/large", large, "put", "s/x/small", small)
    small.write_bytes(b"manifest")
    t.good("put", "s/x/manifest", small)
    assert t.good("list", "s/") == f"s/x/large {LARGE}\ns/x/manifest 8\ns/x/small 5\n"
    t.good("get", "s/x/large", back)
    assert back.read_bytes() == data
    assert t.run("read", "s/x/large", "5242878", "5").out == data[5242878:5242883]
    assert t.good("stat", "s/x/large").startswith(f"{LARGE} ")
    short = t.run("read", "s/x/small", "3", "5")
    assert short.fault == "corrupt" and "ends at offset 5" in short.error
    t.good("remove", "s/x/small", "remove", "s/x/small")
    assert t.run("stat", "s/x/small").code == 2
    assert t.run("read", "s/x/small", "0", "1").code == 2


def test_it_sees_what_breaks_on_the_way(server: int, tmp_path: Path) -> None:
    """Swift checks CRCs itself, as Amazon and others do."""
    large = tmp_path / "large"
    large.write_bytes(data := os.urandom(LARGE))
    with FaultProxy(server, {}, checks=False) as proxy:
        t = tool(proxy.port, tmp_path)
        proxy.reset({1: "flip-sent"})
        t.good("put", "f/large", large)
        assert len(proxy.log) == 2
        proxy.reset({"every PUT": "flip-sent"})
        assert "what arrived is not what was sent" in t.run("put", "f/other", large).error
    t = tool(server, tmp_path)
    t.good("get", "f/large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    assert t.run("stat", "f/other").code == 2


def test_it_has_no_conditional_writes(server: int, tmp_path: Path) -> None:
    """So no checkpoint may be committed to it; and nothing is left of the attempt."""
    t = tool(server, tmp_path)
    result = t.run("put-new", "c/manifest", "/dev/null")
    assert "does not heed If-None-Match" in result.error and result.fault == "refused", result
    assert t.good("list", "c/") == t.good("list", "probe/") == ""


def test_wrong_signatures_are_refused(server: int, tmp_path: Path) -> None:
    result = tool(server, tmp_path).run("list", "", AWS_SECRET_ACCESS_KEY="other")
    assert "does not accept our signature" in result.error, result
    assert result.fault == "denied"


def test_a_wrong_region_is_named(server: int, tmp_path: Path) -> None:
    result = tool(server, tmp_path, "&region=eu-west-1").run("list", "")
    assert "another region" in result.error and f"region={REGION}" in result.remedy, result


def test_a_missing_bucket_is_named(server: int, tmp_path: Path) -> None:
    for words in (["stat", "x"], ["list", ""], ["put", "x", "/dev/null"]):
        result = tool(server, tmp_path, bucket="nosuch").run(*words)
        assert "bucket nosuch does not exist" in result.error, result
