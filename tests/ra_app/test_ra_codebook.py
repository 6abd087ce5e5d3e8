"""The codebook: the shipped file is valid, and a mistake in a file gets a clear message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.codebooks.codebook import CHOICES, Codebook, load_codebook, of_content, of_toml
from app.codebooks.toml import to_toml
from app.config import APP_ROOT
from app.errors import CodebookError

HEAD = 'id = "c"\nversion = "1"\ntitle = "T"\n'
NONE = '[[labels]]\nkey = "0"\ncode = "no_violation"\nname = "None"\ndefinition = "D"\nexclusive = true\n'
POLICIES = sorted(path.stem for path in (APP_ROOT.parent / "policies").glob("*.md"))
# Whoever edits the shipped file gives it a new version, and writes its hash here.
SHIPPED = ("3", "806cc22c91e1221c473121cce1d7ace9d22e222c4944dd989fba04265e7296fc")
QUESTION = (
    '[[questions]]\ncode = "who"\ntext = "Who is attacked?"\nkind = "single"\nwhen = ["hate"]\n'
    'options = [{ code = "women", name = "Women" }, { code = "men", name = "Men", key = "w" }]\n'
)
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
        (HEAD + 'choice = "many"\n' + HATE, "choice", "multi or single"),
        (HEAD + HATE + QUESTION.replace('"single"', '"one"'), "questions[1].kind", "multi or single"),
        (HEAD + HATE + QUESTION.replace('["hate"]', '["rude"]'), "questions[1].when", "'rude' is no label"),
        (HEAD + HATE + QUESTION.replace('"w"', '"1"'), "questions[1].options[2].key", "already used by labels[1]"),
        (HEAD + HATE + QUESTION.replace('"men"', '"women"'), "questions[1].options[2].code", "already used"),
        (HEAD + HATE + QUESTION.replace(', name = "Men"', ""), "questions[1].options[2].name", "missing"),
        (HEAD + HATE + QUESTION.partition("options")[0] + "options = []", "questions[1].options", "at least one"),
        (HEAD + HATE + "[[questions]]\n" * 11, "questions", "at most 10"),
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


def test_every_mistake_is_named_with_its_place() -> None:
    with pytest.raises(CodebookError) as error:
        of_toml(HEAD + HATE.replace('"1"', '"n"') + QUESTION.replace('"hate"', '"rude"'), "mine")
    assert [mistake.place for mistake in error.value.mistakes] == ["labels[1].key", "questions[1].when"]


def test_what_the_new_fields_say_by_default_is_no_part_of_the_content() -> None:
    plain = of_toml(HEAD + HATE, "mine")
    assert plain.content().keys() == {"id", "version", "title", "labels"}
    assert of_toml('choice = "multi"\n' + HEAD + HATE, "mine").sha256() == plain.sha256()
    asked = of_toml(HEAD + HATE + QUESTION, "mine")
    assert of_toml(HEAD + HATE + QUESTION + "required = true\n", "mine").sha256() == asked.sha256() != plain.sha256()


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip)
codes = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)


@st.composite
def codebooks(draw: st.DrawFn) -> dict[str, Any]:
    """The content of any codebook with two labels and a question."""
    labels = [
        {"key": key, "code": f"label{key}", "name": draw(texts), "definition": draw(texts),
         "exclusive": draw(st.booleans()), "undecided": draw(st.booleans()), "include_when": [draw(texts)]}
        for key in "01"
    ]  # fmt: skip
    question = {
        "code": draw(codes), "text": draw(texts), "kind": draw(st.sampled_from(CHOICES)), "when": ["label0"],
        "required": draw(st.booleans()), "options": [{"code": draw(codes), "name": draw(texts), "key": "x"}],
    }  # fmt: skip
    head = {"id": draw(texts), "version": draw(texts), "title": draw(texts), "choice": draw(st.sampled_from(CHOICES))}
    return {**head, "labels": labels, "questions": draw(st.sampled_from([[], [question]]))}


@settings(max_examples=25, deadline=None)
@given(codebooks())
def test_a_codebook_that_is_written_as_toml_is_read_back_with_the_same_hash(content: dict[str, Any]) -> None:
    codebook = of_content(content)
    assert of_toml(to_toml(codebook), "mine") == codebook
    assert of_content(codebook.content()).sha256() == codebook.sha256()


def test_the_shipped_file_survives_being_written(shipped: Codebook) -> None:
    assert of_toml(to_toml(shipped), "mine").sha256() == SHIPPED[1]


def test_answers_are_checked_by_the_labels_that_ask_for_them() -> None:
    codebook = of_toml(HEAD + HATE + NONE + QUESTION, "mine")
    assert codebook.answers_problem(["hate"], {}) == "Answer “Who is attacked?” before you submit."
    assert codebook.answers_problem(["no_violation"], {}) is None
    assert "takes one answer" in str(codebook.answers_problem(["hate"], {"who": ["women", "men"]}))
    assert "not in the codebook" in str(codebook.answers_problem(["hate"], {"who": ["dogs"]}))
    assert codebook.answers_problem(["hate"], {"who": ["men"]}) is None
    assert codebook.answers_to_store(["hate"], {"who": ["men"], "other": ["x"]}) == {"who": ["men"]}
    assert codebook.answers_to_store(["no_violation"], {"who": ["men"]}) == {}


def test_a_codebook_of_one_label_for_a_clip_refuses_two() -> None:
    codebook = of_toml('choice = "single"\n' + HEAD + HATE + HATE.replace("hate", "scam").replace('"1"', '"2"'), "mine")
    assert codebook.problem(["hate"]) is None
    assert "takes one label" in str(codebook.problem(["hate", "scam"]))
