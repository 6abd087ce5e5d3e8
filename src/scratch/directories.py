"""A batch's directory on the scratch volume: `{SCRATCH_ROOT}/{batch_id}/`, owned by one process at a time.

The directory itself is the lock (flock): when its owner is killed, no lock file is left over. A marker file stands in
the directories that unpack made. A sweep removes only those, never one that an operator made by hand.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from errors import PermanentError
from jobs.payloads import BATCH_ID
from scratch.volume import disk_errors

MARKER = ".unpacked-by-pipeline"
REMOVED = ".removed-"  # prefix of a directory that is being removed

Progress = Callable[[], None]  # called for every file that is removed


def _nothing() -> None:
    pass


@contextmanager
def owned_directory(root: Path, batch_id: str) -> Iterator[Path | None]:
    """Make the batch's directory and own it inside the block -> its path, or None when another process owns it."""
    path = root / batch_id
    with disk_errors(path):
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


def empty(directory: Path, on_progress: Progress = _nothing) -> None:
    """Remove what an interrupted run left in a directory that we own, and mark it as made by unpack."""
    marker = directory / MARKER
    with disk_errors(directory):
        marker.touch(mode=0o640)  # first: if the process is killed now, a sweep still removes the directory
        for child in directory.iterdir():
            if child.is_dir() and not child.is_symlink():
                remove_tree(child, on_progress)
            elif child != marker:
                child.unlink()


def remove(
    root: Path,
    batch_id: str,
    *,
    unless: Callable[[str], bool] = lambda _: False,
    on_progress: Progress = _nothing,
) -> bool:
    """Remove the batch's directory unless another process owns it, or `unless(batch_id)`; True when it is gone.

    `unless` is asked while we own the directory. Unpack owns it until its batch is under way, so a batch that was begun
    again in the meantime keeps its files.
    """
    if not BATCH_ID.fullmatch(batch_id):
        raise PermanentError(f"{batch_id!r} is not a batch id, so there is no scratch directory to remove")
    if not os.path.lexists(root / batch_id):
        return True
    with owned_directory(root, batch_id) as directory:
        if directory is None or unless(batch_id):
            return False
        discard(directory, on_progress)
        return True


def discard(directory: Path, on_progress: Progress = _nothing) -> None:
    """Remove a batch's directory that we own: rename it first, then remove it file by file.

    Without the new name, a removal that is cut off could have removed the marker and left clips: no sweep would remove
    those.
    """
    removed = directory.with_name(f"{REMOVED}{directory.name}")
    with disk_errors(directory):
        _delete(removed, on_progress)  # left by an earlier removal that was cut off
        directory.rename(removed)
        _delete(removed, on_progress)


def leave(directory: Path) -> None:
    """Remove a batch's directory that we own if it is empty.

    It was then made only for the lock, while the batch is under way on another host. It has no marker, so no sweep
    would remove it.
    """
    with suppress(OSError):
        directory.rmdir()


def leftovers(root: Path, in_use: Callable[[str], bool]) -> list[str]:
    """Ids of the batches whose directory was made by unpack and is not `in_use(batch_id)` any more."""
    found = (marker.parent.name for marker in sorted(root.glob(f"*/{MARKER}")))
    return [batch_id for batch_id in found if BATCH_ID.fullmatch(batch_id) and not in_use(batch_id)]


def sweep(root: Path, in_use: Callable[[str], bool], on_progress: Progress = _nothing) -> list[str]:
    """Remove those directories, and finish removals that were cut off -> the batches whose directories are gone."""
    with suppress(OSError):  # operators remove directories older than a day (find -mtime +1): never the root itself
        os.utime(root)
    for removed in root.glob(f"{REMOVED}*"):
        with disk_errors(removed):
            _delete(removed, on_progress)
    over = leftovers(root, in_use)
    return [batch_id for batch_id in over if remove(root, batch_id, unless=in_use, on_progress=on_progress)]


def remove_tree(directory: Path, on_progress: Progress = _nothing) -> None:
    """Remove a directory as `shutil.rmtree` does, and call `on_progress` for every file: there may be thousands."""
    for _, folders, files, descriptor in os.fwalk(directory, topdown=False):
        for name in [*files, *folders]:
            if stat.S_ISDIR(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                os.rmdir(name, dir_fd=descriptor)
            else:
                os.unlink(name, dir_fd=descriptor)
            on_progress()
    directory.rmdir()


def _delete(directory: Path, on_progress: Progress) -> None:
    """Remove a directory, also while another process does the same."""
    while directory.exists():
        with suppress(FileNotFoundError):
            remove_tree(directory, on_progress)


def _locked(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The owner before us may have removed the directory after we opened it: then we have locked nothing.
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False
