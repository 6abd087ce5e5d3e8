"""How the app protects people from the clips: what is in force, own choices, limits of a day, and the record."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import fields
from datetime import datetime
from typing import Any

import psycopg2.errors
import pytest
import sqlalchemy as sa
from flask import Flask

from app.models import DEFAULT_STUDY, Study, db
from app.wellbeing import wellness
from app.wellbeing.wellness import Wellness
from app.wellbeing.wellness_values import OF_STUDY
from tests.ra_app.world import Visitor, World, at_once

EMPTY = dict.fromkeys(("veil", "fade_in_ms", "quieter_db", "break_after_minutes", "soft_minutes", "hard_minutes"), "")


def _set(world: World, **values: Any) -> None:
    """Write into the settings of the default study, as nobody should: without any check."""
    world.study(settings=json.dumps({"wellness": values}))


def _in_force(app: Flask, user_id: int) -> Wellness:
    with app.app_context():
        return wellness.of(db.session.scalars(sa.select(Study).where(Study.name == DEFAULT_STUDY)).one(), user_id)


def _hear(world: World, minutes: float, *, ago: str = "0", name: str = "mira") -> None:
    world.sql(
        "INSERT INTO ra_exposures (user_id, audio_id, heard_ms, intervals, at, assignment_id) "
        "SELECT user_id, 1, %s, '[]', now() - %s::interval, "
        "(SELECT min(assignment_id) FROM ra_assignments a WHERE a.user_id = u.user_id) "
        "FROM ra_users u WHERE username = %s",
        round(minutes * 60_000),
        ago,
        name,
    )


def _events(world: World) -> list[tuple[Any, ...]]:
    return world.sql("SELECT event, audio_id, study_id IS NOT NULL FROM ra_wellbeing ORDER BY entry_id")


def _command(app: Flask, *args: str) -> tuple[int, str]:
    result = app.test_cli_runner().invoke(args=["studies", *args])
    return result.exit_code, result.output


def test_a_study_sets_values_and_a_person_makes_them_gentler_only(app: Flask, world: World) -> None:
    user = world.add_user("mira")
    assert _in_force(app, user) == Wellness()
    _set(world, peak_cap_db=-20, veil=False, soft_minutes=60, hard_minutes=120, break_after_minutes=None)
    own = {"veil": True, "fade_in_ms": 0, "quieter_db": 6, "soft_minutes": 80, "hard_minutes": 90}
    world.sql("INSERT INTO ra_preferences (user_id, content) VALUES (%s, %s)", user, json.dumps(own))
    found = _in_force(app, user)
    assert (found.peak_cap_db, found.loudness_lufs) == (-26, -29)
    assert (found.veil, found.fade_in_ms) == (True, 0)
    assert (found.soft_minutes, found.hard_minutes, found.break_after_minutes) == (60, 90, None)
    world.sql('UPDATE ra_preferences SET content = \'{"break_after_minutes": 30, "quieter_db": -9}\'')
    found = _in_force(app, user)
    assert (found.peak_cap_db, found.break_after_minutes) == (-20, 30)


def test_the_limits_of_a_day_are_the_strictest_of_all_open_studies(app: Flask, world: World) -> None:
    user = world.add_user("mira")
    _set(world, soft_minutes=None, support="Ask Ines.")
    for name, state, minutes in (("second", "open", 40), ("third", "paused", 10)):
        settings = json.dumps({"wellness": {"hard_minutes": minutes, "peak_cap_db": -30, "support": "Ask Jo."}})
        world.sql("INSERT INTO ra_studies (name, state, settings) VALUES (%s, %s, %s)", name, state, settings)
    with app.app_context():
        found = wellness.of_studies(user)
    assert (found.soft_minutes, found.hard_minutes, found.peak_cap_db) == (90, 40, -30)
    assert found.support == "Ask Ines."


@pytest.mark.parametrize(
    "settings",
    [
        {"wellness": {"peak_cap_db": "loud", "veil": 1, "soft_minutes": True, "support": "", "no_such": 1}},
        {"wellness": {"hard_minutes": 0, "support_url": "javascript:alert(1)", "fade_in_ms": 0.5}},
        {"wellness": [1]},
        {"wellness": None},
        "text",
    ],
)
def test_a_wrong_value_counts_as_the_default_and_is_logged_once(
    mira: Visitor, app: Flask, world: World, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    world.study(settings=json.dumps(settings))
    with caplog.at_level(logging.WARNING):
        assert _in_force(app, 1) == Wellness()
        first = [record for record in caplog.records if DEFAULT_STUDY in record.getMessage()]
        for page in ("/", "/me"):
            assert mira.get(page).status_code == 200
    every = [record for record in caplog.records if DEFAULT_STUDY in record.getMessage()]
    assert len(first) == len(every) >= 1
    assert "wellness" in first[0].getMessage()


def test_own_choices_are_stored_shown_and_recorded(mira: Visitor, app: Flask, world: World) -> None:
    form = {**EMPTY, "veil": "false", "fade_in_ms": "1000", "quieter_db": "6", "break_after_minutes": " 30 "}
    answer = mira.post("/me/choices", form)
    assert answer.location == "/me"
    found = _in_force(app, 1)
    assert (found.veil, found.fade_in_ms, found.peak_cap_db, found.break_after_minutes) == (False, 1000, -18, 30)
    page = mira.get("/me").text
    assert re.findall(r'<option value="([^"]+)" selected>', page) == ["false", "1000", "6"]
    assert re.search(r'name="break_after_minutes"[^>]* value="30"', " ".join(page.split()))
    mira.post("/me/choices", form)  # changes nothing, and is no second change
    mira.post("/me/choices", {**form, "veil": ""})
    assert _in_force(app, 1).veil
    details = [row[0] for row in world.sql("SELECT details FROM ra_wellbeing ORDER BY entry_id")]
    assert details[0]["break_after_minutes"] == {"before": None, "after": 30}
    assert details[1:] == [{"veil": {"before": False, "after": None}}]
    with pytest.raises(psycopg2.errors.RestrictViolation):
        world.sql("DELETE FROM ra_wellbeing")


def test_a_wrong_choice_is_explained_and_nothing_is_stored(mira: Visitor, world: World) -> None:
    wrong = {
        "break_after_minutes": "60",
        "soft_minutes": "<b>",
        "hard_minutes": "0",
        "quieter_db": "-6",
        "veil": "maybe",
    }
    answer = mira.post("/me/choices", {**wrong, "fade_in_ms": "0"})
    assert answer.status_code == 422
    assert "The study proposes a break after 45 minutes. Choose 45 or less, or leave it empty." in answer.text
    assert "“0” is not possible. It must be a whole number of minutes from 1 to 1440, or empty." in answer.text
    assert "“&lt;b&gt;” is not possible" in answer.text
    assert answer.text.count("aria-invalid=true") == 5
    assert 'value="60"' in answer.text, "what was typed is kept"
    assert world.sql("SELECT * FROM ra_preferences") == []
    assert _events(world) == []


def test_a_choice_that_the_study_has_overtaken_does_not_block_the_form(mira: Visitor, world: World) -> None:
    mira.post("/me/choices", {**EMPTY, "soft_minutes": "80"})
    _set(world, soft_minutes=60)
    page = mira.get("/me").text
    assert 'value="80"' not in page
    assert "The study tells you after 60 minutes." in page


def test_the_personal_page_has_limits_and_support(mira: Visitor, world: World) -> None:
    _set(world, hard_minutes=120, support="Ask <Ines>.", support_url="https://care.example.org/")
    _hear(world, 34)
    page = mira.get("/me").text
    assert "Minutes heard today: <strong>34</strong>. At 90 minutes" in page
    assert "At 120 minutes you get no new clip until the next day." in page
    assert re.search(r"The next day begins at midnight UTC, in (about \d+ hours?|less than an hour)\.", page)
    assert "Ask &lt;Ines&gt;." in page
    assert '<a href="https://care.example.org/" rel="noreferrer">' in page


def test_after_the_hard_limit_nobody_gets_a_new_clip(mira: Visitor, world: World) -> None:
    held, _other = world.add_clip(), world.add_clip()
    world.add_user("jo")
    assert mira.claim() == held
    _set(world, soft_minutes=20, hard_minutes=30)
    _hear(world, 500, ago="1 day")
    _hear(world, 500, name="jo")
    _hear(world, 30)
    assert "You have heard 30 minutes today." in mira.get("/").text
    assert _events(world) == [], "looking changes nothing"
    assert mira.claim() == held, "what one holds may be finished"
    assert mira.label(held, "hate").location == "/", "it is stored, and there is no next clip"
    page = mira.get("/").text
    assert "30 minutes are the limit for a day, so you get no new clip now." in re.sub(r"\s+", " ", page)
    assert "at midnight UTC" in page
    assert 'action="/next"' not in page
    assert mira.claim() is None
    assert _events(world) == [("hard-budget", None, False)], "once a day"
    assert world.sql("SELECT count(*) FROM ra_assignments WHERE state = 'submitted'") == [(1,)]
    _set(world, hard_minutes=None)
    assert mira.claim() is not None


def test_the_soft_limit_is_said_and_stops_nobody(mira: Visitor, world: World) -> None:
    clips = [world.add_clip(), world.add_clip()]
    mira.post("/me/choices", {**EMPTY, "soft_minutes": "10"})
    _hear(world, 9.9)
    assert 'class="enough"' not in mira.get("/").text
    _hear(world, 0.1)
    assert "From 10 minutes on, the app says that it is enough for a day." in mira.get("/").text
    assert mira.claim() == clips[0]
    mira.label(clips[0], "hate")
    assert [row[0] for row in _events(world)] == ["preferences", "soft-budget"]
    assert world.sql("SELECT details->'heard_ms' FROM ra_wellbeing WHERE event = 'soft-budget'") == [(600_000,)]


def test_two_requests_at_once_record_a_limit_once(mira: Visitor, world: World) -> None:
    _set(world, soft_minutes=None, hard_minutes=1)
    _hear(world, 1)
    assert at_once(*[(mira, "/next", {})] * 4) == [302] * 4
    assert _events(world) == [("hard-budget", None, False)]


def test_the_end_of_the_day_is_said_in_words() -> None:
    for clock, said in (("00:00", "about 24 hours"), ("22:40", "about 1 hour"), ("23:40", "less than an hour")):
        now = datetime.fromisoformat(f"2026-11-29T{clock}:00+00:00")
        assert wellness.day_ends(now) == f"at midnight UTC, in {said}"


def test_the_page_reports_what_became_of_a_break(mira: Visitor, visitor: Visitor, world: World) -> None:
    for event in ("break-proposed", "break-dismissed", "break-taken"):
        assert mira.post("/wellbeing", {"event": event}).status_code == 204
    assert [event for event, *_ in _events(world)] == ["break-proposed", "break-dismissed", "break-taken"]
    answers = [mira.post("/wellbeing", {"event": event}) for event in ("hard-budget", "hidden", "")]
    assert [answer.status_code for answer in answers] == [422] * 3
    assert answers[0].text.startswith("The event must be one of break-proposed, ")
    without_token = mira.client.post("/wellbeing", data={"event": "break-taken"}, environ_base=mira.address)
    assert without_token.status_code == 400
    assert visitor.post("/wellbeing", {"event": "break-taken"}).status_code == 401
    assert len(_events(world)) == 3


def test_only_a_break_that_is_proposed_does_not_lengthen_the_session(mira: Visitor) -> None:
    assert "Set-Cookie" not in mira.post("/wellbeing", {"event": "break-proposed"}).headers
    assert "ra_session" in mira.post("/wellbeing", {"event": "break-taken"}).headers.get("Set-Cookie", "")


def test_a_lead_sees_minutes_of_today_and_of_seven_days(app: Flask, world: World, mira: Visitor) -> None:
    world.study(shares_exposure=True)
    mira.hold(world.add_clip())
    for minutes, ago in ((3, "0"), (5, "6 days"), (7, "8 days")):
        _hear(world, minutes, ago=ago)
    world.add_user("lea", role="lead")
    lea = Visitor(app)
    lea.log_in("lea")
    page = lea.get("/people/1").text
    assert mira.get("/people/1").status_code == 403
    for name, minutes in (("Minutes heard today", 3), ("In the last 7 days", 8), ("Minutes heard in all", 15)):
        assert f"<dt>{name}</dt><dd>{minutes}</dd>" in page


def test_the_command_shows_and_sets_values_of_a_study(app: Flask, world: World) -> None:
    world.study(settings=json.dumps({"other": 1, "wellness": {"veil": "x"}}))
    changes = ("wellness.peak_cap_db=-20", "wellness.hard_minutes=120", "wellness.soft_minutes=none")
    code, said = _command(app, "set", DEFAULT_STUDY, *changes, "wellness.support=Ask Ines.")
    assert code == 0, said
    assert "wellness.peak_cap_db: -12 -> -20\n" in said
    assert "wellness.hard_minutes: none -> 120\n" in said
    assert world.sql("SELECT settings FROM ra_studies WHERE name = %s", DEFAULT_STUDY) == [
        (
            {
                "other": 1,
                "wellness": {"peak_cap_db": -20, "hard_minutes": 120, "soft_minutes": None, "support": "Ask Ines."},
            },
        )
    ]
    _, listed = _command(app, "list")
    assert f"{DEFAULT_STUDY} (open)\n  wellness.peak_cap_db=-20\n" in listed
    assert "  wellness.soft_minutes=none\n" in listed
    assert "  wellness.veil=true  (default)\n" in listed
    assert (
        _command(app, "set", DEFAULT_STUDY, "wellness.peak_cap_db=default")[1] == "wellness.peak_cap_db: -20 -> -12\n"
    )
    assert "Nothing is changed" in _command(app, "set", DEFAULT_STUDY, "wellness.veil=true")[1]


REFUSED = {
    "wellness.peak_cap_db=1": "wellness.peak_cap_db is “1”, but it must be a number of dBFS from -60 to 0.",
    "wellness.fade_in_ms=fast": "it must be a whole number of milliseconds from 0 to 5000.",
    "wellness.veil=no": "it must be true or false.",
    "wellness.support=": "it must be a text of 1 to 500 characters in one line.",
    "wellness.support_url=javascript:alert(1)": "https://, http:// or mailto:, or none.",
    "wellness.loudness_lufs=nan": "it must be a number of LUFS from -60 to -10.",
    "wellness.hard_minutes=60": "wellness.soft_minutes=45 wellness.hard_minutes=60",
    "veil=true": "keys are wellness.peak_cap_db, ",
    "wellness.volume=1": "keys are wellness.peak_cap_db, ",
    "wellness.veil": "Write KEY=VALUE",
}


def test_the_command_refuses_what_is_not_allowed(app: Flask, world: World) -> None:
    for change, said in REFUSED.items():
        code, output = _command(app, "set", DEFAULT_STUDY, "wellness.fade_in_ms=200", change)
        assert code == 1, change
        assert output.startswith(f"Error: Study “{DEFAULT_STUDY}”: "), change
        assert said in output, change
        assert output.endswith(" Nothing is changed.\n"), change
    assert world.sql("SELECT settings FROM ra_studies") == [({},)]


def test_the_command_names_a_study_that_is_not_there(app: Flask, world: World) -> None:
    assert world.sql("SELECT 1") == [(1,)]
    code, said = _command(app, "set", "No such", "wellness.veil=true")
    assert (code, said) == (1, "Error: There is no study named “No such”. `flask studies list` shows all studies.\n")


def test_every_value_has_a_rule_that_its_default_keeps() -> None:
    assert [each.name for each in fields(Wellness)] == list(OF_STUDY)
    for key, rule in OF_STUDY.items():
        assert rule.accepts(getattr(Wellness(), key)), key
