"""The study takes up newly flagged clips by itself, in bounded steps, and withdraws clips that are flagged no more."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from flask import Flask

from app.models import db
from app.studies import take_up
from tests.ra_app.world import Visitor, World

ONE_CLIP = "FROM ra_queue WHERE ra_queue.audio_id = c.audio_id LIMIT 1"


@pytest.fixture
def statements(app: Flask) -> Iterator[list[str]]:
    """What the app asks Postgres."""
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    with app.app_context():
        engine = db.engine
    sa.event.listen(engine, "before_cursor_execute", note)
    yield asked
    sa.event.remove(engine, "before_cursor_execute", note)


def items(world: World) -> list[tuple[int, bool]]:
    return world.sql("SELECT audio_id, withdrawn_at IS NOT NULL FROM ra_items ORDER BY 1")


def test_flagged_clips_become_items_with_a_free_slot_for_each_coder(mira: Visitor, world: World) -> None:
    world.study(coders_per_item=2)
    clips = [world.add_clip(), world.add_clip(violates=False), world.add_clip()]
    assert mira.claim() == clips[0]
    assert items(world) == [(clips[0], False), (clips[2], False)]
    assert world.sql("SELECT audio_id, coder_number, state, opened_at IS NULL FROM ra_assignments ORDER BY 1, 2") == [
        (clips[0], 1, "open", False),
        (clips[0], 2, "free", True),
        (clips[2], 1, "free", True),
        (clips[2], 2, "free", True),
    ]
    assert world.sql("SELECT DISTINCT inclusion_probability, stratum FROM ra_items") == [(1.0, "flagged")]


def test_a_clip_that_is_not_flagged_any_more_is_withdrawn_and_comes_back(mira: Visitor, world: World) -> None:
    first, second = world.add_clip(), world.add_clip()
    assert mira.claim() == first
    world.unflag(second)
    mira.label(first, "hate")
    assert mira.claim() is None
    assert items(world) == [(first, False), (second, True)]
    assert world.sql("SELECT state FROM ra_assignments WHERE audio_id = %s", second) == [("withdrawn",)]
    world.unflag(second, violates=True, version="3.0.0")
    assert mira.claim() == second
    assert items(world) == [(first, False), (second, False)]


def test_who_holds_a_clip_may_finish_when_it_is_not_flagged_any_more(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    assert mira.claim() == clip
    world.unflag(clip)
    assert mira.claim() == clip
    assert mira.label(clip, "hate").status_code == 302


def test_a_lapsed_clip_that_is_not_flagged_any_more_goes_to_nobody(
    mira: Visitor, world: World, visitor: Visitor
) -> None:
    clip = world.add_clip()
    mira.claim()
    world.unflag(clip)
    world.sql("UPDATE ra_assignments SET claimed_until = now() - interval '1 hour'")
    world.add_user("jo")
    visitor.log_in("jo")
    assert visitor.claim() is None
    assert visitor.claim() is None
    assert world.sql("SELECT state, user_id FROM ra_assignments") == [("open", 1)]


def test_a_clip_that_is_flagged_late_is_found_behind_the_newest(mira: Visitor, world: World) -> None:
    late, first = world.add_clip(violates=False), world.add_clip()
    mira.label(first, "hate")
    world.unflag(late, violates=True)
    assert mira.claim() == late


def test_clips_are_taken_up_in_bounded_steps_until_enough_are_free(
    mira: Visitor, world: World, monkeypatch: pytest.MonkeyPatch, statements: list[str]
) -> None:
    monkeypatch.setattr(take_up, "STEP", 3)
    monkeypatch.setattr(take_up, "LOW", 2)
    clips = [world.add_clip() for _ in range(8)]
    assert mira.claim() == clips[0]
    assert len(items(world)) == 3
    for clip in clips[:-1]:
        mira.label(clip, "hate")
    assert mira.claim() == clips[-1]
    asked = [statement for statement in statements if "ra_queue" in statement]
    assert asked
    assert all(ONE_CLIP in statement for statement in asked), "never the whole queue"


def test_pages_and_claims_ask_the_queue_about_given_clips_only(
    mira: Visitor, world: World, statements: list[str]
) -> None:
    clip = world.add_clip()
    for _ in range(2):
        for page in ("/", "/?show=done", "/?show=skipped", f"/review/{clip}", f"/audio/{clip}"):
            mira.get(page)
        mira.claim()
        mira.label(clip, "hate")
    for statement in statements:
        assert "ra_queue" not in statement or ONE_CLIP in statement


def test_the_look_at_given_clips_reads_the_verdicts_of_these_clips_only(app: Flask, world: World) -> None:
    """The plan, with the table scans switched off that Postgres prefers while the tables are small."""
    world.add_clip()
    with app.app_context():
        db.session.execute(sa.text("SET LOCAL enable_seqscan = off"))
        rows = db.session.execute(sa.text(f"EXPLAIN {take_up.FLAGGED.text}"), {"audio_ids": [1, 2], "policies": []})
        plan = "\n".join(row[0] for row in rows)
        db.session.rollback()
    of_verdicts = plan.partition(" on classifications")[2]
    assert re.match(r"[^\n]*\n\s*(Index|Recheck) Cond: \(\(?audio_id = c.audio_id", of_verdicts), plan


def test_while_clips_are_free_nobody_looks_for_more_again_and_again(
    mira: Visitor, world: World, statements: list[str]
) -> None:
    clips = [world.add_clip() for _ in range(3)]
    mira.label(clips[0], "hate")
    mira.claim()
    statements.clear()
    mira.label(clips[1], "hate")
    assert not [statement for statement in statements if "FROM classifications" in statement], "it was just done"
    world.sql("UPDATE ra_studies SET taken_up_at = now() - interval '1 minute'")
    mira.label(clips[1], "unsure")
    assert [statement for statement in statements if "FROM classifications" in statement]


def test_clips_that_the_release_before_has_opened_do_not_count_as_new(mira: Visitor, world: World) -> None:
    """Its rows became items, but no look for flagged clips has been made yet."""
    for _ in range(3):
        world.add_clip()
    world.sql("INSERT INTO ra_assignments (audio_id, user_id) SELECT 1, user_id FROM ra_users")
    assert "<strong>0</strong> of <strong>3</strong>" in mira.get("/").text
    assert mira.claim() == 1
    assert "<strong>0</strong> of <strong>3</strong>" in mira.get("/").text


def test_one_process_at_a_time_takes_up(mira: Visitor, world: World) -> None:
    """Somebody who has clips in hand does not wait for another process that takes up clips."""
    clips = [world.add_clip() for _ in range(3)]
    mira.claim()
    world.sql("UPDATE ra_studies SET taken_up_at = NULL")
    world.sql("BEGIN")
    world.sql("SELECT pg_advisory_xact_lock(%s, study_id::int) FROM ra_studies", take_up._LOCK)
    try:
        assert mira.label(clips[0], "hate").location == f"/review/{clips[1]}"
        assert world.sql("SELECT taken_up_at FROM ra_studies") == [(None,)]
    finally:
        world.sql("ROLLBACK")
