"""Logging in and out, sessions, and the limit on failed tries."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from argon2.low_level import Type
from flask import Flask

from app import create_app
from app.config import load_settings
from app.models import db
from app.people import accounts, throttle
from app.people.origins import Origin
from tests.ra_app.world import PASSWORD, Visitor, World, field

OF_THE_APP = accounts.hasher  # before the fixture `cheap_hashes` replaces it


def test_the_right_password_opens_the_queue(world: World, visitor: Visitor) -> None:
    world.add_user("mira")
    answer = visitor.log_in("mira")
    assert (answer.status_code, answer.location) == (302, "/")
    assert "Your queue" in visitor.get("/").text
    assert world.sql("SELECT last_login_at IS NOT NULL FROM ra_users") == [(True,)]


def test_user_names_are_the_same_in_capitals(world: World, visitor: Visitor) -> None:
    world.add_user("mira")
    assert visitor.log_in(" Mira ").status_code == 302


@pytest.mark.parametrize(
    ("username", "password"),
    [("mira", "wrong password"), ("nobody", PASSWORD), ("mira", ""), ("' OR 1=1 --", PASSWORD), ("mi\0ra", "a\0b")],
)
def test_a_wrong_name_and_a_wrong_password_sound_the_same(
    world: World, visitor: Visitor, username: str, password: str
) -> None:
    world.add_user("mira")
    answer = visitor.log_in(username, password)
    assert answer.status_code == 401
    assert "User name or password is wrong." in answer.text
    assert visitor.get("/").status_code == 302


def test_an_unknown_name_is_checked_against_a_hash_as_a_known_one_is(world: World, app: Flask) -> None:
    world.add_user("mira")
    with app.app_context():
        assert accounts.authenticate("nobody", PASSWORD) is None
        assert (
            accounts._placeholder_hash().split("$")[:4]
            == world.sql("SELECT password_hash FROM ra_users")[0][0].split("$")[:4]
        ), "the work done for nobody must cost what it costs for somebody"


@pytest.mark.usefixtures("world")
def test_a_guess_costs_the_same_where_there_is_no_password(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    hasher, checked = accounts.hasher, []

    def verify(stored: str, password: str) -> bool:
        checked.append(stored.partition("$v=")[0])
        return hasher.verify(stored, password)

    monkeypatch.setattr(accounts, "hasher", SimpleNamespace(verify=verify, hash=hasher.hash))
    with app.app_context():
        user = accounts.add_user("mira", None, "ra")
        assert not accounts.verify_password(user, user.password_hash)
        db.session.rollback()
    assert checked == ["$argon2id"]


def test_a_guess_at_a_password_costs_an_attacker_much_memory_and_time() -> None:
    """At least what RFC 9106 recommends where memory is scarce. The tests use less, so this looks at the app's own."""
    assert OF_THE_APP.type is Type.ID
    assert OF_THE_APP.memory_cost >= 64 << 10  # KiB
    assert OF_THE_APP.time_cost >= 3


def test_passwords_are_stored_as_argon2_hashes(world: World) -> None:
    world.add_user("mira")
    assert world.sql("SELECT password_hash FROM ra_users")[0][0].startswith("$argon2id$")


def test_the_session_cookie_is_out_of_reach_of_scripts(world: World, visitor: Visitor) -> None:
    world.add_user("mira")
    cookies = visitor.log_in("mira").headers.getlist("Set-Cookie")
    assert [cookie.partition("=")[0] for cookie in cookies] == ["ra_device", "ra_session"]
    for cookie, same_site in zip(cookies, ("SameSite=Strict", "SameSite=Lax"), strict=True):
        assert "HttpOnly" in cookie
        assert same_site in cookie
        assert "Secure" not in cookie  # development


def test_in_production_the_cookie_goes_over_https_only(world: World, ra_env: dict[str, str]) -> None:
    world.add_user("mira")
    strict = create_app(load_settings({**ra_env, "FLASK_ENV": "production"}))
    client = strict.test_client()
    page = client.get("/login", base_url="https://localhost")
    assert "Secure" in page.headers["Set-Cookie"]
    form = {"username": "mira", "password": PASSWORD, "csrf_token": field(page, "csrf_token")}
    referrer = {"Referer": "https://localhost/login"}
    answer = client.post("/login", data=form, base_url="https://localhost", headers=referrer)
    assert answer.status_code == 302
    cookies = answer.headers.getlist("Set-Cookie")
    assert len(cookies) == 2
    assert all("Secure" in cookie and "HttpOnly" in cookie for cookie in cookies)


