"""Write data/train.jsonl from the hand-written scenarios in data/scenarios.

A scenario is one line: `+` (violates the policy the file is named after) or `-` (does not), then a text in which
`{a|b}` stands for one of the choices. `[policy]` in front of the text names a second policy that it violates.
Each scenario gives up to VARIANTS different texts. Rows carry the scenario's name, so that training and validation
can be split by scenario: variants of one text never lie on both sides.

    python -m local.demo_classifier.training.build_data
"""

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

from local.demo_classifier.training.examples import DATA, POLICY_IDS

VARIANTS = 4
ATTEMPTS = 40  # draws per scenario: a text with few choices runs out of variants before that
SEED = 20250601
ALSO = re.compile(r"\[([a-z-]+)\] *")
CHOICE = re.compile(r"\{([^{}]*)\}")


def expand(template: str, rng: random.Random) -> str:
    """One text of the template: every `{a|b}` replaced by one of its choices."""
    return CHOICE.sub(lambda match: rng.choice(match.group(1).split("|")), template)


def variants(template: str, rng: random.Random) -> list[str]:
    """Up to VARIANTS different texts of the template, in the order they were drawn."""
    texts: dict[str, None] = {}
    for _ in range(ATTEMPTS):
        texts.setdefault(expand(template, rng))
        if len(texts) == VARIANTS:
            break
    return list(texts)


def rows(path: Path) -> Iterator[dict[str, object]]:
    """The rows of one scenario file. Raises ValueError for a line that begins with neither `+`, `-` nor `#`."""
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        sign, template = line[0], line[1:].strip()
        if sign not in "+-":
            raise ValueError(f"{path.name}:{number}: a scenario begins with + or -, not {sign!r}")
        also = ALSO.match(template)
        violated = {path.stem, also.group(1)} if also else {path.stem}
        template = template[also.end() :] if also else template
        name = f"{path.stem}/{number}"
        labels = {policy: int(sign == "+" and policy in violated) for policy in POLICY_IDS}
        # seeded by the scenario: a new line does not change the variants of the others
        rng = random.Random(f"{SEED}/{template}")  # noqa: S311 - not a secret
        for text in variants(template, rng):
            yield {"text": text, "labels": labels, "scenario": name}


def main() -> None:
    out = DATA / "train.jsonl"
    written = [row for path in sorted((DATA / "scenarios").glob("*.txt")) for row in rows(path)]
    out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in written))
    print(f"{out.name}: {len(written)} texts")


if __name__ == "__main__":
    main()
