"""Blind review: the server sends nothing of a verdict before the reviewer's own first label is stored."""

from __future__ import annotations

import pytest
from werkzeug.test import TestResponse

from tests.ra_app.world import POLICY, SCORE, Visitor, World, tone

# The policy's and the model's names, the score in any rounding, the quality figures of the transcript.
SECRETS = (POLICY, "zeta", "model-omega", "0.98", "0.99", "98.7", "98 %", "98%", "0.4321", "0.7071", "violates")


def _leaks(answer: TestResponse) -> list[str]:
    everything = answer.get_data() + str(answer.headers).encode()
    return [secret for secret in SECRETS if secret.encode() in everything]


def _visit_everything(visitor: Visitor, clip: int) -> list[TestResponse]:
    paths = ["/", "/?show=done", "/?show=skipped", "/next", f"/next?after={clip}", f"/review/{clip}", "/account"]
    paths += ["/?quality=doubtful", "/?quality=sure&show=done", "/?quality=all"]
    paths += [f"/review/{clip}/{what}" for what in ("take", "reveal", "heartbeat", "draft")]
    paths += ["/nothing-here", "/healthz", f"/audio/{clip}", "/login", "/?page=7", "/review/999"]
    paths += ["/me", "/me?q=hate", "/people", f"/desk/{clip}", "/desk/999", "/scripts/review.js"]
    return [visitor.get(path) for path in paths]


@pytest.fixture
def clip(world: World) -> int:
    return world.add_clip(audio=tone(1), doubts=["few-words", "unclear-language"])


def test_before_the_first_label_nothing_of_the_verdict_is_sent(mira: Visitor, clip: int) -> None:
    answers = _visit_everything(mira, clip)
    assert mira.claim() == clip
    answers += _visit_everything(mira, clip)
    answers += [mira.label(clip), mira.label(clip, "no_violation", "hate")]
    forms = ("heartbeat", "draft", "reveal", "skip", "take")
    answers += [mira.post(f"/review/{clip}/{what}", {**mira.form(clip), "label": "hate"}) for what in forms]
    answers += _visit_everything(mira, clip)
    assert {answer.status_code for answer in answers} >= {200, 302, 404, 405, 422}
    for answer in answers:
        assert _leaks(answer) == [], answer.request.path


@pytest.mark.parametrize("mode", ["blind", "reveal"])
def test_the_review_screen_gets_nothing_of_a_verdict_before_the_label(mira: Visitor, world: World, mode: str) -> None:
    """All that its script asks for, for clips that are shown and for those that are claimed ahead."""
    world.study(mode=mode)
    clips = [world.add_clip(score=score) for score in (0.6, SCORE, 0.51, 0.8)]
    first = mira.claim()
    answers = [mira.post("/desk/ahead", {"have": first, "want": 2, "showing": first})]
    assert [item["clip"] for item in (answers[0].json or {})["items"]] == clips[1:3], "the order says nothing of scores"
    answers += [mira.post(f"/desk/{clips[0]}/{what}", mira.form(clips[0])) for what in ("submit", "reveal")]
    answers += [mira.post(f"/desk/{clips[1]}/{what}", mira.form(clips[1])) for what in ("skip", "take", "pass")]
    asked = {**mira.form(clips[0]), "label": "hate", "have": clips[0], "want": 2}
    answers += [mira.get(f"/desk/{clip}") for clip in clips]
    answers += [mira.post(f"/desk/{clips[0]}/submit", asked), mira.get(f"/desk/{clips[0]}")]
    assert {answer.status_code for answer in answers} >= {200, 422}
    for answer in answers:
        assert _leaks(answer) == [], answer.request.path
    assert world.sql("SELECT blind FROM ra_labels") == [(True,)]


def test_verdicts_are_shown_on_request_after_the_label_and_only_on_that_clip(
    mira: Visitor, world: World, clip: int
) -> None:
    other = world.add_clip()
    mira.label(clip, "hate")
    page = mira.get(f"/review/{clip}")
    assert _leaks(page) == []
    assert "Show what the model said" in page.text
    answer = mira.post(f"/review/{clip}/reveal")
    assert answer.location == f"/review/{clip}"
    page = mira.get(f"/review/{clip}")
    assert POLICY in page.text
    assert "%.2f" % SCORE in page.text  # noqa: UP031 - as the page writes it
    for answer in _visit_everything(mira, other):
        assert _leaks(answer) == [], answer.request.path


