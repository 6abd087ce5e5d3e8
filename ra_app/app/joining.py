"""What happens when somebody uses a link: an account is made, or gets a new password. One try of many succeeds."""

from __future__ import annotations

from app import accounts, changes, links
from app.accounts import AccountError, NameTakenError
from app.models import Link, User, db

NAME_REFUSED = "This user name cannot be used. Choose another one."
FIXED_NAME_REFUSED = "The user name of this invitation cannot be used. Ask for a new link."
WRONG_NAME = "This link does not belong to this user name."


class LinkGoneError(Exception):
    """The link does not work, or not any more."""


def check(link: Link, username: str, password: str, repeat: str) -> None:
    """Raise `AccountError` for what is wrong with the form itself, whoever has an account."""
    if link.username is None and accounts.normalise_username(username) is None:
        raise AccountError(
            "This is not a valid user name. Use 2 to 32 small letters, digits, dots, dashes or underscores, and begin "
            "with a letter or digit."
        )
    accounts.check_password_rules(password)
    if password != repeat:
        raise AccountError("The two passwords are not the same.")


def use(token: str, username: str, password: str) -> User:
    """Use the link, and return the user. Nothing is stored, and the link still works, if an error is raised.

    Raises `LinkGoneError`, or `AccountError` with a sentence that does not say who has an account.
    """
    link = links.find(token, lock=True)
    if link is None:
        db.session.rollback()
        raise LinkGoneError
    try:
        return _reset(link, username, password) if link.kind == "reset" else _invited(link, username, password)
    except AccountError:
        db.session.rollback()
        raise


def _invited(link: Link, username: str, password: str) -> User:
    try:
        user = accounts.add_user(link.username or username, password, link.role or "ra")
    except NameTakenError as error:
        raise AccountError(FIXED_NAME_REFUSED if link.username else NAME_REFUSED) from error
    changes.note(user, "joined", user, link_id=link.link_id, role=user.role)
    links.use(link, user)
    db.session.commit()
    return user


def _reset(link: Link, username: str, password: str) -> User:
    user = db.session.get_one(User, link.user_id)
    if accounts.normalise_username(username) != user.username:
        raise AccountError(WRONG_NAME)
    links.use(link, user)
    accounts.set_password(user, password, by=user, link_id=link.link_id)
    return user
