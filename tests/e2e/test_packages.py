# SPDX-License-Identifier: Apache-2.0
"""The Debian packages: what is in them, and that they install, run, upgrade and go."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest
from basekit import BUILD, CHECKOUT

PROGRAMS = {"usr/bin/elsa", "usr/sbin/elsad", "usr/sbin/elsa-node"}
PAGES = ["elsa.1", "elsa.toml.5", "elsad.8", "elsa-node.8"]
# The version of what replaces the one built.
NEWER = "9.9"


def needs(*programs):
    missing = [program for program in programs if not shutil.which(program)]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {' '.join(missing)}")


def run(*argv, **options):
    done = subprocess.run(
        [str(word) for word in argv],
        capture_output=True,
        text=True,
        check=False,
        timeout=options.pop("seconds", 120),
        **options,
    )
    return done


def good(*argv, **options):
    done = run(*argv, **options)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


def build(to, *settings):
    if not (BUILD / "CPackConfig.cmake").is_file():
        pytest.skip(f"{BUILD} was not configured for packages")
    good("cpack", "--config", BUILD / "CPackConfig.cmake", "-B", to, *settings)
    return {good("dpkg-deb", "-f", path, "Package").strip(): path for path in to.glob("*.deb")}


@pytest.fixture(scope="module")
def scratch():
    # Overlays cannot be stacked: on disk, not below /tmp or /root.
    top = Path("/var/lib/elsa")
    path = Path(tempfile.mkdtemp(prefix="packages-", dir=top if top.is_dir() else None))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def packages(scratch):
    return build(scratch / "built")


@pytest.fixture(scope="module")
def unpacked(packages, scratch):
    places = {}
    for name, path in packages.items():
        places[name] = scratch / name
        good("dpkg-deb", "-x", path, places[name])
    return places


pytestmark = needs("cpack", "dpkg-deb", "dpkg-shlibdeps", "file")


def files(place):
    return {str(path.relative_to(place)) for path in place.rglob("*") if not path.is_dir()}


def field(package, name):
    return good("dpkg-deb", "-f", package, name).strip()


# --- what is in them ------------------------------------------------------------------------------


def test_contents(unpacked):
    assert set(unpacked) == {"elsa", "python3-elsa-spawner"}
    elsa = files(unpacked["elsa"])
    assert PROGRAMS <= elsa
    assert {
        "etc/elsa/elsa.toml",
        "usr/lib/systemd/system/elsad.service",
        "usr/lib/systemd/system/elsa-node.service",
        "usr/lib/systemd/logind.conf.d/elsa.conf",
        "usr/lib/sysusers.d/elsa.conf",
        "usr/libexec/elsa/elsa-criu.so",
        "usr/libexec/elsa/elsa-guard",
        "usr/libexec/elsa/elsa-init",
        "usr/share/bash-completion/completions/elsa",
        "usr/share/doc/elsa/config.example.toml",
        "usr/share/doc/elsa/operations.md",
        "usr/share/doc/elsa/copyright",
        *(f"usr/share/man/man{page[-1]}/{page}" for page in PAGES),
    } <= elsa
    spawner = files(unpacked["python3-elsa-spawner"])
    source = CHECKOUT / "spawner" / "elsa_spawner"
    there = "usr/lib/python3/dist-packages/elsa_spawner/"
    assert {path.removeprefix(there) for path in spawner if path.startswith(there)} == {
        str(path.relative_to(source)) for path in source.rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"}
    assert "etc/jupyter/jupyter_server_config.d/elsa_spawner.json" in spawner
    # Nothing of the machine it was built on, nothing of tests.
    for path in elsa | spawner:
        assert path.startswith(("etc/", "usr/")), path
        assert not re.search(r"__pycache__|/tests?/|\.pyc$", path), path


def test_everything_is_roots_and_nobody_elses_to_write(packages):
    for package in packages.values():
        for line in good("dpkg-deb", "-c", package).splitlines():
            mode, owner, *_ = line.split()
            assert owner == "root/root", line
            assert mode[5] == "-" and mode[8] == "-" and "s" not in mode, line


def test_control(packages):
    elsa, spawner = packages["elsa"], packages["python3-elsa-spawner"]
    depends = field(elsa, "Depends")
    for name in "criu (>= 4.1)", "iproute2", "nftables", "systemd", "libc6", "libevent":
        assert name in depends, depends
    assert field(elsa, "Architecture") == good("dpkg", "--print-architecture").strip()
    assert field(elsa, "Conffiles") == ""  # control has them in a file
    assert good("dpkg-deb", "-I", elsa, "conffiles").split() == ["/etc/elsa/elsa.toml"]
    assert "python3-aiohttp" in field(spawner, "Depends")
    assert "jupyterhub" in field(spawner, "Recommends")
    assert field(spawner, "Architecture") == "all"
    project = tomllib.loads((CHECKOUT / "spawner" / "pyproject.toml").read_text())["project"]
    assert field(spawner, "Version") == field(elsa, "Version") == project["version"]
    for package in elsa, spawner:
        summary, *text = field(package, "Description").splitlines()
        assert len(summary) < 80 and not summary.endswith(".")
        assert all(re.match(r" [^ ]", line) for line in text), text


@needs("dash")
def test_maintainer_scripts_are_shell(packages, scratch):
    for name, package in packages.items():
        control = scratch / f"{name}.control"
        good("dpkg-deb", "-e", package, control)
        for script in "postinst", "prerm", "postrm":
            path = control / script
            if path.exists():
                assert path.read_text().startswith("#!/bin/sh\n")
                assert os.access(path, os.X_OK)
                good("dash", "-n", path)


@needs("systemd-analyze")
def test_units(unpacked, scratch):
    """systemd-analyze wants the programs to be there: the units name the unpacked ones here."""
    units = scratch / "units"
    units.mkdir()
    place = unpacked["elsa"]
    for path in (place / "usr/lib/systemd/system").iterdir():
        text = path.read_text()
        for program in re.findall(r"^Exec\w+=(\S+)", text, re.M):
            assert (place / program.lstrip("/")).exists() or Path(program).exists(), program
        text = text.replace("/usr/sbin/", f"{place}/usr/sbin/")
        # Pages are looked up with man(1), which is not everywhere.
        (units / path.name).write_text(re.sub(r"^Documentation=.*\n", "", text, flags=re.M))
    done = run("systemd-analyze", "verify", *units.iterdir())
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr


def test_units_keep_elsad_and_elsa_node_apart(unpacked):
    """elsad is no root: what it writes is in its own directories, which the defaults name."""
    unit = (unpacked["elsa"] / "usr/lib/systemd/system/elsad.service").read_text()
    settings = dict(re.findall(r"^(\w+)=(.*)$", unit, re.M))
    shown = tomllib.loads(good(BUILD / "elsa", "config", "show", unpacked["elsa"] / "etc/elsa/elsa.toml"))
    controller, node = shown["controller"], shown["node"]
    assert Path(controller["socket"]).parent == Path("/run") / settings["RuntimeDirectory"]
    assert Path(controller["database"]).parent == Path("/var/lib") / settings["StateDirectory"]
    assert settings["User"] == node["allowed_user"] == "elsa"
    unit = (unpacked["elsa"] / "usr/lib/systemd/system/elsa-node.service").read_text()
    settings = dict(re.findall(r"^(\w+)=(.*)$", unit, re.M))
    assert "User" not in settings
    assert Path(node["socket"]).parent == Path("/run") / settings["RuntimeDirectory"]
    assert Path(node["state_dir"]) == Path("/var/lib") / settings["StateDirectory"]
    sysusers = (unpacked["elsa"] / "usr/lib/sysusers.d/elsa.conf").read_text()
    assert re.search(r"^u elsa ", sysusers, re.M)


# What a process inherits would be on every session, and be saved with its checkpoint.
INHERITED = (
    "LockPersonality|Restrict|SystemCall|NoNewPrivileges|MemoryDeny|Protect|Private"
    "|Nice|CPUScheduling|IOScheduling|UMask|AppArmor|SELinux|Capability|Environment"
)


def test_sessions_inherit_nothing_of_the_units(unpacked):
    unit = (unpacked["elsa"] / "usr/lib/systemd/system/elsa-node.service").read_text()
    assert not re.findall(rf"^(?:{INHERITED})\w*=.*$", unit, re.M)


# --- manual pages ---------------------------------------------------------------------------------


def test_the_page_of_the_options_is_up_to_date():
    made = good(
        sys.executable,
        CHECKOUT / "packaging/man/make_toml_page.py",
        CHECKOUT / "config.example.toml",
    )
    assert made == (CHECKOUT / "packaging/man/elsa.toml.5").read_text()


@needs("mandoc")
@pytest.mark.parametrize("page", PAGES)
def test_pages(page):
    path = CHECKOUT / "packaging/man" / page
    done = run("mandoc", "-Tlint", "-Wwarning", path)
    assert done.returncode == 0, done.stdout
    name = page.rsplit(".", 1)[0]
    assert name.upper() in good("mandoc", "-Tascii", path)


@pytest.mark.parametrize("program", ["elsad", "elsa-node"])
def test_pages_tell_of_every_option(program):
    text = (CHECKOUT / f"packaging/man/{program}.8").read_text()
    done = run(BUILD / program, "--help")
    # Those for tests are not for operators.
    options = set(re.findall(r"--([a-z-]+)", done.stdout)) - {"fault", "list-steps"}
    assert options
    for option in options:
        assert f"Fl -{option}" in text, option


# --- installing -----------------------------------------------------------------------------------


class Root:
    """This machine's own file system with a layer of our own on top."""

    def __init__(self, scratch):
        for name in "upper", "work", "root":
            (scratch / name).mkdir()
        self.path = scratch / "root"
        layers = f"lowerdir=/,upperdir={scratch / 'upper'},workdir={scratch / 'work'}"
        self.mounted = run("mount", "-t", "overlay", "-o", layers, "overlay", self.path)
        self.mounts = [self.path]

    def open(self):
        if self.mounted.returncode != 0:
            pytest.skip(f"no overlay can be made here: {self.mounted.stderr.strip()}")
        if not (self.path / "var/lib/dpkg/status").exists():
            pytest.skip("the root has no record of packages")
        for name in "proc", "dev":
            (self.path / name).mkdir(exist_ok=True)
        self.mount("-t", "proc", "proc", self.path / "proc")
        self.mount("--rbind", "/dev", self.path / "dev")
        # No systemd runs in here, whatever runs around it.
        self.mount("-t", "tmpfs", "tmpfs", self.path / "run")
        return self

    def mount(self, *argv):
        good("mount", *argv)
        self.mounts.append(argv[-1])

    def close(self):
        while self.mounts:
            run("umount", "-l", self.mounts.pop())

    def run(self, *argv):
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}
        return run("chroot", self.path, *argv, env=env | {"LC_ALL": "C.UTF-8"})

    def good(self, *argv):
        done = self.run(*argv)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def install(self, *packages):
        for package in packages:
            shutil.copy(package, self.path / "root")
        return self.good("dpkg", "-i", *(f"/root/{package.name}" for package in packages))

    def has_all_but_ours(self, package):
        """What the package depends on is installed here."""
        wanted = re.findall(r"(?:^|, )([a-z0-9.+-]+)", field(package, "Depends"))
        query = self.run("dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *wanted)
        there = {line.split()[0] for line in query.stdout.splitlines() if " installed" in line}
        return set(wanted) - there


@pytest.fixture(scope="module")
def root(packages, scratch):
    if os.geteuid() != 0:
        pytest.skip("needs root to install packages")
    place = Root(scratch)
    try:
        place.open()
        missing = place.has_all_but_ours(packages["elsa"])
        if missing:
            pytest.skip(f"not installed: {' '.join(sorted(missing))}")
        place.install(*packages.values())
        yield place
    finally:
        place.close()


def test_installed_programs_run(root):
    for program in "elsa", "elsad", "elsa-node":
        assert root.good(program, "--version").split()[0] == program
    assert "good" in root.good("elsa", "config", "check")
    for program in "elsad", "elsa-node":
        root.good(program, "--check")
    done = root.run("elsa", "sessions")
    assert done.returncode == 7
    assert "systemctl start elsad" in done.stderr


def test_account(root):
    account = root.good("getent", "passwd", "elsa").strip().split(":")
    assert 0 < int(account[2]) < 1000
    assert account[6].endswith("/nologin")
    done = root.run("setpriv", "--reuid=elsa", "--regid=elsa", "--clear-groups", "elsad", "--check")
    assert done.returncode == 0, done.stderr


def test_nothing_is_started_or_enabled(root):
    enabled = list((root.path / "etc/systemd").rglob("elsa*"))
    assert not enabled


def test_the_spawner_is_found(root):
    root.good(
        "python3",
        "-c",
        "from importlib.metadata import entry_points, version\n"
        "(point,) = [p for p in entry_points(group='jupyterhub.spawners') if p.name == 'elsa']\n"
        "assert point.load().__name__ == 'ElsaSpawner'\n"
        "assert version('elsa-spawner')",
    )


def test_the_session_part_is_switched_on(root):
    """As a server looks for its extensions."""
    done = root.run(
        "python3",
        "-c",
        "from jupyter_core.paths import jupyter_config_path\n"
        "from jupyter_server.extension.config import ExtensionConfigManager\n"
        "manager = ExtensionConfigManager(read_config_path=jupyter_config_path())\n"
        "assert manager.get_jpserver_extensions()['elsa_spawner.session'] is True\n"
        "import elsa_spawner.session\n",
    )
    if "No module named 'jupyter" in done.stderr:
        pytest.skip("no jupyter server here")
    assert done.returncode == 0, done.stderr


def test_upgrade_keeps_settings(root, packages, scratch):
    config = root.path / "etc/elsa/elsa.toml"
    config.write_text('[idle]\ntimeout = "3h"\n')
    newer = build(scratch / "newer", "-D", f"CPACK_PACKAGE_VERSION={NEWER}")
    assert field(newer["elsa"], "Version") == NEWER
    root.install(newer["elsa"])
    assert "3h" in config.read_text()
    assert tomllib.loads(root.good("elsa", "config", "show"))["idle"]["timeout"] == "3h"


def test_purge_keeps_checkpoints(root):
    """Last: the package is gone afterwards."""
    store = root.path / "var/lib/elsa/store"
    store.mkdir(parents=True)
    (store / "manifest").write_text("somebody's work")
    root.good("dpkg", "-r", "elsa", "python3-elsa-spawner")
    assert (root.path / "etc/elsa/elsa.toml").exists()
    said = root.good("dpkg", "-P", "elsa", "python3-elsa-spawner")
    assert "/var/lib/elsa is kept" in said
    assert (store / "manifest").exists()
    assert not (root.path / "etc/elsa").exists()
    assert not list((root.path / "usr/lib/python3/dist-packages").glob("elsa_spawner*"))
    assert not list((root.path / "usr/sbin").glob("elsa*"))
