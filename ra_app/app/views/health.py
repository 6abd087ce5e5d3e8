"""The health check for monitoring; it needs no log-in."""

from __future__ import annotations

import sqlalchemy as sa
from flask import Blueprint, Response, current_app

from app.models import db

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """Answer 200 if Postgres answers and has this release's schema, else 503, without details: the answer is public."""
    try:
        db.session.execute(sa.text("SELECT FROM verdicts_in_force LIMIT 0"))
    except sa.exc.SQLAlchemyError as error:
        current_app.logger.error("Health check: Postgres does not answer, or needs schema.sql: %s", error)  # noqa: TRY400 - one line per check
        return Response("unavailable\n", status=503, mimetype="text/plain")
    return Response("ok\n", mimetype="text/plain")
