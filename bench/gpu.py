"""The roof of a GPU, and how near the models come: Whisper large-v3 and Gemma-2-9B in their real shapes.

    PYTHONPATH=src:. python -m bench.gpu [--small] [--seconds 420]

Takes under eight minutes on one GPU with 40 GB or more, and needs no weights: they are random (`gpu_models`). First the
device's own roof is measured: the product of large matrices, and copying. Then Whisper decodes full windows of 30 s in
batches of growing size, each to the same number of tokens, and Gemma judges texts under full policies in three ways.
What a step takes is compared with the least that the roof allows. `--small` does all of it with tiny shapes on any
machine. A phase that would begin after `--seconds` is left out, and the table says so.
"""

from __future__ import annotations

import argparse
import gc
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import verdicts
from bench.gpu_models import (
    END,
    GEMMA_2_9B,
    LARGE_V3,
    SMALL_GEMMA,
    SMALL_WHISPER,
    WhisperShape,
    build_gemma,
    build_whisper,
)
from bench.loading import load_scorer
from bench.meter import Spent
from bench.report import ROOT, Table, number, print_table, share, write_json
from moderation.policies import Policy, load_policies
from moderation.tokenizer import load_tokenizer
from system.device import Device, choose_device

TOKENS = 100  # of text in a window of 30 s of speech
BATCHES = (1, 2, 4, 8, 16, 32, 64)
BEAMS = (5, 1)
WINDOW_S = 30.0
PROMPT = [50_258, 50_259, 50_359, 50_363]  # start, English, transcribe, no time stamps
MEASURE_S = 2.0  # each batch size, at least
LOOK_S = 0.2


@dataclass(frozen=True)
class Roof:
    """What the device reaches in the two things that models do."""

    flops: float  # of matrix products in the number format of the models, per second
    bytes: float  # read and written by copying, per second


@dataclass
class Watched:
    """What nvidia-smi saw during a phase; None without a GPU."""

    busy: float | None = None  # mean share of time in which a kernel ran, 0..1
    peak_gib: float | None = None


def main() -> int:
    arguments = _arguments()
    device = choose_device("cpu" if arguments.small else "auto")
    if device.name != "cuda" and not arguments.small:
        print("There is no CUDA device; --small runs the same on tiny shapes on the CPU.", file=sys.stderr)
        return 1
    began = time.monotonic()

    def time_is_left() -> bool:
        return bool(time.monotonic() - began < arguments.seconds)

    roof = measure_roof(device, small=arguments.small)
    tables = [Table("Roof, measured", ["what", "rate"], _roof_rows(roof))]
    print_table(tables[-1])
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as folder:
        for phase in (speech, judging):
            if time_is_left():
                tables.append(phase(device, roof, Path(folder), arguments, time_is_left))
                print_table(tables[-1])
    figures = {
        "device": device.description, "seconds": time.monotonic() - began, "roof": vars(roof),
        "tables": [[table.title, list(table.columns), [list(row) for row in table.rows]] for table in tables],
    }  # fmt: skip
    write_json("gpu", figures, arguments.json)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="tiny shapes on the CPU, to try the script")
    parser.add_argument("--seconds", type=float, default=420.0, help="begin no phase later (default: 420)")
    parser.add_argument("--models", type=Path, default=ROOT / "models", help="the demo's models, for vocabularies")
    parser.add_argument("--json", type=Path, help="where the figures go (default: bench/.results/gpu.json)")
    return parser.parse_args()


def measure_roof(device: Device, *, small: bool) -> Roof:
    """Multiply two large matrices, and copy a large block, and take the best of some tries."""
    import torch

    size, block = (256, 1 << 20) if small else (8192, 1 << 30)
    kind = getattr(torch, device.dtype)
    left, right = (torch.randn(size, size, device=device.name, dtype=kind) for _ in range(2))
    source = torch.ones(block, dtype=torch.uint8, device=device.name)
    target = torch.empty_like(source)
    product = _best_s(lambda: torch.matmul(left, right), device)
    copied = _best_s(lambda: target.copy_(source), device)
    return Roof(2 * size**3 / product, 2 * block / copied)


def _best_s(work: Callable[[], object], device: Device) -> float:
    times = []
    for _ in range(10):
        began = time.perf_counter()
        work()
        _synchronise(device)
        times.append(time.perf_counter() - began)
    return min(times)


def _synchronise(device: Device) -> None:
    import torch

    if device.name == "cuda":
        torch.cuda.synchronize()


def _roof_rows(roof: Roof) -> list[list[str]]:
    return [["matrix products, TFLOP/s", number(roof.flops / 1e12)], ["copying, GB/s", number(roof.bytes / 1e9, 0)]]


def speech(
    device: Device, roof: Roof, folder: Path, arguments: argparse.Namespace, time_is_left: Callable[[], bool]
) -> Table:
    """Whisper: full windows in batches of growing size, with beam 5 and greedy."""
    from ctranslate2.models import Whisper  # type: ignore[import-untyped]

    shape = SMALL_WHISPER if arguments.small else LARGE_V3
    sample = arguments.models / "demo" / "whisper-base"
    kind = device.compute_type if device.name == "cuda" else "float32"
    path = build_whisper(shape, sample, folder / "whisper", kind)
    model = Whisper(str(path), device=device.name, compute_type=kind)
    rows: list[list[str]] = []
    for beam in BEAMS:
        for batch in BATCHES[:2] if arguments.small else BATCHES:
            if time_is_left():
                tokens = 8 if arguments.small else TOKENS
                rows.append(_one_batch(model, shape, roof, (batch, beam, tokens)))
            else:
                rows.append([f"{batch}, beam {beam}", *["no time left"] * 6])
    del model
    columns = ["batch", "ms per window", "times real time", "least ms", "of the roof", "GPU busy", "peak GiB"]
    return Table(f"Speech: {shape.name}, {kind}, windows of 30 s", columns, rows)


