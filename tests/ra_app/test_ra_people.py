"""The people page: leads manage research assistants, administrators everybody, and nobody themselves."""

from __future__ import annotations

import re

import pytest
from flask import Flask

from tests.ra_app.world import PASSWORD, Visitor, World, at_once

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def lea(world: World, app: Flask) -> Visitor:
    return _visitor(app, world, "lea", "lead")


@pytest.fixture
def ada(world: World, app: Flask) -> Visitor:
    return _visitor(app, world, "ada", "admin")


def _visitor(app: Flask, world: World, name: str, role: str) -> Visitor:
    world.add_user(name, role=role)
    browser = Visitor(app)
    assert browser.log_in(name).status_code == 302
    return browser


def _id(world: World, name: str) -> int:
    number: int = world.sql("SELECT user_id FROM ra_users WHERE username = %s", name)[0][0]
    return number


def _changes(world: World) -> list[tuple[object, ...]]:
    """Who did what to whom, without how the accounts of the test came to be."""
    return world.sql(
        "SELECT b.username, event, u.username FROM ra_account_changes c LEFT JOIN ra_users b ON b.user_id = by_user_id "
        "LEFT JOIN ra_users u ON u.user_id = c.user_id WHERE event <> 'created' ORDER BY change_id"
    )


def test_the_page_lists_everybody_by_name_with_their_progress(lea: Visitor, world: World, mira: Visitor) -> None:
    world.study(shares_exposure=True)
    world.add_user("zoe", role="admin")
    clip, other, third = world.add_clip(), world.add_clip(), world.add_clip()
    mira.label(clip, "hate")
    mira.hold(other).post(f"/review/{other}/skip", mira.form(other))
    mira.hold(third).post(f"/review/{third}/heartbeat", {**mira.form(third), "heard": "[[0, 130]]"})
    page = lea.get("/people").text
    names = re.findall(r'<th scope="row"><a [^>]*>([^<]*)</a>', page)
    assert names == ["lea", "mira", "zoe"]
    row = page.split(">mira</a>")[1].split("</tr>")[0]
    assert re.findall(r'class="number">([^<]*)<', row) == ["1", "1", "1", "2"]
    assert "Research assistant" in row
    assert re.search(r"20\d\d-\d\d-\d\d \d\d:\d\d UTC", row)
    assert "Never" in page.split(">zoe</a>")[1]
    assert world.sql("SELECT pseudonym FROM ra_users WHERE username = 'mira'")[0][0] not in page
    world.study(shares_exposure=False)
    assert '<td class="number">–</td>' in lea.get("/people").text.split(">mira</a>")[1].split("</tr>")[0]
    assert "Minutes heard today</dt><dd>–</dd>" in lea.get(f"/people/{_id(world, 'mira')}").text


def test_many_accounts_are_paged(lea: Visitor, world: World) -> None:
    world.sql(
        "INSERT INTO ra_users (username, pseudonym, password_hash) "
        "SELECT 'p' || lpad(n::text, 3, '0'), 'RA-P' || n, 'x' FROM generate_series(1, 60) n"
    )
    assert lea.get("/people").text.count('<th scope="row">') == 50
    assert lea.get("/people?page=2").text.count('<th scope="row">') == 11
    assert lea.get("/people?page=0").status_code == 404


def test_a_lead_closes_and_opens_the_account_of_an_assistant(
    lea: Visitor, world: World, mira: Visitor, visitor: Visitor
) -> None:
    number = _id(world, "mira")
    assert mira.get("/").status_code == 200
    assert lea.post(f"/people/{number}/close").location == f"/people/{number}"
    assert mira.get("/").location.startswith("/login")
    assert visitor.log_in("mira").status_code == 401
    assert '<span class="badge">Closed</span>' in lea.get("/people").text
    lea.post(f"/people/{number}/close")  # the page was open twice
    lea.post(f"/people/{number}/open")
    assert mira.get("/").location.startswith("/login"), "old sessions stay ended"
    assert visitor.log_in("mira").status_code == 302
    assert _changes(world) == [("lea", "closed", "mira"), ("lea", "opened", "mira")]
    page = lea.get(f"/people/{number}").text
    assert page.index("account opened again") < page.index("account closed") < page.index("a command on the server")


@pytest.mark.parametrize("act", ["close", "open", "reset"])
@pytest.mark.parametrize("role", ["lead", "admin"])
def test_a_lead_can_do_nothing_to_leads_and_administrators(lea: Visitor, world: World, act: str, role: str) -> None:
    number = world.add_user("zoe", role=role)
    assert "<button type=" not in lea.get(f"/people/{number}").text.split("<main")[1]
    assert lea.post(f"/people/{number}/{act}").status_code == 403
    assert lea.post(f"/people/{number}/role", {"role": "ra"}).status_code == 403
    assert world.sql("SELECT role, active, session_epoch FROM ra_users WHERE username = 'zoe'") == [(role, True, 0)]
    assert _changes(world) == []


