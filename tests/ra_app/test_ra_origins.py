"""Failed log-ins from other places do not lock out users who have logged in before; and what counts as one client."""

from __future__ import annotations

import pytest
from flask import Flask

from app.people import throttle
from app.people.origins import network_of
from tests.ra_app.world import PASSWORD, Visitor, World

HOME, ELSEWHERE = "192.0.2.7", "203.0.113.9"


def attack(world: World, username: str = "mira", failures: int = throttle.USERNAME_LIMIT, per_address: int = 5) -> None:
    """Failed tries with one name, five from each of many addresses."""
    world.sql(
        "INSERT INTO ra_login_attempts (username, address, outcome) "
        "SELECT %s, '198.51.100.' || n / %s, 'failed' FROM generate_series(0, %s - 1) n",
        username,
        per_address,
        failures,
    )


def forget_device(visitor: Visitor) -> None:
    visitor.client.delete_cookie("ra_device")


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        (None, "unknown"),
        ("unix:", "unknown"),
    ],
)
def test_addresses_count_by_ipv4_address_and_ipv6_64(address: str | None, network: str) -> None:
    assert network_of(address) == network


@pytest.mark.thorough
def test_addresses_of_one_64_share_their_failures(world: World, app: Flask) -> None:
    world.add_user("mira")
    for number in range(throttle.PAIR_LIMIT):
        assert Visitor(app, f"2001:db8:1:2::{number + 1:x}").log_in("mira", "wrong").status_code == 401
    assert Visitor(app, "2001:db8:1:2:ffff::1").log_in("mira").status_code == 429
    assert Visitor(app, "2001:db8:1:3::1").log_in("mira").status_code == 302


def test_an_attack_locks_a_name_for_addresses_that_never_logged_in(world: World, app: Flask) -> None:
    world.add_user("mira")
    attack(world)
    answer = Visitor(app, ELSEWHERE).log_in("mira")
    assert answer.status_code == 429
    assert "Some of the failed log-ins came from other places" in answer.text
    assert "ask your lead researcher" in answer.text


def test_an_unknown_name_is_locked_in_the_same_words(world: World, app: Flask) -> None:
    world.add_user("mira")
    attack(world)
    attack(world, "nobody")
    known, unknown = (Visitor(app, ELSEWHERE).log_in(name) for name in ("mira", "nobody"))
    assert (known.status_code, known.text) == (unknown.status_code, unknown.text)


def test_during_an_attack_one_logs_in_from_a_network_one_knows(world: World, mira: Visitor, app: Flask) -> None:
    assert mira.post("/logout").status_code == 302
    attack(world)
    assert Visitor(app, HOME).log_in("mira").status_code == 302


def test_during_an_attack_one_logs_in_with_a_browser_one_used(world: World, mira: Visitor) -> None:
    mira.post("/logout")
    attack(world)
    mira.address = {"REMOTE_ADDR": ELSEWHERE}
    assert mira.log_in("mira").status_code == 302


def test_failures_on_the_same_network_do_not_lock_a_known_browser(mira: Visitor, app: Flask) -> None:
    mira.post("/logout")
    neighbour = Visitor(app, HOME)
    for _ in range(throttle.PAIR_LIMIT):
        neighbour.log_in("mira", "wrong")
    assert neighbour.log_in("mira").status_code == 429
    assert mira.log_in("mira").status_code == 302


def test_a_known_network_has_a_limit_of_its_own(mira: Visitor) -> None:
    mira.post("/logout")
    forget_device(mira)
    for _ in range(throttle.PAIR_LIMIT):
        assert mira.log_in("mira", "wrong").status_code == 401
    assert mira.log_in("mira").status_code == 429


def test_a_known_browser_has_a_limit_of_its_own(mira: Visitor) -> None:
    mira.post("/logout")
    for _ in range(throttle.PAIR_LIMIT):
        assert mira.log_in("mira", "wrong").status_code == 401
    assert mira.log_in("mira").status_code == 429


def test_the_mark_of_a_browser_helps_only_its_own_user(world: World, mira: Visitor) -> None:
    world.add_user("jo")
    mira.post("/logout")
    attack(world, "jo")
    mira.address = {"REMOTE_ADDR": ELSEWHERE}
    assert mira.log_in("jo").status_code == 429


def test_a_forged_mark_helps_nobody(world: World, app: Flask) -> None:
    world.add_user("mira")
    attack(world)
    visitor = Visitor(app, ELSEWHERE)
    visitor.client.set_cookie("ra_device", "WyJtaXJhIiwieCJd.awvcKA.nAgZGHMNtOzWDkgmVxLfOGQvgPE")
    assert visitor.log_in("mira").status_code == 429


def test_a_network_long_unused_is_forgotten(world: World, mira: Visitor, app: Flask) -> None:
    mira.post("/logout")
    world.sql("UPDATE ra_known_networks SET seen_at = now() - interval '181 days'")
    attack(world)
    assert Visitor(app, HOME).log_in("mira").status_code == 429


def test_only_the_newest_networks_of_a_user_are_kept(world: World, app: Flask) -> None:
    world.add_user("mira")
    world.sql(
        "INSERT INTO ra_known_networks (user_id, network, seen_at) "
        "SELECT user_id, '198.51.100.' || n, now() - n * interval '1 hour' FROM ra_users, generate_series(1, 40) n"
    )
    assert Visitor(app, HOME).log_in("mira").status_code == 302
    networks = [row[0] for row in world.sql("SELECT network FROM ra_known_networks ORDER BY seen_at DESC")]
    assert networks == [HOME, *(f"198.51.100.{n}" for n in range(1, throttle.NETWORKS_KEPT))]


def test_failures_of_everybody_together_are_bounded(world: World, mira: Visitor, app: Flask) -> None:
    mira.post("/logout")
    world.sql(
        "INSERT INTO ra_login_attempts (username, address, outcome) "
        "SELECT 'name-' || n, '2001:db8:' || n || '::/64', 'failed' FROM generate_series(1, %s) n",
        throttle.TOTAL_LIMIT,
    )
    assert Visitor(app, ELSEWHERE).log_in("jo").status_code == 429
    assert world.sql("SELECT count(*) FROM ra_login_attempts WHERE username = 'jo'") == [(0,)]
    assert mira.log_in("mira").status_code == 302


def test_unlocking_lets_somebody_in_while_the_attack_goes_on(world: World, app: Flask) -> None:
    world.add_user("mira")
    attack(world)
    result = app.test_cli_runner().invoke(args=["users", "unlock", "mira"])
    assert result.output == "mira can log in during the next 30 minutes.\n"
    attack(world)
    assert Visitor(app, ELSEWHERE).log_in("mira").status_code == 302


def test_what_is_unlocked_locks_again_after_its_time(world: World, app: Flask) -> None:
    world.add_user("mira")
    app.test_cli_runner().invoke(args=["users", "unlock", "mira", "--minutes", "5"])
    world.sql("UPDATE ra_users SET unlocked_until = unlocked_until - interval '5 minutes'")
    attack(world)
    assert Visitor(app, ELSEWHERE).log_in("mira").status_code == 429


def test_unlocking_forgives_the_failures_from_ones_own_address(world: World, visitor: Visitor, app: Flask) -> None:
    world.add_user("mira")
    for _ in range(throttle.PAIR_LIMIT):
        visitor.log_in("mira", "wrong")
    app.test_cli_runner().invoke(args=["users", "unlock", "mira"])
    assert visitor.log_in("mira", PASSWORD).status_code == 302
