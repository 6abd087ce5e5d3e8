"""`flask users …`: accounts are created, listed and closed, and every mistake gets one clear sentence."""

from __future__ import annotations

import re

import pytest
from click.testing import Result
from flask import Flask

from tests.ra_app.serving import run
from tests.ra_app.world import PASSWORD, Visitor, World


def _flask(app: Flask, *args: str, given: str | None = None) -> Result:
    return app.test_cli_runner().invoke(args=["users", *args], input=given)


def test_an_account_made_from_stdin_can_log_in(app: Flask, world: World, visitor: Visitor) -> None:
    result = _flask(app, "create", "Mira", "--role", "lead", "--password-stdin", given=PASSWORD + "\n")
    assert result.exit_code == 0, result.output
    assert re.fullmatch(r"Created mira \(lead\)\. The name in exports is RA-[2-9A-Z]{5}\.\n", result.output)
    assert visitor.log_in("mira").status_code == 302
    assert world.sql("SELECT role FROM ra_users") == [("lead",)]


@pytest.mark.usefixtures("world")
def test_a_generated_password_is_printed_once_and_works(app: Flask, visitor: Visitor) -> None:
    result = _flask(app, "create", "mira", "--generate")
    match = re.search(r"Password \(shown once\): (\S{16,})", result.output)
    assert match is not None
    assert visitor.log_in("mira", match[1]).status_code == 302


@pytest.mark.usefixtures("world")
def test_without_an_option_the_password_is_asked_for_twice(app: Flask, visitor: Visitor) -> None:
    result = _flask(app, "create", "mira", given=f"{PASSWORD}\n{PASSWORD}\n")
    assert result.exit_code == 0, result.output
    assert PASSWORD not in result.output
    assert visitor.log_in("mira").status_code == 302


@pytest.mark.parametrize(
    ("args", "given", "sentence"),
    [
        (["create", "mira", "--password-stdin"], PASSWORD, "There is already a user named mira."),
        (["create", "no spaces", "--password-stdin"], PASSWORD, "is not a valid user name"),
        (["create", "jo", "--password-stdin"], "short", "12 to 200 characters"),
        (["create", "jo", "--password-stdin"], "", "12 to 200 characters"),
        (["create", "jo", "--role", "boss", "--generate"], None, "'boss' is not one of"),
        (["create", "jo", "--generate", "--password-stdin"], PASSWORD, "not both"),
        (["deactivate", "jo"], None, "There is no user named jo"),
        (["set-password", "jo", "--generate"], None, "There is no user named jo"),
        (["end-sessions", "jo"], None, "There is no user named jo"),
        (["unlock", "jo"], None, "There is no user named jo"),
        (["unlock", "mira", "--minutes", "0"], None, "0 is not in the range 1<=x<=120"),
    ],
)
def test_a_mistake_is_one_clear_sentence(
    app: Flask, world: World, args: list[str], given: str | None, sentence: str
) -> None:
    world.add_user("mira")
    result = _flask(app, *args, given=given)
    assert result.exit_code in {1, 2}
    assert sentence in result.output
    assert "Traceback" not in result.output
    assert world.sql("SELECT count(*) FROM ra_users") == [(1,)]


def test_the_list_shows_everyone_and_no_hash(app: Flask, world: World) -> None:
    assert "flask users create" in _flask(app, "list").output
    world.add_user("mira")
    world.add_user("jo", role="admin")
    _flask(app, "deactivate", "jo")
    output = _flask(app, "list").output
    assert re.search(r"^jo +RA-\w{5} +admin +closed +never$", output, re.MULTILINE)
    assert re.search(r"^mira +RA-\w{5} +ra +active +never$", output, re.MULTILINE)
    assert "argon2" not in output


def test_closing_and_opening_an_account(app: Flask, mira: Visitor, visitor: Visitor) -> None:
    assert "can no longer log in" in _flask(app, "deactivate", "mira").output
    assert mira.get("/").status_code == 302
    assert visitor.log_in("mira").status_code == 401
    assert "can log in again" in _flask(app, "activate", "mira").output
    assert visitor.log_in("mira").status_code == 302


def test_a_new_password_replaces_the_old_one(app: Flask, mira: Visitor, visitor: Visitor) -> None:
    new = "a wholly different one"
    assert _flask(app, "set-password", "mira", "--password-stdin", given=new).exit_code == 0
    assert mira.get("/").status_code == 302
    assert visitor.log_in("mira").status_code == 401
    assert visitor.log_in("mira", new).status_code == 302


def test_without_a_database_the_command_says_so(ra_env: dict[str, str]) -> None:
    result = run("flask users list", {**ra_env, "DATABASE_URL": "postgresql://ra_app@127.0.0.1:1/x"})
    assert result.returncode == 1
    assert result.stderr.startswith("Error: Postgres reports: ")
    assert "Traceback" not in result.stderr
