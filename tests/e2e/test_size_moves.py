# SPDX-License-Identifier: Apache-2.0
"""A larger size for a session whose node has no room for it."""

from __future__ import annotations

from clusterkit import Cluster
from movekit import options

import pytest

pytestmark = pytest.mark.timeout(300)

MIB = 1 << 20
CLASSES = [{"name": "small", "memory": "500M"}, {"name": "large", "memory": "1500M"}]


def test_moves_to_where_there_is_room(tmp_path):
    settings = options(session={"memory": "500M"}, size={"class": CLASSES})
    with Cluster(nodes=("tight",), local=False, options=settings,
                 node_options={"tight": {"node": {"memory": "900M"}}}) as cluster:
        ada = cluster.hub.browser("ada").log_in()
        ada.start_server()
        kernel = ada.new_kernel()
        kernel.run("x = 41")
        told = cluster.elsa("resize", "ada", "large").stdout
        assert "no room" in told and "when it wakes next" in told, told
        session = cluster.api.session("ada")
        assert (session["node"], session["memory_limit"]) == ("tight", 500 * MIB)

        cluster.add("wide")
        told = cluster.elsa("resize", "ada", "large").stdout
        assert "moves to one that has" in told, told
        cluster.wait("it to have moved", lambda: (
            (now := cluster.api.session("ada"))["node"] == "wide" and now["state"] == "running"))
        status = cluster.nodes["wide"].sessions()[session["id"]]
        assert status["memory_limit"] == 1500 * MIB, status
        assert kernel.value("print(x)") == 41
