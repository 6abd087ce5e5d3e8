"""Log-ins by single sign-on: what the browser's session keeps between two requests, and who may log in.

Until the log-in, the session is a signed cookie that only this browser has. It keeps the newest attempts, because
people open the log-in in two tabs; each works once. Afterwards it keeps who somebody is while they choose a user name.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask import session

from app.people.accounts import normalise_username
from app.people.identities import Known
from app.people.sign_on_errors import ExpiredAttemptError, NotAllowedError, UnknownAttemptError

if TYPE_CHECKING:
    from app.config import Settings
    from app.people.provider import Begun

TARGET_LENGTH = 500  # characters of a path to come back to
LIFE_S = 600  # of an attempt, and of a person who has come back and must choose a name
KEPT = 3  # attempts; a cookie has 4 KB
_ATTEMPTS = "sign_on"
_ARRIVED = "signed_on"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    nonce: str
    verifier: str
    target: str  # the path to open after the log-in
    link: str | None  # the token of the link that is used with it


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A person whom the provider knows and who has no account yet, or uses a link."""

    known: Known
    link: str | None
    suggested: str  # a user name

    @property
    def mark(self) -> str:
        """What the throttle counts this person under, before there is a user name."""
        return hashlib.sha256(f"{self.known.issuer} {self.known.subject}".encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Who may log in by single sign-on. Checked at each log-in."""

    label: str
    domains: tuple[str, ...]
    claim: str | None
    without_invitation: bool

    @classmethod
    def of(cls, settings: Settings) -> Rules:
        return cls(
            label=settings.oidc_label,
            domains=settings.oidc_email_domains,
            claim=settings.oidc_claim,
            without_invitation=settings.oidc_without_invitation,
        )

    def check(self, claims: Mapping[str, Any]) -> None:
        """Raise `NotAllowedError` if this person may not log in. It names the rule, not the person."""
        if self.domains and _domain(claims) not in self.domains:
            raise NotAllowedError("no confirmed address of OIDC_EMAIL_DOMAINS")
        if self.claim is not None:
            name, _, value = self.claim.partition("=")
            has = claims.get(name, [])
            if value not in [_text(one) for one in (has if isinstance(has, list) else [has])]:
                raise NotAllowedError("OIDC_CLAIM does not fit")


def remember(begun: Begun, target: str, link: str | None) -> None:
    attempt = [begun.state, begun.nonce, begun.verifier, int(time.time()), target, link]
    session[_ATTEMPTS] = [*session.get(_ATTEMPTS, [])[1 - KEPT :], attempt]


def take(state: str) -> Attempt:
    """Return the attempt with this state, which does not work again. Raise an error if it is unknown or too old."""
    attempts = session.get(_ATTEMPTS, [])
    found = [attempt for attempt in attempts if attempt[0] == state]
    if not found:
        raise UnknownAttemptError("the state is unknown to this browser's session, or was used already")
    _, nonce, verifier, began, target, link = found[0]
    session[_ATTEMPTS] = [attempt for attempt in attempts if attempt[0] != state]
    if time.time() - began > LIFE_S:
        raise ExpiredAttemptError(f"the attempt began more than {LIFE_S} s ago")
    return Attempt(nonce=nonce, verifier=verifier, target=target, link=link)


def arrive(claims: Mapping[str, Any], link: str | None) -> None:
    """Keep who this is until the person has chosen a user name."""
    session[_ARRIVED] = [claims["iss"], claims["sub"], link, _suggested(claims), int(time.time())]


def arrival() -> Arrival:
    if _ARRIVED not in session:
        raise UnknownAttemptError("nobody has come back from the provider in this browser's session")
    issuer, subject, link, suggested, at = session[_ARRIVED]
    if time.time() - at > LIFE_S:
        raise ExpiredAttemptError(f"the person came back more than {LIFE_S} s ago")
    return Arrival(known=Known(issuer, subject), link=link, suggested=suggested)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _domain(claims: Mapping[str, Any]) -> str | None:
    """The domain of the person's address, if the provider says that the address is theirs."""
    address = claims.get("email")
    confirmed = claims.get("email_verified") in (True, "true")  # some providers write it as text
    return address.rpartition("@")[2].lower() if isinstance(address, str) and confirmed else None


def _suggested(claims: Mapping[str, Any]) -> str:
    """A user name that the person may change; empty if the provider tells none that is possible here."""
    for name in ("preferred_username", "email"):
        found = normalise_username(str(claims.get(name, "")).partition("@")[0])
        if found is not None:
            return found
    return ""
