"""Stored transcripts are judged again: which, how, and what is left after an interruption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from db import Selection, Verdict, text_sha256
from moderation.policies import Policy, load_policy
from policy_lab import rescoring
from policy_lab.rescoring import Progress, plan, rescore
from tests.policy_lab.archive import Archive
from tests.policy_lab.policy_files import write_policy
from tests.policy_lab.scripted_scorer import ScriptedScorer

ALL = Selection()
Run = Callable[..., Progress]


@pytest.fixture
def threats(tmp_path: Path) -> Policy:
    return load_policy(write_policy(tmp_path, "threats", "hurt kill"))


@pytest.fixture
def newer(tmp_path: Path) -> Policy:
    return load_policy(write_policy(tmp_path / "newer", "threats", "hurt kill punch", version="1.1.0"))


@pytest.fixture
def scams(tmp_path: Path) -> Policy:
    return load_policy(write_policy(tmp_path, "scams", "money card"))


def run(
    archive: Archive, policies: Sequence[Policy], scorer: ScriptedScorer | None = None, selection: Selection = ALL
) -> Progress:
    done = Progress()
    rescore(archive.db, scorer or ScriptedScorer(), policies, selection, archive.settings, done, lambda: None)
    return done


def verdict(policy: Policy, score: float, **changes: object) -> Verdict:
    made = Verdict(
        policy=policy.id, policy_version=policy.version, policy_sha256=policy.sha256, model="scripted",
        prompt_version="scripted-1", violates=score >= policy.threshold, score=score, threshold=policy.threshold,
        mass=1.0, truncated=False,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_clip_gets_the_verdicts_that_a_worker_would_write(archive, threats, scams):
    archive.store("hurt kill")
    archive.store("tea kill")
    archive.store("nice tea")
    done = run(archive, [threats, scams])
    assert (done.clips, done.left_out, done.newly_flagged, done.no_longer_flagged) == (3, 0, {"threats": 2}, {})
    assert archive.verdicts() == [
        ("hurt kill", "scams", "1.0.0", False, 0.0),
        ("hurt kill", "threats", "1.0.0", True, 1.0),
        ("nice tea", "scams", "1.0.0", False, 0.0),
        ("nice tea", "threats", "1.0.0", False, 0.0),
        ("tea kill", "scams", "1.0.0", False, 0.0),
        ("tea kill", "threats", "1.0.0", True, 0.5),
    ]
    [row] = archive.query(
        "SELECT policy_sha256, c.model, prompt_version, threshold, mass, truncated FROM classifications c "
        "JOIN transcripts USING (transcript_id) WHERE text = 'tea kill' AND policy = 'threats'"
    )
    assert row == (threats.sha256, "scripted", "scripted-1", 0.5, 1.0, False)


def test_what_is_current_already_is_not_judged_again(archive, threats, scams):
    archive.store("hurt kill")
    run(archive, [threats, scams])
    again = ScriptedScorer()
    assert run(archive, [threats, scams], again).clips == 0
    assert again.asked == []


def test_a_new_version_is_judged_and_the_other_policy_is_not(archive, threats, newer, scams):
    archive.store("punch punch")
    run(archive, [threats, scams])
    scorer = ScriptedScorer()
    done = run(archive, [newer, scams], scorer)
    assert scorer.asked == [("threats", "1.1.0", "punch punch")]
    assert done.newly_flagged == {"threats": 1}
    assert ("punch punch", "threats", "1.1.0", True, 1.0) in archive.verdicts()


def test_going_back_to_an_older_version_puts_its_verdict_in_force(archive, threats, newer):
    archive.store("punch punch")
    run(archive, [threats])
    run(archive, [newer])
    done = run(archive, [threats])
    assert done.no_longer_flagged == {"threats": 1}
    assert archive.verdicts() == [("punch punch", "threats", "1.0.0", False, 0.0)]


@pytest.mark.parametrize(
    "change",
    [{"policy_sha256": "another"}, {"model": "another"}, {"prompt_version": "another"}, {"threshold": 0.6}],
    ids=lambda change: next(iter(change)),
)
def test_a_verdict_that_was_made_differently_is_not_current(archive, threats, change):
    archive.store("hurt kill", verdict(threats, 1.0, **change))
    scorer = ScriptedScorer()
    run(archive, [threats], scorer)
    assert scorer.asked == [("threats", "1.0.0", "hurt kill")]
    assert run(archive, [threats]).clips == 0


def test_a_workers_verdict_is_current(archive, threats):
    archive.store("hurt kill", verdict(threats, 1.0))
    assert run(archive, [threats]).clips == 0


def test_a_clip_that_was_transcribed_anew_is_judged_on_its_new_text(archive, threats):
    archive.store("nice tea", verdict(threats, 0.0), clip="a.mp3")
    archive.store("hurt kill", clip="a.mp3")  # as by a worker that did not know the policy
    assert run(archive, [threats]).newly_flagged == {"threats": 1}
    assert archive.verdicts() == [("hurt kill", "threats", "1.0.0", True, 1.0)]


def test_only_a_clips_newest_transcript_is_judged(archive, threats):
    archive.store("nice tea", clip="a.mp3")
    archive.store("hurt kill", clip="a.mp3", model="large")
    scorer = ScriptedScorer()
    run(archive, [threats], scorer)
    assert scorer.asked == [("threats", "1.0.0", "hurt kill")]


def test_clips_without_speech_or_still_in_work_are_left_to_the_workers(archive, threats):
    archive.store("", clip="silent.mp3")
    waiting = archive.store("hurt kill")
    archive.query("UPDATE audio_files SET status = 'pending' WHERE audio_id = %s RETURNING 1", waiting)
    assert plan(archive.db, ScriptedScorer(), [threats], ALL, archive.settings).clips == 0
    assert run(archive, [threats]).clips == 0


def test_clips_of_a_language_that_is_not_judged_are_judged_only_when_asked_for(archive, threats):
    archive.store("hurt kill")
    spanish = archive.store("te kill", language="es")
    archive.mark_not_judged(spanish)
    assert run(archive, [threats]).clips == 1
    not_judged = Selection(not_judged=True)
    assert plan(archive.db, ScriptedScorer(), [threats], not_judged, archive.settings).by_language == {"es": 1}
    scorer = ScriptedScorer()
    run(archive, [threats], scorer, not_judged)
    assert scorer.asked == [("threats", "1.0.0", "te kill")]
    assert archive.query("SELECT count(*) FROM transcripts WHERE not_judged IS NOT NULL") == [(0,)]
    assert run(archive, [threats], selection=not_judged).clips == 0


def test_a_batch_or_the_days_since_a_day_can_be_chosen(archive, threats):
    archive.store("hurt kill", batch="b1")
    old = archive.store("kill kill", batch="b2")
    archive.query("UPDATE audio_files SET processed_at = %s WHERE audio_id = %s RETURNING 1",
                  datetime.now(UTC) - timedelta(days=9), old)  # fmt: skip
    scorer = ScriptedScorer()
    week = Selection(since=datetime.now(UTC) - timedelta(days=7))
    assert plan(archive.db, scorer, [threats], week, archive.settings).clips == 1
    assert plan(archive.db, scorer, [threats], Selection(batch_id="b2"), archive.settings).clips == 1
    run(archive, [threats], scorer, Selection(batch_id="b2"))
    run(archive, [threats], scorer, week)
    assert [text for _, _, text in scorer.asked] == ["kill kill", "hurt kill"]


def test_a_plan_counts_and_changes_nothing(archive, threats, newer, scams):
    for text in ("hurt kill", "nice tea"):
        archive.store(text)
    run(archive, [threats])
    before = archive.rows()
    found = plan(archive.db, ScriptedScorer(), [threats, scams], ALL, archive.settings)
    assert (found.clips, found.by_policy, found.by_language) == (2, {"threats": 0, "scams": 2}, {"en": 2})
    assert plan(archive.db, ScriptedScorer(), [newer, scams], ALL, archive.settings).by_policy == {
        "threats": 2,
        "scams": 2,
    }
    assert archive.rows() == before


def test_an_interrupted_call_keeps_whole_clips_and_the_next_one_continues(archive, threats, scams, monkeypatch):
    monkeypatch.setattr(rescoring, "CLIPS_AT_ONCE", 2)
    for text in ("kill a", "kill b", "kill c", "kill d", "kill e"):
        archive.store(text)

    def interrupt(policy: Policy) -> None:
        if len(scorer.asked) == 6 and policy is scams:  # in the second page, between its two policies
            raise KeyboardInterrupt

    scorer, done = ScriptedScorer(before=interrupt), Progress()
    with pytest.raises(KeyboardInterrupt):
        rescore(archive.db, scorer, [threats, scams], ALL, archive.settings, done, lambda: None)
    assert done.clips == 2
    assert [(text, policy) for text, policy, *_ in archive.verdicts()] == [
        ("kill a", "scams"), ("kill a", "threats"), ("kill b", "scams"), ("kill b", "threats"),
    ]  # fmt: skip
    rest = ScriptedScorer()
    assert run(archive, [threats, scams], rest).clips == 3
    assert {text for _, _, text in rest.asked} == {"kill c", "kill d", "kill e"}
    assert len(archive.verdicts()) == 10


def test_a_clip_that_a_worker_does_again_meanwhile_keeps_the_workers_verdict(archive, threats):
    archive.store("nice tea", clip="a.mp3")
    archive.store("kill kill", clip="b.mp3")
    scorer = ScriptedScorer(
        before=lambda policy: archive.store("hurt kill", verdict(policy, 1.0), clip="a.mp3") and None
    )
    done = run(archive, [threats], scorer)
    assert (done.clips, done.left_out) == (1, 1)
    assert archive.verdicts() == [
        ("hurt kill", "threats", "1.0.0", True, 1.0),
        ("kill kill", "threats", "1.0.0", True, 1.0),
    ]


def test_a_translation_is_judged_where_workers_judge_it(archive, threats):
    archive.settings = archive.settings.model_copy(update={"other_languages": "translate"})
    archive.store("te mato", language="es", translation="kill you")
    scorer = ScriptedScorer()
    run(archive, [threats], scorer)
    assert scorer.asked == [("threats", "1.0.0", "kill you")]
    assert archive.query("SELECT judged, text_sha256 FROM classifications") == [
        ("translation", text_sha256("kill you"))
    ]
    assert run(archive, [threats]).clips == 0


def test_another_threshold_needs_no_new_scores_unless_reuse_is_off(archive, threats):
    archive.store("kill you")
    run(archive, [threats])
    higher = ScriptedScorer(thresholds={"threats": 0.9})
    assert run(archive, [threats], higher).no_longer_flagged == {"threats": 1}
    assert higher.asked == []
    archive.settings = archive.settings.model_copy(update={"reuse_verdicts": False})
    lower = ScriptedScorer(thresholds={"threats": 0.2})
    run(archive, [threats], lower)
    assert lower.asked == [("threats", "1.0.0", "kill you")]
