"""Where the demo keeps what, and the settings that every program of it gets."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from local.services import Services
from local.services.state import write_private

ROOT = Path(__file__).resolve().parent.parent
DEMO = Path(os.environ.get("DEMO_ROOT") or ROOT / ".demo").resolve()  # tests give theirs
LOGS = DEMO / "logs"
RUN = DEMO / "run"
SCRATCH = DEMO / "scratch"
STAGING = DEMO / "staging"
LIBRIVOX = DEMO / "librivox"
ENV_FILE = DEMO / "env"
RA_USER = "demo"
RA_PASSWORD_FILE = DEMO / "ra-password"

STOP_TIMEOUT_S = 15  # a worker that is asked to stop hands its job back after so long


def shown(path: Path) -> str:
    """A path as a person would type it here."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def models_root() -> Path:
    return Path(os.environ.get("MODELS_ROOT") or ROOT / "models").resolve()


def pipeline_environ(services: Services) -> dict[str, str]:
    """Every setting of the pipeline, as systemd would hand it to the workers."""
    return {
        **services.environ(),
        "SCRATCH_ROOT": str(SCRATCH),
        "MODELS_ROOT": str(models_root()),
        "MODEL_SET": "demo",
        "WORKER_HOST": "demo",
        "STOP_TIMEOUT_S": str(STOP_TIMEOUT_S),
        "LOG_DIR": str(LOGS),
        "TRANSFER_STAGING": str(STAGING),
        "TRANSFER_POLL_S": "1",
        "TRANSFER_SETTLE_S": "2",
    }


def ra_app_environ(services: Services) -> dict[str, str]:
    """Every setting of the RA app. `development`: log-in works over plain http on this machine."""
    return {**services.ra_app_environ(), "FLASK_APP": "app", "FLASK_ENV": "development"}


def write_env_file(services: Services) -> None:
    """`.demo/env` (0600): source it, and redis-cli, psql, aws, flask and python talk to the demo, in any directory."""
    settings, ra_app = pipeline_environ(services), ra_app_environ(services)
    shell = {
        **settings,
        **{name: ra_app[name] for name in ("DATABASE_URL", "SECRET_KEY", "FLASK_ENV")},
        "FLASK_APP": str(ROOT / "ra_app" / "app"),
        "REDISCLI_AUTH": services.redis_password,
        "PGHOST": settings["POSTGRES_HOST"],
        "PGPORT": settings["POSTGRES_PORT"],
        "PGUSER": settings["POSTGRES_USER"],
        "PGDATABASE": settings["POSTGRES_DB"],
        "PGPASSWORD": settings["POSTGRES_PASSWORD"],
        "AWS_ACCESS_KEY_ID": settings["S3_ACCESS_KEY"],
        "AWS_SECRET_ACCESS_KEY": settings["S3_SECRET_KEY"],
        "AWS_DEFAULT_REGION": settings["S3_REGION"],
    }
    lines = ["# The demo's settings and passwords. Use: . .demo/env"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in shell.items()]
    lines.append(f'export PATH={shlex.quote(str(services.bin_dir))}:{shlex.quote(str(ROOT / ".venv/bin"))}:"$PATH"')
    write_private(ENV_FILE, "\n".join(lines) + "\n")
