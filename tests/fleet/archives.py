"""Archives for the fleet. Each holds few sample clips, so that two cores can process many archives."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local.samples.archive import CLIPS, load_manifest
from tests.fleet.layout import FLEET

FOLDER = FLEET / "archives"
# Short ones; some are flagged, one has no speech, one cannot be decoded.
SMALL = (
    "rustbolt77_7518830412.mp3", "account.help.desk_7518832390.mp3", "pixel_liam_7518835713.wav",
    "quietskies_7518837614.flac", "user88120934_7518838240.mp3", "notes_from_editor_7518838790.mp3",
)  # fmt: skip


@dataclass(frozen=True)
class Archive:
    kind: str
    path: Path
    ends: Mapping[str, str]  # clip -> the status that it must end with

    @property
    def flagged(self) -> list[str]:
        return [clip.file for clip in load_manifest() if clip.file in self.ends and clip.flagged]


def make_archive(kind: str) -> Archive:
    """Make an archive of some short clips (`small`) or of every sample clip of this repository (`whole`)."""
    known = {clip.file: clip.end for clip in load_manifest() if clip.source == "samples"}
    ends = {file: known[file] for file in (SMALL if kind == "small" else known)}
    path = FOLDER / f"{kind}.tar"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for file in ends:
                tar.add(CLIPS / file, arcname=file)
    return Archive(kind, path, ends)
