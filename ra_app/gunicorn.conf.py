"""How gunicorn serves the app; picked up by itself when started in this directory:

    gunicorn --bind 0.0.0.0:8000 "app:create_app()"

Errors go to stderr (the journal) and, where a `logs` directory exists, to `logs/error.log` as well.
"""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from typing import Any

_LOGS = Path(__file__).resolve().parent / "logs"

bind = "127.0.0.1:8000"
worker_class = "gthread"  # streaming a clip holds a thread for seconds, not a process
workers = 2
threads = 8
timeout = 60  # seconds without a sign of life from a worker
graceful_timeout = 30  # seconds for running requests at a stop
keepalive = 5
control_socket_disable = True  # the unit's home directory is read-only
if Path("/dev/shm").is_dir():  # noqa: S108 - heartbeats in memory: a slow disk must not look like a dead worker
    worker_tmp_dir = "/dev/shm"  # noqa: S108

# The same characters as in the pipeline's src/shown.py, which is not deployed with this app; a test compares them.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class _LineFormatter(logging.Formatter):
    """One line for each message; no character from a request or a file's name commands a terminal."""

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
    """Refuse bad settings once, in the master, in one sentence; workers would each say it with a traceback."""
    from app.codebook import load_codebook
    from app.config import load_settings
    from app.errors import StartError

    try:
        load_codebook(load_settings().codebook_path)
    except StartError as error:
        server.log.critical("The RA app cannot start: %s", error.message)
        sys.exit(1)
