"""Clips as a study has them: half a minute of sound at the pipeline's bit rate, its waveform, sentences and words."""

from __future__ import annotations

import io
import json
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from media.waveform import Waveform
from tests.ra_app.world import POLICY, RATE, SCORE, World

SECONDS = 30
BIT_RATE = 32_000  # bits per second, as the pipeline encodes
SOUNDS = 6  # different recordings; clips share them, so that a large database is filled in seconds
SAID = (
    "So this is what happened when we went down to the river",
    "and nobody had told us that the bridge was closed that day",
    "so we walked all the way around with the bags and everything",
    "my brother kept saying that we should have taken the bus",
    "but you know how he is when he has made up his mind",
    "and then this man came out of the house and started shouting",
    "I could not even understand what he wanted from us at first",
    "he said that the whole road belonged to him and to his family",
    "which is not true because I have looked at the map since then",
    "anyway that is the story and we are never going there again",
)
_FILL = """
    INSERT INTO batches (batch_id) VALUES ('20261120-103000-a1b2c3') ON CONFLICT DO NOTHING;
    INSERT INTO audio_files (batch_id, original_filename, status, duration_s, processed_at, s3_opus_path, peaks,
                             loudness_lufs, peak_dbfs)
    SELECT '20261120-103000-a1b2c3', 'clip-' || n || '.m4a', 'done', %(seconds)s, '2026-11-20T12:00:00Z',
           (%(keys)s)[1 + n %% array_length(%(keys)s, 1)], %(peaks)s, -19.5, -4.2
    FROM generate_series(1, %(count)s) n;
    INSERT INTO transcripts (audio_id, model, text, language, segments, words, speech_s, no_speech, finding, reasons)
    SELECT audio_id, 'large-v3', %(text)s, 'en', %(segments)s, %(words)s, 28, false,
           CASE WHEN audio_id %% 10 = 0 THEN 'doubtful' ELSE 'speech' END,
           CASE WHEN audio_id %% 10 = 0 THEN %(reasons)s ELSE '{}' END
    FROM audio_files;
    INSERT INTO classifications (audio_id, transcript_id, policy, policy_version, policy_sha256, model, prompt_version,
                                 violates, score, threshold, mass, truncated)
    SELECT audio_id, transcript_id, %(policy)s, '1.0.0', 'abc', 'model-omega-9', '1', true,
           CASE audio_id %% 3 WHEN 0 THEN 0.5137 WHEN 1 THEN %(score)s ELSE 0.8291 END, 0.4321, 1, false
    FROM transcripts;
    ANALYZE
"""


def speech_like(seed: int) -> NDArray[np.int16]:
    """Noise that swells and fades like syllables; it takes the bits that speech takes. Mono, at `RATE`."""
    chance = np.random.default_rng(seed)
    noise = np.convolve(chance.standard_normal(RATE * SECONDS), np.hanning(24), "same")
    swell = np.interp(np.arange(noise.size), np.arange(0, noise.size, RATE // 8), chance.random(SECONDS * 8))
    loud = noise * swell
    return np.asarray(loud / np.abs(loud).max() * 0.6 * 32_767, np.int16)


def as_opus(samples: NDArray[np.int16]) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=RATE, layout="mono", bit_rate=BIT_RATE)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


class Filling:
    """Fills a world with flagged clips. The recordings are made and stored once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.keys = [f"processed/2026-11-20/bench-{n}.opus" for n in range(SOUNDS)]
        sounds = [speech_like(n) for n in range(SOUNDS)]
        files = [as_opus(sound) for sound in sounds]
        for key, body in zip(self.keys, files, strict=True):
            world.put(key, body)
        wave = Waveform()
        wave.feed(sounds[0])
        self.peaks = wave.peaks()
        self.audio_bytes = sum(map(len, files)) // SOUNDS

    def clips(self, count: int) -> None:
        """Empty the database, and add an account `mira` and this many flagged clips, one in ten doubtful."""
        self.world.empty()
        self.world.add_user("mira")
        self.world.sql(_FILL, **self._values(count))

    def _values(self, count: int) -> dict[str, Any]:
        each = SECONDS / len(SAID)
        segments = [
            {"start": each * n, "end": each * (n + 1) - 0.1, "text": f" {said}.", "avg_logprob": -0.7071}
            for n, said in enumerate(SAID)
        ]
        words = [
            {"start": round(each * n + 0.2 * k, 2), "end": round(each * n + 0.2 * k + 0.18, 2), "word": word}
            for n, said in enumerate(SAID)
            for k, word in enumerate(said.split())
        ]
        return {
            "count": count,
            "seconds": SECONDS,
            "keys": self.keys,
            "peaks": self.peaks,
            "text": " ".join(SAID),
            "segments": json.dumps(segments),
            "words": json.dumps(words),
            "reasons": ["few-words", "unclear-language"],
            "policy": POLICY,
            "score": SCORE,
        }
