"""A probe: a job that tests all steps of a GPU worker and leaves no row and no object.

The worker checks its stores, transcribes four seconds of speech (the file next to this one), scores the transcript for
every policy, and writes the result to `probe:{nonce}` (string, JSON, expires). `audio-pipeline worker probe` sends the
job and reads the result. A deploy runs that command before it continues with the next host.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from errors import OperatorError
from jobs.job_queue import mapped_redis_errors

log = logging.getLogger(__name__)

SPEECH = Path(__file__).with_name("probe.opus")
ANSWER_TTL_S = 600


def answer_key(nonce: str) -> str:
    return f"probe:{nonce}"


def answer(client: redis.Redis, nonce: str, worker: str, attempt: Callable[[Path], dict[str, Any]]) -> None:
    """Call `attempt` with the probe's speech, and write the answer: its result, or `error` with the error message.

    Raises
    ------
    OperatorError
        A service is down; the probe goes back to its queue, like any job.
    """
    began = time.monotonic()
    try:
        found = attempt(SPEECH)
    except OperatorError:
        raise
    except Exception as error:  # the error is the answer; it is not a failed attempt of a clip
        log.exception("the probe failed")
        found = {"error": f"{type(error).__name__}: {error}"}
    text = json.dumps({**found, "worker": worker, "took_s": round(time.monotonic() - began, 2)})
    with mapped_redis_errors():
        client.set(answer_key(nonce), text, ex=ANSWER_TTL_S)


def read_answer(client: redis.Redis, nonce: str) -> dict[str, Any] | None:
    """Read the worker's answer; None while there is none."""
    with mapped_redis_errors():
        raw = client.get(answer_key(nonce))
    return None if raw is None else json.loads(str(raw, "utf-8") if isinstance(raw, bytes) else str(raw))
