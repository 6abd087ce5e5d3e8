"""Policies are read strictly; each mistake is named with file, line and reason."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from errors import PolicyError
from moderation.policies import SECTIONS, check_policy, load_policies, load_policy

REPOSITORY = Path(__file__).resolve().parents[2]
GOOD = """\
+++
id = "kindness"
version = "1.2.3"
title = "Kindness"
threshold = 0.4
+++

## Overview

Be kind.
Always.

## Definitions of terms

- **Kind**: not unkind.

## Interpretation of language

Judge the whole clip.

## Definitions of labels

### Plain rudeness (K-RUDE)

Includes:

- Shouting at people,
  also from afar.

Excludes:

- Shouting at the sea.

### Silence (K-2)

Includes:
- Ignoring people.

Excludes:
- Sleep.
"""


def write(folder: Path, text: str, name: str = "kindness.md") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_policy_is_read(tmp_path: Path) -> None:
    policy = load_policy(write(tmp_path, GOOD))
    assert (policy.id, policy.version, policy.title, policy.threshold) == ("kindness", "1.2.3", "Kindness", 0.4)
    assert policy.overview == "Be kind. Always."
    assert policy.body.startswith("## Overview")
    assert policy.body.endswith("- Sleep.")
    assert "+++" not in policy.body
    assert policy.sha256 == hashlib.sha256(policy.body.encode()).hexdigest()


def test_the_hash_follows_what_the_model_reads_and_nothing_else(tmp_path: Path) -> None:
    first = load_policy(write(tmp_path, GOOD)).sha256
    assert load_policy(write(tmp_path, GOOD.replace("0.4", "0.9"))).sha256 == first
    assert load_policy(write(tmp_path, GOOD.replace("Always.", "Often."))).sha256 != first


# What is replaced, by what, the line that is named, and a part of the reason.
MISTAKES = [
    ('+++\nid = "kindness"', 'id = "kindness"', 1, "must begin with a line +++"),
    ("0.4\n+++", "0.4", 39, "no closing line"),
    ('"1.2.3"', '"1.2"', 3, "must be like 1.0.0"),
    ('"1.2.3"', "1.2", 3, "version must be a text"),
    ('"1.2.3"', '"1.2.3', 3, "not TOML"),
    ('version = "1.2.3"\n', "", 1, "lacks version"),
    ('title = "Kindness"', 'title = " "', 4, "title is empty"),
    ("0.4", "1.0", 5, "between 0 and 1"),
    ("0.4", "0", 5, "between 0 and 1"),
    ("0.4", '"0.4"', 5, "threshold must be a number"),
    ("0.4", "true", 5, "threshold must be a number"),
    ("0.4", "0.4\nauthor = 'me'", 6, "author is unknown"),
    ('"kindness"', '"unkindness"', 2, "but the file is kindness.md"),
    ('"kindness"', '"Kind ness"', 2, "lower-case words"),
    ("+++\n\n## Overview", "+++\n\nHello.\n\n## Overview", 8, "text is not allowed before the first section"),
    ("## Overview", "# Kindness\n\n## Overview", 8, "title belongs in the front matter"),
    ("## Overview", "## Summary", 8, "the section ## Overview must be here"),
    (
        "## Definitions of terms",
        "## Interpretation of language",
        13,
        "the section ## Definitions of terms must be here",
    ),
    ("Judge the whole clip.\n", "\n", 17, "is empty"),
    (GOOD[GOOD.index("## Definitions of labels") :], "", 20, "## Definitions of labels is missing"),
    ("- Sleep.", "- Sleep.\n\n## Notes\n\nText.", 42, "unexpected section"),
    ("Always.", "======", 11, "equals signs"),
    ("### Plain rudeness (K-RUDE)", "### Plain rudeness", 23, "must be like ### Name (CODE)"),
    ("(K-2)", "(K-RUDE)", 34, "already used in line 23"),
    ("Includes:\n- Ignoring people.\n", "", 34, "must have one list Includes:"),
    ("- Sleep.", "", 39, "Excludes: has no item"),
    (
        "Includes:\n- Ignoring people.\n\nExcludes:",
        "Excludes:\n- Ignoring people.\n\nIncludes:",
        36,
        "must come before",
    ),
    (
        GOOD[GOOD.index("### Plain") :],
        "No labels here.\n",
        21,
        "no label is defined",
    ),
    ("### Plain rudeness (K-RUDE)\n", "", 26, "a list is not allowed before the first label"),
]


@pytest.mark.parametrize(("old", "new", "line", "reason"), MISTAKES)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, old: str, new: str, line: int, reason: str) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert reason in str(caught.value)


def test_a_file_that_is_not_utf_8_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "kindness.md"
    path.write_bytes(GOOD.replace("Always.", "Tr\u00e8s.").encode("latin-1"))
    with pytest.raises(PolicyError, match=r"kindness\.md:11: the text is not UTF-8"):
        load_policy(path)


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="must begin with a line"):
        load_policy(write(tmp_path, ""))


def test_a_directory_is_read_in_the_order_of_ids(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    write(tmp_path, GOOD.replace('"kindness"', '"calm"'), "calm.md")
    write(tmp_path, "how to write one", "README.md")
    (tmp_path / "tests").mkdir()
    assert [policy.id for policy in load_policies(tmp_path)] == ["calm", "kindness"]


def test_no_policies_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="holds no policy"):
        load_policies(tmp_path)
    with pytest.raises(PolicyError, match="correct POLICIES_DIR"):
        load_policies(tmp_path / "missing")


def test_the_repositorys_policies_load() -> None:
    policies = load_policies(REPOSITORY / "policies")
    assert len(policies) >= 4
    for policy in policies:
        assert all(f"## {section}" in policy.body for section in SECTIONS)
        assert 40 < len(policy.overview.split()) < 200


def test_all_mistakes_of_a_file_are_found_at_once(tmp_path: Path) -> None:
    text = GOOD.replace('"1.2.3"', '"1.2"').replace("0.4", "2").replace("(K-2)", "(K-RUDE)").replace("- Sleep.", "")
    policy, problems = check_policy(write(tmp_path, text))
    assert policy is None
    assert [problem.line for problem in problems] == [3, 5, 34, 39]


def test_a_good_file_has_no_problems(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    assert check_policy(path) == (load_policy(path), [])
