# SPDX-License-Identifier: Apache-2.0
"""The account of docs/savings.md, counted again from events and a catalogue of prices alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
GIB = 1 << 30
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MONTH_HOURS = 730
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass
class Sums:
    awake_ms: int = 0
    open_ms: int = 0
    always: float = 0.0
    machine: float = 0.0
    store: float = 0.0


class Catalogue:
    def __init__(self, text: str):
        self.types: dict[str, tuple[float, float]] = {}  # GiB, price of an hour
        self.spot: dict[str, float] = {}
        self.first = ""
        for line in text.splitlines():
            match line.partition("#")[0].split():
                case ["type", name, _cpus, memory, hour]:
                    gib = int(memory[:-1]) * UNITS[memory[-1]] / GIB
                    self.types[name] = gib, float(hour)
                case ["pool", _name, kind, "spot", hour]:
                    self.spot.setdefault(kind, float(hour))
                case ["pool", _name, kind, "on-demand"]:
                    self.first = self.first or kind
                case ["store", month, puts, gets]:
                    self.store, self.put, self.get = map(float, (month, puts, gets))

    def memory(self, kind: str | None, price: str | None) -> tuple[float, float]:
        """Of a GiB and hour: on that machine, and on demand."""
        known = kind in self.types
        gib, hour = self.types[kind if known else self.first]
        here = self.spot.get(kind, hour) if known and price == "spot" else hour
        return here / gib, hour / gib


@dataclass
class Account:
    since: int
    basis: Json
    days: dict[int, Sums] = field(default_factory=dict)


class Recount:
    """`days[day, user, server]`; events in the order of their ids."""

    def __init__(self, events: Iterable[Json], catalogue: Catalogue):
        self.catalogue = catalogue
        self.accounts: dict[tuple[str, str], Account] = {}
        self.days: dict[tuple[int, str, str], Sums] = defaultdict(Sums)
        for event in sorted(events, key=lambda e: e["id"]):
            self.take(event)

    def take(self, event: Json) -> None:
        inputs = event.get("inputs") or {}
        if event["what"] == "clock-step":
            self.until(inputs["from"])
            for account in self.accounts.values():
                account.since = inputs["to"]
        if basis := inputs.get("account"):
            key = event["user"], event["server"]
            if key in self.accounts:
                self.charge(key, event["at"])
            requests = basis["puts"] * self.catalogue.put + basis["gets"] * self.catalogue.get
            if requests:
                self.days[event["at"] // DAY_MS, *key].store += requests / 1000
            self.accounts[key] = Account(event["at"], basis)

    def until(self, at: int) -> Recount:
        for key in self.accounts:
            self.charge(key, at)
        return self

    def charge(self, key: tuple[str, str], at: int) -> None:
        account = self.accounts[key]
        b = account.basis
        machine, demand = self.catalogue.memory(b["type"], b["price"])
        while account.since < at:
            end = min(at, (account.since // DAY_MS + 1) * DAY_MS)
            ms = end - account.since
            day = self.days[account.since // DAY_MS, *key]
            day.awake_ms += ms if b["awake"] else 0
            day.open_ms += ms if b["whole_bytes"] else 0
            day.always += b["whole_bytes"] / GIB * demand * ms / HOUR_MS
            day.machine += b["held_bytes"] / GIB * machine * ms / HOUR_MS
            day.store += b["stored_bytes"] / GIB * self.catalogue.store / MONTH_HOURS * ms / HOUR_MS
            account.since = end

    def total(self) -> Sums:
        total = Sums()
        for day in self.days.values():
            for name in vars(total):
                setattr(total, name, getattr(total, name) + getattr(day, name))
        return total
