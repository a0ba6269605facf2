#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds policies/ pure: its library may need nothing from outside but what computes.

No clock, socket, file, environment, random number, memory from the heap or
output: the simulator and the daemon must get the same answer from the same
input. A new function goes on the list only if it is a pure one.
"""
import argparse
import re
import subprocess
import sys

PURE = """
    memchr memcmp memcpy memmove memset
    strchr strcmp strcspn strlen strncmp strnlen strrchr strspn strstr
    fnmatch qsort bsearch
    abs labs llabs div ldiv lldiv
    ceil cos exp fabs floor fmax fmin fmod isfinite isinf isnan log log1p lround pow round sqrt
    __assert_fail abort
    snprintf vsnprintf __snprintf_chk __vsnprintf_chk
    __memcpy_chk __memmove_chk __memset_chk __stack_chk_fail _GLOBAL_OFFSET_TABLE_
""".split()

# What sanitizers and coverage put into every object.
INSTRUMENTS = re.compile(r"^_*((start|stop)_+)?(asan|ubsan|tsan|msan|sanitizer|sancov|gcov|llvm)_")


def symbols(nm, option, library):
    out = subprocess.run([nm, "--format=posix", option, library], check=True,
                         capture_output=True, text=True).stdout
    for line in out.splitlines():
        fields = line.split()
        if len(fields) >= 2 and not line.endswith(":"):
            yield fields[0].split("@")[0]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nm", default="nm")
    parser.add_argument("library")
    args = parser.parse_args()

    own = set(symbols(args.nm, "--defined-only", args.library))
    needed = set(symbols(args.nm, "--undefined-only", args.library))
    if not own:
        sys.exit(f"{args.library}: no symbols found; is it a library?")
    impure = sorted(s for s in needed - own - set(PURE) if not INSTRUMENTS.match(s))
    for symbol in impure:
        print(f"policies/ uses {symbol}(), which is not on the list of pure functions in {__file__}")
    print(f"{len(own)} own symbols, {len(needed - own)} from outside")
    return 1 if impure else 0


if __name__ == "__main__":
    sys.exit(main())
