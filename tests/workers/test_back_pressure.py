"""unpack takes an archive only if scratch has room and the backlog is short. Scratch is a real volume of 8 MiB, mounted
in the worker's own namespace; the test reads it through `/proc/{pid}/root`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from scratch.volume import ROOM_FACTOR
from tests.reliability.faulty_s3 import FaultyS3
from tests.workers.conftest import dead_letters, tar, tone
from tests.workers.processes import wait_until
from tests.workers.programs import UNPACK, Program, heartbeat_state
from workers.next_archive import MAX_PASSED_BY

JOBS, OWN_JOBS = "queue:transcribe", "queue:transcribe:test-host"
MIB = 1 << 20
VOLUME = 8 * MIB

StartUnpack = Callable[..., Program]


@pytest.fixture
def start(settings_env: dict[str, str], tmp_path: Path) -> Iterator[StartUnpack]:
    """Start unpack: `start(BACKLOG_CLIPS="3")`; with `small=True` its scratch is a volume of 8 MiB.

    From the start, `in_work` bytes of the volume are used on scratch, and `models` bytes beside it.
    """
    with ExitStack() as stack:

        def started(*, small: bool = False, in_work: int = 0, models: int = 0, **more: str) -> Program:
            volume = settings_env["SCRATCH_ROOT"]
            scratch = f"{volume}/scratch" if models else volume
            # `mount` ends before `exec`, so the process that we have started is the worker.
            steps = [f'mount -t tmpfs -o size={VOLUME} none "{volume}"', f'mkdir -p "{scratch}"']
            steps += [f'head -c {in_work} /dev/zero > "{scratch}/a batch in work"'] if in_work else []
            steps += [f'head -c {models} /dev/zero > "{volume}/models"'] if models else []
            prefix = ["unshare", "-rm", "sh", "-c", " && ".join([*steps, 'exec "$0" "$@"'])] if small else []
            env = {**settings_env, **({"SCRATCH_MOUNT": volume, "SCRATCH_ROOT": scratch} if small else {}), **more}
            worker = stack.enter_context(Program(UNPACK, env, tmp_path / "unpack.log", prefix))
            worker.wait_for("ready")
            return worker

        yield started


def volume_of(worker: Program, settings_env: dict[str, str]) -> Path:
    """The worker's scratch, as the worker sees it."""
    return Path(f"/proc/{worker.pid}/root{settings_env['SCRATCH_ROOT']}")


def padded(size: int) -> bytes:
    """An archive of one clip and this many other bytes."""
    return tar({"a.wav": tone(), "notes.txt": os.urandom(size)})


def says(client: redis.Redis, worker: Program, state: str, because: str) -> bool:
    said = heartbeat_state(client, worker)
    return said.get("state") == state and because in said["detail"]


def test_no_archive_is_claimed_while_the_backlog_of_its_own_list_is_long(start, put_archive, redis_db):
    waiting = [b'{"opus_path": "/none/%d.opus"}' % number for number in range(3)]
    redis_db.rpush(OWN_JOBS, *waiting)
    redis_db.rpush(JOBS, *[b"{}"] * 4)  # another list, in which more clips wait all the time
    put_archive(tar({"a.wav": tone()}))
    worker = start(BACKLOG_CLIPS="3", TRANSCRIBE_QUEUE=OWN_JOBS, HEARTBEAT_TTL_S="2")
    reason = f"3 clips wait in {OWN_JOBS} (BACKLOG_CLIPS is 3)"
    wait_until(lambda: says(redis_db, worker, "waiting", reason), "the heartbeat to say why it waits")
    assert "not claiming yet" in worker.text
    assert redis_db.llen("queue:unpack") == 1
    assert redis_db.keys("inflight:*") == []

    assert redis_db.lpop(OWN_JOBS) == waiting[0]
    worker.wait_for("batch unpacked")
    assert redis_db.lrange(OWN_JOBS, 0, 1) == waiting[1:]
    assert (redis_db.llen(OWN_JOBS), redis_db.llen(JOBS)) == (3, 4)
    wait_until(lambda: says(redis_db, worker, "waiting", "") is False, "the reason to go with its cause")
    assert redis_db.hlen("queue:attempts") == 0


