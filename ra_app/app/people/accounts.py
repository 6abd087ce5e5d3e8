"""User accounts: names, passwords, and the user of a session.

Each change is written to the record of changes in the same transaction. `by` says who made it; None: a command on the
server.
"""

from __future__ import annotations

import re
import secrets
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy.exc import IntegrityError

from app.models import ROLES, User, db, no_password
from app.people import changes, identities, links

PASSWORD_MIN = 12  # characters; a long password is hard to guess
PASSWORD_MAX = 200  # characters; hashing very long passwords could overload the server

_USERNAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,31}")
hasher = PasswordHasher()


class AccountError(Exception):
    """A change to an account is not possible. The message is shown to the user."""


class NameTakenError(AccountError):
    """Somebody has this user name. The message names it, so it is not for people who are not logged in."""


def normalise_username(typed: str) -> str | None:
    """Return the name as it is stored, or None if it is not a valid user name."""
    name = typed.strip().lower()
    return name if _USERNAME.fullmatch(name) else None


def check_password_rules(password: str) -> None:
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        raise AccountError(f"A password must have {PASSWORD_MIN} to {PASSWORD_MAX} characters.")


def generate_password() -> str:
    return secrets.token_urlsafe(15)


def find_user(username: str) -> User | None:
    return db.session.scalar(sa.select(User).where(User.username == username))


def list_users() -> list[User]:
    return list(db.session.scalars(sa.select(User).order_by(User.username)))


def create_user(username: str, password: str, role: str) -> User:
    """Make an account by a command on the server."""
    user = add_user(username, password, role)
    changes.note(None, "created", user, role=role)
    db.session.commit()
    return user


def add_user(username: str, password: str | None, role: str) -> User:
    """Add an account, without committing. Raise `AccountError` if name, password or role are not possible.

    Without a password, somebody logs in to it by single sign-on only.
    """
    name = normalise_username(username)
    if name is None:
        raise AccountError(
            f"{username!r} is not a valid user name. Use 2 to 32 small letters, digits, dots, dashes or underscores, "
            "and begin with a letter or digit."
        )
    if role not in ROLES:
        raise AccountError(f"{role!r} is not a role. Roles are {', '.join(ROLES)}.")
    if password is not None:
        check_password_rules(password)
    if find_user(name) is not None:
        raise NameTakenError(f"There is already a user named {name}.")
    user = User(username=name, password_hash=no_password() if password is None else hasher.hash(password), role=role)
    try:
        with db.session.begin_nested():  # somebody else may take the name at this moment
            db.session.add(user)
    except IntegrityError as error:
        raise NameTakenError(f"There is already a user named {name}.") from error
    return user


def set_password(user: User, password: str, by: User | None = None, **details: Any) -> None:
    """Set a new password, in place of the one before or of single sign-on.

    All sessions of this user end, and links to reset the password work no more.
    """
    check_password_rules(password)
    user.password_hash = hasher.hash(password)
    identities.disconnect(user)
    links.revoke_resets(user)
    changes.note(by, "password", user, **details)
    end_sessions(user)


def take_password(user: User, by: User, **details: Any) -> None:
    """Let nobody log in to this account by a password. All its sessions end, and links to reset it work no more."""
    user.password_hash = no_password()
    links.revoke_resets(user)
    changes.note(by, "password", user, **details)
    end_sessions(user)


def set_active(user: User, *, active: bool, by: User | None = None) -> None:
    """Open or close an account. All its sessions end; they stay ended when the account is opened again.

    Links that a closed account has made, and links to reset its password, work no more.
    """
    user.active = active
    if not active:
        links.revoke_resets(user)
        links.revoke_made_by(user)
    changes.note(by, "opened" if active else "closed", user)
    end_sessions(user)


def set_role(user: User, role: str, by: User) -> None:
    """Give an account another role. It counts from the next request on, and sessions go on.

    Links by and for this account work no more: they were made when it had another role.
    """
    links.revoke_resets(user)
    links.revoke_made_by(user)
    changes.note(by, "role", user, before=user.role, after=role)
    user.role = role
    db.session.commit()


def end_sessions(user: User) -> None:
    """End all sessions of this user, on all devices. A copy of the cookie is worthless afterwards."""
    user.session_epoch = User.session_epoch + 1  # added in the database: two requests at once add two
    db.session.commit()


def authenticate(username: str, password: str) -> User | None:
    """Return the user if the password is right and the account is open. The check is as slow for an unknown name."""
    user = find_user(username)
    password_is_right = verify_password(user, password)
    return user if user is not None and password_is_right and user.active else None


def verify_password(user: User | None, password: str) -> bool:
    has_one = user is not None and user.has_password
    stored = user.password_hash if user is not None and has_one else _placeholder_hash()
    try:
        hasher.verify(stored, password[: PASSWORD_MAX + 1])
    except (VerificationError, InvalidHashError):
        return False
    return has_one


def note_login(user: User) -> None:
    user.last_login_at = sa.func.now()  # by the clock of the database
    db.session.commit()


def load_session_user(session_id: str) -> User | None:
    """Return the user of a session, or None if the account was closed or has a new password since the log-in."""
    number = session_id.partition(".")[0]
    if not number.isascii() or not number.isdigit():
        return None
    user = db.session.get(User, int(number))
    if user is None or not user.active or not secrets.compare_digest(user.get_id(), session_id):
        return None
    return user


@lru_cache(maxsize=1)
def _placeholder_hash() -> str:
    """A hash to verify against if there is no user or no password: the answer then takes as long as for others."""
    return hasher.hash(secrets.token_urlsafe(16))
