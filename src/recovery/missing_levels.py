"""Measure the stored clips that have no waveform and no loudness: read their Opus files from S3, write their rows.

Each clip is committed by itself, so a call that was stopped goes on where it stopped.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from db import LevelArchive, StoredClip
from errors import AudioError, MissingObjectError, PermanentError
from media.audio import decode
from media.levels import Levels, levels_of
from s3_utils import ObjectStore

_PAGE = 64  # clips that are read from Postgres at a time; a call that is stopped loses at most their measurements


@dataclass
class Progress:
    """What has been done so far."""

    measured: int = 0
    failed: int = 0  # clips whose file is gone or cannot be decoded; nothing is written for them


def measure(
    archive: LevelArchive,
    s3: ObjectStore,
    batch_id: str | None,
    done: Progress,
    on_problem: Callable[[StoredClip, PermanentError], None],
    on_progress: Callable[[], None],
) -> None:
    """Measure all clips without levels, or those of one batch. Counts in `done`; calls `on_progress` per clip.

    Raises OperatorError or RetryableError when S3 or Postgres is the problem; what was measured so far is stored.
    """
    last = 0
    with tempfile.TemporaryDirectory(prefix="levels-") as folder:
        pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)), "measure")
        try:
            while page := archive.without_levels(batch_id, after=last, limit=_PAGE):
                last = page[-1].audio_id
                for clip, found in zip(page, pool.map(partial(_levels, s3, Path(folder)), page), strict=True):
                    if isinstance(found, Levels):
                        archive.store_levels(clip.audio_id, found)
                        done.measured += 1
                    else:
                        done.failed += 1
                        on_problem(clip, found)
                    on_progress()
        finally:
            pool.shutdown(cancel_futures=True)  # after an error or Ctrl-C, wait only for the clips that have begun


def _levels(s3: ObjectStore, folder: Path, clip: StoredClip) -> Levels | PermanentError:
    """Runs in a thread of the pool."""
    file = folder / f"{clip.audio_id}.opus"
    try:
        s3.download(clip.s3_opus_path, file)
        return levels_of(decode(file))
    except (MissingObjectError, AudioError) as error:
        return error
    finally:
        file.unlink(missing_ok=True)
