"""A probe: a job that goes through all of a GPU worker's chain and leaves neither row nor object.

The worker asks its stores, hears four seconds of speech that lie beside this file, judges them by every policy, and
puts what came of it into `probe:{nonce}` (string, JSON, expires) for whoever asks: `audio-pipeline worker probe`, which
a deploy runs before it goes on to the next host.
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
    """Try the chain on the probe's speech and leave the answer: what was found, or `error` with what went wrong.

    Raises
    ------
    OperatorError
        A service is in the way: the probe goes back to its queue, as any job does.
    """
    began = time.monotonic()
    try:
        found = attempt(SPEECH)
    except OperatorError:
        raise
    except Exception as error:  # whatever goes wrong is the answer, and no attempt of a clip
        log.exception("the probe failed")
        found = {"error": f"{type(error).__name__}: {error}"}
    text = json.dumps({**found, "worker": worker, "took_s": round(time.monotonic() - began, 2)})
    with mapped_redis_errors():
        client.set(answer_key(nonce), text, ex=ANSWER_TTL_S)


def read_answer(client: redis.Redis, nonce: str) -> dict[str, Any] | None:
    """What the worker found, or None while there is no answer."""
    with mapped_redis_errors():
        raw = client.get(answer_key(nonce))
    return None if raw is None else json.loads(str(raw, "utf-8") if isinstance(raw, bytes) else str(raw))
