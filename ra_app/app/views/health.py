"""The health check for monitoring; it needs no log-in."""

from __future__ import annotations

import sqlalchemy as sa
from flask import Blueprint, Response, current_app

from app.models import db

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """Answer 200 if Postgres answers, else 503. The answer has no details, because it is public."""
    try:
        db.session.execute(sa.text("SELECT 1"))
    except sa.exc.SQLAlchemyError as error:
        current_app.logger.error("Health check: Postgres does not answer: %s", error)  # noqa: TRY400 - one line per check
        return Response("unavailable\n", status=503, mimetype="text/plain")
    return Response("ok\n", mimetype="text/plain")
