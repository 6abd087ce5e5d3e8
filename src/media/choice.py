"""Which way of reading a file gives what people hear in it, and notes on what was left out.

The plain way comes first and is kept when nothing speaks against it. A track that is silent gives way to one that
sounds, channels that cancel each other are aligned, and of a damaged file the stretches that decode are kept.
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

_MAX_TRACKS = 8  # of one file that are looked at
_MISSING_S, _MISSING_SHARE = 1.0, 0.05  # a header may claim so much more than is there before it is worth a note
_TOO_LOUD = 2.0  # float samples at such a level are not meant to be of full scale 1
_LEVEL = 0.1  # what their level becomes; peaks of speech are up to ten times as high

_T = TypeVar("_T")


def best_take(
    path: Path, max_clip_s: float | None, collect: Callable[[Iterator[Mono]], _T]
) -> tuple[Take[_T], list[str]]:
    """Read a file in the plain way, or, when that fails, what of it is sound -> also notes on what was left out."""
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
        if take.source_format.startswith(("mp3/", "aac/")):  # looked through already; what is left is chance
            raise AudioError(damaged(path, take.tally))
        return take, [*notes, f"only stretches of at least {MIN_SOUND_S:g} s that decode without a fault are kept"]
    take, notes = _best_track(path, How(sound=sound), max_clip_s, collect)
    note = f"{sound.skipped} bytes are no audio and are left out; the first audio begins at byte {sound.first}"
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
        also = f"; track {', '.join(sounding)} holds sound, too, and is not kept" if sounding else ""
        notes = [*notes, f"of {total} audio tracks, track {index + 1} is used{also}"]
    return take, notes


def _balanced(
    path: Path, how: How, max_clip_s: float | None, collect: Callable[[Iterator[Mono]], _T]
) -> tuple[Take[_T], list[str]]:
    """Read one track; a second time when the plain mix or the plain level lost what it holds."""
    take, notes = take_audio(path, how, max_clip_s, collect), []
    tally = take.tally
    if tally.unfit:
        notes.append(f"{tally.unfit} samples are no numbers and are taken as silence")
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
