"""Speaks a text with Kokoro-82M (Apache-2.0), from a folder with ``kokoro-fp32.onnx`` and ``voices/NAME.bin``."""

# The runner lives in an environment of its own, where the clips are made, and not in the project's.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from kokoro_onnx import Kokoro

from local.samples.sound import RATE_HZ, Signal

STYLE_WIDTH = 256  # numbers in one style vector; a voice file holds one vector for every length of text
SENTENCE_PAUSE_S = 0.3


class Speaker:
    """The loaded model with the voices asked for."""

    def __init__(self, folder: Path, voices: Iterable[str]) -> None:
        """Load the model; raises ``FileNotFoundError`` that names the file missing from ``folder``."""
        styles = {name: self._style(folder / "voices" / f"{name}.bin") for name in sorted(set(voices))}
        with tempfile.TemporaryDirectory() as scratch:
            bundle = Path(scratch) / "voices.npz"  # the runner takes all voices from one file
            np.savez(bundle, allow_pickle=False, **styles)
            self._model = Kokoro(str(folder / "kokoro-fp32.onnx"), str(bundle))
            # An open .npz reads lazily: take the arrays before the folder goes.
            self._model.voices = styles

    @staticmethod
    def _style(path: Path) -> Signal:
        return np.fromfile(path, dtype="<f4").reshape(-1, 1, STYLE_WIDTH)

    def say(self, text: str, voice: str, lang: str, speed: float) -> Signal:
        """Return ``text`` as speech at ``RATE_HZ``; ``lang`` names the phoneme set, such as ``en-us`` or ``es``."""
        audio, rate_hz = self._model.create(text, voice=voice, lang=lang, speed=speed, sentence_pause=SENTENCE_PAUSE_S)
        if rate_hz != RATE_HZ:
            raise ValueError(f"The voice model speaks at {rate_hz} Hz, {RATE_HZ} Hz are expected.")
        return np.asarray(audio, dtype=np.float32)
