"""The most items that one call of a model may hold on this device, learnt while the process runs.

How many fit is not known in advance: it depends on the device, on the model, and on the other programs on the GPU. So
a model begins with the most that is useful, and halves it whenever the device runs out of memory. The smaller size is
kept until the process ends, because a size that failed once costs a failed call each time it is tried again.
"""

from __future__ import annotations


class BatchLimit:
    def __init__(self, most: int) -> None:
        """`most` is the size to begin with, 1 or more: windows, texts or padded tokens, as the model counts."""
        if most < 1:
            raise ValueError(f"a batch holds 1 or more, not {most}")
        self._size = most

    @property
    def size(self) -> int:
        """The most that one call may hold now."""
        return self._size

    def halved(self) -> bool:
        """Halve the size. False if it is 1 already: then nothing smaller can be tried."""
        if self._size == 1:
            return False
        self._size //= 2
        return True
