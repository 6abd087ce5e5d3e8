"""Clips that are parked in S3 under `failed/`: fetched for a retry, converted unless they are Opus, then removed.

Each is fetched into a directory of its own on scratch. The directory's name holds the process's id, so that what a
killed process left behind can be removed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config import Settings
from errors import PipelineError
from media.conversion import convert_all
from s3_utils import ObjectStore
from scratch.volume import disk_errors

PREFIX = ".parked-"


@contextmanager
def fetched(s3: ObjectStore, key: str, settings: Settings) -> Iterator[Path]:
    """Fetch the clip of S3 `key` as an Opus file -> its path, valid inside the block.

    Raises PermanentError when S3 has no such object, AudioError when it cannot be converted, OperatorError when scratch
    is full or cannot be written.
    """
    with _own_directory(settings.scratch_root) as folder:
        source = Path(folder) / Path(key).name
        s3.download(key, source)
        yield source if source.suffix == ".opus" else _converted(source, settings)


def _own_directory(root: Path) -> tempfile.TemporaryDirectory[str]:
    with disk_errors(root):
        return tempfile.TemporaryDirectory(dir=root, prefix=f"{PREFIX}{os.getpid()}-", ignore_cleanup_errors=True)


def clear_leftovers(scratch_root: Path) -> None:
    """Remove the directories of processes that have ended."""
    for folder in scratch_root.glob(f"{PREFIX}*-*"):
        pid = folder.name.removeprefix(PREFIX).split("-")[0]
        if not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _converted(source: Path, settings: Settings) -> Path:
    target = source.with_name("clip.opus")
    for _, outcome in convert_all(
        [(source, target)], processes=1, clip_timeout_s=settings.clip_timeout_s, max_clip_s=settings.max_clip_s
    ):
        if isinstance(outcome, PipelineError):
            raise outcome
    return target
