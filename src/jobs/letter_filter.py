"""Choose dead letters by id, cause, stage, batch and age."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from jobs.dead_letters import DeadLetter


@dataclass(frozen=True, kw_only=True)
class LetterFilter:
    """Takes the letters for which every given condition holds; without any condition, all of them.

    `everything` is not a condition. It says that a filter without conditions is intended, see `given`.
    """

    ids: tuple[str, ...] = ()
    cause: str | None = None  # part of the error's text, in upper or lower case
    stage: str | None = None
    batch: str | None = None
    older: timedelta | None = None
    everything: bool = False

    def __post_init__(self) -> None:
        if "" in {self.cause, self.batch}:  # from a shell variable that is not set, it must not mean "any"
            raise ValueError("cause and batch must not be empty")

    @property
    def given(self) -> bool:
        """Whether the filter has a condition or `everything`. A command that changes dead letters requires it."""
        return bool(self.ids or self.cause or self.stage or self.batch or self.older is not None or self.everything)

    def __str__(self) -> str:
        conditions = {"cause": self.cause, "stage": self.stage, "batch": self.batch, "older": self.older}
        parts = [*self.ids, *(f"{name}={value}" for name, value in conditions.items() if value)]
        return " ".join(parts) or "all"

    def takes(self, letter: DeadLetter) -> bool:
        return (
            (not self.ids or letter.id in self.ids)
            and (not self.cause or self.cause.casefold() in f"{letter.error_class}: {letter.error}".casefold())
            and (not self.stage or self.stage == letter.stage)
            and (not self.batch or self.batch == letter.batch_id)
            and (self.older is None or _age(letter) > self.older)
        )


def _age(letter: DeadLetter) -> timedelta:
    """The time since the job was given up; zero when the letter does not hold it."""
    try:
        return datetime.now(UTC) - datetime.fromisoformat(letter.fields["failed_at"])
    except (KeyError, TypeError, ValueError):
        return timedelta(0)
