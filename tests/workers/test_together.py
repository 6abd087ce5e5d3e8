"""What is done for several items at once, and what becomes of one that fails."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from errors import DeviceMemoryError, OperatorError, RetryableError, ServiceUnavailableError
from workers.together import together


class Halver:
    """Halves even numbers, logs each call, and raises for the numbers that it is told."""

    def __init__(self, **raises: Exception) -> None:
        self.calls: list[list[int]] = []
        self._raises = {int(name.removeprefix("n")): error for name, error in raises.items()}

    def __call__(self, items: Sequence[int]) -> list[float]:
        self.calls.append(list(items))
        for item in items:
            if item in self._raises:
                raise self._raises[item]
        return [item / 2 for item in items]


def test_when_all_goes_well_one_call_does_it():
    halver = Halver()
    assert together(halver, [1, 2, 3], doing="halving") == [0.5, 1.0, 1.5]
    assert halver.calls == [[1, 2, 3]]


@pytest.mark.parametrize("error", [ValueError("a bug"), RetryableError("busy"), DeviceMemoryError("too large")])
def test_a_failure_is_that_of_its_own_item(error: Exception):
    halver = Halver(n2=error)
    assert together(halver, [1, 2, 3], doing="halving") == [0.5, error, 1.5]
    assert halver.calls == [[1, 2, 3], [1], [2], [3]]


def test_a_failure_of_a_service_is_raised_at_once():
    halver = Halver(n2=ServiceUnavailableError("down"))
    with pytest.raises(OperatorError, match="down"):
        together(halver, [1, 2, 3], doing="halving")
    assert halver.calls == [[1, 2, 3]]


def test_an_answer_with_too_few_results_gives_nobody_anothers_result():
    outcomes = together(lambda items: [item / 2 for item in items if item != 2], [1, 2, 3], doing="halving")
    assert (outcomes[0], outcomes[2]) == (0.5, 1.5)
    assert isinstance(outcomes[1], ValueError)


def test_nothing_to_do_calls_nothing():
    halver = Halver()
    assert together(halver, [], doing="halving") == []
    assert halver.calls == []
