# SPDX-License-Identifier: Apache-2.0
"""AWS Signature Version 4 from the verifying side, after "Signature Calculations for the
Authorization Header" in the Amazon S3 API reference. Standard library only."""

from __future__ import annotations

import datetime
import functools
import hashlib
import hmac
import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

SKEW_MOST = 15 * 60
AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/(\w+)/aws4_request, ?"
    r"SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$")


class Refused(Exception):
    """`code` is S3's error code."""

    def __init__(self, status: int, code: str, message: str = ""):
        super().__init__(code)
        self.status, self.code, self.message = status, code, message


def encode(text: str) -> str:
    return quote(text, safe="-._~")


def canonical_request(method: str, target: str, headers: Mapping[str, str], signed: str,
                      payload: str) -> str:
    """`target`: as it stands in the request line. `headers`: by names in small letters."""
    path, _, query = target.partition("?")
    pairs = [pair.partition("=")[::2] for pair in query.split("&") if pair]
    return "\n".join([
        method, quote(unquote(path), safe="/-._~"),
        "&".join(f"{k}={v}" for k, v in
                 sorted((encode(unquote(k)), encode(unquote(v))) for k, v in pairs)),
        *(f"{name}:{' '.join(headers[name].split())}" for name in signed.split(";")),
        "", signed, payload])


@functools.lru_cache(64)
def signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    key = b"AWS4" + secret.encode()
    for word in (day, region, service, "aws4_request"):
        key = hmac.digest(key, word.encode(), "sha256")
    return key


def signature(secret: str, canonical: str, timestamp: str, region: str, service: str = "s3") -> str:
    text = "\n".join(["AWS4-HMAC-SHA256", timestamp,
                      f"{timestamp[:8]}/{region}/{service}/aws4_request",
                      hashlib.sha256(canonical.encode()).hexdigest()])
    key = signing_key(secret, timestamp[:8], region, service)
    return hmac.digest(key, text.encode(), "sha256").hex()


def verify(keys: Mapping[str, str], method: str, target: str, headers: Mapping[str, str],
           now: float) -> None:
    """Raises Refused as S3 would. That the body has the signed hash is for the caller to see."""
    found = AUTHORIZATION.match(headers.get("authorization", ""))
    timestamp = headers.get("x-amz-date", "")
    if not found or not re.fullmatch(r"\d{8}T\d{6}Z", timestamp):
        raise Refused(403, "AccessDenied", "not signed")
    access, day, region, service, signed, got = found.groups()
    if access not in keys:
        raise Refused(403, "InvalidAccessKeyId")
    sent = datetime.datetime.strptime(timestamp, "%Y%m%dT%H%M%S%z").timestamp()
    if abs(sent - now) > SKEW_MOST or day != timestamp[:8]:
        raise Refused(403, "RequestTimeTooSkewed")
    names = signed.split(";")
    must = {"host"} | {name for name in headers if name.startswith("x-amz-")}
    if not must <= set(names) or not set(names) <= set(headers):
        raise Refused(403, "AccessDenied", "headers are present that are not signed")
    canonical = canonical_request(method, target, headers, signed,
                                  headers.get("x-amz-content-sha256", ""))
    if not hmac.compare_digest(got, signature(keys[access], canonical, timestamp, region, service)):
        raise Refused(403, "SignatureDoesNotMatch", canonical)
