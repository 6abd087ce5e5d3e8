"""The content policies: one versioned Markdown file each. A malformed file is an error.

A file `policies/<id>.md` begins with TOML between two lines `+++`:

    id = "hate-speech"      # the file's stem
    version = "1.0.0"
    title = "Hate speech"
    threshold = 0.5         # a clip with this score or more is flagged, unless the model has its own threshold

The sections of `SECTIONS` follow, in that order. The last section holds the labels, each as `### Name (CODE)` with a
list under `Includes:` and one under `Excludes:`. CoPE-A was trained on policies of this form. A policy of one sentence
reached F1 0.20 where a complete one reached 0.71, so a file without one of these parts is an error.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import PolicyError

SECTIONS = ("Overview", "Definitions of terms", "Interpretation of language", "Definitions of labels")
LISTS = ("Includes:", "Excludes:")
_FENCE = "+++"
_KEYS = {"id": str, "version": str, "title": str, "threshold": float}
_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_LABEL = re.compile(r"### \S.* \(([A-Z0-9][A-Z0-9-]*)\)")
_RULER = re.compile(r"={3,}\s*")  # such a line separates the parts of the prompt


@dataclass(frozen=True)
class Policy:
    """One policy. `body` is the Markdown below the front matter, for the prompt; `sha256` is the hash of its UTF-8."""

    id: str
    version: str
    title: str
    threshold: float  # 0..1, exclusive
    overview: str  # text of the first section, on one line
    body: str
    sha256: str


@dataclass(frozen=True)
class Problem:
    """What is wrong with a policy file, and in which line."""

    line: int
    reason: str


@dataclass(frozen=True)
class _Line:
    number: int
    text: str


@dataclass(frozen=True)
class _Part:
    """A heading and the lines under it."""

    heading: _Line
    lines: list[_Line]


def load_policies(directory: Path) -> tuple[Policy, ...]:
    """Read every policy of a directory, in the order of their ids. Ignores README.md and subdirectories.

    Raises
    ------
    PolicyError
        The directory is missing or holds no policy, or a file is malformed; the message gives file, line and reason.
    """
    if not directory.is_dir():
        raise PolicyError(f"there is no directory of policies at {directory}; correct POLICIES_DIR")
    files = sorted(path for path in directory.glob("*.md") if path.name != "README.md")
    if not files:
        raise PolicyError(f"{directory} holds no policy (<id>.md); add one, or correct POLICIES_DIR")
    return tuple(load_policy(path) for path in files)


def load_policy(path: Path) -> Policy:
    """Read one policy file; see `load_policies`. The error names the first problem; `check_policy` finds all."""
    policy, problems = check_policy(path)
    if policy is None:
        raise PolicyError(f"{path}:{problems[0].line}: {problems[0].reason}")
    return policy


def check_policy(path: Path) -> tuple[Policy | None, list[Problem]]:
    """Read one policy file -> the policy, or None and everything that is wrong with the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        return None, [Problem(line, "the text is not UTF-8")]
    except OSError as error:
        return None, [Problem(1, f"the file cannot be read: {error.strerror}")]
    lines = [_Line(number, line) for number, line in enumerate(text.splitlines(), 1)]
    fence = _closing_fence(lines)
    if isinstance(fence, Problem):
        return None, [fence]
    front, rest = lines[1:fence], lines[fence + 1 :]
    before, parts = _parts(rest, "## ")
    meta, problems = _front_matter(path, front)
    problems += [*_stray_lines(rest, before), *_section_problems(rest, parts)]
    for part in parts:
        if part.heading.text.strip() == f"## {SECTIONS[-1]}":
            problems += _label_problems(part)
    if problems:
        return None, problems
    return _policy(meta, rest, parts[0]), []


def _policy(meta: dict[str, Any], rest: Sequence[_Line], overview: _Part) -> Policy:
    body = "\n".join(line.text for line in rest).strip()
    return Policy(
        id=meta["id"],
        version=meta["version"],
        title=meta["title"],
        threshold=float(meta["threshold"]),
        overview=" ".join(" ".join(line.text for line in overview.lines).split()),  # however the file wraps its lines
        body=body,
        sha256=hashlib.sha256(body.encode()).hexdigest(),
    )


def _closing_fence(lines: Sequence[_Line]) -> int | Problem:
    """The index of the line that ends the front matter."""
    if not lines or lines[0].text.rstrip() != _FENCE:
        return Problem(1, f"the file must begin with a line {_FENCE}, then id, version, title and threshold")
    for index, line in enumerate(lines[1:], 1):
        if line.text.rstrip() == _FENCE:
            return index
    return Problem(len(lines), f"the front matter has no closing line {_FENCE}")


def _front_matter(path: Path, lines: Sequence[_Line]) -> tuple[dict[str, Any], list[Problem]]:
    try:
        meta = tomllib.loads("\n".join(line.text for line in lines))
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"at line (\d+)", str(error))
        number = int(place[1]) + 1 if place else len(lines) + 1
        return {}, [Problem(number, f"the front matter is not TOML: {str(error).split(' (at')[0]}")]
    places = {line.text.split("=")[0].strip(): line.number for line in lines}
    wrong = dict(_wrong_types(meta))
    wrong |= _wrong_values(path, {key: value for key, value in meta.items() if key not in wrong})
    return meta, [Problem(places.get(key, 1), reason) for key, reason in wrong.items()]


