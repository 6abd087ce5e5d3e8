"""A batch's directory on scratch: gone from its place at once, and never left where nobody sweeps it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from scratch import directories as scratch


def batch(root: Path, name: str = "b1") -> Path:
    directory = root / name
    directory.mkdir(parents=True)
    for file in (scratch.MARKER, "00001.opus", "00002.opus"):
        (directory / file).write_bytes(b"x")
    return directory


class KilledError(BaseException):
    """As SIGKILL would: nothing handles it."""


def killed_after(files: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next removal is cut off when so many files are gone, the marker first."""

    def cut_off(path: Path, on_progress: object) -> None:  # noqa: ARG001 -- called as the original
        for file in sorted(Path(path).iterdir())[:files]:
            file.unlink()
        raise KilledError

    monkeypatch.setattr(scratch, "remove_tree", cut_off)


@pytest.mark.parametrize("files", range(4))
def test_a_removal_that_is_cut_off_is_finished_by_the_next_sweep(tmp_path, monkeypatch, files):
    batch(tmp_path)
    killed_after(files, monkeypatch)
    with pytest.raises(KilledError):
        scratch.remove(tmp_path, "b1")
    monkeypatch.undo()
    assert not (tmp_path / "b1").exists(), "a batch that begins anew meets nothing of the old one"
    scratch.sweep(tmp_path, lambda _: False)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_marked_before_it_is_emptied(tmp_path, monkeypatch):
    directory = tmp_path / "b1"
    (directory / "originals").mkdir(parents=True)
    killed_after(0, monkeypatch)
    with pytest.raises(KilledError):
        scratch.empty(directory)
    assert scratch.leftovers(tmp_path, lambda _: False) == ["b1"]


def test_the_same_batch_is_removed_although_an_earlier_removal_was_cut_off(tmp_path):
    batch(tmp_path, f"{scratch.REMOVED}b1")
    batch(tmp_path)
    assert scratch.remove(tmp_path, "b1")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_in_use_stays(tmp_path):
    batch(tmp_path)
    assert not scratch.remove(tmp_path, "b1", unless=lambda _: True)
    assert scratch.sweep(tmp_path, lambda _: True) == []
    assert (tmp_path / "b1" / "00001.opus").exists()


def test_the_guides_command_against_old_directories_spares_the_root_that_is_swept(tmp_path):
    root = tmp_path / "scratch"
    old = batch(root, "by-hand")
    (old / scratch.MARKER).unlink()
    for directory in (old, root):
        os.utime(directory, (time.time() - 3 * 86_400,) * 2)
    scratch.sweep(root, lambda _: False)
    subprocess.run(["find", root, "-type", "d", "-mtime", "+1", "-exec", "rm", "-rf", "{}", "+"], check=True)
    assert root.is_dir()
    assert not old.exists()
