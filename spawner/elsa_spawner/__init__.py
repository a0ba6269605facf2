# SPDX-License-Identifier: Apache-2.0
"""JupyterHub servers that sleep as checkpoints.

Two halves that never meet in one process: `ElsaSpawner` runs in the Hub, `session` is an extension
of the single-user server. Names are looked up when used, so that a session's image needs neither
JupyterHub's own dependencies nor aiohttp.
"""

from pathlib import Path

__version__ = "0.1.0"
__all__ = ["TEMPLATES", "ElsaSpawner"]

# For c.JupyterHub.template_paths.
TEMPLATES = str(Path(__file__).parent / "templates")


def __getattr__(name: str):
    if name == "ElsaSpawner":
        from .spawner import ElsaSpawner

        return ElsaSpawner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
