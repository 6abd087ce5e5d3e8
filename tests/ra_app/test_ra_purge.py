"""Deleting labels and records: only under a receipt, and only what the rule says."""

from __future__ import annotations

import psycopg2.errors
import pytest
import sqlalchemy as sa
import sqlalchemy.exc

from app.models import LabelRow, Receipt, db
from app.receipts import SETTING, open_receipt
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
