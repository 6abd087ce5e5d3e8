"""Train the demo's LoRA adapter on a small base model, on CPU.

Data: data/train.jsonl; scenarios held back by `examples.is_validation` choose the best round and the thresholds.
Neither data/heldout.jsonl nor policies/tests is read here.

PER_SCENARIO texts are drawn of each scenario, disturbed like speech recognition does, against the policy that the
scenario was written for, and some of them against another policy. Each round shows all of them. A batch holds texts of
one policy, so that the policy's tokens are computed once for all of them. Everything random is seeded.

    nice -n 5 python -m local.demo_classifier.train --base models/demo/smollm2-135m-instruct
"""

import argparse
import json
import random
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from local.demo_classifier.examples import (
    DATA,
    HERE,
    POLICY_IDS,
    Example,
    is_validation,
    labelled,
    like_a_transcript,
    overviews,
)
from local.demo_classifier.halves import Halves, Prepared
from local.demo_classifier.metrics import auc, best_threshold
from local.demo_classifier.scorer import Answer, Scorer, load_base

STARTED = time.monotonic()
SEED = 7
ROUNDS = 3
PER_SCENARIO = 2
OTHER_POLICY_SHARE = 0.25  # of the drawn texts are also shown with another policy
BATCH = 16
LENGTH_NOISE = 8.0  # tokens: batches differ from round to round
LEARNING_RATE = 8e-4
WARM_UP_STEPS = 10
MASS_WEIGHT = 0.1  # a small pull on p("0") + p("1"), so that the answer is one of the two and can be checked
# A linear head, thrown away afterwards, reads the verdict from the mean state halfway up: the last token learns slowly
# where to look, while every other token can learn at once what it says about the policy.
EARLY_WEIGHT = 0.5
HEAD_LEARNING_RATE = 3e-3
RANK = 8
SPLIT = 9  # of 30 layers, those below stay frozen: higher up, the last token hardly looks at the text any more
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Pool:
    """Examples of one policy with their prepared states: `prepared.tails[i]` belongs to `examples[i]`."""

    examples: list[Example]
    prepared: Prepared


@dataclass(frozen=True)
class Learner:
    """What a training step changes: the adapter within `halves`, the head, and the state of the optimizer."""

    halves: Halves
    head: torch.nn.Linear
    optimizer: Optimizer
    schedule: LRScheduler


def by_scenario(examples: list[Example]) -> dict[str, list[Example]]:
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        groups[example.scenario].append(example)
    return groups


def draw(examples: list[Example], rng: random.Random) -> list[Example]:
    """PER_SCENARIO disturbed texts of every scenario, each with the scenario's own policy and some with another.

    Everyday texts have no policy of their own and get one by chance.
    """
    drawn: list[Example] = []
    for scenario, group in by_scenario(examples).items():
        texts = sorted({example.text for example in group})
        own = scenario.split("/")[0]
        for text in rng.sample(texts, min(PER_SCENARIO, len(texts))):
            policies = [own] if own in POLICY_IDS else [rng.choice(POLICY_IDS)]
            if rng.random() < OTHER_POLICY_SHARE:
                policies.append(rng.choice([policy for policy in POLICY_IDS if policy not in policies]))
            shown = [example for example in group if example.text == text and example.policy in policies]
            drawn.extend(replace(example, text=like_a_transcript(text, rng)) for example in shown)
    return drawn


def validation_set(examples: list[Example], rng: random.Random) -> list[Example]:
    """Of each held-back scenario one clean and one disturbed text with its own policy; everyday texts with all four."""
    chosen: list[Example] = []
    for scenario, group in by_scenario(examples).items():
        texts = sorted({example.text for example in group})
        for example in group:
            if example.policy == scenario.split("/")[0]:
                if example.text == texts[0]:
                    chosen.append(example)
                elif example.text == texts[-1]:
                    chosen.append(replace(example, text=like_a_transcript(example.text, rng)))
            elif scenario.split("/")[0] not in POLICY_IDS and example.text == texts[0]:
                chosen.append(example)
    return chosen


