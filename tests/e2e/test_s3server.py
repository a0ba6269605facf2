# SPDX-License-Identifier: Apache-2.0
"""The S3 server that tests and benchmarks use (s3server.py): it must refuse what Amazon's would."""

from __future__ import annotations

import hashlib
import http.client
import threading
import time
import zlib
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
import sigv4
from s3kit import ACCESS, SECRET
from s3server import S3Server

EMPTY = hashlib.sha256(b"").hexdigest()
WELCOME = hashlib.sha256(b"Welcome to Amazon S3.").hexdigest()
HOST = {"host": "examplebucket.s3.amazonaws.com", "x-amz-date": "20130524T000000Z"}


# The examples of "Signature Calculations for the Authorization Header: Transferring Payload in a
# Single Chunk" in the Amazon S3 API reference.
@pytest.mark.parametrize("method, target, more, signed, signature", [
    ("GET", "/test.txt", {"range": "bytes=0-9", "x-amz-content-sha256": EMPTY},
     "host;range;x-amz-content-sha256;x-amz-date",
     "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
    ("PUT", "/test%24file.text",
     {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY",
      "x-amz-content-sha256": WELCOME},
     "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
     "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"),
    ("GET", "/?lifecycle", {"x-amz-content-sha256": EMPTY},
     "host;x-amz-content-sha256;x-amz-date",
     "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
    ("GET", "/?max-keys=2&prefix=J", {"x-amz-content-sha256": EMPTY},
     "host;x-amz-content-sha256;x-amz-date",
     "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
])
def test_published_signatures(method: str, target: str, more: dict[str, str], signed: str,
                              signature: str) -> None:
    access, secret = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    headers = HOST | more | {
        "authorization": f"AWS4-HMAC-SHA256 Credential={access}/20130524/us-east-1/s3/aws4_request,"
                         f"SignedHeaders={signed},Signature={signature}"}
    then = 1369353600.0
    sigv4.verify({access: secret}, method, target, headers, then)
    for wrong, code in (({access: "other"}, "SignatureDoesNotMatch"), ({}, "InvalidAccessKeyId")):
        with pytest.raises(sigv4.Refused, match=code):
            sigv4.verify(wrong, method, target, headers, then)
    with pytest.raises(sigv4.Refused, match="RequestTimeTooSkewed"):
        sigv4.verify({access: secret}, method, target, headers, then + 901)
    with pytest.raises(sigv4.Refused, match="AccessDenied"):
        sigv4.verify({access: secret}, method, target, headers | {"x-amz-acl": "public"}, then)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    with S3Server(tmp_path, {ACCESS: SECRET}) as server:
        yield server


def ask(server: S3Server, method: str, target: str, body: bytes = b"",
        changed: dict[str, str] | None = None, **more: str) -> http.client.HTTPResponse:
    """`more` is signed; `changed` afterwards. The answer's body is read: .data"""
    headers = {"host": f"127.0.0.1:{server.port}",
               "x-amz-date": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
               "x-amz-content-sha256": hashlib.sha256(body).hexdigest(),
               **{name.replace("_", "-"): value for name, value in more.items()}}
    signed = ";".join(sorted(headers))
    canonical = sigv4.canonical_request(method, target, headers, signed,
                                        headers["x-amz-content-sha256"])
    signature = sigv4.signature(SECRET, canonical, headers["x-amz-date"], "us-east-1")
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={ACCESS}/{headers['x-amz-date'][:8]}/us-east-1/s3/"
        f"aws4_request, SignedHeaders={signed}, Signature={signature}")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request(method, target, body=body, headers=headers | (changed or {}))
    answer = connection.getresponse()
    answer.data = answer.read()
    connection.close()
    return answer


def code(answer: http.client.HTTPResponse) -> tuple[int, str]:
    found = answer.data.decode().partition("<Code>")[2].partition("</Code>")[0]
    return answer.status, found


def crc(body: bytes) -> str:
    return b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()


def test_objects(server: S3Server) -> None:
    assert ask(server, "PUT", "/bucket/a/b", b"0123456789").status == 200
    whole = ask(server, "GET", "/bucket/a/b")
    assert (whole.status, whole.data) == (200, b"0123456789")
    part = ask(server, "GET", "/bucket/a/b", range="bytes=2-4")
    assert (part.status, part.data) == (206, b"234")
    assert part.getheader("content-range") == "bytes 2-4/10"
    assert ask(server, "GET", "/bucket/a/b", range="bytes=8-99").data == b"89"
    assert ask(server, "GET", "/bucket/a/b", range="bytes=10-").status == 416
    tag = whole.getheader("etag")
    assert ask(server, "HEAD", "/bucket/a/b").getheader("content-length") == "10"
    assert code(ask(server, "PUT", "/bucket/a/b", b"x", if_none_match="*")) == (
        412, "PreconditionFailed")
    assert ask(server, "GET", "/bucket/a/b", if_match=tag).status == 200
    ask(server, "PUT", "/bucket/a/b", b"9876543210")
    assert ask(server, "GET", "/bucket/a/b", if_match=tag).status == 412
    assert ask(server, "DELETE", "/bucket/a/b").status == 204
    assert code(ask(server, "GET", "/bucket/a/b")) == (404, "NoSuchKey")
    assert code(ask(server, "GET", "/other/a")) == (404, "NoSuchBucket")


def test_listings_go_on(server: S3Server) -> None:
    for key in ("p/c", "p/a", "p/b%26", "q/x"):
        ask(server, "PUT", f"/bucket/{key}", b"x")
    first = ask(server, "GET", "/bucket?list-type=2&max-keys=2&prefix=p%2F").data.decode()
    assert first.count("<Contents>") == 2 and "<IsTruncated>true" in first
    assert "<NextContinuationToken>p/b&amp;<" in first
    last = ask(server, "GET", "/bucket?continuation-token=p%2Fb%26&list-type=2&prefix=p%2F").data
    assert last.decode().count("<Key>") == 1 and b"<Key>p/c</Key>" in last
    assert b"<IsTruncated>false" in last


def test_what_is_wrong_is_refused_and_not_kept(server: S3Server) -> None:
    body = b"x" * 1_000_000
    unsigned = {"x_amz_content_sha256": "UNSIGNED-PAYLOAD", "x_amz_checksum_crc32": crc(body)}
    flipped = body[:-1] + b"y"
    assert ask(server, "PUT", "/bucket/good", body, **unsigned).status == 200
    cases = [
        ({"x_amz_content_sha256": "UNSIGNED-PAYLOAD", "x_amz_checksum_crc32": crc(flipped)}, {},
         (400, "BadDigest")),
        ({"x_amz_content_sha256": hashlib.sha256(flipped).hexdigest()}, {},
         (400, "XAmzContentSHA256Mismatch")),
        (unsigned, {"x-amz-checksum-crc32": crc(flipped)}, (403, "SignatureDoesNotMatch")),
        ({}, {"x-amz-acl": "public-read"}, (403, "AccessDenied")),
        ({}, {"authorization": ""}, (403, "AccessDenied")),
    ]
    for more, changed, want in cases:
        assert code(ask(server, "PUT", "/bucket/wrong", body, changed, **more)) == want
    assert sorted(p.name for p in (server.where / "bucket").iterdir()) == ["good"]


def test_waits_hold_up_nobody_else(server: S3Server) -> None:
    server.latency = 1
    began = time.monotonic()
    threads = [threading.Thread(target=ask, args=(server, "HEAD", "/bucket/x")) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    assert 1 <= took < 10
    assert server.stats()["requests"] == 10
