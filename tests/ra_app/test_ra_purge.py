"""Deleting labels and records: only under a receipt, and only what the rule says."""

from __future__ import annotations

import json
from typing import Any

import psycopg2.errors
import pytest
import sqlalchemy as sa
import sqlalchemy.exc

from app.models import LabelRow, Receipt, db
from app.removal import purging
from app.removal.receipts import SETTING, open_receipt
from tests.ra_app import campaign
from tests.ra_app.world import World


def _labelled(world: World) -> int:
    item = campaign.add_items(world, campaign.add_study(world, "Threats"), [world.add_clip()])[0]
    return campaign.judge(world, item, world.add_user("mira"), ["none"], note="said in private")


def _refused(statement: str) -> None:
    with pytest.raises(sqlalchemy.exc.IntegrityError) as caught:
        db.session.execute(sa.text(statement))
    assert isinstance(caught.value.orig, psycopg2.errors.RestrictViolation)
    db.session.rollback()


def test_a_label_is_changed_or_deleted_only_under_a_receipt_of_now(world: World) -> None:
    label = _labelled(world)
    with world.app.app_context():
        _refused("DELETE FROM ra_labels")
        open_receipt("erase", by=None, subject="clip 1", content={"labels": 1})
        db.session.execute(sa.update(LabelRow).values(note=""))
        db.session.commit()
        assert db.session.scalar(sa.select(LabelRow.note).where(LabelRow.label_id == label)) == ""
        old = db.session.scalars(sa.select(Receipt.receipt_id)).one()
        _refused("DELETE FROM ra_labels")  # the setting ended with the transaction
        for name in (old, 999, "x", ""):
            db.session.execute(sa.select(sa.func.set_config(SETTING, str(name), True)))
            _refused("DELETE FROM ra_labels")
        for statement in (
            "DELETE FROM ra_receipts",
            "UPDATE ra_receipts SET subject = ''",
            "TRUNCATE ra_labels CASCADE",
        ):
            open_receipt("purge", by=None, subject="x", content={})
            _refused(statement)
        open_receipt("purge", by=None, subject="x", content={})
        assert db.session.execute(sa.delete(LabelRow)).rowcount == 1  # type: ignore[attr-defined]
        db.session.commit()


def _purge(world: World, *words: str, code: int = 0) -> Any:
    done = world.app.test_cli_runner().invoke(args=["purge", *words])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if code == 0 else done.output


def _closed(world: World, name: str, user: int, *, days: int) -> int:
    """A study with one clip that was claimed, heard, labelled twice and decided on, closed so many days ago."""
    study = campaign.add_study(world, name)
    clip = world.add_clip()
    item = campaign.add_items(world, study, [clip])[0]
    labels = [campaign.judge(world, item, user, codes) for codes in (["hate"], ["hate", "harassment"])]
    slot = world.sql("SELECT assignment_id FROM ra_assignments WHERE user_id = %s AND item_id = %s", user, item)[0][0]
    past = f"{days} days"
    world.sql(
        "UPDATE ra_studies SET state = 'closed', closed_at = now() - %s::interval WHERE study_id = %s", past, study
    )
    for at in (past, "0 days"):
        world.sql(
            "INSERT INTO ra_exposures (at, user_id, audio_id, assignment_id, heard_ms, intervals) "
            "VALUES (now() - %s::interval, %s, %s, %s, 9, '[]')", at, user, clip, slot,
        )  # fmt: skip
    world.sql("INSERT INTO ra_audit (at, user_id, event, audio_id) VALUES (now() - %s::interval, %s, 'listened', %s)",
              past, user, clip)  # fmt: skip
    world.sql("INSERT INTO ra_drafts (assignment_id, user_id, content, base_label_id) VALUES (%s, %s, '{}', %s)",
              slot, user, labels[1])  # fmt: skip
    world.sql("INSERT INTO ra_decisions (item_id, codebook_id, codebook_version, labels, reason, label_ids, user_id) "
              "VALUES (%s, 'c', '1', '[\"hate\"]', 'because', %s, %s)", item, labels, user)  # fmt: skip
    return study


def _left(world: World) -> dict[str, int]:
    return {table: world.sql(f"SELECT count(*) FROM {table}")[0][0] for table in purging.RULE}


def test_a_purge_takes_closed_studies_and_leaves_a_receipt(world: World) -> None:
    mira = world.add_user("mira")
    old, young = _closed(world, "Old", mira, days=400), _closed(world, "Young", mira, days=30)
    running = campaign.add_study(world, "Running")
    campaign.judge(world, campaign.add_items(world, running, [world.add_clip()])[0], mira, ["hate"], at="2020-01-01")
    before = _left(world)

    assert "is open. Close it first" in _purge(world, "--study", "Running", "--yes", code=1)
    assert "no study named" in _purge(world, "--study", "Nothing", code=1)
    assert "either --older-than" in _purge(world, code=2)
    would = _purge(world, "--older-than", "365")
    assert would["studies"] == [old]
    assert _left(world) == before

    receipt = _purge(world, "--older-than", "365", "--yes")
    assert receipt["counts"] == would["counts"] == {
        "ra_drafts": 1, "ra_labels": 2, "ra_exposures": 1, "ra_audit": 1, "ra_wellbeing": 0, "ra_decisions": 1,
        "ra_declines": 0, "ra_assignments": 3, "ra_items": 1, "ra_study_members": 0,
    }  # fmt: skip
    assert receipt["labels_given"] == [["spoken-clips", "3", "harassment", 1], ["spoken-clips", "3", "hate", 2]]
    assert receipt["coders"] == 1
    assert _left(world) == {table: before[table] - gone for table, gone in receipt["counts"].items()}
    assert world.sql("SELECT name FROM ra_studies WHERE study_id = %s", old) == [("Old",)]
    assert world.sql("SELECT kind, content->>'labels_sha256' FROM ra_receipts") == [("purge", receipt["labels_sha256"])]
    assert world.sql("SELECT act, subject FROM ra_acts") == [("purged", "studies closed more than 365 days ago")]

    receipt = _purge(world, "--study", "Young", "--yes")
    assert (receipt["studies"], receipt["counts"]["ra_labels"]) == ([young], 2)
    assert world.sql("SELECT count(*) FROM ra_labels") == [(1,)]  # of the study that runs
    assert world.sql("SELECT count(*) FROM ra_exposures") == [(2,)]  # today's count for today's limits
