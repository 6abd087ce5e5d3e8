"""Model sets: what a worker loads, and where it lies.

`resolve` looks at names and sizes only; files are hashed when they are fetched and by `audio-pipeline models verify`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from errors import ModelError
from models.fetch import demand_whole, record_problem
from models.manifest import PROJECT, Manifest, Moderation, Part, Reads, SetSpec, load_manifest


@dataclass(frozen=True)
class SpeechModel:
    """A Whisper model, converted for CTranslate2."""

    name: str  # as recorded with every transcript
    path: Path


@dataclass(frozen=True)
class ModerationModel:
    """A causal language model that answers "0" or "1", with the adapter that taught it to."""

    name: str  # as recorded with every verdict
    base: Path
    adapter: Path | None
    reads: Reads  # how much of a policy it is shown
    thresholds: Mapping[str, float]  # p_violation from which a policy (by id) is violated; others: the policy's own
    min_mass: float  # p("0") + p("1") below which model and prompt do not fit each other


@dataclass(frozen=True)
class ModelSet:
    name: str
    speech: SpeechModel
    moderation: ModerationModel


def resolve(set_name: str, models_root: Path) -> ModelSet:
    """Where the models of a set lie, after a look at whether they are whole.

    Raises
    ------
    ModelError
        A set or folder is missing or half there; the sentence names the folder and the command to run.
    """
    manifest = load_manifest(models_root)
    chosen = manifest.set(set_name)
    folders: dict[str, Path] = {}
    for part in parts(manifest, chosen):
        folders[part.name] = models_root / set_name / part.name
        demand_whole(part, folders[part.name], fetch_command(set_name))
        # Copying changes times, and contents are what `verify` is for.
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
            moderation.reads,
            _thresholds(moderation, adapter),
            moderation.min_mass,
        ),
    )


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
        raise ModelError(f"the adapter of {moderation.name} is missing: {path}; it comes with the source, not by fetch")
    return path


def _thresholds(moderation: Moderation, adapter: Path | None) -> Mapping[str, float]:
    """The manifest's thresholds; those that an adapter brings in thresholds.json come first."""
    thresholds = dict(moderation.thresholds)
    file = adapter / "thresholds.json" if adapter is not None else None
    if file is None or not file.is_file():
        return thresholds
    try:
        thresholds |= {str(policy): float(value) for policy, value in json.loads(file.read_text()).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{file} must map policies to numbers: {error}") from error
    if wrong := [policy for policy, value in thresholds.items() if not 0 < value < 1]:
        raise ModelError(f"{file}: the threshold of {wrong[0]} must lie between 0 and 1")
    return thresholds
