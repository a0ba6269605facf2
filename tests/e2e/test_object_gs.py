# SPDX-License-Identifier: Apache-2.0
"""Object storage over Google's XML API, against a double of it (s3kit.Google): no server of Google's
can be had for tests."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3kit import Google, Tool, double

HMAC = {"GS_ACCESS_KEY_ID": "GOOGKEY", "GS_SECRET_ACCESS_KEY": "google/secret"}
LARGE = 3 * 1024 * 1024 + 4321  # not hashed any more


@pytest.fixture
def google() -> Iterator[Google]:
    server = Google()
    with double(server) as server.port:
        yield server
    assert not server.complaints


def tool(google: Google, where: Path, **env: str) -> Tool:
    return Tool(f"gs://bucket/pre?endpoint=http://127.0.0.1:{google.port}&timeout=2", where,
                **env)


def use(t: Tool, where: Path) -> None:
    small, large = where / "small", where / "large"
    small.write_bytes(b"hello")
    large.write_bytes(data := os.urandom(LARGE))
    t.good("put", "a/large", large, "put", "a/small", small)
    small.write_bytes(b"manifest")
    t.good("put-new", "a/manifest", small)
    assert t.run("put-new", "a/manifest", small).code == 17
    assert t.good("list", "a/") == f"a/large {LARGE}\na/manifest 8\na/small 5\n"
    t.good("get", "a/large", where / "back")
    assert (where / "back").read_bytes() == data
    assert t.run("read", "a/small", "3", "5").fault == "corrupt"
    t.good("remove", "a/small", "remove", "a/small")
    assert t.run("stat", "a/small").code == 2


def test_hmac_keys(google: Google, tmp_path: Path) -> None:
    use(tool(google, tmp_path, **HMAC), tmp_path)


def test_wrong_keys_are_refused(google: Google, tmp_path: Path) -> None:
    result = tool(google, tmp_path, **HMAC).run("list", "", GS_SECRET_ACCESS_KEY="other")
    assert result.fault == "denied", result
    result = tool(google, tmp_path).run("list", "", GCE_METADATA_HOST="127.0.0.1:1")
    assert "no credentials for Google" in result.error and "GS_ACCESS_KEY_ID" in result.remedy


def test_the_service_account_is_used_and_renewed(google: Google, tmp_path: Path) -> None:
    fetched = []

    def metadata(request, _):
        if request.headers.get("Metadata-Flavor") != "Google" or not request.path.endswith(
                "/service-accounts/default/token"):
            return 403, b""
        fetched.append(1)
        google.bearer = f"ya29.{len(fetched)}" if len(fetched) != 1 else "ya29.revoked"
        return 200, json.dumps({"access_token": f"ya29.{len(fetched)}", "expires_in": 3599,
                                "token_type": "Bearer"}).encode()

    with double(metadata) as port:
        t = tool(google, tmp_path, GCE_METADATA_HOST=f"127.0.0.1:{port}")
        t.good("list", "")
        assert len(fetched) == 2  # the first was refused
        use(tool(google, tmp_path, GCE_METADATA_HOST=f"127.0.0.1:{port}"), tmp_path)


def test_a_commit_that_stalls_is_known_for_ours(tmp_path: Path) -> None:
    """It is carried out, and no answer comes."""
    google, puts, over = Google(), [], threading.Event()

    def stall_once(request, body):
        answer = google(request, body)
        if request.command == "PUT":
            puts.append(answer[0])
            if len(puts) == 1:
                over.wait(30)
        return answer

    (tmp_path / "m").write_bytes(b"manifest")
    with double(stall_once) as port:
        t = Tool(f"gs://bucket/pre?endpoint=http://127.0.0.1:{port}", tmp_path, **HMAC)
        result = t.run("put-new", "m", tmp_path / "m")
        over.set()
    assert result.code == 0 and 3 < result.seconds < 10, result
    assert puts == [200, 412] and google.objects == {"pre/m": b"manifest"}
