"""Runs commands on this machine, and checks that it has what a fleet needs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.fleet.layout import FleetError

PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "nft": "nftables",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "ssh-keygen": "openssh-client",
    "losetup": "mount",
    "age-keygen": "age",
    "git": "git",
}


def require_root_and_programs() -> None:
    if os.geteuid() != 0:
        raise FleetError("the fleet boots hosts and so needs root: run it as root, on a machine where that is fine")
    missing = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    if missing:
        raise FleetError(f"the fleet needs Debian packages that are not installed: apt install {' '.join(missing)}")


def sh(
    *command: str | Path,
    given: str | None = None,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_s: float = 600,
) -> subprocess.CompletedProcess[str]:
    """Run a command -> its result; raises FleetError with the end of its output if it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, input=given, capture_output=True, text=True, check=False, env=env, cwd=cwd, timeout=timeout_s
    )
    if check and done.returncode != 0:
        raise FleetError(f"{' '.join(words)} failed ({done.returncode}): {last_words(done)}")
    return done


def last_words(done: subprocess.CompletedProcess[str], lines: int = 25) -> str:
    return "\n".join((done.stdout + done.stderr).strip().splitlines()[-lines:])


def quiet(commands: Sequence[Sequence[str | Path]]) -> None:
    """Run commands that may fail because there is nothing to do."""
    for command in commands:
        sh(*command, check=False)