def pools(halves: Halves, examples: list[Example], texts: dict[str, str]) -> dict[str, Pool]:
    """The examples by policy, with the states of the frozen layers."""
    found: dict[str, Pool] = {}
    for policy in POLICY_IDS:
        rows = [example for example in examples if example.policy == policy]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found[policy] = Pool(rows, halves.prepare(texts[policy], [row.text for row in rows], BATCH))
    return found


def batches(pool: Pool, rng: random.Random) -> list[list[int]]:
    """Indices into the pool, BATCH at a time: texts of similar length together, since padding costs as much as text."""
    noise = [len(tail) + rng.random() * LENGTH_NOISE for tail in pool.prepared.tails]
    order = sorted(range(len(noise)), key=noise.__getitem__)
    return [order[start : start + BATCH] for start in range(0, len(order), BATCH)]


def answers(halves: Halves, pool: Pool, chosen: list[int]) -> tuple[Answer, torch.Tensor]:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return halves.answers(pool.prepared.prefix, [pool.prepared.tails[index] for index in chosen])


def truth(pool: Pool, chosen: list[int]) -> torch.Tensor:
    return torch.tensor([float(pool.examples[index].violates) for index in chosen])


def new_learner(halves: Halves, steps: int) -> Learner:
    """Optimizer with a warm-up and a linear decay over `steps`, and a fresh head."""
    head = torch.nn.Linear(halves.upper.config.hidden_size, len(POLICY_IDS))
    adapter = [parameter for parameter in halves.upper.parameters() if parameter.requires_grad]
    groups = [{"params": adapter, "lr": LEARNING_RATE}, {"params": head.parameters(), "lr": HEAD_LEARNING_RATE}]
    optimizer = torch.optim.AdamW(groups)
    schedule = LambdaLR(optimizer, lambda step: min((step + 1) / WARM_UP_STEPS, max(0.05, 1 - step / steps)))
    return Learner(halves, head, optimizer, schedule)


def train_round(learner: Learner, data: dict[str, Pool], rng: random.Random) -> float:
    """One pass over the data in batches of one policy each; the mean cross-entropy over the two answers.

    Two small terms stand beside it: one on the mass of the two answers, one on the head's verdict.
    """
    plan = [(pool, chosen) for pool in data.values() for chosen in batches(pool, rng)]
    rng.shuffle(plan)
    total = 0.0
    for pool, chosen in plan:
        last, mean = answers(learner.halves, pool, chosen)
        target = truth(pool, chosen)
        column = POLICY_IDS.index(pool.examples[0].policy)
        verdict = binary_cross_entropy_with_logits(last.margin, target)
        early_verdict = binary_cross_entropy_with_logits(learner.head(mean)[:, column], target)
        (verdict + EARLY_WEIGHT * early_verdict - MASS_WEIGHT * last.log_mass.mean()).backward()
        torch.nn.utils.clip_grad_norm_(learner.halves.upper.parameters(), 1.0)
        learner.optimizer.step()
        learner.optimizer.zero_grad()
        learner.schedule.step()
        total += verdict.item()
    return total / len(plan)


def validate(halves: Halves, data: dict[str, Pool]) -> dict[str, list[float]]:
    """Logit margins by policy, in the order of the pool's examples."""
    found: dict[str, list[float]] = {}
    with torch.inference_mode():
        for policy, pool in data.items():
            indices = range(len(pool.examples))
            parts = [
                answers(halves, pool, list(indices[s : s + BATCH]))[0].margin for s in range(0, len(indices), BATCH)
            ]
            found[policy] = torch.cat(parts).tolist()
    return found


def validation_loss(margins: dict[str, list[float]], data: dict[str, Pool]) -> float:
    """Mean cross-entropy over the texts written for each policy; everyday texts are too easy to steer by."""
    losses = []
    for policy, pool in data.items():
        own = [index for index, example in enumerate(pool.examples) if example.scenario.startswith(policy)]
        found = torch.tensor([margins[policy][index] for index in own])
        losses.append(float(binary_cross_entropy_with_logits(found, truth(pool, own))))
    return sum(losses) / len(losses)


