# SPDX-License-Identifier: Apache-2.0
"""The witness sees what it is there to see."""

from observer import judge


def test_one_that_runs_on():
    witness = judge([1, 2, 3, 4])
    assert (witness.last, witness.lost, witness.skipped) == (4, [], [])


def test_one_that_went_back_to_a_checkpoint():
    witness = judge([1, 2, 3, 4, 5, 3, 4, 5, 6, 7, 7, 8])
    assert witness.lost == [3, 1] and witness.skipped == []


def test_one_that_ran_twice():
    witness = judge([1, 2, 3, 4, 5, 3, 6, 4, 7, 5, 8])
    assert len(witness.lost) == 3 and len(witness.skipped) == 3


def test_one_that_came_to_itself_again_after_another_had_gone_on():
    witness = judge([1, 2, 3, 4, 5, 3, 4, 6, 7])
    assert witness.skipped == [6]
