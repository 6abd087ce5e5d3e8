"""The moderation model of MODEL_SET, as far as this room needs it: loaded, or only what its files say.

The only file here that knows how a model set describes its moderation model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from config import Settings
from models.manifest import load_manifest
from models.sets import resolve
from moderation.cope_a import MAX_TOKENS
from moderation.policies import Policy
from moderation.prompt import PROMPT_VERSION, build_prompt
from moderation.scorer import Scorer

CHARACTERS_PER_TOKEN = 4  # of English under the tokenizers of such models, a little less than measured


class Judge(Protocol):
    """What is recorded with each verdict of a model, besides the score. A `Scorer` is one."""

    @property
    def name(self) -> str: ...

    @property
    def prompt_version(self) -> str: ...

    def threshold(self, policy: Policy) -> float: ...


@dataclass(frozen=True)
class Judging:
    """The `Judge` of a model that is not loaded."""

    name: str
    prompt_version: str
    thresholds: Mapping[str, float]  # the model's own, by policy id

    def threshold(self, policy: Policy) -> float:
        return self.thresholds.get(policy.id, policy.threshold)


@dataclass(frozen=True)
class Reading:
    """What a model can read at once, and how much of it a policy needs."""

    model: str
    max_tokens: int  # for policy, text and the words around them
    tokens: Callable[[Policy], int]  # of a policy's prompt, all but the text
    exact: bool  # False: `tokens` is an estimate, because the tokenizer is not on this host


def load_scorer(settings: Settings) -> Scorer:
    """Load the moderation model of MODEL_SET as a GPU worker does; takes seconds to minutes.

    Raises
    ------
    ModelError
        The model is missing, damaged, or does not answer as it must.
    OperatorError
        DEVICE is not there, or has too little memory.
    """
    from moderation.cope_a import load_cope_a
    from system.device import choose_device

    moderation = resolve(settings.model_set, settings.models_root).moderation
    return load_cope_a(
        moderation.base,
        moderation.adapter,
        device=choose_device(settings.device),
        name=moderation.name,
        policy_text=moderation.policy_text,
        thresholds=moderation.thresholds,
        min_p_answer=moderation.min_p_answer,
    )


def judging(settings: Settings) -> Judging:
    """How the moderation model of MODEL_SET judges; loads nothing. Raises ModelError when its files are missing."""
    moderation = resolve(settings.model_set, settings.models_root).moderation
    whole = moderation.policy_text == "full"
    return Judging(
        moderation.name,
        PROMPT_VERSION if whole else f"{PROMPT_VERSION}-{moderation.policy_text}",
        moderation.thresholds,
    )


def reading(settings: Settings) -> Reading:
    """What the moderation model of MODEL_SET reads. Its weights are not needed; raises ModelError for a wrong set."""
    moderation = load_manifest(settings.models_root).set(settings.model_set).moderation
    tokenizer = _tokenizer(settings.models_root / settings.model_set / moderation.base / "tokenizer.json")

    def tokens(policy: Policy) -> int:
        prompt = build_prompt(policy.overview if moderation.reads == "overview" else policy.body, "")
        if tokenizer is None:
            return -(-len(prompt) // CHARACTERS_PER_TOKEN)
        return len(tokenizer.encode(prompt, add_special_tokens=False).ids) + 1  # the token at the start

    return Reading(moderation.name, MAX_TOKENS, tokens, exact=tokenizer is not None)


def threshold_line(policy: Policy, threshold: float) -> str:
    """The line of `src/models.toml` that gives a set's model a threshold of its own for this version of a policy."""
    return f'thresholds = {{ "{policy.id}@{policy.version}" = {threshold} }}'


def _tokenizer(path: Path) -> Any:
    """The tokenizer, or None on a host without it, or without the library (it comes with the models)."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return None
    try:
        return Tokenizer.from_file(str(path))
    except Exception:  # noqa: BLE001 -- the library raises nothing narrower, for a missing file as for a damaged one
        return None
