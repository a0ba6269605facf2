# SPDX-License-Identifier: Apache-2.0
"""Object storage over S3: cloud/ against moto's server, every request checked by Amazon's own signer
and broken in every way on its way (faultproxy.py); and against a server of our own that checks by
itself (s3server.py)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote, unquote

import pytest
from basekit import wait_for
from faultproxy import FAULTS, FaultProxy, error_xml
from s3kit import ACCESS, SECRET, Imds, Tool, double, moto, open_url
from s3server import S3Server

KEYS = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}
LARGE = 3 * 1024 * 1024 + 4321  # not hashed any more


@pytest.fixture(scope="module", params=["moto", "own"])
def server(tmp_path_factory: pytest.TempPathFactory,
           request: pytest.FixtureRequest) -> Iterator[SimpleNamespace]:
    """`upstream` for the proxy; put() and list() without cloud/."""
    where = tmp_path_factory.mktemp(request.param)
    if request.param == "own":
        with S3Server(where, {ACCESS: SECRET}) as own:
            yield SimpleNamespace(
                upstream=own, port=own.port, own=True,
                put=lambda key, data: (where / "bucket" / quote(key, safe="")).write_bytes(data),
                list=lambda: [unquote(p.name) for p in (where / "bucket").iterdir()])
        return
    with moto(where) as port:
        base = f"http://127.0.0.1:{port}/bucket"
        open_url(base, method="PUT")
        yield SimpleNamespace(
            upstream=port, port=port, own=False,
            put=lambda key, data: open_url(f"{base}/{quote(key)}", data, "PUT"),
            list=lambda: re.findall("<Key>(.*?)</Key>", open_url(base).decode()))


@pytest.fixture
def place(server: SimpleNamespace, tmp_path: Path,
          request: pytest.FixtureRequest) -> Iterator[SimpleNamespace]:
    """The proxy, the tool behind it and a prefix of the test's own."""
    with FaultProxy(server.upstream, {ACCESS: (SECRET, None)}, checks=not server.own) as proxy:
        prefix = "".join(c if c.isalnum() else "-" for c in request.node.name)[:60]

        def url(more: str = "", bucket: str = "bucket") -> str:
            return (f"s3://{bucket}/{prefix}?endpoint=http://127.0.0.1:{proxy.port}&"
                    f"region=eu-west-1&timeout=1{more}")

        yield SimpleNamespace(proxy=proxy, url=url, dir=tmp_path, prefix=prefix,
                              tool=Tool(url(), tmp_path, **KEYS), server=server)
        assert not proxy.complaints
        if server.own:
            server.upstream.ask(keys={ACCESS: SECRET}, page=1000, clock_ahead=0)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_objects_come_back(place: SimpleNamespace) -> None:
    t, d = place.tool, place.dir
    small = write(d / "small", b"hello world")
    t.good("put", "s/x/1/manifest.json", small, "put", "s/x/1/empty", "/dev/null")
    assert t.good("read", "s/x/1/manifest.json", "6", "3") == "wor"
    assert t.good("stat", "s/x/1/manifest.json").startswith("11 ")
    t.good("get", "s/x/1/empty", d / "back")
    assert (d / "back").read_bytes() == b""
    assert t.good("list", "") == "s/x/1/empty 0\ns/x/1/manifest.json 11\n"
    assert t.good("list", "s/x/") == t.good("list", "")
    assert t.good("list", "s/y/") == ""
    t.good("remove", "s/x/1/empty", "remove", "s/x/1/empty")
    assert t.good("list", "") == "s/x/1/manifest.json 11\n"


def test_missing_and_short_objects_are_named(place: SimpleNamespace) -> None:
    t = place.tool
    t.good("put", "a", write(place.dir / "a", b"abc"))
    missing = t.run("read", "b", "0", "1")
    assert (missing.code, missing.error, missing.fault) == (2, "object b is missing", "not-found")
    assert t.run("stat", "b").code == 2
    short = t.run("read", "a", "1", "5")
    assert short.error == "object a: ends at offset 3, 3 bytes early"
    assert short.fault == "corrupt"
    assert t.run("read", "a", "9", "5").fault == "corrupt"


