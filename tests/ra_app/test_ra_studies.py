"""Leads make, change, extend, open, pause and close studies; a sample has a known probability for each clip."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.ra_app.world import POLICY, Visitor, World, field

HOSTILE = "<script>alert(1)</script>"
FORM = {
    "act": "make", "name": "Round one", "kind": "study", "mode": "blind", "coders": "3", "share": "100", "lease": "15",
    "codebook": "spoken-clips 3", "everybody": "yes", "which": "sample", "flagged": "all", "bounds": "0.05 0.2",
    "rest": "6", "not_judged": "0", "seed": "11",
}  # fmt: skip


@pytest.fixture
def lea(world: World, app: Flask) -> Visitor:
    world.add_user("lea", role="lead")
    browser = Visitor(app)
    browser.log_in("lea")
    return browser


@pytest.fixture
def frame(world: World) -> dict[str, list[int]]:
    """5 flagged clips, 4 + 6 + 10 others by score, one that was not judged, one failed, one without speech."""
    world.sql(
        "INSERT INTO policies (policy, version, sha256, title, text) VALUES (%s, '1.0.0', 'abc', 'Zeta', 'No.') "
        "ON CONFLICT DO NOTHING", POLICY,
    )  # fmt: skip
    clips = {
        "flagged": [world.add_clip(score=0.9) for _ in range(5)],
        "high": [world.add_clip(violates=False, score=0.3) for _ in range(4)],
        "middle": [world.add_clip(violates=False, score=0.1) for _ in range(6)],
        "low": [world.add_clip(violates=False, score=0.01) for _ in range(10)],
    }
    left = [world.add_clip(violates=False) for _ in range(3)]
    world.sql("UPDATE transcripts SET not_judged = 'language', language = 'ka' WHERE audio_id = %s", left[0])
    world.sql("UPDATE audio_files SET status = 'failed' WHERE audio_id = %s", left[1])
    world.sql("UPDATE audio_files SET status = 'no_speech' WHERE audio_id = %s", left[2])
    world.study(state="paused")
    return clips


def make(lea: Visitor, **fields: Any) -> TestResponse:
    return lea.post("/studies/new", {**FORM, **fields})


def items(world: World, name: str = "Round one") -> list[tuple[Any, ...]]:
    return world.sql(
        "SELECT stratum, audio_id, inclusion_probability, position FROM ra_items JOIN ra_studies USING (study_id) "
        "WHERE name = %s ORDER BY position", name,
    )  # fmt: skip


def of(rows: list[tuple[Any, ...]], stratum: str) -> set[int]:
    return {row[1] for row in rows if row[0] == stratum}


def number(world: World, name: str = "Round one") -> int:
    return int(world.sql("SELECT study_id FROM ra_studies WHERE name = %s", name)[0][0])


@pytest.mark.usefixtures("frame")
def test_the_weights_of_a_sample_sum_to_its_frame(lea: Visitor, world: World) -> None:
    assert make(lea, rest="2 2 3", not_judged="1").status_code == 302
    rows = items(world)
    assert sum(1 / row[2] for row in rows) == pytest.approx(5 + 4 + 6 + 10 + 1)
    found = {(row[0], round(row[2], 4)) for row in rows}
    assert found == {
        ("flagged", 1.0), ("score 0.2 and more", 0.5), ("score 0.05 to 0.2", 0.3333), ("score below 0.05", 0.3),
        ("not judged", 1.0),
    }  # fmt: skip
    places = [n for n, row in enumerate(rows) if row[0] == "flagged"]
    assert places != list(range(min(places), min(places) + 5)), "flagged clips lie among the others"
    kept = world.sql("SELECT state, seed, design->'outside', design->'frame'->'bounds' FROM ra_studies "
                     "WHERE name = 'Round one'")  # fmt: skip
    assert kept == [("paused", 11, {"failed": 1, "without speech": 1}, [0.05, 0.2])]
    assert world.sql("SELECT count(*), max(coder_number) FROM ra_assignments") == [(13 * 3, 3)]


@pytest.mark.usefixtures("frame")
def test_an_extended_sample_holds_the_one_before_and_has_the_new_probability(lea: Visitor, world: World) -> None:
    make(lea, rest="1 2 3")
    before = items(world)
    make(lea, name="At once", rest="1 2 7")
    path = f"/studies/{number(world)}"
    world.add_clip(violates=False, score=0.01)  # processed later: not in the frame
    world.sql("UPDATE audio_files SET processed_at = now() + interval '1 s' WHERE audio_id = (SELECT max(audio_id) "
              "FROM audio_files)")  # fmt: skip
    form = {"more.0": "4", "drawn": field(lea.get(f"{path}/extend"), "drawn")}
    assert lea.post(f"{path}/extend", form).location == path
    assert "The study was extended since" in lea.post(f"{path}/extend", form).text, "the same form again draws nothing"
    after = items(world)
    low = "score below 0.05"
    assert of(before, low) < of(after, low) == of(items(world, "At once"), low)
    assert {row[2] for row in after if row[0] == low} == {0.7}
    assert sum(1 / row[2] for row in after) == pytest.approx(25)
    assert {row[1]: row[3] for row in before}.items() <= {row[1]: row[3] for row in after}.items()
    page = lea.get(path).text
    assert "lea extended the study: 4 clips." in page
    assert "0.7" in page


def test_the_draws_can_be_computed_again_from_the_seed(lea: Visitor, world: World, frame: dict[str, list[int]]) -> None:
    make(lea, rest="0 0 4", share="50")

    def place(word: str, clip: int) -> int:
        return int(hashlib.md5(f"{word}:11:{clip}".encode()).hexdigest()[:15], 16)  # noqa: S324 - no secret

    rows = items(world)
    assert of(rows, "score below 0.05") == set(sorted(frame["low"], key=lambda clip: place("drawn", clip))[:4])
    assert [row[3] for row in rows] == [place("placed", row[1]) for row in rows]
    single = {row[1] for row in rows if place("doubled", row[1]) >= 0.5 * 2**60}
    assert 0 < len(single) < len(rows)
    coders = world.sql("SELECT audio_id, count(*) FROM ra_assignments GROUP BY 1 ORDER BY 1")
    assert dict(coders) == {row[1]: 1 if row[1] in single else 3 for row in rows}


def test_a_sample_is_not_extended_when_clips_have_changed_their_stratum(
    lea: Visitor, world: World, frame: dict[str, list[int]]
) -> None:
    make(lea)
    world.unflag(frame["low"][0], violates=True)
    path = f"/studies/{number(world)}/extend"
    answer = lea.post(path, {"more.0": "1", "drawn": field(lea.get(path), "drawn")})
    assert answer.status_code == 422
    assert "these strata since the sample was drawn: flagged, score below 0.05." in answer.text
    assert "Make a new study" in answer.text


def test_shares_of_the_clips_become_bounds_and_the_count_says_what_comes(lea: Visitor, world: World) -> None:
    for score in range(10):
        world.add_clip(violates=False, score=score / 10)
    answer = make(lea, act="count", name="", bounds="50% 90%", rest="4", flagged="0", coders="2", share="50")
    assert answer.status_code == 200
    rows = re.findall(
        r'<th scope="row">([^<]+)</th><td class="number">(\d+)</td>\s*<td class="number">(\d+)', answer.text
    )
    assert rows == [("Flagged", "0", "0"), ("Score 0.8 and more", "2", "2"), ("Score 0.4 to 0.8", "4", "1"),
                    ("Score below 0.4", "4", "1"), ("Not judged", "0", "0")]  # fmt: skip
    assert "<strong>4</strong> clips and about <strong>6</strong> slots" in answer.text
    world.add_clip()
    text = " ".join(make(lea, act="count", which="flagged", coders="2").text.split())
    assert "<strong>1</strong> clips are flagged now, which would be about <strong>2</strong> slots" in text
    assert world.sql("SELECT count(*) FROM ra_studies") == [(1,)]


def test_a_list_from_the_search_fills_the_form_and_becomes_a_study(lea: Visitor, world: World) -> None:
    clips = [world.add_clip() for _ in range(4)]
    page = lea.post("/studies/new", {"clips": " ".join(map(str, clips))}).text
    assert re.search(r'value="list" checked', page)
    assert f">\n{' '.join(map(str, clips))}</textarea>" in page
    make(lea, which="list", clips=f"{clips[0]} {clips[1]}\r\n{clips[1]}, {clips[2]}", share="0")
    rows = items(world)
    assert of(rows, "listed") == set(clips[:3])
    assert {row[2] for row in rows} == {1.0}
    assert world.sql("SELECT count(*) FROM ra_assignments") == [(3,)], "no clip gets more than one coder"
    path = f"/studies/{number(world)}"
    lea.post(f"{path}/extend", {"clips": f"{clips[0]} {clips[3]}"})
    assert of(items(world), "listed") == set(clips)
    assert "has them already" in lea.post(f"{path}/extend", {"clips": str(clips[0])}).text
    answer = make(lea, name="Other", which="list", clips=f"{clips[0]} 4711 8x8")
    assert "8x8: not the number of a clip." in answer.text
    answer = make(lea, name="Other", which="list", clips=f"{clips[0]} 4711")
    assert answer.status_code == 422
    assert "4711: there is no such clip with audio. Take the numbers out" in answer.text


def test_ten_thousand_clips_fit_into_the_form(lea: Visitor) -> None:
    answer = make(lea, which="list", clips="\r\n".join(str(10**9 + n) for n in range(10_000)))
    assert (answer.status_code, "1000000000, 1000000001" in answer.text) == (422, True)
    assert "and others: there are no such clips with audio." in answer.text
    answer = make(lea, which="list", clips=" ".join(map(str, range(1, 10_002))))
    assert "These are 10001 clips. Make the study with 10000, and extend it by the rest." in answer.text


PROBLEMS = {
    "name": ("", "Give the study a name."),
    "mode": ("loud", "Choose one of: blind, assisted, reveal."),
    "coders": ("21", "Write a whole number from 1 to 20."),
    "share": ("120", "Write a number of percent from 0 to 100."),
    "lease": ("0", "Write a number of minutes from 1 to 1440."),
    "codebook": ("other 9", "Choose one of the published codebooks."),
    "everybody": ("no", "Choose at least one person, or let everybody take part."),
    "seed": ("-1", "Write a whole number, for example 20261."),
    "bounds": ("5 50%", "Write at most 9 scores from 0 to 1"),
    "flagged": ("some", "Write a whole number, or: all."),
    "rest": ("1 2", "There are 3 bands of scores, but 2 numbers."),
    "since": ("30.11.2026", "Write a day as in 2026-11-30, or leave it empty."),
    "languages": ("english", "Write codes of languages with two or three letters"),
    "policies": ("no-such", "no-such: not a policy by which clips were judged."),
    "wellness.soft_minutes": ("much", "“much” is not possible. It must be a whole number of minutes from 1 to 1440"),
}


@pytest.mark.usefixtures("frame")
def test_each_problem_stands_beside_its_field_and_nothing_is_lost_or_made(lea: Visitor, world: World) -> None:
    for name, (value, said) in PROBLEMS.items():
        answer = make(lea, **{"description": "as I wrote it", name: value})
        assert answer.status_code == 422, name
        assert said in answer.text, name
        assert "as I wrote it" in answer.text
    assert world.sql("SELECT count(*) FROM ra_studies") == [(1,)]
    assert world.sql("SELECT count(*) FROM ra_acts") == [(0,)]


def test_a_study_that_is_made_twice_is_made_once(lea: Visitor, world: World) -> None:
    assert [make(lea, which="flagged").status_code for _ in range(2)] == [302, 422]
    assert "There is already a study with this name." in make(lea, which="flagged").text
    assert world.sql("SELECT count(*) FROM ra_studies WHERE name = 'Round one'") == [(1,)]


def test_names_are_only_ever_text(lea: Visitor, world: World) -> None:
    make(lea, name=HOSTILE, description=HOSTILE, which="flagged")
    path = f"/studies/{number(world, HOSTILE)}"
    for page in ("/studies", path, f"{path}/change", f"{path}/extend", f"/studies/plan?study={number(world, HOSTILE)}"):
        text = lea.get(page).text
        assert HOSTILE not in text
        assert "&lt;script&gt;alert(1)" in text, page


def test_a_study_is_opened_paused_and_closed_and_each_act_is_recorded(
    lea: Visitor, mira: Visitor, world: World
) -> None:
    clips = [world.add_clip(violates=False) for _ in range(2)]
    make(lea, which="list", clips=" ".join(map(str, clips)), coders="1")
    path = f"/studies/{number(world)}"
    assert mira.claim() is None, "it is made paused"
    lea.post(f"{path}/open")
    first = mira.claim()
    assert first in clips
    lea.post(f"{path}/pause")
    assert mira.claim() == first, "what she holds she may finish"
    mira.label(first or 0, "hate")
    assert mira.claim() is None
    lea.post(f"{path}/open")
    second = mira.claim() or 0
    form = {**mira.form(second), "label": "hate", "note": "half a thought"}
    assert "Clips that were in hand: 1." in lea.post(f"{path}/close", follow_redirects=True).text
    assert world.sql("SELECT state, user_id FROM ra_assignments WHERE audio_id = %s", second) == [("free", None)]
    assert mira.post(f"/review/{second}", form).status_code == 409
    assert world.sql("SELECT content->>'note' FROM ra_drafts") == [("half a thought",)]
    lea.post(f"{path}/close")
    acts = world.sql("SELECT act FROM ra_acts WHERE study_id = %s ORDER BY act_id", number(world))
    assert [act for (act,) in acts] == [
        "study-made", "study-opened", "study-paused", "study-opened", "study-closed"
    ]  # fmt: skip
    assert "lea closed the study." in lea.get(path).text


def test_a_change_holds_from_then_on_and_mode_stays_once_there_are_labels(
    lea: Visitor, mira: Visitor, world: World
) -> None:
    clips = [world.add_clip(violates=False) for _ in range(3)]
    make(lea, which="list", clips=" ".join(map(str, clips)), coders="2")
    path, user = f"/studies/{number(world)}", world.sql("SELECT user_id FROM ra_users WHERE username = 'mira'")[0][0]
    lea.post(f"{path}/open")
    mira.label(mira.claim() or 0, "hate")
    fields = {"coders": "1", "everybody": "no", "members": user, "wellness.soft_minutes": "30", "shows": ["filename"]}
    assert lea.post(f"{path}/change", {**FORM, **fields}).location == path
    states = world.sql("SELECT state, count(*) FROM ra_assignments GROUP BY 1 ORDER BY 1")
    assert states == [("free", 1), ("open", 1), ("submitted", 1), ("withdrawn", 3)]
    assert "Takes part: mira." in lea.get(path).text
    assert "lea changed the study: what of a clip is shown, coders, who takes part, wellness, members." in (
        lea.get(path).text
    )
    lea.post(f"{path}/change", {**FORM, **fields, "coders": "3"})
    states = world.sql("SELECT state, count(*) FROM ra_assignments GROUP BY 1 ORDER BY 1")
    assert states == [("free", 7), ("open", 1), ("submitted", 1)]
    answer = lea.post(f"{path}/change", {**FORM, **fields, "mode": "assisted"})
    assert (answer.status_code, "Labels are stored in this study" in answer.text) == (422, True)


def test_the_overview_counts_days_people_and_minutes_only_if_they_are_shared(
    lea: Visitor, mira: Visitor, world: World
) -> None:
    clips = [world.add_clip(violates=False) for _ in range(3)]
    make(lea, which="list", clips=" ".join(map(str, clips)), coders="2")
    path = f"/studies/{number(world)}"
    lea.post(f"{path}/open")
    mira.label(mira.claim() or 0, "hate", heard="[[0, 130]]", active_ms="1800000")
    mira.claim()
    page = lea.get(path).text
    figures = re.findall(r"<dt>([^<]+)</dt><dd>(\d+)</dd></div>", page)
    assert figures[:4] == [("Clips", "3"), ("Slots", "6"), ("Labelled", "1"), ("In hand", "1")]
    assert "<svg viewBox" in page
    row = re.sub(r"<[^>]+>", " ", page.split(">mira</a>")[1].split("</tr>")[0]).split()
    assert row[:3] == ["1", "0.5", "–"]
    assert "does not share with leads" in page
    assert ("Hours of each person" in page, ">Heard</li>" in page) == (True, False)
    world.sql("UPDATE ra_studies SET shares_exposure = true")
    shared = lea.get(path).text
    assert re.sub(r"<[^>]+>", " ", shared.split(">mira</a>")[1].split("</tr>")[0]).split()[2] == "2"
    assert ">Heard</li>" in shared
    assert "1 of 6" in " ".join(lea.get("/studies").text.split())


@pytest.mark.usefixtures("frame")
def test_the_planner_hands_its_numbers_to_the_form_and_knows_what_was_found(
    lea: Visitor, mira: Visitor, world: World
) -> None:
    page = lea.get("/studies/plan?half_width=5&clips=100000&flagged=6000&prevalence=6&recall=82").text
    made = re.search(r'href="(/studies/new\?[^"]+)"', page)
    assert made is not None
    form = lea.get(made[1].replace("&amp;", "&")).text
    review = re.search(r"larger number of flagged clips is (\d+)", page)
    assert review is not None
    assert f'name="flagged" type="text" value="{review[1]}"' in form
    assert "Write a number of points" in lea.get("/studies/plan?half_width=x").text
    assert "do not fit together" in lea.get("/studies/plan?half_width=5&clips=10&flagged=9&prevalence=0&recall=0").text
    make(lea)
    path = f"/studies/{number(world)}"
    lea.post(f"{path}/open")
    mira.label(mira.claim() or 0, "hate")
    page = lea.get(f"/studies/plan?study={number(world)}&half_width=10&prevalence=20&recall=80").text
    assert re.search(r'Flagged</th><td class="number">5</td>', page)
    assert sum(map(int, re.findall(r'</th><td class="number">\d+</td>\s*<td class="number">(\d+)</td>', page))) == 1


def test_commands_pause_close_and_open_a_study_and_say_so(app: Flask, world: World) -> None:
    def run(*words: str) -> str:
        return app.test_cli_runner().invoke(args=["studies", *words]).output

    assert "Flagged clips (open)" in run("list")
    assert "is paused. Nobody gets another clip" in run("pause", "Flagged clips")
    assert "is closed. It takes no more labels" in run("close", "Flagged clips")
    assert run("close", "Flagged clips") == "Nothing is changed: the study is closed already.\n"
    assert "is open. Its clips are given out." in run("open", "Flagged clips")
    assert "There is no study named “x”" in run("open", "x")
    assert world.sql("SELECT act, user_id FROM ra_acts ORDER BY act_id") == [
        ("study-paused", None), ("study-closed", None), ("study-opened", None)
    ]  # fmt: skip
