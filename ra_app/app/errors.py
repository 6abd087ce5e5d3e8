"""The errors of the app: those that stop its start, and those of S3 while it serves a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click


class StartError(click.ClickException):
    """The app cannot start and an operator must act. As a click error it makes `flask …` print only its message."""


class ConfigError(StartError):
    """A setting is missing or malformed."""


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """What is wrong in a codebook: where, and what to do."""

    place: str  # for example labels[2].key
    reason: str


class CodebookError(StartError):
    """The codebook is not valid. The message names the file, the entry and the reason of the first mistake."""

    def __init__(self, message: str, mistakes: Sequence[Mistake] = ()) -> None:
        super().__init__(message)
        self.mistakes = tuple(mistakes)


class CodebookChangedError(Exception):
    """The codebook was edited without a new version, or a study names one that was never published."""


class StorageUnavailableError(Exception):
    """S3 cannot be reached, or it refuses the app's request."""


class ClipMissingError(Exception):
    """The database names an object that does not exist in S3."""


class RangeUnsatisfiableError(Exception):
    """The requested range lies outside the object."""

    def __init__(self, size: int) -> None:
        super().__init__(f"range outside an object of {size} bytes")
        self.size = size
