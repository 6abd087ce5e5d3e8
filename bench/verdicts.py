"""Verdicts with full policies: our scorer against one `generate` per clip and policy, and against padded batches.

    PYTHONPATH=src:. python -m bench.verdicts [--texts N] [--policies N] [--few N]

All use the same weights in the same number format, policy by policy in turn. The texts are those of the sample clips
and of the policies' test sets. `generate` on the full prompt, one at a time, is the reference: its verdicts must be
ours, and the probabilities must be the same but for rounding. The model is the demo's; it reads the full policies here,
as CoPE-A does, so its verdicts are not those of the demo.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from bench.loading import load_scorer
from bench.meter import Spent
from bench.report import ROOT, Table, number, print_table, share, write_json
from local.samples.archive import load_manifest
from models.sets import resolve
from moderation.policies import Policy, load_policies
from moderation.scorer import Scorer
from system.device import Device, choose_device

# CoPE-A's prompt, written here a second time: the reference shares no code with what it is compared with.
HEAD = """INSTRUCTIONS
============

Examine the given POLICY and determine if the given CONTENT meets the criteria for ANY of the LABELS. \
Answer "1" if yes, and "0" if no.


POLICY
======

{policy}


CONTENT
=======

"""
TAIL = """


ANSWER
======

"""
OURS = "ours"
BATCH = 8  # prompts in a padded batch, as in the examples that people start from
MOST_DIFFERENCE = 0.02

# p("1") / (p("0") + p("1")) of each text under one policy
Score = Callable[[Policy, Sequence[str]], list[float]]


def main() -> int:
    arguments = _arguments()
    device = choose_device(arguments.device)
    device = replace(device, dtype=arguments.dtype or device.dtype)
    models = resolve("demo", arguments.models).moderation
    policies = load_policies(ROOT / "policies")[: arguments.policies]
    texts = some_texts(arguments.texts)
    scorer = load_scorer(models.base, models.adapter, device)
    exact = replace(device, dtype=arguments.reference_dtype or device.dtype)
    reference = Reference(models.base, models.adapter, exact)
    ways: dict[str, Score] = {
        OURS: ours(scorer),
        "generate, one at a time": reference.generate,
        f"padded batches of {BATCH}": reference.padded,
    }
    few = texts[: arguments.few]
    spent, scores = race(ways, policies, texts, few)
    verdicts = {name: len(policies) * len(texts if name == OURS else few) for name in ways}
    tables = [
        time_table(spent, verdicts),
        equality_table(scores, {policy.id: scorer.threshold(policy) for policy in policies}),
    ]
    for table in tables:
        print_table(table)
    write_json(
        "verdicts",
        {
            "model": models.name, "device": device.description, "dtype": device.dtype, "reference_dtype": exact.dtype,
            "policies": [policy.id for policy in policies], "texts": len(texts), "few": len(few),
            "prompt_tokens": [len(reference.encode(policy, texts[0])) for policy in policies],
            "time": {name: vars(took) for name, took in spent.items()},
            "tables": [[table.title, list(table.columns), [list(row) for row in table.rows]] for table in tables],
            "scores": scores,
        },
        arguments.json,
    )  # fmt: skip
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=24, help="how many texts (default: 24)")
    parser.add_argument(
        "--few",
        type=int,
        help="only so many of them for the other ways, which compute whole prompts (default: all)",
    )
    parser.add_argument("--policies", type=int, help="only so many policies")
    parser.add_argument("--models", type=Path, default=ROOT / "models", help="the folder of the model sets")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    kinds = ["float32", "bfloat16"]
    parser.add_argument("--dtype", choices=kinds, help="numbers of the weights (default: the device's)")
    parser.add_argument("--reference-dtype", choices=kinds, help="those of the reference (default: the same)")
    parser.add_argument("--json", type=Path, help="where the figures go (default: bench/.results/verdicts.json)")
    return parser.parse_args()


def some_texts(wanted: int) -> list[str]:
    """Transcripts of sample clips and, in turn, texts of the policies' test sets."""
    said = [clip.text for clip in load_manifest() if clip.source == "samples" and clip.text]
    files = sorted((ROOT / "policies" / "tests").glob("*.jsonl"))
    rows = [[json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()] for file in files]
    tested = [text for texts in zip_longest(*rows) for text in texts if text]
    mixed = [text for pair in zip_longest(said, tested) for text in pair if text]
    return list(dict.fromkeys(mixed))[:wanted]


def ours(scorer: Scorer) -> Score:
    return lambda policy, texts: [score.p_violation for score in scorer.score(policy, texts)]


def head_of(policy: Policy) -> str:
    """The part of the prompt that all texts of a policy share."""
    return HEAD.format(policy=policy.body.strip())


