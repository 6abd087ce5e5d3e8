"""The origin of a log-in: the client's network, and the browser if the user has logged in with it before.

An IPv6 customer owns a whole /64 network and can use a new address for every log-in, so all addresses of a /64 count
as one. An IPv4 address inside IPv6 (`::ffff:192.0.2.7`) counts as the IPv4 address.

At a log-in the browser gets a signed cookie with the user's name and a random mark. The cookie gives no access. It
only gives the browser its own count of failed log-ins. So failed log-ins from other places, or from other computers
of the same network, do not lock the user out of this browser.
"""

from __future__ import annotations

import ipaddress
import secrets
from dataclasses import dataclass
from datetime import timedelta

from flask import Response, current_app, request
from itsdangerous import BadSignature, URLSafeTimedSerializer

DEVICE_COOKIE = "ra_device"
DEVICE_LIFE = timedelta(days=180)  # since the last log-in
IPV6_PREFIX = 64
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Origin:
    """The client's network, and the browser's mark if the user has logged in with this browser before."""

    network: str
    device: str | None = None

    @property
    def key(self) -> str:
        """The name under which failed log-ins from this origin are counted."""
        return self.network if self.device is None else f"device:{self.device}"


def network_of(address: str | None) -> str:
    try:
        parsed = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return UNKNOWN
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, IPV6_PREFIX), strict=False))


def origin_for(username: str) -> Origin:
    """Return the origin of the current request for a log-in as `username`."""
    return Origin(network_of(request.remote_addr), _device_of(username))


def remember_device(response: Response, username: str) -> None:
    """Set the cookie with this browser's mark; a browser that has a mark keeps it."""
    mark = _device_of(username) or secrets.token_urlsafe(12)
    response.set_cookie(
        DEVICE_COOKIE,
        _signer().dumps([username, mark]),
        max_age=DEVICE_LIFE,
        path="/",
        secure=current_app.config["SESSION_COOKIE_SECURE"],
        httponly=True,
        samesite="Strict",
    )


def _device_of(username: str) -> str | None:
    """Return the browser's mark if its cookie has a valid signature, is not too old and names this user."""
    signed = request.cookies.get(DEVICE_COOKIE)
    if signed is None:
        return None
    try:
        owner, mark = _signer().loads(signed, max_age=int(DEVICE_LIFE.total_seconds()))
    except (BadSignature, ValueError, TypeError):
        return None
    return mark if owner == username and isinstance(mark, str) else None


def _signer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(current_app.config["SECRET_KEY"], salt="ra-device")
