"""Two versions of a policy on a sample: which clips, what changes, and that nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from db import Selection, WantedResults
from moderation.policies import Policy, load_policy
from policy_lab.comparing import Group, compare
from policy_lab.intervals import Interval
from policy_lab.rescoring import Progress, rescore
from tests.policy_lab.archive import Archive
from tests.policy_lab.policy_files import write_policy
from tests.policy_lab.scripted_scorer import ScriptedScorer

ALL, NONE = Selection(), WantedResults("")
FLAGGED = [f"kill me {number}" for number in range(3)]  # one word of three, at a threshold of 0.3
OTHERS = [f"punch me {number}" for number in range(5)] + [f"nice tea {number}" for number in range(12)]


@pytest.fixture
def old(tmp_path: Path) -> Policy:
    return load_policy(write_policy(tmp_path, "threats", "kill hurt", threshold=0.3))


@pytest.fixture
def new(tmp_path: Path) -> Policy:
    return load_policy(write_policy(tmp_path / "new", "threats", "punch", version="2.0.0", threshold=0.3))


@pytest.fixture
def judged(archive: Archive, old: Policy) -> Archive:
    """Twenty clips, judged by the old version: three are flagged."""
    for text in FLAGGED + OTHERS:
        archive.store(text)
    rescore(archive.db, ScriptedScorer(), [old], ALL, archive.settings, Progress(), lambda: None)
    return archive


def test_half_of_a_sample_is_flagged_if_there_are_so_many(judged):
    few = judged.db.sample("threats", ALL, 4, NONE)
    assert (len(few.flagged), len(few.others), few.flagged_stored, few.others_stored) == (2, 2, 3, 17)
    many = judged.db.sample("threats", ALL, 10, NONE)
    assert (len(many.flagged), len(many.others)) == (3, 7)
    everything = judged.db.sample("threats", ALL, 100, NONE)
    assert (len(everything.flagged), len(everything.others)) == (3, 17)
    assert judged.db.sample("threats", ALL, 10, NONE) == many
    assert judged.db.sample("another", ALL, 10, NONE).flagged_stored == 0


def test_what_would_change_is_counted_and_nothing_is_written(judged, old, new):
    before = judged.rows()
    found = compare(ScriptedScorer(), old, new, judged.db.sample("threats", ALL, 100, NONE))
    assert found.flagged_now == Group(sampled=3, stored=3, newly_flagged=0, no_longer_flagged=3)
    assert found.not_flagged_now == Group(sampled=17, stored=17, newly_flagged=5, no_longer_flagged=0)
    assert sorted(change.transcript.text for change in found.changes) == sorted(FLAGGED + OTHERS[:5])
    assert judged.rows() == before


def test_the_largest_change_of_score_comes_first(archive, old, new):
    for text in ("punch me twice", "punch", "punch me"):
        archive.store(text)
    found = compare(ScriptedScorer(), old, new, archive.db.sample("threats", ALL, 10, NONE))
    assert [change.transcript.text for change in found.changes] == ["punch", "punch me", "punch me twice"]


def test_an_old_version_is_taken_from_its_stored_verdicts(judged, new):
    judged.store("punch punch")  # without a verdict of the old version
    scorer = ScriptedScorer()
    sample = judged.db.sample("threats", ALL, 100, NONE, ("1.0.0", scorer.name, scorer.prompt_version))
    found = compare(scorer, None, new, sample)
    assert {version for _, version, _ in scorer.asked} == {"2.0.0"}
    assert len(scorer.asked) == 20
    assert (found.flagged_now.no_longer_flagged, found.not_flagged_now.newly_flagged) == (3, 5)
    assert not judged.db.sample("threats", ALL, 100, NONE, ("1.0.0", "another model", scorer.prompt_version)).others


def test_a_sample_stands_for_its_group():
    # Wilson's interval for 5 of 100 is 0.0215 to 0.1118.
    part = Group(sampled=100, stored=10_000, newly_flagged=5, no_longer_flagged=0).estimate(5)
    assert part is not None
    assert [part.low, part.high] == pytest.approx([215, 1118], abs=1)
    assert Group(sampled=100, stored=100, newly_flagged=5, no_longer_flagged=0).estimate(5) == Interval(5, 5)
    assert Group(sampled=0, stored=0, newly_flagged=0, no_longer_flagged=0).estimate(0) is None
