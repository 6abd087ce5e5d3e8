"""Which clips a sample is drawn from: its frame, and the strata into which the frame is divided.

The frame holds the clips that the pipeline has processed in a time and, if the lead wants, in some languages. Clips
without speech, failed clips and those that are not processed yet are out of it; they are counted, so that a page can
say so. A clip is in one stratum: *flagged* if one of the policies has flagged it by its verdict in force; *not judged*
if its newest transcript was not judged or has no verdict of these policies; else a band of the highest score in force
among the policies. Bands are divided by bounds that the lead gives, or by shares of the clips that are not flagged.

Everything is counted by Postgres. With a million clips that takes some seconds, so these statements may run for longer
than others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from app.models import db

TIMEOUT_S = 120
FLAGGED, NOT_JUDGED = "flagged", "not judged"  # names of strata; bands are named by `band_name`
FLAGGED_NUMBER, NOT_JUDGED_NUMBER = -1, -2  # bands are numbered from 0, the lowest scores first
# What is out of the frame, by the pipeline's status of the clip.
OUTSIDE = {
    "no_speech": "without speech",
    "failed": "failed",
    "pending": "not processed yet",
    "language": "in other languages",
}

# The rest of a statement selects from `frame`: audio_id, doubtful, stratum (a number as above). `cuts` has the bounds
# of the bands: those given, or those of the shares. Equal ones become one, and none divides off an empty band.
FRAME = """
    WITH verdicts AS (
        SELECT audio_id, bool_or(violates) AS flagged, max(score) AS score FROM verdicts_in_force
        WHERE cardinality(CAST(:policies AS text[])) = 0 OR policy = ANY (CAST(:policies AS text[]))
        GROUP BY audio_id
    ), said AS (
        SELECT DISTINCT ON (audio_id) audio_id, language, finding, not_judged FROM transcripts
        ORDER BY audio_id, created_at DESC, transcript_id DESC
    ), clips AS MATERIALIZED (
        SELECT f.audio_id, s.finding = 'doubtful' AS doubtful, v.score,
            CASE WHEN s.not_judged IS NOT NULL OR v.audio_id IS NULL THEN -2 WHEN v.flagged THEN -1 ELSE 0 END AS kind
        FROM audio_files f JOIN said s USING (audio_id) LEFT JOIN verdicts v USING (audio_id)
        WHERE f.status = 'done' AND f.s3_opus_path IS NOT NULL AND s.finding <> 'no_speech'
          AND f.processed_at >= :since AND f.processed_at < :until
          AND (cardinality(CAST(:languages AS text[])) = 0 OR s.language = ANY (CAST(:languages AS text[])))
    ), cuts AS MATERIALIZED (
        SELECT CAST(:bounds AS float8[]) AS bounds WHERE cardinality(CAST(:shares AS float8[])) = 0
        UNION ALL
        SELECT coalesce(array_agg(DISTINCT bound ORDER BY bound), '{}') FROM (
            SELECT unnest(percentile_disc(CAST(:shares AS float8[])) WITHIN GROUP (ORDER BY score)) AS bound,
                min(score) AS least
            FROM clips WHERE kind = 0
        ) q WHERE bound > least HAVING cardinality(CAST(:shares AS float8[])) > 0
    ), frame AS (
        SELECT audio_id, doubtful, CASE WHEN kind < 0 THEN kind WHEN cardinality(bounds) = 0 THEN 0
                                        ELSE width_bucket(score, bounds) END AS stratum
        FROM clips CROSS JOIN cuts
    )
"""
_SIZES = sa.text(f"""{FRAME}
    SELECT stratum, count(*) AS size, bounds FROM frame CROSS JOIN cuts GROUP BY stratum, bounds
""")  # noqa: S608 - parts of statements of the app's own
_OUTSIDE = sa.text("""
    SELECT CASE WHEN status = 'done' AND EXISTS (
            SELECT FROM transcripts t WHERE t.audio_id = f.audio_id AND t.finding <> 'no_speech') THEN 'language'
        WHEN status = 'done' THEN 'no_speech' ELSE status END, count(*)
    FROM audio_files f
    WHERE coalesce(processed_at, created_at) >= :since AND coalesce(processed_at, created_at) < :until
      AND (status <> 'done' OR cardinality(CAST(:languages AS text[])) > 0 AND NOT EXISTS (
        SELECT FROM transcripts t WHERE t.audio_id = f.audio_id AND t.language = ANY (CAST(:languages AS text[]))))
    GROUP BY 1
