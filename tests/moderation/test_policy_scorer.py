"""Each trap on the way from text to score, on a tiny Gemma-2 with a LoRA adapter."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from errors import DeviceMemoryError, ModelError, OperatorError
from moderation.adapters.cope_a import CopeA, build_prompt
from moderation.loading import check_attention, load_scorer
from moderation.policies import Policy
from moderation.policy_scorer import PolicyScorer
from moderation.prompt_ids import OMISSION, PromptBuilder
from tests.moderation.tiny_model import CPU, TinyModel

POLICY = Policy(
    "spam", "1.0.0", "Spam", 0.5, "No spam.", "## Overview\n\nNo spam.\n\n## More\n\n" + "Rules. " * 40, "0"
)
TEXTS = [
    "hi",
    "buy apples now, the fox says so " * 20,
    "\u00f1and\u00fa \U0001f600 \u4f60\u597d",
    "",
    "the lazy dog " * 5,
]
Make = Callable[..., PolicyScorer]
Calls = list[dict[str, Any]]


@pytest.fixture(scope="module")
def scorer(tiny: TinyModel) -> PolicyScorer:
    return load_scorer(tiny.files(), CPU)


@functools.cache
def reference(tiny: TinyModel, *, merge: bool = True, attention: str = "eager") -> Any:
    """Base and adapter, loaded straight by the libraries."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny.base, dtype=torch.float32, attn_implementation=attention)
    adapted = PeftModel.from_pretrained(model, tiny.adapter)
    return (adapted.merge_and_unload() if merge else adapted).eval()


@pytest.fixture(scope="module")
def tokenizer(tiny: TinyModel) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny.base)


@pytest.fixture
def make(tiny: TinyModel, tokenizer: Any) -> Make:
    """Make a scorer that has seen no policy yet, on the reference's model."""

    def scorer(*, max_tokens: int = 8192, tokens_per_batch: int = 8192) -> PolicyScorer:
        return PolicyScorer(
            reference(tiny),
            PromptBuilder(tokenizer, CopeA(), max_tokens),
            name="tiny",
            prompt_version="cope-a-1",
            policy_text="full",
            thresholds={},
            tokens_per_batch=tokens_per_batch,
        )

    return scorer


