# SPDX-License-Identifier: Apache-2.0
"""Size classes on the spawn page: what each has and costs, and which one fits. Pure."""

from __future__ import annotations

from html import escape
from typing import Any

Json = dict[str, Any]

SIZE_FIELD = "elsa_size"
# Of the Hub's options for a start: the name of a class, or "" for one found by use.
SIZE_OPTION = "elsa_size"


def memory_text(size: int) -> str:
    for unit, factor in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20)):
        if size >= factor:
            return f"{size / factor:.4g} {unit}"
    return f"{size} bytes"


def class_text(entry: Json, currency: str) -> str:
    """ "small: 1 GiB, 2 processors, 0.03 USD an hour" """
    parts = [memory_text(int(entry.get("memory_bytes") or 0))]
    cpus = float(entry.get("cpus") or 0)
    if cpus:
        parts.append(f"{cpus:.4g} processor{'' if cpus == 1 else 's'}")
    parts.append(f"{float(entry.get('hour') or 0):.3g} {currency} an hour")
    return f"{entry.get('name')}: {', '.join(parts)}"


def use_text(session: Json) -> str:
    """What the recommendation is made of; "" where there is none."""
    if not session.get("recommended"):
        return ""
    most = memory_text(int(session.get("peak_bytes") or 0))
    usual = memory_text(int(session.get("p95_bytes") or 0))
    return f"Your session has used {usual} nearly always, and {most} at most."


def _option(value: str, text: str, selected: bool) -> str:
    mark = " selected" if selected else ""
    return f'<option value="{escape(value, quote=True)}"{mark}>{escape(text)}</option>'


def size_form(sizes: Json) -> str:
    """The part of the spawn page that asks for a size; "" where there are none."""
    classes = [entry for entry in sizes.get("classes") or [] if entry.get("name")]
    if not classes:
        return ""
    session = sizes.get("session") or {}
    chosen, fits = session.get("chosen") or "", session.get("recommended") or ""
    currency = str(sizes.get("currency") or "")
    by_use = f"by what it uses (now: {fits})" if fits else "by what it uses"
    options = [_option("", by_use, not chosen)]
    for entry in classes:
        name = str(entry["name"])
        advice = " (recommended)" if name == fits else ""
        options.append(_option(name, class_text(entry, currency) + advice, name == chosen))
    return f"""
<div class="elsa-size form-group">
  <label for="{SIZE_FIELD}">Size of your session</label>
  <select class="form-control form-select" id="{SIZE_FIELD}" name="{SIZE_FIELD}">
    {"".join(options)}
  </select>
  <p class="help-block form-text">{escape(use_text(session))} A session that sleeps wakes with what
    is chosen here, but never with less memory than it holds.</p>
</div>
"""


def chosen_in(form_data: dict[str, list]) -> str | None:
    """What the form says; None: it did not ask."""
    values = form_data.get(SIZE_FIELD)
    return str(values[-1]) if values else None
