"""Long work feeds the watchdog and checks for SIGTERM at the same points. The worker runs in the test's process with
real services, so that the test can look at the disk and at S3 at the moment when the watchdog is fed.
"""

from __future__ import annotations

import bz2
import os
from collections.abc import Callable, Iterator

import pytest

from config import Settings
from s3_utils import ObjectStore
from scratch import directories as scratch
from system.service_manager import Watchdog
from tests.workers.conftest import tar, tone
from workers.unpack_worker import UnpackWorker

MIB = 1 << 20
LARGE = 12 * MIB  # taken out in pieces of 1 MiB


class ToldWatchdog(Watchdog):
    """Tells the test of every feed, also of feeds that follow each other quickly."""

    def __init__(self) -> None:
        super().__init__()
        self.when_fed: Callable[[], None] = lambda: None

    def feed(self) -> None:
        self.when_fed()
        super().feed()


@pytest.fixture
def unpack(settings: Settings) -> Iterator[tuple[UnpackWorker, ToldWatchdog]]:
    watchdog = ToldWatchdog()
    worker = UnpackWorker(settings)
    worker.watchdog = watchdog
    worker.heartbeat.start()
    yield worker, watchdog
    worker.heartbeat.stop()


@pytest.mark.thorough
def test_extraction_feeds_the_watchdog_as_it_moves_on(unpack, put_archive, settings):
    worker, watchdog = unpack
    batch = put_archive(bz2.compress(tar({"a.wav": tone(), "big.txt": os.urandom(LARGE)})))
    large = settings.scratch_root / batch / "originals" / "00002.txt"
    sizes: set[int] = set()
    watchdog.when_fed = lambda: sizes.add(large.stat().st_size) if large.exists() else None
    assert worker.step()
    assert len(sizes) >= LARGE // MIB


@pytest.mark.thorough
def test_a_stop_in_the_middle_of_an_extraction_is_seen_there(unpack, put_archive, settings, redis_db):
    worker, watchdog = unpack
    batch = put_archive(bz2.compress(tar({"a.wav": tone(), "big.txt": os.urandom(LARGE)})))
    large = settings.scratch_root / batch / "originals" / "00002.txt"
    size = 0

    def stop_in_the_middle() -> None:
        nonlocal size
        if large.exists():
            size = large.stat().st_size
            worker.stopping.set()

    watchdog.when_fed = stop_in_the_middle
    assert worker.step()
    assert 0 <= size < LARGE
    assert redis_db.llen("queue:unpack") == 1, "the job is back"
    assert not (settings.scratch_root / batch).exists()


def test_a_stop_while_broken_clips_are_parked_is_seen_there(unpack, put_archive, redis_db, store: ObjectStore):
    worker, watchdog = unpack
    clips = 60
    put_archive(tar({f"{number:02}.mp3": b"not audio at all" for number in range(clips)}))

    def stop_in_the_middle() -> None:
        if not worker.stopping.is_set() and len(list(store.keys("failed/"))) >= 2:
            worker.stopping.set()

    watchdog.when_fed = stop_in_the_middle
    assert worker.step()
    assert 2 <= len(list(store.keys("failed/"))) < clips
    assert redis_db.llen("queue:unpack") == 1, "the job is back"
    assert redis_db.llen("queue:failed") == 0


def test_all_broken_clips_are_parked_with_letters_in_the_archives_order(unpack, put_archive, redis_db, store):
    worker, _ = unpack
    names = [f"{number:02}.mp3" for number in range(30)]
    batch = put_archive(tar(dict.fromkeys(names, b"not audio at all")))
    assert worker.step()
    assert [key.rpartition("/")[2] for key in store.keys(f"failed/{batch}/")] == [f"{n + 1:05}.mp3" for n in range(30)]
    assert redis_db.llen("queue:failed") == len(names)
    assert redis_db.scard(f"batch:{batch}:given_up") == len(names)


def test_every_file_that_is_removed_counts_as_progress(tmp_path):
    directory = tmp_path / "b1"
    (directory / "originals").mkdir(parents=True)
    for number in range(20):
        (directory / "originals" / f"{number}").write_bytes(b"x")
    outside = tmp_path / "outside"
    outside.mkdir()
    (directory / "link").symlink_to(outside)
    steps: list[int] = []
    scratch.discard(directory, lambda: steps.append(1))
    assert len(steps) >= 20
    assert [path.name for path in tmp_path.iterdir()] == ["outside"], "what a link leads to stays"
