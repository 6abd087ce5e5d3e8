"""The objects that all views share: the codebook and the audio store. The app makes them once per process."""

from __future__ import annotations

from dataclasses import dataclass

from flask import current_app

from app.codebook import Codebook
from app.storage import AudioStore


@dataclass(frozen=True, kw_only=True)
class State:
    codebook: Codebook
    audio: AudioStore


def state() -> State:
    shared: State = current_app.extensions["ra"]
    return shared
