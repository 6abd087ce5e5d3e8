"""A codebook with questions, for tests: the shipped one and two questions, as a version by which the study labels."""

from __future__ import annotations

import json
from typing import Any

from app.codebooks.codebook import load_codebook, of_content
from app.config import APP_ROOT
from tests.ra_app.world import World

QUESTIONS = [
    {
        "code": "target",
        "text": "Who is attacked?",
        "kind": "multi",
        "when": ["hate", "violent_threat"],
        "options": [{"code": "women", "name": "Women"}, {"code": "men", "name": "Men", "key": "w"}],
    },
    {
        "code": "where",
        "text": "Where is it said?",
        "kind": "single",
        "required": False,
        "options": [{"code": "begin", "name": "At the beginning"}, {"code": "end", "name": "At the end"}],
    },
]


def ask(world: World, version: str = "4", **changed: Any) -> None:
    """Publish the shipped codebook with questions as this version, and let the default study label by it."""
    shipped = load_codebook(APP_ROOT / "codebook.toml").content()
    made = of_content({**shipped, "questions": QUESTIONS, "version": version, **changed})
    world.sql(
        "INSERT INTO ra_codebooks (codebook_id, version, sha256, content) VALUES (%s, %s, %s, %s)",
        made.id, made.version, made.sha256(), json.dumps(made.content()),
    )  # fmt: skip
    world.study(codebook_id=made.id, codebook_version=version)
