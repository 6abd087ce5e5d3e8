"""What lint says of policy files."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from config import load_settings
from moderation.adapters.cope_a import build_prompt
from moderation.policies import load_policies, load_policy
from policy_lab.lint import lint, similarity
from policy_lab.model import Reading, reading
from tests.policy_lab.policy_files import write_policy

ROOT = Path(__file__).resolve().parents[2]
WORDS = Reading("a model", 4000, lambda policy: len(policy.body.split()), exact=True)
UNUSED = {"S3_ENDPOINT": "http://unused", "S3_ACCESS_KEY": "unused", "S3_SECRET_KEY": "unused", "MODEL_SET": "demo"}


def prose(words: int, seed: int) -> str:
    chance = random.Random(seed)  # noqa: S311 -- the same words each time
    return " ".join(f"w{chance.randrange(5000)}" for _ in range(words))


def test_the_policies_of_the_repository_are_good(models_root):
    files = sorted((ROOT / "policies").glob("*.md"))
    found = lint(files, reading(load_settings({**UNUSED, "MODELS_ROOT": str(models_root)})))
    assert found.findings == []
    assert all(50 < tokens < 1000 for tokens in found.tokens.values())


def test_all_problems_of_all_files_are_found(tmp_path):
    one = write_policy(tmp_path, "one", prose(50, 1), version="1", threshold=3)
    two = write_policy(tmp_path, "two", prose(50, 2))
    two.write_text(two.read_text().replace("Includes:", "Include:"))
    found = [(finding.path, finding.line) for finding in lint([one, two], WORDS).problems]
    assert found == [(one, 3), (one, 5), (two, 22)]


def test_nearly_equal_policies_are_found(tmp_path):
    words = prose(200, 1)
    one = write_policy(tmp_path, "one", words)
    two = write_policy(tmp_path, "two", f"{words} and a little more")
    other = write_policy(tmp_path, "other", prose(200, 2))
    [problem] = lint([one, other, two], WORDS).problems
    assert problem.path == one
    assert "are those of two" in problem.text


def test_a_draft_is_compared_with_the_other_installed_policies(tmp_path):
    words = prose(200, 1)
    installed = [load_policy(write_policy(tmp_path / "in", id_, words)) for id_ in ("one", "two")]
    draft = write_policy(tmp_path / "draft", "one", f"{words} more", version="1.1.0")
    [problem] = lint([draft], WORDS, installed).problems
    assert "are those of two" in problem.text


def test_similarity_is_the_share_of_common_runs_of_five_words():
    assert similarity("a b c d e f", "A, b c d e. F!") == 1
    assert similarity("a b c d e f", "a b c d e g") == pytest.approx(1 / 3)
    assert similarity("a b c d e f", "f e d c b a") == 0
    assert similarity("too short", "too short") == 0


def test_a_policy_that_leaves_no_room_is_a_problem_and_little_room_a_remark(tmp_path):
    [full] = lint([write_policy(tmp_path, "full", prose(4000, 1))], WORDS).findings
    assert full.wrong
    assert "no room for a transcript" in full.text
    [long] = lint([write_policy(tmp_path, "long", prose(2500, 1))], WORDS).findings
    assert not long.wrong
    assert "an estimate" not in long.text
    [guess] = lint([tmp_path / "long.md"], replace(WORDS, exact=False)).findings
    assert "(an estimate)" in guess.text


@pytest.mark.thorough
def test_tokens_are_those_of_the_models_tokenizer(models_root, tmp_path):
    from transformers import AutoTokenizer  # seconds to import

    exact = reading(load_settings({**UNUSED, "MODELS_ROOT": str(models_root)}))
    guess = reading(load_settings({**UNUSED, "MODELS_ROOT": str(tmp_path)}))
    assert (exact.exact, guess.exact) == (True, False)
    [policy, *_] = load_policies(ROOT / "policies")
    ids = AutoTokenizer.from_pretrained(models_root / "demo/gemma-3-270m")(build_prompt(policy.overview, ".")).input_ids
    assert exact.tokens(policy) == len(ids) - 1
    assert exact.tokens(policy) <= guess.tokens(policy) < 1.4 * exact.tokens(policy)
