"""The demo's folders and files, and the settings of its programs."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from local.services import Services
from local.services.state import write_private

ROOT = Path(__file__).resolve().parent.parent
DEMO = Path(os.environ.get("DEMO_ROOT") or ROOT / ".demo").resolve()  # tests set their own
LOGS = DEMO / "logs"
RUN = DEMO / "run"
SCRATCH = DEMO / "scratch"
STAGING = DEMO / "staging"
LIBRIVOX = DEMO / "librivox"
EXPORTS = DEMO / "exports"
ENV_FILE = DEMO / "env"
RA_USER, RA_LEAD = "demo", "lead"  # an account that labels, and one of a lead
RA_ACCOUNTS = {RA_USER: "ra", RA_LEAD: "lead"}  # with their roles

STOP_TIMEOUT_S = 15  # seconds after which a stopping worker hands its job back


def shown(path: Path) -> str:
    """Return a path relative to the repository if it is inside it."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def password_file(username: str) -> Path:
    return DEMO / {RA_USER: "ra-password", RA_LEAD: "ra-lead-password"}[username]


def models_root() -> Path:
    return Path(os.environ.get("MODELS_ROOT") or ROOT / "models").resolve()


def pipeline_environ(services: Services) -> dict[str, str]:
    """Return all settings of the pipeline, as the workers get them from systemd on a host."""
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
    """Return all settings of the RA app. With `development`, log-in works over plain http on this machine."""
    return {**services.ra_app_environ(), "FLASK_APP": "app", "FLASK_ENV": "development", "RA_EXPORTS": str(EXPORTS)}


def write_env_file(services: Services) -> None:
    """Write `.demo/env` (0600). A shell that loads it can use redis-cli, psql, aws, flask and python with the demo."""
    settings, ra_app = pipeline_environ(services), ra_app_environ(services)
    shell = {
        **settings,
        **{name: ra_app[name] for name in ("DATABASE_URL", "SECRET_KEY", "FLASK_ENV", "RA_EXPORTS")},
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
