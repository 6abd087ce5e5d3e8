"""The unpack worker with a decoder that has defects. The first bytes of a clip choose the defect.

    cd src && PYTHONPATH=.:.. python -m tests.reliability.misbehaving_unpack_worker

No file is known that makes the current FFmpeg hang or crash. So the defect runs before FFmpeg, in the process that
decodes. Everything else is the real worker.
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
from pathlib import Path

from media.audio import AudioInfo, ConvertedClip, convert_to_opus, probe
from media.conversion import convert_all, probe_all
from workers import unpack_worker
from workers.base import main

HANG, SLEEP, CRASH, KILLED, MEMORY = b"HANG", b"SLEEP", b"CRASH", b"KILLED", b"MEMORY"


def _suffer(source: Path) -> None:
    head = source.read_bytes()[:8]
    if head.startswith(HANG):
        while True:  # busy for ever
            pass
    if head.startswith(SLEEP):
        ctypes.PyDLL(None).pause()  # waits for ever, in native code that holds Python's lock
    if head.startswith(CRASH):
        ctypes.string_at(0)
    if head.startswith(KILLED):
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out
    if head.startswith(MEMORY):
        bytearray(8 << 30)


def convert(source: Path, target: Path, *, max_clip_s: float) -> ConvertedClip:
    _suffer(source)
    return convert_to_opus(source, target, max_clip_s=max_clip_s)


def look(path: Path) -> AudioInfo:
    _suffer(path)
    return probe(path)


if __name__ == "__main__":
    # By their importable names: the processes that convert look them up there.
    from tests.reliability import misbehaving_unpack_worker as here

    vars(unpack_worker).update(
        convert_all=functools.partial(convert_all, convert=here.convert),
        probe_all=functools.partial(probe_all, look=here.look),
    )
    main(unpack_worker.UnpackWorker)
