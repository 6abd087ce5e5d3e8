"""Loads the models of the pipeline for the benchmarks, with full policies in the prompt."""

from __future__ import annotations

from pathlib import Path

from models.sets import ModerationModel
from moderation.loading import load_scorer as load
from moderation.scorer import Scorer
from system.device import Device
from transcription import Transcriber
from transcription.loading import load_transcriber

MAX_TOKENS = 8192  # policy and content together


def load_speech(model: Path, device: Device, batch_size: int) -> Transcriber:
    """The pipeline's speech engine."""
    return load_transcriber(model, name=model.name, device=device, batch_size=batch_size)


def load_scorer(base: Path, adapter: Path | None, device: Device) -> Scorer:
    """The pipeline's scorer for a model that reads CoPE-A's prompt; it is never refused for what it answers."""
    files = ModerationModel(
        name=base.name,
        base=base,
        adapter=adapter,
        format="cope-a",
        policy_text="full",
        max_tokens=MAX_TOKENS,
        thresholds={},
        min_p_answer=0.0,
    )
    return load(files, device)
