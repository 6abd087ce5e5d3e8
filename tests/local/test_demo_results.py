"""The checks of `make demo-check` with artificial results: each deviation fails exactly one check."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from local.demo_results import ClipResult, DeadLetter, Outcome, Results, checks, policy_names
from local.demo_wer import normalise, word_error_rate
from local.samples.archive import SampleClip

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
POLICIES = len(policy_names())
THREAT = SampleClip("a.mp3", "", "mp3", 10.0, "", "en", "I will find you", "done", ("violent-threats",), "", "samples")
BROKEN = SampleClip("b.mp3", "", "mp3", 0.0, "", "", "", "failed", (), "", "samples")
SILENT = SampleClip("c.mp3", "", "mp3", 10.0, "", "", "", "no_speech", (), "", "samples")

GOOD = Results(
    batch_id="20260101-120000-abcdef",
    outcomes=[
        Outcome(
            THREAT,
            ClipResult("done", 10.0, "en", "I will find you!", frozenset({"violent-threats"}), POLICIES),
            POLICIES,
        ),
        Outcome(BROKEN, ClipResult("failed", 0.0, None, "", frozenset(), 0), POLICIES),
        Outcome(SILENT, ClipResult("no_speech", 10.0, None, "", frozenset(), 0), POLICIES),
    ],
    unexpected=[],
    transferred_at=NOON,
    completed_at=NOON + timedelta(seconds=4),
    dead_letters=[DeadLetter("b.mp3", "b.mp3 holds no audio stream")],
    batch_keys=[],
    scratch=[],
)


def with_first(result: ClipResult | None) -> Results:
    return replace(GOOD, outcomes=[Outcome(THREAT, result, POLICIES), *GOOD.outcomes[1:]])


def failed(results: Results) -> list[str]:
    return [check.name for check in checks(results) if not check.passed]


def test_results_as_the_manifest_says_pass() -> None:
    assert failed(GOOD) == []
    assert GOOD.wer() == 0
    assert GOOD.audio_s == 20
    assert GOOD.took_s == 4


def test_a_clip_in_a_language_that_is_not_judged_has_no_verdict() -> None:
    spanish = replace(THREAT, language="es", flagged=())
    silent = ClipResult("done", 10.0, "es", "I will find you", frozenset(), 0)
    assert Outcome(spanish, silent, POLICIES).trouble == ""
    judged = replace(silent, verdicts=POLICIES)
    assert Outcome(spanish, judged, POLICIES).trouble == f"{POLICIES} policies judged instead of 0"


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        ClipResult("failed", 10.0, "en", "I will find you", frozenset({"violent-threats"}), POLICIES),
        ClipResult("done", 10.0, "en", "I will find you", frozenset(), POLICIES),
        ClipResult("done", 10.0, "en", "I will find you", frozenset({"violent-threats", "hate-speech"}), POLICIES),
        ClipResult("done", 10.0, "en", "I will find you", frozenset({"violent-threats"}), POLICIES - 1),
    ],
    ids=["no row", "status", "not flagged", "flagged too much", "a policy was not judged"],
)
def test_a_clip_that_ended_otherwise_fails_and_is_named(wrong: ClipResult | None) -> None:
    found = next(check for check in checks(with_first(wrong)) if check.name.startswith("every clip"))
    assert not found.passed
    assert found.found.startswith("2 of 3")
    assert "a.mp3" in found.found


@pytest.mark.parametrize(
    ("results", "name"),
    [
        (replace(GOOD, unexpected=["x.mp3"]), "every clip has the result that the manifest expects"),
        (
            with_first(ClipResult("done", 10.0, "en", "I find you", frozenset({"violent-threats"}), POLICIES)),
            "word error rate at most 0.15",
        ),
        (replace(GOOD, completed_at=None), "the batch is complete"),
        (replace(GOOD, scratch=["20260101-120000-abcdef"]), "scratch is empty"),
        (replace(GOOD, batch_keys=["batch:x:total"]), "no batch keys are left in Redis"),
        (replace(GOOD, dead_letters=[]), "each failed clip is in queue:failed with an error message"),
        (
            replace(GOOD, dead_letters=[DeadLetter("b.mp3", "")]),
            "each failed clip is in queue:failed with an error message",
        ),
    ],
)
def test_each_deviation_fails_its_own_check(results: Results, name: str) -> None:
    assert failed(results) == [name]


class TestWordErrorRate:
    @pytest.mark.parametrize(
        ("said", "heard"),
        [
            ("I don't know, Mister Smith.", "i dont know mr. smith"),
            ("Send ten thousand dollars", "Send 10 thousand dollars!"),
            ("twenty percent", "20%"),
            ("Qué pasa", "que pasa"),
            ("10000", "10,000"),
        ],
    )
    def test_what_a_listener_calls_the_same_is_the_same(self, said: str, heard: str) -> None:
        assert normalise(said) == normalise(heard)

    def test_errors_count_per_word_over_all_clips(self) -> None:
        assert word_error_rate([("one two three", "one two three"), ("cat", "dog")]) == 0.25

    def test_nothing_said_has_no_rate(self) -> None:
        assert word_error_rate([]) is None
        assert word_error_rate([("", "")]) is None


def test_words_kept_and_doubtful_windows_are_counted() -> None:
    clip = ClipResult("done", 10.0, "en", "I will find you", frozenset({"violent-threats"}), POLICIES, 3, 1)
    results = with_first(clip)
    kept, said = results.words_kept()
    assert 0 < kept <= said
    assert with_first(replace(clip, text="I find you")).words_kept() == (kept - 1, said)
    assert results.windows == (1, 3)
