"""Invitations and links for a new password: they work once, for seven days, and say nothing about accounts."""

from __future__ import annotations

import hashlib
import re

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from app.people import throttle
from tests.ra_app.world import PASSWORD, Visitor, World, at_once

NEW = "a wholly different one"
DEAD = "This link does not work"


@pytest.fixture
def lea(world: World, app: Flask) -> Visitor:
    world.add_user("lea", role="lead")
    browser = Visitor(app)
    browser.log_in("lea")
    return browser


def _link(page: TestResponse) -> str:
    found = re.search(r"http://localhost(/join/[A-Za-z0-9_-]{43})<", page.text)
    assert found is not None, page.text
    return found[1]


def _invite(by: Visitor, **form: str) -> str:
    return _link(by.post("/people/invite", {"role": "ra", **form}))


def _reset(by: Visitor, world: World, name: str = "mira") -> str:
    number = world.sql("SELECT user_id FROM ra_users WHERE username = %s", name)[0][0]
    return _link(by.post(f"/people/{number}/reset"))


def _form(username: str, password: str = NEW) -> dict[str, str]:
    return {"username": username, "password": password, "repeat": password}


def _use(browser: Visitor, link: str, username: str = "mira", password: str = NEW, **form: str) -> TestResponse:
    return browser.post(link, {**_form(username, password), **form})


def _dead(browser: Visitor, link: str, **form: str) -> None:
    for answer in (browser.get(link), _use(browser, link, **form)):
        assert answer.status_code == 404
        assert DEAD in answer.text
        assert 'name="password"' not in answer.text


def test_an_invitation_makes_an_account_and_logs_it_in(lea: Visitor, world: World, visitor: Visitor) -> None:
    link = _invite(lea)
    page = visitor.get(link)
    assert page.status_code == 200
    assert not re.search(r"\blea\b", page.text), "who invites is not said to whoever has the link"
    answer = _use(visitor, link, "  Mira ")
    assert answer.location == "/"
    assert visitor.get("/me").status_code == 200
    assert world.sql("SELECT username, role, active, last_login_at IS NOT NULL FROM ra_users WHERE user_id = 2") == [
        ("mira", "ra", True, True)
    ]
    _dead(visitor, link)
    assert world.sql("SELECT event, by_user_id, user_id, details FROM ra_account_changes WHERE event <> 'created'") == [
        ("invited", 1, None, {"link_id": 1, "role": "ra"}),
        ("joined", 2, 2, {"link_id": 1, "role": "ra"}),
    ]


def test_only_a_hash_is_stored_and_the_link_is_shown_once(lea: Visitor, world: World) -> None:
    token = _invite(lea).removeprefix("/join/")
    rows = world.sql("SELECT to_jsonb(ra_links)::text FROM ra_links")
    rows += world.sql("SELECT to_jsonb(ra_account_changes)::text FROM ra_account_changes")
    assert hashlib.sha256(token.encode()).hexdigest() in rows[0][0]
    assert token not in str(rows)
    assert token not in lea.get("/people").text


def test_opening_a_link_changes_nothing(lea: Visitor, world: World, visitor: Visitor) -> None:
    link = _invite(lea)
    before = world.sql("SELECT to_jsonb(ra_links) FROM ra_links")
    for method in ("GET", "HEAD", "GET"):
        assert visitor.client.open(link, method=method, environ_base=visitor.address).status_code == 200
    assert world.sql("SELECT to_jsonb(ra_links) FROM ra_links") == before
    assert world.sql("SELECT count(*) FROM ra_users") == [(1,)]
    assert visitor.client.post(link, data={"username": "mira"}).status_code == 400, "without the token of the form"


def test_links_that_are_expired_used_or_taken_back_lead_to_one_page(
    lea: Visitor, world: World, visitor: Visitor
) -> None:
    expired, used, revoked = (_invite(lea) for _ in range(3))
    world.sql("UPDATE ra_links SET expires_at = now() WHERE link_id = 1")
    _use(visitor, used)
    visitor.post("/logout")
    visitor.get("/login")  # says that one is logged out
    assert "taken back" in lea.post("/people/links/3/revoke", follow_redirects=True).text
    pages = {visitor.get(link).text for link in (expired, used, revoked, "/join/" + "A" * 43)}
    assert len(pages) == 1
    assert lea.post("/people/links/3/revoke", follow_redirects=True).text.count("cannot be taken back") == 1
    assert "/revoke" not in lea.get("/people").text
    assert world.sql("SELECT count(*) FROM ra_account_changes WHERE event = 'link-revoked'") == [(1,)]