def _wrong_types(meta: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, kind in _KEYS.items():
        accepted = (int, float) if kind is float else (kind,)
        if key not in meta:
            yield key, f"the front matter lacks {key}"
        elif not isinstance(meta[key], accepted) or isinstance(meta[key], bool):
            yield key, f"{key} must be a {'number' if kind is float else 'text in quotes'}"
    for key in meta:
        if key not in _KEYS:
            yield key, f"{key} is unknown; known are {', '.join(_KEYS)}"


def _wrong_values(path: Path, meta: Mapping[str, Any]) -> dict[str, str]:
    """Key -> what is wrong with its value; `meta` holds only keys whose values have the right type."""
    wrong = {}
    if "id" in meta and meta["id"] != path.stem:
        wrong["id"] = f"id is {meta['id']!r}, but the file is {path.name}"
    if "id" in meta and not _ID.fullmatch(meta["id"]):
        wrong["id"] = "id must be lower-case words joined by hyphens"
    if "version" in meta and not _VERSION.fullmatch(meta["version"]):
        wrong["version"] = f"version is {meta['version']!r}, but must be like 1.0.0"
    if "title" in meta and not meta["title"].strip():
        wrong["title"] = "title is empty"
    if "threshold" in meta and not 0 < meta["threshold"] < 1:
        wrong["threshold"] = f"threshold is {meta['threshold']}, but must be between 0 and 1"
    return wrong


def _parts(lines: Sequence[_Line], marker: str) -> tuple[list[_Line], list[_Part]]:
    """Split lines at headings that begin with `marker` -> the lines before the first one, and the parts."""
    before: list[_Line] = []
    parts: list[_Part] = []
    for line in lines:
        if line.text.startswith(marker):
            parts.append(_Part(line, []))
        else:
            (parts[-1].lines if parts else before).append(line)
    return before, parts


def _stray_lines(lines: Sequence[_Line], before: Sequence[_Line]) -> Iterator[Problem]:
    for line in lines:
        if _RULER.fullmatch(line.text):
            yield Problem(line.number, "a line of equals signs would end the policy's part of the prompt")
        if line.text.startswith("# "):
            yield Problem(line.number, "the title belongs in the front matter; sections begin with ##")
    text = next((line for line in before if line.text.strip() and not line.text.startswith("# ")), None)
    if text is not None:
        yield Problem(text.number, f"text is not allowed before the first section (## {SECTIONS[0]})")


def _section_problems(lines: Sequence[_Line], parts: Sequence[_Part]) -> Iterator[Problem]:
    for expected, part in zip(SECTIONS, parts, strict=False):
        heading = part.heading.text.strip()
        if heading != f"## {expected}":
            yield Problem(part.heading.number, f"the section ## {expected} must be here, not {heading!r}")
            return  # the sections after it would all be called wrong
        if not any(line.text.strip() for line in part.lines):
            yield Problem(part.heading.number, f"the section {expected} is empty")
    if len(parts) < len(SECTIONS):
        last = lines[-1].number if lines else 1
        yield Problem(last, f"the section ## {SECTIONS[len(parts)]} is missing")
    if len(parts) > len(SECTIONS):
        extra = parts[len(SECTIONS)].heading
        yield Problem(extra.number, f"unexpected section {extra.text.strip()!r} after ## {SECTIONS[-1]}")


def _label_problems(section: _Part) -> Iterator[Problem]:
    before, labels = _parts(section.lines, "### ")
    if not labels and any(line.text.strip() for line in section.lines):
        yield Problem(section.heading.number, "no label is defined; each begins with ### Name (CODE)")
    item = next((line for line in before if line.text.lstrip().startswith("-")), None)
    if item is not None and labels:
        yield Problem(item.number, "a list is not allowed before the first label (### Name (CODE))")
    seen: dict[str, int] = {}
    for label in labels:
        match = _LABEL.fullmatch(label.heading.text.rstrip())
        if match is None:
            yield Problem(label.heading.number, "a label's heading must be like ### Name (CODE)")
        elif match[1] in seen:
            yield Problem(label.heading.number, f"the code {match[1]} is already used in line {seen[match[1]]}")
        else:
            seen[match[1]] = label.heading.number
        yield from _list_problems(label)


def _list_problems(label: _Part) -> Iterator[Problem]:
    """A label has `Includes:` and `Excludes:`, in this order, each with at least one item."""
    name = label.heading.text.removeprefix("### ").strip()
    heads = [(index, line) for index, line in enumerate(label.lines) if line.text.strip() in LISTS]
    found = [line.text.strip() for _, line in heads]
    wrong = [expected for expected in LISTS if found.count(expected) != 1]
    for expected in wrong:
        yield Problem(label.heading.number, f"the label {name} must have one list {expected}")
    if wrong:
        return
    if tuple(found) != LISTS:
        yield Problem(heads[0][1].number, f"in the label {name}, Includes: must come before Excludes:")
    ends = [heads[1][0], len(label.lines)]
    for (index, head), end in zip(heads, ends, strict=True):
        if not any(re.match(r"\s*- \S", line.text) for line in label.lines[index + 1 : end]):
            yield Problem(
                head.number, f"in the label {name}, {head.text.strip()} has no item (a line that begins with -)"
            )