def test_large_objects_go_by_their_crc(place: SimpleNamespace) -> None:
    t, d = place.tool, place.dir
    data = os.urandom(LARGE)
    for size, header, hashed in ((LARGE, "x-amz-checksum-crc32", False),
                                 ((1 << 20) + 1, "x-amz-checksum-crc32", False),
                                 (1 << 20, "x-amz-checksum-sha256", True),
                                 (0, "x-amz-checksum-sha256", True)):
        place.proxy.reset()
        t.good("put", "b", write(d / "file", data[:size]))
        (head,) = place.proxy.heads
        assert head[header] and (head["x-amz-content-sha256"] != "UNSIGNED-PAYLOAD") == hashed
        assert "expect" not in head
        t.good("get", "b", d / "back")
        assert (d / "back").read_bytes() == data[:size]
    t.good("put", "b", write(d / "file", data))
    assert t.run("read", "b", str(LARGE - 4), "4").out == data[-4:]


@pytest.mark.parametrize("size", [1000, LARGE])
def test_flipped_uploads_are_refused(place: SimpleNamespace, size: int) -> None:
    t, data = place.tool, os.urandom(size)
    file = write(place.dir / "file", data)
    place.proxy.reset({r"PUT .*/a$": "flip-sent"})
    t.good("put", "a", file)
    assert len(place.proxy.log) == 2
    t.good("get", "a", place.dir / "back")
    assert (place.dir / "back").read_bytes() == data
    place.proxy.reset({r"every PUT .*/b$": "flip-sent"})
    result = t.run("put", "b", file)
    assert "what arrived is not what was sent" in result.error and "10 tries" in result.error
    assert t.good("list", "") == f"a {size}\n"


def test_too_large_objects_are_refused(place: SimpleNamespace) -> None:
    with open(place.dir / "file", "wb") as file:
        file.truncate((64 << 20) + 1)
    result = place.tool.run("put", "a", place.dir / "file")
    assert result.error == "object a: larger than 64 MiB" and not place.proxy.log


