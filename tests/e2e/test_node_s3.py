# SPDX-License-Identifier: Apache-2.0
"""Real sessions in a store on S3, with the way there broken: whatever happens, a session is running
or whole in the store, and nothing wrong is ever let run."""

from __future__ import annotations

import os
import pathlib
import tempfile

import pytest
from faultproxy import FaultProxy
from nodekit import Node, Session, wait_for
from s3kit import ACCESS, SECRET, moto, open_url

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class S3Node(Node):
    proxy_port = 0

    def write_config(self, more="", node=""):
        super().write_config(more, node)
        text = self.config.read_text().replace(
            f"file://{self.store}", f"s3://bucket/elsa?endpoint=http://127.0.0.1:{self.proxy_port}&"
            f"region=us-east-1&timeout=2")
        self.config.write_text(text)


@pytest.fixture(scope="module")
def place():
    """A node whose store is behind the proxy, and its session."""
    with pytest.MonkeyPatch.context() as patch, \
         tempfile.TemporaryDirectory(prefix="node-", dir="/var/lib/elsa") as where:
        os.chmod(where, 0o755)
        for name in [n for n in os.environ if n.lower().endswith("_proxy")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        with moto(pathlib.Path(where)) as port, FaultProxy(port, {ACCESS: (SECRET, None)}) as proxy:
            open_url(f"http://127.0.0.1:{port}/bucket", method="PUT")
            S3Node.proxy_port = proxy.port
            proxy.delay = 4.0
            node = S3Node(where).start()
            try:
                session = Session(node)
                session.start()
                yield proxy, session
            finally:
                proxy.reset()
                node.teardown()
            assert not proxy.complaints


def newest(session: Session) -> int:
    return max((c["generation"] for c in session.node.checkpoints(session) if not c["aside"]),
               default=0)


# Where the request goes, and what happens to it there.
WRITES = [(where, fault) for where in (r"PUT .*/\w+-\d+$", r"PUT .*/manifest$")
          for fault in ("delay", "403", "drop-after", "500-after", "truncate", "flip-sent", "etag")]


@pytest.mark.parametrize("where, fault", WRITES)
def test_hibernation(place: tuple[FaultProxy, Session], where: str, fault: str) -> None:
    proxy, session = place
    before = session.ask("state")
    generation = newest(session) + 1
    proxy.reset({where: fault})
    result = session.node.effect("hibernate", session, generation)
    proxy.reset()
    if result["state"] == "done":
        assert newest(session) == generation and session.processes() == set()
        session.restore(generation)
    else:
        assert result["fault"] != "none" and result["text"], result
        assert session.id in session.node.sessions()
    after = session.ask("state")
    assert (after["pid"], after["digest"]) == (before["pid"], before["digest"])


@pytest.mark.parametrize("fault", ["delay", "403", "drop", "truncate", "flip-got"])
@pytest.mark.parametrize("where", [r"GET .*/manifest$", r"GET .*/\w+-\d+$"])
def test_waking(place: tuple[FaultProxy, Session], where: str, fault: str) -> None:
    proxy, session = place
    before = session.ask("state")
    generation = newest(session) + 1
    session.hibernate(generation)
    proxy.reset({where: fault})
    result = session.node.effect("restore", session, generation)
    proxy.reset()
    if result["state"] != "done":
        assert session.processes() == set()
        assert newest(session) == generation
        session.restore(generation)
    wait_for(session.answers)
    after = session.ask("state")
    assert (after["pid"], after["digest"]) == (before["pid"], before["digest"])
