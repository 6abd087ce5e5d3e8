"""Known sources of wrong verdicts between text and verdict, tested on a tiny Gemma-2 with a LoRA adapter."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from errors import ModelError, OperatorError
from moderation.cope_a import CopeA, _batches, answer_ids, check_attention, load_cope_a
from moderation.policies import Policy
from moderation.prompt import OMISSION, PROMPT_VERSION, build_prompt, prompt_head
from system.device import Device

CPU = Device("cpu", "CPU", "int8", "float32")
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


@dataclass(frozen=True)  # hence hashable, for the cache of references
class TinyModel:  # as conftest's
    base: Path
    adapter: Path


def load(tiny: TinyModel, **settings: Any) -> CopeA:
    return load_cope_a(tiny.base, tiny.adapter, device=CPU, name="tiny", **settings)


@pytest.fixture(scope="module")
def scorer(tiny: TinyModel) -> CopeA:
    return load(tiny)


@functools.cache
def reference(tiny: TinyModel, *, merge: bool = True, attention: str = "eager") -> Any:
    """Base and adapter, loaded directly by the libraries."""
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
def make(tiny: TinyModel, tokenizer: Any) -> Callable[..., CopeA]:
    """Make a scorer that has seen no policy yet, on the reference's model."""

    def scorer(**settings: Any) -> CopeA:
        usual: dict[str, Any] = {"policy_text": "full", "thresholds": {}, "max_tokens": 8192, "tokens_per_batch": 8192}
        return CopeA(reference(tiny), tokenizer, name="tiny", **(usual | settings))

    return scorer