""")


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What a lead chooses. `bounds` divide the scores; with `shares` they are found, as shares of unflagged clips."""

    policies: tuple[str, ...] = ()  # none: all
    since: date | None = None
    until: date | None = None  # this day, too
    languages: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()
    as_of: datetime | None = None  # clips that were processed since are not in it

    def values(self) -> dict[str, Any]:
        """Return the parameters of `FRAME`."""
        return {
            "policies": list(self.policies),
            "languages": list(self.languages),
            "bounds": list(self.bounds),
            "shares": list(self.shares) if not self.bounds else [],  # else they are found
            "since": self.since.isoformat() + "T00:00:00Z" if self.since else "-infinity",
            "until": self._until(),
        }

    def _until(self) -> str:
        ends = []
        if self.until is not None:
            ends.append(f"{date.fromordinal(self.until.toordinal() + 1).isoformat()}T00:00:00+00:00")
        if self.as_of is not None:
            ends.append(self.as_of.isoformat())
        return min(ends, default="infinity")

    def kept(self) -> dict[str, Any]:
        """Return it as JSON, to be kept with the study."""
        return {
            "policies": list(self.policies),
            "since": self.since.isoformat() if self.since else None,
            "until": self.until.isoformat() if self.until else None,
            "languages": list(self.languages),
            "bounds": list(self.bounds),
            "shares": list(self.shares),
            "as_of": self.as_of.isoformat() if self.as_of else None,
        }


def frame_of(kept: Mapping[str, Any]) -> Frame:
    """Return the frame that `Frame.kept` made this of."""
    return Frame(
        policies=tuple(kept["policies"]),
        since=date.fromisoformat(kept["since"]) if kept["since"] else None,
        until=date.fromisoformat(kept["until"]) if kept["until"] else None,
        languages=tuple(kept["languages"]),
        bounds=tuple(kept["bounds"]),
        shares=tuple(kept["shares"]),
        as_of=datetime.fromisoformat(kept["as_of"]) if kept["as_of"] else None,
    )


@dataclass(frozen=True, kw_only=True)
class Stratum:
    number: int
    name: str
    size: int  # clips


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A frame, with its bounds, and how many clips there are."""

    frame: Frame
    strata: list[Stratum]  # flagged, the bands from the highest scores down, not judged; also empty ones
    outside: dict[str, int] = field(default_factory=dict)  # by the words of `OUTSIDE`

    @property
    def bands(self) -> list[Stratum]:
        return [stratum for stratum in self.strata if stratum.number >= 0]

    def stratum(self, number: int) -> Stratum:
        return next(stratum for stratum in self.strata if stratum.number == number)


def measure(frame: Frame) -> Measured:
    """Find the bounds of the bands, and count the clips of each stratum and those out of the frame."""
    be_patient()
    rows = db.session.execute(_SIZES, frame.values()).all()
    if rows:
        frame = replace(frame, bounds=tuple(rows[0].bounds))
    counts = {str(row[0]): int(row[1]) for row in db.session.execute(_OUTSIDE, frame.values())}
    outside = {OUTSIDE[key]: clips for key, clips in sorted(counts.items())}
    return Measured(frame=frame, strata=strata(frame, {row.stratum: row.size for row in rows}), outside=outside)


def strata(frame: Frame, sizes: Mapping[int, int]) -> list[Stratum]:
    numbers = [FLAGGED_NUMBER, *reversed(range(len(frame.bounds) + 1)), NOT_JUDGED_NUMBER]
    return [Stratum(number=n, name=name_of(n, frame.bounds), size=sizes.get(n, 0)) for n in numbers]


def be_patient() -> None:
    """Let the statements of this transaction run for longer, and sort in memory."""
    db.session.execute(sa.text(f"SET LOCAL statement_timeout = '{TIMEOUT_S}s'"))
    db.session.execute(sa.text("SET LOCAL work_mem = '128MB'"))


def name_of(number: int, bounds: Sequence[float]) -> str:
    if number < 0:
        return FLAGGED if number == FLAGGED_NUMBER else NOT_JUDGED
    if not bounds:
        return "not flagged"
    if number == 0:
        return f"score below {bounds[0]:g}"
    if number == len(bounds):
        return f"score {bounds[-1]:g} and more"
    return f"score {bounds[number - 1]:g} to {bounds[number]:g}"
