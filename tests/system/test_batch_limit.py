"""How many items one call may hold, learnt from the device."""

from __future__ import annotations

import pytest

from system.batch_limit import BatchLimit


def test_a_limit_is_halved_until_one_item_is_left() -> None:
    limit = BatchLimit(11)
    sizes = [limit.size]
    while limit.halved():
        sizes.append(limit.size)
    assert sizes == [11, 5, 2, 1]
    assert not limit.halved()
    assert limit.size == 1


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        BatchLimit(0)
