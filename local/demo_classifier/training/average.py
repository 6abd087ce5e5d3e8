"""Average two adapters of the same shape, one trained on from the other: steadier than either (Wortsman et al. 2022).

    python -m local.demo_classifier.training.average ADAPTER OTHER OUT

Then choose OUT's thresholds anew: `train.py` does so with --rounds 0 --resume OUT --adapter OUT.
"""

import argparse
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

WEIGHTS = "adapter_model.safetensors"


def average(one: Path, other: Path, out: Path) -> None:
    """Write the mean of both adapters' weights, in fp16, and the first one's configuration. Raises ValueError."""
    first, second = load_file(one / WEIGHTS), load_file(other / WEIGHTS)
    if first.keys() != second.keys():
        raise ValueError(f"{one} and {other} are adapters of different shapes")
    out.mkdir(parents=True, exist_ok=True)
    save_file({name: ((first[name].float() + second[name].float()) / 2).half() for name in first}, out / WEIGHTS)
    shutil.copy(one / "adapter_config.json", out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("adapter", "other", "out"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    average(arguments.adapter, arguments.other, arguments.out)
