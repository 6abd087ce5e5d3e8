"""A version of the codebook never means two things: an edit without a new version is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask

from app import create_app
from app.config import APP_ROOT, load_settings
from app.models import db
from tests.ra_app.serving import run
from tests.ra_app.world import Visitor, World

SHIPPED = (APP_ROOT / "codebook.toml").read_text()


@pytest.fixture
def edited(tmp_path: Path, ra_env: dict[str, str]) -> dict[str, str]:
    """Settings with a codebook that was edited and still says the same version."""
    path = tmp_path / "codebook.toml"
    path.write_text(SHIPPED.replace("however rude, sad, or silly", "however rude or silly"))
    assert path.read_text() != SHIPPED
    return {**ra_env, "CODEBOOK_PATH": str(path)}


@pytest.fixture
def as_deployed(world: World) -> Callable[[dict[str, str]], Visitor]:
    """Mira at an app with these settings."""
    world.add_user("mira")

    def log_in(environ: dict[str, str]) -> Visitor:
        visitor = Visitor(create_app(load_settings(environ)))
        visitor.log_in("mira")
        return visitor

    return log_in


def published(world: World) -> list[tuple[str, str, int, str]]:
    return world.sql(
        "SELECT codebook_id, version, length(sha256), content -> 'labels' -> 3 -> 'policies' ->> 0 FROM ra_codebooks"
    )


def test_a_deploy_publishes_the_codebook_and_may_do_it_again(app: Flask, world: World) -> None:
    publish = ["codebook", "publish"]
    first, again = (app.test_cli_runner().invoke(args=publish) for _ in range(2))
    assert (first.exit_code, first.output) == (0, "Published the codebook spoken-clips, version 3.\n")
    assert (again.exit_code, again.output) == (0, "Known: the codebook spoken-clips, version 3.\n")
    assert published(world) == [("spoken-clips", "3", 64, "scams-and-fraud")]


def test_an_edit_without_a_new_version_is_refused_by_the_deploy(
    app: Flask, world: World, edited: dict[str, str]
) -> None:
    app.test_cli_runner().invoke(args=["codebook", "publish"])
    before = world.sql("SELECT * FROM ra_codebooks")
    done = run("flask codebook publish", edited)
    assert done.returncode == 1
    assert "has been edited, but still says version 3" in done.stderr
    assert "Give the edited file a new version" in done.stderr
    assert "Traceback" not in done.stderr
    assert world.sql("SELECT * FROM ra_codebooks") == before


@pytest.mark.thorough
def test_before_the_upgrade_the_command_says_what_to_run(ra_env: dict[str, str], world: World) -> None:
    world.sql("ALTER TABLE ra_codebooks RENAME TO hidden")
    try:
        done = run("flask codebook publish", ra_env)
    finally:
        world.sql("ALTER TABLE hidden RENAME TO ra_codebooks")
    assert done.returncode == 1
    assert "Run `flask db upgrade` first" in done.stderr


def test_the_app_refuses_an_edited_codebook_and_says_how_to_mend_it(
    world: World, as_deployed: Callable[[dict[str, str]], Visitor], ra_env: dict[str, str],
    edited: dict[str, str], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    clip = world.add_clip()
    before = as_deployed(ra_env)
    assert before.label(clip, "hate").status_code == 302
    mira = as_deployed(edited)
    for answer in (mira.get(f"/review/{clip}"), mira.post(f"/review/{clip}", {"label": "hate"})):
        assert answer.status_code == 503
        assert "The codebook of this site was edited without a new version" in answer.text
        assert "Retry-After" in answer.headers
    assert "Give the edited file a new version" in caplog.text
    assert mira.get("/").status_code == 200
    assert mira.get("/account").status_code == 200
    assert world.sql("SELECT count(*) FROM ra_labels") == [(1,)]
    for visitor in (before, mira):
        with visitor.client.application.app_context():
            db.engine.dispose()


def test_a_study_may_be_labelled_by_an_earlier_codebook(
    mira: Visitor, world: World, ra_env: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "earlier.toml"
    path.write_text(SHIPPED.replace('version = "3"', 'version = "1.9"').replace('"Hate speech"', '"Hatred"'))
    assert run("flask codebook publish", {**ra_env, "CODEBOOK_PATH": str(path)}).returncode == 0
    clip = world.add_clip()
    world.study(codebook_id="spoken-clips", codebook_version="1.9")
    page = mira.hold(clip).get(f"/review/{clip}").text
    assert "Hatred" in page
    assert "version 1.9" in page
    mira.post(f"/review/{clip}/draft", {**mira.form(clip), "label": "hate"})
    mira.label(clip, "hate")
    kept = "SELECT codebook_version, content -> 'labels' -> 2 ->> 'name' FROM ra_labels JOIN ra_codebooks "
    assert world.sql(kept + "ON codebook_sha256 = sha256") == [("1.9", "Hatred")]


def test_a_study_that_names_an_unknown_codebook_says_so(
    mira: Visitor, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    clip = world.add_clip()
    mira.hold(clip)
    world.study(codebook_id="spoken-clips", codebook_version="0")
    assert mira.get(f"/review/{clip}").status_code == 503
    assert "which was never published; name one of the table ra_codebooks" in caplog.text


def test_labels_name_the_content_of_their_codebook(mira: Visitor, world: World) -> None:
    mira.label(world.add_clip(), "hate")
    assert world.sql("SELECT count(*) FROM ra_labels JOIN ra_codebooks ON codebook_sha256 = sha256") == [(1,)]
