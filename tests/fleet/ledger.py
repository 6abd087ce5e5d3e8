"""The ledger: every archive that was placed on the EC2 host, and its results."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.fleet import machine, observe
from tests.fleet.archives import make_archive
from tests.fleet.ec2 import place
from tests.fleet.layout import HOSTS, LEDGER, FleetError

POLL_S = 1.0
STALL_S = 240.0  # longest wait in which no count changes; models load for half a minute on a busy machine
GPU_HOSTS = ("gpu-01", "gpu-02", "gpu-03")

BATCHES = """
SELECT b.batch_id, b.original_filename AS archive, b.unpack_host, b.total, b.processed, b.failed,
       b.completed_at IS NOT NULL AS complete
FROM batches b WHERE b.s3_key IS NOT NULL
"""
CLIPS = """
SELECT b.original_filename AS archive, a.original_filename AS clip, a.status, a.audio_id, a.s3_opus_path
FROM audio_files a JOIN batches b USING (batch_id) WHERE b.s3_key IS NOT NULL
"""
OPEN = """
SELECT count(*) FILTER (WHERE status <> 'pending') AS clips, count(DISTINCT batch_id) AS batches FROM audio_files
"""


@dataclass
class Audit:
    """The problems that were found, as sentences, and the numbers of lost and doubled clips."""

    jobs: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)  # files and keys that should have been removed

    @property
    def troubles(self) -> list[str]:
        return self.lost + self.doubled + self.left


class Ledger:
    def __init__(self) -> None:
        kept: dict[str, Any] = {"archives": {}, "remembered_since": 0.0}
        if LEDGER.exists():
            kept = json.loads(LEDGER.read_text())
        self.placed = {name: make_archive(kind) for name, kind in kept["archives"].items()}
        self.remembered_since: float = kept["remembered_since"]  # Unix time; completions before it do not count

    def place(self, kind: str, count: int = 1) -> list[str]:
        """Put archives of one kind on the EC2 host, each with its own name -> the names."""
        archive = make_archive(kind)
        names = []
        for _ in range(count):
            number = len(self.placed)
            name = f"2026-03-{1 + number // 144:02d}_{number // 6 % 24:02d}-{number % 6}0.tar"
            self.placed[name] = archive
            place(archive.path, name)
            names.append(name)
        self._keep()
        return names

    def redis_forgot(self) -> float:
        """Note that Redis has lost its data now, so batches may complete a second time -> Unix time in seconds."""
        self.remembered_since = time.time()
        self._keep()
        return self.remembered_since

    def _keep(self) -> None:
        archives = {name: archive.kind for name, archive in self.placed.items()}
        LEDGER.write_text(json.dumps({"archives": archives, "remembered_since": self.remembered_since}))

    @property
    def clips(self) -> int:
        return sum(len(archive.ends) for archive in self.placed.values())

    def wait_until_complete(self, limit_s: float = 900.0) -> None:
        """Wait until every archive on the EC2 host is a complete batch."""
        self.wait(lambda: not self.unfinished(), "every archive is complete", limit_s)

    def wait(self, condition: Callable[[], bool], what: str, limit_s: float = 300.0) -> None:
        """Wait until `condition` holds. Give up early when nothing in the fleet changes any more."""
        began = moved = time.monotonic()
        last = ""
        while not condition():
            now, state = time.monotonic(), self.progress()
            if state != last:
                last, moved = state, now
            if now - began > limit_s or now - moved > STALL_S:
                raise FleetError(f"waited {now - began:.0f} s until {what}, in vain; {state}")
            time.sleep(POLL_S)

    def progress(self) -> str:
        try:
            [counts] = observe.rows(OPEN)
            queues = {name: observe.queue_length(name) for name in ("queue:unpack", "queue:failed", *waiting_lists())}
        except (FleetError, ValueError) as error:
            return f"the stores do not answer: {error}"
        return f"{counts['clips']} clips of {self.clips} have an outcome; {queues}; open: {self.unfinished()}"

    def clips_done(self) -> int:
        return int(observe.value(f"SELECT count(*) FROM ({CLIPS}) c WHERE c.status <> 'pending'"))

    def unfinished(self) -> list[str]:
        """The archives that are not complete batches yet; all archives while the database does not answer."""
        try:
            complete = {row["archive"] for row in observe.rows(BATCHES) if row["complete"]}
        except (FleetError, ValueError):
            complete = set()
        return sorted(set(self.placed) - complete)

    def audit(self) -> Audit:
        """Compare the archives with what Postgres, Redis, S3 and scratch hold. No work may be under way."""
        found = Audit(jobs=self.clips)
        self._audit_batches(found)
        self._audit_clips(found)
        _audit_objects(found)
        _audit_traces(found)
        return found

    def _audit_batches(self, found: Audit) -> None:
        batches = observe.rows(BATCHES)
        times = Counter(row["archive"] for row in batches)
        for name, archive in self.placed.items():
            if times[name] == 0:
                found.lost.append(f"{name} became no batch")
            elif times[name] > 1:
                found.doubled.append(f"{name} became {times[name]} batches")
            for row in batches:
                counts = row["total"], row["processed"] + row["failed"]
                if row["archive"] == name and counts != (len(archive.ends),) * 2:
                    wrong = found.doubled if max(counts) > len(archive.ends) else found.lost
                    wrong.append(
                        f"{row['batch_id']} counts {counts[1]} of {counts[0]}, it has {len(archive.ends)} clips"
                    )
        completions = Counter(
            batch for host in GPU_HOSTS for batch in _completions(host, self.remembered_since)
        )  # as the workers' journals tell; a host that is gone for good tells nothing
        found.doubled += [f"{batch} was completed {n} times" for batch, n in completions.items() if n > 1]

    def _audit_clips(self, found: Audit) -> None:
        clips = observe.rows(CLIPS)
        times = Counter((row["archive"], row["clip"]) for row in clips)
        ends = {(row["archive"], row["clip"]): row["status"] for row in clips}
        for name, archive in self.placed.items():
            for clip, wanted in archive.ends.items():
                if times[name, clip] == 0:
                    found.lost.append(f"{name}: {clip} has no row")
                elif times[name, clip] > 1:
                    found.doubled.append(f"{name}: {clip} has {times[name, clip]} rows")
                elif ends[name, clip] != wanted:
                    found.lost.append(f"{name}: {clip} ended as {ends[name, clip]}, not {wanted}")


def waiting_lists() -> list[str]:
    return ["queue:transcribe", *(f"queue:transcribe:{name}" for name in GPU_HOSTS)]


def _completions(name: str, since: float) -> list[str]:
    host = HOSTS[name]
    if not machine.is_up(host):
        return []
    units = ("gpu-worker", "unpack-worker")
    lines = [line for unit in units for line in observe.journal(host, unit, "batch complete", since=since)]
    return [word.partition("=")[2] for line in lines for word in line.split() if word.startswith("batch=")]


def _audit_objects(found: Audit) -> None:
    """Check that S3 has one Opus object for each clip with results, and no other."""
    paths = Counter(
        row["s3_opus_path"] for row in observe.rows("SELECT s3_opus_path FROM audio_files") if row["s3_opus_path"]
    )
    stored = Counter(observe.objects("processed/"))
    found.lost += [f"{path} is not in S3" for path in paths - stored]
    found.doubled += [f"{path} is in S3, but no row names it" for path in stored - paths]


def _audit_traces(found: Audit) -> None:
    found.left += [f"the key {key} is left in Redis" for key in observe.keys("batch:*")]
    found.left += [
        f"{observe.queue_length(name)} jobs are left in {name}"
        for name in waiting_lists()
        if observe.queue_length(name)
    ]
    for name in GPU_HOSTS:
        if machine.is_up(HOSTS[name]):
            found.left += [f"{name} keeps {entry} on scratch" for entry in observe.scratch(HOSTS[name])]
