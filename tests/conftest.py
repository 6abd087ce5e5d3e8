"""The fixtures of all tests. The services are real. When something is missing, the test fails; no test is skipped."""

from __future__ import annotations

import functools
import os
import secrets
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import redis
from xdist.scheduler import Scheduling

from config import Settings, load_settings
from local.demo_browser import HOW, find_chromium
from local.services import Database, Services
from local.services.state import OWN_PORTS, PORT_RANGE
from tests import distribution
from tests.databases import fresh_database
from tests.local.helpers import execute

ROOT = Path(__file__).resolve().parent.parent
# A busy machine must not fail a property: no deadline per example, and slow generation is no fault of ours.
hypothesis.settings.register_profile("ours", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("ours")

WORKER, WORKERS = "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"  # set by pytest-xdist, from 0 on: gw0, gw1, ...

REDIS_DB = 1  # the tests' own; 0 stays empty, so that code that forgets REDIS_DB is noticed


def pytest_configure() -> None:
    """Give each process that runs tests its own ports."""
    if WORKER in os.environ:
        workers = int(os.environ[WORKERS])
        number = int(os.environ[WORKER].removeprefix("gw")) % workers  # one that replaces a crashed one counts on
        share = len(PORT_RANGE) // workers
        first = PORT_RANGE.start + number * share
        os.environ[OWN_PORTS] = f"{first}-{first + share - 1}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    distribution.sort(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    return distribution.Units(config, log)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name parameters of bytes by their argument. A name made of bytes with a time would differ in each process."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session", autouse=True)
def heeded_interrupts() -> None:
    """Let the programs under test receive SIGINT.

    A shell without job control starts background jobs with SIGINT ignored, and their child processes inherit this.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Valkey, PostgreSQL, Swift and an SFTP host: started once, stopped at the end."""
    with Services(tmp_path_factory.mktemp("services"), durable=False) as running:
        yield running


@pytest.fixture(scope="module")
def database(services: Services) -> Iterator[Database]:
    """A fresh database with `schema.sql` applied; one per test module."""
    made = fresh_database(services, "test")
    yield made
    services.drop_database(made.name)


@pytest.fixture
def query(database: Database) -> Callable[..., list[tuple[Any, ...]]]:
    """Run one statement on the database as its administrator: `query(statement, *arguments)` -> its rows."""
    return functools.partial(execute, database.admin_dsn)


@pytest.fixture
def redis_db(services: Services) -> Iterator[redis.Redis]:
    """A client of the tests' Redis database, which is empty when the test begins. Answers are bytes."""
    client = redis.Redis(services.redis_host, services.redis_port, REDIS_DB, services.redis_password)
    client.flushdb()
    yield client
    client.close()


@pytest.fixture
def bucket(services: Services) -> str:
    """The name of a fresh S3 bucket. It goes with the services: to empty and delete it takes longer than many tests."""
    name = f"test-{secrets.token_hex(6)}"
    services.make_bucket(name)
    return name


@dataclass(frozen=True)
class SshHostFixture:
    """The stand-in for the EC2 host: `directory` is what the transfer worker sees as `TRANSFER_REMOTE_DIR`."""

    directory: Path
    env: dict[str, str]


@pytest.fixture
def ssh_host(services: Services) -> SshHostFixture:
    """The SFTP host with an empty archive directory."""
    shutil.rmtree(services.ssh.archives, ignore_errors=True)
    services.ssh.archives.mkdir(parents=True)
    return SshHostFixture(services.ssh.archives, services.ssh.environ())


@pytest.fixture(scope="session")
def models_root() -> Path:
    """Where the demo models lie: `MODELS_ROOT`, else `models/` of the checkout (`make test` fetches them)."""
    return Path(os.environ.get("MODELS_ROOT") or ROOT / "models").resolve()


@pytest.fixture
def settings_env(
    services: Services, database: Database, redis_db: redis.Redis, bucket: str, tmp_path: Path, models_root: Path
) -> dict[str, str]:
    """Every setting the pipeline needs, as environment variables, for `load_settings` or a child's environment.

    Asking for it empties the tests' Redis database.
    """
    assert redis_db.dbsize() == 0
    scratch, staging = tmp_path / "scratch", tmp_path / "staging"
    scratch.mkdir()
    staging.mkdir()
    return {
        **services.environ(database=database.name, bucket=bucket, redis_db=REDIS_DB),
        "SCRATCH_ROOT": str(scratch),
        "MODELS_ROOT": str(models_root),
        "MODEL_SET": "demo",
        "DEVICE": "cpu",
        "WORKER_HOST": "test-host",
        "TRANSFER_STAGING": str(staging),
        "TRANSFER_POLL_S": "0.2",
        "TRANSFER_SETTLE_S": "0.2",
    }


@pytest.fixture
def settings(settings_env: dict[str, str]) -> Settings:
    return load_settings(settings_env)


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """A Chromium for browser tests."""
    found = find_chromium()
    if found is None:
        pytest.fail(f"There is no Chromium on this machine. {HOW}")
    return found