def _one_batch(model: Any, shape: WhisperShape, roof: Roof, sizes: tuple[int, int, int]) -> list[str]:
    from ctranslate2 import StorageView  # type: ignore[import-untyped]

    batch, beam, tokens = sizes
    features = np.random.default_rng(0).standard_normal((batch, shape.mels, 3000)).astype(np.float32)

    def run() -> None:
        encoded = model.encode(StorageView.from_array(features), to_cpu=False)
        model.generate(
            encoded, [PROMPT] * batch, beam_size=beam, max_length=len(PROMPT) + tokens, suppress_tokens=[-1, END]
        )

    try:
        run()  # the first call allocates
        with watched() as seen:
            began, runs = time.perf_counter(), 0
            while runs < 2 or time.perf_counter() - began < MEASURE_S:
                run()
                runs += 1
            window_s = (time.perf_counter() - began) / runs / batch
    except RuntimeError as error:
        return [f"{batch}, beam {beam}", str(error)[:60], *["–"] * 5]
    least = shape.encoder_flop / roof.flops
    least += tokens * (shape.decoder_bytes / batch + shape.cross_bytes) / roof.bytes
    return [
        f"{batch}, beam {beam}", number(1000 * window_s), number(WINDOW_S / window_s, 0), number(1000 * least),
        share(least / window_s), share(seen.busy), number(seen.peak_gib, 1),
    ]  # fmt: skip


def judging(
    device: Device, roof: Roof, folder: Path, arguments: argparse.Namespace, time_is_left: Callable[[], bool]
) -> Table:
    """Gemma-2: texts under full policies, by our scorer, by one generate each, and in padded batches."""
    shape = SMALL_GEMMA if arguments.small else GEMMA_2_9B
    sample = arguments.models / "demo" / "gemma-3-270m"
    base = build_gemma(shape, sample, folder / "gemma", device.dtype, device.name)
    _free()
    policies = load_policies(ROOT / "policies")[: 1 if arguments.small else None]
    texts = verdicts.some_texts(3 if arguments.small else 64)
    shared, whole = _tokens(base, policies, texts)
    scores: dict[str, dict[str, list[float]]] = {}
    rows = []
    for name, way in _ways(base, device):
        if not time_is_left():
            rows.append([name, *["no time left"] * 6])
            continue
        way(policies[0], texts[:2])  # the first call allocates
        spent = Spent()
        with watched() as seen, spent.measured():
            scores[name] = {policy.id: way(policy, texts) for policy in policies}
            _synchronise(device)
        count, took = len(policies) * len(texts), spent.wall_s
        least = shape.flop_per_token * (shared if name == "ours" else whole) / roof.flops
        rows.append(
            [
                name, number(1000 * took / count), number(count / took, 1), number(1000 * least / count),
                share(least / took), share(seen.busy), number(seen.peak_gib, 1),
            ]
        )  # fmt: skip
    if len(scores) > 1:
        print_table(verdicts.equality_table(scores, {policy.id: policy.threshold for policy in policies}))
    columns = ["way", "ms per verdict", "verdicts/s", "least ms", "of the roof", "GPU busy", "peak GiB"]
    return Table(f"Verdicts: {shape.name}, {device.dtype}, {len(policies)} full policies", columns, rows)


def _ways(base: Path, device: Device) -> Iterator[tuple[str, verdicts.Score]]:
    """The three ways. Two copies of the model do not fit on most GPUs, so one is freed before the other is loaded."""
    scorer = load_scorer(base, None, device)
    yield "ours", verdicts.ours(scorer)
    del scorer
    _free()
    reference = verdicts.Reference(base, None, device)
    yield "generate, one at a time", reference.generate
    yield f"padded batches of {verdicts.BATCH}", reference.padded


def _tokens(base: Path, policies: Sequence[Policy], texts: Sequence[str]) -> tuple[int, int]:
    """Tokens to compute for all verdicts: with each policy's own part once, and with every prompt whole."""
    tokenizer: Any = load_tokenizer(base)

    def count(prompt: str) -> int:
        return len(tokenizer(prompt, add_special_tokens=False)["input_ids"])

    heads = [count(verdicts.head_of(policy)) for policy in policies]
    whole = sum(count(verdicts.head_of(policy) + text + verdicts.TAIL) for policy in policies for text in texts)
    return whole - sum(heads) * (len(texts) - 1), whole


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def watched() -> Iterator[Watched]:
    """Ask nvidia-smi during the block how busy the GPU is and how much memory is taken."""
    seen, busy, taken, ended = Watched(), [], [], threading.Event()

    def look() -> None:
        while not ended.is_set():
            done = subprocess.run(
                ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits"],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode == 0:
                used, memory = done.stdout.splitlines()[0].split(",")
                busy.append(float(used) / 100)
                taken.append(float(memory) / 1024)
            ended.wait(LOOK_S)

    thread = threading.Thread(target=look) if shutil.which("nvidia-smi") else None
    if thread:
        thread.start()
    try:
        yield seen
    finally:
        ended.set()
        if thread:
            thread.join()
        if busy:
            seen.busy, seen.peak_gib = sum(busy) / len(busy), max(taken)


if __name__ == "__main__":
    sys.exit(main())
