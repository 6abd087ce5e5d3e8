"""An OpenID Connect provider for the tests of single sign-on: a server of its own, from a package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from werkzeug.test import TestResponse

from local.services.process import ServerProcess
from local.services.state import choose_port
from tests.ra_app.serving import status
from tests.ra_app.world import Visitor

START_TIMEOUT_S = 60
BACK = "http://localhost/sso/callback"  # where the test client's app lies


@dataclass(frozen=True, kw_only=True)
class Campus:
    """The provider, and this app as it is registered there."""

    address: str
    client_id: str
    client_secret: str

    @property
    def settings(self) -> dict[str, str]:
        return {
            "OIDC_ISSUER": self.address,
            "OIDC_CLIENT_ID": self.client_id,
            "OIDC_CLIENT_SECRET": self.client_secret,
            "OIDC_LABEL": "Log in with your campus account",
        }

    def knows(self, subject: str, **claims: Any) -> None:
        """Claims also replace those that the provider itself writes into the token of this person."""
        told = requests.put(f"{self.address}/users/{subject}", json=claims, timeout=30)
        assert told.status_code == 204, told.text

    def address_back(self, sent: TestResponse, subject: str | None) -> str:
        """Log in on the provider's page that the browser was sent to; the path that it then sends the browser to.

        Without a subject, the person refuses.
        """
        assert sent.status_code == 302, sent.text
        assert (sent.location or "").startswith(f"{self.address}/"), sent.location
        form = {"action": "deny"} if subject is None else {"sub": subject}
        answer = requests.post(sent.location, data=form, allow_redirects=False, timeout=30)
        back = answer.headers["Location"]
        assert back.startswith(BACK), back
        parts = urlsplit(back)
        return f"{parts.path}?{parts.query}"

    def log_in(self, browser: Visitor, subject: str | None, begin: str = "/sso/login") -> TestResponse:
        """Go to the provider, log in there and come back; the app's answer to that."""
        return browser.get(self.address_back(browser.get(begin), subject))


@contextmanager
def running(logs: Path, *, registered: bool = True) -> Iterator[Campus]:
    """Run the provider until the block ends. Without `registered` it takes any app, wherever that lies."""
    port = choose_port()
    address = f"http://127.0.0.1:{port}"
    program = Path(sys.executable).parent / "oidc-provider-mock"
    command: list[str | Path] = [program, "--port", str(port), "--require-nonce"]
    command += ["--require-registration"] if registered else []
    server = ServerProcess("provider", command, logs / "provider.log", logs / "provider.pid")
    server.start()
    try:
        server.wait_ready(lambda: status(f"{address}/jwks") == 200, START_TIMEOUT_S)
        made = {"client_id": "anybody", "client_secret": "any secret"}
        if registered:
            form = {"redirect_uris": [BACK]}
            made = requests.post(f"{address}/oauth2/clients", json=form, timeout=30).json()
        yield Campus(address=address, client_id=made["client_id"], client_secret=made["client_secret"])
    finally:
        server.stop()
