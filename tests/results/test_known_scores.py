"""Equal texts have one score per policy text, model and prompt."""

from __future__ import annotations

from dataclasses import replace

import pytest

from db import text_sha256
from moderation.policies import Policy, load_policy
from moderation.scorer import Score
from results.known_scores import _KNOWN
from tests.results.conftest import FLAGGED, HEARD, ROOT, Batch

HATE = load_policy(ROOT / "policies/hate-speech.md")
SCAMS = load_policy(ROOT / "policies/scams-and-fraud.md")
HASHED = replace(FLAGGED, policy_sha256=HATE.sha256, text_sha256=text_sha256(HEARD.text), mass=0.97, truncated=True)
ASKED = {"model": "m", "prompt_version": "p1"}
FOUND = {("hate-speech", HEARD.text): Score(0.9, 0.97, truncated=True)}


def test_a_text_that_was_scored_has_its_score_again(batch: Batch) -> None:
    batch.save(HASHED)
    assert batch.db.known_scores([HATE, SCAMS], [HEARD.text, "another text"], **ASKED) == FOUND
    assert batch.db.known_scores([], [HEARD.text], **ASKED) == {}
    assert batch.db.known_scores([HATE], [], **ASKED) == {}


@pytest.mark.parametrize("change", [{"model": "another"}, {"prompt_version": "p2"}])
def test_another_model_or_prompt_has_no_score_yet(batch: Batch, change: dict[str, str]) -> None:
    batch.save(HASHED)
    assert batch.db.known_scores([HATE], [HEARD.text], **{**ASKED, **change}) == {}


def test_the_policys_text_counts_and_not_its_name_or_version(batch: Batch) -> None:
    batch.save(HASHED)
    renamed: Policy = replace(HATE, id="abuse", version="9.0.0")
    edited = replace(HATE, sha256="cd")
    assert batch.db.known_scores([renamed, edited], [HEARD.text], **ASKED) == {
        ("abuse", HEARD.text): Score(0.9, 0.97, truncated=True)
    }


def test_the_newest_score_counts(batch: Batch) -> None:
    batch.save(HASHED)
    batch.save(replace(HASHED, policy_version="1.0.1", score=0.2))
    assert batch.db.known_scores([HATE], [HEARD.text], **ASKED)["hate-speech", HEARD.text].p_violation == 0.2


def test_a_translation_is_known_by_its_own_text(batch: Batch) -> None:
    spanish = replace(HEARD, text="nos vemos", language="es", translation=HEARD.text)
    batch.save(replace(HASHED, judged="translation"), transcript=spanish)
    assert batch.db.known_scores([HATE], [HEARD.text, "nos vemos"], **ASKED) == FOUND


def test_a_verdict_of_a_release_without_hashes_gives_no_score(batch: Batch) -> None:
    batch.save(replace(HASHED, text_sha256=None))
    assert batch.db.known_scores([HATE], [HEARD.text], **ASKED) == {}


def test_a_hash_that_an_older_release_left_behind_gives_no_score(batch: Batch) -> None:
    batch.save(HASHED)
    batch.change("UPDATE transcripts SET text = 'heard anew'")
    batch.change("UPDATE classifications SET score = 0.1")
    assert batch.db.known_scores([HATE], [HEARD.text], **ASKED) == {}


def test_characters_that_postgres_refuses_do_not_hide_a_text(batch: Batch) -> None:
    odd = "we meet\0 at \ud800 the market"
    batch.save(replace(HASHED, text_sha256=text_sha256(odd)), transcript=replace(HEARD, text=odd))
    assert list(batch.db.known_scores([HATE], [odd], **ASKED)) == [("hate-speech", odd)]


def test_a_lookup_goes_by_the_small_index(batch: Batch) -> None:
    asked = {"policies": "ARRAY['a']", "texts": "ARRAY['b']", "model": "'m'::text", "prompt_version": "'p'::text"}
    plan = batch.query(f"SET enable_seqscan = off; EXPLAIN {_KNOWN % asked}")
    assert any("Index Scan Backward using classifications_score_idx" in row[0] for row in plan)
