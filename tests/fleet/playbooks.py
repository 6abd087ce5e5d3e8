"""Runs commands of the guide as the operator does: by a shell, in `ansible/` of the operator's checkout."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.fleet.checkout import ANSIBLE, environment
from tests.fleet.layout import FLEET, FleetError

LOGS = FLEET / "logs"  # all output of Ansible; the scenario `secrecy` searches it for secrets
LIMIT_S = 2400.0
RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """The result of a command. `ok`, `changed` and `failed` are numbers of tasks for each host, from the recap."""

    line: str
    code: int
    output: str
    took_s: float
    log: Path
    ok: Mapping[str, int] = field(default_factory=dict)
    changed: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)  # unreachable hosts, too

    @property
    def touched(self) -> dict[str, int]:
        return {host: count for host, count in self.changed.items() if count}

    def changed_tasks(self) -> list[str]:
        """The names of the tasks that changed something, in order, without repetition."""
        found: dict[str, None] = {}
        task = ""
        for line in self.output.splitlines():
            if line.startswith(("TASK [", "RUNNING HANDLER [")):
                task = line.partition("[")[2].partition("]")[0]
            elif line.startswith("changed:"):
                found[f"{task} ({line.removeprefix('changed:').split('=>')[0].strip()})"] = None
        return list(found)

    def last_words(self, lines: int = 40) -> str:
        return "\n".join(self.output.strip().splitlines()[-lines:])


class Running:
    """A command that runs in the background."""

    def __init__(self, line: str, env: Mapping[str, str] | None = None) -> None:
        LOGS.mkdir(parents=True, exist_ok=True)
        self.line = line
        self.log = LOGS / f"{len(list(LOGS.iterdir())):03d}-{_slug(line)}.log"
        self._began = time.monotonic()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", line],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ANSIBLE,
                env=environment() | dict(env or {}),
                start_new_session=True,
            )

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self, limit_s: float = LIMIT_S) -> Outcome:
        try:
            code = self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            raise FleetError(f"{self.line} did not end within {limit_s:.0f} s; see {self.log}") from None
        output = self.log.read_text(errors="replace")
        recap = RECAP.findall(output)
        return Outcome(
            line=self.line,
            code=code,
            output=output,
            took_s=time.monotonic() - self._began,
            log=self.log,
            ok={host: int(ok) for host, ok, *_ in recap},
            changed={host: int(changed) for host, _, changed, *_ in recap},
            failed={host: int(away) + int(failed) for host, _, _, away, failed in recap},
        )


def _slug(line: str) -> str:
    words = re.sub(r"^\s*ansible(-playbook)?\s+(playbooks/)?", "", line)
    return re.sub(r"[^A-Za-z0-9]+", "-", words).strip("-")[:50] or "command"
