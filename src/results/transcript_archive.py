"""The stored transcripts, to be judged again without their audio: which lack a verdict, a sample of them, new verdicts.

A clip's transcript is the one that was made last. Only clips that are done count: those that wait for a worker will be
judged by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from results.database import Database
from results.judged_text import Judged
from results.rows import Verdict, save_verdict
from results.wanted import TO_JUDGE, WantedResults

# Of transcripts t and clips a.
_STORED = "transcripts t JOIN audio_files a USING (audio_id)"
_CHOSEN = """
    a.status = 'done' AND a.s3_opus_path IS NOT NULL AND NOT t.no_speech
      AND NOT EXISTS (
          SELECT FROM transcripts n WHERE n.audio_id = t.audio_id
          AND (n.created_at, n.transcript_id) > (t.created_at, t.transcript_id))
      AND (%(batch_id)s::text IS NULL OR a.batch_id = %(batch_id)s)
      AND (%(since)s::timestamptz IS NULL OR a.processed_at >= %(since)s)
"""

# Of a transcript t: which of its texts is judged, and that text. An operator may ask for languages that workers leave.
_JUDGED = f"""CASE WHEN {TO_JUDGE} = 'translation' AND coalesce(t.translation, '') <> ''
    THEN 'translation' ELSE 'transcript' END"""
_TEXT = f"CASE {_JUDGED} WHEN 'translation' THEN t.translation ELSE t.text END"

# Of a transcript t: the policies whose verdict in force is not the wanted one on this very text; `wanted.IS_JUDGED`
# policy by policy. It counts, since Postgres then looks up the verdicts of one clip; EXISTS would read all verdicts.
_MISSING = f"""
    ARRAY(
        SELECT w.policy
        FROM unnest(%(policies)s::text[], %(versions)s::text[], %(sha256s)s::text[], %(models)s::text[],
                    %(prompts)s::text[], %(thresholds)s::float8[])
            AS w (policy, version, sha256, model, prompt, threshold)
        WHERE t.not_judged IS NOT NULL OR 0 = (
            SELECT count(*) FROM verdicts_in_force v
            WHERE v.audio_id = t.audio_id AND v.policy = w.policy AND v.transcript_id = t.transcript_id
              AND v.created_at >= t.created_at AND v.judged = {_JUDGED}
              AND (v.policy_version, v.policy_sha256, v.model, v.prompt_version, v.threshold)
                  = (w.version, w.sha256, w.model, w.prompt, w.threshold)))
"""  # noqa: S608 -- constants
_FLAGGED = "ARRAY(SELECT v.policy FROM verdicts_in_force v WHERE v.audio_id = t.audio_id AND v.violates)"
_TO_JUDGE = f"""
    SELECT * FROM (
        SELECT t.transcript_id, t.audio_id, {_TEXT} AS text, t.language, t.created_at, {_FLAGGED} AS flagged,
               {_MISSING} AS missing, {_JUDGED} AS judged
        FROM {_STORED}
        WHERE {_CHOSEN} AND (t.not_judged IS NOT NULL) = %(not_judged)s AND t.transcript_id > %(after)s
    ) found
    WHERE missing <> '{{}}'
"""  # noqa: S608 -- constants

# First only ids: few rows of many are chosen, and their texts are long.
_SAMPLE = f"""
    WITH stored AS (
        SELECT t.transcript_id, c.score AS old_score, c.violates AS old_violates,
               coalesce((SELECT v.violates FROM verdicts_in_force v
                         WHERE v.audio_id = t.audio_id AND v.policy = %(policy)s), false) AS is_flagged
        FROM {_STORED} LEFT JOIN classifications c
            ON c.audio_id = t.audio_id AND c.policy = %(policy)s AND c.policy_version = %(version)s
            AND c.model = %(model)s AND c.prompt_version = %(prompt)s
            AND c.transcript_id = t.transcript_id AND c.created_at >= t.created_at
        WHERE {_CHOSEN} AND t.not_judged IS NULL
    ), placed AS (
        SELECT *, count(*) OVER (PARTITION BY is_flagged) AS among,
               row_number() OVER (PARTITION BY is_flagged ORDER BY md5(transcript_id::text), transcript_id) AS place
        FROM stored WHERE %(version)s::text IS NULL OR old_score IS NOT NULL
    )
    SELECT is_flagged, among, transcript_id, t.audio_id, {_TEXT} AS text, t.language, t.created_at,
           {_FLAGGED} AS flagged, old_score, old_violates
    FROM placed JOIN transcripts t USING (transcript_id) WHERE place <= %(size)s ORDER BY place
