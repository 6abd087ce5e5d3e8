"""What happens when somebody uses a link: an account is made, or gets a new password. One try of many succeeds.

A link is used with a password or with an identity of single sign-on, as the person chooses.
"""

from __future__ import annotations

from app.models import Link, User, db
from app.people import accounts, changes, identities, links
from app.people.accounts import AccountError, NameTakenError
from app.people.identities import IdentityTakenError, Known

NAME_REFUSED = "This user name cannot be used. Choose another one."
FIXED_NAME_REFUSED = "The user name of this invitation cannot be used. Ask for a new link."
IDENTITY_TAKEN = "There is already an account with this identity. Log in with it."
WRONG_NAME = "This link does not belong to this user name."


class LinkGoneError(Exception):
    """The link does not work, or not any more."""


def check(link: Link, username: str, password: str, repeat: str) -> None:
    """Raise `AccountError` for what is wrong with the form itself, whoever has an account."""
    check_name(link, username)
    accounts.check_password_rules(password)
    if password != repeat:
        raise AccountError("The two passwords are not the same.")


def check_name(link: Link | None, username: str) -> None:
    if (link is None or link.username is None) and accounts.normalise_username(username) is None:
        raise AccountError(
            "This is not a valid user name. Use 2 to 32 small letters, digits, dots, dashes or underscores, and begin "
            "with a letter or digit."
        )


def use(token: str, username: str, way: str | Known) -> User:
    """Use the link, and return the user. Nothing is stored, and the link still works, if an error is raised.

    `way`: a password, or an identity of single sign-on. Raises `LinkGoneError`, or `AccountError` with a sentence that
    does not say who has an account.
    """
    link = links.find(token, lock=True)
    if link is None:
        db.session.rollback()
        raise LinkGoneError
    try:
        return _reset(link, username, way) if link.kind == "reset" else _invited(link, username, way)
    except IdentityTakenError as error:
        db.session.rollback()
        raise AccountError(IDENTITY_TAKEN) from error
    except AccountError:
        db.session.rollback()
        raise


def join_uninvited(username: str, known: Known) -> User:
    """Make an account for somebody whom the provider lets in. The caller has checked that this site does so."""
    try:
        user = _added(username, "ra", known)
    except IdentityTakenError as error:
        db.session.rollback()
        raise AccountError(IDENTITY_TAKEN) from error
    except NameTakenError as error:
        db.session.rollback()
        raise AccountError(NAME_REFUSED) from error
    changes.note(user, "joined", user, role="ra", sign_on=known.issuer)
    db.session.commit()
    return user


def _invited(link: Link, username: str, way: str | Known) -> User:
    try:
        user = _added(link.username or username, link.role or "ra", way)
    except NameTakenError as error:
        raise AccountError(FIXED_NAME_REFUSED if link.username else NAME_REFUSED) from error
    changes.note(user, "joined", user, link_id=link.link_id, role=user.role, **_issuer(way))
    links.use(link, user)
    db.session.commit()
    return user


def _added(username: str, role: str, way: str | Known) -> User:
    user = accounts.add_user(username, way if isinstance(way, str) else None, role)
    if not isinstance(way, str):
        identities.connect(way, user)
    return user


def _reset(link: Link, username: str, way: str | Known) -> User:
    """Give the account a new password, or connect the identity in place of the password."""
    user = db.session.get_one(User, link.user_id)
    if accounts.normalise_username(username) != user.username:
        raise AccountError(WRONG_NAME)
    links.use(link, user)
    if isinstance(way, str):
        accounts.set_password(user, way, by=user, link_id=link.link_id)
    else:
        identities.connect(way, user)
        accounts.take_password(user, by=user, link_id=link.link_id, **_issuer(way))
    return user


def _issuer(way: str | Known) -> dict[str, str]:
    return {} if isinstance(way, str) else {"sign_on": way.issuer}
