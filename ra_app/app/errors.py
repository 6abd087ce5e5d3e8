"""The errors of the app: those that stop its start, and those of S3 while it serves a request."""

from __future__ import annotations

import click


class StartError(click.ClickException):
    """The app cannot start and an operator must act. As a click error it makes `flask …` print only its message."""


class ConfigError(StartError):
    """A setting is missing or malformed."""


class CodebookError(StartError):
    """The codebook is not valid. The message names the file, the entry and the reason."""


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
