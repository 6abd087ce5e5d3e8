"""Receipts: the one way in which labels and records, which are only ever added to, are changed or deleted.

A trigger refuses every UPDATE and DELETE of these tables (`ra_refuse_change` in the migrations). It lets them pass in a
transaction that has written a receipt and names it in the setting `ra_app.receipt`. So nothing is removed without a row
that says what, and the row and the removal are stored together or not at all.

A receipt is written before the rows go, and is never changed. So count first, in the same transaction and under
REPEATABLE READ or a lock, and compare with what was removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from app.models import Receipt, User, db

SETTING = "ra_app.receipt"


def open_receipt(kind: str, *, by: User | None, subject: str, content: Mapping[str, Any]) -> Receipt:
    """Write a receipt; from here to the end of this transaction, labels and records may be changed and deleted.

    `kind` is one of RECEIPTS of app/models/leading.py. `content` has counts and numbers of what goes, never what it
    said. Call it outside of a savepoint: a receipt of a nested transaction opens nothing. Nothing commits.
    """
    receipt = Receipt(kind=kind, user_id=by.user_id if by is not None else None, subject=subject, content=dict(content))
    db.session.add(receipt)
    db.session.flush()
    db.session.execute(sa.select(sa.func.set_config(SETTING, str(receipt.receipt_id), True)))
    return receipt