def test_one_of_two_writers_wins(place: SimpleNamespace) -> None:
    t, d = place.tool, place.dir
    files = [write(d / str(i), f"writer {i}".encode()) for i in range(4)]
    codes: list[int] = []
    threads = [threading.Thread(target=lambda f=f: codes.append(t.run("put-new", "m", f).code))
               for f in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [0, 17, 17, 17]
    assert t.good("list", "") == "m 8\n"  # nothing of the trial whether the server heeds conditions


def test_a_server_without_conditions_is_refused(place: SimpleNamespace) -> None:
    with double(lambda request, body: (200, b"")) as port:
        t = Tool(f"s3://bucket?endpoint=http://127.0.0.1:{port}&region=x", place.dir, **KEYS)
        result = t.run("put-new", "m", "/dev/null")
    assert "does not heed If-None-Match" in result.error and result.fault == "refused"


def test_long_listings_go_on(place: SimpleNamespace) -> None:
    for i in range(10):
        place.server.put(f"{place.prefix}/k/{i:04}", b"x")
    place.server.put(f"{place.prefix}/k/not ours", b"x")
    if place.server.own:
        place.server.upstream.ask(page=4)
    else:
        place.proxy.page = 4
    lines = place.tool.good("list", "k/").splitlines()
    assert lines == [f"k/{i:04} 1" for i in range(10)]
    assert len(place.proxy.log) == 3
    # A page that breaks off is asked for again, and nothing comes twice.
    place.proxy.reset({1: "truncate", 3: "truncate"})
    assert place.tool.good("list", "k/").splitlines() == lines


def test_connections_are_reused(place: SimpleNamespace) -> None:
    file = write(place.dir / "file", b"x" * LARGE)
    place.tool.good(*["list", "", "put", "a", file, "read", "a", "5", "7", "stat", "a"] * 10)
    assert len(place.proxy.log) == 40
    assert place.proxy.connections == 1
    # The commit, too: what libcurl may have sent twice is found out without a connection of its own.
    connections = place.proxy.connections
    place.tool.good("list", "", "put-new", "b", file, "put-new", "c", file)
    assert place.proxy.connections == connections + 1


def test_a_kept_connection_that_was_closed_is_no_loss(place: SimpleNamespace) -> None:
    """libcurl sends again by itself: of a commit that was carried out the first time it gets "it is
    there already", and our own object must be recognised."""
    file = write(place.dir / "file", os.urandom(LARGE))
    for fault in ("drop", "drop-after", "reset-after"):
        place.proxy.reset({rf"PUT .*/{fault}$": fault})
        place.tool.good("list", "", "put-new", fault, file)
        assert place.tool.run("put-new", fault, "/dev/null").code == 17


# --- faults --------------------------------------------------------------------

# What is done, and how the objects are afterwards. Everything is done in one process, so that
# connections are reused as in life.
def upload(place: SimpleNamespace, prefix: str, data: bytes, url: str):
    large = write(place.dir / "large", data)
    small = write(place.dir / "small", b"small")
    t = Tool(url.replace(place.prefix, prefix), place.dir, **KEYS)
    return t, t.run("put", "large", large, "put", "small", small, "put-new", "manifest",
                    write(place.dir / "manifest", b"manifest of " + prefix.encode()),
                    "stat", "manifest", "list", "", "remove", "nothing")


def assert_whole(place: SimpleNamespace, t: Tool, prefix: str, data: bytes) -> None:
    back = place.dir / "back"
    for key, want in (("large", data), ("small", b"small"),
                      ("manifest", b"manifest of " + prefix.encode())):
        t.good("get", key, back)
        assert back.read_bytes() == want
    lines = t.good("list", "").splitlines()
    # Where its removal was refused, the trial object of the check for conditional writes is left.
    assert [line for line in lines if not line.startswith("probe/")] == [
        f"large {len(data)}", f"manifest {12 + len(prefix)}", "small 5"]


# Of these the client must get over by itself.
PASSING = {"drop", "drop-after", "reset-after", "delay", "500", "500-after", "503", "truncate",
           "flip-sent", "etag", "skew"}


@pytest.mark.parametrize("fault", [f for f in FAULTS if f != "flip-got"])
def test_uploads_survive(place: SimpleNamespace, fault: str) -> None:
    data = os.urandom(LARGE)
    place.proxy.delay = 2.5
    t, result = upload(place, place.prefix + "-plain", data, place.url())
    assert result.code == 0, result
    count = len(place.proxy.log)
    assert count >= 8
    for number in range(1, count + 1):
        prefix = f"{place.prefix}-{number}"
        place.proxy.reset({number: fault})
        t, result = upload(place, prefix, data, place.url())
        log = "\n".join(place.proxy.log)
        place.proxy.reset()
        assert result.code == 0 or fault not in PASSING, f"{number}: {result}\n{log}"
        if result.code == 0:
            assert_whole(place, t, prefix, data)
            continue
        assert result.error and result.fault, result
        if fault == "403":
            assert result.fault == "denied" and "s3:" in result.remedy
        # Whatever was left, the same again works.
        t, result = upload(place, prefix + "-again", data, place.url())
        assert result.code == 0


@pytest.mark.parametrize("fault", [f for f in FAULTS if f not in ("flip-sent", "flip-got")])
def test_downloads_survive(place: SimpleNamespace, fault: str) -> None:
    """A flipped bit in what was read is for the checkpoint's own digests to find (store/)."""
    t, d = place.tool, place.dir
    data = os.urandom(3 << 20)
    place.proxy.delay = 2.5
    t.good("put", "large", write(d / "large", data))
    for number in (1, 2, 3):  # the size, the data, and none
        place.proxy.reset({number: fault})
        result = t.run("stat", "large", "get", "large", d / "back")
        if fault == "403" and number < 3:
            assert result.fault == "denied" and "s3:GetObject" in result.remedy
        else:
            assert result.code == 0, result
            assert (d / "back").read_bytes() == data
        (d / "back").unlink(missing_ok=True)


def test_what_broke_off_goes_on_where_it_ended(place: SimpleNamespace) -> None:
    t, d = place.tool, place.dir
    data = os.urandom(3 << 20)
    t.good("put", "large", write(d / "large", data))
    place.proxy.reset({1: "truncate", 2: "truncate"})
    assert t.run("read", "large", "0", str(len(data))).out == data
    assert [head["range"] for head in place.proxy.heads] == [
        f"bytes={first}-{len(data) - 1}" for first in (0, 3 << 19, 9 << 18)]
    # Replaced in between, with the same size: from the start, and all of one kind.
    other = os.urandom(3 << 20)

    def replace(method: str, target: str) -> None:
        if method == "GET" and len(place.proxy.log) == 2:
            place.server.put(target.removeprefix("/bucket/"), other)

    place.proxy.hook = replace
    place.proxy.reset({1: "truncate"})
    assert t.run("read", "large", "0", str(len(data))).out == other


def test_a_whole_object_is_one_request(place: SimpleNamespace) -> None:
    t, d = place.tool, place.dir
    t.good("put", "a", write(d / "a", b"abc"), "put", "empty", "/dev/null")
    place.proxy.reset({1: "truncate"})
    t.good("get", "a", d / "back", "get", "empty", d / "back2")
    assert (d / "back").read_bytes() == b"abc" and (d / "back2").read_bytes() == b""
    assert [line.split()[0] for line in place.proxy.log] == ["GET"] * 3
    assert t.run("get", "none", d / "back").code == 2


def test_a_server_without_ranges(tmp_path: Path) -> None:
    with double(lambda request, body: (200, b"0123456789")) as port:
        t = Tool(f"s3://bucket?endpoint=http://127.0.0.1:{port}&region=x&timeout=1", tmp_path, **KEYS)
        assert t.good("read", "a", "0", "10") == "0123456789"


@pytest.mark.parametrize("fault", ["drop", "503"])
def test_what_does_not_pass_is_given_up(place: SimpleNamespace, fault: str) -> None:
    place.proxy.reset({"all": fault})
    result = place.tool.run("stat", "x")
    assert result.fault == "unavailable" and "10 tries" in result.error, result
    assert len(place.proxy.log) == 10
    assert result.seconds > 3  # with waits between


# --- stalls, with the timeout that stores have in life -----------------------------

SHORT = 4  # how long the first try of a small request waits


def patient(place: SimpleNamespace, delay: float) -> Tool:
    place.proxy.delay = delay
    return Tool(place.url().replace("timeout=1", "timeout=30"), place.dir, **KEYS)


def test_a_small_request_that_stalls_costs_seconds(place: SimpleNamespace) -> None:
    t, d = patient(place, 15), place.dir
    small = write(d / "small", b"small")
    for key in ("a", "b", "c", "d"):
        place.tool.good("put", key, small)
    stalled: set[str] = set()

    def plan(line: str, _: object) -> str | None:
        first = line not in stalled
        stalled.add(line)
        return "delay" if first else None

    place.proxy.reset(plan)
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda words: t.run(*words), (
            ("stat", "a"), ("read", "b", "0", "5"), ("get", "c", d / "back"), ("list", "x/"),
            ("remove", "d"), ("put", "e", small))))
    for result in results:
        assert result.code == 0 and SHORT - 0.5 < result.seconds < 14, result
    assert len(place.proxy.log) == 2 * len(results)


