"""Model sets: what a worker loads, where it lies, and the command that brings it.

    cd src && python -m models list
    cd src && python -m models fetch demo

Workers only ever call `resolve`, which looks at names and sizes; hashing happens when models are fetched and on
`verify`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from config import load_settings
from errors import ModelError, PipelineError
from models_fetch import Fetcher, demand_whole, record_problem
from models_hub import pin_lines
from models_manifest import PROJECT, Manifest, Moderation, Part, Reads, SetSpec, load_manifest

DESCRIPTION = """\
Bring the models that the GPU workers load, and prove that they are the right ones.

  list                 the sets, where they come from, and whether they are here
  fetch SET            download a set (production needs HF_TOKEN); quick when it is here already
  fetch SET --from DIR take it from a folder: a copy of another machine's MODELS_ROOT, or one folder per part
  pin SET              print what to write into src/models.toml for parts that follow a branch; downloads nothing
  verify SET           hash every file anew
  path [SET]           where the models lie

MODELS_ROOT says where models are kept. A fetch that breaks off goes on where it stopped when it is run again."""


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
    thresholds: Mapping[str, float]  # p_violation from which a policy (by id) counts as violated; others: 0.5
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
    for part in _parts(manifest, chosen):
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


def _parts(manifest: Manifest, chosen: SetSpec) -> list[Part]:
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


def _list(manifest: Manifest, root: Path) -> None:
    for chosen in manifest.sets.values():
        print(f"{chosen.name}: {chosen.help}")
        for part in _parts(manifest, chosen):
            folder = root / chosen.name / part.name
            state = "missing" if not folder.is_dir() else record_problem(part, folder) or "here"
            source = part.hub.repo if part.hub else ", ".join(part.packages) or "brought by hand"
            print(f"  {part.name:26} {part.bytes / 1e9:6.2f} GB  {state}")
            print(f"  {'':26} {part.help}; licence: {part.licence}; from {source}")


def _fetch(manifest: Manifest, chosen: SetSpec, root: Path, source: Path | None) -> None:
    began = time.monotonic()
    fetcher = _fetcher(chosen, root)
    parts = _parts(manifest, chosen)
    for part in parts:
        fetcher.demand_pin(part)
    for part in parts if source is None else ():
        fetcher.demand_access(part)
    for part in parts:
        fetcher.fetch(part, source)
    resolve(chosen.name, root)
    print(f"set {chosen.name} is ready in {root / chosen.name} ({time.monotonic() - began:.1f} s)")


def _pin(manifest: Manifest, chosen: SetSpec) -> None:
    token = os.environ.get("HF_TOKEN") or None
    loose = [part for part in _parts(manifest, chosen) if part.hub is not None and not part.hub.is_pinned]
    for part in loose:
        lines = pin_lines(part, token, fetch_command(chosen.name).replace(" fetch ", " pin "))
        print(f"# {part.name}: replace these two tables in src/models.toml, keep the other lines, and commit it")
        print(lines)
    if not loose:
        print(f"# every part of {chosen.name} is pinned")


def _verify(manifest: Manifest, chosen: SetSpec, root: Path) -> None:
    fetcher = _fetcher(chosen, root)
    for part in _parts(manifest, chosen):
        fetcher.verify(part)
    resolve(chosen.name, root)


def _fetcher(chosen: SetSpec, root: Path) -> Fetcher:
    token = os.environ.get("HF_TOKEN") or None
    return Fetcher(root / chosen.name, fetch_command(chosen.name), lambda line: print(line, flush=True), token)


def _models_root(environ: Mapping[str, str]) -> Path:
    # A machine that only collects models has no keys for S3, which every worker must have.
    unused = {"S3_ENDPOINT": "http://unused", "S3_ACCESS_KEY": "unused", "S3_SECRET_KEY": "unused"}
    own = {name: value for name, value in environ.items() if name == "MODELS_ROOT"}
    return load_settings({**unused, **own}).models_root


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m models", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="the sets, and whether they are here")
    fetch = commands.add_parser("fetch", help="bring a set", description="Bring a set of models.")
    fetch.add_argument("set", metavar="SET", help="production or demo")
    fetch.add_argument("--from", dest="source", type=Path, metavar="DIR", help="take the files from this folder")
    pin = commands.add_parser("pin", help="what to pin", description="Print the commits and hashes to pin.")
    pin.add_argument("set", metavar="SET", help="production or demo")
    verify = commands.add_parser("verify", help="hash every file of a set", description="Hash every file of a set.")
    verify.add_argument("set", metavar="SET", help="production or demo")
    path = commands.add_parser("path", help="where the models lie", description="Print where the models lie.")
    path.add_argument("set", metavar="SET", nargs="?", help="production or demo; without: MODELS_ROOT")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    arguments = _arguments(argv)
    try:
        root = _models_root(environ)
        manifest = load_manifest(root)
        chosen = manifest.set(arguments.set) if getattr(arguments, "set", None) else None
        if arguments.command == "list":
            _list(manifest, root)
        elif arguments.command == "path" or chosen is None:
            print(root / chosen.name if chosen else root)
        elif arguments.command == "fetch":
            _fetch(manifest, chosen, root, arguments.source)
        elif arguments.command == "pin":
            _pin(manifest, chosen)
        else:
            _verify(manifest, chosen, root)
    except PipelineError as error:
        print(f"models: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("models: stopped; the next fetch goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
