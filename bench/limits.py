# SPDX-License-Identifier: Apache-2.0
"""What this machine can do at most, for reading the other figures: each on one core, 1 GiB or a second."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
import time
from pathlib import Path

import numpy as np

GIB = 1 << 30


def rate(count: int, begin: float) -> float:
    """GB/s since `begin`."""
    return count / (time.monotonic() - begin) / 1e9


def memcpy() -> float:
    source = np.ones(GIB // 8)
    target = np.zeros_like(source)
    begin = time.monotonic()
    np.copyto(target, source)
    return rate(GIB, begin)


def disk(directory: Path) -> float:
    """Written and durable."""
    data = os.urandom(16 << 20)
    path = directory / "disk"
    os.sync()
    begin = time.monotonic()
    with open(path, "wb", buffering=0) as file:
        for _ in range(GIB // len(data)):
            file.write(data)
        os.fdatasync(file.fileno())
    found = rate(GIB, begin)
    path.unlink()
    return found


def loopback() -> float:
    data = bytes(1 << 20)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def send() -> None:
            with socket.create_connection(listener.getsockname()) as out:
                for _ in range(GIB // len(data)):
                    out.sendall(data)

        sender = threading.Thread(target=send)
        sender.start()
        come, _ = listener.accept()
        room = bytearray(1 << 20)
        begin = time.monotonic()
        with come:
            while come.recv_into(room):
                pass
        found = rate(GIB, begin)
        sender.join()
    return found


def aes() -> float:
    """AES-256-GCM in pieces of 64 KiB."""
    said = subprocess.run(["openssl", "speed", "-mr", "-seconds", "1", "-bytes", "65536", "-evp",
                           "aes-256-gcm"], capture_output=True, text=True, check=True).stdout
    return float(re.search(r"^\+F:.*:([\d.]+)$", said, re.M)[1]) / 1e9


def zstd(directory: Path) -> float:
    """Level 1 over programs and libraries, which shrink to less than half."""
    path = directory / "zstd"
    libraries = sorted(Path("/usr/lib").glob("*-linux-gnu/lib*.so.*"))
    with open(path, "wb") as file:
        for library in libraries:
            if file.tell() < 64 << 20 and library.is_file():
                file.write(library.read_bytes())
    said = subprocess.run(["zstd", "-b1", "-i1", "--single-thread", "-q", str(path)],
                          capture_output=True, text=True, check=True)
    path.unlink()
    return float(re.search(r"([\d.]+) MB/s", said.stdout + said.stderr)[1]) / 1e3


def measure(report, directory: Path) -> None:
    report.plain("limit_memcpy", memcpy(), "GB/s")
    report.plain("limit_disk", disk(directory), "GB/s")
    report.plain("limit_loopback", loopback(), "GB/s")
    report.plain("limit_aes_gcm", aes(), "GB/s")
    report.plain("limit_zstd_1", zstd(directory), "GB/s")
