"""A version of a policy has one text for ever."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from errors import PolicyError
from moderation.policies import Policy, load_policies
from tests.results.conftest import ROOT, Batch


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "policies/hate-speech.md", tmp_path)
    shutil.copy(ROOT / "policies/scams-and-fraud.md", tmp_path)
    return tmp_path


def edit(directory: Path, old: str, new: str) -> tuple[Policy, ...]:
    file = directory / "hate-speech.md"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    return load_policies(directory)


def stored(batch: Batch) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in batch.query("SELECT policy, version FROM policies ORDER BY 1, 2")]


def test_the_texts_of_all_versions_are_kept(batch: Batch, directory: Path) -> None:
    first = load_policies(directory)
    batch.db.record_policies(first, directory)
    batch.db.record_policies(first, directory)
    second = edit(directory, 'version = "1.0.0"', 'version = "1.1.0"')
    second = edit(directory, "## Overview\n", "## Overview\n\nEdited.\n")
    batch.db.record_policies(second, directory)
    assert stored(batch) == [("hate-speech", "1.0.0"), ("hate-speech", "1.1.0"), ("scams-and-fraud", "1.0.0")]
    kept = batch.query("SELECT sha256, title, text FROM policies WHERE version = '1.1.0'")
    assert kept == [(second[0].sha256, "Hate speech", second[0].body)]
    batch.db.record_policies(first, directory)  # going back to the older version is no edit


def test_an_edited_text_without_a_new_version_is_refused(batch: Batch, directory: Path) -> None:
    batch.db.record_policies(load_policies(directory), directory)
    edited = edit(directory, "## Overview\n", "## Overview\n\nEdited.\n")
    with pytest.raises(PolicyError) as caught:
        batch.db.check_policies(edited, directory)
    assert f"{directory}/hate-speech.md has been edited, but still says version 1.0.0" in str(caught.value)
    assert "give the edited text a new version" in str(caught.value)
    batch.change("DELETE FROM policies WHERE policy = 'scams-and-fraud'")
    with pytest.raises(PolicyError, match=r"hate-speech\.md has been edited"):
        batch.db.record_policies(edited, directory)
    assert stored(batch) == [("hate-speech", "1.0.0")], "nothing is kept of a start that is refused"


def test_a_check_keeps_nothing(batch: Batch, directory: Path) -> None:
    batch.db.check_policies(load_policies(directory), directory)
    assert stored(batch) == []


def test_a_new_title_or_threshold_is_no_edit_of_the_text(batch: Batch, directory: Path) -> None:
    batch.db.record_policies(load_policies(directory), directory)
    batch.db.check_policies(edit(directory, 'title = "Hate speech"', 'title = "Hatred"'), directory)
    batch.db.check_policies(edit(directory, "threshold = 0.5", "threshold = 0.4"), directory)
