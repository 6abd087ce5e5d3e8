"""How sessions end: on the server, also for copies of the cookie, and after their maximum age."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from werkzeug.test import TestResponse

from app.security import LOGGED_IN_AT
from tests.ra_app.world import PASSWORD, Visitor, World

HOUR = 3600


def cookie_of(visitor: Visitor) -> str:
    cookie = visitor.client.get_cookie("ra_session")
    assert cookie is not None
    return cookie.value


def ask_with(app: Flask, cookie: str, path: str = "/") -> TestResponse:
    """A request with a stolen cookie."""
    thief = app.test_client()
    thief.set_cookie("ra_session", cookie)
    return thief.get(path)


def set_log_in_time(visitor: Visitor, seconds_ago: float | None) -> None:
    """Set the time of the log-in in the cookie to the past; None: a cookie of an older release, without the time."""
    with visitor.client.session_transaction(environ_base=visitor.address) as session:
        began = session.pop(LOGGED_IN_AT)
        if seconds_ago is not None:
            session[LOGGED_IN_AT] = began - seconds_ago


def test_a_copied_cookie_opens_nothing_after_the_log_out(mira: Visitor, app: Flask) -> None:
    copy = cookie_of(mira)
    assert ask_with(app, copy).status_code == 200
    assert mira.post("/logout").location == "/login"
    for path in ("/", "/account"):
        assert ask_with(app, copy, path).location.startswith("/login")


def test_logging_out_ends_the_sessions_on_other_devices(mira: Visitor, app: Flask) -> None:
    elsewhere = Visitor(app)
    elsewhere.log_in("mira")
    mira.post("/logout")
    assert elsewhere.get("/").status_code == 302
    assert "Your session has ended" in elsewhere.get("/login").text


def test_logging_out_leaves_other_users_alone(mira: Visitor, world: World, app: Flask) -> None:
    world.add_user("jo")
    jo = Visitor(app)
    jo.log_in("jo")
    mira.post("/logout")
    assert jo.get("/").status_code == 200


def test_a_closed_account_that_opens_again_has_no_old_sessions(mira: Visitor, app: Flask) -> None:
    runner = app.test_cli_runner()
    runner.invoke(args=["users", "deactivate", "mira"])
    runner.invoke(args=["users", "activate", "mira"])
    assert mira.get("/").status_code == 302


def test_an_administrator_ends_all_sessions_of_a_user(mira: Visitor, app: Flask) -> None:
    result = app.test_cli_runner().invoke(args=["users", "end-sessions", "mira"])
    assert result.output == "All sessions of mira have ended. The password stays the same.\n"
    assert mira.get("/").status_code == 302
    assert mira.log_in("mira").status_code == 302


def test_a_session_in_use_ends_after_its_longest_life(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    set_log_in_time(mira, 11.9 * HOUR)
    assert mira.get("/").status_code == 200
    set_log_in_time(mira, 0.2 * HOUR)
    answer = mira.get(f"/review/{clip}")
    assert answer.location == f"/login?next=/review/{clip}"
    assert "Your session has ended. Log in to continue." in mira.get("/login").text


def test_using_a_session_does_not_lengthen_its_longest_life(mira: Visitor) -> None:
    with mira.client.session_transaction(environ_base=mira.address) as session:
        began = session[LOGGED_IN_AT]
    mira.get("/")
    with mira.client.session_transaction(environ_base=mira.address) as session:
        assert session[LOGGED_IN_AT] == began


def test_what_the_page_sends_by_itself_does_not_lengthen_an_idle_session(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    form = mira.hold(clip).form(clip)
    assert "ra_session" in mira.get("/").headers.get("Set-Cookie", "")
    beat = mira.post(f"/review/{clip}/heartbeat", form)
    assert beat.status_code == 200
    assert "Set-Cookie" not in beat.headers
    assert "ra_session" in mira.post(f"/review/{clip}/draft", form).headers.get("Set-Cookie", ""), "somebody types"


def test_a_cookie_that_does_not_say_when_it_began_opens_nothing(mira: Visitor) -> None:
    set_log_in_time(mira, None)
    assert mira.get("/").status_code == 302


def test_a_copied_cookie_that_lay_unused_opens_nothing(
    mira: Visitor, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert signer is not None
    content = signer.loads(cookie_of(mira))
    monkeypatch.setattr("itsdangerous.timed.time.time", lambda: content[LOGGED_IN_AT] - 12.1 * HOUR)
    old = signer.dumps(content)
    monkeypatch.undo()
    assert ask_with(app, old).status_code == 302
    assert ask_with(app, signer.dumps(content)).status_code == 200


@pytest.mark.parametrize(
    ("path", "back"),
    [("/review/{}", "/login?next=/review/{}"), ("/review/{}/skip", "/login?next=/review/{}"), ("/logout", "/login")],
)
def test_a_form_sent_too_late_leads_back_to_its_page(world: World, visitor: Visitor, path: str, back: str) -> None:
    clip = world.add_clip()
    assert visitor.client.post(path.format(clip)).location == back.format(clip)


def test_a_log_in_page_in_another_tab_stays_good(world: World, visitor: Visitor) -> None:
    world.add_user("mira")
    token = visitor.token()
    assert visitor.get("/").status_code == 302
    form = {"username": "mira", "password": PASSWORD, "csrf_token": token}
    assert visitor.client.post("/login", data=form, environ_base=visitor.address).status_code == 302


def test_logging_in_and_out_take_the_token_of_the_form(mira: Visitor, app: Flask) -> None:
    assert mira.client.post("/logout", environ_base=mira.address).status_code == 400
    assert mira.get("/").status_code == 200
    form = {"username": "mira", "password": PASSWORD}
    assert app.test_client().post("/login", data=form).status_code == 400
