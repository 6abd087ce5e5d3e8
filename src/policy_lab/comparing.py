"""Two versions of a policy on a sample of stored transcripts: what would change. Changes nothing.

Flagged clips are rare, so the sample takes as many flagged clips as others, if there are so many. Each of the two
groups stands for its own part of the archive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from db import Sample, SampledTranscript
from moderation.policies import Policy
from moderation.scorer import Scorer
from policy_lab.intervals import Interval, wilson

TEXTS_AT_ONCE = 32  # between two steps of a progress bar


@dataclass(frozen=True)
class Change:
    """A transcript whose verdict would be another."""

    transcript: SampledTranscript
    old_score: float
    new_score: float
    flagged: bool  # by the new version


@dataclass(frozen=True)
class Group:
    """The clips of the sample that are flagged now, or those that are not."""

    sampled: int
    stored: int
    newly_flagged: int
    no_longer_flagged: int

    def estimate(self, changed: int) -> Interval | None:
        """How many of all stored clips of the group would change so, with 95 %."""
        share = wilson(changed, self.sampled)
        if share is None or self.sampled >= self.stored:
            return None if share is None else Interval(changed, changed)
        return Interval(share.low * self.stored, share.high * self.stored)


@dataclass(frozen=True)
class Comparison:
    flagged_now: Group
    not_flagged_now: Group
    changes: Sequence[Change]  # the largest difference of scores first


def compare(
    scorer: Scorer,
    old: Policy | None,
    new: Policy,
    sample: Sample,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Comparison:
    """Score the sample under both versions. Without `old`, the sample's stored verdicts are the old ones."""
    groups, changes = [], []
    for transcripts, stored in ((sample.flagged, sample.flagged_stored), (sample.others, sample.others_stored)):
        before = _stored(transcripts) if old is None else _judged(scorer, old, transcripts, on_progress)
        after = _judged(scorer, new, transcripts, on_progress)
        changed = [
            Change(transcript, old_score, new_score, flagged)
            for transcript, (old_score, was), (new_score, flagged) in zip(transcripts, before, after, strict=True)
            if flagged != was
        ]
        newly = sum(change.flagged for change in changed)
        groups.append(Group(len(transcripts), stored, newly, len(changed) - newly))
        changes += changed
    changes.sort(key=lambda change: (-abs(change.new_score - change.old_score), change.transcript.transcript_id))
    return Comparison(groups[0], groups[1], changes)


def _stored(transcripts: Sequence[SampledTranscript]) -> list[tuple[float, bool]]:
    return [(transcript.old_score or 0.0, bool(transcript.old_violates)) for transcript in transcripts]


def _judged(
    scorer: Scorer, policy: Policy, transcripts: Sequence[SampledTranscript], on_progress: Callable[[int], None]
) -> list[tuple[float, bool]]:
    """(score, whether it is flagged) of each transcript."""
    scores: list[float] = []
    for start in range(0, len(transcripts), TEXTS_AT_ONCE):
        part = transcripts[start : start + TEXTS_AT_ONCE]
        scores += [score.p_violation for score in scorer.score(policy, [item.text for item in part])]
        on_progress(len(part))
    return [(score, score >= scorer.threshold(policy)) for score in scores]
