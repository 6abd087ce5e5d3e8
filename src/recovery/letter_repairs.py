"""Retry or drop dead letters: first the plan, which changes nothing, then the change, which is recorded.

A plan says what would change, so that a command can ask first. Planning raises UnknownError when an id names no dead
letter, and RefusedError when an entry cannot be retried, each with one sentence for the operator.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import redis

from db import AuditLog, DatabaseOverview
from errors import HostGoneError, PayloadError, RefusedError, UnknownError
from jobs.batches import Batches
from jobs.dead_letters import DeadLetter, DeadLetters, id_of
from jobs.letter_filter import LetterFilter
from jobs.payloads import UnpackJob, parse_unpack_job
from jobs.queue_snapshot import standing_jobs


@dataclass(frozen=True)
class RetryPlan:
    """Letters whose jobs go back into their queues."""

    letters: tuple[DeadLetter, ...]
    subject: str  # the choice of letters, as the audit record shows it


@dataclass(frozen=True)
class StuckLetter:
    """A letter that stays, because its job would go to a host that is gone."""

    letter: DeadLetter
    reason: str
    advice: str  # the command that helps instead


@dataclass(frozen=True)
class Retried:
    """What a retry has done."""

    brought_back: int
    already_gone: int
    stuck: tuple[StuckLetter, ...]


@dataclass(frozen=True)
class DropPlan:
    """Entries of `queue:failed` to remove, and what that means for their batches."""

    letters: tuple[DeadLetter, ...]
    foreign: tuple[bytes, ...]  # entries that are not dead letters
    foreign_left: int  # further ones, which stay
    archives: tuple[UnpackJob, ...]  # of the letters of whole archives
    cancelled: tuple[UnpackJob, ...]  # those archives that only their letter keeps open: their batches are cancelled
    subject: str  # the choice of letters, as the audit record shows it


class LetterRepairs:
    def __init__(self, client: redis.Redis, db: DatabaseOverview, letters: DeadLetters, audit: AuditLog) -> None:
        self._client = client
        self._db = db
        self._letters = letters
        self._audit = audit
        self._batches = Batches(client)

    def find(self, wanted: LetterFilter) -> list[DeadLetter]:
        """The letters that the filter takes, the oldest first."""
        return [letter for letter in self._letters.read() if wanted.takes(letter)]

    def plan_retry(self, wanted: LetterFilter) -> RetryPlan:
        return RetryPlan(tuple(self._chosen(wanted, "brought back")), str(wanted))

    def retry(self, plan: RetryPlan, on_progress: Callable[[], None] = lambda: None) -> Retried:
        """Put the jobs back into their queues, each with all its attempts; each letter moves in one step."""
        stuck: list[tuple[DeadLetter, HostGoneError]] = []
        with self._audit.change("failed retry", plan.subject, len(plan.letters), {}) as change:
            for letter in plan.letters:
                try:
                    change.affected += self._letters.retry(letter)
                except HostGoneError as error:
                    stuck.append((letter, error))
                on_progress()
        return Retried(
            brought_back=change.affected,
            already_gone=len(plan.letters) - change.affected - len(stuck),
            stuck=tuple(StuckLetter(letter, str(error), self._advice(letter)) for letter, error in stuck),
        )

    def plan_drop(self, wanted: LetterFilter, *, foreign: bool = False) -> DropPlan:
        """Remove the letters that the filter takes, and the foreign entries that it names; with `foreign`, all those.

        With `foreign` and an empty filter no letters are removed.
        """
        strange = self._letters.foreign()
        entries = strange if foreign else [raw for raw in strange if id_of(raw) in wanted.ids]
        only_foreign = foreign and not wanted.given
        letters = [] if only_foreign else self._chosen(wanted, "dropped", known_ids={id_of(raw) for raw in entries})
        archives = {job.batch_id: job for letter in letters if (job := _archive_of(letter))}
        return DropPlan(
            letters=tuple(letters),
            foreign=tuple(entries),
            foreign_left=len(strange) - len(entries),
            archives=tuple(archives.values()),
            cancelled=tuple(self._ended_by_drop(archives.values(), letters)),
            subject="foreign" if only_foreign else str(wanted),
        )

    def drop(self, plan: DropPlan, on_progress: Callable[[], None] = lambda: None) -> int:
        """Cancel the batches of which only the letter is left, and remove the entries -> how many were removed."""
        entries: list[DeadLetter | bytes] = [*plan.letters, *plan.foreign]
        details = {"given_up": [job.batch_id for job in plan.cancelled]} if plan.cancelled else {}
        with self._audit.change("failed drop", plan.subject, len(entries), details) as change:
            # First in Postgres: without its letter, reconcile would bring back an archive that is not cancelled.
            for job in plan.cancelled:
                self._db.note_batch(job)
                with self._db.cancelled_batch(job.batch_id):
                    pass
            for entry in entries:
                change.affected += self._letters.drop(entry)
                on_progress()
        return change.affected

    def _chosen(
        self, wanted: LetterFilter, past: Literal["brought back", "dropped"], known_ids: Collection[str] = ()
    ) -> list[DeadLetter]:
        """The letters that the filter takes; every id must name one, or be among `known_ids`."""
        if not wanted.given:
            raise RefusedError("no dead letters were chosen; give ids, a cause, a stage, a batch or an age, or all")
        letters = self.find(wanted)
        unknown = set(wanted.ids) - {letter.id for letter in letters} - set(known_ids)
        if not unknown:
            return letters
        names = ", ".join(sorted(unknown))
        if unknown & {id_of(raw) for raw in self._letters.foreign()}:
            raise RefusedError(f"{names}: not a dead letter, so it can only be dropped; nothing was {past}")
        raise UnknownError(f"no dead letter has the id {names}; nothing was {past}")

    def _ended_by_drop(self, archives: Collection[UnpackJob], going: Sequence[DeadLetter]) -> list[UnpackJob]:
        """Those of the archives that have no job and no other letter, and whose batch is not under way or complete."""
        if not archives:
            return []
        dropped = {letter.raw for letter in going}
        kept = {one.batch_id for one in self._letters.read() if one.of_archive and one.raw not in dropped}
        with_jobs = {job.batch_id for job in standing_jobs(self._client, self._letters.scratch_root)}
        return [
            job
            for job in archives
            if job.batch_id not in with_jobs | kept
            and not self._batches.under_way(job.batch_id)
            and not ((known := self._db.batch(job.batch_id)) and known.completed_at)
        ]

    def _advice(self, letter: DeadLetter) -> str:
        """What helps when a clip's host is gone and the clip is not parked."""
        known = self._db.batch(letter.batch_id) if letter.batch_id else None
        if known and known.s3_key:
            return f"its archive has it: audio-pipeline batch requeue {known.batch_id}"
        return f"no archive has it: inject the clip again, then audio-pipeline failed drop {letter.id}"


def _archive_of(letter: DeadLetter) -> UnpackJob | None:
    if not letter.of_archive:
        return None
    try:
        return parse_unpack_job(letter.payload)
    except PayloadError:  # it names no archive that could be brought back
        return None
