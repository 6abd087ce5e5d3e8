"""Blind review: the server sends nothing of a verdict before the reviewer's own first label is stored."""

from __future__ import annotations

import pytest
from werkzeug.test import TestResponse

from tests.ra_app.world import POLICY, SCORE, Visitor, World, tone

# The policy's and the model's names, the score in any rounding, the quality figures of the transcript.
SECRETS = (POLICY, "zeta", "model-omega", "0.98", "0.99", "98.7", "98 %", "98%", "0.4321", "7071", "violates")


def _leaks(answer: TestResponse) -> list[str]:
    everything = answer.get_data() + str(answer.headers).encode()
    return [secret for secret in SECRETS if secret.encode() in everything]


def _visit_everything(visitor: Visitor, clip: int) -> list[TestResponse]:
    paths = ["/", "/?show=done", "/?show=skipped", "/next", f"/next?after={clip}", f"/review/{clip}", "/account"]
    paths += ["/?quality=doubtful", "/?quality=sure&show=done", "/?quality=all"]
    paths += ["/nothing-here", "/healthz", f"/audio/{clip}", "/login", "/?page=7", "/review/999"]
    return [visitor.get(path) for path in paths]


@pytest.fixture
def clip(world: World) -> int:
    return world.add_clip(audio=tone(1), doubts=["few-words", "unclear-language"])


def test_before_the_first_label_nothing_of_the_verdict_is_sent(mira: Visitor, clip: int) -> None:
    answers = _visit_everything(mira, clip)
    answers += [mira.label(clip), mira.label(clip, "no_violation", "hate"), mira.post(f"/review/{clip}/skip")]
    answers += _visit_everything(mira, clip)
    assert {answer.status_code for answer in answers} >= {200, 302, 404, 422}
    for answer in answers:
        assert _leaks(answer) == [], answer.request.path


def test_after_the_label_the_verdicts_are_shown_on_the_clip_and_only_there(
    mira: Visitor, world: World, clip: int
) -> None:
    other = world.add_clip()
    mira.label(clip, "hate")
    page = mira.get(f"/review/{clip}")
    assert POLICY in page.text
    assert "%.2f" % SCORE in page.text  # noqa: UP031 - as the page writes it
    for answer in _visit_everything(mira, other):
        assert _leaks(answer) == [], answer.request.path


def test_the_answer_to_the_label_itself_says_nothing_yet(mira: Visitor, clip: int) -> None:
    assert _leaks(mira.label(clip, "hate")) == []


def test_one_reviewers_label_reveals_nothing_to_another(
    mira: Visitor, world: World, visitor: Visitor, clip: int
) -> None:
    mira.label(clip, "hate", note="mira's own words")
    mira.get(f"/review/{clip}")
    world.add_user("jo")
    visitor.log_in("jo")
    for answer in _visit_everything(visitor, clip):
        assert _leaks(answer) == [], answer.request.path
        assert "own words" not in answer.text if answer.mimetype == "text/html" else True


def test_whether_a_label_was_blind_is_kept(mira: Visitor, world: World, clip: int) -> None:
    page = mira.get(f"/review/{clip}")
    assert page.status_code == 200
    mira.label(clip, "hate")
    assert world.sql("SELECT revealed_at FROM ra_assignments") == [(None,)]
    mira.get(f"/review/{clip}")
    assert world.sql("SELECT revealed_at IS NOT NULL FROM ra_assignments") == [(True,)]
    mira.label(clip, "unsure")
    assert world.sql("SELECT blind FROM ra_labels ORDER BY label_id") == [(True,), (False,)]


def test_the_order_of_clips_says_nothing_about_scores(mira: Visitor, world: World) -> None:
    clips = [world.add_clip(score=score) for score in (0.6, 0.99, 0.51, 0.8)]
    page = mira.get("/").text
    assert sorted(clips, key=lambda clip: page.index(f'href="/review/{clip}"')) == clips
