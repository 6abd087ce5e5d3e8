"""The volume that scratch lies on: whether it is there, and whether an archive fits on it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from errors import OperatorError, PermanentError

FULL_SHARE = 0.01  # with a smaller share of the volume free, hardly any archive fits
ROOM_FACTOR = 3  # archive, originals and Opus files together, as a multiple of the archive's size


def check_mounted(root: Path, mount: Path | None) -> None:
    """Check that the scratch directory lies on the volume mounted at `mount` (None: on any).

    Raises OperatorError with one sentence. Without this check, a host whose data volume is not mounted would fill its
    system disk.
    """
    # Resolved, because a link that leads to another volume would also fill the system disk.
    if mount is not None and not (mount.is_mount() and root.resolve().is_relative_to(mount.resolve())):
        where = "nothing is mounted there" if not mount.is_mount() else f"SCRATCH_ROOT {root} does not lie under it"
        raise OperatorError(f"SCRATCH_MOUNT is {mount}, but {where}; mount the data volume (findmnt {mount})")


def check_scratch(root: Path, mount: Path | None = None) -> None:
    """Check that the scratch directory exists or can be made, can be written, and lies on the volume at `mount`.

    Raises OperatorError with one sentence.
    """
    check_mounted(root, mount)
    probe = root / f".probe-{os.getpid()}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise OperatorError(
            f"SCRATCH_ROOT {root} cannot be written ({error.strerror}); is the data volume mounted, and does this "
            "directory belong to the worker's user?"
        ) from error


def room_problem(root: Path, archive_bytes: int, archive: str) -> OperatorError | PermanentError | None:
    """Why an archive of `archive_bytes` cannot be unpacked under `root` now (OperatorError) or ever (PermanentError).

    None when it can. `archive` is its name in the sentence.
    """
    needed = ROOM_FACTOR * archive_bytes
    try:
        disk = shutil.disk_usage(root)
    except OSError as error:
        return OperatorError(
            f"the free space of SCRATCH_ROOT {root} cannot be read ({error.strerror}); is the volume mounted?"
        )
    need = (
        f"{archive} has {archive_bytes:,} bytes and needs {ROOM_FACTOR} x that, {needed:,}, of scratch while unpacking"
    )
    if needed > disk.total:
        return PermanentError(
            f"{need}, but {root} holds {disk.total:,} in all, so it can never fit; split the archive, or mount "
            "a larger volume and retry"
        )
    if needed > disk.free:
        return OperatorError(
            f"{need}, but {root} has {disk.free:,} free; it waits until other batches have made room (du -sh {root}/*)"
        )
    return None


def full_problem(root: Path) -> str:
    """Why no archive at all can be unpacked under `root` now, or ''."""
    try:
        disk = shutil.disk_usage(root)
    except OSError:  # the checks of scratch name it
        return ""
    if disk.free >= FULL_SHARE * disk.total:
        return ""
    return f"scratch {root} is full: {disk.free:,} of {disk.total:,} bytes are free (du -sh {root.parent}/* {root}/*)"


def lasting_problem(root: Path, archive_bytes: int, archive: str) -> PermanentError | None:
    """Why an archive of `archive_bytes` would not fit even if `root` were empty; files beside it stay on the volume.

    The caller decides when this has lasted long enough: for a while, models that are being replaced take twice their
    room.
    """
    needed, most = ROOM_FACTOR * archive_bytes, room_when_empty(root)
    if needed <= most:
        return None
    return PermanentError(
        f"{archive} has {archive_bytes:,} bytes and needs {ROOM_FACTOR} x that, {needed:,}, of scratch while "
        f"unpacking, but an empty {root} would offer {most:,}: other files use the rest of its volume, such as models; "
        "split the archive, remove files that are not needed, or mount a larger volume, and retry"
    )


def room_when_empty(root: Path) -> int:
    """Bytes that would be free under `root` if it were empty and the rest of its volume stayed as it is."""
    with disk_errors(root):
        before = shutil.disk_usage(root).free
        ours = _bytes_under(root)
        # Other processes fill and empty scratch meanwhile. The larger value counts: "it can never fit" must be right.
        return max(before, shutil.disk_usage(root).free) + ours


def capacity(root: Path, *, beside_others: bool) -> int:
    """Bytes that the volume could hold if it were empty, less a reserve for the file system and the Opus files.

    With `beside_others`, files on it outside scratch count as staying.
    """
    with disk_errors(root):
        return (room_when_empty(root) if beside_others else shutil.disk_usage(root).total) * 9 // 10


def _bytes_under(root: Path) -> int:
    """Bytes that the files under `root` take on their volume; files that are removed meanwhile do not count."""
    total = 0
    for folder, _, files in os.walk(root):
        for name in files:
            with suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512  # noqa: PTH118 -- many files: no objects
    return total


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an OSError about scratch into an OperatorError with the remedy."""
    try:
        yield
    except OSError as error:
        hint = "make room" if error.errno in {errno.ENOSPC, errno.EDQUOT} else "check the volume and who owns it"
        raise OperatorError(f"scratch {path} cannot be changed ({error.strerror}); {hint}") from error
