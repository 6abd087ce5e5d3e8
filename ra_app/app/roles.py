"""Which roles may open a route, and whose accounts a role may manage. `require_login` checks every request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from app.models import ROLES, User

LEADS = ("lead", "admin")

View = TypeVar("View", bound=Callable[..., Any])

_MARK = "needs_roles"
_MANAGES = {"ra": (), "lead": ("ra",), "admin": ROLES}


def needs(*roles: str) -> Callable[[View], View]:
    """Mark a view: only users with one of these roles get an answer from it, all others 403."""

    def mark(view: View) -> View:
        setattr(view, _MARK, roles)
        return view

    return mark


def needed(view: Callable[..., Any]) -> tuple[str, ...]:
    """Return the roles that may open this view; every role if it is not marked."""
    marked: tuple[str, ...] = getattr(view, _MARK, ROLES)
    return marked


def allows(view: Callable[..., Any], user: User) -> bool:
    return user.role in needed(view)


def manages(user: User, role: str | None) -> bool:
    """Whether this person may invite people with this role, and manage their accounts."""
    return role in _MANAGES[user.role]


def managed(user: User) -> tuple[str, ...]:
    return _MANAGES[user.role]
