"""Speech: our engine on many clips at once, against a plain WhisperX loop and faster-whisper's batched pipeline.

    PYTHONPATH=src:. python -m bench.speech [--clips N] [--kinds plain,fast] [--engines ours,whisperx] [--no-equality]

All engines transcribe the same files with the same model, group by group in turn, so that a busy machine slows all of
them alike. The first table has the time, over the clips that are as uploads are. The others have what was written: word
error rate by language, words kept by kind, and text on recordings without speech. At the end the text of each window
is compared with that of an engine that decodes one window at a time, and with that of the clips in another order.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import words
from bench.clips import SEED, WITHOUT_SPEECH, Clip, chosen, digest, load_clips
from bench.clips import write as write_wav
from bench.meter import Spent
from bench.packages import DataError
from bench.report import ROOT, Table, number, print_table, share, write_json
from bench.speech_engines import Engine, Heard, load_engines, load_ours
from media.audio import convert_to_opus
from system.device import choose_device

GROUP = 16  # clips that an engine gets before the next one's turn
MAX_CLIP_S = 900.0

Texts = dict[str, dict[str, Heard]]  # by engine, by clip


def main() -> int:
    arguments = _arguments()
    try:
        clips = chosen(load_clips(kinds=arguments.kinds and set(arguments.kinds.split(","))), arguments.clips)
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    device = choose_device(arguments.device)
    threads = len(os.sched_getaffinity(0))
    engines = load_engines(arguments.model, device, threads, arguments.engines.split(",") if arguments.engines else ())
    with tempfile.TemporaryDirectory(prefix="bench-speech-") as folder:
        files = as_opus(clips, Path(folder))
        spent, texts = race(engines, clips, files)
        tables = [
            time_table(clips, spent),
            kind_table(clips, texts),
            language_table(clips, texts),
            invented_table(clips, texts),
        ]
        equal: dict[str, Any] = {}
        if not arguments.no_equality and "ours" in texts:
            del engines[:]  # frees the models: the comparison loads one more
            equal = equality(clips, files, texts["ours"], lambda size: load_ours(arguments.model, device, size))
            tables.append(equality_table(equal))
    for table in tables:
        print_table(table)
    reader = "ffmpeg" if shutil.which("ffmpeg") else "ours: there is no program ffmpeg"
    figures = {
        "model": arguments.model.name, "device": device.description, "compute_type": device.compute_type,
        "threads": threads, "group": GROUP, "reader_of_whisperx": reader,
        "clips": len(clips), "fingerprint": digest(clips),
        "time": time_figures(clips, spent), "equality": equal,
        "tables": [[table.title, list(table.columns), [list(row) for row in table.rows]] for table in tables],
        "texts": {name: {clip: vars(heard) for clip, heard in found.items()} for name, found in texts.items()},
    }  # fmt: skip
    write_json("speech", figures, arguments.json)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, help="only so many, evenly from all kinds")
    parser.add_argument("--kinds", help="only clips of these kinds, separated by commas")
    parser.add_argument("--engines", help="only these engines, separated by commas")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "demo" / "whisper-base")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--no-equality", action="store_true", help="leave out the comparison with single decoding")
    parser.add_argument("--json", type=Path, help="where the figures go (default: bench/.results/speech.json)")
    return parser.parse_args()


def as_opus(clips: Sequence[Clip], folder: Path) -> dict[str, Path]:
    """Write each clip as the unpack worker does: Opus, 16 kHz mono."""
    write_wav(clips, folder)
    files = {}
    for clip in clips:
        files[clip.name] = folder / f"{clip.name}.opus"
        convert_to_opus(folder / f"{clip.name}.wav", files[clip.name], max_clip_s=MAX_CLIP_S)
    return files


def race(
    engines: Sequence[Engine], clips: Sequence[Clip], files: dict[str, Path]
) -> tuple[dict[str, dict[bool, Spent]], Texts]:
    """Let each engine transcribe each group of clips; return what each took, timed clips apart, and its texts."""
    spent = {engine.name: {True: Spent(), False: Spent()} for engine in engines}
    texts: Texts = {engine.name: {} for engine in engines}
    for engine in engines:  # the first call loads and compiles
        engine.transcribe([files[min(clips, key=lambda clip: (not clip.spoken, clip.duration_s)).name]])
    turn = 0
    for timed in (True, False):
        own = [clip for clip in clips if clip.timed == timed]
        for begin in range(0, len(own), GROUP):
            group = own[begin : begin + GROUP]
            for engine in [*engines[turn % len(engines) :], *engines[: turn % len(engines)]]:
                with spent[engine.name][timed].measured():
                    found = engine.transcribe([files[clip.name] for clip in group])
                texts[engine.name].update({clip.name: heard for clip, heard in zip(group, found, strict=True)})
            turn += 1
            print(f"{begin + len(group)} of {len(own)} {'timed' if timed else 'other'} clips", file=sys.stderr)
    return spent, texts


def time_figures(clips: Sequence[Clip], spent: dict[str, dict[bool, Spent]]) -> dict[str, Any]:
    audio_s = sum(clip.duration_s for clip in clips if clip.timed)
    return {
        "audio_s": audio_s,
        "clips": sum(clip.timed for clip in clips),
        "engines": {name: vars(by_kind[True]) for name, by_kind in spent.items()},
    }


def time_table(clips: Sequence[Clip], spent: dict[str, dict[bool, Spent]]) -> Table:
    """CPU and wall seconds over the timed clips, and how many times ours each engine needs."""
    timed = [clip for clip in clips if clip.timed]
    audio_s = sum(clip.duration_s for clip in timed)
    ours = spent.get("ours", {}).get(True)
    rows = []
    for name, by_kind in spent.items():
        took = by_kind[True]
        ratio = took.cpu_s / ours.cpu_s if ours and ours.cpu_s else None
        rows.append(
            [
                name, number(took.cpu_s, 1), number(took.wall_s, 1),
                number(audio_s / took.wall_s if took.wall_s else None, 1),
                number(took.cpu_s / len(timed) if timed else None), number(ratio),
            ]
        )  # fmt: skip
    columns = ["engine", "CPU s", "wall s", "times real time", "CPU s per clip", "CPU, times ours"]
    return Table(f"Time for {len(timed)} clips, {audio_s:.0f} s of audio", columns, rows)


def kind_table(clips: Sequence[Clip], texts: Texts) -> Table:
    """Words kept and word error rate by kind of clip; for ours, also how many clips are doubtful or without speech."""
    columns = ["kind", "clips", "words"]
    for name in texts:
        columns += [f"{name}: kept", "WER"]
    columns += ["ours: doubtful", "no speech"]
    rows = []
    for kind in dict.fromkeys(clip.kind for clip in clips if clip.spoken):
        own = [clip for clip in clips if clip.kind == kind]
        rows.append([kind, *_scores(own, texts), *_findings(own, texts)])
    everything = [clip for clip in clips if clip.spoken and clip.timed]
    rows.append(["all but untimed", *_scores(everything, texts), *_findings(everything, texts)])
    return Table("Words kept and word error rate by kind", columns, rows)


def language_table(clips: Sequence[Clip], texts: Texts) -> Table:
    """Word error rate by language, over the clips of kind "plain" and over all timed ones."""
    columns = ["language", "clips", *(f"{name}: plain, all" for name in texts)]
    rows = []
    for language in sorted({clip.language for clip in clips if clip.spoken}):
        own = [clip for clip in clips if clip.spoken and clip.timed and clip.language == language]
        plain = [clip for clip in own if clip.kind == "plain"]
        cells = [
            f"{share(_counted(plain, found).error_rate)}, {share(_counted(own, found).error_rate)}"
            for found in texts.values()
        ]
        rows.append([language, len(own), *cells])
    return Table("Word error rate by language", columns, rows)


def invented_table(clips: Sequence[Clip], texts: Texts) -> Table:
    """On how many clips without speech an engine wrote text, and the words it wrote."""
    rows = []
    for kind in ("recording", "music", "silence"):
        own = [clip for clip in clips if clip.kind == kind]
        if own:
            wrote = [[clip for clip in own if found[clip.name].text.strip()] for found in texts.values()]
            rows.append([kind, len(own), *(len(group) for group in wrote)])
    for clip in clips:
        ours = texts.get("ours", {}).get(clip.name)
        if clip.kind in WITHOUT_SPEECH and ours and ours.text.strip():
            print(f"ours wrote on {clip.name} ({ours.finding}): {ours.text[:200]}")
    return Table("Clips without speech that got text", ["kind", "clips", *texts], rows)


def equality(
    clips: Sequence[Clip], files: dict[str, Path], texts: dict[str, Heard], load: Callable[[int], Engine]
) -> dict[str, Any]:
    """Compare our texts with single decoding, and with those of the same clips in another order and in one call."""
    alone = load(1)
    single = {clip.name: alone.transcribe([files[clip.name]])[0] for clip in clips}
    order = list(clips)
    random.Random(SEED + 1).shuffle(order)  # noqa: S311 -- an order, not a secret
    together = load(GROUP).transcribe([files[clip.name] for clip in order])
    shuffled = {clip.name: heard for clip, heard in zip(order, together, strict=True)}
    return {"one at a time": differing(texts, single), "other order, one call": differing(texts, shuffled)}


def differing(texts: dict[str, Heard], others: dict[str, Heard]) -> dict[str, Any]:
    """How many windows have the same text in both; clips where the engine names no windows count as one window."""
    windows = same = 0
    examples = []
    for name, heard in texts.items():
        pairs = _window_pairs(heard, others[name])
        windows += len(pairs)
        same += sum(first == second for first, second in pairs)
        examples += [[name, first, second] for first, second in pairs if first != second]
    return {"windows": windows, "equal": same, "share": same / windows if windows else None, "different": examples[:20]}


def equality_table(equal: dict[str, Any]) -> Table:
    rows = [[against, item["windows"], item["equal"], share(item["share"])] for against, item in equal.items()]
    return Table("Windows with exactly the same text", ["compared with", "windows", "equal", "share"], rows)


def _window_pairs(heard: Heard, other: Heard) -> list[tuple[str, str]]:
    if not heard.windows and not other.windows:
        return [(heard.text, other.text)]
    count = max(len(heard.windows), len(other.windows))
    first, second = ([text for text, _ in item.windows] + ["(no window)"] * count for item in (heard, other))
    return list(zip(first[:count], second[:count], strict=True))


def _counted(clips: Sequence[Clip], found: dict[str, Heard]) -> words.Words:
    return words.total(words.count(clip.text, found[clip.name].text, clip.language) for clip in clips)


def _scores(clips: Sequence[Clip], texts: Texts) -> list[object]:
    counts = [_counted(clips, found) for found in texts.values()]
    said = counts[0].said if counts else 0
    return [len(clips), said, *(cell for item in counts for cell in (share(item.kept_share), share(item.error_rate)))]


def _findings(clips: Sequence[Clip], texts: Texts) -> list[object]:
    """How many windows of these clips our engine finds doubtful or without speech (clips, if it names no windows)."""
    if "ours" not in texts:
        return ["–", "–"]
    heard = [texts["ours"][clip.name] for clip in clips]
    found = [finding for item in heard for finding in ([each for _, each in item.windows] or [str(item.finding)])]
    return [f"{found.count('doubtful')} of {len(found)}", found.count("no_speech")]


if __name__ == "__main__":
    sys.exit(main())