def test_a_link_lives_for_seven_days(lea: Visitor, world: World, visitor: Visitor) -> None:
    link = _invite(lea)
    assert world.sql("SELECT extract(day FROM expires_at - made_at) FROM ra_links") == [(7,)]
    world.sql("UPDATE ra_links SET expires_at = expires_at - interval '7 days' + interval '1 minute'")
    assert visitor.get(link).status_code == 200
    world.sql("UPDATE ra_links SET expires_at = expires_at - interval '1 minute'")
    _dead(visitor, link)


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    "token",
    ["x", "A" * 42, "A" * 44, "A" * 42 + "!", "%00" + "A" * 42, "%ff" * 43, "ä" * 43, "A" * 42 + "%0a", "'" * 43],
)
def test_a_token_with_wrong_characters_leads_to_the_same_page(visitor: Visitor, token: str) -> None:
    _dead(visitor, f"/join/{token}")


def test_two_people_who_use_one_invitation_at_once_make_one_account(lea: Visitor, app: Flask, world: World) -> None:
    for turn in range(4):
        link = _invite(lea)
        forms = [_form(f"p{turn}-{n}") for n in range(3)]
        codes = at_once(*((Visitor(app, f"192.0.2.{10 + n}"), link, form) for n, form in enumerate(forms)))
        assert sorted(codes) == [302, 404, 404]
        assert world.sql("SELECT count(*) FROM ra_users") == [(turn + 2,)]


def test_two_invitations_for_one_name_at_once_make_one_account(lea: Visitor, app: Flask, world: World) -> None:
    people = [Visitor(app, f"192.0.2.{10 + n}") for n in range(2)]
    codes = at_once(*((browser, _invite(lea), _form("mira")) for browser in people))
    assert sorted(codes) == [302, 422]
    assert world.sql("SELECT count(*) FROM ra_links WHERE used_at IS NULL") == [(1,)], "the other link still works"


@pytest.mark.parametrize("typed", ["mira", "MIRA", " Mira "])
def test_a_name_that_somebody_has_is_refused_without_saying_so(
    lea: Visitor, world: World, visitor: Visitor, typed: str
) -> None:
    world.add_user("mira")
    link = _invite(lea)
    answer = _use(visitor, link, typed)
    assert answer.status_code == 422
    assert "This user name cannot be used. Choose another one." in answer.text
    assert "already" not in answer.text
    assert _use(visitor, link, "jo").status_code == 302


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ({"username": "no spaces"}, "not a valid user name"),
        ({"username": "<b>x</b>"}, "not a valid user name"),
        ({"username": ""}, "not a valid user name"),
        ({"password": "short"}, "12 to 200 characters"),
        ({"password": "x" * 201}, "12 to 200 characters"),
        ({"repeat": "something else"}, "not the same"),
    ],
)
def test_a_wrong_form_says_what_is_wrong_and_is_no_failed_try(
    lea: Visitor, visitor: Visitor, form: dict[str, str], sentence: str
) -> None:
    link = _invite(lea)
    for _ in range(throttle.PAIR_LIMIT + 1):
        answer = _use(visitor, link, **form)
        assert answer.status_code == 422
        assert sentence in answer.text
        assert "<b>x" not in answer.text
    assert _use(visitor, link).status_code == 302


def test_an_invitation_can_fix_the_name(lea: Visitor, world: World, visitor: Visitor) -> None:
    link = _invite(lea, username="Mira")
    assert 'value="mira"' in visitor.get(link).text
    assert _use(visitor, link, "somebody-else").status_code == 302
    assert world.sql("SELECT username FROM ra_users ORDER BY user_id") == [("lea",), ("mira",)]
    for name in ("mira", "no spaces"):
        assert lea.post("/people/invite", {"role": "ra", "username": name}).status_code == 422


def test_a_fixed_name_that_somebody_took_meanwhile_asks_for_a_new_link(
    lea: Visitor, world: World, visitor: Visitor
) -> None:
    link = _invite(lea, username="mira")
    world.add_user("mira")
    answer = _use(visitor, link)
    assert answer.status_code == 422
    assert "Ask for a new link" in answer.text


@pytest.mark.parametrize("end", ["closed", "demoted", "closed and opened"])
def test_links_of_somebody_who_is_no_lead_any_more_do_not_work(
    lea: Visitor, app: Flask, world: World, visitor: Visitor, end: str
) -> None:
    world.add_user("mira")
    world.add_user("ada", role="admin")
    ada = Visitor(app)
    ada.log_in("ada")
    links = [_invite(lea), _reset(lea, world)]
    if end == "demoted":
        ada.post("/people/1/role", {"role": "ra"})
    else:
        ada.post("/people/1/close")
    if end == "closed and opened":
        ada.post("/people/1/open")
    for link in links:
        _dead(visitor, link)
    assert world.sql("SELECT password_hash LIKE '$argon2%%' FROM ra_users WHERE username = 'mira'") == [(True,)]
    assert visitor.log_in("mira", PASSWORD).status_code == 302


def test_a_link_does_not_outlive_the_role_when_the_database_is_changed(
    lea: Visitor, world: World, visitor: Visitor
) -> None:
    link = _invite(lea)
    world.sql("UPDATE ra_users SET active = false WHERE username = 'lea'")
    _dead(visitor, link)


