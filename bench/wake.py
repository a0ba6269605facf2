# SPDX-License-Identifier: Apache-2.0
"""wake.*: sessions that sleep or doze unseen, and how soon whoever comes is answered."""

from __future__ import annotations

import http.client
import os
import shutil
import statistics
import time

from jupyter import Server
from nodekit import Node, Session, wait_for
from sides import DIRECTORY, ROUNDS

GIB_CELL = "import numpy as np; data = np.random.rand(2**27); print(data.sum())"
CHECK_CELL = "print(data.sum(), data[12345], data[-1])"
TOKEN = "bench"
# Nothing that an open page asks by itself.
PERSON = "/static/favicon.ico"


def start_jupyter(node: Node) -> tuple[Session, Server]:
    session = Session(node, command=[
        "python3", "-m", "jupyter_server", "--ServerApp.ip=0.0.0.0", "--ServerApp.port=8888",
        f"--IdentityProvider.token={TOKEN}", "--ServerApp.open_browser=False",
        "--ServerApp.allow_remote_access=True"])
    node.done("start", session)
    server = Server(session.address, session.port, TOKEN)
    server.wait_answer()
    server.start_kernel()
    return session, server


def fall_into_doze(node: Node, session: Session) -> None:
    """As soon as its server has read all that the last round has sent."""
    def done() -> bool:
        result = node.effect("doze", session)
        if result["state"] == "failed" and result["fault"] != "conflict":
            raise RuntimeError(result["text"])
        return result["state"] == "done"
    wait_for(done, 120, 0.5)


def first_answer(session: Session) -> float:
    begun = time.monotonic()
    connection = http.client.HTTPConnection(session.address, session.port, timeout=60)
    connection.request("GET", PERSON, headers={"Authorization": f"token {TOKEN}"})
    connection.getresponse().read()
    connection.close()
    return time.monotonic() - begun


def doze(report, node: Node) -> None:
    session, server = start_jupyter(node)
    server.execute(GIB_CELL)
    truth = server.execute(CHECK_CELL)
    answers, left = [], []
    for n in range(ROUNDS + 1):  # the first brings into page cache what others had
        before = node.sessions()[session.id]
        fall_into_doze(node, session)
        dozing = node.sessions()[session.id]
        answer = first_answer(session)
        status = wait_for(lambda: not (now := node.sessions()[session.id])["dozing"] and now)
        report.progress(f"round {n}: {before['rss_bytes'] >> 20} MiB, dozing "
                        f"{dozing['rss_bytes'] >> 20} MiB, answered in {answer * 1000:.1f} ms, "
                        f"then {status['rss_bytes'] >> 20} MiB")
        if server.execute(CHECK_CELL) != truth:
            raise RuntimeError("another memory than before")
        if n:
            answers.append(answer)
            left.append(dozing["rss_bytes"] / before["rss_bytes"])
    report.at_most("doze_first_answer_1gib", statistics.median(answers), 0.02, "s")
    report.at_most("doze_left_in_memory_1gib", statistics.median(left) * 100, 5, "%")
    node.done("stop", session)


def measure(report) -> None:
    place = DIRECTORY / "node"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    os.chmod(place, 0o755)
    node = Node(place).start()
    try:
        doze(report, node)
    finally:
        node.teardown()
        shutil.rmtree(place, ignore_errors=True)
