"""The RA app's site in nginx: it limits log-ins and floods of requests per client, and does not limit reviewing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.ra_app.nginx import Answer, Site, in_front_of
from tests.ra_app.serving import GUNICORN, serving
from tests.ra_app.world import PASSWORD, World, hold, tone

TRIES = 60  # more than the burst and what a second or two add
FLOOD = 4000  # at most; far more than the burst


@pytest.fixture(scope="module")
def app_address(app: object, ra_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    assert app is not None  # the migrations have run
    behind = {**ra_env, "FLASK_ENV": "production", "TRUSTED_PROXIES": "1"}
    with serving(GUNICORN, behind, tmp_path_factory.mktemp("gunicorn")) as address:
        yield address


@pytest.fixture
def port(app_address: str, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Run nginx with its own counters in front of an app without users."""
    assert world is not None
    with in_front_of(app_address, tmp_path_factory.mktemp("nginx")) as made:
        yield made


def _try(site: Site, username: str, password: str, **headers: str) -> Answer:
    token = re.search(r'name="csrf_token" value="([^"]+)"', site.ask("GET", "/login").text)
    assert token is not None
    return site.ask("POST", "/login", {"username": username, "password": password, "csrf_token": token[1]}, **headers)


def _hammer(port: int, clients: list[str], path: str = "/login") -> list[Answer]:
    """Send a log-in from each client at the same time, without a CSRF token.

    The limit is a rate, counted when a request arrives: a client that waits for answers may be too slow to exceed it.
    """

    def attempt(client: str) -> Answer:
        with closing(Site(port, client)) as site:
            return site.ask("POST", path, {})

    with ThreadPoolExecutor(len(clients)) as pool:
        return list(pool.map(attempt, clients))


def _codes(answers: list[Answer]) -> set[int]:
    return {answer.status for answer in answers}


@pytest.mark.parametrize("path", ["/login", "/join/" + "A" * 43, pytest.param("/sso/join", marks=pytest.mark.thorough)])
def test_many_tries_to_log_in_are_answered_with_429_and_a_page(port: int, path: str) -> None:
    answers = _hammer(port, ["192.0.2.7"] * TRIES, path)
    refused = [answer for answer in answers if answer.status == 429]
    assert _codes(answers) == {400, 429}  # 400: no token
    assert "<h1>Please wait</h1>" in refused[0].text
    assert refused[0].headers["Retry-After"] == "10"
    assert refused[0].headers["Content-Type"].startswith("text/html")


@pytest.mark.thorough
def test_the_log_in_page_opens_also_for_a_client_that_tries_too_much(port: int) -> None:
    assert 429 in _codes(_hammer(port, ["192.0.2.7"] * TRIES))
    with closing(Site(port)) as site:
        assert site.ask("GET", "/login").status == 200


def test_other_clients_log_in_while_one_is_refused(port: int, world: World) -> None:
    world.add_user("mira")
    assert 429 in _codes(_hammer(port, ["192.0.2.7"] * TRIES))
    with closing(Site(port, "192.0.2.8")) as site:
        assert _try(site, "mira", PASSWORD).status == 302


@pytest.mark.parametrize(
    "form",
    [
        "2001:db8:1:2::{:x}",
        pytest.param("2001:db8:1:2:a:b:c:{:x}", marks=pytest.mark.thorough),
        pytest.param("2001:db8:1:2:0:{:x}::", marks=pytest.mark.thorough),
    ],
)
def test_ipv6_addresses_of_one_64_are_one_client(port: int, form: str) -> None:
    assert 429 in _codes(_hammer(port, [form.format(number) for number in range(1, TRIES + 1)]))


@pytest.mark.thorough
def test_ipv6_networks_are_clients_of_their_own(port: int) -> None:
    assert 429 not in _codes(_hammer(port, [f"2001:db8:1:{number:x}::1" for number in range(1, TRIES + 1)]))


@pytest.mark.thorough
def test_ipv4_addresses_inside_ipv6_are_clients_of_their_own(port: int) -> None:
    assert 429 not in _codes(_hammer(port, [f"::ffff:192.0.2.{number}" for number in range(1, TRIES + 1)]))


def test_a_flood_of_requests_is_answered_with_429(port: int) -> None:
    def ask(_: int) -> set[int]:
        with closing(Site(port)) as site:
            asked = (site.ask("GET", "/nothing-here").status for _ in range(FLOOD // 8))
            return {next((code for code in asked if code == 429), 0)}

    with ThreadPoolExecutor(8) as pool:
        assert 429 in set().union(*pool.map(ask, range(8)))


def test_a_reviewer_who_jumps_about_in_clips_is_not_limited(port: int, world: World) -> None:
    world.add_user("mira")
    clips = [world.add_clip(audio=tone(5)) for _ in range(2)]
    for clip in clips:
        hold(world.app, "mira", clip)
    with closing(Site(port)) as site:
        assert _try(site, "mira", PASSWORD).status == 302
        answers = []
        for clip in clips:
            answers.append(site.ask("GET", f"/review/{clip}").status)
            answers += [site.ask("GET", f"/audio/{clip}", Range=f"bytes={n * 64}-").status for n in range(60)]
    assert set(answers) == {200, 206}


def test_a_client_cannot_choose_its_address_by_a_header(port: int, world: World) -> None:
    world.add_user("mira")
    forged = {"X_Forwarded_For": "198.51.100.1", "X_Real_IP": "198.51.100.2", "Forwarded": "for=198.51.100.3"}
    with closing(Site(port)) as site:
        assert _try(site, "mira", "wrong", **forged).status == 401
    assert world.sql("SELECT address FROM ra_login_attempts") == [("192.0.2.7",)]
