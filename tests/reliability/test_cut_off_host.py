"""A host that the network cuts off while it holds a job: the job runs elsewhere, and its late finish is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.services import Services
from tests.reliability.faulty_network import FaultyNetwork
from tests.reliability.faulty_s3 import FaultyS3
from tests.reliability.scene import CLIPS, Scene, scene
from tests.reliability.tones import clip_name
from tests.reliability.world import WorkerProcess
from tests.workers.processes import wait_until

SHARED = "queue:transcribe"
NOT_OURS = "job no longer belongs to this worker"


class Host:
    """A host whose connection to Redis can be cut, and whose S3 can stall to stop a worker in the middle of its job."""

    def __init__(self, name: str, services: Services, exits: contextlib.ExitStack) -> None:
        self.name = name
        self.redis = exits.enter_context(FaultyNetwork(services.redis_host, services.redis_port))
        self.s3 = exits.enter_context(FaultyS3(services.s3_endpoint))

    def start(self, world: Scene, kind: str, **more: str) -> WorkerProcess:
        return world.start(
            kind, WORKER_HOST=self.name, REDIS_PORT=str(self.redis.port), S3_ENDPOINT=self.s3.endpoint, **more
        )


@pytest.fixture
def hosts(services: Services) -> Iterator[tuple[Host, Host]]:
    with contextlib.ExitStack() as exits:
        yield Host("host-a", services, exits), Host("host-b", services, exits)


@pytest.fixture
def world(services: Services, tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path, services) as opened:
        yield opened


def alive(world: Scene, worker: WorkerProcess, host: Host) -> bool:
    return bool(world.redis.keys(f"worker:{host.name}:{worker.pid}:*"))


def silent(world: Scene, worker: WorkerProcess, host: Host) -> None:
    wait_until(lambda: not alive(world, worker, host), f"the heartbeat of {host.name} to expire")


def rows(world: Scene) -> list[tuple[Any, ...]]:
    """All rows in Postgres with the version of each row, so that a write without a change is seen, too."""
    return [
        *world.query("SELECT to_jsonb(b), xmin::text FROM batches b ORDER BY batch_id"),
        *world.query("SELECT to_jsonb(a), xmin::text FROM audio_files a ORDER BY audio_id"),
        *world.query("SELECT to_jsonb(t), xmin::text FROM transcripts t ORDER BY transcript_id"),
    ]


def one_clip_in_hand(world: Scene, host: Host) -> tuple[WorkerProcess, Any]:
    """Unpack a batch, and let the host's GPU worker take its first clip and stall in the middle of it."""
    kept = host.s3.stall("PUT", "/processed/", times=1)
    world.start("unpack", TRANSCRIBE_QUEUE=SHARED)
    world.inject("b1", CLIPS)
    worker = host.start(world, "gpu", CLIPS_IN_HAND="1")
    wait_until(lambda: kept.hits, "the first clip to be in hand")
    return worker, kept


@pytest.mark.thorough
@pytest.mark.parametrize("fault", ["drop", "close"])
def test_a_clip_of_a_cut_off_worker_is_done_by_another_and_its_late_end_is_refused(
    world: Scene, hosts: tuple[Host, Host], fault: Any
):
    lost, other = hosts
    zombie, kept = one_clip_in_hand(world, lost)
    lost.redis.set(fault)
    silent(world, zombie, lost)
    # The other host does the lost host's clip and stalls in the next: the batch is still under way when the lost host
    # comes back with its finish.
    second = other.s3.stall("PUT", "/processed/", after=0)
    survivor = other.start(world, "gpu", CLIPS_IN_HAND="1")
    wait_until(lambda: second.hits, "the clip to run on the other host")
    assert world.processed("b1") == 0
    next_of_lost = lost.s3.stall("PUT", "/processed/")  # it goes on working when it is back: nothing of that counts yet
    lost.redis.set("forward")
    kept.lift()
    world.wait_for(zombie, NOT_OURS)
    assert world.processed("b1") == 0
    assert world.redis.scard("batch:b1:pending") == len(CLIPS)
    next_of_lost.lift()
    second.lift()
    world.ends_well({"b1": CLIPS})
    assert f'clip="{clip_name(0)}"' in survivor.log.read_text()


@pytest.mark.thorough
def test_a_settle_that_arrives_after_the_heartbeat_has_expired_counts_nothing(world: Scene, hosts: tuple[Host, Host]):
    lost, other = hosts
    zombie, kept = one_clip_in_hand(world, lost)
    lost.redis.set("hold")
    kept.lift()
    wait_until(lambda: clip_name(0).encode() in lost.redis.held_back(), "the acknowledgement to be on its way")
    silent(world, zombie, lost)
    second = other.s3.stall("PUT", "/processed/", times=1)
    survivor = other.start(world, "gpu", CLIPS_IN_HAND="1")
    wait_until(lambda: second.hits, "the other host to have passed on to the next clip")
    assert "clip has its results already" in survivor.log.read_text(), "the lost host had committed them"
    assert world.processed("b1") == 1
    next_of_lost = lost.s3.stall("PUT", "/processed/")
    lost.redis.set("forward")
    world.wait_for(zombie, NOT_OURS)
    assert world.processed("b1") == 1
    next_of_lost.lift()
    second.lift()
    world.ends_well({"b1": CLIPS})


@pytest.mark.thorough
@pytest.mark.parametrize("complete", [False, True], ids=["while the batch is under way", "after the batch is complete"])
def test_an_overtaken_run_of_unpack_records_nothing(
    world: Scene, hosts: tuple[Host, Host], tmp_path: Path, *, complete: bool
):
    lost, other = hosts
    scratch = {host.name: tmp_path / f"scratch-{host.name}" for host in hosts}
    fetching = lost.s3.stall("GET", "/archives/")
    mine = {"SCRATCH_ROOT": str(scratch[lost.name]), "TRANSCRIBE_QUEUE": f"{SHARED}:{lost.name}"}
    zombie = lost.start(world, "unpack", **mine)
    world.inject("b1", CLIPS)
    wait_until(lambda: fetching.hits, "the archive to be in hand")
    lost.redis.set("drop")
    silent(world, zombie, lost)

    theirs = {"SCRATCH_ROOT": str(scratch[other.name]), "TRANSCRIBE_QUEUE": f"{SHARED}:{other.name}"}
    last = other.s3.stall("PUT", "/processed/", times=1)
    other.start(world, "unpack", **theirs)
    other.start(world, "gpu", CLIPS_IN_HAND="1", **theirs)
    wait_until(lambda: last.hits, "the batch to be under way on the other host")
    if complete:
        last.lift()
        wait_until(lambda: world.over({"b1": CLIPS}), "the batch to be over")
    before, keys = rows(world), sorted(world.redis.keys("batch:*"))

    lost.redis.set("forward")
    fetching.lift()
    world.wait_for(zombie, "a newer run of unpack has replaced this one")
    wait_until(lambda: not list(scratch[lost.name].iterdir()), "the overtaken run to clear its scratch")
    assert rows(world) == before
    assert sorted(world.redis.keys("batch:*")) == keys
    assert world.redis.llen(f"{SHARED}:{lost.name}") == 0
    assert world.query("SELECT unpack_host FROM batches") == [(other.name,)]
    last.lift()
    world.ends_well({"b1": CLIPS})
    assert [list(folder.iterdir()) for folder in scratch.values()] == [[], []]
