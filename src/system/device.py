"""The device that runs the models, chosen once by the DEVICE setting; and the errors when its memory is full."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from errors import DeviceMemoryError, OperatorError

# OpenMP reads these variables when a library is loaded. By default a waiting thread spins and occupies a core. When
# processes share the cores, the threads then wait for one that has no core to run on (docs/decisions.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KMP_BLOCKTIME", "0")  # the same for Intel's pool

# What CUDA and CTranslate2 say, torch about a CPU's memory, and cuBLAS about its own.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cublas_status_alloc_failed")


@dataclass(frozen=True)
class Device:
    """A device and the number formats to use on it."""

    name: str  # cuda or cpu
    description: str  # for the log, for example "NVIDIA L40S, 44 GiB"
    compute_type: str  # CTranslate2's name for the arithmetic of the speech model
    dtype: str  # torch's name for the weights of the moderation model

    def too_small(self, model: str, error: BaseException) -> OperatorError:
        """The error for a model that cannot be loaded here."""
        return OperatorError(f"{self.description} has too little memory for {model}: {error}")


def choose_device(wanted: str) -> Device:
    """Choose the device: "auto" takes CUDA if torch sees a CUDA device, "cuda" requires one, "cpu" uses none.

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

    # int8 halves Whisper's time on a CPU at the same word error rate. Most CPUs emulate bfloat16, which is slow.
    return Device("cpu", f"CPU, {torch.get_num_threads()} threads", "int8", "float32")


def _cuda() -> Device:
    import torch

    properties = torch.cuda.get_device_properties(0)
    # GPUs before Ampere (compute capability 8) emulate bfloat16 in float32, at half the speed of float16. Gemma-2's
    # activations overflow float16, so its weights are bfloat16 on every GPU: a T4 is slow, but its results are right.
    description = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    return Device("cuda", description, "float16", "bfloat16")


def is_out_of_memory(error: BaseException) -> bool:
    """CTranslate2 has no type for it, only words; torch has a type with the same words, but not for a CPU's memory."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(words in said for words in _OUT_OF_MEMORY)


@contextmanager
def out_of_memory_explained(doing: str, advice: str = "reduce BATCH_SIZE") -> Iterator[None]:
    """Turn a library's error about memory into a DeviceMemoryError; `doing` says what with, and how much at once."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceMemoryError(f"the device ran out of memory while {doing}; {advice} ({error})") from error
