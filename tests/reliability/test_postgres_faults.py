"""Postgres fails during a transaction: the transaction has no effect, and the work is written when Postgres is back.

A lock that the test holds stops both workers in mid-transaction: the GPU worker after its results' first statement, the
unpack worker between the batch's row and its clips.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest

from local.services import Services
from tests.reliability.faulty_network import FaultyNetwork
from tests.reliability.faulty_s3 import FaultyS3
from tests.reliability.scene import CLIPS, Scene, scene
from tests.workers.processes import wait_until

LOCKED = ("transcripts", "audio_files")  # where results begin, and where clips are recorded
WAITING = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query ILIKE '%%INSERT INTO ' || %s || '%%'
"""


@pytest.fixture
def network(services: Services) -> Iterator[FaultyNetwork]:
    """Between the workers and Postgres."""
    with FaultyNetwork(services.postgres_host, services.postgres_port) as proxy:
        yield proxy


@pytest.fixture
def s3(services: Services) -> Iterator[FaultyS3]:
    with FaultyS3(services.s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def world(services: Services, tmp_path: Path, network: FaultyNetwork, s3: FaultyS3) -> Iterator[Scene]:
    with scene(tmp_path, services, POSTGRES_PORT=str(network.port), S3_ENDPOINT=s3.endpoint) as opened:
        yield opened


@contextlib.contextmanager
def locked(world: Scene, tables: tuple[str, ...]) -> Iterator[None]:
    """Reads pass, writes wait, until the end of the block or of the server."""
    connection = psycopg2.connect(world.database.admin_dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {', '.join(tables)} IN EXCLUSIVE MODE")
        yield
    finally:
        connection.close()


def waiting(world: Scene, table: str) -> list[int]:
    return [pid for (pid,) in world.query(WAITING, table)]


def restart(services: Services, network: FaultyNetwork, _pids: list[int]) -> None:
    # Nothing passes meanwhile: were the lock's owner thrown out first, a worker could commit before its own end.
    network.set("hold")
    services.postgres.stop()
    services.postgres.start()
    network.set("forward")


def kill(_own: Services, _network: FaultyNetwork, pids: list[int]) -> None:
    """Kill a process of the server. The server treats it as a crash: it closes all connections and recovers."""
    os.kill(pids[0], signal.SIGKILL)


def terminate(services: Services, _network: FaultyNetwork, pids: list[int]) -> None:
    connection = services.postgres.admin()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s) AS pid", (pids,))
    connection.close()


def cut(_own: Services, network: FaultyNetwork, _pids: list[int]) -> None:
    network.set("close")


@pytest.mark.parametrize(
    "fault", [kill, *(pytest.param(fault, marks=pytest.mark.thorough) for fault in (restart, terminate, cut))]
)
def test_a_transaction_that_postgres_lost_is_written_again(
    world: Scene,
    services: Services,
    network: FaultyNetwork,
    s3: FaultyS3,
    fault: Callable[[Services, FaultyNetwork, list[int]], None],
):
    # One in mid-clip, the other in mid-archive, so that both come to the lock.
    stalled = s3.stall("PUT", "/processed/", times=1), s3.stall("GET", "/archives/b2", times=1)
    world.start("unpack")
    world.start("gpu")
    world.inject("b1", CLIPS)
    world.inject("b2", CLIPS)
    wait_until(lambda: all(blocked.hits for blocked in stalled), "both workers to be in mid-job")
    with locked(world, LOCKED):
        for blocked in stalled:
            blocked.lift()
        wait_until(lambda: all(waiting(world, table) for table in LOCKED), "both workers to be in mid-transaction")
        fault(services, network, [pid for table in LOCKED for pid in waiting(world, table)])
        for worker in world.workers:
            world.held(worker, "Postgres at 127.0.0.1")
    wait_until(services.postgres._answers, "Postgres to be back")
    network.set("forward")
    world.ends_well({"b1": CLIPS, "b2": CLIPS})


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("kind", "method", "path"),
    [
        pytest.param("gpu", "PUT", "/processed/", id="of a clip's results"),
        pytest.param("unpack", "GET", "/archives/", id="of what unpack does after it has the archive"),
    ],
)
def test_a_commit_whose_answer_was_lost_is_repeated_and_changes_nothing(
    world: Scene, services: Services, s3: FaultyS3, network: FaultyNetwork, kind: str, method: str, path: str
):
    in_hand = s3.stall(method, path, times=1)
    for other in {"gpu", "unpack"} - {kind}:
        world.start(other, POSTGRES_PORT=str(services.postgres_port))
    worker = world.start(kind)
    world.inject("b1", CLIPS)
    wait_until(lambda: in_hand.hits, "the job to be in hand")
    network.lose_answer((b"COMMIT",))
    in_hand.lift()
    world.held(worker, "Postgres at 127.0.0.1")
    assert network.answers_lost == 1
    world.ends_well({"b1": CLIPS})
