"""Draws the clips of a sample, and more of them later, with a known probability for each.

Each clip has a place in an order that only the seed decides (`slots.order_of`). A stratum's sample is its first n clips
in this order: a simple random sample without replacement, because every order of the clips is equally likely. So is its
beginning of any other length. To *extend* a sample therefore means to go on in the same order: all clips of the stratum
then had the probability n/N for the new n, the earlier ones, too (Ohlsson 1995, *Coordination of Samples Using
Permanent Random Numbers*, in *Business Survey Methods*; Fan, Muller and Rezucha 1962, *Journal of the American
Statistical Association* 57). This holds as long as the stratum has the same clips. Clips that were processed later
are not in its frame; if clips have moved between strata, because they were judged again, a sample is not extended.

In what order people get the clips is decided by another hash of the seed, so that it says nothing of the strata.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from app.models import Item, Study, db
from app.studies import sampling, slots
from app.studies.sampling import Measured

_PLACED = slots.order_of(slots.PLACED, ":seed", "audio_id")
_DRAWN = slots.order_of(slots.DRAWN, ":seed", "audio_id")
_ORDERED = f"""{sampling.FRAME}, ordered AS (
        SELECT audio_id, doubtful, stratum,
            row_number() OVER (PARTITION BY stratum ORDER BY {_DRAWN}, audio_id) AS place
        FROM frame
    )
"""  # noqa: S608 - parts of statements of the app's own
_DRAW = sa.text(f"""{_ORDERED}
    INSERT INTO ra_items (study_id, audio_id, stratum, inclusion_probability, position, doubtful)
    SELECT :study_id, audio_id, w.name, w.probability, {_PLACED} AS placed, doubtful
    FROM ordered JOIN unnest(CAST(:numbers AS int[]), CAST(:names AS text[]), CAST(:wanted AS int[]),
                             CAST(:probabilities AS float8[])) w (number, name, wanted, probability)
        ON w.number = ordered.stratum AND ordered.place <= w.wanted
    ORDER BY placed
    ON CONFLICT (study_id, audio_id) DO NOTHING
""")  # noqa: S608 - as above
# How many clips each stratum has, and how many of those drawn are still its first ones.
_STILL_FIRST = sa.text(f"""{_ORDERED}
    SELECT stratum, count(*) AS size, count(*) FILTER (WHERE place <= had AND (
        SELECT count(*) FROM ra_items i
        WHERE i.study_id = :study_id AND i.audio_id = ordered.audio_id AND i.stratum = w.name) = 1) AS still
    FROM ordered LEFT JOIN unnest(CAST(:numbers AS int[]), CAST(:names AS text[]), CAST(:had AS int[]))
        w (number, name, had) ON w.number = ordered.stratum
    GROUP BY stratum
""")  # noqa: S608 - as above
_LIST = sa.text(f"""
    INSERT INTO ra_items (study_id, audio_id, stratum, position, doubtful)
    SELECT :study_id, c.audio_id, 'listed', {_PLACED.replace("audio_id", "c.audio_id")}, coalesce(s.doubtful, false)
    FROM unnest(CAST(:audio_ids AS bigint[])) c (audio_id)
    LEFT JOIN LATERAL (SELECT finding = 'doubtful' AS doubtful FROM transcripts t WHERE t.audio_id = c.audio_id
                       ORDER BY created_at DESC, transcript_id DESC LIMIT 1) s ON true
    ON CONFLICT (study_id, audio_id) DO NOTHING
