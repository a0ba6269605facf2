# SPDX-License-Identifier: Apache-2.0
"""What is in packaging/aws and packaging/gcp: whether it can be read, and is true of the code."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from basekit import BUILD, CHECKOUT

VALUES = {
    "AWS_ACCOUNT": "123456789012",
    "ELSA_REGION": "eu-west-1",
    "ELSA_CONTROLLER": "https://10.0.0.10:8443",
    "ELSA_HOMES": "10.0.0.20:/homes",
    "ELSA_PACKAGE": "s3://bucket/elsa.deb",
    "ELSA_IMAGE": "/",
    "ELSA_STORE": "s3://bucket/checkpoints?region=eu-west-1",
    "ELSA_BUCKET": "bucket",
    "ELSA_PREFIX": "checkpoints",
    "ELSA_POOL": "10.99.0.0/16",
    "ELSA_HOST_ADDRESS": "10.99.0.1",
    "ELSA_TOKEN_PARAMETER": "/elsa/join-token",
    "ELSA_KEY_PARAMETER": "/elsa/store-key",
    "ELSA_TOKEN_SECRET": "elsa-token",
    "ELSA_KEY_SECRET": "elsa-key",
    "ELSA_NODE_ROLE": "elsa-node",
    "ELSA_AMI": "ami-1",
    "ELSA_INSTANCE_TYPE": "m6i.large",
    "ELSA_SECURITY_GROUP": "sg-1",
    "ELSA_USER_DATA": "I2Nsb3VkLWNvbmZpZwo=",
    "GCP_PROJECT": "my-project",
}
AWS, GCP = CHECKOUT / "packaging/aws", CHECKOUT / "packaging/gcp"


def render(path: Path, **values: str) -> str:
    env = {"PATH": os.environ["PATH"], **(values or VALUES)}
    return subprocess.run([CHECKOUT / "packaging/cloud/render", path], env=env, check=True,
                          capture_output=True, text=True).stdout  # fmt: skip


def check_config(text: str, tmp_path: Path) -> None:
    path = tmp_path / "elsa.toml"
    path.write_text(text)
    done = subprocess.run([BUILD / "elsa", "config", "check", path], capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr


def check_shell(text: str) -> None:
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_what_is_not_set_is_said():
    with pytest.raises(subprocess.CalledProcessError) as failure:
        render(AWS / "node-policy.json", ELSA_BUCKET="b")
    assert "ELSA_PREFIX is not set" in failure.value.stderr


def test_every_variable_is_explained():
    for where in AWS, GCP:
        readme = (where / "README.md").read_text()
        for path in where.iterdir():
            if path.name != "README.md":
                for name in re.findall(r"@([A-Z][A-Z0-9_]*)@", path.read_text()):
                    assert name in readme, (path.name, name)
                    assert name in VALUES


def test_user_data(tmp_path):
    text = render(AWS / "user-data.yaml")
    assert text.startswith("#cloud-config\n") and len(text) < 16 * 1024  # EC2's limit
    data = yaml.safe_load(text)
    assert set(data) <= {"package_update", "packages", "mounts", "write_files", "runcmd"}
    files = {f["path"]: f for f in data["write_files"]}
    assert all(set(f) == {"path", "permissions", "content"} for f in files.values())
    check_config(files["/etc/elsa/elsa.toml"]["content"], tmp_path)
    setup = files["/usr/local/sbin/elsa-setup"]["content"]
    check_shell(setup)
    assert setup.startswith("#!/bin/bash\n") and data["runcmd"] == [["/usr/local/sbin/elsa-setup"]]
    # Its name is put in by the line that is looked for.
    named = re.sub(r"^name = .*", 'name = "i-0123456789abcdef0"',
                   files["/etc/elsa/elsa.toml"]["content"], flags=re.MULTILINE)
    assert named.count("i-0123") == 1
    check_config(named, tmp_path)


def test_startup_script(tmp_path):
    text = render(GCP / "startup-script.sh")
    check_shell(text)
    config = re.search(r"<<TOML\n(.*)^TOML$", text, re.DOTALL | re.MULTILINE)[1]
    check_config(config.replace("$name", "elsa-a-x1z2"), tmp_path)


def statements(name: str) -> list[dict]:
    policy = json.loads(render(AWS / name))
    assert policy["Version"] == "2012-10-17"
    for s in policy["Statement"]:
        assert s["Effect"] == "Allow" and re.fullmatch("[A-Za-z0-9]+", s["Sid"]) and (s.get("Resource") or s["NotResource"])
    return policy["Statement"]


def actions(name: str) -> set[str]:
    found: set[str] = set()
    for s in statements(name):
        found |= {s["Action"]} if isinstance(s["Action"], str) else set(s["Action"])
    return found


def test_the_controllers_policy_has_what_elsad_asks_for():
    code = "".join(p.read_text() for p in (CHECKOUT / "cloud").glob("capacity_*.c"))
    asked = set(re.findall(r'"((?:autoscaling|ec2):[A-Z]\w+)"', code))
    assert len(asked) >= 7
    assert asked <= actions("controller-policy.json")


def test_nothing_that_changes_things_is_without_a_condition():
    for s in statements("controller-policy.json"):
        named = [s["Action"]] if isinstance(s["Action"], str) else s["Action"]
        assert "Condition" in s or all(":Describe" in a for a in named), s["Sid"]


def test_the_nodes_policy_has_what_the_store_asks_for():
    code = "".join(p.read_text() for p in (CHECKOUT / "cloud").glob("s3*.c"))
    asked = set(re.findall(r'"(s3:[A-Z]\w+)"', code))
    assert asked and asked <= actions("node-policy.json")


def test_launch_template():
    template = json.loads(render(AWS / "launch-template.json"))
    assert template["MetadataOptions"]["HttpTokens"] == "required"
    assert "InstanceMarketOptions" not in template  # a fleet would refuse it


def test_googles_roles():
    code = (CHECKOUT / "cloud/capacity_gcp.c").read_text()
    asked = set(re.findall(r'"(compute\.\w+\.\w+)"', code)) - {
        "compute.instanceGroupManagers.listManagedInstances"}  # a method; its permission is get
    for name in "controller-role.yaml", "node-role.yaml":
        role = yaml.safe_load((GCP / name).read_text())
        assert {"title", "stage", "includedPermissions"} <= set(role)
        if name == "controller-role.yaml":
            assert asked and asked <= set(role["includedPermissions"])
