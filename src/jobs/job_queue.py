r"""Reliable Redis lists: claim, acknowledge, retry, dead-letter, reap.

A job is its payload's bytes, and they never change. A claim moves them from the head of a queue to the in-flight list
of this worker process, in one script; every later step is a script that does nothing unless the bytes still stand in
that list. So a worker that was taken for dead, and whose jobs were given to others, cannot settle them a second time.

Keys, besides the queues themselves (`queue:unpack`, `queue:transcribe`, `queue:transcribe:{host}`, `queue:failed`):
    inflight:{queue}:{host}:{pid}:{nonce}   list    jobs of one worker process from one queue
    worker:{host}:{pid}:{nonce}             string  heartbeat, JSON state, expires with the worker
    hosts:seen                              zset    host, scored by the second it was last heard of
    lease:reap                              string  a worker looked for dead workers a moment ago
    queue:delayed                           zset    queue \n nonce \n payload, scored by the second it is due
    queue:attempts, queue:interruptions     hash    {queue}:{sha1 of payload} -> failures, deaths of its worker
Two jobs with equal bytes share their counts; the only effect is that they are given up sooner.

Claims poll instead of blocking: a blocking move serves one list, but a GPU worker serves two, and a client that sends
the move again after a time-out would claim twice.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import redis

from errors import ServiceUnavailableError
from system import tls_errors

UNPACK = "queue:unpack"
FAILED = "queue:failed"
DELAYED = "queue:delayed"
ATTEMPTS = "queue:attempts"
INTERRUPTIONS = "queue:interruptions"
FINISHING = "batches:finishing"
HOSTS_SEEN = "hosts:seen"
REAP_LEASE = "lease:reap"

INFLIGHT_KEY = re.compile(r"inflight:(queue:.+):([^:]+):(\d{1,10}):([^:]+)")

Settled = Literal["ok", "complete", "lost"]


@dataclass(frozen=True)
class WorkerName:
    """One worker process; the nonce distinguishes it from an earlier process with the same pid."""

    host: str
    pid: int
    nonce: str

    @classmethod
    def of_this_process(cls, host: str) -> WorkerName:
        return cls(host, os.getpid(), secrets.token_hex(4))

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}:{self.nonce}"

    @property
    def heartbeat_key(self) -> str:
        return f"worker:{self}"

    @property
    def drain_keys(self) -> tuple[str, str, str]:
        """While one of these keys exists, this worker claims nothing; see `draining.py`."""
        return ("drain:all", f"drain:host:{self.host}", f"drain:worker:{self}")


@dataclass(frozen=True)
class Claim:
    """A job that this worker owns."""

    queue: str
    payload: bytes
    failures: int  # attempts that failed before this one
    interruptions: int  # workers that died with it


@dataclass(frozen=True)
class ClipRef:
    """The clip whose outcome an acknowledgement counts."""

    batch_id: str
    clip: str


def script(client: redis.Redis, name: str) -> Any:
    """Register `lua/{name}.lua`; redis-py loads it again when the server has flushed its scripts."""
    return client.register_script((Path(__file__).parent / "lua" / f"{name}.lua").read_text())


def counts_field(queue: str, payload: bytes) -> str:
    """The job's field in queue:attempts and queue:interruptions."""
    return f"{queue}:{hashlib.sha1(payload, usedforsecurity=False).hexdigest()}"


def batch_key(batch_id: str, name: str) -> str:
    return f"batch:{batch_id}:{name}"


