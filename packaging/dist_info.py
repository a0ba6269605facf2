# SPDX-License-Identifier: Apache-2.0
"""What pip would write beside the spawner: who it is, and its entry points.

    dist_info.py pyproject.toml DIRECTORY
"""
import pathlib
import sys
import tomllib


def main():
    project = tomllib.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
    to = pathlib.Path(sys.argv[2])
    to.mkdir(parents=True, exist_ok=True)
    metadata = [
        "Metadata-Version: 2.1",
        f"Name: {project['name']}",
        f"Version: {project['version']}",
        f"Summary: {project['description']}",
        f"License: {project['license']['text']}",
        f"Requires-Python: {project['requires-python']}",
        *(f"Requires-Dist: {name}" for name in project["dependencies"]),
    ]
    (to / "METADATA").write_text("\n".join(metadata) + "\n", encoding="utf-8")
    (to / "INSTALLER").write_text("dpkg\n", encoding="utf-8")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items()), ""]
    (to / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")


main()
