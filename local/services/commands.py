"""A folder for PATH with the two commands of the operator's guide: `redis-cli` and `psql`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from local.services.postgres import bin_dir

ROOT = Path(__file__).resolve().parents[2]

# redis-cli reads its password from REDISCLI_AUTH, but host and port only from its command line.
REAL = """\
#!/bin/sh
# redis-cli on the address of the environment. Written at start.
exec "{real}" -h "${{REDIS_HOST:-127.0.0.1}}" -p "${{REDIS_PORT:-6379}}" -n "${{REDIS_DB:-0}}" "$@"
"""
STAND_IN = """\
#!/bin/sh
# This machine has no redis-cli: a small stand-in that takes the same command lines. Written at start.
PYTHONPATH="{root}" exec "{python}" -m local.services.redis_cli "$@"
"""


def write_commands(folder: Path) -> None:
    """Write `redis-cli` (the machine's own if it has one, else a stand-in) and `psql` (the server's own)."""
    folder.mkdir(parents=True, exist_ok=True)
    real = next((found for name in ("redis-cli", "valkey-cli") if (found := shutil.which(name))), None)
    own = folder / "redis-cli"
    if real is not None and Path(real).resolve() == own.resolve():
        return  # the folder is on PATH already; what it holds is right
    own.write_text(REAL.format(real=real) if real else STAND_IN.format(root=ROOT, python=sys.executable))
    own.chmod(0o755)
    psql = folder / "psql"
    psql.unlink(missing_ok=True)
    psql.symlink_to(bin_dir() / "psql")
