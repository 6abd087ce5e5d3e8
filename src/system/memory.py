"""How much memory this process uses, and how much the device that runs the models has left, in bytes."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Any


def used_bytes() -> int:
    """The resident memory of this process, and what torch has reserved on the GPU for it."""
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    torch = _torch_with_cuda()
    return resident + (int(torch.cuda.memory_reserved()) if torch else 0)


def device_bytes(device: str) -> tuple[int, int]:
    """-> (free, total) of the device: of the GPU for "cuda", else of this host.

    On a GPU this counts all programs, because CTranslate2's memory is not known to torch.
    """
    if device == "cuda" and (torch := _torch_with_cuda()):
        free, total = torch.cuda.mem_get_info()
        return int(free), int(total)
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    kib = {name.rstrip(":"): int(value) for name, value, *_ in lines}
    return kib["MemAvailable"] * 1024, kib["MemTotal"] * 1024


def gib(size: int) -> str:
    """For people: `18.1 GiB`."""
    return f"{size / 2**30:.1f} GiB"


def _torch_with_cuda() -> Any:
    """The module if it is loaded and sees a GPU; never loads it."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_available() else None
