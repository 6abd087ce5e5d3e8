"""Equal texts cost the model one score, within a call and over the lives of workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from config import Settings
from db import Database, Verdict, text_sha256
from jobs.payloads import TranscribeJob
from moderation.policies import Policy, load_policy
from moderation.scorer import Score
from transcription import Transcript
from workers.scores_once import ScoresOnce

ROOT = Path(__file__).resolve().parents[2]
HATE = load_policy(ROOT / "policies/hate-speech.md")
HEARD = Transcript(
    text="we meet", language="en", language_probability=0.9, segments=(), speech_s=2.5, finding="speech",
    reasons=(), avg_logprob=-0.2, no_speech_prob=0.01, compression_ratio=1.1,
)  # fmt: skip


@dataclass
class Counting:
    """A scorer by the length of a text; it remembers what it was asked."""

    name: str = "m"
    prompt_version: str = "p1"
    asked: list[str] = field(default_factory=list)

    def score(self, policy: Policy, texts: Sequence[str]) -> list[Score]:  # noqa: ARG002
        self.asked += texts
        return [Score(len(text) / 100, 1.0, truncated=False) for text in texts]

    def threshold(self, policy: Policy) -> float:
        return policy.threshold


@pytest.fixture
def db(settings: Settings) -> Iterator[Database]:
    opened = Database(settings)
    yield opened
    opened.close()


@pytest.fixture
def stored(db: Database) -> None:
    """A clip that says "we meet" has the score 0.9."""
    job = TranscribeJob(opus_path=Path("/s/x.opus"), batch_id="b1", original_filename="a.mp3")
    verdict = Verdict(
        policy=HATE.id, policy_version=HATE.version, policy_sha256=HATE.sha256, model="m", prompt_version="p1",
        violates=True, score=0.9, threshold=0.5, mass=0.99, truncated=True, text_sha256=text_sha256(HEARD.text),
    )  # fmt: skip
    db.save_results(
        db.ensure_clip(job).audio_id, transcript=HEARD, speech_model="base", verdicts=[verdict],
        s3_opus_path="processed/2026-01-01/1.opus", duration_s=2.5,
    )  # fmt: skip


@pytest.mark.usefixtures("stored")
def test_what_was_scored_is_not_scored_again_and_keeps_its_place(db: Database) -> None:
    model = Counting()
    scores = ScoresOnce(model, db).score(HATE, ["abc", "we meet", "abcd", "abc", "we meet"])
    assert [score.p_violation for score in scores] == [0.03, 0.9, 0.04, 0.03, 0.9]
    assert scores[1] == Score(0.9, 0.99, truncated=True)
    assert model.asked == ["abc", "abcd"]


@pytest.mark.usefixtures("stored")
def test_when_all_is_known_the_model_is_not_called(db: Database) -> None:
    model = Counting()
    assert len(ScoresOnce(model, db).score(HATE, ["we meet"])) == 1
    assert ScoresOnce(model, db).score(HATE, []) == []
    assert model.asked == []


@pytest.mark.usefixtures("stored")
def test_another_model_scores_the_text_itself(db: Database) -> None:
    model = Counting(name="another")
    once = ScoresOnce(model, db)
    assert once.score(HATE, ["we meet"])[0].p_violation == 0.07
    assert model.asked == ["we meet"]
    assert (once.name, once.prompt_version, once.threshold(HATE)) == ("another", "p1", HATE.threshold)
