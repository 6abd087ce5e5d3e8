"""Choose the way to read a file that keeps the sound that people hear, with notes on the parts that are left out.

The file is first read in the plain way, and that reading is used if it has no fault. Otherwise a track with sound
replaces a silent one, channels that cancel each other are aligned, and from a damaged file the parts that decode are
kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from errors import AudioError
from media.downmix import SAMPLE_RATE, Mono
from media.salvage import MIN_SOUND_S, find_sound
from media.source import How, Take, Tally, TooLongError, damaged, open_audio, reading, take_audio, usable_tracks

_MAX_TRACKS = 8  # tracks of one file that are read
_MISSING_S, _MISSING_SHARE = 1.0, 0.05  # a note is made when more than this is missing of the header's duration
_TOO_LOUD = 2.0  # float samples at such a level do not have a full scale of 1
_LEVEL = 0.1  # their level after scaling; peaks of speech are up to ten times as high

_T = TypeVar("_T")


def best_take(
    path: Path, max_clip_s: float | None, collect: Callable[[Iterator[Mono]], _T]
) -> tuple[Take[_T], list[str]]:
    """Read a file in the plain way or, if that fails, only the parts with sound -> the take, and notes on the rest."""
    try:
        return _best_track(path, How(), max_clip_s, collect)
    except TooLongError as error:
        raise AudioError(str(error)) from None
    except AudioError as error:
        try:
            return _salvaged(path, max_clip_s, collect)
        except AudioError as again:
            raise (AudioError(str(again)) if isinstance(again, TooLongError) else error) from None


def _salvaged(
    path: Path, max_clip_s: float | None, collect: Callable[[Iterator[Mono]], _T]
) -> tuple[Take[_T], list[str]]:
    with reading(path) as file:
        sound = find_sound(file)
    if sound is None:
        take, notes = _best_track(path, How(rows_only=True), max_clip_s, collect)
        if take.source_format.startswith(("mp3/", "aac/")):  # `find_sound` found nothing, so this is noise by chance
            raise AudioError(damaged(path, take.tally))
        return take, [*notes, f"only stretches of at least {MIN_SOUND_S:g} s that decode without a fault are kept"]
    take, notes = _best_track(path, How(sound=sound), max_clip_s, collect)
    note = f"{sound.skipped} bytes are not audio and are left out; the first audio begins at byte {sound.first}"
    return take, [*notes, note]


def _best_track(
    path: Path, how: How, max_clip_s: float | None, collect: Callable[[Iterator[Mono]], _T]
) -> tuple[Take[_T], list[str]]:
    """The first audio track that holds sound for at least half as long as the track with the most."""
    with open_audio(path, how) as (container, _):
        total = len(container.streams.audio)
        usable = usable_tracks(container)
    takes: list[tuple[int, Take[_T], list[str]]] = []
    failure: AudioError | None = None
    for track in range(min(len(usable), _MAX_TRACKS)):
        try:
            takes.append((usable[track], *_balanced(path, replace(how, track=track), max_clip_s, collect)))
        except TooLongError:
            raise
        except AudioError as error:
            failure = failure or error
    if not takes:
        raise failure or AudioError(f"{path.name!r} has no audio track that can be decoded")
    most = max(take.tally.sounding for _, take, _ in takes)
    index, take, notes = next(item for item in takes if item[1].tally.sounding * 2 >= most)
    if total > 1:
        sounding = [str(n + 1) for n, other, _ in takes if other.tally.sounding and n != index]
        also = f"; track {', '.join(sounding)} also holds sound and is not kept" if sounding else ""
        notes = [*notes, f"of {total} audio tracks, track {index + 1} is used{also}"]
    return take, notes


def _balanced(
    path: Path, how: How, max_clip_s: float | None, collect: Callable[[Iterator[Mono]], _T]
) -> tuple[Take[_T], list[str]]:
    """Read one track, and read it again with other options if the plain mix or the plain level loses sound."""
    take, notes = take_audio(path, how, max_clip_s, collect), []
    tally = take.tally
    if tally.unfit:
        notes.append(f"{tally.unfit} samples are not numbers and are replaced by silence")
    too_loud = tally.level > _TOO_LOUD
    if too_loud:
        how = replace(how, gain=_LEVEL / tally.level)
        notes.append(f"samples reach {tally.level:.4g} times full scale and are scaled down")
    cancelled = min(tally.samples / SAMPLE_RATE, sum(balance.cancelled_s for balance in tally.balances))
    if cancelled:
        how = replace(how, plans=tuple(balance.plan for balance in tally.balances))
        notes.append(f"channels cancel each other for {cancelled:.1f} s; they are aligned before they are mixed")
    return (take_audio(path, how, max_clip_s, collect) if cancelled or too_loud else take), notes


def damage_notes(tally: Tally) -> list[str]:
    notes = []
    if tally.bad:
        where = "" if tally.first_bad_s is None else f", the first at {tally.first_bad_s:.1f} s"
        notes.append(
            f"{tally.bad} of {tally.good + tally.bad} audio packets cannot be decoded{where}; they are left out"
        )
    have = tally.samples / SAMPLE_RATE
    if tally.lost:
        notes.append(f"the file cannot be read to its end, only the first {have:.1f} s: {tally.lost}")
    if tally.claimed_s is not None and tally.claimed_s - have > max(_MISSING_S, _MISSING_SHARE * tally.claimed_s):
        notes.append(f"the header says {tally.claimed_s:.1f} s, but only {have:.1f} s could be decoded")
    return notes
