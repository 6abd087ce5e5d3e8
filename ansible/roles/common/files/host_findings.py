"""What the health check of a host finds, and how it is shown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

BROKEN = "could not be checked"
# Characters that are escaped, because findings quote file names and output of other programs. They are the same as in
# src/system/shown.py; a test compares them.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


Config = dict[str, Any]


@dataclass(frozen=True)
class Finding:
    check: str
    ok: bool
    value: str  # what was found
    next_step: str = ""  # what to do if it is not ok


def screen(host: str, findings: list[Finding]) -> str:
    bad = sum(not finding.ok for finding in findings)
    lines = [f"{host}: {'all checks passed' if not bad else f'{bad} of {len(findings)} checks failed'}"]
    for finding in findings:
        mark = "BAD" if not finding.ok else "-- " if finding.value.startswith(BROKEN) else "ok "
        lines.append(f"  {mark} {finding.check:<22} {finding.value}")
        if not finding.ok and finding.next_step:
            lines.append(f"      -> {finding.next_step}")
    return "\n".join(_FORBIDDEN.sub(lambda match: ascii(match[0])[1:-1], line) for line in lines)
