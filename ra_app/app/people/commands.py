"""The commands `flask users …`, with which an administrator manages accounts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click
import psycopg2.errors
import sqlalchemy.exc
from flask.cli import AppGroup

from app.models import ROLES, User
from app.people import changes, throttle
from app.people.accounts import (
    AccountError,
    create_user,
    end_sessions,
    find_user,
    generate_password,
    list_users,
    normalise_username,
    set_active,
    set_password,
)

users = AppGroup("users", help="Create, list and close accounts of the RA app.")


def clear_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Print an error as one sentence instead of a traceback."""

    @wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except AccountError as error:
            raise click.ClickException(str(error)) from error
        except sqlalchemy.exc.DBAPIError as error:
            if isinstance(error.orig, psycopg2.errors.UndefinedTable):
                raise click.ClickException("The app's tables are missing. Run `flask db upgrade` first.") from error
            raise click.ClickException(f"Postgres reports: {str(error.orig).strip()}") from error

    return guarded


def password_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for a password. The default is a prompt; no way leaves the password in the shell's history."""
    command = click.option("--generate", is_flag=True, help="Generate a password and print it once.")(command)
    return click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")(command)


@users.command("create")
@click.argument("username")
@click.option("--role", type=click.Choice(ROLES), default="ra", show_default=True)
@password_options
@clear_errors
def create(username: str, role: str, password_stdin: bool, generate: bool) -> None:
    """Create an account."""
    password = _read_password(password_stdin, generate)
    user = create_user(username, password, role)
    click.echo(f"Created {user.username} ({user.role}). The name in exports is {user.pseudonym}.")
    _print_generated(password, generate)


@users.command("list")
@clear_errors
def list_() -> None:
    """List all accounts."""
    accounts = list_users()
    if not accounts:
        click.echo("There are no users yet. Create one: flask users create USERNAME --role admin --generate")
        return
    click.echo(f"{'user':<24}{'pseudonym':<12}{'role':<7}{'state':<10}last log-in (UTC)")
    for user in accounts:
        state = "active" if user.active else "closed"
        seen = f"{user.last_login_at:%Y-%m-%d %H:%M}" if user.last_login_at else "never"
        click.echo(f"{user.username:<24}{user.pseudonym:<12}{user.role:<7}{state:<10}{seen}")


@users.command("deactivate")
@click.argument("username")
@clear_errors
def deactivate(username: str) -> None:
    """Close an account. The user cannot log in, and open sessions end. The labels stay."""
    user = _require_user(username)
    set_active(user, active=False)
    click.echo(f"{user.username} can no longer log in. The labels of this account stay.")


@users.command("activate")
@click.argument("username")
@clear_errors
def activate(username: str) -> None:
    """Open a closed account again."""
    user = _require_user(username)
    set_active(user, active=True)
    click.echo(f"{user.username} can log in again.")


@users.command("set-password")
@click.argument("username")
@password_options
@clear_errors
def set_password_(username: str, password_stdin: bool, generate: bool) -> None:
    """Set a new password for an account. Its open sessions end."""
    user = _require_user(username)
    password = _read_password(password_stdin, generate)
    set_password(user, password)
    click.echo(f"{user.username} has a new password.")
    _print_generated(password, generate)


@users.command("end-sessions")
@click.argument("username")
@clear_errors
def end_sessions_(username: str) -> None:
    """End all open sessions of an account, for example after the loss of a laptop. The password stays the same."""
    user = _require_user(username)
    changes.note(None, "sessions-ended", user)
    end_sessions(user)
    click.echo(f"All sessions of {user.username} have ended. The password stays the same.")


@users.command("unlock")
@click.argument("username")
@click.option("--minutes", type=click.IntRange(1, 120), default=30, show_default=True)
@clear_errors
def unlock(username: str, minutes: int) -> None:
    """Let a user log in who is locked out by failed log-ins.

    Deletes the failed log-ins of this name. During the given minutes, failed log-ins from other addresses do not
    lock the user out. Five failed log-ins from one address still lock that address. One log-in in this time is
    enough: afterwards the app knows the user's browser and network.
    """
    user = _require_user(username)
    changes.note(None, "unlocked", user, minutes=minutes)
    throttle.unlock(user, minutes)
    click.echo(f"{user.username} can log in during the next {minutes} minutes.")


def _require_user(username: str) -> User:
    name = normalise_username(username)
    user = find_user(name) if name is not None else None
    if user is None:
        raise AccountError(f"There is no user named {username}. `flask users list` shows all users.")
    return user


def _read_password(from_stdin: bool, generate: bool) -> str:
    if from_stdin and generate:
        raise click.UsageError("Use either --password-stdin or --generate, not both.")
    if generate:
        return generate_password()
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))


def _print_generated(password: str, generated: bool) -> None:
    if generated:
        click.echo(f"Password (shown once): {password}")
