#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes elsa.toml.5 from config.example.toml, which is made from the table of options.

    packaging/man/make_toml_page.py config.example.toml >packaging/man/elsa.toml.5
"""
import re
import sys

HEAD = r""".\" SPDX-License-Identifier: Apache-2.0
.\" Made from config.example.toml by packaging/man/make_toml_page.py; a test compares.
.Dd November 23, 2026
.Dt ELSA.TOML 5
.Os
.Sh NAME
.Nm elsa.toml
.Nd configuration of Elsa
.Sh DESCRIPTION
One TOML file,
.Pa /etc/elsa/elsa.toml ,
for
.Xr elsad 8 ,
.Xr elsa-node 8
and
.Xr elsa 1 .
An unknown option, a wrong type or a value out of range is an error, which
.Ic elsa config check
shows with line and column.
What is not given has its default, which
.Ic elsa config show
prints.
.Pp
"""

TAIL = r""".Sh FILES
.Bl -tag -width Ds
.It Pa /usr/share/doc/elsa/config.example.toml
Every option with its default.
.El
.Sh SEE ALSO
.Xr elsa 1 ,
.Xr elsa-node 8 ,
.Xr elsad 8
"""


def escape(text):
    text = text.replace("\\", "\\e")
    return "\\&" + text if text[:1] in (".", "'") else text


def argument(text):
    """Of a macro: quotes would group words."""
    return escape(text).replace('"', "\\(dq")


def prose(lines):
    """A sentence begins a line."""
    text = " ".join(lines)
    return "".join(
        escape(line) + "\n"
        for sentence in re.split(r"(?<=[.;:]) (?=[A-Z\[\"])", text)
        for line in wrap(sentence)
    )


def wrap(text):
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > 72:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return lines


def main():
    comments, out, in_list = [], [HEAD], False
    for line in open(sys.argv[1], encoding="utf-8").read().splitlines():
        section = re.fullmatch(r"#?(\[\[?[\w.]+\]\]?)", line)
        option = re.fullmatch(r"#(\w+) = (.*)", line)
        if section:
            out += [".El\n" if in_list else "", f".Sh {section.group(1)}\\&\n", prose(comments)]
            out.append(".Bl -tag -width Ds\n")
            comments, in_list = [], True
        elif option:
            name, default = option.groups()
            out += [f".It Sy {name} No = {argument(default)}\n", prose(comments) if comments else ""]
            comments = []
        elif line.startswith("# "):
            comments += [] if "SPDX" in line else [line[2:]]
        elif not line and not in_list:
            out.append(prose(comments))
            comments = []
    print("".join(out) + ".El\n" + TAIL, end="")


main()
