"""Redis is killed, paused, full or loses answers during a batch: no job is lost or counted twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.job_queue import HOSTS_SEEN, script
from local.services import Services
from tests.reliability.faulty_network import FaultyNetwork
from tests.reliability.faulty_s3 import Fault, FaultyS3
from tests.reliability.scene import CLIPS, TTL_S, Scene, scene
from tests.reliability.tones import clip_name
from tests.reliability.world import WorkerProcess
from tests.workers.processes import wait_until

LONG_TTL_S = 60.0  # no worker is taken for dead: what it has finished is to count
PAUSE_MS = 12_000  # the clients' socket time-out is 10 s
MANY = range(20)
NOT_OURS = "job no longer belongs to this worker"


@pytest.fixture
def s3(services: Services) -> Iterator[FaultyS3]:
    with FaultyS3(services.s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def world(services: Services, tmp_path: Path, s3: FaultyS3, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """Services and workers with the heartbeat's lifetime that the test chooses, or a short one."""
    ttl_s = getattr(request, "param", TTL_S)
    with scene(tmp_path, services, ttl_s=ttl_s, S3_ENDPOINT=s3.endpoint) as opened:
        opened.redis.config_set("maxmemory", 0)
        yield opened
        opened.redis.config_set("maxmemory", 0)


def in_mid_batch(world: Scene, s3: FaultyS3) -> tuple[WorkerProcess, WorkerProcess, tuple[Fault, Fault]]:
    """The GPU worker in the middle of b1's first clip, the unpack worker in the middle of b2's archive."""
    stalled = s3.stall("PUT", "/processed/", times=1), s3.stall("GET", "/archives/b2", times=1)
    unpack, gpu = world.start("unpack"), world.start("gpu")
    world.inject("b1", CLIPS)
    world.inject("b2", CLIPS)
    for fault in stalled:
        wait_until(lambda fault=fault: fault.hits, f"{fault.path} to be under way")  # type: ignore[misc]
    return unpack, gpu, stalled


def written(world: Scene) -> None:
    """Wait until Redis has written its changes to the append-only file, so that a kill does not lose them."""
    wait_until(lambda: world.redis.info("persistence")["aof_buffer_length"] == 0, "the append-only file")


def kill_redis(services: Services) -> None:
    [server] = services.valkey.processes
    assert server.popen is not None
    server.popen.kill()
    server.popen.wait()


@pytest.mark.parametrize("world", [LONG_TTL_S], indirect=True)
def test_work_that_is_finished_while_redis_is_dead_counts_when_it_is_back(
    world: Scene, s3: FaultyS3, services: Services
):
    unpack, gpu, stalled = in_mid_batch(world, s3)
    written(world)
    kill_redis(services)
    for fault in stalled:
        fault.lift()
    world.wait_for(unpack, "waiting for Redis to acknowledge")
    world.wait_for(gpu, "Redis cannot be reached")
    services.valkey.start()
    world.ends_well({"b1": CLIPS, "b2": CLIPS})
    text = "\n".join(world.lines())
    assert NOT_OURS not in text
    assert text.count("clip done") == 2 * len(CLIPS), "nothing was done a second time"


@pytest.mark.thorough
@pytest.mark.parametrize("world", [LONG_TTL_S], indirect=True)
def test_a_job_whose_acknowledgement_redis_forgot_in_a_crash_runs_again(
    world: Scene, s3: FaultyS3, services: Services, tmp_path: Path
):
    """A power cut loses up to a second of the file. The test puts back an older copy of the file."""
    file, copy = services.root / "valkey" / "appendonlydir", tmp_path / "appendonlydir"
    first = s3.stall("PUT", "/processed/", times=1)
    world.start("unpack")
    gpu = world.start("gpu", CLIPS_IN_HAND="1")
    world.inject("b1", CLIPS)
    wait_until(lambda: first.hits, "the first clip to be in hand")
    written(world)
    shutil.copytree(file, copy)
    second = s3.stall("PUT", "/processed/", times=1)
    first.lift()
    wait_until(lambda: second.hits, "the second clip to be in hand")
    assert world.processed("b1") == 1
    kill_redis(services)
    shutil.rmtree(file)
    shutil.copytree(copy, file)
    services.valkey.start()
    # The first clip stands in the worker's list again.
    assert world.processed("b1") == 0
    second.lift()
    world.ends_well({"b1": CLIPS})
    assert "clip has its results already" in gpu.log.read_text()