"""  # noqa: S608 -- constants


@dataclass(frozen=True)
class Selection:
    """Which clips; without any choice all of them."""

    batch_id: str | None = None
    since: datetime | None = None  # processed at this time or later
    not_judged: bool = False  # those recorded as not judged, instead of the others

    @property
    def parameters(self) -> dict[str, Any]:
        return {"batch_id": self.batch_id, "since": self.since, "not_judged": self.not_judged}


@dataclass(frozen=True)
class ArchivedTranscript:
    transcript_id: int
    audio_id: int
    text: str  # the one that is judged
    language: str | None
    made_at: datetime
    flagged: Sequence[str]  # policies whose verdict in force says that they are violated


@dataclass(frozen=True)
class UnjudgedTranscript(ArchivedTranscript):
    missing: Sequence[str]  # policies without the wanted verdict
    judged: Judged  # what `text` is


@dataclass(frozen=True)
class SampledTranscript(ArchivedTranscript):
    old_score: float | None  # of the version that was asked for
    old_violates: bool | None


@dataclass(frozen=True)
class Sample:
    """Clips that the policy flags now, and clips that it does not flag, each by chance; and of how many."""

    flagged: Sequence[SampledTranscript]
    others: Sequence[SampledTranscript]
    flagged_stored: int
    others_stored: int


class TranscriptArchive(Database):
    def count(self, wanted: WantedResults, selection: Selection) -> dict[tuple[tuple[str, ...], str | None], int]:
        """(policies whose wanted verdict is missing, language) -> how many transcripts."""
        with self._transaction() as cursor:
            cursor.execute(
                f"SELECT missing, language, count(*) FROM ({_TO_JUDGE}) found GROUP BY 1, 2",  # noqa: S608
                {**wanted.parameters, **selection.parameters, "after": 0},
            )
            return {(tuple(missing), language): count for missing, language, count in cursor.fetchall()}

    def to_judge(
        self, wanted: WantedResults, selection: Selection, *, after: int, limit: int
    ) -> list[UnjudgedTranscript]:
        """The next transcripts that lack a wanted verdict, by their ids; `after` is the last id of the page before."""
        with self._transaction() as cursor:
            cursor.execute(
                f"{_TO_JUDGE} ORDER BY transcript_id LIMIT %(limit)s",
                {**wanted.parameters, **selection.parameters, "after": after, "limit": limit},
            )
            return [UnjudgedTranscript(*row) for row in cursor.fetchall()]

    def store_verdicts(self, judged: Iterable[tuple[ArchivedTranscript, Sequence[Verdict]]]) -> list[int]:
        """Save the verdicts of several clips in one transaction -> the ids of the transcripts that were left out.

        A transcript that a worker has made again since it was read is left out: the worker judges the new text.
        """
        left_out = []
        with self._transaction() as cursor:
            for transcript, verdicts in judged:
                # Locked, so that no worker replaces the text between this look and the end of the transaction.
                cursor.execute(
                    "SELECT not_judged FROM transcripts WHERE transcript_id = %s AND created_at = %s FOR NO KEY UPDATE",
                    (transcript.transcript_id, transcript.made_at),
                )
                found = cursor.fetchone()
                if found is None:
                    left_out.append(transcript.transcript_id)
                    continue
                if found[0] is not None:
                    cursor.execute(
                        "UPDATE transcripts SET not_judged = NULL WHERE transcript_id = %s", (transcript.transcript_id,)
                    )
                for verdict in verdicts:
                    save_verdict(cursor, transcript.audio_id, transcript.transcript_id, verdict)
        return left_out

    def sample(
        self,
        policy_id: str,
        selection: Selection,
        size: int,
        wanted: WantedResults,
        judged_by: tuple[str, str, str] | None = None,
    ) -> Sample:
        """Choose up to `size` transcripts, half of them flagged by the policy if there are so many. Changes nothing.

        The same transcripts give the same sample. With `judged_by` (policy version, model, prompt version), only
        transcripts that have such a verdict, with its score.
        """
        version, model, prompt = judged_by or (None, None, None)
        with self._transaction() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")
            cursor.execute(
                _SAMPLE,
                {
                    **wanted.parameters, **selection.parameters,
                    "policy": policy_id, "version": version, "model": model, "prompt": prompt, "size": size,
                },
            )  # fmt: skip
            rows = cursor.fetchall()
        found: dict[bool, list[SampledTranscript]] = {True: [], False: []}
        among = {True: 0, False: 0}
        for is_flagged, stored, *fields in rows:
            found[is_flagged].append(SampledTranscript(*fields))
            among[is_flagged] = stored
        flagged = min(among[True], max(size // 2, size - among[False]))
        return Sample(found[True][:flagged], found[False][: size - flagged], among[True], among[False])
