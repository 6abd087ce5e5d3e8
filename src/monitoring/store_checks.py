"""The checks that workers make at their start: Postgres, S3, scratch, and the clocks of this host and of Postgres."""

from __future__ import annotations

from config import Settings
from db import Database
from monitoring.redis_checks import check_clock
from s3_utils import ObjectStore
from scratch.volume import check_scratch


def check_stores(db: Database, s3: ObjectStore, settings: Settings) -> None:
    """Check each store; raises OperatorError, with one sentence, for the first problem."""
    db.check()
    check_clock(db.server_time(), "Postgres")
    s3.check()
    check_scratch(settings.scratch_root, settings.scratch_mount)
