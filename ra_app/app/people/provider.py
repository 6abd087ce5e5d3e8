"""The provider of single sign-on, by OpenID Connect: the code flow with PKCE. Authlib speaks the protocol.

Only this file knows Authlib, and it is imported only if single sign-on is set up: Authlib and what it needs take 0.2 s
of processor time. What the provider says of itself is fetched at the first log-in and kept until the process ends; its
keys are fetched again when a token names a new one or does not fit. Everything that fails is a `SignOnError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import Any

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.flask_client import OAuth
from flask import Flask
from joserfc.errors import JoseError

from app.config import Settings
from app.people.sign_on_errors import ProviderDownError, ProviderRefusesError, UnknownAttemptError, UntrustedAnswerError

TIMEOUT_S = 5  # for each question to the provider; a log-in asks at most five
AT_ONCE = 3  # log-ins of this process that ask at the same time: a provider that hangs must not take all 8 threads
LEEWAY_S = 120  # by which the clocks of the two hosts may differ
SUBJECT_LENGTH = 255  # by the standard
# Only signatures by a key that the provider alone has. A provider may also list `none`, or HMAC by the client's secret.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
NEEDED = ("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri")
_SHOWN = 200  # characters of a provider's own words in the log


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A log-in that has begun: where to send the browser, and what must fit when it comes back."""

    address: str
    state: str
    nonce: str
    verifier: str


class Provider:
    def __init__(self, app: Flask, settings: Settings) -> None:
        issuer = settings.oidc_issuer or ""
        self._issuer = issuer
        self._turns = BoundedSemaphore(AT_ONCE)
        self._asks = bool(settings.oidc_email_domains or settings.oidc_claim)
        self._client = OAuth(app).register(
            "single_sign_on",
            client_id=settings.oidc_client_id,
            client_secret=settings.oidc_client_secret,
            server_metadata_url=f"{issuer.rstrip('/')}/.well-known/openid-configuration",
            client_kwargs={
                "scope": settings.oidc_scopes,
                "code_challenge_method": "S256",
                "default_timeout": TIMEOUT_S,
            },
        )

    def begin(self, redirect_uri: str) -> Begun:
        with self._turn(), _mapped():
            self._know()
            made = self._client.create_authorization_url(redirect_uri)
            return Begun(address=made["url"], state=made["state"], nonce=made["nonce"], verifier=made["code_verifier"])

    def claims(self, code: str, nonce: str, verifier: str, redirect_uri: str) -> dict[str, Any]:
        """Return what the provider says of the person who brought this code.

        The ID token must be signed by the provider, meant for this app and this log-in, and not have ended. If a
        setting asks for an address or a claim, what the provider tells only on request is added: many tell them so.
        """
        with self._turn(), _mapped():
            metadata = self._know()
            token = self._client.fetch_access_token(redirect_uri=redirect_uri, code=code, code_verifier=verifier)
            wanted = {
                "iss": {"essential": True, "value": metadata["issuer"]},
                "aud": {"essential": True, "value": self._client.client_id},
            }
            try:
                found = self._client.parse_id_token(token, nonce=nonce, claims_options=wanted, leeway=LEEWAY_S)
            except (JoseError, ValueError) as error:
                metadata.pop("jwks", None)  # a provider that gives its keys no names may have a new one
                raise UntrustedAnswerError(f"the ID token is refused: {_named(error)}") from None
            subject = found.get("sub") if found is not None else None
            if not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT_LENGTH or not subject.isprintable():
                raise UntrustedAnswerError("the answer has no ID token that names a person")
            told = self._client.userinfo(token=token) if self._asks and metadata.get("userinfo_endpoint") else {}
            if told and told.get("sub") != subject:
                raise UntrustedAnswerError("the answer about the person is about another person")
            return {**told, **found}

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=TIMEOUT_S):
            raise ProviderDownError("the provider is slow, and too many log-ins wait for it")
        try:
            yield
        finally:
            self._turns.release()

    def _know(self) -> dict[str, Any]:
        """Return what the provider says of itself; raise an error if it is not the one of the settings."""
        metadata: dict[str, Any] = self._client.load_server_metadata()
        problem = _problem_of(metadata, self._issuer)
        if problem:
            metadata.clear()  # so that it is asked again
            raise ProviderRefusesError(problem)
        offered = metadata.get("id_token_signing_alg_values_supported") or ["RS256"]
        metadata["id_token_signing_alg_values_supported"] = [name for name in offered if name in ALGORITHMS]
        ways = metadata.get("token_endpoint_auth_methods_supported") or []
        if "client_secret_post" in ways and "client_secret_basic" not in ways:
            self._client.client_kwargs["token_endpoint_auth_method"] = "client_secret_post"  # noqa: S105 - a way
        return metadata


def _problem_of(metadata: Mapping[str, Any], issuer: str) -> str | None:
    for name in NEEDED:
        if not isinstance(metadata.get(name), str):
            return f"what {issuer} says of itself has no {name}; OIDC_ISSUER is perhaps not a provider's address"
        if issuer.startswith("https:") and not metadata[name].startswith("https:"):
            return f"the provider's {name} does not begin with https:"
    if metadata["issuer"].rstrip("/") != issuer.rstrip("/"):
        return f"OIDC_ISSUER is {issuer}, but the provider calls itself {metadata['issuer'][:_SHOWN]}"
    return None


@contextmanager
def _mapped() -> Iterator[None]:
    """Turn what Authlib and requests raise into the errors of this app."""
    try:
        yield
    except OAuthError as error:
        cause = f"the provider answers {_named(error)}"
        if error.error == "invalid_grant":
            raise UnknownAttemptError(cause) from None
        hint = "; check OIDC_CLIENT_ID and OIDC_CLIENT_SECRET" if "client" in str(error.error) else ""
        raise ProviderRefusesError(cause + hint) from None
    except (requests.ConnectionError, requests.Timeout) as error:
        raise ProviderDownError(f"the provider cannot be reached: {_named(error)}") from None
    except requests.HTTPError as error:
        broken = error.response is not None and error.response.status_code >= 500
        kind = ProviderDownError if broken else ProviderRefusesError
        raise kind(f"the provider answers {_named(error)}") from None
    except (requests.RequestException, JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
        # Not JSON, or JSON that is something else: a proxy's page, for example.
        raise ProviderDownError(f"the provider's answer makes no sense: {_named(error)}") from None


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:_SHOWN]
