"""List, fetch, pin and verify the model sets on this host.

Each function calls `say` with one line of progress at a time. All raise ModelError with one sentence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from models.fetch import Fetcher, record_problem
from models.hub import pin_lines
from models.manifest import Manifest
from models.sets import fetch_command, parts, resolve

Say = Callable[[str], None]


def listing(manifest: Manifest, root: Path) -> Iterator[str]:
    """Yield lines that describe the sets: parts, sizes, sources, licences, and whether a part is in MODELS_ROOT."""
    for chosen in manifest.sets.values():
        yield f"{chosen.name}: {chosen.help}"
        for part in parts(manifest, chosen):
            folder = root / chosen.name / part.name
            state = "missing" if not folder.is_dir() else record_problem(part, folder) or "here"
            source = part.hub.repo if part.hub else ", ".join(part.packages) or "brought by hand"
            yield f"  {part.name:26} {part.bytes / 1e9:6.2f} GB  {state}"
            yield f"  {'':26} {part.help}; licence: {part.licence}; from {source}"


def fetch(manifest: Manifest, set_name: str, root: Path, source: Path | None, hub_token: str | None, say: Say) -> None:
    """Fetch every part of a set from its own source, or from the folder `source`."""
    began = time.monotonic()
    wanted = parts(manifest, manifest.set(set_name))
    fetcher = Fetcher(root / set_name, fetch_command(set_name), say, hub_token)
    for part in wanted:
        fetcher.check_pinned(part)
    for part in wanted if source is None else ():
        fetcher.check_access(part)
    for part in wanted:
        fetcher.fetch(part, source)
    resolve(set_name, root)
    say(f"set {set_name} is ready in {root / set_name} ({time.monotonic() - began:.1f} s)")


def pin(manifest: Manifest, set_name: str, hub_token: str | None, say: Say) -> None:
    """Print the newest commit and the hashes of each part that follows a branch. Nothing is downloaded."""
    wanted = parts(manifest, manifest.set(set_name))
    loose = [part for part in wanted if part.hub is not None and not part.hub.is_pinned]
    for part in loose:
        lines = pin_lines(part, hub_token, fetch_command(set_name).replace(" fetch ", " pin "))
        say(f"# {part.name}: replace these two tables in src/models.toml, keep the other lines, and commit the file")
        say(lines)
    if not loose:
        say(f"# every part of {set_name} is pinned")


def verify(manifest: Manifest, set_name: str, root: Path, say: Say) -> None:
    """Hash every file of a set, and compare it with the manifest."""
    fetcher = Fetcher(root / set_name, fetch_command(set_name), say, None)
    for part in parts(manifest, manifest.set(set_name)):
        fetcher.verify(part)
    resolve(set_name, root)