def test_a_lead_has_no_link_into_an_account_that_became_an_administrators(
    lea: Visitor, world: World, visitor: Visitor
) -> None:
    world.add_user("mira")
    link = _reset(lea, world)
    world.sql("UPDATE ra_users SET role = 'admin' WHERE username = 'mira'")
    _dead(visitor, link)


def test_a_reset_sets_the_password_and_ends_all_sessions(
    lea: Visitor, world: World, mira: Visitor, visitor: Visitor
) -> None:
    first, link = _reset(lea, world), _reset(lea, world)
    _dead(visitor, first)
    assert mira.get("/").status_code == 200, "a link that nobody used changes nothing"
    assert "mira" not in visitor.get(link).text
    assert _use(visitor, link).location == "/"
    assert visitor.get("/").status_code == 200
    assert mira.get("/").status_code == 302
    assert mira.log_in("mira", PASSWORD).status_code == 401
    assert mira.log_in("mira", NEW).status_code == 302
    _dead(mira, link)


def test_a_reset_needs_the_name_of_the_account(lea: Visitor, world: World, mira: Visitor, visitor: Visitor) -> None:
    world.add_user("jo")
    link = _reset(lea, world)
    for name in ("jo", "nobody"):
        answer = _use(visitor, link, name)
        assert answer.status_code == 422
        assert "does not belong to this user name" in answer.text
    assert mira.get("/").status_code == 200
    assert _use(visitor, link).status_code == 302


def test_a_reset_of_a_closed_account_is_refused_and_dies_with_it(lea: Visitor, world: World, visitor: Visitor) -> None:
    number = world.add_user("mira")
    link = _reset(lea, world)
    lea.post(f"/people/{number}/close")
    _dead(visitor, link)
    answer = lea.post(f"/people/{number}/reset")
    assert answer.status_code == 409
    assert "Open it first" in answer.text


def test_an_account_that_is_closed_while_its_link_is_used_is_closed(
    lea: Visitor, world: World, visitor: Visitor
) -> None:
    """The two acts lock the same rows, and neither may fail for that."""
    number = world.add_user("mira")
    for turn in range(6):
        link = _reset(lea, world)
        codes = at_once((lea, f"/people/{number}/close", {}), (visitor, link, _form("mira", f"{NEW} {turn}")))
        assert codes in ([302, 302], [302, 404])
        assert world.sql("SELECT active FROM ra_users WHERE username = 'mira'") == [(False,)]
        assert visitor.get("/").location.startswith("/login")
        lea.post(f"/people/{number}/open")
        assert visitor.get("/").location.startswith("/login")


def test_a_new_password_ends_links_to_reset_it(lea: Visitor, world: World, mira: Visitor, visitor: Visitor) -> None:
    link = _reset(lea, world)
    mira.post("/account", {"current": PASSWORD, "new": NEW, "repeat": NEW})
    _dead(visitor, link)


def test_wrong_tries_with_a_link_are_limited_like_log_ins(lea: Visitor, world: World, visitor: Visitor) -> None:
    world.add_user("mira")
    link = _invite(lea)
    codes = [_use(visitor, link).status_code for _ in range(throttle.PAIR_LIMIT + 1)]
    assert codes == [422] * throttle.PAIR_LIMIT + [429]
    answer = _use(visitor, link, "jo")
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert visitor.log_in("mira").status_code == 302, "log-ins are counted apart"
    world.sql("UPDATE ra_login_attempts SET attempted_at = attempted_at - interval '16 minutes'")
    assert _use(visitor, link, "jo").status_code == 302


def test_invented_links_are_limited_and_keep_no_link_that_works_from_working(
    lea: Visitor, world: World, visitor: Visitor, app: Flask
) -> None:
    link = _invite(lea)
    codes = [_use(visitor, "/join/" + "A" * 43).status_code for _ in range(throttle.PAIR_LIMIT + 1)]
    assert codes == [404] * throttle.PAIR_LIMIT + [429]
    world.sql(
        "INSERT INTO ra_login_attempts (username, address, outcome) "
        "SELECT 'name' || n, '198.51.100.' || n %% 250, 'failed' FROM generate_series(1, %s) n",
        throttle.TOTAL_LIMIT,
    )
    assert _use(Visitor(app, "203.0.113.9"), link).status_code == 302


def test_a_lead_takes_back_only_links_that_a_lead_may_make(lea: Visitor, app: Flask, world: World) -> None:
    world.add_user("ada", role="admin")
    ada = Visitor(app)
    ada.log_in("ada")
    link = _invite(ada, role="admin")
    assert "/revoke" not in lea.get("/people").text
    assert "not yours" in lea.post("/people/links/1/revoke", follow_redirects=True).text
    assert ada.get(link).status_code == 200
    assert "taken back" in ada.post("/people/links/1/revoke", follow_redirects=True).text
    _dead(Visitor(app), link)


def test_somebody_who_is_logged_in_becomes_the_new_person(lea: Visitor) -> None:
    assert _use(lea, _invite(lea)).status_code == 302
    assert "You are <strong>mira</strong>" in lea.get("/me").text