@pytest.mark.parametrize("role", ["lead", "admin", "boss", ""])
def test_a_lead_cannot_make_more_of_anybody(lea: Visitor, world: World, mira: Visitor, role: str) -> None:
    assert lea.post("/people/invite", {"role": role}).status_code in {403, 422}
    assert lea.post(f"/people/{_id(world, 'mira')}/role", {"role": role}).status_code == 403
    assert world.sql("SELECT count(*) FROM ra_links") == [(0,)]
    assert mira.get("/people").status_code == 403


def test_an_administrator_changes_roles_and_they_count_at_once(ada: Visitor, world: World, mira: Visitor) -> None:
    number = _id(world, "mira")
    assert mira.get("/people").status_code == 403
    ada.post(f"/people/{number}/role", {"role": "lead"})
    assert mira.get("/people").status_code == 200
    ada.post(f"/people/{number}/role", {"role": "ra"})
    assert mira.get("/people").status_code == 403
    assert mira.get("/").status_code == 200
    ada.post(f"/people/{number}/role", {"role": "ra"})
    assert ada.post(f"/people/{number}/role", {"role": "boss"}).status_code == 422
    assert _changes(world) == [("ada", "role", "mira")] * 2
    assert "role changed from ra to lead" in ada.get(f"/people/{number}").text


@pytest.mark.parametrize("act", ["close", "open", "reset", "role"])
def test_nobody_can_do_anything_to_their_own_account(ada: Visitor, world: World, act: str) -> None:
    answer = ada.post(f"/people/{_id(world, 'ada')}/{act}", {"role": "ra"})
    assert answer.status_code == 409
    assert "You cannot do this to your own account" in answer.text
    assert ada.get("/people").status_code == 200
    assert _changes(world) == []


@pytest.mark.parametrize("act", ["close", "role"])
def test_of_two_administrators_who_end_each_other_one_stays(ada: Visitor, app: Flask, world: World, act: str) -> None:
    for turn in range(5):
        world.sql("UPDATE ra_users SET role = 'admin', active = username = 'ada'")
        other = _visitor(app, world, f"zoe{turn}", "admin")
        ada.log_in("ada")
        codes = at_once(
            (ada, f"/people/{_id(world, f'zoe{turn}')}/{act}", {"role": "ra"}),
            (other, f"/people/{_id(world, 'ada')}/{act}", {"role": "ra"}),
        )
        assert 302 in codes
        assert world.sql("SELECT count(*) FROM ra_users WHERE role = 'admin' AND active") == [(1,)], codes


def test_there_is_no_account_with_an_invented_number(ada: Visitor) -> None:
    for path in ("/people/999", "/people/9223372036854775807"):
        assert ada.get(path).status_code == 404
        assert ada.post(f"{path}/close").status_code == 404
    assert ada.get("/people/99999999999999999999").status_code == 404


def test_hostile_names_are_only_ever_text(ada: Visitor, world: World) -> None:
    """Such a name cannot be chosen, but the database may hold one."""
    world.sql("INSERT INTO ra_users (username, pseudonym, password_hash) VALUES (%s, 'RA-X', 'x')", HOSTILE)
    answer = ada.post("/people/invite", {"role": "ra", "username": HOSTILE})
    assert answer.status_code == 422
    number = _id(world, HOSTILE)
    pages = [answer, ada.get("/people"), ada.get(f"/people/{number}"), ada.post(f"/people/{number}/reset")]
    pages.append(ada.get("/people"))
    for page in pages:
        assert HOSTILE not in page.text
        assert "&lt;script&gt;" in page.text


def test_commands_and_own_changes_are_in_the_record_too(app: Flask, world: World, mira: Visitor) -> None:
    runner = app.test_cli_runner()
    for command in ("deactivate mira", "activate mira", "end-sessions mira", "unlock mira"):
        assert runner.invoke(args=["users", *command.split()]).exit_code == 0
    mira.log_in("mira")
    mira.post("/account", {"current": PASSWORD, "new": "another long one", "repeat": "another long one"})
    events = ["closed", "opened", "sessions-ended", "unlocked"]
    assert _changes(world) == [(None, event, "mira") for event in events] + [("mira", "password", "mira")]


def test_a_form_sent_after_the_session_leads_back_to_the_people_page(world: World, visitor: Visitor) -> None:
    number = world.add_user("mira")
    assert visitor.client.post(f"/people/{number}/close").location == "/login?next=/people"
