"""The clips that a GPU worker has in hand, in the order of their claims, and how far each has come.

    claimed ──▶ preparing ──▶ prepared ──▶ decoding ──▶ uploading ──▶ gone: committed and acknowledged
                a pool                     one thread   a pool

This module only keeps the books; the worker takes the steps. A clip leaves the books when its job is settled, put off
or handed back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from db import ClipRow, NotJudged, Verdict
from jobs.job_queue import Claim, ClipRef
from jobs.payloads import TranscribeJob
from media.levels import Levels
from transcription import PreparedClip, Transcript

Stage = Literal["claimed", "preparing", "prepared", "decoding", "uploading"]

NOT_BEGUN: tuple[Stage, ...] = ("claimed", "preparing", "prepared")  # nothing of the clip was on the device yet
# A step in a pool that takes longer hangs. The longest real one is the conversion of a parked clip (CLIP_TIMEOUT_S),
# which may wait for other such clips.
HANGS_S = 1200.0


@dataclass(frozen=True)
class Judged:
    """What the device made of a clip; the times are its share of its group's."""

    transcript: Transcript
    verdicts: list[Verdict]
    not_judged: NotJudged | None  # why there is no verdict although somebody speaks
    transcribe_s: float
    classify_s: float


@dataclass(eq=False)
class ClipInHand:
    """One claimed clip, and what is known of it so far."""

    claim: Claim
    job: TranscribeJob
    since: float = field(default_factory=time.monotonic)
    stage: Stage = "claimed"
    stage_since: float = 0.0
    work: Future[Any] | None = None  # what a thread does for the clip in this stage
    row: ClipRow | None = None  # made when there is a file
    opus_path: Path | None = None  # set when the file is there; of a parked clip, that of its copy
    copies: ExitStack = field(default_factory=ExitStack)  # removes the copy of a parked clip
    prepared: PreparedClip | None = None
    audio_s: float = 0.0
    levels: Levels | None = None  # of a clip whose row had none
    prepare_s: float = 0.0

    @property
    def ref(self) -> ClipRef:
        return ClipRef(self.job.batch_id, self.job.original_filename)

    def goes(self, stage: Stage, work: Future[Any] | None = None) -> None:
        """Enter the next stage."""
        self.stage, self.work, self.stage_since = stage, work, time.monotonic()

    def outcome(self) -> Any:
        """The result of the step that is over; raises what the step raised."""
        if self.work is None:
            raise RuntimeError(f"no step of {self.ref} is under way")
        return self.work.result()

    def let_go(self) -> None:
        """Remove the copy of a parked clip, when no thread uses it any more."""
        if self.work is None:
            self.copies.close()
        else:
            self.work.cancel()
            self.work.add_done_callback(lambda _: self.copies.close())


class ClipsInHand:
    """At most `most` clips at a time; one whose worker died before is alone."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._clips: list[ClipInHand] = []
        self._closed = False

    def __len__(self) -> int:
        return len(self._clips)

    def __iter__(self) -> Iterator[ClipInHand]:
        return iter(list(self._clips))

    def has_room(self) -> bool:
        """Whether another clip may be claimed."""
        if not self._clips:
            self._closed = False
        return not self._closed and len(self._clips) < self._most

    def close(self) -> None:
        """Take no other clip until none is in hand."""
        self._closed = True

    def add(self, clip: ClipInHand) -> None:
        self._clips.append(clip)
        if clip.claim.interruptions:
            self.close()

    def remove(self, clip: ClipInHand) -> None:
        if clip in self._clips:
            self._clips.remove(clip)
            clip.let_go()

    def clear(self) -> None:
        for clip in self:
            self.remove(clip)

    def at(self, *stages: Stage) -> list[ClipInHand]:
        return [clip for clip in self if clip.stage in stages]

    def next_to_begin(self) -> ClipInHand | None:
        """The first clip that has not begun. A second job for a clip that is under way waits until the first is over:
        so their results cannot be mixed, and the second finds the first one's.
        """
        under_way = {clip.ref for clip in self if clip.stage != "claimed"}
        return next((clip for clip in self.at("claimed") if clip.ref not in under_way), None)

    def whose_step_is_over(self, within_s: float) -> list[ClipInHand]:
        """Wait until the step of some clip is over, but not longer than `within_s` -> those clips, in order."""
        wait([clip.work for clip in self if clip.work], within_s, FIRST_COMPLETED)
        return [clip for clip in self if clip.work and clip.work.done()]

    def audio_s(self) -> float:
        """Seconds of audio that are held in memory for the device."""
        return sum(clip.audio_s for clip in self if clip.prepared)

    def hang(self) -> bool:
        """Whether a clip hangs in a pool, although others may go on. Any thread may ask."""
        running = [clip for clip in self.at("preparing", "uploading") if clip.work and not clip.work.done()]
        return any(time.monotonic() - clip.stage_since > HANGS_S for clip in running)

    def __str__(self) -> str:
        """For the heartbeat: `16 clips in hand, the first is b1 a.mp3`."""
        if not self._clips:
            return ""
        first = self._clips[0].job
        number = "1 clip" if len(self._clips) == 1 else f"{len(self._clips)} clips"
        return f"{number} in hand, the first is {first.batch_id} {first.original_filename}"


def first_group(ready: Sequence[ClipInHand], *, most: int, audio_s: float) -> list[ClipInHand]:
    """The clips that go to the device next, in order: at most `most`, with at most `audio_s` seconds of audio.

    A clip that is longer is a group of its own. So is one that failed before: no other has to be done twice for it.
    """
    group: list[ClipInHand] = []
    seconds = 0.0
    for clip in ready[:most]:
        seconds += clip.audio_s
        if group and (clip.claim.failures or group[0].claim.failures or seconds > audio_s):
            break
        group.append(clip)
    return group
