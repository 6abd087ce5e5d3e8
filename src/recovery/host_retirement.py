"""A host that leaves for good: its work is handed on at once, before it counts as lost.

First the plan, which changes nothing, then the change, which is recorded. The change does the same as for a lost host:
its unfinished batches are unpacked again on other hosts, and the other jobs of its queue become dead letters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import cast

import redis

from config import Settings
from db import AuditLog, Database
from errors import RefusedError
from jobs.job_queue import JobQueue, WorkerName, mapped_redis_errors
from jobs.payloads import UnpackJob
from recovery.lost_hosts import LostHosts


@dataclass(frozen=True)
class RetirePlan:
    """A host without workers, and its unfinished batches."""

    host: str
    batches: tuple[UnpackJob, ...]


class HostRetirement:
    def __init__(self, client: redis.Redis, db: Database, settings: Settings, audit: AuditLog) -> None:
        self._client = client
        self._db = db
        self._settings = settings
        self._audit = audit

    def plan(self, host: str) -> RetirePlan:
        """List the host's unfinished batches; raises RefusedError while a worker of the host is alive."""
        if living := self._living_workers(host):
            raise RefusedError(
                f"{host} still works ({', '.join(living)}); stop its workers first: playbooks/stop-workers.yml"
            )
        return RetirePlan(host, tuple(self._db.unfinished_batches(host)))

    def retire(self, plan: RetirePlan) -> list[UnpackJob]:
        """Hand on the host's work -> the batches that are unpacked again."""
        settings, observer = self._settings, WorkerName.of_this_process(self._settings.host)
        lost_hosts = LostHosts(
            self._client, self._db, observer, settings.scratch_root,
            after_s=settings.host_lost_after_s, ttl_s=settings.heartbeat_ttl_s,
        )  # fmt: skip
        with self._audit.change("worker retire", plan.host, len(plan.batches), {}) as change:
            JobQueue(self._client, observer).reap()  # jobs that its workers held go back to its queue
            batches = lost_hosts.retire(plan.host)
            change.affected = len(batches)
        return batches

    def _living_workers(self, host: str) -> list[str]:
        """Names of the host's workers that have a heartbeat."""
        with mapped_redis_errors():
            keys = cast("list[bytes]", list(self._client.scan_iter(match="worker:*", count=1000)))
        name = re.compile(rf"worker:({re.escape(host)}:\d+:[^:]+)")
        return sorted(match[1] for key in keys if (match := name.fullmatch(key.decode("utf-8", "replace"))))
