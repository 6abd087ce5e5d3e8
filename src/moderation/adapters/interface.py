"""What an adapter is: the words that one kind of model expects around policy and content, and how it answers.

An adapter knows one format of prompt and answer, and nothing of weights, batches or devices. A text takes one forward
pass, and the answer comes from comparing the logits of two tokens after the prompt: nothing is generated and no output
is parsed, so every text has an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from errors import ModelError

_MARK = "\ue000"  # stands for the content while a chat template is filled; a private letter, in no policy
_FIXED_DATE = "January 01, 2025"  # some templates write today's date; a verdict must not depend on the day


@dataclass(frozen=True)
class Frame:
    """The prompt of one policy without its content. `start` are tokens that no text stands for."""

    before: str
    after: str
    start: tuple[int, ...] = ()


class PromptFormat(Protocol):
    """One format of prompt and answer."""

    @property
    def version(self) -> str:
        """Recorded with every verdict; it changes when the words around policy and content change."""
        ...

    @property
    def answers(self) -> tuple[str, str]:
        """What the model says when the content does not meet the policy, and when it does. Each is one token."""
        ...

    def frame(self, tokenizer: Any, policy: str) -> Frame:
        """The words around the content, for a policy's text.

        Raises
        ------
        ModelError
            The tokenizer lacks what the format needs.
        """
        ...


def chat_frame(tokenizer: Any, before: str = "", after: str = "", **settings: Any) -> Frame:
    """What the tokenizer's chat template makes of a user's message `before` + content + `after`.

    The template of the model's own files is used, so a prompt always has the markers that the model was trained with.
    `settings` are variables of the template.
    """
    if not tokenizer.chat_template:
        raise ModelError(
            "the tokenizer of the moderation model has no chat template, but the model set's format needs one; fetch"
            " the model with all its files (chat_template.jinja or tokenizer_config.json)"
        )
    today: Callable[[str], str] = lambda _form: _FIXED_DATE  # noqa: E731  a variable of the template
    rendered: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": f"{before}{_MARK}{after}"}],
        tokenize=False,
        add_generation_prompt=True,
        strftime_now=today,
        **settings,
    )
    parts = rendered.split(_MARK)
    if len(parts) != 2:
        raise ModelError(
            f"the chat template of the moderation model shows the message {len(parts) - 1} times instead of once, so"
            " the place of the content is not known; use the template of the model's own release"
        )
    return Frame(parts[0], parts[1])
