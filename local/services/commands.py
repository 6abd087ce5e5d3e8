"""Creates a folder for PATH with two commands of the operator's guide: `redis-cli` and `psql`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from local.services.postgres import bin_dir

ROOT = Path(__file__).resolve().parents[2]

# redis-cli reads its password from REDISCLI_AUTH, but host and port only from its command line.
REAL = """\
#!/bin/sh
# Calls redis-cli with the address of the environment. Written when the services start.
exec "{real}" -h "${{REDIS_HOST:-127.0.0.1}}" -p "${{REDIS_PORT:-6379}}" -n "${{REDIS_DB:-0}}" "$@"
"""
STAND_IN = """\
#!/bin/sh
# Replaces redis-cli, which this machine does not have. Written when the services start.
PYTHONPATH="{root}" exec "{python}" -m local.services.redis_cli "$@"
"""


def write_commands(folder: Path) -> None:
    """Write `redis-cli` (the one of this machine, or else a replacement) and `psql` (the one of the server's wheel)."""
    folder.mkdir(parents=True, exist_ok=True)
    real = next((found for name in ("redis-cli", "valkey-cli") if (found := shutil.which(name))), None)
    own = folder / "redis-cli"
    if real is not None and Path(real).resolve() == own.resolve():
        return  # the folder is on PATH already and has the right commands
    own.write_text(REAL.format(real=real) if real else STAND_IN.format(root=ROOT, python=sys.executable))
    own.chmod(0o755)
    psql = folder / "psql"
    psql.unlink(missing_ok=True)
    psql.symlink_to(bin_dir() / "psql")
