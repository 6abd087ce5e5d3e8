"""Logging for `journalctl`, and the Redis client."""

from __future__ import annotations

import json
import logging
import os
import ssl
import sys
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from config import Settings
from system import shown

SOCKET_TIMEOUT_S = 10.0  # a Redis that does not answer for this time counts as down

# journald reads these prefixes as priorities, so `journalctl -p warning` works. Without journald they are left out.
_JOURNAL_PRIORITY = {"DEBUG": "<7>", "INFO": "<6>", "WARNING": "<4>", "ERROR": "<3>", "CRITICAL": "<2>"}


class _LineFormatter(logging.Formatter):
    def __init__(self, worker: str) -> None:
        super().__init__()
        self._worker = worker
        self._to_journal = "JOURNAL_STREAM" in os.environ

    def format(self, record: logging.LogRecord) -> str:
        # A message may hold text from outside: keep it on one line and escape its control characters.
        line = shown.one_line(f"{record.levelname} {self._worker} {record.getMessage()}")
        if record.exc_info:
            # Indented, so that nobody mistakes a line of an exception's text for a line of the log.
            trace = shown.lines(self.formatException(record.exc_info))
            line += "".join(f"\n    {part}" for part in trace.split("\n"))
        if self._to_journal:
            return _JOURNAL_PRIORITY.get(record.levelname, "<6>") + line
        return f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')} {line}"


def configure_logging(worker: str) -> None:
    """Log one line per event to standard error: time (unless journald adds it), level, worker, message, facts."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter(worker))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for chatty in ("asyncssh", "boto3", "botocore", "urllib3", "transformers", "whisperx", "faster_whisper"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def event(log: logging.Logger, level: int, message: str, **facts: object) -> None:
    """Log a message with facts as key=value, for example `batch=20250622-143052-a1b2c3 clip="a b.mp3" took_s=1.2`.

    Facts that are None are left out. Text with spaces or quotes is quoted, so a file name cannot forge a log line.
    """
    pairs = " ".join(f"{key}={_fact(value)}" for key, value in facts.items() if value is not None)
    log.log(level, "%s", f"{message} {pairs}".rstrip())


def _fact(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    text = str(value)
    plain = text.isprintable() and text and not any(mark in text for mark in ' "=')
    if plain:
        return text
    if text.isprintable() and "'" not in text and '"' in text:  # JSON from a queue stays readable
        return f"'{text}'"
    # JSON does not escape U+009B (it begins a terminal command) and U+2028, so such text is written in ASCII.
    return json.dumps(text, ensure_ascii=not text.isprintable())


def get_redis_client(settings: Settings) -> redis.Redis:
    """Return a client that returns bytes and never sends a command again by itself.

    After a time-out a command may have run already, and a move that is sent again happens twice. The caller decides.
    """
    options: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "retry_on_error": []}
    if settings.redis_tls:
        # The client reads this file at each connection, so a new certificate authority needs no restart.
        options |= {
            "ssl": True,
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_ca_certs": None if settings.redis_ca_file is None else str(settings.redis_ca_file),
            "ssl_min_version": ssl.TLSVersion.TLSv1_2,
        }
    return redis.Redis(
        host=settings.redis_host,
        port=settings.redis_port,
        username=settings.redis_user or None,
        password=settings.redis_password or None,
        db=settings.redis_db,
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_connect_timeout=SOCKET_TIMEOUT_S,
        health_check_interval=30,
        **options,
    )
