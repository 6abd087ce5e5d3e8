"""The codebook: the shipped file is valid, and a mistake in a file gets a clear message."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.codebook import Codebook, load_codebook
from app.config import APP_ROOT
from app.errors import CodebookError

HEAD = 'id = "c"\nversion = "1"\ntitle = "T"\n'
NONE = '[[labels]]\nkey = "0"\ncode = "no_violation"\nname = "None"\ndefinition = "D"\nexclusive = true\n'
POLICIES = sorted(path.stem for path in (APP_ROOT.parent / "policies").glob("*.md"))
# Whoever edits the shipped file gives it a new version, and writes its hash here.
SHIPPED = ("3", "806cc22c91e1221c473121cce1d7ace9d22e222c4944dd989fba04265e7296fc")
HATE = '[[labels]]\nkey = "1"\ncode = "hate"\nname = "Hate"\ndefinition = "D"\n'


@pytest.fixture
def shipped() -> Codebook:
    return load_codebook(APP_ROOT / "codebook.toml")


def test_the_shipped_codebook_covers_the_policies_and_a_way_out(shipped: Codebook) -> None:
    keys = {label.code: label.key for label in shipped.labels}
    assert keys["no_violation"] == "0"
    assert {"violent_threat", "hate", "scam", "medical_misinfo", "other", "unsure"} <= keys.keys()
    assert all(label.definition and label.include_when and label.exclude_when for label in shipped.labels)


def test_the_shipped_codebook_maps_each_policy_to_a_label(shipped: Codebook) -> None:
    assert sorted(policy for label in shipped.labels for policy in label.policies) == POLICIES


def test_an_edit_of_the_shipped_codebook_comes_with_a_new_version(shipped: Codebook) -> None:
    assert (shipped.version, shipped.sha256()) == SHIPPED


def test_the_hash_is_that_of_the_content_and_not_of_its_layout(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(HEAD + HATE)
    first = load_codebook(path).sha256()
    path.write_text("# a comment\n" + HEAD + "\n" + HATE.replace('key = "1"\n', "") + 'key = "1"\n')
    assert load_codebook(path).sha256() == first
    path.write_text(HEAD + HATE + 'policies = ["hate-speech"]\n')
    assert load_codebook(path).sha256() != first


@pytest.mark.parametrize(
    ("codes", "problem"),
    [
        (["hate"], None),
        (["hate", "violent_threat"], None),
        (["no_violation"], None),
        ([], "Choose at least one label"),
        (["no_violation", "hate"], "“No violation” cannot be combined"),
        (["unsure", "no_violation"], "cannot be combined"),
        (["rude"], "not in the codebook"),
    ],
)
def test_choices_are_checked(shipped: Codebook, codes: list[str], problem: str | None) -> None:
    found = shipped.problem(codes)
    assert (found is None) if problem is None else (found is not None and problem in found)


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("id = \n", "not a TOML file", "line 1"),
        ('id = "c"\ntitle = "T"\n' + HATE, "version", "missing"),
        (HEAD, "labels", "at least one"),
        (HEAD + "labels = [1]", "labels[1]", "table"),
        (HEAD + HATE + HATE.replace("hate", "x"), "labels[2].key", "'1' is already used by labels[1]"),
        (HEAD + HATE + HATE.replace('"1"', '"2"'), "labels[2].code", "'hate' is already used by labels[1]"),
        (HEAD + HATE.replace('"1"', '"n"'), "labels[1].key", "none of"),
        (HEAD + HATE.replace('"1"', '"12"'), "labels[1].key", "one digit or small letter"),
        (HEAD + HATE.replace('"1"', "1"), "labels[1].key", "text"),
        (HEAD + HATE.replace('"hate"', '"Hate Speech"'), "labels[1].code", "small letters"),
        (HEAD + HATE.replace('definition = "D"', 'definition = " "'), "labels[1].definition", "not empty"),
        (HEAD + HATE + 'include_when = "x"', "labels[1].include_when", "a list of texts"),
        (HEAD + HATE + 'exclusive = "yes"', "labels[1].exclusive", "true or false"),
        (HEAD + HATE + 'policies = "scams"', "labels[1].policies", "a list of texts"),
        (HEAD + HATE + 'policies = ["Scams and fraud"]', "labels[1].policies", "'Scams and fraud' is not valid"),
        (HEAD + HATE + 'policies = ["a", "a"]', "labels[1].policies", "twice"),
        (HEAD + HATE + 'excludes = ["x"]', "labels[1].excludes", "unknown"),
        (HEAD + 'color = "red"\n' + HATE, "color", "unknown"),
    ],
)
def test_a_mistake_is_answered_with_file_place_and_reason(tmp_path: Path, text: str, place: str, reason: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(CodebookError) as error:
        load_codebook(path)
    assert error.value.message.startswith(f"{path}: {place}")
    assert reason in error.value.message


def test_a_codebook_that_is_not_there_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(CodebookError, match="CODEBOOK_PATH"):
        load_codebook(tmp_path / "none.toml")


def test_more_labels_than_fit_on_the_screen_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.toml"
    path.write_text(HEAD + NONE + HATE * 30)
    with pytest.raises(CodebookError, match="at most 20"):
        load_codebook(path)
