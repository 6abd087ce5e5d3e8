"""Gemma's tokenizer as it should come out of a GGUF file.

Gemma's vocabulary is byte-pair encoding: a token's number tells when its merge was learnt, and text is merged in that
order. transformers reads it from GGUF as a unigram model over the same vocabulary, which splits "know" into "kn" and
"ow", needs twice the tokens and hands the model words it has hardly seen. So the merges are put together again here: a
token can come from every pair of tokens that make it up, earlier numbers first.
"""

import json
from typing import Any

from tokenizers import Tokenizer

Merge = tuple[int, str, str]  # number of the merged token, left part, right part


def is_misread(tokenizer_json: str) -> bool:
    """Whether a tokenizer is what transformers makes of Gemma's: unigram, with bytes to fall back on."""
    model = json.loads(tokenizer_json)["model"]
    return model["type"] == "Unigram" and bool(model.get("byte_fallback"))


def rebuild(tokenizer_json: str) -> Tokenizer:
    """The tokenizer with the same vocabulary, special tokens and decoder, and with its merges."""
    described = json.loads(tokenizer_json)
    numbers = {token: number for number, (token, _) in enumerate(described["model"]["vocab"])}
    special = {token["content"] for token in described["added_tokens"]}
    described["model"] = _bpe(numbers, special)
    described["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    return Tokenizer.from_str(json.dumps(described))


def _bpe(numbers: dict[str, int], special: set[str]) -> dict[str, Any]:
    merges: list[Merge] = []
    for token, number in numbers.items():
        if token not in special and not (token.startswith("<0x") and token.endswith(">")):
            merges += _merges(token, number, numbers)
    merges.sort(key=lambda merge: merge[0])  # stable: within a token the order of _merges stays
    return {
        "type": "BPE",
        "unk_token": "<unk>",
        "fuse_unk": True,
        "byte_fallback": True,
        "vocab": numbers,
        "merges": [[left, right] for _, left, right in merges],
    }


def _merges(token: str, number: int, numbers: dict[str, int]) -> list[Merge]:
    """Every way to make the token of two others, the parts that were learnt first leading."""
    parts = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
    known = [(left, right) for left, right in parts if left in numbers and right in numbers]
    known.sort(key=lambda pair: (numbers[pair[0]], numbers[pair[1]]))
    return [(number, left, right) for left, right in known]