@pytest.fixture
def spied(tiny: TinyModel, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The arguments of every forward pass of the reference's model."""
    calls: Calls = []
    model = reference(tiny)
    real = model.forward

    def forward(**arguments: Any) -> Any:
        result = real(**arguments)
        calls.append(arguments | {"logits_shape": tuple(result.logits.shape)})
        return result

    monkeypatch.setattr(model, "forward", forward)
    return calls


def full_prompt_reference(tiny: TinyModel, text: str, *, body: str = POLICY.body, **how: Any) -> float:
    """p_violation the slow way: one prompt, no padding, all logits, straight from the libraries."""
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny.base)
    ids = tokenizer(build_prompt(body, text), return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        logits = reference(tiny, **how)(input_ids=ids).logits[0, -1].float()
    pair = logits[[tokenizer.convert_tokens_to_ids("0"), tokenizer.convert_tokens_to_ids("1")]]
    return float(torch.softmax(pair, -1)[1])


def batches(calls: Calls) -> list[int]:
    """How many texts each pass computed; the policies' passes, which compute one prefix, are left out."""
    return [call["input_ids"].shape[0] for call in calls if "attention_mask" in call]


def test_scores_equal_the_reference_text_by_text(tiny: TinyModel, scorer: PolicyScorer) -> None:
    scores = scorer.score(POLICY, TEXTS)
    for text, score in zip(TEXTS, scores, strict=True):
        assert score.p_violation == pytest.approx(full_prompt_reference(tiny, text), abs=1e-4)
        assert 0 < score.p_answer < 1
        assert not score.truncated
    assert len({round(score.p_violation, 5) for score in scores}) == len(TEXTS)  # texts of unlike length and order


def test_a_result_does_not_depend_on_its_neighbours(scorer: PolicyScorer) -> None:
    together = scorer.score(POLICY, TEXTS)
    alone = [scorer.score(POLICY, [text])[0] for text in TEXTS]
    backwards = scorer.score(POLICY, TEXTS[::-1])[::-1]
    for one, other, third in zip(together, alone, backwards, strict=True):
        assert one.p_violation == pytest.approx(other.p_violation, abs=1e-4)
        assert one.p_violation == pytest.approx(third.p_violation, abs=1e-4)
        assert one.p_answer == pytest.approx(other.p_answer, rel=1e-3)


def test_the_merged_adapter_equals_the_unmerged(tiny: TinyModel) -> None:
    for text in TEXTS[:2]:
        unmerged = full_prompt_reference(tiny, text, merge=False)
        assert full_prompt_reference(tiny, text) == pytest.approx(unmerged, abs=1e-4)


def test_no_texts_no_scores(scorer: PolicyScorer) -> None:
    assert scorer.score(POLICY, []) == []


# --- the traps -------------------------------------------------------------------------------------------------------


def test_padding_is_on_the_right_and_each_answer_is_read_at_its_own_end(
    tiny: TinyModel, make: Make, spied: Calls
) -> None:
    texts = ["hi", "a somewhat longer text about apples"]
    scores = make().score(POLICY, texts)
    call = spied[-1]
    mask = call["attention_mask"]
    assert mask.shape[0] == 2
    assert bool((mask[:, 0] == 1).all())
    assert int(mask.sum()) < mask.numel()
    for text, score in zip(texts, scores, strict=True):
        assert score.p_violation == pytest.approx(full_prompt_reference(tiny, text), abs=1e-5)


def test_one_position_of_logits_is_computed_for_each_text(make: Make, spied: Calls) -> None:
    make().score(POLICY, ["hi", "ho", "a somewhat longer text about apples"])
    assert spied[-1]["logits_shape"][:2] == (3, 1)  # two lengths, which `logits_to_keep` would compute for all three
    assert spied[-1]["input_ids"].shape[1] > 2


def test_the_policy_is_computed_once_and_the_scores_are_those_of_the_whole_prompt(
    tiny: TinyModel, spied: Calls, make: Make, tokenizer: Any
) -> None:
    other = replace(POLICY, body="## Overview\n\nThis policy covers apples and foxes.", sha256="other")
    scorer = make()
    scores = [scorer.score(other, [text])[0].p_violation for text in TEXTS]
    passes = list(spied)
    assert scores == pytest.approx([full_prompt_reference(tiny, text, body=other.body) for text in TEXTS], abs=1e-5)
    head = len(PromptBuilder(tokenizer, CopeA(), 8192).head(other.body))
    assert [call["input_ids"].shape[1] for call in passes if "attention_mask" not in call] == [head]


def test_the_budget_of_a_batch_counts_what_is_computed_and_not_the_policy(make: Make, spied: Calls) -> None:
    texts = [f"text {number}" for number in range(8)]
    make(tokens_per_batch=240).score(POLICY, texts)  # each computes some 25 tokens behind 340 of the policy
    assert batches(spied) == [8]
    spied.clear()
    make(tokens_per_batch=100).score(POLICY, texts)
    assert batches(spied) == [4, 4]


def test_a_batch_holds_similar_lengths_within_the_budget(make: Make, spied: Calls) -> None:
    texts = ["word " * count for count in (5, 100, 7, 90, 300, 6)]
    make(tokens_per_batch=400).score(POLICY, texts)
    passes = [call["input_ids"] for call in spied if "attention_mask" in call]
    assert passes[0].numel() > 400  # longer than the budget: alone
    assert all(ids.numel() <= 400 or ids.shape[0] == 1 for ids in passes)
    assert passes[-1].shape[0] >= 3
    assert sum(ids.shape[0] for ids in passes) == len(texts)


def test_equal_texts_of_one_call_are_computed_once(make: Make, spied: Calls) -> None:
    scores = make().score(POLICY, ["again", "once", "again", "again"])
    assert batches(spied) == [2]
    assert scores[0] == scores[2] == scores[3] != scores[1]


def test_attention_is_eager_because_sdpa_drops_the_soft_cap(tiny: TinyModel, scorer: PolicyScorer) -> None:
    from transformers import AutoModelForCausalLM

    assert scorer.score(POLICY, TEXTS[1:2])[0].p_violation == pytest.approx(
        full_prompt_reference(tiny, TEXTS[1]), abs=1e-5
    )
    other = AutoModelForCausalLM.from_pretrained(tiny.base, attn_implementation="sdpa")
    with pytest.raises(ModelError, match="soft-cap"):
        check_attention(other)
    # The trap is real: sdpa is accepted without a word and gives another answer.
    text = TEXTS[1]
    assert full_prompt_reference(tiny, text, attention="sdpa") != pytest.approx(
        full_prompt_reference(tiny, text), abs=1e-5
    )


def test_too_long_a_text_loses_its_middle_and_keeps_the_answer(spied: Calls, make: Make, tokenizer: Any) -> None:
    longest = len(tokenizer(build_prompt(POLICY.body, ""))["input_ids"]) + 60
    (score,) = make(max_tokens=longest).score(POLICY, ["first " + "x y z " * 400 + " last"])
    assert score.truncated
    assert spied[-1]["attention_mask"].shape[1] <= longest
    ids = [token for call in spied for token in call["input_ids"][0].tolist()]  # the policy's pass, the text's
    text = tokenizer.decode(ids)
    assert ids.count(tokenizer.bos_token_id) == 1
    assert text.endswith("last\n\n\nANSWER\n======\n\n")
    assert POLICY.body.strip() in text
    assert "first" in text
    assert OMISSION.strip() in text


def test_a_policy_longer_than_the_window_is_the_operators_matter(make: Make) -> None:
    with pytest.raises(OperatorError, match="policy spam is too long"):
        make(max_tokens=50).score(POLICY, ["hi"])


def test_braces_in_texts_are_letters(scorer: PolicyScorer) -> None:
    assert len(scorer.score(POLICY, ["{policy} {0} %s"])) == 1


# --- memory ----------------------------------------------------------------------------------------------------------


def fail_beyond(tiny: TinyModel, monkeypatch: pytest.MonkeyPatch, texts: int) -> list[int]:
    """Let the device run out of memory when more than so many texts are computed at once -> the sizes tried."""
    import torch

    tried: list[int] = []
    model = reference(tiny)
    real = model.forward

    def forward(**arguments: Any) -> Any:
        if "attention_mask" in arguments:
            tried.append(arguments["input_ids"].shape[0])
            if tried[-1] > texts:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return real(**arguments)

    monkeypatch.setattr(model, "forward", forward)
    return tried


def test_a_batch_that_does_not_fit_is_halved_and_the_size_that_works_is_kept(
    tiny: TinyModel, make: Make, scorer: PolicyScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"a text with the number {number}" for number in range(10, 18)]
    expected = [score.p_violation for score in scorer.score(POLICY, texts)]
    tried = fail_beyond(tiny, monkeypatch, 3)
    small = make()
    assert [score.p_violation for score in small.score(POLICY, texts)] == pytest.approx(expected, abs=1e-5)
    assert tried[0] == 8
    assert sum(size for size in tried if size <= 3) == 8
    failed = sum(size > 3 for size in tried)
    assert failed <= 2
    small.score(POLICY, texts)
    assert sum(size > 3 for size in tried) == failed  # no second try of a size that failed


def test_one_text_that_does_not_fit_tells_what_to_do(
    tiny: TinyModel, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = fail_beyond(tiny, monkeypatch, 0)
    with pytest.raises(DeviceMemoryError, match=r"one text of \d+ tokens .*nvidia-smi.* BATCH_SIZE.* max_tokens"):
        make().score(POLICY, ["hi", "ho"])
    assert tried == [2, 1]


def test_another_error_of_the_device_stays_what_it_is(
    tiny: TinyModel, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(**_: object) -> None:
        raise RuntimeError("CUDA error: an illegal instruction was encountered")

    monkeypatch.setattr(reference(tiny), "forward", forward)
    with pytest.raises(RuntimeError, match="illegal instruction"):
        make().score(POLICY, ["hi", "ho"])
