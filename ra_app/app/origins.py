"""Where a log-in comes from: the client's network, and the browser if it has logged in before.

An IPv6 customer has a whole /64 and may take a new address for every try, so addresses count by /64. An IPv4 address
inside IPv6 (`::ffff:192.0.2.7`) counts as the IPv4 address.

A browser in which somebody has logged in keeps a signed cookie that names this user. It opens nothing: it only gives
the browser a count of failed tries of its own, so that failures elsewhere, also on its network, do not lock it out.
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
    """A network, and the mark of a browser in which the user who now tries has logged in before."""

    network: str
    device: str | None = None

    @property
    def key(self) -> str:
        """Under what name the tries from here are counted."""
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
    """Where the request in hand comes from, as far as it concerns this user."""
    return Origin(network_of(request.remote_addr), _device_of(username))


def remember_device(response: Response, username: str) -> None:
    """Give this browser its mark, or renew the one it has."""
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
    """The mark of this browser, if it is signed by us, recent, and for this user."""
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