@pytest.mark.parametrize("fault", ["delay", "delay-after", "late"])
def test_a_commit_that_stalls_is_known_for_ours(place: SimpleNamespace, fault: str) -> None:
    t, file = patient(place, 12), write(place.dir / "file", os.urandom(1000))
    place.proxy.reset({r"PUT .*/m$": fault})
    result = t.run("put-new", "m", file)
    assert result.code == 0 and SHORT - 0.5 < result.seconds < 11, result
    if fault == "late":  # after the second, by which it is there
        wait_for("the first", lambda: place.proxy.late)
        assert place.proxy.late == [412]
    t.good("get", "m", place.dir / "back")
    assert (place.dir / "back").read_bytes() == file.read_bytes()
    assert t.run("put-new", "m", "/dev/null").code == 17


@pytest.mark.parametrize("fault", ["delay", "late"])
def test_a_commit_that_stalls_loses_to_another(place: SimpleNamespace, fault: str) -> None:
    t, file = patient(place, 12), write(place.dir / "file", b"ours")
    place.proxy.reset({r"PUT .*/m$": fault})
    with ThreadPoolExecutor() as pool:
        ours = pool.submit(t.run, "put-new", "m", file)
        wait_for("our try", lambda: any(line.endswith("/m") for line in place.proxy.log))
        place.server.put(f"{place.prefix}/m", b"them")
        assert ours.result().code == 17
    if fault == "late":
        wait_for("the first", lambda: place.proxy.late)
        assert place.proxy.late == [412]
    assert t.good("read", "m", "0", "4") == "them"


