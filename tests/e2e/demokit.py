# SPDX-License-Identifier: Apache-2.0
"""What the demos tell, and how."""

from __future__ import annotations

import json
import time

from basekit import CHECKOUT, Json

BEGAN = time.monotonic()


def tell(text: str) -> None:
    print(f"{time.monotonic() - BEGAN:6.1f} s  {text}", flush=True)


def mib(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"


def write_facts(name: str, facts: Json) -> None:
    """To build/NAME.json, with the seconds since the demo began."""
    path = CHECKOUT / f"build/{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**facts, "seconds": time.monotonic() - BEGAN}, indent=2) + "\n")