@pytest.mark.usefixtures("world")
def test_a_log_in_over_plain_http_in_production_tells_the_operator_why(
    ra_env: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    strict = create_app(load_settings({**ra_env, "FLASK_ENV": "production"}))
    without_cookies = strict.test_client(use_cookies=False)  # as a browser is on plain http
    answer = without_cookies.post("/login", data={"username": "mira", "password": PASSWORD, "csrf_token": "x"})
    assert answer.status_code == 400
    assert "over https and set TRUSTED_PROXIES" in caplog.text


def test_logging_out_takes_a_post_and_ends_the_session(mira: Visitor) -> None:
    assert mira.get("/logout").status_code == 405
    assert mira.post("/logout").location == "/login"
    assert mira.get("/").status_code == 302


def test_a_form_without_its_token_is_refused(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    answer = mira.client.post(f"/review/{clip}", data={"label": "hate"})
    assert answer.status_code == 400
    assert "reload the page" in answer.text
    assert world.sql("SELECT count(*) FROM ra_labels") == [(0,)]


def test_after_logging_in_one_lands_where_one_wanted_to_go(world: World, visitor: Visitor) -> None:
    world.add_user("mira")
    clip = world.add_clip()
    sent = visitor.get(f"/review/{clip}")
    assert sent.location == f"/login?next=/review/{clip}"
    answer = visitor.post(sent.location, {"username": "mira", "password": PASSWORD})
    assert answer.location == f"/review/{clip}"


@pytest.mark.parametrize("target", ["https://evil.example", "//evil.example", "/\\evil.example", "/\t/evil.example"])
def test_a_link_cannot_send_one_elsewhere_after_the_log_in(world: World, visitor: Visitor, target: str) -> None:
    world.add_user("mira")
    form = {"username": "mira", "password": PASSWORD}
    answer = visitor.post("/login", form, query_string={"next": target})
    assert answer.location == "/"


def test_a_form_sent_after_the_session_ended_leads_to_the_log_in_page(world: World, visitor: Visitor) -> None:
    clip = world.add_clip()
    answer = visitor.client.post(f"/review/{clip}", data={"label": "hate"})
    assert answer.location == f"/login?next=/review/{clip}"
    assert "Your session has ended" in visitor.get("/login").text


def test_a_closed_account_is_out_at_its_next_request(mira: Visitor, world: World, visitor: Visitor) -> None:
    assert mira.get("/").status_code == 200
    world.sql("UPDATE ra_users SET active = false")
    assert mira.get("/").status_code == 302
    assert visitor.log_in("mira").status_code == 401


def test_a_new_password_ends_other_sessions_and_keeps_this_one(mira: Visitor, app: Flask) -> None:
    elsewhere = Visitor(app)
    elsewhere.log_in("mira")
    new = "another long password"
    answer = mira.post("/account", {"current": PASSWORD, "new": new, "repeat": new})
    assert answer.location == "/"
    assert mira.get("/").status_code == 200
    assert elsewhere.get("/").status_code == 302
    assert elsewhere.log_in("mira", new).status_code == 302


@pytest.mark.parametrize(
    ("current", "new", "repeat", "sentence"),
    [
        ("wrong", "another long password", "another long password", "current password is wrong"),
        (PASSWORD, "another long password", "something else here", "are not the same"),
        (PASSWORD, "short", "short", "12 to 200 characters"),
    ],
)
def test_a_password_change_that_cannot_be_says_why(
    mira: Visitor, current: str, new: str, repeat: str, sentence: str
) -> None:
    answer = mira.post("/account", {"current": current, "new": new, "repeat": repeat})
    assert answer.status_code in {401, 422}
    assert sentence in answer.text
    assert mira.get("/").status_code == 200


def test_five_failures_and_the_door_stays_shut_even_for_the_right_password(world: World, visitor: Visitor) -> None:
    world.add_user("mira")
    for _ in range(throttle.PAIR_LIMIT):
        assert visitor.log_in("mira", "wrong").status_code == 401
    answer = visitor.log_in("mira")
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= throttle.WINDOW.total_seconds()
    assert "Wait 15 minutes" in answer.text


def test_the_limit_is_per_name_and_address(world: World, app: Flask, visitor: Visitor) -> None:
    world.add_user("mira")
    world.add_user("jo")
    for _ in range(throttle.PAIR_LIMIT):
        visitor.log_in("mira", "wrong")
    assert visitor.log_in("jo").status_code == 302
    assert Visitor(app, "192.0.2.99").log_in("mira").status_code == 302


def test_an_address_that_tries_many_names_is_stopped_too(world: World, app: Flask) -> None:
    world.sql(
        "INSERT INTO ra_login_attempts (username, address, outcome) "
        "SELECT 'name-' || n, '192.0.2.7', 'failed' FROM generate_series(1, %s) n",
        throttle.ADDRESS_LIMIT,
    )
    assert Visitor(app, "192.0.2.7").log_in("mira").status_code == 429


def test_the_door_opens_again_when_the_window_has_passed(world: World, visitor: Visitor) -> None:
    world.add_user("mira")
    for _ in range(throttle.PAIR_LIMIT):
        visitor.log_in("mira", "wrong")
    world.sql("UPDATE ra_login_attempts SET attempted_at = attempted_at - interval '16 minutes'")
    assert visitor.log_in("mira").status_code == 302


def test_a_refused_try_writes_no_row(world: World, visitor: Visitor) -> None:
    world.add_user("mira")
    for _ in range(throttle.PAIR_LIMIT):
        visitor.log_in("mira", "wrong")
    for _ in range(3):
        assert visitor.log_in("mira").status_code == 429
    assert world.sql("SELECT count(*) FROM ra_login_attempts") == [(throttle.PAIR_LIMIT,)]


def test_refused_tries_do_not_keep_the_door_shut(world: World, visitor: Visitor) -> None:
    world.add_user("mira")
    for _ in range(throttle.PAIR_LIMIT):
        visitor.log_in("mira", "wrong")
    world.sql("UPDATE ra_login_attempts SET attempted_at = attempted_at - interval '14 minutes'")
    for _ in range(3):
        assert visitor.log_in("mira").status_code == 429
    world.sql("UPDATE ra_login_attempts SET attempted_at = attempted_at - interval '2 minutes'")
    assert visitor.log_in("mira").status_code == 302


def test_success_forgets_the_failures_before_it(world: World, visitor: Visitor) -> None:
    world.add_user("mira")
    for _ in range(throttle.PAIR_LIMIT - 1):
        visitor.log_in("mira", "wrong")
    assert visitor.log_in("mira").status_code == 302
    visitor.post("/logout")
    assert visitor.log_in("mira", "wrong").status_code == 401


def test_many_tries_at_the_same_moment_do_not_slip_through(world: World, app: Flask) -> None:
    world.add_user("mira")

    def attempt(_: int) -> bool:
        with app.app_context():
            try:
                throttle.finish(throttle.begin("mira", Origin("192.0.2.7")), "failed")
            except throttle.TooManyAttemptsError:
                return False
            finally:
                db.session.remove()
            return True

    with ThreadPoolExecutor(8) as pool:
        let_through = sum(pool.map(attempt, range(24)))
    assert let_through <= throttle.PAIR_LIMIT


def test_old_attempts_are_pruned(world: World, visitor: Visitor) -> None:
    world.sql(
        "INSERT INTO ra_login_attempts (username, address, outcome, attempted_at) "
        "VALUES ('x', 'y', 'failed', now() - interval '2 days')"
    )
    visitor.log_in("mira", "wrong")
    assert world.sql("SELECT username FROM ra_login_attempts") == [("mira",)]


def test_what_is_typed_into_the_wrong_box_is_not_written_down(world: World, visitor: Visitor) -> None:
    visitor.log_in("My Secret Passphrase!", "mira")
    assert world.sql("SELECT username FROM ra_login_attempts") == [("(no valid name)",)]


def test_forwarded_addresses_count_only_behind_a_trusted_proxy(
    world: World, app: Flask, ra_env: dict[str, str]
) -> None:
    header = {"X-Forwarded-For": "198.51.100.1"}
    Visitor(app).log_in("mira", "wrong", headers=header)
    behind = create_app(load_settings({**ra_env, "TRUSTED_PROXIES": "1"}))
    Visitor(behind).log_in("mira", "wrong", headers=header)
    with behind.app_context():
        db.engine.dispose()
    rows = world.sql("SELECT address FROM ra_login_attempts ORDER BY attempt_id")
    assert rows == [("192.0.2.7",), ("198.51.100.1",)]


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("path", ["/sso/login", "/sso/callback?state=x", "/sso/join", f"/join/{'A' * 43}/sso"])
def test_there_is_no_single_sign_on_unless_it_is_set_up(visitor: Visitor, path: str) -> None:
    assert visitor.get(path).status_code == 404
    assert "/sso" not in visitor.get("/login").text