def with_adapter(scorer: Scorer) -> Scorer:
    """The scorer with fresh LoRA weights on the layers from SPLIT up. Frozen ones are bf16: less to read."""
    for module in scorer.model.modules():
        if isinstance(module, torch.nn.Linear):
            module.to(torch.bfloat16)
    layers = list(range(SPLIT, scorer.model.config.num_hidden_layers))
    config = LoraConfig(
        r=RANK,
        lora_alpha=2 * RANK,
        target_modules=list(TARGETS),
        layers_to_transform=layers,
        task_type="CAUSAL_LM",
    )
    return Scorer(get_peft_model(scorer.model, config), scorer.tokenizer, scorer.answer_ids)


def save(scorer: Scorer, adapter: Path, base_name: str) -> None:
    """Write the adapter in fp16 (half the size, and enough for weights this small) under a neutral base name."""
    model: PeftModel = scorer.model
    model.peft_config["default"].base_model_name_or_path = base_name
    model.save_pretrained(adapter)
    weights = adapter / "adapter_model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(weights).items()}, weights)
    (adapter / "README.md").unlink(missing_ok=True)  # peft writes an empty form; the model card is ours


def save_thresholds(margins: dict[str, list[float]], data: dict[str, Pool], adapter: Path) -> None:
    thresholds = {
        policy: round(best_threshold(margins[policy], [example.violates for example in pool.examples]), 4)
        for policy, pool in data.items()
    }
    (adapter / "thresholds.json").write_text(json.dumps(thresholds, indent=2) + "\n")


def report(
    number: int, loss: float, held_back_loss: float, margins: dict[str, list[float]], data: dict[str, Pool]
) -> None:
    quality = [auc(margins[policy], [example.violates for example in pool.examples]) for policy, pool in data.items()]
    shown = " ".join(f"{value:.3f}" for value in quality)
    minutes, used = (time.monotonic() - STARTED) / 60, time.process_time() / 60
    print(
        f"round {number}: loss {loss:.3f}, validation loss {held_back_loss:.3f}, AUC {shown}; "
        f"{minutes:.1f} min, {used:.1f} min of CPU",
        flush=True,
    )


def train(base: Path, adapter: Path, base_name: str, rounds: int) -> None:
    """Train, keep the round with the lowest validation loss, and write it with its thresholds to `adapter`."""
    torch.manual_seed(SEED)
    rng = random.Random(SEED)  # noqa: S311 - not a secret
    texts = overviews()
    examples = labelled(DATA / "train.jsonl")
    halves = Halves(with_adapter(load_base(base)), SPLIT)
    learnt = pools(halves, draw([e for e in examples if not is_validation(e.scenario)], rng), texts)
    held_back = pools(halves, validation_set([e for e in examples if is_validation(e.scenario)], rng), texts)
    sizes = {policy: (len(pool.examples), len(held_back[policy].examples)) for policy, pool in learnt.items()}
    print(f"texts to learn and held back: {sizes}; {(time.monotonic() - STARTED) / 60:.1f} min", flush=True)
    steps = rounds * sum(len(batches(pool, rng)) for pool in learnt.values())
    learner = new_learner(halves, steps)
    best = float("inf")
    for number in range(1, rounds + 1):
        loss = train_round(learner, learnt, rng)
        margins = validate(halves, held_back)
        held_back_loss = validation_loss(margins, held_back)
        report(number, loss, held_back_loss, margins, held_back)
        if held_back_loss < best:
            best = held_back_loss
            save(halves.scorer, adapter, base_name)
            save_thresholds(margins, held_back, adapter)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=Path("models/demo/smollm2-135m-instruct"))
    parser.add_argument("--adapter", type=Path, default=HERE / "adapter", help="folder to write")
    parser.add_argument("--base-name", default="SmolLM2-135M-Instruct", help="what the adapter calls its base")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    train(args.base, args.adapter, args.base_name, args.rounds)


if __name__ == "__main__":
    main()