@pytest.fixture
def spied(tiny: TinyModel, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of every forward pass of the reference's model."""
    calls: list[dict[str, Any]] = []
    model = reference(tiny)
    real = model.forward

    def forward(**arguments: Any) -> Any:
        result = real(**arguments)
        calls.append(arguments | {"logits_shape": tuple(result.logits.shape)})
        return result

    monkeypatch.setattr(model, "forward", forward)
    return calls


def full_prompt_reference(tiny: TinyModel, text: str, *, body: str = POLICY.body, **how: Any) -> float:
    """p_violation calculated slowly: one prompt, no padding, all logits, directly with the libraries."""
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny.base)
    ids = tokenizer(build_prompt(body, text), return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        logits = reference(tiny, **how)(input_ids=ids).logits[0, -1].float()
    pair = logits[[tokenizer.convert_tokens_to_ids("0"), tokenizer.convert_tokens_to_ids("1")]]
    return float(torch.softmax(pair, -1)[1])


def test_scores_equal_the_reference_text_by_text(tiny: TinyModel, scorer: CopeA) -> None:
    scores = scorer.score(POLICY, TEXTS)
    for text, score in zip(TEXTS, scores, strict=True):
        assert score.p_violation == pytest.approx(full_prompt_reference(tiny, text), abs=1e-4)
        assert 0 < score.p_answer < 1
        assert not score.truncated
    assert len({round(score.p_violation, 5) for score in scores}) == len(TEXTS)  # texts of unlike length and order


def test_a_result_does_not_depend_on_its_neighbours(scorer: CopeA) -> None:
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


def test_the_adapter_makes_a_difference(tiny: TinyModel, scorer: CopeA) -> None:
    base_only = load_cope_a(tiny.base, None, device=CPU, name="base")
    assert base_only.score(POLICY, ["hi"])[0].p_violation != pytest.approx(
        scorer.score(POLICY, ["hi"])[0].p_violation, abs=1e-4
    )


def test_no_texts_no_scores(scorer: CopeA) -> None:
    assert scorer.score(POLICY, []) == []


# --- the traps -------------------------------------------------------------------------------------------------------


def test_padding_is_on_the_right_and_each_answer_is_read_at_its_own_end(
    make: Callable[..., CopeA], spied: list[dict[str, Any]]
) -> None:
    make().score(POLICY, ["hi", "a somewhat longer text about apples"])
    call = spied[-1]
    mask, width = call["attention_mask"], call["input_ids"].shape[1]
    assert mask.shape[0] == 2
    assert bool((mask[:, 0] == 1).all())
    assert int(mask.sum()) < mask.numel()
    shared = mask.shape[1] - width
    assert sorted(call["logits_to_keep"].tolist()) == sorted(int(row.sum()) - 1 - shared for row in mask)


def test_only_the_last_tokens_logits_are_computed(make: Callable[..., CopeA], spied: list[dict[str, Any]]) -> None:
    make().score(POLICY, ["hi", "ho", "a somewhat longer text about apples"])
    assert spied[-1]["logits_shape"][1] == 2  # two lengths
    assert spied[-1]["input_ids"].shape[1] > 2


def test_the_policy_is_computed_once_and_the_scores_are_those_of_the_whole_prompt(
    tiny: TinyModel, spied: list[dict[str, Any]], make: Callable[..., CopeA]
) -> None:
    other = replace(POLICY, body="## Overview\n\nThis policy covers apples and foxes.", sha256="other")
    scorer = make()
    scores = [scorer.score(other, [text])[0].p_violation for text in TEXTS]
    passes = list(spied)
    assert scores == pytest.approx([full_prompt_reference(tiny, text, body=other.body) for text in TEXTS], abs=1e-5)
    head = len(scorer.encode(prompt_head(other.body)))
    computed = [call["input_ids"].shape[1] for call in passes]
    assert sum(width in range(head - 3, head + 1) for width in computed) == 1


def test_attention_is_eager_because_sdpa_drops_the_soft_cap(tiny: TinyModel, scorer: CopeA) -> None:
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


def test_one_beginning_token_and_never_two(scorer: CopeA, tokenizer: Any) -> None:
    ids = scorer.encode(build_prompt("p", "c"))
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1


def test_the_prompt_ends_with_answer_ruler_and_newlines(scorer: CopeA, tokenizer: Any) -> None:
    ids = scorer.encode(build_prompt("p", "c"))
    assert tokenizer.decode(ids, skip_special_tokens=True) == build_prompt("p", "c")
    assert tokenizer.decode(ids[-30:]).endswith("ANSWER\n======\n\n")


def test_the_answers_are_single_tokens_behind_the_prompt(tokenizer: Any) -> None:
    assert answer_ids(tokenizer) == (tokenizer.convert_tokens_to_ids("0"), tokenizer.convert_tokens_to_ids("1"))


def test_a_tokenizer_without_such_tokens_is_refused() -> None:
    class Bytes:
        """A tokenizer that uses two tokens for every character, also for the answers."""

        unk_token_id = None

        def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
            return {"input_ids": [half for letter in text.encode() for half in divmod(letter, 16)]}

        def decode(self, ids: list[int]) -> str:
            return bytes(high * 16 + low for high, low in zip(ids[::2], ids[1::2], strict=False)).decode()

    with pytest.raises(ModelError, match="not a single token"):
        answer_ids(Bytes())


def test_too_long_a_text_loses_its_middle_and_keeps_the_answer(
    spied: list[dict[str, Any]], make: Callable[..., CopeA], scorer: CopeA, tokenizer: Any
) -> None:
    longest = len(scorer.encode(build_prompt(POLICY.body, ""))) + 60
    small = make(max_tokens=longest)
    (score,) = small.score(POLICY, ["first " + "x y z " * 400 + " last"])
    assert score.truncated
    assert spied[-1]["attention_mask"].shape[1] <= longest
    text = "".join(tokenizer.decode(call["input_ids"][0]) for call in spied)  # the policy's pass, the text's
    assert text.endswith("ANSWER\n======\n\n")
    assert POLICY.body.strip() in text
    assert "first" in text
    assert OMISSION.strip() in text
    assert "last" in text


def test_a_policy_longer_than_the_window_is_the_operators_matter(make: Callable[..., CopeA]) -> None:
    small = make(max_tokens=50)
    with pytest.raises(OperatorError, match="policy spam is too long"):
        small.score(POLICY, ["hi"])


def test_a_clip_cannot_speak_control_tokens(
    make: Callable[..., CopeA], spied: list[dict[str, Any]], tokenizer: Any
) -> None:
    make().score(POLICY, ["innocent <eos> <bos> words"])
    ids = [token for call in spied for token in call["input_ids"][0].tolist()]
    assert ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.eos_token_id not in ids


def test_braces_in_texts_are_letters(scorer: CopeA) -> None:
    assert len(scorer.score(POLICY, ["{policy} {0} %s"])) == 1


# --- start-up --------------------------------------------------------------------------------------------------------


def test_a_model_that_wants_to_say_something_else_is_refused(tiny: TinyModel) -> None:
    with pytest.raises(ModelError, match="does not answer") as caught:
        load(tiny, min_p_answer=0.9)
    assert str(tiny.adapter) in str(caught.value)


def test_missing_files_are_named_with_the_command_that_brings_them(tiny: TinyModel, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="python -m models fetch") as caught:
        load_cope_a(tiny.base, tmp_path / "nowhere", device=CPU, name="x")
    assert str(tmp_path / "nowhere") in str(caught.value)


def test_damaged_weights_are_a_model_error(tiny: TinyModel, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny.base, base)
    (base / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be read"):
        load_cope_a(base, None, device=CPU, name="x")


def test_an_adapter_for_another_model_is_refused(tiny: TinyModel, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    shutil.copytree(tiny.adapter, adapter)
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["target_modules"] = ["c_attn"]
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="cannot be read"):
        load_cope_a(tiny.base, adapter, device=CPU, name="x")


def test_out_of_memory_tells_what_to_turn(
    tiny: TinyModel, make: Callable[..., CopeA], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def forward(**_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(reference(tiny), "forward", forward)
    with pytest.raises(OperatorError, match="reduce BATCH_SIZE"):
        make().score(POLICY, ["hi"])


# --- settings --------------------------------------------------------------------------------------------------------


def test_a_model_may_bring_thresholds_of_its_own(tiny: TinyModel) -> None:
    scorer = load(tiny, thresholds={"spam": 0.9})
    assert scorer.threshold(POLICY) == 0.9
    assert load(tiny).threshold(POLICY) == POLICY.threshold


def test_a_small_model_may_read_the_overview_only(tiny: TinyModel, scorer: CopeA) -> None:
    small = load(tiny, policy_text="overview")
    assert small.prompt_version == f"{PROMPT_VERSION}-overview"
    assert scorer.prompt_version == PROMPT_VERSION
    overview_policy = Policy("spam", "1.0.0", "Spam", 0.5, "", POLICY.overview, "0")
    assert small.score(POLICY, ["hi"])[0].p_violation == pytest.approx(
        scorer.score(overview_policy, ["hi"])[0].p_violation, abs=1e-6
    )


def test_batches_hold_similar_lengths_within_the_budget() -> None:
    lengths = [5, 100, 7, 90, 300, 6]
    batches = list(_batches(lengths, 200))
    assert sorted(index for batch in batches for index in batch) == list(range(6))
    assert batches[0] == [4]  # longer than the budget: alone
    for batch in batches[1:]:
        assert max(lengths[index] for index in batch) * len(batch) <= 200
