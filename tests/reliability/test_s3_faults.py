"""S3 refuses, is slow or breaks off: the workers wait for it, and no attempt is counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from local.services import Services
from tests.reliability.faulty_s3 import FaultyS3
from tests.reliability.scene import CLIPS, Scene, scene

UNPACK, GPU = "unpack", "gpu"
WITH_A_BROKEN_CLIP = range(40)  # clip 39 is no audio, and is parked in S3


@pytest.fixture
def s3(services: Services) -> Iterator[FaultyS3]:
    with FaultyS3(services.s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def world(services: Services, tmp_path: Path, s3: FaultyS3) -> Iterator[Scene]:
    with scene(tmp_path, services, S3_ENDPOINT=s3.endpoint) as opened:
        yield opened


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("method", "path", "kind", "clips"),
    [
        pytest.param("HEAD", "/archives/", UNPACK, CLIPS, id="before the archive is claimed"),
        pytest.param("GET", "/archives/", UNPACK, CLIPS, id="when the archive is fetched"),
        pytest.param("PUT", "/failed/", UNPACK, WITH_A_BROKEN_CLIP, id="when a broken clip is parked"),
        pytest.param("PUT", "/processed/", GPU, CLIPS, id="when a finished clip is kept"),
    ],
)
def test_an_s3_that_answers_503_is_waited_for(
    world: Scene, s3: FaultyS3, method: str, path: str, kind: str, clips: range
):
    fault = s3.refuse(method, path)
    workers = {UNPACK: world.start(UNPACK), GPU: world.start(GPU)}
    world.inject("b1", clips)
    world.held(workers[kind], "S3 at http://127.0.0.1")
    assert fault.hits >= 1
    fault.lift()
    world.ends_well({"b1": clips})


@pytest.mark.parametrize(
    ("method", "path", "kind", "after"),
    [
        pytest.param("GET", "/archives/", UNPACK, 20_000, id="the archive on its way down"),
        pytest.param("PUT", "/processed/", GPU, 500, id="a finished clip on its way up"),
    ],
)
@pytest.mark.thorough
def test_a_body_that_keeps_breaking_off_is_waited_for(
    world: Scene, s3: FaultyS3, method: str, path: str, kind: str, after: int
):
    fault = s3.cut(method, path, after)
    workers = {UNPACK: world.start(UNPACK), GPU: world.start(GPU)}
    world.inject("b1", CLIPS)
    world.held(workers[kind], "S3 at http://127.0.0.1")
    assert fault.hits >= 1
    assert world.processed("b1") == 0
    fault.lift()
    world.ends_well({"b1": CLIPS})


@pytest.mark.thorough
def test_bodies_that_break_off_once_are_fetched_and_sent_again_without_a_pause(world: Scene, s3: FaultyS3):
    down, up = s3.cut("GET", "/archives/", 20_000, times=1), s3.cut("PUT", "/processed/", 500, times=1)
    world.start(UNPACK)
    world.start(GPU)
    world.inject("b1", CLIPS)
    world.ends_well({"b1": CLIPS})
    assert (down.hits, up.hits) == (1, 1)
    assert not any("held" in line for line in world.lines())


@pytest.mark.thorough
def test_a_slow_s3_costs_time_and_nothing_else(world: Scene, s3: FaultyS3):
    s3.bytes_per_s = 60_000.0
    world.start(UNPACK)
    world.start(GPU)
    world.inject("b1", CLIPS)
    world.ends_well({"b1": CLIPS})
    assert not any("held" in line for line in world.lines())
