"""Builds the tokens of a prompt from a policy's text and a content, and shortens a content that is too long.

The text is turned into tokens once. A prompt that is too long loses a run of tokens from the middle of its content:
tokens are never turned back into text, because reading that text again would give other tokens (and a start token in
its middle). Policy and frame are never shortened.

Only the content is read for each text where this provably gives the tokens of the whole prompt: reading 1,000 tokens of
policy again takes 1.8 ms, as long as a third of a verdict on a GPU. See `_is_apart`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from errors import ModelError
from moderation.adapters import Frame, PromptFormat

OMISSION = " [...] "  # stands where the middle was cut out
_PROBE_POLICY = "## Overview\n\nThis policy covers threats of violence."
_PROBE_TEXT = "I walked the dog and then I made some tea."


@dataclass(frozen=True)
class PromptIds:
    """The tokens of a prompt. `truncated` is True when the middle of the content was cut out."""

    ids: list[int]
    truncated: bool


@dataclass(frozen=True)
class _Around:
    """A policy's frame as tokens; `apart` is True when a content may be read by itself."""

    frame: Frame
    head: list[int]
    tail: list[int]
    apart: bool


class PromptBuilder:
    """Makes the prompts of one model; not safe for several threads, because a tokenizer keeps state during a call."""

    def __init__(self, tokenizer: Any, form: PromptFormat, max_tokens: int) -> None:
        """`max_tokens` is the model's window for the whole prompt."""
        self._tokenizer = tokenizer
        self._form = form
        self._max_tokens = max_tokens
        self._around: dict[str, _Around] = {}

    def head(self, policy: str) -> list[int]:
        """The tokens before the content: those that the prompts of a policy share, but perhaps for the last."""
        return self._frame(policy).head

    def room(self, policy: str) -> int:
        """The tokens that are left for a content under a policy's text; below 1 when the policy is too long."""
        around = self._frame(policy)
        return self._max_tokens - len(around.head) - len(around.tail)

    def build(self, policy: str, content: str) -> PromptIds:
        """The prompt for a policy's text and a content.

        Raises
        ------
        ValueError
            The policy leaves no room for content within the model's window.
        """
        around = self._frame(policy)
        head, own, tail = self._parts(around, self._plain(content.strip()))
        room = self._max_tokens - len(head) - len(tail)
        if len(own) <= room:
            return PromptIds([*head, *own, *tail], truncated=False)
        return PromptIds([*head, *self._shortened(own, room), *tail], truncated=True)

    def probe(self) -> PromptIds:
        """A short prompt, to see what the model answers."""
        return self.build(_PROBE_POLICY, _PROBE_TEXT)

    @cached_property
    def answers(self) -> tuple[int, int]:
        """The tokens of the two answers after a prompt: not violated, violated.

        Raises
        ------
        ModelError
            An answer is not a single token there, so two logits cannot give the verdict.
        """
        frame = self._form.frame(self._tokenizer, _PROBE_POLICY)
        no, yes = self._form.answers
        prompt = f"{frame.before}{_PROBE_TEXT}{frame.after}"
        return answer_id(self._tokenizer, prompt, no), answer_id(self._tokenizer, prompt, yes)

    def _frame(self, policy: str) -> _Around:
        if policy not in self._around:
            frame = self._form.frame(self._tokenizer, self._plain(policy))
            head, tail = [*frame.start, *self._read(frame.before)], self._read(frame.after)
            self._around[policy] = _Around(frame, head, tail, self._is_apart(frame))
        return self._around[policy]

    def _parts(self, around: _Around, content: str) -> tuple[list[int], list[int], list[int]]:
        """The tokens before the content, of the content, and behind it; together they are the whole prompt's."""
        if around.apart and content:
            return around.head, self._read(content), around.tail
        return self._parts_of_whole(around.frame, content)

    def _parts_of_whole(self, frame: Frame, content: str) -> tuple[list[int], list[int], list[int]]:
        """As `_parts`, from the whole text. A token with a letter of the content belongs to the content."""
        read = self._tokenizer(
            f"{frame.before}{content}{frame.after}", add_special_tokens=False, return_offsets_mapping=True
        )
        ids, places = read["input_ids"], read["offset_mapping"]
        begin = len(frame.before)
        first = sum(end <= begin for _, end in places)
        last = sum(start < begin + len(content) for start, _ in places)
        return [*frame.start, *ids[:first]], ids[first : max(first, last)], ids[max(first, last) :]

    def _shortened(self, own: Sequence[int], room: int) -> list[int]:
        """Cut the middle out. People often say the most important things first and last: equal parts of both stay."""
        omission = self._read(OMISSION)
        keep = room - len(omission)
        if keep < 2:
            raise ValueError(f"the policy leaves no room for content within {self._max_tokens} tokens")
        return [*own[: (keep + 1) // 2], *omission, *own[len(own) - keep // 2 :]]

    def _read(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _plain(self, text: str) -> str:
        """The text without the model's control tokens: with a space inside they are ordinary text."""
        return self._control.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text) if self._control else text

    @cached_property
    def _control(self) -> re.Pattern[str] | None:
        added = (token.content for token in self._tokenizer.added_tokens_decoder.values() if token.special)
        tokens = {token for token in (*self._tokenizer.all_special_tokens, *added) if len(token) > 1}
        return re.compile("|".join(map(re.escape, sorted(tokens, key=lambda token: -len(token))))) if tokens else None

    def _is_apart(self, frame: Frame) -> bool:
        """Whether content and frame, read apart, give the tokens of the whole prompt, for every content.

        This is so where no token can hold letters of both: at a newline, if no token of the vocabulary has a newline
        beside another letter (a content begins and ends with another letter), and at a control token, which a tokenizer
        cuts out first. The probe finds tokenizers that treat the start of a text in a way of their own.
        """
        ends = self._newlines_are_apart and frame.before.endswith("\n")
        begins = self._newlines_are_apart and frame.after.startswith("\n")
        if self._control is not None:
            ends = ends or bool(re.search(f"(?:{self._control.pattern})$", frame.before))
            begins = begins or bool(self._control.match(frame.after))
        if not (ends and begins):
            return False
        head, own, tail = self._parts_of_whole(frame, _PROBE_TEXT)
        apart = [*frame.start, *self._read(frame.before)], self._read(_PROBE_TEXT), self._read(frame.after)
        return (head, own, tail) == apart

    @cached_property
    def _newlines_are_apart(self) -> bool:
        vocabulary = self._tokenizer.get_vocab()
        # A byte-level vocabulary writes the newline as another letter, so its tokens would pass unseen.
        return any("\n" in token for token in vocabulary) and not any(
            "\n" in token and token.strip("\n") for token in vocabulary
        )


def answer_id(tokenizer: Any, prompt: str, answer: str) -> int:
    """The token of an answer after a prompt; raises ModelError if it is not a single token there.

    Scoring reads the prompt without its answer, so texts are compared here, not lists of tokens: some tokenizers split
    newlines before a digit differently than newlines at the end.
    """
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    token = tokenizer(prompt + answer, add_special_tokens=False)["input_ids"][-1]
    if token == tokenizer.unk_token_id or tokenizer.decode([*before, token]) != tokenizer.decode(before) + answer:
        raise ModelError(f'"{answer}" is not a single token after the prompt with this tokenizer')
    return int(token)
