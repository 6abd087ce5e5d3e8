"""A batch's directory on the scratch volume: `{SCRATCH_ROOT}/{batch_id}/`, one owner at a time.

The directory itself is the lock (flock), so that nothing is left over when its holder is killed. A marker tells the
directories that unpack made from those an operator put there by hand; only the former are ever swept.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jobs.payloads import BATCH_ID
from scratch.volume import disk_errors

MARKER = ".unpacked-by-pipeline"
REMOVED = ".removed-"  # before the batch id: a directory on its way out

Progress = Callable[[], None]  # called for every file that is removed


def _nothing() -> None:
    pass


@contextmanager
def owned_directory(root: Path, batch_id: str) -> Iterator[Path | None]:
    """Make the batch's directory and own it -> its path, or None while another process owns it."""
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
    """Remove what an interrupted run left in a directory that we own, and mark the directory as ours."""
    marker = directory / MARKER
    with disk_errors(directory):
        marker.touch(mode=0o640)  # first: cut off here, it is still swept
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

    `unless` is asked while we own the directory: unpack owns it until its batch is under way, so no batch that began
    anew in the meantime can lose its files.
    """
    with owned_directory(root, batch_id) as directory:
        if directory is None or unless(batch_id):
            return False
        discard(directory, on_progress)
        return True


def discard(directory: Path, on_progress: Progress = _nothing) -> None:
    """Remove a batch's directory, which we own: from its place at once, and then file by file.

    A removal that was cut off in its place could have taken the marker and left clips, which nobody would ever sweep.
    """
    removed = directory.with_name(f"{REMOVED}{directory.name}")
    with disk_errors(directory):
        _delete(removed, on_progress)  # of an earlier run of the same batch
        directory.rename(removed)
        _delete(removed, on_progress)


def leave(directory: Path) -> None:
    """Give up a batch's directory that we own but did not fill: it stays only if it holds something.

    Empty, it was made for the lock, while the batch is under way on another host; unmarked, nobody would ever sweep it.
    """
    with suppress(OSError):
        directory.rmdir()


def leftovers(root: Path, in_use: Callable[[str], bool]) -> list[str]:
    """Batches whose directory, made by unpack, is still here although they are not `in_use(batch_id)` any more."""
    found = (marker.parent.name for marker in sorted(root.glob(f"*/{MARKER}")))
    return [batch_id for batch_id in found if BATCH_ID.fullmatch(batch_id) and not in_use(batch_id)]


def sweep(root: Path, in_use: Callable[[str], bool], on_progress: Progress = _nothing) -> list[str]:
    """Remove those leftovers, and what was on its way out -> the batches whose directories are gone."""
    with suppress(OSError):  # operators remove what is older than a day (find -mtime +1); the root itself is in use
        os.utime(root)
    for removed in root.glob(f"{REMOVED}*"):
        with disk_errors(removed):
            _delete(removed, on_progress)
    over = leftovers(root, in_use)
    return [batch_id for batch_id in over if remove(root, batch_id, unless=in_use, on_progress=on_progress)]


def remove_tree(directory: Path, on_progress: Progress = _nothing) -> None:
    """Remove a directory as `shutil.rmtree` does, and tell of every file: there may be tens of thousands."""
    for _, folders, files, descriptor in os.fwalk(directory, topdown=False):
        for name in [*files, *folders]:
            if stat.S_ISDIR(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                os.rmdir(name, dir_fd=descriptor)
            else:
                os.unlink(name, dir_fd=descriptor)
            on_progress()
    directory.rmdir()


def _delete(directory: Path, on_progress: Progress) -> None:
    """Remove a directory, though another process may be doing the same."""
    while directory.exists():
        with suppress(FileNotFoundError):
            remove_tree(directory, on_progress)


def _locked(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The owner before us may have removed the directory after we opened it: then this lock guards nothing.
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False