class JobQueue:
    def __init__(self, client: redis.Redis, worker: WorkerName) -> None:
        self.client = client
        self.worker = worker
        self._held: list[Claim] = []
        self._uncertain = False  # a claim's answer was lost: our in-flight list may hold a job that we do not know of
        names = ("claim", "settle", "release", "promote", "lease", "reap")
        self._scripts = {name: script(client, name) for name in names}

    def inflight_key(self, queue: str) -> str:
        return f"inflight:{queue}:{self.worker}"

    def claim(self, queues: Sequence[str], *, only: bytes = b"") -> Claim | None:
        """Take the first job of the first queue that has one; None when all are empty.

        With `only`, that payload is taken from the first queue if it still stands there. A worker whose heartbeat has
        expired (it was paused for too long, or Redis lost its data) gets nothing until its next heartbeat; a drained
        worker gets nothing until it is resumed.
        """
        if self._uncertain:
            self._give_back_unknown(queues)
            self._uncertain = False
        keys = [key for queue in queues for key in (queue, self.inflight_key(queue))]
        held = sum(claim.queue in queues for claim in self._held)
        self._uncertain = True
        common = [self.worker.heartbeat_key, ATTEMPTS, INTERRUPTIONS]
        found = self._run("claim", [*common, *keys], [only, held, *self.worker.drain_keys])
        if found == b"unknown":
            self._give_back_unknown(queues)
            self._uncertain = False
            return None  # a later call claims them
        self._uncertain = False
        if not found:
            return None
        number, payload, failures, interruptions = found
        claim = Claim(queues[number - 1], payload, failures, interruptions)
        self._held.append(claim)
        return claim

    def first(self, queue: str, most: int) -> list[bytes]:
        """The jobs that would be claimed next, at most `most` of them; they stay where they are.

        Jobs in our in-flight list that we do not know of are given back here too: a worker that looks first may not
        claim again for a long time.
        """
        self._give_back_unknown([queue])
        with mapped_redis_errors():
            return cast("list[bytes]", self.client.lrange(queue, 0, most - 1))

    def settle(self, claim: Claim, *, clip: ClipRef | None = None, dead_letter: bytes | None = None) -> Settled:
        """Acknowledge a job: done or, with a dead letter, given up. Counts `clip` once.

        Returns 'complete' when the clip was its batch's last, 'lost' when the job was no longer ours, else 'ok'.
        """
        batch_id = clip.batch_id if clip else "-"
        counter = "failed" if dead_letter else "processed"
        keys = [self.inflight_key(claim.queue), ATTEMPTS, INTERRUPTIONS, FAILED]
        keys += [
            batch_key(batch_id, "pending"),
            batch_key(batch_id, counter),
            FINISHING,
            batch_key(batch_id, "given_up"),
        ]
        answer = self._run(
            "settle", keys, [claim.payload, claim.queue, dead_letter or b"", clip.clip if clip else "", batch_id]
        )
        self._forget(claim)
        return cast("Settled", answer.decode())

    def retry_later(self, claim: Claim, delay_s: float, *, failed: bool) -> bool:
        """Let the job run again after `delay_s`; `failed` spends an attempt. False when it was no longer ours."""
        return self._release(claim, "later", delay_s, failed=failed)

    def hand_back(self, claim: Claim) -> bool:
        """Put the job back at the head of its queue; no attempt is spent. False when it was no longer ours."""
        return self._release(claim, "back", 0, failed=False)

    def hand_back_all(self) -> int:
        """Hand back every job that this process holds -> how many. The last goes first: so they keep their order."""
        return sum(self.hand_back(claim) for claim in reversed(list(self._held)))

    def owns(self, claim: Claim) -> bool:
        """Whether the job is still in our in-flight list."""
        with mapped_redis_errors():
            return self.client.lpos(self.inflight_key(claim.queue), cast("str", claim.payload)) is not None

    def forget(self, claim: Claim) -> None:
        """The job is not ours any more, by another script (`start_batch`, `restart_batch`, `reap`)."""
        self._forget(claim)

    def promote_due(self) -> int:
        return int(self._run("promote", [DELAYED, FAILED], []))

    def reap(self, lease_s: float = 0) -> list[tuple[str, str, int]]:
        """Return dead workers' jobs to their queues -> [(worker, queue, jobs)].

        With `lease_s`, only if no worker has done so for that long: in a large fleet one worker does it for all.
        """
        if lease_s and not self._run("lease", [REAP_LEASE], [str(self.worker), int(lease_s * 1000)]):
            return []
        reaped = []
        with mapped_redis_errors():
            keys = [key.decode() for key in self.client.scan_iter(match="inflight:*", count=1000)]
        for key in keys:
            queue, worker = _parse_inflight_key(key)
            if worker is None or worker == self.worker:
                continue
            moved = int(self._run("reap", [worker.heartbeat_key, key, queue, INTERRUPTIONS], []))
            if moved:
                reaped.append((str(worker), queue, moved))
        return reaped

    def _release(self, claim: Claim, mode: str, delay_s: float, *, failed: bool) -> bool:
        keys = [self.inflight_key(claim.queue), claim.queue, DELAYED, ATTEMPTS]
        arguments = [claim.payload, mode, str(delay_s), secrets.token_hex(8), "1" if failed else "0"]
        released = bool(self._run("release", keys, arguments))
        self._forget(claim)
        return released

    def _give_back_unknown(self, queues: Sequence[str]) -> None:
        known = [claim.payload for claim in self._held]
        for queue in queues:
            with mapped_redis_errors():
                payloads = cast("list[bytes]", self.client.lrange(self.inflight_key(queue), 0, -1))
            for payload in payloads:
                if payload in known:
                    known.remove(payload)
                else:
                    self._release(Claim(queue, payload, 0, 0), "back", 0, failed=False)

    def _forget(self, claim: Claim) -> None:
        if claim in self._held:
            self._held.remove(claim)

    def _run(self, name: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        with mapped_redis_errors():
            return self._scripts[name](keys=list(keys), args=list(arguments))


def _parse_inflight_key(key: str) -> tuple[str, WorkerName | None]:
    """-> (queue, worker); no worker for a key that a person made by hand."""
    found = INFLIGHT_KEY.fullmatch(key)
    return (found[1], WorkerName(found[2], int(found[3]), found[4])) if found else ("", None)


class mapped_redis_errors:  # noqa: N801 -- used as a statement
    """Turn redis-py's exceptions into ours."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, redis.AuthenticationError) or "NOAUTH" in str(error) or "WRONGPASS" in str(error):
            raise ServiceUnavailableError(f"Redis refuses our password; check REDIS_PASSWORD ({error})") from error
        if isinstance(error, redis.exceptions.NoPermissionError) or "NOPERM" in str(error):
            raise ServiceUnavailableError(
                f"Redis does not let our user do that; check REDIS_USER and its rules (ACL LIST on its host) ({error})"
            ) from error
        if isinstance(error, (redis.ConnectionError, redis.TimeoutError)):
            if refused := tls_errors.explained(error, "Redis", "REDIS_HOST", "REDIS_CA_FILE", "REDIS_PORT"):
                raise ServiceUnavailableError(refused) from error
            raise ServiceUnavailableError(
                f"Redis cannot be reached; check that it runs and REDIS_HOST, REDIS_PORT, REDIS_TLS ({error})"
            ) from error
        if isinstance(error, redis.OutOfMemoryError) or "OOM" in str(error):
            raise ServiceUnavailableError(
                f"Redis is full (maxmemory), so nothing can be added; raise maxmemory or let the queues drain ({error})"
            ) from error
        if isinstance(error, redis.ResponseError):
            raise ServiceUnavailableError(f"Redis refuses a command; see its log ({error})") from error
