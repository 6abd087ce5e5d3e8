"""The device that runs the models, chosen once by the DEVICE setting; and the errors when its memory is full."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from errors import DeviceMemoryError, OperatorError

# OpenMP reads these variables when a library is loaded. By default a waiting thread spins and occupies a core. When
# processes share the cores, the threads then wait for one that has no core to run on (docs/decisions.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KMP_BLOCKTIME", "0")  # the same for Intel's pool
log = logging.getLogger(__name__)

# What CUDA and CTranslate2 say, torch about a CPU's memory, and cuBLAS about its own.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cublas_status_alloc_failed")


@dataclass(frozen=True)
class Device:
    """A device and the number formats to use on it."""

    name: str  # cuda or cpu
    description: str  # for the log, for example "NVIDIA L40S, 44 GiB"
    compute_type: str  # CTranslate2's name for the arithmetic of the speech model
    dtype: str  # torch's name for the weights of the moderation model

    def computing(self, compute_type: str) -> Device:
        """The same device with another arithmetic of the speech model; "auto" changes nothing."""
        return self if compute_type == "auto" else replace(self, compute_type=compute_type)

    def too_small(self, model: str, error: BaseException) -> OperatorError:
        """The error for a model that cannot be loaded here."""
        return OperatorError(
            f"{self.description} has too little memory for {model}; stop other programs that use this memory, or use "
            f"a device with more ({error})"
        )


def choose_device(wanted: str, dtype: str = "auto") -> Device:
    """Choose the device: "auto" takes CUDA if torch sees a CUDA device, "cuda" requires one, "cpu" uses none.

    `dtype` is torch's name for the weights of the moderation model; "auto" takes bfloat16 on CUDA and float32 on a CPU.

    Raises
    ------
    OperatorError
        `wanted` is "cuda" and torch sees no CUDA device.
    """
    import torch

    if wanted != "cpu" and torch.cuda.is_available():
        return _cuda(dtype)
    if wanted == "cuda":
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a build without CUDA"
        raise OperatorError(
            f"DEVICE is cuda, but torch {torch.__version__} ({built}) sees no CUDA device; check `nvidia-smi`, install"
            " requirements-gpu.txt, or set DEVICE=cpu"
        )
    return _cpu(dtype)


def _cpu(dtype: str) -> Device:
    import torch

    if dtype == "bfloat16" and not computes_bfloat16(_cpu_description()):
        log.warning("MODERATION_DTYPE is bfloat16, but this CPU has no instructions for it: verdicts will take longer")
    # int8 halves Whisper's time on a CPU at the same word error rate. bfloat16 halves the time of verdicts on a CPU
    # that has it, but moves them: with the demo's model by up to 0.06, and by more than 0.0015 on 32 of 200 held-out
    # texts. So it is a person's choice and not the default.
    return Device("cpu", f"CPU, {torch.get_num_threads()} threads", "int8", "float32" if dtype == "auto" else dtype)


def _cuda(dtype: str) -> Device:
    import torch

    properties = torch.cuda.get_device_properties(0)
    # GPUs before Ampere (compute capability 8) emulate bfloat16 in float32, at half the speed of float16. Gemma-2's
    # activations overflow float16, so its weights are bfloat16 on every GPU: a T4 is slow, but its results are right.
    description = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    return Device("cuda", description, "float16", "bfloat16" if dtype == "auto" else dtype)


def computes_bfloat16(cpu: str) -> bool:
    """Whether a CPU, as /proc/cpuinfo describes it, multiplies bfloat16 itself (x86: AVX-512 or AMX; ARM: bf16)."""
    return re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", cpu) is not None


def _cpu_description() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:  # a system without it
        return ""


def is_out_of_memory(error: BaseException) -> bool:
    """CTranslate2 has no type for it, only words; torch has a type with the same words, but not for a CPU's memory."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(words in said for words in _OUT_OF_MEMORY)


@contextmanager
def out_of_memory_explained(doing: str, advice: str) -> Iterator[None]:
    """Turn a library's error about memory into a DeviceMemoryError.

    `doing` completes "ran out of memory while ...": it names the work, and how many pieces at once. `advice` says what
    to do.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceMemoryError(f"the device ran out of memory while {doing}; {advice} ({error})") from error
