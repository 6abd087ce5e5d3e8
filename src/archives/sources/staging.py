"""The staging directory, which holds fetched archives until they are in S3: complete files, parts, and free space."""

from __future__ import annotations

import errno
import glob
import shutil
from pathlib import Path

from archives.sources.remote_archive import RemoteArchive
from errors import OneArchiveError, OperatorError

RESERVE_BYTES = 64 << 20  # stays free on the staging volume


def is_whole(target: Path, archive: RemoteArchive) -> bool:
    """Whether `target` is the complete archive. A fetched file keeps the source's time, so other versions differ."""
    try:
        found = target.stat()
    except OSError:
        return False
    return (found.st_size, int(found.st_mtime)) == (archive.size, archive.mtime)


def remove_other_parts(target: Path, part: Path) -> None:
    """Remove the parts of earlier versions of this archive."""
    for other in target.parent.glob(f"{glob.escape(target.name)}.*.part"):
        if other != part:
            other.unlink(missing_ok=True)


def check_space(directory: Path, archive: RemoteArchive, done: int) -> None:
    free, missing = shutil.disk_usage(directory).free, archive.size - done
    if missing + RESERVE_BYTES > free:
        raise OneArchiveError(
            f"no space in {directory} for {archive.name}: it needs {missing:,} bytes and {RESERVE_BYTES:,} must stay "
            f"free, but only {free:,} are free; make room, or set TRANSFER_STAGING to a larger volume"
        )


def local_error(error: OSError, directory: Path) -> OperatorError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return OneArchiveError(
            f"no space is left in {directory}: make room, or set TRANSFER_STAGING to a larger volume"
        )
    return OperatorError(f"cannot write to {directory} (TRANSFER_STAGING): {error.strerror}")
