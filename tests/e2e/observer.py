# SPDX-License-Identifier: Apache-2.0
"""An independent witness of the promises: did a session ever run twice, and how much of its work was
lost? It believes neither elsad nor a node, only what the sessions themselves wrote.

A thread in the session's kernel counts, and appends each number to a file in the home, which all hosts
share. The file is in the order of the writes, whoever wrote:

    1 2 3 4 5 3 4 5 6 ...      it went back to a checkpoint: two numbers of work lost
    1 2 3 4 5 3 6 4 7 5 8 ...  two of it ran at once

An instance that only goes on from where another one stopped can break the order once. Two that run at
once break it with nearly every number."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PER_SECOND = 50
FILE = "beats"

# No newline goes missing: one write() each, and O_APPEND.
BEAT = f"""
import os, threading, time
beats = 0
def beat():
    global beats
    to = os.open(os.path.expanduser("~/{FILE}"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    while True:
        beats += 1
        os.write(to, b"%d\\n" % beats)
        time.sleep({1 / PER_SECOND})
threading.Thread(target=beat, daemon=True).start()
print("beats")
"""


@dataclass
class Witness:
    last: int  # the number it has come to
    lost: list[int]  # numbers each return to a checkpoint went back
    skipped: list[int]  # numbers that came out of nowhere

    @property
    def lost_s(self) -> list[float]:
        """The same as time, of a session that counts as fast as it is asked to."""
        return [n / PER_SECOND for n in self.lost]


def judge(numbers: list[int]) -> Witness:
    witness = Witness(0, [], [])
    for number in numbers:
        if number <= witness.last:
            witness.lost.append(witness.last - number + 1)
        elif number > witness.last + 1:
            witness.skipped.append(number)
        witness.last = number
    return witness


def read(home: Path) -> list[int]:
    """What was written so far; a last line under way does not count."""
    text = (home / FILE).read_text()
    return [int(line) for line in text[:text.rfind("\n") + 1].split()]


def testify(home: Path) -> Witness:
    return judge(read(home))
