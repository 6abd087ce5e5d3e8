"""The integrated loudness of a clip (ITU-R BS.1770, EBU R 128), by FFmpeg's `ebur128`, while its samples pass by."""

from __future__ import annotations

from fractions import Fraction

from av.audio.frame import AudioFrame
from av.error import BlockingIOError as NothingYetError
from av.error import EOFError as EndError
from av.filter import Graph

from media.downmix import SAMPLE_RATE, Mono

_ABSOLUTE_GATE = -70.0  # LUFS: quieter parts do not count. The filter gives this value when no part counts
# A mono clip sounds from both loudspeakers or both sides of headphones, which is 3 LU louder than from one. So a clip
# has the loudness of a stereo file with the same sound on both channels.
_OPTIONS = "metadata=1:dualmono=1"
_INTEGRATED = "lavfi.r128.I"


class Loudness:
    """Takes a clip's samples in pieces, in constant memory."""

    def __init__(self) -> None:
        self._graph = Graph()
        self._graph.threads = 1  # otherwise each clip would start one thread per core, for nothing
        self._clock = Fraction(1, SAMPLE_RATE)
        self._in = self._graph.add_abuffer(sample_rate=SAMPLE_RATE, format="s16", layout="mono", time_base=self._clock)
        self._meter = self._graph.add("ebur128", _OPTIONS)
        self._out = self._graph.add("abuffersink")
        self._in.link_to(self._meter)
        self._meter.link_to(self._out)
        self._graph.configure()
        self._samples = 0
        self._lufs = _ABSOLUTE_GATE

    def feed(self, piece: Mono) -> None:
        """Add samples at the end."""
        if not piece.size:
            return
        frame = AudioFrame.from_ndarray(piece[None, :], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, self._samples, self._clock
        self._samples += piece.size
        self._in.push(frame)
        self._read()

    def integrated_lufs(self) -> float | None:
        """Loudness of the samples fed, in LUFS; None for silence and for less than 0.4 s, the shortest measured part.

        Nothing can be fed afterwards.
        """
        self._in.push(None)
        self._read()
        return self._lufs if self._lufs > _ABSOLUTE_GATE else None

    def _read(self) -> None:
        """Take the filter's frames, one per 0.1 s; each holds the loudness of everything up to its end."""
        while True:
            try:
                found = self._out.pull().metadata.get(_INTEGRATED)
            except (NothingYetError, EndError):
                return
            if found is not None:  # the last frame has none when it is shorter than 0.1 s
                self._lufs = float(found)
