# SPDX-License-Identifier: Apache-2.0
"""A node that listens to what a cloud's double says of its machine, and what it has heard."""
import pathlib
import tempfile
import time

import pytest

import metadata
from nodekit import Node, wait_for


@pytest.fixture(name="place")
def place_fixture():
    with tempfile.TemporaryDirectory(prefix="notices-", dir="/var/lib/elsa") as place:
        yield pathlib.Path(place)


@pytest.fixture(name="make_node")
def make_node_fixture(place):
    """A node that is not started, with these lines under [node]."""
    made = []

    def make_node(lines, interval="100ms", more=""):
        node = Node(place / str(len(made)))
        node.write_config(more, f'{lines}\nnotice_interval = "{interval}"')
        made.append(node)
        return node

    yield make_node
    for node in made:
        node.teardown()


@pytest.fixture(name="aws")
def aws_fixture():
    with metadata.Aws() as double:
        yield double


@pytest.fixture(name="gcp")
def gcp_fixture():
    with metadata.Gcp() as double:
        yield double


@pytest.fixture(name="azure")
def azure_fixture():
    with metadata.Azure() as double:
        yield double


def listen(make_node, cloud, double, **options):
    return make_node(f'notices = "{cloud}"\nmetadata_url = "{double.url}"', **options).start()


def notices(node):
    return node.get("/v1/node").get("notices", [])


def has(node, *kinds):
    """Exactly these are present; the list, or False."""
    def look():
        found = notices(node)
        return sorted(n["kind"] for n in found) == sorted(kinds) and (found or True)
    return wait_for(look)


def is_after(notice, told, seconds):
    """The notice is for so long after it was given; clouds say that in whole seconds."""
    return told + seconds - 1 <= notice["at"] / 1000 <= time.time() + seconds


def said(node, text):
    return node.log.read_text().count(text)


def rounds(double, count=3, end="spot/instance-action"):
    """Until it has been asked so often again."""
    before = double.count(end)
    wait_for(lambda: double.count(end) >= before + count)
