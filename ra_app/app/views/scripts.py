"""The script of the review screen, at an address with a fingerprint of its content. It needs no log-in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, current_app

from app.scripts import script

blueprint = Blueprint("scripts", __name__)

MODULES = "js/review"
MAX_AGE_S = 365 * 24 * 3600


@blueprint.get("/scripts/review.js")
def review() -> Response:
    text, _ = _review(current_app)
    answer = Response(text, mimetype="text/javascript")
    answer.headers["Cache-Control"] = f"public, max-age={MAX_AGE_S}, immutable"
    return answer


@blueprint.app_url_defaults
def add_fingerprint(endpoint: str, values: dict[str, Any]) -> None:
    if endpoint == "scripts.review":
        values.setdefault("v", _review(current_app)[1])


def _review(app: Flask) -> tuple[str, str]:
    return script(Path(app.static_folder or "") / MODULES / "review.js")
