"""The results of a batch, clip by clip, and their comparison with the manifest of the sample clips."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import psycopg2

from local.demo_coders import Truth
from local.demo_paths import ROOT, SCRATCH
from local.demo_progress import connect_redis
from local.demo_wer import word_error_rate, words_kept
from local.samples.archive import SampleClip
from local.services import Services
from local.services.stack import DATABASE

MAX_WER = 0.15
JUDGED_LANGUAGES = ("en",)  # the setting's default; the demo does not set it

CLIPS = """
SELECT a.original_filename, a.status, coalesce(a.duration_s, 0), t.language, coalesce(t.text, ''),
       coalesce(q.policies, '{}'), (SELECT count(DISTINCT policy) FROM classifications c USING_CLIP),
       (SELECT count(*) FROM jsonb_array_elements(t.windows)),
       (SELECT count(*) FROM jsonb_array_elements(t.windows) w WHERE w ->> 'finding' = 'doubtful')
FROM audio_files a
LEFT JOIN LATERAL (SELECT * FROM transcripts t USING_CLIP ORDER BY created_at DESC LIMIT 1) t ON true
LEFT JOIN ra_queue q ON q.audio_id = a.audio_id
WHERE a.batch_id = %s
""".replace("USING_CLIP", "WHERE audio_id = a.audio_id")
BATCH = "SELECT transferred_at, completed_at FROM batches WHERE batch_id = %s"


@dataclass(frozen=True)
class ClipResult:
    status: str
    duration_s: float
    language: str | None
    text: str
    flagged: frozenset[str]
    verdicts: int  # number of policies with a verdict
    windows: int = 0  # stretches of speech that were decoded
    doubtful: int = 0  # windows whose text is perhaps wrong or has gaps


@dataclass(frozen=True)
class Outcome:
    """The expected and the actual result of one clip."""

    wanted: SampleClip
    got: ClipResult | None
    policies: int

    @property
    def is_judged(self) -> bool:
        """Whether each policy must have a verdict: somebody speaks, in a language that is judged."""
        return self.wanted.end == "done" and self.wanted.language in JUDGED_LANGUAGES

    @property
    def trouble(self) -> str:
        """How the result differs from the manifest; empty if it does not."""
        if self.got is None:
            return "it has no row in audio_files"
        if self.got.status != self.wanted.end:
            return f"status is {self.got.status}"
        if self.got.flagged != frozenset(self.wanted.flagged):
            return "verdicts differ"
        judged = self.policies if self.is_judged else 0
        if self.got.verdicts != judged:
            return f"{self.got.verdicts} policies judged instead of {judged}"
        return ""


@dataclass(frozen=True)
class DeadLetter:
    clip: str
    error: str


@dataclass(frozen=True)
class Results:
    batch_id: str
    outcomes: Sequence[Outcome]
    unexpected: Sequence[str]  # clips of the batch that are not in the manifest
    transferred_at: datetime | None
    completed_at: datetime | None
    dead_letters: Sequence[DeadLetter]
    batch_keys: Sequence[str]
    scratch: Sequence[str]

    def wer(self, source: str | None = None) -> float | None:
        """Return the word error rate over all clips with speech, or over those of one source."""
        return word_error_rate(self._texts(source))

    def words_kept(self) -> tuple[int, int]:
        """Words of the clips that are in their transcripts, and all words of the clips."""
        return words_kept(self._texts())

    @property
    def windows(self) -> tuple[int, int]:
        """Doubtful windows, and all windows."""
        found = [outcome.got for outcome in self.outcomes if outcome.got]
        return sum(clip.doubtful for clip in found), sum(clip.windows for clip in found)

    def _texts(self, source: str | None = None) -> list[tuple[str, str]]:
        return [
            (outcome.wanted.text, outcome.got.text if outcome.got else "")
            for outcome in self.outcomes
            if outcome.wanted.text and source in {None, outcome.wanted.source}
        ]

    @property
    def audio_s(self) -> float:
        return sum(outcome.got.duration_s for outcome in self.outcomes if outcome.got)

    @property
    def took_s(self) -> float | None:
        """Seconds from the transfer to the completion of the batch."""
        if self.transferred_at is None or self.completed_at is None:
            return None
        return (self.completed_at - self.transferred_at).total_seconds()


@dataclass(frozen=True)
class Check:
    name: str
    passed: bool
    found: str


def read_truths(services: Services, batch_id: str, manifest: Sequence[SampleClip]) -> dict[int, Truth]:
    """Return for each clip that is done, by its number, which labels of the codebook apply by the manifest."""
    codebook = tomllib.loads((ROOT / "ra_app" / "codebook.toml").read_text(encoding="utf-8"))
    label_of = {policy: label["code"] for label in codebook["labels"] for policy in label.get("policies", ())}
    flagged = {clip.file: frozenset(label_of[policy] for policy in clip.flagged) for clip in manifest}
    connection = psycopg2.connect(services.postgres.dsn("pipeline", DATABASE))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT audio_id, original_filename, duration_s FROM audio_files "
                "WHERE batch_id = %s AND status = 'done'",
                (batch_id,),
            )
            rows = cursor.fetchall()
    finally:
        connection.close()
    return {number: Truth(flagged.get(name, frozenset()), duration_s or 0.0) for number, name, duration_s in rows}


def policy_names() -> list[str]:
    return sorted(path.stem for path in (ROOT / "policies").glob("*.md"))


def read_results(services: Services, batch_id: str, manifest: Sequence[SampleClip]) -> Results:
    connection = psycopg2.connect(services.postgres.dsn("pipeline", DATABASE))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(CLIPS, (batch_id,))
            found = {row[0]: _clip_result(row) for row in cursor.fetchall()}
            cursor.execute(BATCH, (batch_id,))
            times = cursor.fetchone() or (None, None)
    finally:
        connection.close()
    letters, keys = _read_redis(services, batch_id)
    known = {clip.file for clip in manifest}
    policies = len(policy_names())
    return Results(
        batch_id=batch_id,
        outcomes=[Outcome(clip, found.get(clip.file), policies) for clip in manifest],
        unexpected=sorted(set(found) - known),
        transferred_at=times[0],
        completed_at=times[1],
        dead_letters=letters,
        batch_keys=keys,
        scratch=sorted(path.name for path in SCRATCH.iterdir()) if SCRATCH.is_dir() else [],
    )


def _clip_result(row: tuple[Any, ...]) -> ClipResult:
    return ClipResult(row[1], row[2], row[3], row[4], frozenset(row[5]), row[6], row[7] or 0, row[8] or 0)


def _read_redis(services: Services, batch_id: str) -> tuple[list[DeadLetter], list[str]]:
    with connect_redis(services) as client:
        raw = cast("list[bytes]", client.lrange("queue:failed", 0, -1))
        keys = sorted(key.decode() for key in client.scan_iter("batch:*"))
    records = [json.loads(entry) for entry in raw]
    letters = [DeadLetter(r.get("clip") or "", r.get("error") or "") for r in records if r.get("batch_id") == batch_id]
    return letters, keys


def checks(results: Results) -> list[Check]:
    """Return the checks of `make demo-check` with their results."""
    troubles = [f"{outcome.wanted.file}: {outcome.trouble}" for outcome in results.outcomes if outcome.trouble]
    troubles += [f"{name}: not in the manifest" for name in results.unexpected]
    good = len(results.outcomes) - sum(1 for outcome in results.outcomes if outcome.trouble)
    wer = results.wer()
    failed = {outcome.wanted.file for outcome in results.outcomes if outcome.wanted.end == "failed"}
    named = {letter.clip for letter in results.dead_letters if len(letter.error.split()) >= 3}
    return [
        Check(
            "every clip has the result that the manifest expects",
            not troubles,
            f"{good} of {len(results.outcomes)}" + "".join(f"\n      {trouble}" for trouble in troubles),
        ),
        Check(f"word error rate at most {MAX_WER}", wer is not None and wer <= MAX_WER, shown_rate(wer)),
        Check("the batch is complete", results.completed_at is not None, results.batch_id),
        Check("scratch is empty", not results.scratch, ", ".join(results.scratch) or "nothing left"),
        Check("no batch keys are left in Redis", not results.batch_keys, ", ".join(results.batch_keys) or "none"),
        Check(
            "each failed clip is in queue:failed with an error message",
            failed == named,
            ", ".join(sorted(named)) or "none",
        ),
    ]


def shown_rate(rate: float | None) -> str:
    return "not measured" if rate is None else f"{rate:.3f}"
