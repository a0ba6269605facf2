# SPDX-License-Identifier: Apache-2.0
"""What the spawn page says of sizes."""

from __future__ import annotations

import re

from elsa_spawner.sizes import chosen_in, class_text, memory_text, size_form

GIB = 1 << 30
SIZES = {
    "currency": "USD",
    "classes": [
        {"name": "small", "memory_bytes": GIB, "cpus": 1.0, "hour": 0.0125},
        {"name": "a\"><b", "memory_bytes": 3 * GIB // 2, "cpus": 0.0, "hour": 1.5},
    ],
    "session": None,
}


def options(form: str) -> list[tuple[str, bool, str]]:
    found = re.findall(r'<option value="([^"]*)"( selected)?>([^<]*)</option>', form)
    return [(value, bool(selected), text) for value, selected, text in found]


def test_sizes_are_told_as_people_say_them():
    assert memory_text(GIB) == "1 GiB"
    assert memory_text(3 * GIB // 2) == "1.5 GiB"
    assert memory_text(512 << 20) == "512 MiB"
    assert memory_text(0) == "0 bytes"
    small, other = SIZES["classes"]
    assert class_text(small, "USD") == "small: 1 GiB, 1 processor, 0.0125 USD an hour"
    assert class_text(other, "EUR") == 'a"><b: 1.5 GiB, 1.5 EUR an hour'


def test_nobody_is_asked_where_there_are_none():
    assert size_form({"currency": "USD", "classes": [], "session": None}) == ""
    assert size_form({}) == ""


def test_a_new_user_has_none_recommended():
    shown = options(size_form(SIZES))
    assert [value for value, _, _ in shown] == ["", "small", "a&quot;&gt;&lt;b"]
    assert [selected for _, selected, _ in shown] == [True, False, False]
    assert "recommended" not in size_form(SIZES)


def test_what_was_chosen_and_what_fits():
    session = {"chosen": "a\"><b", "recommended": "small", "peak_bytes": GIB, "p95_bytes": GIB // 2}
    form = size_form({**SIZES, "session": session})
    shown = options(form)
    assert [selected for _, selected, _ in shown] == [False, False, True]
    assert shown[0][2] == "by what it uses (now: small)"
    assert shown[1][2].endswith("(recommended)")
    assert "512 MiB nearly always, and 1 GiB at most" in form


def test_the_answer_is_read():
    assert chosen_in({}) is None
    assert chosen_in({"elsa_size": ["", "small"]}) == "small"
    assert chosen_in({"elsa_size": [""]}) == ""
