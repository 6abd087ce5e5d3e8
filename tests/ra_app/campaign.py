"""Studies with coders and labels, written straight into the tables: what the pages of leads are tried on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from tests.ra_app.world import World

CODEBOOK = ("spoken-clips", "3")
CODERS = ("annika", "benedikt", "cemil")  # names of people: no page of results may show them


def add_study(world: World, name: str, **columns: Any) -> int:
    """Add an open study with a list of clips (none yet), and return its number."""
    given = {"name": name, "selection": "list", "mode": "blind", "coders_per_item": 3, **columns}
    names, holders = ", ".join(given), ", ".join(["%s"] * len(given))
    return int(
        world.sql(f"INSERT INTO ra_studies ({names}) VALUES ({holders}) RETURNING study_id", *given.values())[0][0]
    )


def add_items(
    world: World,
    study: int,
    clips: Iterable[int],
    *,
    stratum: str = "flagged",
    probability: float = 1.0,
    coders: int = 3,
) -> list[int]:
    """Add clips to a study, with free slots for `coders` people each. Return the numbers of the items."""
    items = []
    for clip in clips:
        row = world.sql(
            "INSERT INTO ra_items (study_id, audio_id, stratum, inclusion_probability, position) "
            "VALUES (%s, %s, %s, %s, %s) RETURNING item_id",
            study, clip, stratum, probability, clip,
        )  # fmt: skip
        items.append(int(row[0][0]))
        for number in range(1, coders + 1):
            world.sql(
                "INSERT INTO ra_assignments (audio_id, item_id, coder_number, study_id, position, state, opened_at) "
                "VALUES (%s, %s, %s, %s, %s, 'free', NULL)",
                clip, items[-1], number, study, clip,
            )  # fmt: skip
    return items


def judge(
    world: World,
    item: int,
    user: int,
    codes: Sequence[str],
    *,
    blind: bool = True,
    version: str = CODEBOOK[1],
    answers: Mapping[str, Sequence[str]] | None = None,
    note: str = "",
    at: str = "now",
) -> int:
    """Store a label of this person for this item, in the first free slot or as a revision. Return the label's number.

    `at` is a time as Postgres reads it.
    """
    own = world.sql("SELECT assignment_id FROM ra_assignments WHERE item_id = %s AND user_id = %s", item, user)
    if not own:
        own = world.sql(
            "UPDATE ra_assignments SET user_id = %s, state = 'submitted', submitted_at = %s, opened_at = %s "
            "WHERE assignment_id = (SELECT min(assignment_id) FROM ra_assignments "
            "WHERE item_id = %s AND state = 'free') RETURNING assignment_id",
            user, at, at, item,
        )  # fmt: skip
    before = world.sql("SELECT max(label_id) FROM ra_labels WHERE assignment_id = %s", own[0][0])[0][0]
    row = world.sql(
        "INSERT INTO ra_labels (assignment_id, submission_key, codebook_id, codebook_version, labels, answers, note, "
        "blind, mode, revision_of, created_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 'blind', %s, %s) RETURNING label_id",
        own[0][0], str(uuid4()), CODEBOOK[0], version, json.dumps(list(codes)),
        json.dumps(answers or {}), note, blind, before, at,
    )  # fmt: skip
    return int(row[0][0])