class Reference:
    """The same model without our scorer: the whole prompt of every text, as in the model's own example."""

    def __init__(self, base: Path, adapter: Path | None, device: Device) -> None:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(base, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(
            base,
            dtype=getattr(torch, device.dtype),
            attn_implementation="eager",
            local_files_only=True,
            device_map={"": device.name},
        )
        if adapter is not None:
            model = PeftModel.from_pretrained(model, adapter, local_files_only=True).merge_and_unload()
        self.model: Any = model.eval()
        self._answers = [self._tokenizer(answer, add_special_tokens=False)["input_ids"][-1] for answer in "01"]

    def encode(self, policy: Policy, text: str) -> list[int]:
        prompt = head_of(policy) + text.strip() + TAIL
        ids: list[int] = self._tokenizer(prompt, add_special_tokens=False)["input_ids"]
        return [self._tokenizer.bos_token_id, *ids]

    def generate(self, policy: Policy, texts: Sequence[str]) -> list[float]:
        """One call of `generate` per text."""
        import torch

        found = []
        for text in texts:
            ids = torch.tensor([self.encode(policy, text)], device=self.model.device)
            made = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=1,
                do_sample=False,
                return_dict_in_generate=True,
                output_logits=True,
                pad_token_id=0,
            )
            found += self._probabilities(made.logits[0])
        return found

    def padded(self, policy: Policy, texts: Sequence[str]) -> list[float]:
        """Batches of texts of similar length, padded on the left; every prompt is computed whole."""
        import torch

        prompts = [self.encode(policy, text) for text in texts]
        order = sorted(range(len(texts)), key=lambda index: len(prompts[index]))
        found: dict[int, float] = {}
        for begin in range(0, len(order), BATCH):
            batch = order[begin : begin + BATCH]
            width = max(len(prompts[index]) for index in batch)
            rows = [[0] * (width - len(prompts[index])) + prompts[index] for index in batch]
            masks = [[0] * (width - len(prompts[index])) + [1] * len(prompts[index]) for index in batch]
            with torch.inference_mode():
                logits = self.model(
                    input_ids=torch.tensor(rows, device=self.model.device),
                    attention_mask=torch.tensor(masks, device=self.model.device),
                    use_cache=False,
                    logits_to_keep=1,
                ).logits[:, -1]
            found.update(zip(batch, self._probabilities(logits), strict=True))
        return [found[index] for index in range(len(texts))]

    def _probabilities(self, logits: Any) -> list[float]:
        import torch

        values: list[float] = torch.softmax(logits[:, self._answers].float(), dim=-1)[:, 1].tolist()
        return values


def race(
    ways: dict[str, Score], policies: Sequence[Policy], texts: Sequence[str], few: Sequence[str] | None = None
) -> tuple[dict[str, Spent], dict[str, dict[str, list[float]]]]:
    """Score all texts under each policy in each way, the ways in turn; return what each took, and its scores.

    All ways but ours score only the `few` first texts, if these are given.
    """
    spent = {name: Spent() for name in ways}
    scores: dict[str, dict[str, list[float]]] = {name: {} for name in ways}
    names = list(ways)
    for name in names:  # the first call compiles and allocates
        ways[name](policies[0], texts[:1])
    for turn, policy in enumerate(policies):
        for name in [*names[turn % len(names) :], *names[: turn % len(names)]]:
            with spent[name].measured():
                scores[name][policy.id] = ways[name](policy, texts if few is None or name == OURS else few)
        print(f"{turn + 1} of {len(policies)} policies", file=sys.stderr)
    return spent, scores


def time_table(spent: dict[str, Spent], verdicts: dict[str, int]) -> Table:
    """What each way took, and how many times ours for one verdict."""
    one = {name: (took.cpu_s / verdicts[name], took.wall_s / verdicts[name]) for name, took in spent.items()}
    cpu_s, wall_s = one[OURS]
    rows = [
        [
            name, verdicts[name], number(took.cpu_s, 1), number(took.wall_s, 1), number(one[name][0], 3),
            number(one[name][1], 3), number(one[name][0] / cpu_s if cpu_s else None), number(one[name][1] / wall_s),
        ]
        for name, took in spent.items()
    ]  # fmt: skip
    columns = [
        "way", "verdicts", "CPU s", "wall s", "CPU s per verdict", "wall s per verdict", "CPU, times ours",
        "wall, times ours",
    ]  # fmt: skip
    return Table("Time for verdicts", columns, rows)


def equality_table(scores: dict[str, dict[str, list[float]]], thresholds: dict[str, float]) -> Table:
    """How many verdicts equal those of `generate`, and the largest difference of the probabilities."""
    reference = next(found for name, found in scores.items() if name.startswith("generate"))
    rows = []
    for name, found in scores.items():
        pairs = [
            (mine, theirs, thresholds[policy])
            for policy, values in found.items()
            for mine, theirs in zip(values, reference[policy], strict=False)  # the reference may have only a few
        ]
        equal = sum((mine >= threshold) == (theirs >= threshold) for mine, theirs, threshold in pairs)
        furthest = max(abs(mine - theirs) for mine, theirs, _ in pairs)
        rows.append(
            [name, len(pairs), equal, share(equal / len(pairs)), f"{furthest:.5f}", furthest <= MOST_DIFFERENCE]
        )
    columns = ["way", "verdicts", "equal", "share", "largest Δp", f"at most {MOST_DIFFERENCE}"]
    return Table("Verdicts equal to those of generate on the full prompt", columns, rows)


if __name__ == "__main__":
    sys.exit(main())
