from __future__ import annotations

import sqlalchemy as sa
from flask import Blueprint, Response, current_app

from app.models import db

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """200 when Postgres answers and its schema is that of this release; no details, since anyone may ask."""
    try:
        db.session.execute(sa.text("SELECT FROM verdicts_in_force LIMIT 0"))
    except sa.exc.SQLAlchemyError as error:
        current_app.logger.error("Health check: Postgres does not answer, or needs schema.sql: %s", error)  # noqa: TRY400 - one line per check
        return Response("unavailable\n", status=503, mimetype="text/plain")
    return Response("ok\n", mimetype="text/plain")
