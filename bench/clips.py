"""The clips of the benchmarks: real recordings with known words, made hard in known ways, and sounds without speech.

    python -m bench.clips [--folder DIR] [--write DIR]

fetches what is missing, and prints the clips by kind; `--write` also writes them as WAV files, to listen to. The recipe
of each clip is in `clips.toml`: its parts, and what is done to them (`effects`). The parts come from packages
(`packages`), from the sample clips of the demo and from LibriVox.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np

from bench import effects
from bench.effects import RATE_HZ, Signal
from bench.packages import DataError, Package, default_folder, fetch, fetch_sentences
from bench.report import Table, print_table
from local.samples.archive import CLIPS as SAMPLES
from local.samples.archive import LIBRIVOX, load_manifest

MANIFEST = Path(__file__).with_name("clips.toml")
GAP_S = 0.35  # between joined parts, as between sentences
# What is compared in time: clips as uploads are. The others show faults: they are too short, too long, or one too many.
UNTIMED = frozenset({"short", "long", "recording"})
SEED = 20_261_129
WITHOUT_SPEECH = frozenset({"music", "silence", "recording"})


@dataclass(frozen=True)
class Clip:
    """One clip: its sound, its words, and how it was made hard."""

    name: str
    kind: str
    language: str  # ISO 639-1, of the main voice; "" without speech
    text: str  # what the main voice says; "" without speech
    samples: Signal
    other_text: str = ""  # what a second voice says at the same time

    @property
    def duration_s(self) -> float:
        return len(self.samples) / RATE_HZ

    @property
    def spoken(self) -> bool:
        return bool(self.text)

    @property
    def timed(self) -> bool:
        """Whether the clip counts in comparisons of time."""
        return self.kind not in UNTIMED


@dataclass(frozen=True)
class _Part:
    path: Path
    text: str
    language: str


def load_clips(
    *,
    kinds: Collection[str] | None = None,
    names: Collection[str] | None = None,
    timed: bool | None = None,
    folder: Path | None = None,
    manifest: Path = MANIFEST,
) -> list[Clip]:
    """Make the clips of the manifest, or those of some kinds or names; fetch missing recordings first.

    Raises
    ------
    DataError
        A recording cannot be had, or the manifest names a part that it does not list.
    """
    content = tomllib.loads(manifest.read_text(encoding="utf-8"))
    folder = folder or default_folder()
    parts = _parts(content, folder)
    wanted = [
        recipe
        for recipe in content["clip"]
        if (kinds is None or recipe["kind"] in kinds)
        and (names is None or recipe["name"] in names)
        and (timed is None or (recipe["kind"] not in UNTIMED) == timed)
    ]
    used = {part for recipe in wanted for part in _named(recipe)}
    fetch(packages(content, used), folder)
    if any(part.startswith("librivox/") for part in used):
        fetch_sentences(folder)
    return [_make(recipe, parts) for recipe in wanted]


def _named(recipe: Mapping[str, Any]) -> list[str]:
    """The ids of the parts that a recipe names."""
    return [*recipe.get("parts", []), *recipe.get("second", []), *([recipe["music"]] if "music" in recipe else [])]


def chosen(clips: Sequence[Clip], wanted: int | None) -> list[Clip]:
    """The clips in a shuffled order that is always the same, so that each group has clips of all kinds."""
    mixed = sorted(clips, key=lambda clip: clip.name)
    random.Random(SEED).shuffle(mixed)  # noqa: S311 -- an order, not a secret
    return mixed[:wanted]


def packages(content: Mapping[str, Any], used: Collection[str]) -> list[Package]:
    """The packages of a manifest with those of their files that are used; a package without any is left out."""
    found = []
    for item in content.get("package", []):
        files = {part["path"]: part["sha256"] for part in item["part"] if part["id"] in used}
        if files:
            found.append(Package(item["name"], item["version"], files))
    return found


def digest(clips: Iterable[Clip]) -> str:
    """A fingerprint of all samples, for the results: equal figures need equal sound."""
    whole = hashlib.sha256()
    for clip in clips:
        whole.update(clip.name.encode())
        whole.update(np.round(clip.samples * 32767).astype("<i2").tobytes())
    return whole.hexdigest()[:16]


def _parts(content: Mapping[str, Any], folder: Path) -> dict[str, _Part]:
    parts = {}
    for package in content.get("package", []):
        for part in package["part"]:
            language = part.get("language", package.get("language", ""))
            parts[part["id"]] = _Part(folder / package["name"] / part["path"], part.get("text", ""), language)
    for clip in load_manifest():
        if clip.source == "samples" and clip.end != "failed":
            parts[f"sample/{clip.file}"] = _Part(SAMPLES / clip.file, clip.text, clip.language)
    for number, entry in enumerate(tomllib.loads(LIBRIVOX.read_text(encoding="utf-8"))["clip"], 1):
        path = folder / "librivox" / Path(entry["path"]).name
        parts[f"librivox/{number}"] = _Part(path, entry["text"], entry["language"])
    return parts


def _make(recipe: Mapping[str, Any], parts: Mapping[str, _Part]) -> Clip:
    name = recipe["name"]
    try:
        chosen = [parts[part] for part in recipe.get("parts", [])]
        second = [parts[part] for part in recipe.get("second", [])]
        music = parts[recipe["music"]] if "music" in recipe else None
    except KeyError as error:
        raise DataError(f"clips.toml: the clip {name} names the part {error}, which no package lists") from None
    times = recipe.get("times", 1)
    gap_s = recipe.get("gap_s", GAP_S)
    if chosen:
        signal = effects.joined([_decoded(part.path) for part in chosen] * times, gap_s)
    else:
        signal = np.zeros(int(recipe["seconds"] * RATE_HZ), np.float32)
    if second:
        other = effects.joined([_decoded(part.path) for part in second], gap_s)
        signal = effects.side_by_side(signal, other, recipe.get("second_below_db", 0.0))
    return Clip(
        name=name,
        kind=recipe["kind"],
        language=chosen[0].language if chosen else "",
        text=recipe.get("text", " ".join([part.text for part in chosen] * times).strip()),
        samples=_treated(recipe, signal, _decoded(music.path) if music else None),
        other_text=" ".join(part.text for part in second),
    )


def _treated(recipe: Mapping[str, Any], signal: Signal, music: Signal | None) -> Signal:
    """Do to the signal what the recipe says, in this order."""
    name = recipe["name"]
    if "cut_s" in recipe:
        start, end = (int(second * RATE_HZ) for second in recipe["cut_s"])
        signal = signal[start:end]
    if "tempo" in recipe:
        signal = effects.tempo(signal, recipe["tempo"])
    if "resampled" in recipe:
        signal = effects.resampled(signal, recipe["resampled"])
    if recipe.get("whispered"):
        signal = effects.whispered(signal, name)
    if recipe.get("telephone"):
        signal = effects.telephone(signal)
    if music is not None:
        start = int(recipe.get("music_from_s", 0.0) * RATE_HZ)
        signal = effects.mixed(signal, music[start:], recipe["music_below_db"])
    if "level_db" in recipe:
        signal = effects.levelled(signal, recipe["level_db"])
    if "noise_db" in recipe:
        signal = signal + effects.noise(len(signal), recipe["noise_db"], name)
    return np.ascontiguousarray(signal, dtype=np.float32)


@lru_cache(maxsize=256)
def _decoded(path: Path) -> Signal:
    """The recording as float32 mono at 16 kHz. Asterisk's .g722 has no header, so its ending is believed."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
    pieces = []
    with av.open(str(path), format="g722" if path.suffix == ".g722" else None) as container:
        for frame in container.decode(audio=0):
            frame.pts = None
            pieces += resampler.resample(frame)
    pieces += resampler.resample(None)
    whole = np.concatenate([piece.to_ndarray().reshape(-1) for piece in pieces])
    return whole.astype(np.float32) / np.float32(32768)


