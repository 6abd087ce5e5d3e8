"""Settings of gunicorn, which serves the app. Gunicorn reads this file when it is started in this directory:

    gunicorn --bind 0.0.0.0:8000 "app:create_app()"

Errors go to stderr (the journal). If a directory `logs` exists, they also go to `logs/error.log`.
"""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from typing import Any

_LOGS = Path(__file__).resolve().parent / "logs"

bind = "127.0.0.1:8000"
worker_class = "gthread"  # sending a clip takes seconds and must occupy a thread, not a process
workers = 2
threads = 8
timeout = 60  # seconds without a heartbeat after which gunicorn restarts a worker
graceful_timeout = 30  # seconds that running requests have when gunicorn stops
keepalive = 5
control_socket_disable = True  # the unit's home directory is read-only
if Path("/dev/shm").is_dir():  # noqa: S108 - heartbeats in memory: with a slow disk a live worker would look dead
    worker_tmp_dir = "/dev/shm"  # noqa: S108

# The same characters as in the pipeline's src/system/shown.py. That file is not deployed with the app; a test compares.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class _LineFormatter(logging.Formatter):
    """Writes each message as one line, and escapes characters that could control a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        first, *more = super().format(record).split("\n") if record.exc_info else [super().format(record)]
        return "\n    ".join(_FORBIDDEN.sub(lambda match: ascii(match[0])[1:-1], part) for part in (first, *more))


_handlers: dict[str, dict[str, Any]] = {
    "stderr": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"}
}
if _LOGS.is_dir():
    # "Watched": logrotate may move the file away.
    _handlers["file"] = {
        "class": "logging.handlers.WatchedFileHandler",
        "filename": str(_LOGS / "error.log"),
        "formatter": "line",
        "level": "WARNING",
    }
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"()": _LineFormatter, "fmt": "%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s"}
    },
    "handlers": _handlers,
    "root": {"level": "INFO", "handlers": list(_handlers)},
    "loggers": {
        "gunicorn.error": {"level": "INFO", "handlers": [], "propagate": True},
        "gunicorn.access": {"level": "INFO", "handlers": [], "propagate": True},
        "botocore": {"level": "WARNING"},
    },
}


def on_starting(server: Any) -> None:
    """Check the settings in the master process: one error message, instead of a traceback from each worker."""
    from app.codebooks.codebook import load_codebook
    from app.config import load_settings
    from app.errors import StartError

    try:
        load_codebook(load_settings().codebook_path)
    except StartError as error:
        server.log.critical("The RA app cannot start: %s", error.message)
        sys.exit(1)
