"""Train the demo's LoRA adapter on its small base model, on a CPU.

The prompt is CoPE-A's, with a policy's Overview and a text; the loss is the cross-entropy over the two answers "0" and
"1" at its last token, plus a small pull on their mass. The adapter sits on every layer: with the lower ones frozen, the
last token never learns where to look. A batch holds texts of one policy, whose tokens are computed once for all of
them, with gradient; that halves the work.

Data: data/train.jsonl. The scenarios that `examples.is_validation` holds back choose the round, data/development.jsonl
the thresholds; the held-out set is not read here. The same seed gives the same draws.

    OMP_WAIT_POLICY=PASSIVE PYTHONPATH=src python -m local.demo_classifier.training.train --base models/demo/BASE
"""

import argparse
import json
import os
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from local.demo_classifier.training.examples import (
    ADAPTER,
    DATA,
    POLICY_IDS,
    Example,
    is_validation,
    labelled,
    like_a_transcript,
    policies,
    policy_tests,
    sample_texts,
    written_for,
)
from local.demo_classifier.training.metrics import auc, best_threshold
from moderation.adapters.cope_a import CopeA, build_prompt
from moderation.prompt_ids import PromptBuilder
from moderation.thresholds import threshold_key

SEED = 7
BATCH = 16
TEXTS_PER_SCENARIO = 1  # drawn anew each round: another variant, disturbed in another way
OTHER_POLICY_SHARE = 0.5  # of the drawn texts are also shown under another policy, where the answer is mostly "0"
NOISE_SHARE = 0.6  # of the texts are disturbed as speech recognition does
LENGTH_NOISE = 40.0  # characters: batches of similar lengths, but other ones each round
WARM_UP_STEPS = 15
MASS_WEIGHT = 0.1  # a small pull on p("0") + p("1"), so that the answer is one of the two and can be checked
RANK = 8
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Answers:
    """Of a batch: the logit of "1" less that of "0", and the logarithm of their mass, each of shape (batch,)."""

    margin: torch.Tensor
    log_mass: torch.Tensor


class Learner:
    """The base model with an adapter on every layer: a fresh one, or one that goes on learning."""

    def __init__(self, base: Path, resume: Path | None) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
        config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=list(TARGETS), task_type="CAUSAL_LM")
        self.model = (
            get_peft_model(model, config)
            if resume is None
            else PeftModel.from_pretrained(model, resume, is_trainable=True)
        )
        self.answers = list(PromptBuilder(self.tokenizer, CopeA(), max_tokens=8192).answers)
        self.overviews = {name: policy.overview for name, policy in policies().items()}
        self.prefixes = {policy: self._prefix(policy) for policy in POLICY_IDS}

    def __call__(self, policy: str, texts: list[str]) -> Answers:
        prefix = self.prefixes[policy]
        tails = [self._ids(policy, text)[len(prefix) :] for text in texts]
        width = max(map(len, tails))
        ids = torch.tensor([tail + [0] * (width - len(tail)) for tail in tails])
        ends = torch.tensor([len(tail) - 1 for tail in tails])
        causal = self.model.base_model.model
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cache = causal.model(input_ids=torch.tensor([prefix]), use_cache=True).past_key_values
            cache.batch_repeat_interleave(len(texts))
            mask = torch.ones(len(texts), len(prefix) + width, dtype=torch.long)
            states = causal.model(input_ids=ids, past_key_values=cache, attention_mask=mask).last_hidden_state
        logits = states[torch.arange(len(texts)), ends].float() @ causal.lm_head.weight.T.float()
        pair = logits[:, self.answers]
        return Answers(pair[:, 1] - pair[:, 0], torch.logsumexp(pair, -1) - torch.logsumexp(logits, -1))

    def parameters(self) -> list[torch.nn.Parameter]:
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def save(self, adapter: Path, base_name: str) -> None:
        """Write the adapter in fp16 (half the size, and enough for weights this small) under a neutral base name."""
        self.model.peft_config["default"].base_model_name_or_path = base_name
        self.model.save_pretrained(adapter)
        weights = adapter / "adapter_model.safetensors"
        save_file({name: tensor.half() for name, tensor in load_file(weights).items()}, weights)
        (adapter / "README.md").unlink(missing_ok=True)  # peft writes an empty form; the model card is ours

    def _ids(self, policy: str, text: str) -> list[int]:
        prompt = build_prompt(self.overviews[policy], text)
        ids: list[int] = self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        return ([self.tokenizer.bos_token_id] if self.tokenizer.bos_token == "<bos>" else []) + ids  # noqa: S105

    def _prefix(self, policy: str) -> list[int]:
        """The tokens that two prompts with nothing in common but the policy share."""
        one, other = self._ids(policy, "abc def"), self._ids(policy, "Zulu 9")
        return one[: next(index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)]


def draw(examples: list[Example], rng: random.Random) -> list[Example]:
    """Some texts of every scenario, under the policy that it was written for and now and then under another."""
    scenarios: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        scenarios[example.scenario].append(example)
    drawn: list[Example] = []
    for scenario, group in scenarios.items():
        texts, own = sorted({example.text for example in group}), scenario.split("/")[0]
        for text in rng.sample(texts, min(TEXTS_PER_SCENARIO, len(texts))):
            shown = [own] if own in POLICY_IDS else [rng.choice(POLICY_IDS)]
            if rng.random() < OTHER_POLICY_SHARE:
                shown.append(rng.choice([policy for policy in POLICY_IDS if policy not in shown]))
            for example in group:
                if example.text == text and example.policy in shown:
                    noisy = like_a_transcript(text, rng) if rng.random() < NOISE_SHARE else text
                    drawn.append(replace(example, text=noisy))
    return drawn