def test_a_large_body_that_nobody_takes_costs_seconds(place: SimpleNamespace) -> None:
    """The kernel sees it; libcurl would wait for the whole timeout."""
    t, file = patient(place, 28), write(place.dir / "file", os.urandom(4 * LARGE))
    place.proxy.reset({r"PUT .*/a$": "deaf"})
    result = t.run("put", "a", file)
    assert result.code == 0 and 9 < result.seconds < 20, result
    t.good("get", "a", place.dir / "back")
    assert (place.dir / "back").read_bytes() == file.read_bytes()


# --- clocks, credentials, permissions ------------------------------------------


@pytest.mark.parametrize("minutes", [-20, 20])
def test_a_wrong_clock_is_learnt_from_the_server(place: SimpleNamespace, minutes: int) -> None:
    place.proxy.set_clock(minutes * 60)
    small = write(place.dir / "small", b"x")
    place.tool.good("put", "a", small, "stat", "a", "read", "a", "0", "1", "remove", "a")
    assert len(place.proxy.log) == 5  # one more than asked for
    place.proxy.reset()
    place.tool.good("list", "", "list", "")
    assert place.tool.run("stat", "a").code == 2  # HEAD, whose answer has no words
    place.proxy.set_clock(0)


def set_keys(place: SimpleNamespace, keys: dict[str, tuple[str, str]]) -> None:
    place.proxy.keys = keys
    if place.server.own:
        place.server.upstream.ask(keys={access: secret for access, (secret, _) in keys.items()})


@contextlib.contextmanager
def role(place: SimpleNamespace, imds: Imds) -> Iterator[Tool]:
    with double(imds) as port:
        yield Tool(place.url(), place.dir, AWS_EC2_METADATA_DISABLED="false",
                   AWS_EC2_METADATA_SERVICE_ENDPOINT=f"http://127.0.0.1:{port}")


def test_the_machines_role_is_used(place: SimpleNamespace) -> None:
    imds = Imds()
    set_keys(place, dict([imds.key(1)]))
    with role(place, imds) as t:
        t.good("list", "", "list", "")
    assert imds.fetched == 1


def test_roles_are_fetched_again_before_they_expire(place: SimpleNamespace) -> None:
    imds = Imds(lifetime=60)
    set_keys(place, dict([imds.key(1), imds.key(2)]))
    with role(place, imds) as t:
        t.good("list", "", "list", "")
    assert imds.fetched == 2


def test_refused_tokens_are_fetched_again(place: SimpleNamespace) -> None:
    imds = Imds()
    set_keys(place, dict([imds.key(1), imds.key(2)]))
    seen: list[str] = []

    def expire(method: str, target: str):
        seen.append(target)
        return (400, error_xml("ExpiredToken")) if len(seen) == 1 else None

    place.proxy.hook = expire
    with role(place, imds) as t:
        t.good("list", "")
    assert imds.fetched == 2


def test_a_container_has_credentials_of_its_own(place: SimpleNamespace) -> None:
    def answer(request, _):
        if request.headers.get("Authorization") != "pod-token":
            return 401, b""
        return 200, json.dumps({"AccessKeyId": "ASIAPOD", "SecretAccessKey": "s", "Token": "t",
                                "Expiration": "2199-01-01T00:00:00Z"}).encode()

    set_keys(place, {"ASIAPOD": ("s", "t")})
    token = write(place.dir / "token", b"pod-token\n")
    with double(answer) as port:
        env = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{port}/v1/credentials",
               "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token)}
        Tool(place.url(), place.dir, **env).good("list", "")
        token.write_bytes(b"wrong")
        result = Tool(place.url(), place.dir, **env).run("list", "")
    assert result.fault == "denied" and "the container's credentials" in result.error


def test_profiles_are_read(place: SimpleNamespace) -> None:
    (place.dir / ".aws").mkdir()
    write(place.dir / ".aws" / "credentials",
          f"[work]\naws_access_key_id = {ACCESS}\naws_secret_access_key = {SECRET}\n".encode())
    Tool(place.url("&profile=work"), place.dir).good("list", "")
    result = Tool(place.url(), place.dir).run("list", "")
    assert result.error == "no credentials for S3" and ".aws/credentials" in result.remedy


