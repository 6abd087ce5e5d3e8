"""The staging directory, where fetched archives lie on their way to S3: whole files, parts, and room for more."""

from __future__ import annotations

import errno
import glob
import shutil
from pathlib import Path

from archives.sources.remote_archive import RemoteArchive
from errors import OneArchiveError, OperatorError

RESERVE_BYTES = 64 << 20  # stays free on the staging volume


def is_whole(target: Path, archive: RemoteArchive) -> bool:
    """A fetched file keeps the source's time, so that another version under the same name is told apart."""
    try:
        found = target.stat()
    except OSError:
        return False
    return (found.st_size, int(found.st_mtime)) == (archive.size, archive.mtime)


def remove_other_parts(target: Path, part: Path) -> None:
    """Forget what was fetched of earlier versions of this archive: they are gone."""
    for other in target.parent.glob(f"{glob.escape(target.name)}.*.part"):
        if other != part:
            other.unlink(missing_ok=True)


def demand_space(directory: Path, archive: RemoteArchive, done: int) -> None:
    free, missing = shutil.disk_usage(directory).free, archive.size - done
    if missing + RESERVE_BYTES > free:
        raise OneArchiveError(
            f"no space in {directory} for {archive.name}: {missing:,} bytes are missing and {RESERVE_BYTES:,} must "
            f"stay free, but only {free:,} are; make room, or point TRANSFER_STAGING at a larger volume"
        )


def local_error(error: OSError, directory: Path) -> OperatorError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return OneArchiveError(f"no space left in {directory}: make room, or point TRANSFER_STAGING at a larger volume")
    return OperatorError(f"cannot write to {directory} (TRANSFER_STAGING): {error.strerror}")
