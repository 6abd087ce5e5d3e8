"""Loads the models of the pipeline for the benchmarks, with full policies in the prompt."""

from __future__ import annotations

from pathlib import Path

from moderation.cope_a import load_cope_a

from moderation.scorer import Scorer
from system.device import Device
from transcription import Transcriber
from transcription.whisperx_engine import load_transcriber


def load_speech(model: Path, device: Device, batch_size: int) -> Transcriber:
    """The pipeline's speech engine."""
    return load_transcriber(model, name=model.name, device=device, batch_size=batch_size)


def load_scorer(base: Path, adapter: Path | None, device: Device) -> Scorer:
    """The pipeline's scorer for a model that reads CoPE-A's prompt; it is never refused for what it answers."""
    return load_cope_a(base, adapter, device=device, name=base.name, policy_text="full")