def batches(examples: list[Example], rng: random.Random) -> Iterator[list[Example]]:
    """BATCH examples of one policy and of similar length at a time, in random order."""
    found = []
    for policy in POLICY_IDS:
        own = [example for example in examples if example.policy == policy]
        own.sort(key=lambda example: len(example.text) + rng.random() * LENGTH_NOISE)
        found += [own[start : start + BATCH] for start in range(0, len(own), BATCH)]
    rng.shuffle(found)
    yield from found


def truth(batch: list[Example]) -> torch.Tensor:
    return torch.tensor([float(example.violates) for example in batch])


def train_round(learner: Learner, drawn: list[Example], optimizer: Any, schedule: Any, rng: random.Random) -> float:
    """One pass over the drawn examples -> the mean cross-entropy."""
    losses: list[float] = []
    for batch in batches(drawn, rng):
        answers = learner(batch[0].policy, [example.text for example in batch])
        verdict = cross_entropy(answers.margin, truth(batch))
        (verdict - MASS_WEIGHT * answers.log_mass.mean()).backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(verdict.item())
    return sum(losses) / len(losses)


def validate(learner: Learner, held_back: list[Example]) -> dict[str, tuple[list[float], list[bool]]]:
    """Margins and truths by policy."""
    found = {}
    with torch.inference_mode():
        for policy in POLICY_IDS:
            own = sorted((e for e in held_back if e.policy == policy), key=lambda example: len(example.text))
            margins: list[float] = []
            for start in range(0, len(own), BATCH):
                batch = own[start : start + BATCH]
                margins += learner(policy, [example.text for example in batch]).margin.tolist()
            found[policy] = (margins, [example.violates for example in own])
    return found


def validation_loss(found: dict[str, tuple[list[float], list[bool]]]) -> float:
    losses = [
        float(cross_entropy(torch.tensor(margins), torch.tensor(truths, dtype=torch.float)))
        for margins, truths in found.values()
    ]
    return sum(losses) / len(losses)


def save_thresholds(learner: Learner, development: list[Example], adapter: Path) -> None:
    """Choose them on the development texts and the policies' test sentences, which were written like clips; too many of
    the scenarios are hard cases. The demo's sample clips must come out as their manifest says.
    """
    found = validate(learner, development)
    samples = validate(learner, sample_texts())
    thresholds = {}
    for policy in POLICY_IDS:
        sure = list(zip(*samples[policy], strict=True))
        thresholds[threshold_key(policies()[policy])] = round(best_threshold(*found[policy], sure), 4)
    (adapter / "thresholds.json").write_text(json.dumps(thresholds, indent=2) + "\n")


def mean_auc(found: dict[str, tuple[list[float], list[bool]]]) -> float:
    return sum(auc(margins, truths) for margins, truths in found.values()) / len(found)


def train(base: Path, adapter: Path, rounds: int, learning_rate: float, resume: Path | None, seed: int) -> None:
    """Train, and keep the round with the highest mean AUC on the validation set, with its thresholds, in `adapter`.
    The last round is kept in `adapter`/last: its mean with an earlier adapter (`average.py`) may be better than both.

    AUC and not the loss, which mostly punishes confidence: thresholds are chosen for each policy afterwards.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)  # noqa: S311 -- not a secret
    examples = labelled(DATA / "train.jsonl")
    development = [
        example for policy in POLICY_IDS for example in (*written_for(policy, "development"), *policy_tests(policy))
    ]
    learn_from = [example for example in examples if not is_validation(example.scenario)]
    held_back = draw([example for example in examples if is_validation(example.scenario)], random.Random(1))  # noqa: S311
    learner = Learner(base, resume)
    steps = rounds * sum(1 for _ in batches(draw(learn_from, random.Random(0)), random.Random(0)))  # noqa: S311
    optimizer = torch.optim.AdamW(learner.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / WARM_UP_STEPS) * max(0.05, 1 - step / max(1, steps))
    )
    best = 0.0
    if resume is not None:
        found = validate(learner, held_back)
        best = mean_auc(found)
        print(f"before: mean AUC {best:.4f}", flush=True)
        if rounds == 0:
            save_thresholds(learner, development, adapter)
    started = time.monotonic()
    for number in range(1, rounds + 1):
        loss = train_round(learner, draw(learn_from, rng), optimizer, schedule, rng)
        found = validate(learner, held_back)
        quality = " ".join(f"{auc(margins, truths):.3f}" for margins, truths in found.values())
        minutes = (time.monotonic() - started) / 60
        print(
            f"round {number}: loss {loss:.3f}; validation: loss {validation_loss(found):.3f}, AUC {quality}; "
            f"{minutes:.0f} min",
            flush=True,
        )
        if mean_auc(found) > best:
            best = mean_auc(found)
            learner.save(adapter, base.name)
            save_thresholds(learner, development, adapter)
    if rounds:
        learner.save(adapter / "last", base.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="folder of the base model")
    parser.add_argument("--adapter", type=Path, default=ADAPTER)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--resume", type=Path, help="adapter to go on from")
    parser.add_argument("--seed", type=int, default=SEED, help="another one than the rounds before, when going on")
    parser.add_argument("--threads", type=int, default=1, help="more than there are free cores is much slower")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(
        arguments.base, arguments.adapter, arguments.rounds, arguments.learning_rate, arguments.resume, arguments.seed
    )


if __name__ == "__main__":
    main()