""")  # noqa: S608 - as above


class ChangedFrameError(Exception):
    """The sample cannot be extended. The message names the strata and says what to do."""


def draw(study: Study, measured: Measured, wanted: Mapping[int, int]) -> None:
    """Draw the first sample of a study: so many clips of each stratum, by its number. Does not commit.

    `measured` is of this transaction. What was drawn from is kept in the study's design.
    """
    sampling.be_patient()
    _insert(study, measured, wanted)
    study.design = {
        "how": "sample",
        "seed": study.seed,
        "drawn_at": datetime.now(UTC).isoformat(),
        "frame": measured.frame.kept(),
        "outside": measured.outside,
        "strata": _strata(measured, wanted),
    }
    slots.complete(study.study_id)


def extend(study: Study, more: Mapping[int, int]) -> None:
    """Draw so many more clips of each stratum, the next ones of the same order. Does not commit.

    The probability of every clip of these strata becomes the new one.

    Raises
    ------
    ChangedFrameError
        A stratum has no longer the clips that it had.
    """
    sampling.be_patient()
    before = {int(each["number"]): each for each in study.design["strata"]}
    measured = _unchanged(study, before)
    wanted = {
        number: min(each["drawn"] + more.get(number, 0), each["size"]) if more.get(number) else each["drawn"]
        for number, each in before.items()
    }
    _insert(study, measured, wanted)
    for each in _strata(measured, wanted):
        if each["drawn"]:
            db.session.execute(
                sa.update(Item)
                .where(Item.study_id == study.study_id, Item.stratum == each["name"])
                .values(inclusion_probability=each["probability"])
            )
    extended = [
        *study.design.get("extended", []),
        {"at": datetime.now(UTC).isoformat(), "more": _by_name(before, more)},
    ]
    study.design = {**study.design, "strata": _strata(measured, wanted), "extended": extended}
    slots.complete(study.study_id)


def add_listed(study: Study, audio_ids: Sequence[int]) -> None:
    """Add these clips to a study of a list; those that it has already stay as they are. Does not commit."""
    sampling.be_patient()
    db.session.execute(_LIST, {"study_id": study.study_id, "seed": str(study.seed), "audio_ids": list(audio_ids)})
    slots.complete(study.study_id, audio_ids)


def _insert(study: Study, measured: Measured, wanted: Mapping[int, int]) -> None:
    drawn = [each for each in _strata(measured, wanted) if each["drawn"]]
    values: dict[str, Any] = {**measured.frame.values(), "study_id": study.study_id, "seed": str(study.seed)}
    values |= {
        "numbers": [each["number"] for each in drawn],
        "names": [each["name"] for each in drawn],
        "wanted": [each["drawn"] for each in drawn],
        "probabilities": [each["probability"] for each in drawn],
    }
    db.session.execute(_DRAW, values)


def _strata(measured: Measured, wanted: Mapping[int, int]) -> list[dict[str, Any]]:
    """Return the strata with what is drawn of each, as the study's design keeps them."""
    found = []
    for stratum in measured.strata:
        drawn = min(wanted.get(stratum.number, 0), stratum.size)
        chance = drawn / stratum.size if drawn else None
        found.append({**vars(stratum), "drawn": drawn, "probability": chance})
    return found


def _unchanged(study: Study, before: Mapping[int, Mapping[str, Any]]) -> Measured:
    """Return the frame of the study as it is now, if no clip has come into or left a stratum."""
    frame = replace(sampling.frame_of(study.design["frame"]), shares=())
    values = {
        "numbers": list(before),
        "names": [each["name"] for each in before.values()],
        "had": [each["drawn"] for each in before.values()],
        "study_id": study.study_id,
        "seed": str(study.seed),
    }
    rows = {row.stratum: row for row in db.session.execute(_STILL_FIRST, {**frame.values(), **values})}
    changed = [
        str(each["name"])
        for number, each in before.items()
        if ((rows[number].size, rows[number].still) if number in rows else (0, 0)) != (each["size"], each["drawn"])
    ]
    if changed:
        raise ChangedFrameError(
            f"Clips have come into or left these strata since the sample was drawn: {', '.join(changed)}. The next "
            "clips of the order would not have a known probability. Make a new study for more clips."
        )
    sizes = {number: row.size for number, row in rows.items()}
    return Measured(frame=frame, strata=sampling.strata(frame, sizes), outside=study.design["outside"])


def _by_name(before: Mapping[int, Mapping[str, Any]], more: Mapping[int, int]) -> dict[str, int]:
    return {str(before[number]["name"]): clips for number, clips in more.items() if clips}