def test_an_archive_that_does_not_fit_now_is_unpacked_when_there_is_room(
    start, put_archive, redis_db, settings_env, query
):
    worker = start(small=True, HEARTBEAT_TTL_S="2")
    volume = volume_of(worker, settings_env)
    filler = volume / "a batch in work"
    filler.write_bytes(b"\0" * (5 * MIB))
    batch = put_archive(padded(2 * MIB))  # needs 6 of the 8 MiB, of which 3 are free
    wait_until(lambda: says(redis_db, worker, "waiting", "it waits until other batches have made room"), "the reason")
    detail = heartbeat_state(redis_db, worker)["detail"]
    size = len(padded(2 * MIB))
    assert f"has {size:,} bytes and needs {ROOM_FACTOR} x that, {ROOM_FACTOR * size:,}, of scratch" in detail
    assert redis_db.llen("queue:unpack") == 1
    assert redis_db.keys("inflight:*") == []
    assert list(volume.iterdir()) == [filler]
    assert query("SELECT count(*) FROM batches") == [(0,)], "it was never begun"

    filler.unlink()
    worker.wait_for("batch unpacked")
    assert redis_db.get(f"batch:{batch}:total") == b"1"
    assert redis_db.llen("queue:failed") == redis_db.hlen("queue:attempts") == 0


def test_an_archive_that_can_never_fit_is_a_dead_letter_with_the_arithmetic(start, put_archive, redis_db, settings_env):
    put_archive(tar({"a.wav": tone()}), "small-enough")
    content = padded(3 * MIB)  # needs 9 MiB
    put_archive(content, "too-large")  # in front of the other
    worker = start(small=True)
    worker.wait_for("batch unpacked")
    [letter] = dead_letters(redis_db)
    assert '"too-large"' in letter["payload"]
    assert (letter["error_class"], letter["permanent"], letter["attempts"]) == ("PermanentError", True, 1)
    size = len(content)
    assert letter["error"].startswith(
        f"archives/too-large.tar has {size:,} bytes and needs {ROOM_FACTOR} x that, {ROOM_FACTOR * size:,}, of scratch"
    )
    assert f"holds {VOLUME:,} in all, so it can never fit" in letter["error"]
    assert [path.name for path in volume_of(worker, settings_env).iterdir()] == ["small-enough"]


def test_a_full_scratch_is_told_before_an_archive_comes(start, redis_db):
    worker = start(small=True, in_work=VOLUME - 20_000)
    wait_until(lambda: says(redis_db, worker, "waiting", "is full"), "the heartbeat to say so")


def test_an_idle_worker_finds_that_a_service_is_away(start, redis_db, settings, services):
    worker = start(HEARTBEAT_TTL_S="2")
    services.drop_bucket(settings.s3_bucket)
    wait_until(lambda: says(redis_db, worker, "held", "S3"), "the worker to be held without a job")
    services.make_bucket(settings.s3_bucket)
    wait_until(lambda: says(redis_db, worker, "idle", ""), "the worker to be idle again")


@pytest.mark.thorough
def test_an_archive_that_unpacks_to_more_than_fits_costs_no_attempt(start, put_archive, redis_db, settings_env):
    worker = start(small=True, HEARTBEAT_TTL_S="2")
    volume = volume_of(worker, settings_env)
    filler = volume / "a batch in work"
    filler.write_bytes(b"\0" * (5 * MIB))
    batch = put_archive(tar({"a.wav": tone(), "zeros.txt": bytes(4 * MIB)}, "w:xz"))  # a few kilobytes as it lies in S3
    wait_until(lambda: says(redis_db, worker, "held", "no space is left"), "the disk to be full")
    wait_until(lambda: redis_db.llen("queue:unpack") == 1, "the job to be handed back")
    assert redis_db.llen("queue:failed") == redis_db.hlen("queue:attempts") == 0
    assert list(volume.iterdir()) == [filler], "what it could not finish is gone"

    filler.unlink()
    worker.wait_for("batch unpacked")
    assert redis_db.get(f"batch:{batch}:total") == b"1"
    assert redis_db.llen("queue:failed") == redis_db.hlen("queue:attempts") == 0


