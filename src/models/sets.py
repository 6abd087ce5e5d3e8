"""Model sets: the models that a worker loads, and where they are on disk.

`resolve` checks only names and sizes. Files are hashed when they are fetched and by `audio-pipeline models verify`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import ModelError
from models.fetch import check_complete, record_problem
from models.manifest import (
    PROJECT,
    Manifest,
    Moderation,
    Part,
    PolicyText,
    PromptFormat,
    SetSpec,
    load_manifest,
)

_POLICY_VERSION = re.compile(r"[^@]+@\d+\.\d+\.\d+")


@dataclass(frozen=True)
class SpeechModel:
    """A Whisper model in CTranslate2's format."""

    name: str  # recorded with every transcript
    path: Path


@dataclass(frozen=True)
class ModerationModel:
    """A causal language model that answers with one of two tokens, with the adapter that it needs for this."""

    name: str  # recorded with every verdict
    base: Path
    adapter: Path | None
    format: PromptFormat
    policy_text: PolicyText  # the part of a policy that the prompt holds (`reads` in models.toml)
    max_tokens: int  # the model's window for policy and content together
    thresholds: Mapping[str, float]  # "policy-id@version" -> the p_violation from which that version is violated
    min_p_answer: float  # lowest p of the two answers together on a probe (`min_mass` in models.toml)


@dataclass(frozen=True)
class ModelSet:
    name: str
    speech: SpeechModel
    moderation: ModerationModel


def resolve(set_name: str, models_root: Path) -> ModelSet:
    """Return the folders of a set's models, after a check that they are complete.

    Raises
    ------
    ModelError
        A set or folder is missing or incomplete; the message names the folder and the command to run.
    """
    manifest = load_manifest(models_root)
    chosen = manifest.set(set_name)
    folders: dict[str, Path] = {}
    for part in parts(manifest, chosen):
        folders[part.name] = models_root / set_name / part.name
        check_complete(part, folders[part.name], fetch_command(set_name))
        # Times are not checked, because copying changes them. `verify` checks the contents.
        if problem := record_problem(part, folders[part.name], times=False):
            raise ModelError(
                f"{part.name} in {folders[part.name]} cannot be used: {problem}; run `{fetch_command(set_name)}`"
            )
    moderation = chosen.moderation
    adapter = _adapter(moderation, folders)
    return ModelSet(
        set_name,
        SpeechModel(chosen.speech.name, folders[chosen.speech.part]),
        ModerationModel(
            moderation.name,
            folders[moderation.base],
            adapter,
            moderation.format,
            moderation.reads,
            moderation.max_tokens,
            _thresholds(moderation, adapter),
            moderation.min_mass,
        ),
    )


def thresholds(moderation: Moderation, set_folder: Path) -> Mapping[str, float]:
    """The model's own thresholds, by policy id. Needs no model: without the adapter's folder, the manifest's count.

    Raises
    ------
    ModelError
        The adapter's thresholds.json is malformed.
    """
    if moderation.project_adapter:
        return _thresholds(moderation, PROJECT / moderation.project_adapter)
    return _thresholds(moderation, set_folder / moderation.adapter if moderation.adapter else None)


def fetch_command(set_name: str) -> str:
    return f"cd {PROJECT / 'src'} && python -m models fetch {set_name}"


def parts(manifest: Manifest, chosen: SetSpec) -> list[Part]:
    return [manifest.parts[name] for name in chosen.part_names]


def _adapter(moderation: Moderation, folders: Mapping[str, Path]) -> Path | None:
    if moderation.adapter:
        return folders[moderation.adapter]
    if not moderation.project_adapter:
        return None
    path = PROJECT / moderation.project_adapter
    if not (path / "adapter_config.json").is_file():
        raise ModelError(
            f"the adapter of {moderation.name} is missing: {path}; it is part of the source, not of a fetch"
        )
    return path


def _thresholds(moderation: Moderation, adapter: Path | None) -> Mapping[str, float]:
    """The manifest's thresholds, overridden by the adapter's thresholds.json if there is one."""
    thresholds = _checked(moderation.thresholds, f"models.toml, thresholds of {moderation.name}")
    file = adapter / "thresholds.json" if adapter is not None else None
    if file is not None and file.is_file():
        try:
            found = json.loads(file.read_text())
        except ValueError as error:
            raise ModelError(f"{file} is not JSON: {error}") from error
        thresholds |= _checked(found, str(file))
    return thresholds


def _checked(thresholds: Any, place: str) -> dict[str, float]:
    """Check that thresholds map versions of policies to numbers between 0 and 1; raises ModelError."""
    if not isinstance(thresholds, Mapping):
        raise ModelError(f"{place} must map versions of policies to numbers")
    for key, value in thresholds.items():
        if not _POLICY_VERSION.fullmatch(key):
            # One that counts for every version would count for a text that nobody measured it on.
            raise ModelError(
                f"{place}: {key!r} names no version of a policy; write the version that the threshold was measured"
                f" with, for example {key.partition('@')[0]}@1.0.0"
            )
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
            raise ModelError(f"{place}: the threshold of {key} is {value!r}, but must be a number between 0 and 1")
    return {key: float(value) for key, value in thresholds.items()}
