"""The app checks its settings at the start. An error message is one sentence with an example."""

from __future__ import annotations

import shlex
import traceback
from pathlib import Path

import pytest

from app.config import APP_ROOT, Settings, env_example, load_settings
from app.errors import ConfigError
from tests.ra_app.serving import run

GOOD = {
    "DATABASE_URL": "postgresql://ra_app:s3cr3t@db.example.org/audio_pipeline",
    "SECRET_KEY": "k" * 32,
    "S3_ENDPOINT": "https://s3.example.org:8080/",
    "S3_ACCESS_KEY": "reader",
    "S3_SECRET_KEY": "s3cr3t",
}


def test_defaults_are_those_of_production() -> None:
    settings = load_settings(GOOD)
    assert settings.s3_bucket == "audio-archives"
    assert settings.session_cookie_secure is True
    assert settings.trusted_proxies == 0
    assert settings.codebook_path == APP_ROOT / "codebook.toml"
    assert settings.s3_endpoint == "https://s3.example.org:8080"


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_the_database_driver_is_named_whatever_sqlalchemy_prefers(scheme: str) -> None:
    url = GOOD["DATABASE_URL"].replace("postgresql", scheme, 1)
    assert load_settings({**GOOD, "DATABASE_URL": url}).database_url.startswith("postgresql+psycopg2://ra_app:s3cr3t@")


@pytest.mark.parametrize("name", ["DATABASE_URL", "SECRET_KEY", "S3_ENDPOINT", "S3_ACCESS_KEY", "S3_SECRET_KEY"])
@pytest.mark.parametrize("empty", [True, False])
def test_a_missing_setting_is_named_with_an_example(name: str, empty: bool) -> None:
    environ = {key: value for key, value in GOOD.items() if key != name} | ({name: ""} if empty else {})
    with pytest.raises(ConfigError) as error:
        load_settings(environ)
    assert error.value.message.startswith(f"{name} is not set")
    assert f"for example {name}=" in error.value.message
    assert "\n" not in error.value.message


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("DATABASE_URL", "mysql://u:hidden-pw@h/d", "it must begin with postgresql://"),
        ("DATABASE_URL", "hidden-pw", "it must be an address"),
        ("DATABASE_URL", "postgresql://u:hidden-pw@h", "the database's name"),
        ("SECRET_KEY", "hidden-pw", "32 characters or more"),
        ("S3_ENDPOINT", "s3.example.org", "it must be http:// or https://"),
        ("SESSION_COOKIE_SECURE", "perhaps", "it must be true or false"),
        ("TRUSTED_PROXIES", "one", "it must be a number"),
        ("TRUSTED_PROXIES", "99", "between 0 and 10"),
        ("SESSION_HOURS", "0", "above 0"),
        ("FLASK_ENV", "prod", "production or development"),
        ("OIDC_ISSUER", "http://login.example.edu", "it must begin with https://"),
        ("OIDC_EMAIL_DOMAINS", "example.edu, someone@example.edu", "behind the @"),
        ("OIDC_CLAIM", "groups", "the claim's name, =, and its value"),
        ("OIDC_SCOPES", "email", "openid must be one"),
    ],
)
def test_a_malformed_setting_is_named_and_a_secret_stays_secret(name: str, value: str, reason: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_settings({**GOOD, name: value})
    assert error.value.message.startswith(f"{name} is ")
    assert reason in error.value.message
    assert f"for example {name}=" in error.value.message
    assert "hidden-pw" not in "".join(traceback.format_exception(error.value))


SIGN_ON = {"OIDC_ISSUER": "https://login.example.edu", "OIDC_CLIENT_ID": "ra", "OIDC_CLIENT_SECRET": "hidden-pw"}


@pytest.mark.parametrize("name", ["OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET"])
def test_half_a_single_sign_on_is_refused(name: str) -> None:
    half = {key: value for key, value in SIGN_ON.items() if key != name}
    with pytest.raises(ConfigError, match=f"{name} is not set, but OIDC_ISSUER is") as error:
        load_settings({**GOOD, **half})
    assert "hidden-pw" not in "".join(traceback.format_exception(error.value))


def test_single_sign_on_without_invitations_needs_to_know_for_whom() -> None:
    everybody = {**GOOD, **SIGN_ON, "OIDC_WITHOUT_INVITATION": "true"}
    with pytest.raises(ConfigError, match="nothing says who may have an account"):
        load_settings(everybody)
    settings = load_settings({**everybody, "OIDC_EMAIL_DOMAINS": "Example.edu, lab.example.edu"})
    assert settings.oidc_email_domains == ("example.edu", "lab.example.edu")
    assert "hidden-pw" not in repr(settings)


def test_secrets_may_come_as_credentials(tmp_path: Path) -> None:
    (tmp_path / "secret_key").write_text("c" * 40 + "\n")
    environ = {key: value for key, value in GOOD.items() if key != "SECRET_KEY"}
    settings = load_settings({**environ, "CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert settings.secret_key == "c" * 40


def test_a_credential_keeps_all_but_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "s3_secret_key").write_text(" a b \n")
    environ = {key: value for key, value in GOOD.items() if key != "S3_SECRET_KEY"}
    assert load_settings({**environ, "CREDENTIALS_DIRECTORY": str(tmp_path)}).s3_secret_key == " a b "


@pytest.mark.parametrize("name", ["SECRET_KEY", "DATABASE_URL", "S3_ACCESS_KEY", "S3_SECRET_KEY"])
def test_an_empty_credential_counts_as_one_that_is_not_set(tmp_path: Path, name: str) -> None:
    (tmp_path / name.lower()).write_text("\n")
    environ = {key: value for key, value in GOOD.items() if key != name}
    with pytest.raises(ConfigError, match=f"{name} is not set"):
        load_settings({**environ, "CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_secrets_do_not_stand_in_the_settings_repr() -> None:
    shown = repr(load_settings(GOOD))
    assert "s3cr3t" not in shown
    assert GOOD["SECRET_KEY"] not in shown


@pytest.mark.parametrize("marker", [{"FLASK_ENV": "development"}, {"FLASK_DEBUG": "1"}])
def test_development_sends_cookies_over_http_unless_told_otherwise(marker: dict[str, str]) -> None:
    assert load_settings({**GOOD, **marker}).session_cookie_secure is False
    assert load_settings({**GOOD, **marker, "SESSION_COOKIE_SECURE": "true"}).session_cookie_secure is True


def test_env_example_is_in_step_with_the_settings() -> None:
    written = (APP_ROOT / ".env.example").read_text()
    assert written == env_example()
    for name in Settings.model_fields:
        assert f"{name.upper()}=" in written


def test_the_example_values_are_accepted() -> None:
    lines = [line.lstrip("#") for line in env_example().splitlines() if "=" in line and not line.startswith("# ")]
    load_settings(dict(shlex.split(line)[0].split("=", 1) for line in lines if not line.startswith("  ")))


@pytest.mark.thorough
def test_flask_says_a_missing_setting_in_one_sentence() -> None:
    result = run("flask users list", {key: value for key, value in GOOD.items() if key != "SECRET_KEY"})
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("Error: SECRET_KEY is not set")


def test_gunicorn_says_a_missing_setting_in_one_line_and_stops() -> None:
    environ = {key: value for key, value in GOOD.items() if key != "S3_ENDPOINT"}
    result = run('gunicorn --bind 127.0.0.1:0 "app:create_app()"', environ)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "S3_ENDPOINT is not set" in result.stderr
