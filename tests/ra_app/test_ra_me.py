"""The personal page: own work of the last days, and own labels with a search. Nothing of others, and no verdicts."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask

from tests.ra_app.test_ra_blind import _leaks
from tests.ra_app.world import Visitor, World


def _clips(page: str) -> list[int]:
    """The clips of the list, in order."""
    return [int(number) for number in re.findall(r'class="act"><a href="/review/(\d+)', page)]


def _figures(page: str) -> dict[str, str]:
    return dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", page))


def _days(page: str) -> list[list[str]]:
    rows = re.findall(r'<th scope="row">(\d{4}-\d\d-\d\d)</th>(.*?)</tr>', page, re.DOTALL)
    return [[day, *re.findall(r'class="number">([^<]*)<', rest)] for day, rest in rows]


def _of_somebody_else(app: Flask, world: World) -> int:
    world.add_user("jo")
    jo, clip = Visitor(app), world.add_clip()
    jo.log_in("jo")
    jo.label(clip, "hate", note="secret market")
    return clip


def test_progress_days_and_minutes_are_ones_own(mira: Visitor, world: World, app: Flask) -> None:
    theirs = _of_somebody_else(app, world)
    clips = [world.add_clip() for _ in range(4)]
    for clip in clips[:3]:
        mira.label(clip, "hate")
    mira.label(clips[0], "unsure")  # a correction is no second clip
    mira.hold(clips[3]).post(f"/review/{clips[3]}/heartbeat", {**mira.form(clips[3]), "heard": "[[0, 150]]"})
    for clip, ago in ((clips[1], 1), (clips[2], 14)):
        world.sql(
            "UPDATE ra_assignments SET submitted_at = submitted_at - %s * interval '1 day' WHERE audio_id = %s",
            ago,
            clip,
        )
    # Seven minutes, long ago.
    world.sql(
        "INSERT INTO ra_exposures (user_id, audio_id, heard_ms, intervals, at) "
        "SELECT user_id, 1, CASE username WHEN 'mira' THEN 420000 ELSE 60000000 END, '[]', now() - interval '14 days' "
        "FROM ra_users"
    )
    page = mira.get("/me").text
    assert _figures(page) == {
        "Labelled": "3",
        "In hand": "1",
        "Set aside": "0",
        "Minutes heard today": "2",
        "Minutes heard in all": "9",
    }
    today = datetime.now(UTC).date()
    days = _days(page)
    assert [row[0] for row in days] == [str(today - timedelta(days=n)) for n in range(14)]
    assert [row[1:] for row in days] == [["1", "2"], ["1", "0"], *[["0", "0"]] * 12]
    assert theirs not in _clips(page)


def test_the_newest_label_of_each_clip_is_listed_the_newest_first(mira: Visitor, world: World) -> None:
    clips = [world.add_clip() for _ in range(3)]
    for clip in clips:
        mira.label(clip, "hate", note=f"first of {clip}", confidence="3")
    mira.label(clips[0], "unsure", note="second thoughts")
    page = mira.get("/me").text
    assert _clips(page) == clips[::-1]
    assert "second thoughts" in page
    assert f"first of {clips[0]}" not in page
    assert page.count("High") == 2


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("market", [0]),
        ("MARKET", [0]),
        ("arke", [0]),
        ("100%", [1]),
        ("%", [1]),
        ("_", [2, 1]),  # no_violation
        ("\\", [2]),
        ("hate", [2, 0]),
        ("市場", [1]),
        ("no_viol", [1]),
        ("No violation", [1]),
        ('"', []),
        ("[", []),
        ("' OR 1=1 --", []),
        ("\x00", [2, 1, 0]),
        ("  ", [2, 1, 0]),
        ("secret", []),
    ],
)
def test_the_search_finds_parts_of_own_notes_and_labels(
    mira: Visitor, world: World, app: Flask, query: str, found: list[int]
) -> None:
    _of_somebody_else(app, world)
    clips = [world.add_clip() for _ in range(3)]
    mira.label(clips[0], "hate", note="At the Market, at 0:06")
    mira.label(clips[1], "no_violation", note="100% 在市場上")
    mira.label(clips[2], "hate", note="a_b \\ c")
    page = mira.get("/me", query_string={"q": query}).text
    assert _clips(page) == [clips[n] for n in found]
    assert ("Nothing found." in page) == (not found)


def test_the_list_is_paged_also_while_searching(mira: Visitor, world: World) -> None:
    world.sql(
        "WITH slots AS (INSERT INTO ra_assignments (audio_id, user_id, state, submitted_at) "
        "SELECT n, 1, 'submitted', now() - n * interval '1 second' FROM generate_series(1, 60) n "
        "RETURNING assignment_id, audio_id) "
        "INSERT INTO ra_labels (assignment_id, submission_key, codebook_id, codebook_version, labels, blind, note) "
        "SELECT assignment_id, gen_random_uuid(), 'c', '2', '[\"hate\"]', true, 'at ' || audio_id FROM slots"
    )
    assert _clips(mira.get("/me").text) == list(range(1, 26))
    last = mira.get("/me?page=3").text
    assert _clips(last) == list(range(51, 61))
    assert "Next" not in last
    found = mira.get("/me?q=at+1").text
    assert _clips(found) == [1, *range(10, 20)]
    assert "Page" not in found.split("</table>")[-1]
    assert '<a rel="next" href="/me?page=2&amp;q=at">' in mira.get("/me?q=at").text
    assert _clips(mira.get("/me?page=100000").text) == []
    for page in ("0", "-1", "100001"):
        assert mira.get(f"/me?page={page}").status_code == 404


def test_notes_and_queries_are_only_ever_text_and_no_verdict_is_shown(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    mira.label(clip, "hate", note="<script>alert(1)</script>")
    mira.post(f"/review/{clip}/reveal")
    for page in (mira.get("/me"), mira.get("/me?q=%3Cscript%3E"), mira.get("/me?q=%22%3E%3Cscript%3E")):
        assert "<script>" not in page.text
        assert "&lt;script&gt;" in page.text
        assert _leaks(page) == []


OWN = (
    "SELECT audio_id FROM ra_assignments WHERE user_id = 1 AND state = 'submitted' "
    "ORDER BY submitted_at DESC, assignment_id DESC LIMIT 26"
)
HEARD = "SELECT sum(heard_ms) FROM ra_exposures WHERE user_id = 1 AND at > now() - interval '1 day'"


@pytest.mark.parametrize(("query", "index"), [(OWN, "ix_ra_assignments_done"), (HEARD, "ix_ra_exposures_user_id_at")])
def test_among_many_rows_of_others_the_own_ones_are_found_by_index(world: World, query: str, index: str) -> None:
    world.sql(
        "INSERT INTO ra_users (username, pseudonym, password_hash) "
        "SELECT 'p' || n, 'RA-P' || n, 'x' FROM generate_series(1, 20) n"
    )
    world.sql(
        "INSERT INTO ra_assignments (audio_id, user_id, state, submitted_at) "
        "SELECT n, n %% 20 + 1, 'submitted', now() - n * interval '1 second' FROM generate_series(1, %s) n",
        4000,
    )
    world.sql(
        "INSERT INTO ra_exposures (user_id, audio_id, heard_ms, intervals, at) "
        "SELECT n %% 20 + 1, n, 1000, '[]', now() - n * interval '1 minute' FROM generate_series(1, %s) n",
        20_000,
    )
    world.sql("VACUUM ANALYZE ra_assignments, ra_exposures")
    plan = "\n".join(row[0] for row in world.sql("EXPLAIN " + query))
    assert index in plan, plan
    assert "Seq Scan" not in plan
