"""Load the two models and the policies, once, and say in the log how much memory they leave for batches."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from config import Settings
from models.sets import resolve
from moderation.policies import Policy, load_policies
from moderation.scorer import Scorer
from moderation.thresholds import measured_for_others
from system.memory import device_bytes, gib
from transcription import Transcriber
from transcription.gate import Limits
from utils import event

log = logging.getLogger(__name__)

LITTLE = 0.05  # of the device's memory: with less left, batches will hardly fit


@dataclass(frozen=True)
class LoadedModels:
    transcriber: Transcriber
    scorer: Scorer
    policies: Sequence[Policy]


def load(settings: Settings, on_progress: Callable[[], None]) -> LoadedModels:
    """Load what the settings name; raises ConfigError, PolicyError, ModelError, or OperatorError for too little memory.

    `on_progress` is called between the models.
    """
    policies = load_policies(settings.policies_dir)
    models = resolve(settings.model_set, settings.models_root)
    # Imported here, not at the top: torch and related libraries take seconds and a gigabyte, which the heartbeat's
    # process, forked earlier, does not need, nor does a worker whose policies or models are not in order.
    from moderation.loading import load_scorer
    from system.device import choose_device
    from transcription.loading import load_transcriber

    device = choose_device(settings.device, settings.moderation_dtype)
    event(log, logging.INFO, "device chosen", device=device.name, hardware=device.description)
    began = time.monotonic()
    speech, moderation = models.speech, models.moderation
    free = [device_bytes(device.name)[0]]
    # The larger model first: during loading, its weights are in memory twice.
    scorer = load_scorer(moderation, device)
    free.append(device_bytes(device.name)[0])
    on_progress()
    transcriber = load_transcriber(
        speech.path,
        name=speech.name,
        device=device.computing(settings.speech_compute_type),
        batch_size=settings.batch_size,
        limits=gate_limits(settings),
        translated_except=settings.judged_language_codes if settings.other_languages == "translate" else None,
        alignment_dir=settings.models_root / "align",
    )
    free.append(device_bytes(device.name)[0])
    event(
        log, logging.INFO, "models loaded",
        speech=speech.name, moderation=moderation.name,
        policies=",".join(f"{policy.id}@{policy.version}" for policy in policies),
        took_s=time.monotonic() - began,
    )  # fmt: skip
    for policy, others in measured_for_others(policies, moderation.thresholds).items():
        event(
            log, logging.WARNING, "the model's threshold was measured for another version of this policy",
            policy=policy, measured_for=",".join(others), model=moderation.name,
            used="the threshold of the policy's file", advice="audio-pipeline policy calibrate",
        )  # fmt: skip
    _say_what_is_left(device.name, free)
    return LoadedModels(transcriber, scorer, policies)


def gate_limits(settings: Settings) -> Limits:
    """The gate's limits as the settings GATE_... say."""
    return Limits(**{limit.name: getattr(settings, f"gate_{limit.name}") for limit in fields(Limits)})


def _say_what_is_left(device: str, free: Sequence[int]) -> None:
    """`free` is the device's free memory before the models, after the first, and after both."""
    before, between, left = free
    total = device_bytes(device)[1]
    event(
        log, logging.WARNING if left < LITTLE * total else logging.INFO,
        "memory for batches" if left >= LITTLE * total else "little memory is left for batches",
        device=device, moderation=gib(max(0, before - between)), speech=gib(max(0, between - left)),
        left=f"{gib(left)} of {gib(total)}", plan="both models stay loaded and take turns",
    )  # fmt: skip
