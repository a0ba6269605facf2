# SPDX-License-Identifier: Apache-2.0
"""`elsa trace` and `elsa simulate`, which need no hub, no elsad and no root."""

from __future__ import annotations

import json
import os
import re
import resource
import sqlite3
import subprocess

import pytest
from basekit import BUILD, CHECKOUT
from jupyterhub import orm
from sqlalchemy import create_engine

ELSA = str(BUILD / "elsa")
WAYS = ["always-on", "cull", "cull-spot", "prototype", "elsa"]
HEAD = "elsa-trace 1\nbegin 2026-01-05T00:00:00Z\nuser ada\npool spot-a\n"


def run(*arguments, stdin="", **options):
    return subprocess.run([ELSA, *map(str, arguments)], input=stdin, capture_output=True, text=True,
                          check=False, timeout=300, **options)


def good(*arguments, **options):
    done = run(*arguments, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(name="trace", scope="module")
def _trace(tmp_path_factory):
    path = tmp_path_factory.mktemp("simulate") / "small.trace"
    path.write_text(good("trace", "generate", "--users=150", "--days=21"))
    return path


def test_same_seed_same_bytes(trace, tmp_path):
    again = good("trace", "generate", "--users=150", "--days=21", "--seed=1")
    assert again == trace.read_text()
    assert good("trace", "generate", "--users=150", "--days=21", "--seed=2") != again
    pages = [tmp_path / "a.html", tmp_path / "b.html"]
    told = [good("simulate", trace, "--json", "--html", page) for page in pages]
    assert told[0] == told[1] and pages[0].read_bytes() == pages[1].read_bytes()


def test_ways_side_by_side(trace):
    found = json.loads(good("simulate", trace, "--json"))
    ways = {way["way"]: way for way in found["ways"]}
    assert list(ways) == WAYS and found["currency"] == "USD"
    for way in ways.values():
        hours = way["work_hours"]
        whole = hours["kept"] + hours["lost"] + hours["cut"] + hours["pending"]
        assert hours["asked"] == pytest.approx(whole) and hours["asked"] > 0
    ours = ways["elsa"]
    assert ours["states_lost"] == 0 and ours["hibernations"] > 100
    assert 0 < ours["wakes"]["p50_ms"] < 1000 < ways["cull"]["wakes"]["p50_ms"]
    assert ours["cost"] < ways["cull"]["cost"] < ways["always-on"]["cost"]
    assert ways["cull"]["states_lost"] == ways["cull"]["culled"] > 100
    table = good("simulate", trace).splitlines()
    assert table[0].startswith("WAY") and [line.split()[0] for line in table[1:6]] == WAYS


def test_from_a_pipe_and_page(trace, tmp_path):
    page = tmp_path / "page.html"
    told = good("simulate", "-", "--html", page, stdin=trace.read_text())
    assert told == good("simulate", trace)
    html = page.read_text()
    assert html.count("<svg") == html.count("</svg>") >= 4
    assert not re.search(r"https?://|<script|<link|<img|url\(", html)


def test_options_change_what_comes_out(trace, tmp_path):
    plain = json.loads(good("simulate", trace, "--json"))
    bench = tmp_path / "bench.json"
    bench.write_text('[{"name": "store.wake_1gib_s3_20ms", "value": 3.0, "unit": "s"}]')
    slower = json.loads(good("simulate", trace, "--json", "--bench", bench))
    assert slower["ways"][4]["wakes"]["p50_ms"] > 2900 > plain["ways"][4]["wakes"]["p50_ms"]
    assert slower["ways"][:4] == plain["ways"][:4]
    config = tmp_path / "elsa.toml"
    config.write_text('[idle]\ntimeout = "10m"\n')
    sooner = json.loads(good("simulate", trace, "--json", "--config", config))
    assert sooner["ways"][4]["awake_hours"] < plain["ways"][4]["awake_hours"]
    prices = CHECKOUT / "packaging" / "prices" / "gcp-us-central1"
    other = json.loads(good("simulate", trace, "--json", "--prices", prices))
    assert other["ways"][0]["cost"] != plain["ways"][0]["cost"]
    more = json.loads(good("simulate", trace, "--json", "--spare=100G"))
    assert more["ways"][4]["cost"] > plain["ways"][4]["cost"]
    config.write_text("[consolidation]\nenabled = true\n")
    emptied = json.loads(good("simulate", trace, "--json", "--config", config, "--spare=0"))
    beside = json.loads(good("simulate", trace, "--json", "--spare=0"))
    assert emptied["ways"][:4] == beside["ways"][:4] and "emptied" not in beside["ways"][4]
    assert emptied["ways"][4]["emptied"]["machines"] > 0 and emptied["ways"][4]["states_lost"] == 0
    assert emptied["ways"][4]["machine_hours"] < beside["ways"][4]["machine_hours"]
    bench.write_text("[]")
    assert "no figure that is used" in run("simulate", trace, "--bench", bench).stderr


CLASSES = """\
session.memory = "8G"
session.memory_most = "16G"
size.running = "%s"
[[size.class]]
name = "small"
memory = "1G"
[[size.class]]
name = "medium"
memory = "4G"
[[size.class]]
name = "large"
memory = "8G"
"""


def test_sizes(trace, tmp_path):
    """What all would cost with one size, beside; the ways without limits are as before."""
    plain = json.loads(good("simulate", trace, "--json"))
    config, page = tmp_path / "elsa.toml", tmp_path / "page.html"
    assert all("sizes" not in way for way in plain["ways"])
    for running in "keep", "lower", "move":
        config.write_text(CLASSES % running)
        words = ["simulate", trace, "--config", config, "--html", page]
        found = json.loads(good(*words, "--json"))
        assert json.loads(good(*words, "--json")) == found
        ways = {way["way"]: way for way in found["ways"]}
        assert list(ways) == [*WAYS, "one-size"] and found["ways"][:4] == plain["ways"][:4]
        ours, one = ways["elsa"], ways["one-size"]
        assert ours["cost"] < one["cost"] and ours["states_lost"] == one["states_lost"] == 0
        sizes = ours["sizes"]
        assert sizes["promised_gib_hours"] < one["sizes"]["promised_gib_hours"] / 2
        assert sizes["gib_hours"] < sizes["promised_gib_hours"]
        assert sizes["smaller"] > 0 and (sizes["lowered"] > 0) == (running != "keep")
        assert not any(one["sizes"][what] for what in ("smaller", "lowered", "larger", "moved"))
        assert "Sizes" in page.read_text() and "one-size" in page.read_text()
    assert [line.split()[0] for line in good(*words).splitlines() if line.startswith(("SIZES", "one-size"))] == [
        "one-size", "SIZES", "one-size"]
    # A config without classes changes nothing of it.
    config.write_text('[session]\nmemory = "8G"\n')
    assert json.loads(good("simulate", trace, "--json", "--config", config)) == plain


@pytest.mark.parametrize("text, told", [
    ("", "it is empty"),
    (HEAD + "5 open ada 1G\n4 busy ada 3\n9 end\n", "line 6: time goes back"),
    (HEAD + "5 open eve 1G\n9 end\n", "line 5: nobody is called so"),
    (HEAD + "5 open ada -1G\n9 end\n", "line 5: not a size"),
    (HEAD + "5 open ada 1G\n6 busy ada 1", "line 7: the trace is cut off"),
    ("elsa-trace 1\npool moon\n0 end\n", "line 2: the catalogue of prices has no pool moon"),
])
def test_bad_traces(text, told, tmp_path):
    path = tmp_path / "bad.trace"
    path.write_text(text)
    done = run("simulate", path)
    assert done.returncode == 2 and told in done.stderr and not done.stdout


def test_a_session_larger_than_any_machine_is_told_of():
    text = HEAD + "1 open ada 64G\n2 busy ada 60\n7200 end\n"
    ours = json.loads(good("simulate", "-", "--json", stdin=text))["ways"][4]
    assert ours["waiting"] == 1 and ours["work_hours"]["pending"] == pytest.approx(60 / 3600)
    assert "elsa: 1 sessions waited at the end" in good("simulate", "-", stdin=text)


def test_no_such_file(tmp_path):
    assert run("simulate", tmp_path / "none").returncode == 3
    assert run("simulate").returncode == 2
    assert run("trace", "from-hub", tmp_path / "none").returncode == 3


def test_gaps_and_overlaps():
    """Nothing is made up for a gap of weeks, and cells that overlap run one after the other."""
    text = HEAD + "0 open ada 1G\n1 busy ada 10\n2 busy ada 10\n4000000 busy ada 5\n4100000 end\n"
    for way in json.loads(good("simulate", "-", "--json", stdin=text))["ways"]:
        assert way["work_hours"]["asked"] == pytest.approx(25 / 3600), way
        assert way["work_hours"]["pending"] == 0, way
    ours = way
    assert ours["states_lost"] == 0 and ours["awake_hours"] < 4100000 / 3600 / 10


def test_a_long_trace_takes_no_more_memory(tmp_path):
    """Through a pipe; it may not hold them. ELSA_LONG=1: ten million lines."""
    count = 10_000_000 if os.environ.get("ELSA_LONG") else 1_000_000
    script = (f'echo "elsa-trace 1"; echo "user ada"; echo "0 open ada 1G"; '
              f'seq -f "%.0f busy ada 1" 1 {count}; echo "{count + 1} end"')
    limit = 200 << 20

    def bounded():
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    with subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE) as lines:
        done = subprocess.run([ELSA, "simulate", "-", "--json"], stdin=lines.stdout, check=False,
                              capture_output=True, preexec_fn=bounded, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ways"][4]["work_hours"]["asked"] == pytest.approx(count / 3600)


LOG = """\
[I 2026-01-05 09:00:00.100 JupyterHub base:1124] User ada took 3.131 seconds to start
[I 2026-01-05 09:05:00.200 JupyterHub log:192] 200 POST /hub/api/users/ada/activity (ada@10.0.0.1) 13.46ms
[I 2026-01-05 09:04:00.000 JupyterHub base:1124] User b,c:gpu took 3.1 seconds to start
Jan 05 12:00:00 hub jupyterhub[9]: [I 2026-01-05 12:00:00.000 JupyterHub base:1] User ada server took 1.0 seconds to stop
"""


def test_from_a_log(tmp_path):
    log = tmp_path / "jupyterhub.log"
    log.write_text(LOG)
    told = good("trace", "from-hub", log, "--memory=2G")
    assert told.splitlines() == [
        "elsa-trace 1", "begin 2026-01-05T09:00:00.000Z", "user u1", "0.1 open u1 2048M",
        "300.2 busy u1 300", "user u2", "300.2 open u2/s2 2048M", "10800 stop u1", "10800 end"]
    assert "ada" not in told and good("trace", "from-hub", "-", "--memory=2G", stdin=LOG) == told
    assert json.loads(good("simulate", "-", "--json", stdin=told))["sessions"] == 2
    done = run("trace", "from-hub", "-", stdin="nothing\n")
    assert done.returncode == 2 and "no line of it tells of a server" in done.stderr


def test_from_a_database(tmp_path):
    """With the tables that this JupyterHub makes."""
    path = tmp_path / "jupyterhub.sqlite"
    orm.Base.metadata.create_all(create_engine(f"sqlite:///{path}"))
    with sqlite3.connect(path) as db:
        db.executescript("""
            INSERT INTO users (id, name, cookie_id) VALUES (1, 'ada', 'a'), (2, 'bob', 'b');
            INSERT INTO spawners (id, user_id, server_id, name, started, last_activity) VALUES
                (1, 1, 7, '', '2026-01-05 09:00:00.500000', '2026-01-05 10:00:00.000000'),
                (2, 2, NULL, 'gpu', NULL, '2026-01-05 09:30:00.000000'),
                (3, 2, NULL, '', NULL, NULL);""")
    told = good("trace", "from-hub", path)
    assert told.splitlines()[2:] == [
        "user u1", "0.5 open u1 1024M", "user u2", "1800 open u2/s2 1024M", "1800 stop u2/s2",
        "3600 busy u1 0", "3600 end"]
    assert json.loads(good("simulate", "-", "--json", stdin=told))["sessions"] == 2
    path.write_bytes(path.read_bytes()[:1500])
    assert run("trace", "from-hub", path).returncode in (2, 10)
