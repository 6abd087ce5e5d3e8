"""Single sign-on: who gets in, into which account, and what a person sees when it fails."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from flask import Flask
from werkzeug.test import TestResponse

from app import create_app
from app.config import load_settings
from app.models import db
from app.people import provider, sign_on, throttle
from local.services.state import choose_port
from tests.ra_app.campus import Campus, running
from tests.ra_app.world import PASSWORD, Visitor, World, at_once

LINK = re.compile(r"http://localhost(/join/[A-Za-z0-9_-]{43})<")


@pytest.fixture(scope="module")
def campus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campus]:
    with running(tmp_path_factory.mktemp("campus")) as made:
        yield made


@pytest.fixture(scope="module")
def ra_env(ra_env: dict[str, str], campus: Campus) -> dict[str, str]:
    return {**ra_env, **campus.settings}


@pytest.fixture
def with_settings(ra_env: dict[str, str]) -> Iterator[Callable[..., Visitor]]:
    """A browser of an app on the same database that has some other settings."""
    made = []

    def make(**settings: str) -> Visitor:
        made.append(create_app(load_settings({**ra_env, **settings})))
        return Visitor(made[-1])

    yield make
    for app in made:
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def lea(world: World, app: Flask) -> Visitor:
    world.add_user("lea", role="lead")
    browser = Visitor(app)
    browser.log_in("lea")
    return browser


def invite(by: Visitor, **form: str) -> str:
    found = LINK.search(by.post("/people/invite", {"role": "ra", **form}).text)
    assert found is not None
    return found[1]


def _join(campus: Campus, lea: Visitor, app: Flask, subject: str, username: str = "mira") -> Visitor:
    """Somebody who has made an account with an invitation and this identity."""
    browser = Visitor(app)
    assert campus.log_in(browser, subject, invite(lea) + "/sso").location == "/sso/join"
    assert browser.post("/sso/join", {"username": username}).location == "/"
    return browser


def _users(world: World) -> list[tuple[Any, ...]]:
    return world.sql("SELECT username FROM ra_users ORDER BY user_id")


def test_an_invitation_is_completed_with_the_provider(
    campus: Campus, lea: Visitor, world: World, visitor: Visitor
) -> None:
    campus.knows("subject-1", email="Mira@Example.edu", email_verified=True)
    link = invite(lea)
    assert f'href="{link}/sso">Log in with your campus account' in visitor.get(link).text
    assert campus.log_in(visitor, "subject-1", f"{link}/sso").location == "/sso/join"
    assert _users(world) == [("lea",)], "to come back makes nothing"
    page = visitor.get("/sso/join")
    assert 'value="mira"' in page.text
    assert visitor.post("/sso/join", {"username": "mira"}).location == "/"
    assert "Your account has no password" not in lea.get("/account").text
    assert "your account has no password" in visitor.get("/account").text
    assert world.sql("SELECT issuer, subject, user_id FROM ra_identities") == [(campus.address, "subject-1", 2)]
    assert world.sql("SELECT role, password_hash LIKE '!%%', last_login_at IS NOT NULL FROM ra_users")[1:] == [
        ("ra", True, True)
    ]
    assert world.sql("SELECT event, by_user_id, details FROM ra_account_changes WHERE user_id = 2") == [
        ("joined", 2, {"link_id": 1, "role": "ra", "sign_on": campus.address})
    ]
    assert "account made, with single sign-on" in lea.get("/people/2").text
    assert visitor.get(link).status_code == 404, "the invitation works once"


def test_a_log_in_leads_back_to_where_one_was(campus: Campus, lea: Visitor, app: Flask, world: World) -> None:
    _join(campus, lea, app, "subject-1")
    browser = Visitor(app)
    sent = browser.get("/me?page=1").location or ""
    found = re.search(r'href="(/sso/login\?next=[^"]+)"', browser.get(sent).text)
    assert found is not None
    assert campus.log_in(browser, "subject-1", found[1]).location == "/me?page=1"
    assert "You are <strong>mira</strong>" in browser.get("/me").text
    assert browser.get("/sso/login?next=/me").location == "/me", "who is logged in does not log in again"
    elsewhere = campus.log_in(Visitor(app), "subject-1", "/sso/login?next=https://evil.example")
    assert elsewhere.location == "/"
    cookies = elsewhere.headers.getlist("Set-Cookie")
    assert [cookie.partition("=")[0] for cookie in cookies] == ["ra_device", "ra_session"]
    assert world.sql("SELECT network FROM ra_known_networks WHERE user_id = 2") == [("192.0.2.7",)]


def test_sessions_end_as_those_of_a_password_do(campus: Campus, lea: Visitor, app: Flask) -> None:
    first = _join(campus, lea, app, "subject-1")
    second = Visitor(app)
    campus.log_in(second, "subject-1")
    second.post("/logout")
    assert first.get("/").location.startswith("/login")
    assert second.log_in("mira", "!").status_code == 401


def test_the_code_comes_with_state_nonce_and_a_verifier(
    campus: Campus, lea: Visitor, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    _join(campus, lea, app, "subject-1")
    sent: list[Any] = []
    send = requests.Session.send

    def note(self: requests.Session, prepared: Any, **options: Any) -> Any:
        sent.append(prepared)
        return send(self, prepared, **options)

    browser = Visitor(app)
    asked = browser.get("/sso/login")
    back = campus.address_back(asked, "subject-1")
    monkeypatch.setattr(requests.Session, "send", note)
    assert browser.get(back).location == "/"
    query = {name: values[0] for name, values in parse_qs(urlsplit(asked.location).query).items()}
    assert query["response_type"] == "code"
    assert query["code_challenge_method"] == "S256"
    assert len(query["state"]) >= 22
    assert len(query["nonce"]) >= 20
    token = next(one for one in sent if one.url == f"{campus.address}/oauth2/token")
    verifier = parse_qs(token.body)["code_verifier"][0].encode()
    assert base64.urlsafe_b64encode(hashlib.sha256(verifier).digest()).rstrip(b"=").decode() == query["code_challenge"]
    assert campus.client_secret not in f"{asked.location}{token.url}{token.body}"


def test_an_identity_alone_opens_nothing(
    campus: Campus, world: World, visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    """Also with the address and the name of somebody who has an account."""
    world.add_user("mira")
    campus.knows("subject-9", email="mira@example.edu", email_verified=True, preferred_username="mira")
    answer = campus.log_in(visitor, "subject-9")
    assert answer.status_code == 403
    assert "You have no account here yet" in answer.text
    assert visitor.get("/").status_code == 302
    assert visitor.get("/sso/join").status_code == 400
    assert visitor.post("/sso/join", {"username": "jo"}).status_code == 400
    assert (_users(world), world.sql("SELECT count(*) FROM ra_identities")) == ([("mira",)], [(0,)])
    assert "Single sign-on from 192.0.2.7: no account, and no invitation" in caplog.text


def test_a_closed_account_stays_closed(campus: Campus, lea: Visitor, app: Flask, visitor: Visitor) -> None:
    inside = _join(campus, lea, app, "subject-1")
    lea.post("/people/2/close")
    assert inside.get("/").status_code == 302
    for begin in ("/sso/login", invite(lea) + "/sso"):
        answer = campus.log_in(visitor, "subject-1", begin)
        assert answer.status_code == 403
        assert "Your account is closed" in answer.text
    assert visitor.get("/").status_code == 302


def test_an_identity_that_has_an_account_does_not_use_up_an_invitation(
    campus: Campus, lea: Visitor, app: Flask, world: World, visitor: Visitor
) -> None:
    _join(campus, lea, app, "subject-1")
    answer = campus.log_in(visitor, "subject-1", invite(lea) + "/sso")
    assert answer.location == "/"
    assert "the link was not used" in visitor.get("/").text
    assert world.sql("SELECT count(*) FROM ra_links WHERE used_at IS NULL") == [(1,)]
    assert _users(world) == [("lea",), ("mira",)]


def test_one_identity_makes_one_account(campus: Campus, lea: Visitor, app: Flask, world: World) -> None:
    people = [Visitor(app, f"192.0.2.{10 + n}") for n in range(3)]
    for browser in people:
        campus.log_in(browser, "subject-1", invite(lea) + "/sso")
    codes = at_once(*((browser, "/sso/join", {"username": f"p{n}"}) for n, browser in enumerate(people)))
    assert sorted(codes) == [302, 422, 422]
    assert world.sql("SELECT count(*) FROM ra_users, ra_identities") == [(2,)]


def test_a_name_that_cannot_be_is_said_and_the_link_still_works(
    campus: Campus, lea: Visitor, world: World, visitor: Visitor
) -> None:
    campus.log_in(visitor, "subject-1", invite(lea) + "/sso")
    for name, sentence in (("no spaces", "not a valid user name"), ("lea", "cannot be used. Choose another")):
        answer = visitor.post("/sso/join", {"username": name})
        assert answer.status_code == 422
        assert sentence in answer.text
    assert visitor.client.post("/sso/join", data={"username": "mira"}).status_code == 400, "without the form's token"
    world.sql("UPDATE ra_links SET revoked_at = now()")
    assert "This link does not work" in visitor.post("/sso/join", {"username": "mira"}).text
    assert _users(world) == [("lea",)]


def test_a_link_for_a_new_password_may_bring_single_sign_on_instead(
    campus: Campus, lea: Visitor, app: Flask, world: World, mira: Visitor, visitor: Visitor
) -> None:
    """The account keeps its labels and its pseudonym; its password, which was perhaps stolen, works no more."""
    number = world.sql("SELECT user_id FROM ra_users WHERE username = 'mira'")[0][0]
    found = LINK.search(lea.post(f"/people/{number}/reset").text)
    assert found is not None
    campus.log_in(visitor, "subject-1", f"{found[1]}/sso")
    assert "mira" not in visitor.get("/sso/join").text
    assert "does not belong to this user name" in visitor.post("/sso/join", {"username": "lea"}).text
    assert visitor.post("/sso/join", {"username": "mira"}).location == "/"
    assert mira.get("/").status_code == 302
    assert mira.log_in("mira", PASSWORD).status_code == 401
    assert campus.log_in(Visitor(app), "subject-1").location == "/"
    assert "single sign-on connected by a link" in lea.get(f"/people/{number}").text
    found = LINK.search(lea.post(f"/people/{number}/reset").text)  # a new identity replaces the one before
    assert found is not None
    other = Visitor(app)
    campus.log_in(other, "subject-2", f"{found[1]}/sso")
    assert other.post("/sso/join", {"username": "mira"}).location == "/"
    assert visitor.get("/").status_code == 302
    assert campus.log_in(visitor, "subject-1").status_code == 403
    found = LINK.search(lea.post(f"/people/{number}/reset").text)  # and so does a password
    assert found is not None
    assert visitor.post(found[1], {"username": "mira", "password": PASSWORD, "repeat": PASSWORD}).location == "/"
    assert other.get("/").status_code == 302
    assert campus.log_in(other, "subject-2").status_code == 403


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ["another-app"]},
        pytest.param({"aud": "another-app", "azp": "{client_id}"}, marks=pytest.mark.thorough),
        pytest.param({"aud": ["{client_id}", "another-app"]}, marks=pytest.mark.thorough),
        {"iss": "https://another.example"},
        {"exp": 1_700_000_000},
        {"nonce": "of another log-in"},
        pytest.param({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}, marks=pytest.mark.thorough),
    ],
    ids=" ".join,
)
def test_a_token_that_is_not_for_this_log_in_is_refused(
    campus: Campus, lea: Visitor, app: Flask, visitor: Visitor, claims: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    _join(campus, lea, app, "subject-1")
    filled = {name: _fill(value, campus.client_id) for name, value in claims.items()}
    campus.knows("subject-1", **filled)
    try:
        answer = campus.log_in(visitor, "subject-1")
    finally:
        campus.knows("subject-1")
    _refused(answer, 403, "The answer of the log-in service was refused")
    assert visitor.get("/").status_code == 302
    assert "the ID token is refused" in caplog.text


def _fill(value: Any, client_id: str) -> Any:
    if isinstance(value, list):
        return [_fill(one, client_id) for one in value]
    return value.format(client_id=client_id) if isinstance(value, str) else value


def _refused(answer: TestResponse, status: int, title: str) -> None:
    assert answer.status_code == status
    assert title in answer.text
    assert "Begin again" in answer.text


def test_a_code_of_another_browser_is_worth_nothing(campus: Campus, lea: Visitor, app: Flask, visitor: Visitor) -> None:
    """Somebody who got hold of a code puts it into a log-in of their own."""
    victim = _join(campus, lea, app, "subject-1")
    victim.post("/logout")
    code = parse_qs(urlsplit(campus.address_back(victim.get("/sso/login"), "subject-1")).query)["code"][0]
    own = campus.address_back(visitor.get("/sso/login"), "mallory")
    state = parse_qs(urlsplit(own).query)["state"][0]
    _refused(visitor.get(f"/sso/callback?code={code}&state={state}"), 403, "was refused")
    assert visitor.get("/").status_code == 302


def test_a_state_works_once_and_in_its_own_browser_and_for_ten_minutes(
    campus: Campus, lea: Visitor, app: Flask, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    _join(campus, lea, app, "subject-1")
    title = "This log-in cannot be finished"
    back = campus.address_back(visitor.get("/sso/login"), "subject-1")
    _refused(Visitor(app).get(back), 400, title)
    _refused(Visitor(app).get("/sso/callback?state=x&code=y"), 400, title)
    assert visitor.get(back).location == "/"
    visitor.post("/logout")
    _refused(visitor.get(back), 400, title)
    late = campus.address_back(visitor.get("/sso/login"), "subject-1")
    monkeypatch.setattr("app.people.sign_on.LIFE_S", -1)
    _refused(visitor.get(late), 400, "This log-in took too long")
    _refused(visitor.get(late), 400, title)


def test_two_tabs_and_the_newest_attempts_stay_good(campus: Campus, lea: Visitor, app: Flask, visitor: Visitor) -> None:
    _join(campus, lea, app, "subject-1")
    tabs = [campus.address_back(visitor.get("/sso/login"), "subject-1") for _ in range(sign_on.KEPT + 1)]
    assert visitor.get(tabs[0]).status_code == 400
    assert visitor.get(tabs[1]).location == "/"


def test_who_says_no_is_not_logged_in_and_may_begin_again(
    campus: Campus, lea: Visitor, visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    link = invite(lea)
    _refused(campus.log_in(visitor, None, f"{link}/sso"), 403, "You did not log in")  # this provider sends no state
    state = parse_qs(urlsplit(visitor.get(f"{link}/sso").location).query)["state"][0]
    answer = visitor.get(f"/sso/callback?error=access_denied&state={state}")
    _refused(answer, 403, "You did not log in")
    assert f'href="{link}"' in answer.text
    assert "sends the browser back with access_denied" in caplog.text
    assert visitor.get(link).status_code == 200


def test_a_wrong_client_secret_is_a_matter_for_the_operator(
    campus: Campus, world: World, with_settings: Callable[..., Visitor], caplog: pytest.LogCaptureFixture
) -> None:
    visitor = with_settings(OIDC_CLIENT_SECRET="not-the-secret")
    _refused(campus.log_in(visitor, "subject-1"), 503, "Single sign-on is not set up correctly")
    assert "invalid_client" in caplog.text
    assert "check OIDC_CLIENT_ID and OIDC_CLIENT_SECRET" in caplog.text
    assert "not-the-secret" not in caplog.text
    assert world.sql("SELECT outcome FROM ra_login_attempts") == [("refused",)], "nobody is locked out for it"


@pytest.mark.usefixtures("world")
def test_a_provider_that_is_down_leaves_the_password(
    with_settings: Callable[..., Visitor], world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.add_user("mira")
    visitor = with_settings(OIDC_ISSUER=f"http://127.0.0.1:{choose_port()}")
    _refused(visitor.get("/sso/login"), 503, "The log-in service does not answer")
    assert "the provider cannot be reached: ConnectionError" in caplog.text
    assert visitor.log_in("mira").location == "/"


def test_a_provider_that_goes_down_under_a_log_in(
    with_settings: Callable[..., Visitor], world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running(tmp_path_factory.mktemp("short")) as short:
        visitor = with_settings(**short.settings)
        back = short.address_back(visitor.get("/sso/login"), "subject-1")
    _refused(visitor.get(back), 503, "The log-in service does not answer")
    assert world.sql("SELECT outcome FROM ra_login_attempts") == [("refused",)]


@pytest.mark.usefixtures("world")
def test_an_issuer_that_is_none_or_another_one_is_named_in_the_log(
    campus: Campus, with_settings: Callable[..., Visitor], caplog: pytest.LogCaptureFixture
) -> None:
    named = campus.address.replace("127.0.0.1", "localhost")
    visitor = with_settings(OIDC_ISSUER=f"{named}/userinfo")
    _refused(visitor.get("/sso/login"), 503, "Single sign-on is not set up correctly")
    assert "404" in caplog.text


def test_a_provider_must_call_itself_by_the_name_of_the_settings() -> None:
    said = dict.fromkeys(provider.NEEDED, "https://login.example.edu/x")
    said["issuer"] = "https://login.example.edu/realms/campus/"
    assert provider._problem_of(said, "https://login.example.edu/realms/campus") is None
    assert "calls itself https://login.example.edu/realms" in str(provider._problem_of(said, "https://example.edu"))
    assert "does not begin with https:" in str(
        provider._problem_of({**said, "token_endpoint": "http://login.example.edu/x"}, "https://login.example.edu")
    )
    assert "has no jwks_uri" in str(provider._problem_of({**said, "jwks_uri": None}, "https://example.edu"))


CAMPUS_ONLY = {"OIDC_EMAIL_DOMAINS": "example.edu", "OIDC_CLAIM": "groups=ra-app"}


@pytest.mark.parametrize(
    ("claims", "allowed"),
    [
        ({"email": "mira@Example.EDU", "email_verified": True, "groups": ["staff", "ra-app"]}, True),
        ({"email": "mira@example.edu", "email_verified": False, "groups": ["ra-app"]}, False),
        ({"email": "mira@example.edu.evil.example", "email_verified": True, "groups": ["ra-app"]}, False),
        ({"email": "mira@example.edu", "email_verified": True, "groups": "not-ra-app"}, False),
        ({"email": "mira@example.edu", "email_verified": True}, False),
    ],
)
def test_an_account_without_an_invitation_is_for_whom_the_settings_name(
    campus: Campus, world: World, with_settings: Callable[..., Visitor], claims: dict[str, Any], allowed: bool
) -> None:
    visitor = with_settings(**CAMPUS_ONLY, OIDC_WITHOUT_INVITATION="true")
    campus.knows("subject-5", **claims)
    answer = campus.log_in(visitor, "subject-5")
    if not allowed:
        _refused(answer, 403, "You may not log in with this identity")
        assert visitor.get("/sso/join").status_code == 400
    else:
        assert visitor.post("/sso/join", {"username": "mira"}).location == "/"
    assert world.sql("SELECT username, role FROM ra_users") == ([("mira", "ra")] if allowed else [])


def test_who_leaves_the_group_is_not_let_in_any_more(
    campus: Campus, lea: Visitor, app: Flask, with_settings: Callable[..., Visitor]
) -> None:
    _join(campus, lea, app, "subject-1")
    visitor = with_settings(OIDC_CLAIM="groups=ra-app")
    campus.knows("subject-1", groups=["staff"])
    _refused(campus.log_in(visitor, "subject-1"), 403, "You may not log in with this identity")
    campus.knows("subject-1", groups=["ra-app"])
    assert campus.log_in(visitor, "subject-1").location == "/"


def test_a_claim_that_the_provider_tells_only_on_request_counts(
    campus: Campus, lea: Visitor, app: Flask, with_settings: Callable[..., Visitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The groups are there after the token was made, and before the app asks for them."""
    _join(campus, lea, app, "subject-1")
    campus.knows("subject-1")
    send = requests.Session.send

    def late(self: requests.Session, prepared: Any, **options: Any) -> Any:
        if prepared.url.endswith("/userinfo"):
            campus.knows("subject-1", groups=["ra-app"])
        return send(self, prepared, **options)

    visitor = with_settings(OIDC_CLAIM="groups=ra-app")
    monkeypatch.setattr(requests.Session, "send", late)
    assert campus.log_in(visitor, "subject-1").location == "/"


