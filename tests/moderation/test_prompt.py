"""The exact prompt, and what is cut when it is too long."""

from __future__ import annotations

import pytest

from moderation.prompt import OMISSION, build_prompt, fit_prompt, prompt_head

EXACT = (
    "INSTRUCTIONS\n============\n\n"
    "Examine the given POLICY and determine if the given CONTENT meets the criteria for ANY of the LABELS. "
    'Answer "1" if yes, and "0" if no.\n\n\n'
    "POLICY\n======\n\nBe kind.\n\n\n"
    "CONTENT\n=======\n\nHello {there}.\n\n\n"
    "ANSWER\n======\n\n"
)


def tokenize(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def detokenize(tokens: list[int]) -> str:
    return "".join(map(chr, tokens))


def test_the_prompt_is_the_one_that_cope_a_was_trained_on() -> None:
    assert build_prompt("Be kind.", "Hello {there}.") == EXACT


def test_white_space_around_policy_and_content_is_not_part_of_them() -> None:
    assert build_prompt("\nBe kind.\n\n", " Hello {there}.\n") == EXACT


def test_prompts_under_one_policy_begin_alike() -> None:
    head = prompt_head("Be kind.")
    assert all(build_prompt("Be kind.", text).startswith(head) for text in ("a", "b", ""))


def test_what_fits_is_left_alone() -> None:
    fitted = fit_prompt("Be kind.", "Hello {there}.", max_tokens=len(EXACT), tokenize=tokenize, detokenize=detokenize)
    assert fitted.text == EXACT
    assert not fitted.truncated


@pytest.mark.parametrize("room", [20, 100, 999])
def test_only_the_middle_of_the_content_is_cut(room: int) -> None:
    content = "first words " + "x" * 5000 + " last words"
    budget = len(build_prompt("Be kind.", "")) + room
    fitted = fit_prompt("Be kind.", content, max_tokens=budget, tokenize=tokenize, detokenize=detokenize)
    assert fitted.truncated
    assert fitted.text.startswith(prompt_head("Be kind."))
    assert fitted.text.endswith("\n\n\nANSWER\n======\n\n")
    assert OMISSION in fitted.text
    assert budget - 2 <= len(fitted.text) <= budget
    if room >= 100:
        assert "first words" in fitted.text
        assert "last words" in fitted.text


def test_a_policy_that_leaves_no_room_is_an_error() -> None:
    with pytest.raises(ValueError, match="leaves no room"):
        fit_prompt("p" * 500, "content", max_tokens=300, tokenize=tokenize, detokenize=detokenize)
