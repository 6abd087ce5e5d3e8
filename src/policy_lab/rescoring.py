"""Judge stored transcripts by the policies and the model of now. No audio is needed.

What has the current verdict already is left out, so a call that was stopped goes on where it stopped. The verdicts of
`CLIPS_AT_ONCE` clips are committed together, each clip's all or none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from config import Settings
from db import (
    ArchivedTranscript,
    JudgedText,
    Selection,
    TranscriptArchive,
    UnjudgedTranscript,
    Verdict,
    WantedResults,
    verdict_on,
)
from moderation.judging import Judge
from moderation.policies import Policy
from moderation.scorer import Score, Scorer

CLIPS_AT_ONCE = 64  # enough to fill the model's batches; a call that is stopped loses at most their scores


@dataclass
class Plan:
    """What is to be done."""

    clips: int
    by_policy: dict[str, int]  # clips without the current verdict
    by_language: dict[str, int]  # clips


@dataclass
class Progress:
    """What has been done so far."""

    clips: int = 0
    left_out: int = 0  # a worker has transcribed them again meanwhile, and judges them
    newly_flagged: dict[str, int] = field(default_factory=dict)  # by policy
    no_longer_flagged: dict[str, int] = field(default_factory=dict)


def plan(
    db: TranscriptArchive, judge: Judge, policies: Sequence[Policy], selection: Selection, settings: Settings
) -> Plan:
    """Count what is to be done; changes nothing."""
    wanted = _wanted(judge, policies, settings)
    planned = Plan(0, dict.fromkeys((policy.id for policy in policies), 0), {})
    for (missing, language), count in db.count(wanted, selection).items():
        planned.clips += count
        for policy in missing:
            planned.by_policy[policy] += count
        name = language or "unknown"
        planned.by_language[name] = planned.by_language.get(name, 0) + count
    return planned


def rescore(
    db: TranscriptArchive,
    scorer: Scorer,
    policies: Sequence[Policy],
    selection: Selection,
    settings: Settings,
    done: Progress,
    on_progress: Callable[[], None],
) -> None:
    """Judge and store. Counts in `done`, and calls `on_progress` after each commit; raises what `Scorer.score` does."""
    wanted, last = _wanted(scorer, policies, settings), 0
    while page := db.to_judge(wanted, selection, after=last, limit=CLIPS_AT_ONCE):
        last = page[-1].transcript_id
        verdicts = _judge(db if settings.reuse_verdicts else None, scorer, policies, page)
        left_out = set(db.store_verdicts([(item, verdicts[item.transcript_id]) for item in page]))
        for item in page:
            if item.transcript_id in left_out:
                done.left_out += 1
            else:
                _count(done, item, verdicts[item.transcript_id])
        on_progress()


def _wanted(judge: Judge, policies: Sequence[Policy], settings: Settings) -> WantedResults:
    return WantedResults.of("", judge, policies, settings)  # of whichever speech model the transcript is


def _judge(
    known: TranscriptArchive | None, scorer: Scorer, policies: Sequence[Policy], page: Sequence[UnjudgedTranscript]
) -> dict[int, list[Verdict]]:
    """Transcript id -> the verdicts that it lacks. A policy is scored for all texts at once.

    A text that had a score before, by the same policy text, model and prompt, keeps it: `known` finds it.
    """
    verdicts: dict[int, list[Verdict]] = {item.transcript_id: [] for item in page}
    for policy in policies:
        lacking = [item for item in page if policy.id in item.missing]
        texts = list(dict.fromkeys(item.text for item in lacking))
        scores: dict[str, Score] = {}
        if known is not None and texts:
            found = known.known_scores([policy], texts, model=scorer.name, prompt_version=scorer.prompt_version)
            scores = {text: score for (_, text), score in found.items()}
        if new := [text for text in texts if text not in scores]:
            scores |= zip(new, scorer.score(policy, new), strict=True)
        for item in lacking:
            text = JudgedText(item.text, item.judged)
            verdicts[item.transcript_id].append(verdict_on(text, policy, scores[item.text], scorer))
    return verdicts


def _count(done: Progress, item: ArchivedTranscript, verdicts: Sequence[Verdict]) -> None:
    done.clips += 1
    for verdict in verdicts:
        if verdict.violates != (verdict.policy in item.flagged):
            counts = done.newly_flagged if verdict.violates else done.no_longer_flagged
            counts[verdict.policy] = counts.get(verdict.policy, 0) + 1