TABLES = ("ra_assignments", "ra_labels", "ra_drafts", "ra_items", "ra_declines", "ra_studies", "ra_exposures")


def test_no_get_reveals_claims_or_writes_a_label(mira: Visitor, world: World, clip: int) -> None:
    """Back after a submit opens the page again: that must show no verdict, and change nothing."""
    world.add_clip()
    for step in (mira.token, mira.claim, lambda: mira.label(clip, "hate"), lambda: mira.label(clip, "unsure")):
        step()
        before = [sorted(map(str, world.sql(f"SELECT * FROM {table}"))) for table in TABLES]
        for answer in _visit_everything(mira, clip):
            assert _leaks(answer) == [], answer.request.path
        assert [sorted(map(str, world.sql(f"SELECT * FROM {table}"))) for table in TABLES] == before
    assert world.sql("SELECT blind FROM ra_labels ORDER BY label_id") == [(True,), (True,)]


def test_the_answer_to_the_label_itself_says_nothing_yet(mira: Visitor, clip: int) -> None:
    assert _leaks(mira.label(clip, "hate")) == []


@pytest.mark.parametrize(("mode", "revealed"), [("blind", False), ("reveal", True)])
def test_only_a_study_that_has_it_reveals(mira: Visitor, world: World, clip: int, mode: str, revealed: bool) -> None:
    world.study(mode=mode)
    mira.hold(clip).post(f"/review/{clip}/reveal")
    assert _leaks(mira.get(f"/review/{clip}")) == [], "before a label no study of this mode does"
    mira.label(clip, "hate")
    assert ("Show what the model said" in mira.get(f"/review/{clip}").text) == revealed
    mira.post(f"/review/{clip}/reveal")
    assert (POLICY in mira.get(f"/review/{clip}").text) == revealed
    mira.label(clip, "unsure")
    assert world.sql("SELECT blind, mode FROM ra_labels ORDER BY 1 DESC") == [(True, mode), (not revealed, mode)]


def test_in_an_assisted_study_the_verdicts_are_there_and_no_label_is_blind(
    mira: Visitor, world: World, clip: int
) -> None:
    world.study(mode="assisted")
    assert POLICY in mira.hold(clip).get(f"/review/{clip}").text
    mira.label(clip, "hate")
    shown = world.sql("SELECT classification_id FROM classifications")
    assert world.sql("SELECT blind, mode, classification_ids FROM ra_labels") == [(False, "assisted", [shown[0][0]])]


def test_one_reviewers_label_reveals_nothing_to_another(
    mira: Visitor, world: World, visitor: Visitor, clip: int
) -> None:
    world.study(coders_per_item=2)
    mira.label(clip, "hate", note="mira's own words")
    mira.post(f"/review/{clip}/reveal")
    world.add_user("jo")
    visitor.log_in("jo")
    for step in (lambda: visitor, lambda: visitor.hold(clip)):
        for answer in _visit_everything(step(), clip):
            assert _leaks(answer) == [], answer.request.path
            assert "own words" not in answer.text if answer.mimetype == "text/html" else True


def test_whether_a_label_was_blind_is_kept_with_what_was_shown(mira: Visitor, world: World, clip: int) -> None:
    mira.label(clip, "hate")
    mira.label(clip, "no_violation")
    assert world.sql("SELECT revealed_at FROM ra_assignments") == [(None,)]
    mira.post(f"/review/{clip}/reveal")
    assert world.sql("SELECT revealed_at IS NOT NULL FROM ra_assignments") == [(True,)]
    mira.label(clip, "unsure")
    shown = world.sql("SELECT classification_id FROM classifications")[0][0]
    rows = world.sql("SELECT blind, classification_ids FROM ra_labels ORDER BY label_id")
    assert rows == [(True, []), (True, []), (False, [shown])]


def test_the_order_of_clips_says_nothing_about_scores(mira: Visitor, world: World) -> None:
    clips = [world.add_clip(score=score) for score in (0.6, 0.99, 0.51, 0.8)]
    given = []
    for _ in clips:
        given.append(mira.claim())
        mira.label(given[-1] or 0, "hate")
    assert given == clips
