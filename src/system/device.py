"""Where the models run: chosen once, by the DEVICE setting. And what is said when its memory does not suffice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from errors import DeviceMemoryError, OperatorError

# Read by the libraries' thread pools when they are loaded. By default a thread that waits for the others spins, and
# when another process has the core, everything waits for a thread that is not running (docs/decisions.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KMP_BLOCKTIME", "0")  # the same for Intel's pool


@dataclass(frozen=True)
class Device:
    """A processor and the number formats that suit it."""

    name: str  # cuda or cpu
    description: str  # for the log, for example "NVIDIA L40S, 44 GiB"
    compute_type: str  # CTranslate2's name for the arithmetic of the speech model
    dtype: str  # torch's name for the weights of the moderation model

    def too_small(self, model: str, error: BaseException) -> OperatorError:
        """The error for a model that cannot be loaded here."""
        return OperatorError(f"{self.description} has too little memory for {model}: {error}")


def choose_device(wanted: str) -> Device:
    """Choose by `wanted`: "auto" takes CUDA where there is one, "cuda" insists on it, "cpu" does without.

    Raises
    ------
    OperatorError
        `wanted` is "cuda" and torch sees no CUDA device.
    """
    import torch

    if wanted == "cpu":
        return _cpu()
    if torch.cuda.is_available():
        return _cuda()
    if wanted == "cuda":
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a build without CUDA"
        raise OperatorError(
            f"DEVICE is cuda, but torch {torch.__version__} ({built}) sees no CUDA device; check `nvidia-smi`, install"
            " requirements-gpu.txt, or set DEVICE=cpu"
        )
    return _cpu()


def _cpu() -> Device:
    import torch

    # int8 halves Whisper's time on a CPU at the same word error rate; bfloat16 is emulated, thus slow, on most CPUs.
    return Device("cpu", f"CPU, {torch.get_num_threads()} threads", "int8", "float32")


def _cuda() -> Device:
    import torch

    properties = torch.cuda.get_device_properties(0)
    # Cards before Ampere (compute capability 8) emulate bfloat16 in float32: half the speed of float16. Gemma-2's
    # activations overflow float16, so they get bfloat16 all the same; the T4 is slow but right.
    description = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    return Device("cuda", description, "float16", "bfloat16")


def is_out_of_memory(error: BaseException) -> bool:
    """CTranslate2 has no type for it, only words; torch has a type with the same words."""
    return isinstance(error, MemoryError) or "out of memory" in str(error).lower()


@contextmanager
def out_of_memory_explained(doing: str, advice: str = "reduce BATCH_SIZE") -> Iterator[None]:
    """Turn a library's error about memory into a DeviceMemoryError; `doing` says what with, and how much at once."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceMemoryError(f"the device ran out of memory while {doing}; {advice} ({error})") from error
