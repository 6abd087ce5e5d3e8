"""transfer: archives on the EC2 host -> S3 `archives/{batch_id}.tar` -> a job in `queue:unpack`.

The worker lists TRANSFER_REMOTE_DIR over ssh every TRANSFER_POLL_S, and takes each archive that has not changed for
TRANSFER_SETTLE_S, oldest first. It fetches the archive to TRANSFER_STAGING (and continues an interrupted fetch),
uploads it (in parts above 100 MB), compares the stored size with the source's, enqueues it and removes the staged file.

If a single archive cannot be taken (it is unreadable, has a read error, does not fit on this host, or is refused by
S3), the worker continues with the others. It tries the archive again after a growing pause, and `audio-pipeline status`
shows the reason. If all archives are affected (the host, its directory, the bucket, the staging directory), the worker
is held.

Promises: an archive is enqueued once. Its batch id is made from its host, path, size and time, so a step that is
repeated after a crash finds its earlier result: a part file is continued, a staged file is not fetched again, and an
object of the right size is not uploaded again. The script that pushes the job also writes the entry in `transfer:taken`
(hash: archive -> batch id). An archive is enqueued only when its object is complete in S3; until then the staged file
stays.

Restart: possible at any moment; the next listing continues the work.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from archives.sources.remote_archive import RemoteArchive, batch_id
from archives.sources.ssh import ArchiveHost
from archives.sources.taken import EVERY_S, TAKEN, forget_gone
from config import Settings, require
from errors import OneArchiveError, OperatorError, PermanentError, RetryableError, ServiceUnavailableError
from jobs.job_queue import UNPACK, mapped_redis_errors, script
from jobs.payloads import UnpackJob
from jobs.s3_keys import archive_key
from s3_utils import ObjectStore
from utils import event
from workers.base import StopRequestedError, Worker, main

log = logging.getLogger(__name__)

PROGRESS_S = 10.0  # between progress lines of one archive
MAX_PAUSE_S = 3600.0  # longest pause before an archive is tried again; the first is twice TRANSFER_POLL_S


@dataclass
class _Trouble:
    """Why an archive could not be taken, and when it is tried again."""

    archive: str
    reason: str
    pause_s: float
    again: float  # monotonic seconds

    def __str__(self) -> str:
        return f"archive {self.archive} is not taken: {self.reason} (tried again every {self.pause_s:.0f} s)"


class TransferWorker(Worker):
    kind = "transfer"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        require(settings, "transfer_ssh_host")
        self.s3 = ObjectStore(settings, self.watchdog.feed)
        self.source = ArchiveHost.from_settings(settings)
        self._enqueue = script(self.redis, "enqueue_archive")
        self._seen: dict[str, float] = {}  # archive's identity -> when it was first listed (monotonic seconds)
        self._troubles: dict[str, _Trouble] = {}  # by the archive's identity
        self._next_look = 0.0
        self._next_forgetting = 0.0

    def run(self) -> None:
        with self.source:
            super().run()

    def check_dependencies(self) -> None:
        self.s3.check()
        staging = self.settings.transfer_staging
        try:
            staging.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise OperatorError(f"TRANSFER_STAGING {staging} cannot be created: {error.strerror}") from error
        self.source.list(self.settings.transfer_remote_dir, self.settings.transfer_glob)

    def check_while_idle(self) -> None:
        self.s3.check()  # every look at the EC2 host checks it

    def step(self) -> bool:
        if time.monotonic() < self._next_look:
            return False
        self._clear_leftovers()
        ready = self._ready()
        for archive in ready:
            if self.stopping.is_set():
                break
            self._carry(archive)
        self._report()
        self._next_look = time.monotonic() + self.settings.transfer_poll_s
        if ready:
            self.went_well()
        return bool(ready)

    def _clear_leftovers(self) -> None:
        """Remove staged files of archives that are already enqueued: this worker was killed after the push, or another
        worker was faster.
        """
        staged = list(self.settings.transfer_staging.glob("*.tar*"))  # parts too
        if not staged:
            return
        with mapped_redis_errors():
            taken = {name.decode() for name in cast("list[bytes]", self.redis.hvals(TAKEN))}
        for path in staged:
            if path.name.partition(".tar")[0] in taken:
                _remove(path)

    def _ready(self) -> list[RemoteArchive]:
        """The archives that no worker has taken yet and that have stopped growing."""
        listed = self.source.list(self.settings.transfer_remote_dir, self.settings.transfer_glob)
        with mapped_redis_errors():
            fresh = [
                archive for archive in listed if not self.redis.hexists(TAKEN, cast("str", self._identity(archive)))
            ]
        self._forget_gone(listed)
        now = time.monotonic()
        self._seen = {archive.identity: self._seen.get(archive.identity, now) for archive in fresh}
        self._troubles = {identity: found for identity, found in self._troubles.items() if identity in self._seen}
        self._report()
        settled = now - self.settings.transfer_settle_s
        ready = [archive for archive in fresh if archive.size and self._seen[archive.identity] <= settled]
        return [archive for archive in ready if self._is_due(archive, now)]

    def _is_due(self, archive: RemoteArchive, now: float) -> bool:
        trouble = self._troubles.get(archive.identity)
        return trouble is None or trouble.again <= now

    def _note(self, archive: RemoteArchive, name: str, error: Exception) -> None:
        """Record why an archive was not taken, and try it again after a pause. The others are not held up."""
        known = self._troubles.get(archive.identity)
        pause_s = min(2 * (known.pause_s if known else self.settings.transfer_poll_s), MAX_PAUSE_S)
        trouble = _Trouble(archive.name, str(error), pause_s, time.monotonic() + pause_s)
        self._troubles[archive.identity] = trouble
        self._report()
        event(
            log, logging.WARNING, "archive not taken; it is tried again",
            batch=name, archive=archive.name, reason=error, again_in_s=pause_s,
        )  # fmt: skip

    def _report(self) -> None:
        self.heartbeat.report([str(trouble) for trouble in self._troubles.values()])

    def _forget_gone(self, listed: list[RemoteArchive]) -> None:
        """Remove old entries of `transfer:taken` from time to time, after a listing that succeeded."""
        if time.monotonic() < self._next_forgetting:
            return
        self._next_forgetting = time.monotonic() + EVERY_S
        folder = f"{self.settings.transfer_ssh_host}:{self.settings.transfer_remote_dir.rstrip('/')}/"
        try:
            forgotten = forget_gone(
                self.redis,
                [self._identity(archive) for archive in listed],
                folder.encode(errors="surrogateescape"),
                self.settings.transfer_glob,
            )
        except ServiceUnavailableError as error:  # not urgent; a Redis user of an older release may lack the right
            event(log, logging.WARNING, "old entries of transfer:taken are kept", reason=error)
            return
        if forgotten:
            event(log, logging.INFO, "removed entries of archives that are gone from the host", archives=forgotten)

    def _carry(self, archive: RemoteArchive) -> None:
        began = time.monotonic()
        name = batch_id(archive, self.settings.transfer_ssh_host)
        self.heartbeat.set("working", f"{archive.name} as {name}")
        event(log, logging.INFO, "archive found", batch=name, archive=archive.name, bytes=archive.size)
        try:
            key = self._to_s3(archive, name)
            enqueued = self._push(archive, name, key)
        except StopRequestedError:
            event(log, logging.INFO, "archive left for the next start; the fetched bytes are kept", batch=name)
            return
        except (RetryableError, PermanentError, OneArchiveError) as error:
            self._note(archive, name, error)
            return
        self._troubles.pop(archive.identity, None)
        _remove(self._staged(name))
        event(
            log, logging.INFO, "archive enqueued" if enqueued else "archive was enqueued before",
            batch=name, archive=archive.name, s3_key=key, bytes=archive.size, took_s=time.monotonic() - began,
        )  # fmt: skip

    def _to_s3(self, archive: RemoteArchive, name: str) -> str:
        key = archive_key(name)
        if self.s3.stored_size(key) == archive.size:
            event(log, logging.INFO, "archive is in S3 already", batch=name, s3_key=key)
            return key
        staged = self._fetch(archive, name)
        if staged.stat().st_size != archive.size:
            raise RetryableError(f"{archive.name} has {archive.size} bytes, but {staged.stat().st_size} were fetched")
        report = self._progress("uploading", name)
        sent = 0

        def uploaded(more: int) -> None:
            nonlocal sent
            sent += more
            report(sent, archive.size)

        return self.s3.upload_archive(staged, name, uploaded)

    def _fetch(self, archive: RemoteArchive, name: str) -> Path:
        try:
            return self.source.fetch(archive, self._staged(name), self._progress("fetching", name))
        except ServiceUnavailableError as error:
            if not isinstance(error.__cause__, TimeoutError):
                raise
            # One file may hang (a dead network share) while the host answers. If the host is down, this call raises.
            self.source.list(self.settings.transfer_remote_dir, self.settings.transfer_glob)
            raise OneArchiveError(f"{error}; the host itself answers, so check this file there") from error

    def _push(self, archive: RemoteArchive, name: str, key: str) -> bool:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        job = UnpackJob(batch_id=name, s3_key=key, archive_name=archive.name, transferred_at=now)
        with mapped_redis_errors():
            return bool(self._enqueue(keys=[TAKEN, UNPACK], args=[self._identity(archive), name, job.to_json()]))

    def _progress(self, doing: str, name: str) -> Callable[[int, int], None]:
        """A callback (done, total; bytes) that logs from time to time, and raises StopRequestedError after a signal."""
        last = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal last
            self.stop_if_asked()
            if time.monotonic() - last >= PROGRESS_S:
                last = time.monotonic()
                event(log, logging.INFO, doing, batch=name, done=f"{100 * done // total}%", bytes=done, of=total)

        return report

    def _identity(self, archive: RemoteArchive) -> bytes:
        """The archive's name in `transfer:taken`. It is bytes, because a file name may hold any bytes."""
        return f"{self.settings.transfer_ssh_host}:{archive.identity}".encode(errors="surrogateescape")

    def _staged(self, name: str) -> Path:
        return self.settings.transfer_staging / f"{name}.tar"


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # the archive is in S3; the leftover file only takes space
        event(log, logging.WARNING, "staged file not removed; remove it by hand", path=path, reason=error)


if __name__ == "__main__":
    main(TransferWorker)