@pytest.mark.thorough
def test_an_archive_that_waits_for_room_lets_only_so_many_smaller_ones_by(start, put_archive, redis_db, settings_env):
    names = [f"small-{number}" for number in range(MAX_PASSED_BY + 2)]
    for name in reversed(names):
        put_archive(tar({"a.wav": tone()}), name)
    put_archive(padded(2 * MIB), "large")  # in front of the others; needs 6 of the 8 MiB
    worker = start(small=True, in_work=5 * MIB, HEARTBEAT_TTL_S="2")
    volume = volume_of(worker, settings_env)
    filler = volume / "a batch in work"
    wait_until(lambda: says(redis_db, worker, "waiting", "no archive behind it is taken now"), "it to be its turn")
    unpacked = [name for name in names if redis_db.exists(f"batch:{name}:total")]
    assert unpacked == names[:MAX_PASSED_BY], "in their order, and no more"
    assert not redis_db.exists("batch:large:total")
    assert redis_db.llen("queue:unpack") == 3

    filler.unlink()
    wait_until(lambda: redis_db.exists("batch:large:total"), "the large one")
    wait_until(lambda: redis_db.exists(f"batch:{names[-1]}:total"), "the last one")
    assert redis_db.llen("queue:failed") == redis_db.hlen("queue:attempts") == 0


@pytest.mark.thorough
def test_a_hand_made_job_at_the_head_goes_before_an_archive_that_waits(start, put_archive, redis_db):
    put_archive(padded(2 * MIB), "large")
    worker = start(small=True, in_work=5 * MIB, HEARTBEAT_TTL_S="2", ROOM_WAIT_S="0.1")
    wait_until(lambda: says(redis_db, worker, "waiting", "archives/large.tar has"), "the large one to wait")
    put_archive(tar({"a.wav": tone()}), "by-hand")
    wait_until(lambda: redis_db.exists("batch:by-hand:total"), "the one in front")
    assert not redis_db.exists("batch:large:total")


@pytest.mark.thorough
def test_an_archive_that_does_not_fit_beside_the_models_is_given_up_after_a_while(start, put_archive, redis_db):
    put_archive(tar({"a.wav": tone()}), "small-enough")
    put_archive(padded(2 * MIB), "too-large")  # in front; needs 6 MiB, and the models take 5 of 8
    worker = start(small=True, models=5 * MIB, ROOM_WAIT_S="2", HEARTBEAT_TTL_S="2")
    wait_until(lambda: redis_db.exists("batch:small-enough:total"), "the one behind it, which fits")
    wait_until(lambda: redis_db.llen("queue:failed") == 1, "the other to be given up")
    [letter] = dead_letters(redis_db)
    assert '"too-large"' in letter["payload"]
    assert (letter["error_class"], letter["attempts"]) == ("PermanentError", 1)
    assert "other files use the rest of its volume, such as models; split the archive" in letter["error"]
    assert worker.running


@pytest.mark.thorough
def test_an_object_that_s3_refuses_costs_its_own_job_and_the_next_one_is_done(start, put_archive, redis_db, services):
    put_archive(tar({"a.wav": tone()}), "good")
    put_archive(tar({"a.wav": tone()}), "cold")  # in front
    with FaultyS3(services.s3_endpoint) as proxy:
        proxy.refuse("HEAD", "/archives/cold.tar", status=403, code="AccessDenied")
        worker = start(S3_ENDPOINT=proxy.endpoint, RETRY_BASE_S="0.1")
        worker.wait_for("batch unpacked")
        wait_until(lambda: redis_db.llen("queue:failed") == 1, "the refused one to be given up")
        assert "held" not in worker.text
    [letter] = dead_letters(redis_db)
    assert letter["attempts"] == 3, "rights may have been changed a moment ago"
    assert "answers, but refuses access to archives/cold.tar (403)" in letter["error"]
    assert redis_db.exists("batch:good:total")


@pytest.mark.thorough
def test_an_archive_that_fills_what_the_models_leave_is_given_up_after_a_while(start, put_archive, redis_db):
    put_archive(tar({"a.wav": tone()}), "small-enough")
    put_archive(tar({"a.wav": tone(), "zeros.txt": bytes(4 * MIB)}, "w:xz"), "swells")  # small as it lies in S3
    start(small=True, models=5 * MIB, ROOM_WAIT_S="2", HEARTBEAT_TTL_S="2")
    wait_until(lambda: redis_db.exists("batch:small-enough:total"), "the one behind it")
    [letter] = dead_letters(redis_db)
    assert '"swells"' in letter["payload"]
    assert "is too large unpacked" in letter["error"]
