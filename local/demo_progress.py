"""The progress of a batch, read from the pipeline's tables in Postgres and its keys in Redis."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import psycopg2
import redis

from local.demo_paths import SCRATCH
from local.services import Services
from local.services.ssh import REMOTE_DIR
from local.services.stack import DATABASE

TAKEN = "transfer:taken"  # hash of the transfer worker: archive -> batch id

COUNTS = """
SELECT b.total, b.completed_at IS NOT NULL,
       count(*) FILTER (WHERE a.status <> 'pending'),
       count(*) FILTER (WHERE a.status = 'failed'),
       count(*) FILTER (WHERE EXISTS (SELECT FROM transcripts t WHERE t.audio_id = a.audio_id)),
       count(*) FILTER (WHERE EXISTS (SELECT FROM classifications c WHERE c.audio_id = a.audio_id)),
       count(*) FILTER (WHERE EXISTS (SELECT FROM ra_queue q WHERE q.audio_id = a.audio_id))
FROM batches b LEFT JOIN audio_files a USING (batch_id)
WHERE b.batch_id = %s
GROUP BY b.batch_id
"""


@dataclass(frozen=True)
class Progress:
    batch_id: str | None = None  # None: the transfer worker has not enqueued the archive yet
    total: int = 0
    complete: bool = False
    settled: int = 0
    failed: int = 0
    transcribed: int = 0
    classified: int = 0
    flagged: int = 0

    def __str__(self) -> str:
        if self.batch_id is None:
            return "waiting for the transfer worker to take the archive"
        if not self.total:
            return f"batch {self.batch_id}: in S3, waiting to be unpacked"
        return (
            f"batch {self.batch_id}: {self.total} clips unpacked, {self.transcribed} transcribed, "
            f"{self.classified} classified, {self.flagged} flagged, {self.failed} failed, {self.settled} settled"
        )


class Reader:
    """Reads the progress of the batch. It opens a new connection for each read and closes it."""

    def __init__(self, services: Services, archive: Path) -> None:
        self._services = services
        self._archive = archive

    def batch_id(self) -> str | None:
        """Return the batch id that the transfer worker gave to the archive, or None if it is not enqueued yet."""
        facts = self._archive.stat()
        field = f"127.0.0.1:{REMOTE_DIR}/{self._archive.name}:{facts.st_size}:{int(facts.st_mtime)}"
        with connect_redis(self._services) as client:
            found = cast("bytes | None", client.hget(TAKEN, field))
        return found.decode() if found is not None else None

    def traces_left(self, batch_id: str) -> bool:
        """Whether keys or scratch of a batch still exist. The worker removes them after it records the completion."""
        with connect_redis(self._services) as client:
            keys = any(True for _ in client.scan_iter(f"batch:{batch_id}:*"))
        return keys or (SCRATCH / batch_id).exists()

    def read(self) -> Progress:
        batch_id = self.batch_id()
        if batch_id is None:
            return Progress()
        connection = psycopg2.connect(self._services.postgres.dsn("pipeline", DATABASE))
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(COUNTS, (batch_id,))
                row = cursor.fetchone()
        finally:
            connection.close()
        return Progress(batch_id, *row) if row is not None else Progress(batch_id)


def connect_redis(services: Services) -> redis.Redis:
    return redis.Redis(services.redis_host, services.redis_port, 0, services.redis_password)
