"""The books of the clips in hand: how many, who may begin, who is alone, who hangs; and how verdicts come together."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from config import Settings
from db import JudgedText
from jobs.job_queue import Claim
from jobs.payloads import TranscribeJob
from moderation.policies import Policy, load_policies
from moderation.scorer import Score
from workers.clips_in_hand import HANGS_S, ClipInHand, ClipsInHand, first_group
from workers.judging import judge


def clip(name: str, *, failures: int = 0, interruptions: int = 0, audio_s: float = 20.0) -> ClipInHand:
    job = TranscribeJob(opus_path=Path("/scratch/b1") / name, batch_id="b1", original_filename=name)
    return ClipInHand(Claim("queue:transcribe", job.to_json(), failures, interruptions), job, audio_s=audio_s)


def test_there_is_room_for_so_many_clips():
    hand = ClipsInHand(2)
    first = clip("a")
    hand.add(first)
    assert hand.has_room()
    hand.add(clip("b"))
    assert not hand.has_room()
    hand.remove(first)
    assert hand.has_room()


def test_a_clip_that_a_worker_died_with_stays_alone():
    hand = ClipsInHand(8)
    suspect = clip("a", interruptions=1)
    hand.add(suspect)
    assert not hand.has_room()
    hand.remove(suspect)
    assert hand.has_room()


def test_a_second_job_for_a_clip_begins_when_the_first_is_over():
    hand = ClipsInHand(8)
    first, second, other = clip("a"), clip("a"), clip("b")
    for found in (first, second, other):
        hand.add(found)
    assert hand.next_to_begin() is first
    first.goes("preparing", Future())
    assert hand.next_to_begin() is other
    other.goes("preparing", Future())
    assert hand.next_to_begin() is None
    hand.remove(first)
    assert hand.next_to_begin() is second


def test_the_clips_whose_step_is_over_come_in_the_order_of_their_claims():
    hand = ClipsInHand(8)
    clips = [clip(name) for name in "abc"]
    for found in clips:
        hand.add(found)
        found.goes("preparing", Future())
    for found in (clips[2], clips[0]):
        assert found.work
        found.work.set_result(None)
    assert hand.whose_step_is_over(0) == [clips[0], clips[2]]


def test_the_copy_of_a_parked_clip_stays_while_a_thread_uses_it():
    removed: list[str] = []
    hand, found = ClipsInHand(8), clip("a")
    hand.add(found)
    found.copies.callback(removed.append, "the copy")
    work: Future[None] = Future()
    work.set_running_or_notify_cancel()
    found.goes("uploading", work)
    hand.clear()
    assert removed == []
    work.set_result(None)
    assert removed == ["the copy"]


@pytest.mark.parametrize(("stage", "hangs"), [("preparing", True), ("uploading", True), ("decoding", False)])
def test_a_step_that_takes_far_too_long_in_a_pool_hangs(stage, hangs: bool):
    hand, found = ClipsInHand(8), clip("a")
    hand.add(found)
    found.goes(stage, Future())
    assert not hand.hang()
    found.stage_since -= 2 * HANGS_S
    assert hand.hang() is hangs  # the device's calls are watched by what they do
    assert found.work
    found.work.set_result(None)
    assert not hand.hang()


def test_the_heartbeat_says_how_many_clips_are_in_hand():
    hand = ClipsInHand(8)
    hand.add(clip("a.mp3"))
    assert str(hand) == "1 clip in hand, the first is b1 a.mp3"
    hand.add(clip("b.mp3"))
    assert str(hand) == "2 clips in hand, the first is b1 a.mp3"


@pytest.mark.parametrize(
    ("ready", "group"),
    [
        pytest.param([clip(name) for name in "abcdef"], "abcd", id="no more than four"),
        pytest.param([clip(name) for name in "ab"], "ab", id="fewer"),
        pytest.param([clip("a"), clip("b", audio_s=70), clip("c", audio_s=20)], "ab", id="no more than 100 s"),
        pytest.param([clip("a", audio_s=500), clip("b")], "a", id="a long clip by itself"),
        pytest.param([clip("a", failures=1), clip("b")], "a", id="one that failed before by itself"),
        pytest.param([clip("a"), clip("b", failures=1), clip("c")], "a", id="one that failed before comes later"),
    ],
)
def test_a_group_is_the_first_clips_that_may_be_on_the_device_together(ready: list[ClipInHand], group: str):
    found = first_group(ready, most=4, audio_s=100)
    assert "".join(item.job.original_filename for item in found) == group


class LengthScorer:
    """Scores a text by its length, and notes what it is given."""

    name, prompt_version = "length", "1"

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str]]] = []

    def score(self, policy: Policy, texts: Sequence[str]) -> list[Score]:
        self.calls.append((policy.id, list(texts)))
        return [Score(len(text) / 10, 1.0, truncated=False) for text in texts]

    def threshold(self, policy: Policy) -> float:  # noqa: ARG002
        return 0.5


def spoken(text: str) -> JudgedText:
    return JudgedText(text, "transcript")


def test_each_policy_is_scored_once_for_all_texts_and_silence_gets_no_verdict(settings: Settings):
    scorer, policies = LengthScorer(), load_policies(settings.policies_dir)
    progress: list[None] = []
    found = judge(scorer, policies, [spoken("abc"), None, spoken("abcdefg")], lambda: progress.append(None))
    assert scorer.calls == [(policy.id, ["abc", "abcdefg"]) for policy in policies]
    assert [[verdict.score for verdict in verdicts] for verdicts in found] == [
        [0.3] * len(policies), [], [0.7] * len(policies),
    ]  # fmt: skip
    assert [verdict.violates for verdict in (found[0][0], found[2][0])] == [False, True]
    assert [verdict.policy for verdict in found[2]] == [policy.id for policy in policies]
    assert len(progress) == len(policies)


def test_without_speech_nothing_is_scored(settings: Settings):
    scorer = LengthScorer()
    assert judge(scorer, load_policies(settings.policies_dir), [None, None]) == [[], []]
    assert scorer.calls == []
