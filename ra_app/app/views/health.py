"""The health check for monitoring; it needs no log-in."""

from __future__ import annotations

import sqlalchemy as sa
from flask import Blueprint, Response, current_app

from app.models import db
from app.pipeline import ALL

blueprint = Blueprint("health", __name__)

# Every column that the pages read, and no row: Postgres looks the names up and scans nothing.
_NEEDED = [sa.select(table).limit(0) for table in ALL]


@blueprint.get("/healthz")
def healthz() -> Response:
    """Answer 200 if Postgres answers and has this release's schema, else 503, without details: the answer is public."""
    try:
        for query in _NEEDED:
            db.session.execute(query)
    except sa.exc.SQLAlchemyError as error:
        current_app.logger.error("Health check: Postgres does not answer, or needs schema.sql: %s", error)  # noqa: TRY400 - one line per check
        return Response("unavailable\n", status=503, mimetype="text/plain")
    return Response("ok\n", mimetype="text/plain")
