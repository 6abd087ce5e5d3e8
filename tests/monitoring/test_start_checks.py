"""The checks at a worker's start: each problem is one sentence, and no worker begins before it is solved."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
import redis

from config import Settings, load_settings
from db import SCHEMA_VERSION, Database
from errors import OperatorError, ServiceUnavailableError
from local.services.state import State
from local.services.valkey import Valkey
from monitoring.redis_checks import MAX_SKEW_S, check_clock, check_redis
from monitoring.store_checks import check_stores
from s3_utils import ObjectStore
from scratch.volume import check_scratch
from tests.workers.programs import UNPACK, Program

MOUNTED = Path("/dev/shm")  # noqa: S108 -- a mount point that every Linux has; what is made there is removed


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A separate server, whose configuration tests may change."""
    root = tmp_path_factory.mktemp("valkey")
    server = Valkey(root, State(root), durable=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def client(valkey: Valkey) -> Iterator[redis.Redis]:
    """A client of this server. Its configuration is that of production before and after the test."""
    opened = redis.Redis("127.0.0.1", valkey.port, password=valkey.password)
    yield opened
    opened.config_set("maxmemory-policy", "noeviction")
    opened.config_set("appendonly", "yes")
    opened.close()


@pytest.fixture
def on_mount() -> Iterator[Path]:
    """A folder on a volume that is mounted at `MOUNTED`."""
    folder = Path(tempfile.mkdtemp(dir=MOUNTED, prefix="scratch-"))
    yield folder
    shutil.rmtree(folder)


def one_sentence(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text
    return text


def as_admin(dsn: str, statement: str) -> None:
    connection = psycopg2.connect(dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()


def test_redis_as_production_runs_it_is_accepted_without_remark(client):
    assert check_redis(client) == []


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_redis_that_may_throw_jobs_away_is_refused_with_the_command_that_mends_it(client, policy):
    client.config_set("maxmemory-policy", policy)
    with pytest.raises(OperatorError, match=f"maxmemory-policy is {policy}") as caught:
        check_redis(client)
    assert "CONFIG SET maxmemory-policy noeviction" in one_sentence(caught.value)


def test_a_redis_without_append_only_file_is_accepted_with_a_remark(client):
    client.config_set("appendonly", "no")
    [remark] = check_redis(client)
    assert "set appendonly yes" in remark


def test_a_redis_that_is_away_or_refuses_the_password_is_one_sentence(valkey):
    for port, password, name in ((1, valkey.password, "REDIS_PORT"), (valkey.port, "wrong", "REDIS_PASSWORD")):
        client = redis.Redis("127.0.0.1", port, password=password)
        with pytest.raises(ServiceUnavailableError, match=name) as caught:
            check_redis(client)
        one_sentence(caught.value)
        client.close()


def test_a_worker_waits_until_redis_keeps_its_jobs_and_then_begins_by_itself(client, valkey, settings_env, tmp_path):
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.config_set("appendonly", "no")
    client.rpush("queue:unpack", b"{")
    env = {**settings_env, "REDIS_PORT": str(valkey.port), "REDIS_PASSWORD": valkey.password, "REDIS_DB": "0"}
    with Program(UNPACK, env, tmp_path / "unpack.log") as worker:
        worker.wait_for("maxmemory-policy is allkeys-lru")
        assert client.keys("worker:*") == client.keys("inflight:*") == []
        assert client.lrange("queue:unpack", 0, -1) == [b"{"]
        client.config_set("maxmemory-policy", "noeviction")
        worker.wait_for("job given up")
        assert "Redis could be safer" in worker.text, "what is no reason to wait is said once"
        assert worker.text.index("ready") < worker.text.index("job given up")


def test_clocks_may_differ_by_a_little():
    check_clock(time.time() + MAX_SKEW_S / 2, "Redis")
    check_clock(time.time() - MAX_SKEW_S / 2, "Redis")


@pytest.mark.parametrize(("shift_s", "says"), [(-3600, "3600 s ahead of"), (3600, "3600 s behind")])
def test_clocks_that_differ_by_more_are_refused_and_it_is_said_which_is_ahead(shift_s, says):
    with pytest.raises(OperatorError, match=f"{says} that of Postgres") as caught:
        check_clock(time.time() + shift_s + 0.4, "Postgres")
    assert "timedatectl" in one_sentence(caught.value)


def test_the_clock_that_postgres_shows_is_its_own(settings):
    db = Database(settings)
    check_clock(db.server_time(), "Postgres")
    db.close()


def test_a_database_of_an_older_release_is_refused_with_the_command_that_mends_it(settings, database):
    db = Database(settings)
    db.check()
    as_admin(database.admin_dsn, f"DELETE FROM schema_version WHERE version >= {SCHEMA_VERSION}")
    with pytest.raises(OperatorError, match=f"needs {SCHEMA_VERSION}; apply schema.sql: psql") as caught:
        db.check()
    assert f"has schema version {SCHEMA_VERSION - 1}" in one_sentence(caught.value)
    db.close()


def test_a_database_of_a_newer_release_is_accepted(settings, database):
    """A deploy applies the schema first, and then goes from host to host."""
    as_admin(database.admin_dsn, f"INSERT INTO schema_version (version) VALUES ({SCHEMA_VERSION + 1})")
    db = Database(settings)
    db.check()
    db.close()


def test_scratch_is_made_when_it_is_missing_and_nothing_is_left_in_it(tmp_path):
    check_scratch(tmp_path / "data" / "scratch")
    assert list((tmp_path / "data" / "scratch").iterdir()) == []


def test_scratch_on_its_mounted_volume_is_accepted(on_mount):
    check_scratch(on_mount / "scratch", MOUNTED)


def test_scratch_whose_volume_is_not_mounted_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(OperatorError, match="nothing is mounted there") as caught:
        check_scratch(tmp_path / "data" / "scratch", tmp_path / "data")
    assert f"findmnt {tmp_path / 'data'}" in one_sentence(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_scratch_beside_the_mounted_volume_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(OperatorError, match="does not lie under it") as caught:
        check_scratch(tmp_path / "scratch", MOUNTED)
    assert str(tmp_path / "scratch") in one_sentence(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_scratch_that_looks_as_if_it_were_on_the_volume_and_is_not_is_refused(on_mount, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (on_mount / "scratch").symlink_to(elsewhere)
    with pytest.raises(OperatorError, match="does not lie under it"):
        check_scratch(on_mount / "scratch", MOUNTED)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("root", ["/proc/scratch", "/dev/null/scratch"])
def test_scratch_that_cannot_be_written_is_refused(root):
    """Not tested with permissions, because the user of the tests may be root."""
    with pytest.raises(OperatorError, match=f"SCRATCH_ROOT {root} cannot be written") as caught:
        check_scratch(Path(root))
    one_sentence(caught.value)


def test_all_stores_are_checked_and_the_first_that_is_wrong_is_named(settings: Settings, settings_env, tmp_path):
    db, s3 = Database(settings), ObjectStore(settings)
    as_of_old = load_settings({**settings_env, "SCRATCH_MOUNT": str(tmp_path)})
    no_bucket = load_settings({**settings_env, "S3_BUCKET": "no-such-bucket"})
    check_stores(db, s3, settings)
    with pytest.raises(OperatorError, match=f"SCRATCH_MOUNT is {tmp_path}"):
        check_stores(db, s3, as_of_old)
    with pytest.raises(OperatorError, match="has no bucket no-such-bucket"):
        check_stores(db, ObjectStore(no_bucket), settings)
    db.close()
