"""Filters that say in a sentence why a step failed, so that the last message of a run names the cause."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

# What `audio-pipeline config check` prints at the start of a line. A line without it continues the one before.
_CHECKED = re.compile(r"(Redis|Postgres|clocks|policies|S3|scratch) +(.*)")
_SHOWN = 400  # characters of a message


def refusals(answers: Iterable[Mapping[str, Any]]) -> list[str]:
    """What the answers of `config check` (results of a loop over units) complain of, each once.

    "S3: refuses access …". If a unit's answer names no service (a setting is wrong), its error message.
    """
    found: list[str] = []
    for answer in answers:
        if answer.get("rc", 1) != 0:
            found += _bad_lines(str(answer.get("stdout", ""))) or [cause(answer)]
    return list(dict.fromkeys(found))


def _bad_lines(printed: str) -> list[str]:
    lines: list[str] = []
    for line in printed.splitlines():
        named = _CHECKED.match(line)
        if named:
            lines.append(f"{named[1]}: {named[2]}")
        elif lines:
            lines[-1] += f" {line.strip()}"
    return [line[:_SHOWN] for line in lines if not line.partition(": ")[2].startswith(("good", "not checked"))]


def cause(result: Mapping[str, Any]) -> str:
    """Why a task failed: what its command says on standard error, else Ansible's message; in a loop, item by item."""
    items = [item for item in result.get("results") or [] if item.get("failed")]
    if items:
        return "; ".join(dict.fromkeys(f"{item.get('item', '')}: {cause(item)}" for item in items))
    for name in ("stderr", "msg", "stdout", "module_stderr"):
        text = " ".join(str(result.get(name) or "").split())
        if text and text != "non-zero return code":
            return text[-_SHOWN:]
    return f"exit code {result['rc']}, without a message" if "rc" in result else "without a message"


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"refusals": refusals, "cause": cause}
