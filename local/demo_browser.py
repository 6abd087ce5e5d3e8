"""Finds or installs a Chromium for the browser tests: `python -m local.demo_browser` prints its path."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

COMMANDS = ("chromium", "chromium-browser", "google-chrome")
HOW = "Run `make browser`, install the package chromium, or set CHROMIUM to the path of a browser."


def find_chromium() -> str | None:
    """Return the path of a Chromium, or None: first CHROMIUM, then PATH, then the one that Playwright has installed."""
    named = os.environ.get("CHROMIUM")
    if named:
        return shutil.which(named)
    return next((path for name in COMMANDS if (path := shutil.which(name))), None) or _playwrights_own()


def _playwrights_own() -> str | None:
    plan = subprocess.run(
        [sys.executable, "-m", "playwright", "install", "--dry-run", "chromium"],
        capture_output=True,
        text=True,
        check=False,
    )
    for folder in re.findall(r"Install location:\s*(\S.*)", plan.stdout):
        for binary in sorted(Path(folder).glob("chrom*/*chrom*")) + sorted(Path(folder).glob("*/*/MacOS/Chromium")):
            if binary.is_file() and os.access(binary, os.X_OK):
                return str(binary)
    return None


def _attempts() -> list[tuple[str, list[list[str]]]]:
    ways = [("Playwright's download", [[sys.executable, "-m", "playwright", "install", "chromium"]])]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        ways.append(("the system's package", [["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "chromium"]]))
    return ways


def main() -> int:
    """Print the path of a browser and install one if needed. Return 1 if that fails."""
    if os.environ.get("CHROMIUM") and find_chromium() is None:
        print(f"CHROMIUM is {os.environ['CHROMIUM']}, but this program does not exist.", file=sys.stderr)
        return 1
    for name, commands in [("", []), *_attempts()]:
        if name:
            print(f"No Chromium found; trying {name}.", file=sys.stderr)
        for command in commands:
            if subprocess.run(command, check=False, stdout=sys.stderr).returncode != 0:
                break
        if found := find_chromium():
            print(found)
            return 0
    print(f"Chromium could not be installed. {HOW}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
