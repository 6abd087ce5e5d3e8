"""The commands of the guide, word for word, and the app's behaviour while Postgres is down."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from app import create_app
from app.config import load_settings
from tests.ra_app.serving import GUNICORN, RA_APP, serving, status
from tests.ra_app.world import Visitor, World


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("flask run --port {port}", marks=pytest.mark.thorough),
        pytest.param("flask run --debug --port {port}", marks=pytest.mark.thorough),
        'gunicorn --bind 0.0.0.0:{port} "app:create_app()"',
    ],
)
@pytest.mark.usefixtures("app")
def test_the_app_is_served_by(ra_env: dict[str, str], tmp_path: Path, command: str) -> None:
    with serving(command, ra_env, tmp_path) as address:
        assert status(f"{address}/healthz") == 200
        assert status(f"{address}/login") == 200
        assert status(f"{address}/static/css/app.css") == 200


@pytest.mark.usefixtures("app")
def test_flask_app_need_not_be_set(ra_env: dict[str, str], tmp_path: Path) -> None:
    environ = {name: value for name, value in ra_env.items() if name != "FLASK_APP"}
    with serving("flask run --port {port}", environ, tmp_path) as address:
        assert status(f"{address}/healthz") == 200


def test_errors_go_to_the_log_file_where_there_is_a_directory_for_it(ra_env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    shutil.copy(RA_APP / "gunicorn.conf.py", tmp_path)
    lame = {**ra_env, "DATABASE_URL": "postgresql://ra_app@127.0.0.1:1/x"}
    command = GUNICORN.replace("gunicorn", f"gunicorn --config {tmp_path}/gunicorn.conf.py")
    with serving(command, lame, tmp_path) as address:
        assert status(f"{address}/healthz") == 503
    assert "Postgres does not answer" in (tmp_path / "logs" / "error.log").read_text()
    assert "Postgres does not answer" in (tmp_path / "server.log").read_text()
    assert "Booting worker" not in (tmp_path / "logs" / "error.log").read_text()


def test_check_names_what_refuses_the_settings(ra_env: dict[str, str], world: World) -> None:
    def check(**changed: str) -> tuple[int, str]:
        done = create_app(load_settings({**ra_env, **changed})).test_cli_runner().invoke(args=["check"])
        return done.exit_code, " ".join(done.output.split())

    assert check() == (0, "Postgres good S3 good")
    code, said = check(S3_ENDPOINT="http://127.0.0.1:9")
    assert code == 1
    assert "cannot be reached" in said
    assert "SignatureDoesNotMatch" in check(S3_SECRET_KEY="well-formed-but-wrong")[1]
    # Without a clip, a wrong bucket cannot be told from keys that may only read objects.
    assert "so whether they may read was not tried" in check(S3_BUCKET="no-such-bucket")[1]
    world.add_clip()
    assert check()[0] == 0
    code, said = check(S3_SECRET_KEY="well-formed-but-wrong")
    assert code == 1
    assert "S3 S3 refuses to send object" in said
    code, said = check(DATABASE_URL="postgresql://ra_app:wrong@127.0.0.1:1/x")
    assert code == 1
    assert said.startswith("Postgres connection to server")


def test_without_postgres_pages_say_so_and_health_is_503(ra_env: dict[str, str]) -> None:
    lame = Visitor(create_app(load_settings({**ra_env, "DATABASE_URL": "postgresql://ra_app@127.0.0.1:1/x"})))
    assert lame.get("/login").status_code == 200  # it needs no database
    health = lame.get("/healthz")
    assert (health.status_code, health.text) == (503, "unavailable\n")
    answer = lame.log_in("mira")
    assert answer.status_code == 503
    assert "A service that this page needs is down" in answer.text
    assert "Retry-After" in answer.headers


def test_a_session_that_cannot_be_checked_is_answered_with_503(mira: Visitor, ra_env: dict[str, str]) -> None:
    lame = create_app(load_settings({**ra_env, "DATABASE_URL": "postgresql://ra_app@127.0.0.1:1/x"}))
    cookie = mira.client.get_cookie("ra_session")
    assert cookie is not None
    client = lame.test_client()
    client.set_cookie("ra_session", cookie.value)
    answer = client.get("/")
    assert answer.status_code == 503
    assert "Try again in a minute" in answer.text


def test_a_missing_table_is_a_503_and_the_log_says_what_to_run(
    mira: Visitor, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.add_clip()
    world.sql("ALTER VIEW ra_queue RENAME TO hidden")
    try:
        answer = mira.get("/")
    finally:
        world.sql("ALTER VIEW hidden RENAME TO ra_queue")
    assert answer.status_code == 503
    assert "flask db upgrade" in caplog.text
    assert mira.get("/").status_code == 200