@pytest.mark.parametrize("words, names", [
    (["stat", "x"], ["bucket nosuch does not exist"]),
    (["list", ""], ["bucket nosuch does not exist"]),
    (["read", "x", "0", "1"], ["bucket nosuch does not exist"]),
    (["put", "x", "/dev/null"], ["bucket nosuch does not exist"]),
])
def test_a_missing_bucket_is_named(place: SimpleNamespace, words: list[str],
                                   names: list[str]) -> None:
    result = Tool(place.url(bucket="nosuch"), place.dir, **KEYS).run(*words)
    assert all(n in result.error for n in names), result
    assert result.fault == "bad-input" and "create the bucket" in result.remedy


def test_a_bucket_that_goes_is_not_an_empty_one(place: SimpleNamespace) -> None:
    """Nor is a bucket that refuses us, nor a server that is none of S3's: only what answers as S3
    does may say that an object is missing."""
    gone = (404, error_xml("NoSuchBucket"))
    for answer, fault in ((gone, "bad-input"), ((403, error_xml("AccessDenied")), "denied"),
                          ((404, b"<html>not found</html>"), "internal"), ((404, b""), "internal")):
        place.proxy.hook = lambda method, target, answer=answer: answer
        for words in (["stat", "x"], ["read", "x", "0", "1"], ["get", "x", place.dir / "x"],
                      ["remove", "x"], ["list", ""], ["list", "a/"], ["put", "x", "/dev/null"]):
            result = place.tool.run(*words)
            assert (result.code, result.fault) == (1, fault), (words, answer, result)
    place.proxy.hook = None
    assert place.tool.run("stat", "x").code == 2


def test_a_web_server_is_not_an_empty_bucket(tmp_path: Path) -> None:
    def web(request, _):
        return (200, b"<html>hello</html>") if request.path.startswith("/bucket?") else (404, b"")

    with double(web) as port:
        t = Tool(f"s3://bucket?endpoint=http://127.0.0.1:{port}&region=x&timeout=1", tmp_path, **KEYS)
        for words in (["stat", "x"], ["read", "x", "0", "1"], ["remove", "x"]):
            result = t.run(*words)
            assert "does not answer as an S3 server" in result.error, result
        assert t.run("list", "").fault == "corrupt"


def test_permissions_are_named(place: SimpleNamespace) -> None:
    def no_list(method: str, target: str):
        return (403, error_xml("AccessDenied")) if "list-type" in target else None

    place.proxy.hook = no_list
    result = place.tool.run("list", "")
    assert result.fault == "denied" and "allow s3:ListBucket on bucket bucket" in result.remedy
    place.tool.good("put", "x", "/dev/null", "stat", "x", "remove", "x")
    assert place.tool.run("stat", "x").code == 2


def test_wrong_keys_are_named(place: SimpleNamespace) -> None:
    result = place.tool.run("list", "", AWS_SECRET_ACCESS_KEY="other")
    assert "does not accept our signature" in result.error and result.fault == "denied"
    place.proxy.complaints.clear()
    result = place.tool.run("list", "", AWS_ACCESS_KEY_ID="other")
    assert "does not know our access key" in result.error


def test_certificates_are_checked(place: SimpleNamespace) -> None:
    cert, key = place.dir / "cert.pem", place.dir / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-keyout", key, "-out",
                    cert, "-subj", "/CN=s3", "-addext", "subjectAltName=IP:127.0.0.1"],
                   check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with FaultProxy(place.server.upstream, place.proxy.keys,
                    checks=not place.server.own) as proxy:
        proxy.server.socket = context.wrap_socket(proxy.server.socket, server_side=True)
        url = f"s3://bucket/tls?endpoint=https://127.0.0.1:{proxy.port}&region=x"
        Tool(f"{url}&ca={cert}", place.dir, **KEYS).good("list", "")
        result = Tool(url, place.dir, **KEYS).run("list", "")
        assert "certificate" in result.error and "ca of store.url" in result.remedy
        assert "(1 tries)" in result.error
