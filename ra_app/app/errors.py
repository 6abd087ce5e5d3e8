"""What the app refuses to start with, and what it answers when something it depends on is away."""

from __future__ import annotations

import click


class StartError(click.ClickException):
    """The app cannot start, and an operator must act. A click error, so that `flask …` prints the sentence alone."""


class ConfigError(StartError):
    """A setting is missing or malformed."""


class CodebookError(StartError):
    """The codebook cannot be used; the message names file, place and reason."""


class StorageUnavailableError(Exception):
    """S3 cannot be reached or refuses us; no fault of the request."""


class ClipMissingError(Exception):
    """Postgres names an object that S3 does not have."""


class RangeUnsatisfiableError(Exception):
    """The asked range lies outside the object."""

    def __init__(self, size: int) -> None:
        super().__init__(f"range outside an object of {size} bytes")
        self.size = size
