"""Do something for several items at once; when that fails, for one at a time, so that a failure is its own item's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from errors import DeviceMemoryError, OperatorError
from utils import event

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


def together(
    action: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item], *, doing: str
) -> list[Result | Exception]:
    """Call `action` once for all items -> for each item its result, or the exception that it raised by itself.

    When the call fails, each item is tried by itself: one bad clip among sixteen fails alone, and sixteen clips that
    need too much memory together may fit one by one. `doing` says in the log what failed.

    Raises
    ------
    OperatorError
        The failure is no item's. (A DeviceMemoryError may be an item's, so it is returned.)
    """
    if not items:
        return []
    try:
        return [result for result, _ in zip(action(items), items, strict=True)]
    except DeviceMemoryError as error:
        failure: Exception = error
    except OperatorError:
        raise
    except Exception as error:  # noqa: BLE001 -- a bug that one item brings to light must not cost the others anything
        failure = error
    if len(items) == 1:
        return [failure]
    event(
        log, logging.WARNING, f"{doing} failed for several clips at once; each is tried by itself",
        clips=len(items), reason=f"{type(failure).__name__}: {failure}",
    )  # fmt: skip
    return [outcome for item in items for outcome in together(action, [item], doing=doing)]
