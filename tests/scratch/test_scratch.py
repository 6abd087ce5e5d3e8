"""A batch's directory on scratch: it leaves its place at once, and what remains is always found by the sweep."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from errors import OperatorError, PermanentError
from s3_utils import cleanup_scratch
from scratch import directories as scratch


def batch(root: Path, name: str = "b1") -> Path:
    directory = root / name
    directory.mkdir(parents=True)
    for file in (scratch.MARKER, "00001.opus", "00002.opus"):
        (directory / file).write_bytes(b"x")
    return directory


class KilledError(BaseException):
    """Ends a removal as SIGKILL would: no code handles it."""


def killed_after(files: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt the next removal after this many files; the marker is removed first."""

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


def test_a_removal_may_be_repeated_and_makes_no_directory(tmp_path):
    batch(tmp_path / "scratch")
    for _ in range(2):
        assert scratch.remove(tmp_path / "scratch", "b1")
        assert list((tmp_path / "scratch").iterdir()) == []
    assert scratch.remove(tmp_path / "not-mounted", "b1")
    assert not (tmp_path / "not-mounted").exists()


def test_nothing_outside_the_root_is_removed(tmp_path):
    batch(tmp_path, "precious")
    with pytest.raises(PermanentError, match="is not a batch id"):
        scratch.remove(tmp_path / "scratch", "../precious")
    assert (tmp_path / "precious" / "00001.opus").exists()


def test_a_directory_that_another_process_owns_stays(tmp_path):
    directory = batch(tmp_path)
    with scratch.owned_directory(tmp_path, "b1"):
        assert not scratch.remove(tmp_path, "b1")
    assert (directory / "00001.opus").exists()


def test_the_guides_function_takes_the_lock_and_may_be_called_twice(tmp_path, settings_env, monkeypatch):
    for name, value in {**settings_env, "SCRATCH_ROOT": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    batch(tmp_path)
    with scratch.owned_directory(tmp_path, "b1"), pytest.raises(OperatorError, match="unpacks into it"):
        cleanup_scratch("b1")
    assert (tmp_path / "b1" / "00001.opus").exists()
    for _ in range(2):
        cleanup_scratch("b1")
        assert not (tmp_path / "b1").exists()


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