def test_a_provider_that_hangs_takes_only_a_few_threads(
    with_settings: Callable[..., Visitor],
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    world.add_user("mira")
    monkeypatch.setattr(provider, "TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        visitor = with_settings(OIDC_ISSUER=f"http://127.0.0.1:{silent.getsockname()[1]}")
        _refused(visitor.get("/sso/login"), 503, "The log-in service does not answer")
        assert "ReadTimeout" in caplog.text
        turns = visitor.app.extensions["ra"].provider._turns
        for _ in range(provider.AT_ONCE):
            assert turns.acquire(blocking=False), "each log-in gives its turn back"
        _refused(visitor.get("/sso/login"), 503, "The log-in service does not answer")
    assert "too many log-ins wait for it" in caplog.text


def test_guessed_codes_are_limited_like_log_ins(campus: Campus, lea: Visitor, app: Flask, world: World) -> None:
    _join(campus, lea, app, "subject-1")
    stranger = Visitor(app, "198.51.100.4")
    state = parse_qs(urlsplit(stranger.get("/sso/login").location).query)["state"][0]
    _refused(stranger.get(f"/sso/callback?code=guess&state={state}"), 400, "This log-in cannot be finished")
    assert world.sql("SELECT count(*) FROM ra_login_attempts WHERE outcome = 'failed'") == [(1,)]
    world.sql(
        "INSERT INTO ra_login_attempts (username, address, outcome) "
        "SELECT 'guess' || n, '198.51.100.4', 'failed' FROM generate_series(2, %s) n",
        throttle.ADDRESS_LIMIT,
    )
    assert campus.log_in(stranger, "subject-1").status_code == 429
    assert campus.log_in(Visitor(app), "subject-1").location == "/", "from elsewhere"
