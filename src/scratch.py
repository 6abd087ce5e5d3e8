"""A batch's directory on the scratch volume: `{SCRATCH_ROOT}/{batch_id}/`, one owner at a time.

The directory itself is the lock (flock), so that nothing is left over when its holder is killed. A marker tells the
directories that unpack made from those an operator put there by hand; only the former are ever swept.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from errors import OperatorError
from payloads import BATCH_ID

MARKER = ".unpacked-by-pipeline"


def check_scratch(root: Path) -> None:
    """The scratch directory exists and can be written; raises OperatorError with one sentence."""
    probe = root / f".probe-{os.getpid()}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise OperatorError(
            f"SCRATCH_ROOT {root} cannot be written ({error.strerror}); is the data volume mounted, and ours?"
        ) from error


def require_room(root: Path, needed: int, what: str) -> None:
    """Raises OperatorError when fewer than `needed` bytes are free."""
    free = shutil.disk_usage(root).free
    if free < needed:
        raise OperatorError(f"{what} needs about {needed:,} bytes of scratch, but {root} has {free:,} free; make room")


@contextmanager
def owned_directory(root: Path, batch_id: str) -> Iterator[Path | None]:
    """Make the batch's directory and own it -> its path, or None while another process owns it."""
    path = root / batch_id
    with _disk_errors(path):
        path.mkdir(mode=0o750, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:  # its owner removed it between these two lines
            yield None
            return
    try:
        yield path if _locked(descriptor, path) else None
    finally:
        os.close(descriptor)


def empty(directory: Path) -> None:
    """Remove what an interrupted run left in a directory that we own, and mark the directory as ours."""
    with _disk_errors(directory):
        for child in directory.iterdir():
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            else:
                child.unlink()
        (directory / MARKER).touch(mode=0o640)


def remove(root: Path, batch_id: str) -> bool:
    """Remove the batch's directory unless another process owns it; True when it is gone."""
    with owned_directory(root, batch_id) as directory:
        if directory is None:
            return False
        with _disk_errors(directory):
            shutil.rmtree(directory)
        return True


def sweep(root: Path, finished: Callable[[str], bool]) -> list[str]:
    """Remove the directories of batches for which `finished(batch_id)` holds -> their ids."""
    swept = []
    for marker in sorted(root.glob(f"*/{MARKER}")):
        batch_id = marker.parent.name
        if BATCH_ID.fullmatch(batch_id) and finished(batch_id) and remove(root, batch_id):
            swept.append(batch_id)
    return swept


def _locked(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The owner before us may have removed the directory after we opened it: then this lock guards nothing.
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "make room" if error.errno in {errno.ENOSPC, errno.EDQUOT} else "check the volume and who owns it"
        raise OperatorError(f"scratch {path} cannot be changed ({error.strerror}); {hint}") from error
