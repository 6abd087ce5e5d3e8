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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

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
    """Read one policy file; see `load_policies`."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise PolicyError(f"{path}:{line}: the text is not UTF-8") from error
    except OSError as error:
        raise PolicyError(f"{path}:1: the file cannot be read: {error.strerror}") from error
    lines = [_Line(number, line) for number, line in enumerate(text.splitlines(), 1)]
    front, rest = _split(path, lines)
    meta = _front_matter(path, front)
    parts = _sections(path, rest)
    _check_labels(path, parts[-1])
    body = "\n".join(line.text for line in rest).strip()
    overview = " ".join(" ".join(line.text for line in parts[0].lines).split())  # however the file wraps its lines
    digest = hashlib.sha256(body.encode()).hexdigest()
    return Policy(
        id=meta["id"],
        version=meta["version"],
        title=meta["title"],
        threshold=float(meta["threshold"]),
        overview=overview,
        body=body,
        sha256=digest,
    )


def _fail(path: Path, line: int, reason: str) -> Never:
    raise PolicyError(f"{path}:{line}: {reason}")


def _split(path: Path, lines: Sequence[_Line]) -> tuple[list[_Line], list[_Line]]:
    """Split a file into the front matter and the rest."""
    if not lines or lines[0].text.rstrip() != _FENCE:
        _fail(path, 1, f"the file must begin with a line {_FENCE}, then id, version, title and threshold")
    for index, line in enumerate(lines[1:], 1):
        if line.text.rstrip() == _FENCE:
            return list(lines[1:index]), list(lines[index + 1 :])
    _fail(path, len(lines), f"the front matter has no closing line {_FENCE}")


def _front_matter(path: Path, lines: Sequence[_Line]) -> dict[str, Any]:
    try:
        meta = tomllib.loads("\n".join(line.text for line in lines))
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"at line (\d+)", str(error))
        number = int(place[1]) + 1 if place else len(lines) + 1
        _fail(path, number, f"the front matter is not TOML: {str(error).split(' (at')[0]}")
    places = {line.text.split("=")[0].strip(): line.number for line in lines}
    for key, kind in _KEYS.items():
        if key not in meta:
            _fail(path, 1, f"the front matter lacks {key}")
        accepted = (int, float) if kind is float else (kind,)
        if not isinstance(meta[key], accepted) or isinstance(meta[key], bool):
            _fail(path, places.get(key, 1), f"{key} must be a {'number' if kind is float else 'text in quotes'}")
    for key in meta:
        if key not in _KEYS:
            _fail(path, places.get(key, 1), f"{key} is unknown; known are {', '.join(_KEYS)}")
    for key, reason in _wrong_values(path, meta):
        _fail(path, places.get(key, 1), reason)
    return meta


def _wrong_values(path: Path, meta: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if not _ID.fullmatch(meta["id"]):
        yield "id", "id must be lower-case words joined by hyphens"
    if meta["id"] != path.stem:
        yield "id", f"id is {meta['id']!r}, but the file is {path.name}"
    if not _VERSION.fullmatch(meta["version"]):
        yield "version", f"version is {meta['version']!r}, but must be like 1.0.0"
    if not meta["title"].strip():
        yield "title", "title is empty"
    if not 0 < meta["threshold"] < 1:
        yield "threshold", f"threshold is {meta['threshold']}, but must be between 0 and 1"


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


def _refuse_stray_lines(path: Path, lines: Sequence[_Line], before: Sequence[_Line]) -> None:
    for line in lines:
        if _RULER.fullmatch(line.text):
            _fail(path, line.number, "a line of equals signs would end the policy's part of the prompt")
        if line.text.startswith("# "):
            _fail(path, line.number, "the title belongs in the front matter; sections begin with ##")
    for line in before:
        if line.text.strip():
            _fail(path, line.number, f"text is not allowed before the first section (## {SECTIONS[0]})")


def _sections(path: Path, lines: Sequence[_Line]) -> list[_Part]:
    before, parts = _parts(lines, "## ")
    _refuse_stray_lines(path, lines, before)
    for expected, part in zip(SECTIONS, parts, strict=False):
        if part.heading.text.strip() != f"## {expected}":
            _fail(
                path, part.heading.number, f"the section ## {expected} must be here, not {part.heading.text.strip()!r}"
            )
        if not any(line.text.strip() for line in part.lines):
            _fail(path, part.heading.number, f"the section {expected} is empty")
    last = lines[-1].number if lines else 1
    if len(parts) < len(SECTIONS):
        _fail(path, last, f"the section ## {SECTIONS[len(parts)]} is missing")
    if len(parts) > len(SECTIONS):
        extra = parts[len(SECTIONS)].heading
        _fail(path, extra.number, f"unexpected section {extra.text.strip()!r} after ## {SECTIONS[-1]}")
    return parts


def _check_labels(path: Path, section: _Part) -> None:
    before, labels = _parts(section.lines, "### ")
    if not labels:
        _fail(path, section.heading.number, "no label is defined; each begins with ### Name (CODE)")
    for line in before:
        if line.text.lstrip().startswith("-"):
            _fail(path, line.number, "a list is not allowed before the first label (### Name (CODE))")
    seen: dict[str, int] = {}
    for label in labels:
        match = _LABEL.fullmatch(label.heading.text.rstrip())
        if match is None:
            _fail(path, label.heading.number, "a label's heading must be like ### Name (CODE)")
        if match[1] in seen:
            _fail(path, label.heading.number, f"the code {match[1]} is already used in line {seen[match[1]]}")
        seen[match[1]] = label.heading.number
        _check_lists(path, label)


def _check_lists(path: Path, label: _Part) -> None:
    """Check that a label has `Includes:` and `Excludes:`, in this order, each with at least one item."""
    name = label.heading.text.removeprefix("### ").strip()
    heads = [(index, line) for index, line in enumerate(label.lines) if line.text.strip() in LISTS]
    found = [line.text.strip() for _, line in heads]
    for expected in LISTS:
        if found.count(expected) != 1:
            _fail(path, label.heading.number, f"the label {name} must have one list {expected}")
    if tuple(found) != LISTS:
        _fail(path, heads[0][1].number, f"in the label {name}, Includes: must come before Excludes:")
    ends = [heads[1][0], len(label.lines)]
    for (index, head), end in zip(heads, ends, strict=True):
        if not any(re.match(r"\s*- \S", line.text) for line in label.lines[index + 1 : end]):
            _fail(
                path, head.number, f"in the label {name}, {head.text.strip()} has no item (a line that begins with -)"
            )
