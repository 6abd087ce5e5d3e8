"""The moderation model of MODEL_SET, as far as this room needs it: loaded, or only what its files say.

The only file here that knows how a model set describes its moderation model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from config import Settings
from models.manifest import Moderation, load_manifest
from models.sets import resolve
from moderation.adapters import FORMATS
from moderation.policies import Policy
from moderation.prompt_ids import PromptBuilder
from moderation.scorer import Scorer
from moderation.thresholds import threshold_key
from moderation.tokenizer import load_tokenizer

CHARACTERS_PER_TOKEN = 4  # of English under the tokenizers of such models, a little less than measured
FRAME_CHARACTERS = 210  # about, of the words around policy and text


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
    from moderation.loading import load_scorer as load
    from system.device import choose_device

    moderation = resolve(settings.model_set, settings.models_root).moderation
    return load(moderation, choose_device(settings.device, settings.moderation_dtype))


def reading(settings: Settings) -> Reading:
    """What the moderation model of MODEL_SET reads. Its weights are not needed; raises ModelError for a wrong set."""
    moderation = load_manifest(settings.models_root).set(settings.model_set).moderation
    prompts = _prompts(settings.models_root / settings.model_set / moderation.base, moderation)

    def tokens(policy: Policy) -> int:
        wording = policy.overview if moderation.reads == "overview" else policy.body
        if prompts is None:
            return -(-(len(wording) + FRAME_CHARACTERS) // CHARACTERS_PER_TOKEN)
        return moderation.max_tokens - prompts.room(wording)

    return Reading(moderation.name, moderation.max_tokens, tokens, exact=prompts is not None)


def threshold_line(policy: Policy, threshold: float) -> str:
    """The line of `src/models.toml` that gives a set's model a threshold of its own for this version of a policy."""
    return f'thresholds = {{ "{threshold_key(policy)}" = {threshold} }}'


def _prompts(folder: Path, moderation: Moderation) -> PromptBuilder | None:
    """Makes the model's prompts; None on a host without the tokenizer, or without the library that reads it."""
    if not (folder / "tokenizer.json").is_file():
        return None
    try:
        tokenizer = load_tokenizer(folder)
    except ImportError:
        return None
    return PromptBuilder(tokenizer, FORMATS[moderation.format], moderation.max_tokens)