def write(clips: Sequence[Clip], folder: Path) -> None:
    """Write each clip as NAME.wav, 16-bit mono at 16 kHz."""
    folder.mkdir(parents=True, exist_ok=True)
    for clip in clips:
        with av.open(str(folder / f"{clip.name}.wav"), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=RATE_HZ)
            stream.codec_context.layout = "mono"
            samples = np.clip(np.round(clip.samples * 32767), -32768, 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples[np.newaxis, :], format="s16", layout="mono")
            frame.sample_rate = RATE_HZ
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


def summary(clips: Sequence[Clip]) -> Table:
    """How many clips of each kind there are, how long, and in which languages."""
    rows = []
    for kind in dict.fromkeys(clip.kind for clip in clips):
        own = [clip for clip in clips if clip.kind == kind]
        languages = ", ".join(sorted({clip.language for clip in own if clip.language}))
        seconds = sum(clip.duration_s for clip in own)
        rows.append([kind, len(own), f"{seconds:.0f}", sum(len(clip.text.split()) for clip in own), languages])
    return Table("Clips", ["kind", "clips", "seconds", "words", "languages"], rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="the cache of recordings (default: BENCH_DATA, or bench/.data)")
    parser.add_argument("--write", type=Path, metavar="DIR", help="also write the clips as WAV files")
    arguments = parser.parse_args()
    try:
        clips = load_clips(folder=arguments.folder)
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    print_table(summary(clips))
    print(f"fingerprint {digest(clips)}")
    if arguments.write:
        write(clips, arguments.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