@pytest.mark.thorough
def test_clients_that_redis_throws_out_come_back(world: Scene, s3: FaultyS3):
    unpack, gpu, stalled = in_mid_batch(world, s3)
    world.redis.client_kill_filter(_type="normal")
    for fault in stalled:
        fault.lift()
    world.inject("b3", MANY)
    for clips in range(4, 36, 4):
        world.wait_for(gpu, "clip done", times=clips)
        world.redis.client_kill_filter(_type="normal")
    world.ends_well({"b1": CLIPS, "b2": CLIPS, "b3": MANY})
    assert unpack.log.read_text().count("batch unpacked") == 3


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("kind", "name", "request_part", "answer_part"),
    [
        pytest.param("unpack", "claim", "", "archives/b1.tar", id="the claim of an archive"),
        pytest.param("unpack", "start_batch", "archives/b1.tar", "", id="the start of a batch"),
        pytest.param("gpu", "claim", "", clip_name(3), id="the claim of a clip"),
        pytest.param("gpu", "settle", clip_name(3), "", id="the acknowledgement of a clip"),
        pytest.param("gpu", "settle", clip_name(CLIPS[-1]), "", id="the acknowledgement of the last clip"),
        pytest.param("gpu", "clear_batch", "", "", id="the removal of a batch's keys"),
    ],
)
def test_a_step_that_redis_took_and_whose_answer_was_lost_is_taken_once(
    world: Scene, services: Services, kind: str, name: str, request_part: str, answer_part: str
):
    sha = script(world.redis, name).sha.encode()
    with FaultyNetwork(services.redis_host, services.redis_port) as network:
        # The script's name stands before its arguments, so the request is told by both; one worker, one clip at a time.
        world.start("unpack" if kind == "gpu" else "gpu")
        network.lose_answer((sha, request_part.encode()), answer_part.encode())
        world.start(kind, REDIS_PORT=str(network.port))
        world.inject("b1", CLIPS)
        wait_until(lambda: network.answers_lost == 1, "the answer to be lost")
        world.ends_well({"b1": CLIPS})


@pytest.mark.thorough
def test_a_redis_that_is_silent_for_longer_than_the_time_out_is_waited_for(world: Scene, s3: FaultyS3):
    _, gpu, stalled = in_mid_batch(world, s3)
    world.redis.client_pause(PAUSE_MS)
    for fault in stalled:
        fault.lift()
    world.wait_for(gpu, "waiting for Redis to acknowledge")
    world.ends_well({"b1": CLIPS, "b2": CLIPS})


@pytest.mark.thorough
def test_a_full_redis_is_emptied_by_those_who_finish_and_gets_nothing_new(world: Scene, s3: FaultyS3):
    unpack, gpu, stalled = in_mid_batch(world, s3)
    world.inject("b3", CLIPS)
    world.redis.config_set("maxmemory", 1)
    world.redis.script_flush()
    for fault in stalled:
        fault.lift()
    world.held(unpack, "Redis is full")
    assert world.redis.llen("queue:unpack") == 1, "the archive in hand was finished, and no other was begun"
    world.wait_for(gpu, "clip done", times=2 * len(CLIPS))
    assert "held" not in gpu.log.read_text(), "finishing a clip makes room"
    [key] = world.redis.keys(f"worker:host-1:{unpack.pid}:*")
    wait_until(lambda: b'"held"' in (world.redis.get(key) or b""), "the heartbeat to say that the worker is held")
    assert "Redis is full" in json.loads(world.redis.get(key) or b"{}")["detail"]
    full_since = world.redis.zscore(HOSTS_SEEN, "host-1") or 0
    wait_until(lambda: (world.redis.zscore(HOSTS_SEEN, "host-1") or 0) > full_since + 2 * TTL_S, "some heartbeats")
    assert len(world.redis.keys("worker:host-1:*")) == 2, "nobody looks dead"
    world.redis.config_set("maxmemory", 0)
    world.ends_well({"b1": CLIPS, "b2": CLIPS, "b3": CLIPS})


@pytest.mark.thorough
def test_scripts_that_redis_forgot_are_loaded_again(world: Scene, s3: FaultyS3):
    _, gpu, stalled = in_mid_batch(world, s3)
    world.redis.script_flush()
    for fault in stalled:
        fault.lift()
    world.wait_for(gpu, "clip done", times=4)
    world.redis.script_flush()
    world.ends_well({"b1": CLIPS, "b2": CLIPS})
    assert not any("held" in line or "waiting" in line for line in world.lines())
