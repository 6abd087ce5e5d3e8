"""Files of examples: the forms that are read, and the mistakes that are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from errors import ExamplesError
from moderation.policies import load_policies
from policy_lab.examples import Example, read_examples

ROOT = Path(__file__).resolve().parents[2]


def lines(tmp_path: Path, *rows: object, name: str = "examples.jsonl") -> Path:
    path = tmp_path / name
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return path


def test_jsonl_with_a_label(tmp_path):
    path = lines(tmp_path, {"text": "we will hurt you", "label": 1}, "", {"text": "we made tea", "label": 0})
    assert read_examples(path, "p") == [Example("we will hurt you", True, 1), Example("we made tea", False, 3)]


def test_jsonl_with_labels_of_several_policies(tmp_path):
    path = lines(tmp_path, {"text": "a", "labels": {"p": 1, "q": 0}}, {"text": "b", "labels": {"p": 0, "q": 1}})
    assert [example.violates for example in read_examples(path, "p")] == [True, False]
    assert [example.violates for example in read_examples(path, "q")] == [False, True]


def test_csv_as_a_spreadsheet_saves_it(tmp_path):
    path = tmp_path / "examples.csv"
    path.write_bytes(b'\xef\xbb\xbftext,label,note\r\n"we will, surely,\r\nhurt you",1,\r\nwe made tea,0,x\r\n')
    assert read_examples(path, "p") == [
        Example("we will, surely,\nhurt you", True, 2),
        Example("we made tea", False, 4),
    ]


def test_the_test_sets_of_the_policies_are_read():
    for policy in load_policies(ROOT / "policies"):
        examples = read_examples(ROOT / "policies/tests" / f"{policy.id}.jsonl", policy.id)
        assert {example.violates for example in examples} == {True, False}


MISTAKES = [
    ('{"text": "a", "label": 2}', "the label is 2, but must be 0"),
    ('{"text": "a", "label": "yes"}', "the label is 'yes'"),
    ('{"text": "a", "label": null}', "the label is 'None'"),
    ('{"text": "a", "label": [1]}', "the label is '[1]'"),
    ('{"text": "a"}', "has no label"),
    ('{"text": " ", "label": 1}', "has no text"),
    ('{"label": 1}', "has no text"),
    ('{"text": "a", "labels": {"q": 1}}', "labels must hold 0 or 1 for p"),
    ('{"text": "a", "labels": 1}', "labels must hold 0 or 1 for p"),
    ('{"text": "a", ', "the line is not JSON"),
    ('["a", 1]', "the line must be an object"),
    ('{"text": "good  morning", "label": 1}', "the text is that of line 1, but the label is another"),
]


@pytest.mark.parametrize(("line", "reason"), MISTAKES)
def test_a_mistake_is_named_with_its_line(tmp_path, line, reason):
    path = lines(tmp_path, {"text": "good morning", "label": 0}, line)
    with pytest.raises(ExamplesError) as caught:
        read_examples(path, "p")
    assert str(caught.value).startswith(f"{path}:2: ")
    assert reason in str(caught.value)


def test_a_csv_without_the_columns_is_named(tmp_path):
    path = lines(tmp_path, "text;label", "a;1", name="examples.csv")
    with pytest.raises(ExamplesError, match=r"examples\.csv:1: the first line must name the columns text and label"):
        read_examples(path, "p")


def test_a_file_that_is_missing_empty_or_in_another_encoding_is_named(tmp_path):
    with pytest.raises(ExamplesError, match="cannot be read: No such file"):
        read_examples(tmp_path / "none.jsonl", "p")
    with pytest.raises(ExamplesError, match="holds no example"):
        read_examples(lines(tmp_path, ""), "p")
    (tmp_path / "latin.jsonl").write_bytes('{"text": "très", "label": 1}'.encode("latin-1"))
    with pytest.raises(ExamplesError, match="not UTF-8"):
        read_examples(tmp_path / "latin.jsonl", "p")
