"""People who may log in: names, passwords, and who is who."""

from __future__ import annotations

import re
import secrets
from functools import lru_cache

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from app.models import ROLES, User, db

PASSWORD_MIN = 12  # characters; length is what makes a password hard to guess
PASSWORD_MAX = 200  # hashing megabytes would be a way to keep the server busy

_USERNAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,31}")
_hasher = PasswordHasher()


class AccountError(Exception):
    """What was asked for cannot be; the message is one sentence for a person."""


def normalise_username(typed: str) -> str | None:
    """The name as it is stored, or None for what can be nobody's name."""
    name = typed.strip().lower()
    return name if _USERNAME.fullmatch(name) else None


def check_password_rules(password: str) -> None:
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        raise AccountError(f"A password has {PASSWORD_MIN} to {PASSWORD_MAX} characters.")


def generate_password() -> str:
    return secrets.token_urlsafe(15)


def find_user(username: str) -> User | None:
    return db.session.scalar(sa.select(User).where(User.username == username))


def list_users() -> list[User]:
    return list(db.session.scalars(sa.select(User).order_by(User.username)))


def create_user(username: str, password: str, role: str) -> User:
    name = normalise_username(username)
    if name is None:
        raise AccountError(
            f"{username!r} cannot be a user name: use 2 to 32 small letters, digits, dots, dashes or underscores, "
            "beginning with a letter or digit."
        )
    if role not in ROLES:
        raise AccountError(f"{role!r} is no role; roles are {', '.join(ROLES)}.")
    check_password_rules(password)
    if find_user(name) is not None:
        raise AccountError(f"There is already a user named {name}.")
    user = User(username=name, password_hash=_hasher.hash(password), role=role)
    db.session.add(user)
    db.session.commit()
    return user


def set_password(user: User, password: str) -> None:
    """Give a new password; sessions opened with the old one end."""
    check_password_rules(password)
    user.password_hash = _hasher.hash(password)
    end_sessions(user)


def set_active(user: User, *, active: bool) -> None:
    """A user who is not active cannot log in, and open sessions end for good, also when the account opens again."""
    user.active = active
    end_sessions(user)


def end_sessions(user: User) -> None:
    """Every session of this user ends, on all devices; a copied cookie opens nothing any more."""
    user.session_epoch = User.session_epoch + 1  # in the database: two at once count twice
    db.session.commit()


def authenticate(username: str, password: str) -> User | None:
    """The user, if the password is right and the account active. An unknown name takes as long as a known one."""
    user = find_user(username)
    right = verify_password(user, password)
    return user if user is not None and right and user.active else None


def verify_password(user: User | None, password: str) -> bool:
    stored = user.password_hash if user is not None else _nobodys_hash()
    try:
        _hasher.verify(stored, password[: PASSWORD_MAX + 1])
    except (VerificationError, InvalidHashError):
        return False
    return user is not None


def note_login(user: User) -> None:
    user.last_login_at = sa.func.now()  # the database's clock
    db.session.commit()


def load_session_user(session_id: str) -> User | None:
    """The user that a session names, unless the account was closed or got a new password since."""
    number = session_id.partition(".")[0]
    if not number.isascii() or not number.isdigit():
        return None
    user = db.session.get(User, int(number))
    if user is None or not user.active or not secrets.compare_digest(user.get_id(), session_id):
        return None
    return user


@lru_cache(maxsize=1)
def _nobodys_hash() -> str:
    """What an unknown user's password is compared with, so that the time taken tells nothing."""
    return _hasher.hash(secrets.token_urlsafe(16))
