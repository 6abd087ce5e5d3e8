"""The table `operator_actions`: who changed what, when, and how many. It has a row for every change."""

from __future__ import annotations

import getpass
import json
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis

from s3_utils import ObjectStore
from scratch import directories as scratch
from tests.cli.conftest import FAILED, ago, kept, letter
from tests.workers.processes import wait_until

HERE = socket.gethostname()


@dataclass
class Place:
    """Objects that commands can change."""

    redis: redis.Redis
    store: ObjectStore
    scratch_root: Path
    add: Callable[..., Any]
    put: Callable[..., str]
    query: Callable[..., Any]

    def looks(self) -> tuple[object, ...]:
        """Everything in the stores, to compare with later, without the leases of workers."""
        return (
            kept(self.redis),
            sorted(self.store.keys("")),
            sorted(self.scratch_root.rglob("*")),
            self.query("SELECT * FROM batches"),
        )


@pytest.fixture
def place(redis_db, store, settings, add, put, query):
    """Two dead letters, a batch of two clips that Redis has forgotten, one that is over, and a new archive."""
    redis_db.rpush(FAILED, letter(1), letter(2))
    redis_db.set("drain:host:far", "somebody")
    add("batches", batch_id="open", s3_key=put("archives/open.tar"), unpacked_at=ago(60), total=2)
    add("audio_files", batch_id="open", original_filename="a.mp3")
    add("audio_files", batch_id="open", original_filename="b.mp3", status="done")
    add("batches", batch_id="over", s3_key=put("archives/over.tar"), unpacked_at=ago(60), completed_at=ago(1))
    put("archives/new.tar")
    for name in ("over", "mine"):
        (settings.scratch_root / name).mkdir()
        (settings.scratch_root / name / "00001.opus").write_bytes(b"x")
    (settings.scratch_root / "over" / scratch.MARKER).touch()
    return Place(redis_db, store, settings.scratch_root, add, put, query)


@dataclass(frozen=True)
class Case:
    command: str
    action: str
    subject: str
    affected: int
    details: str = "{}"  # those of its own, as JSON; {scratch} is the scratch directory


CASES = [
    Case("failed retry --all --yes", "failed retry", "all", 2),
    Case("failed drop --batch b1 --yes", "failed drop", "batch=b1", 1, '{"given_up": ["b1"]}'),
    Case("batch requeue open --yes", "batch requeue", "open", 2, '{"everything": false}'),
    Case("batch requeue open --everything --yes", "batch requeue", "open", 2, '{"everything": true}'),
    Case("batch cancel open --yes", "batch cancel", "open", 1),
    Case("inject unpack archives/new.tar", "inject unpack", "queue:unpack", 1),
    Case("inject transcribe {scratch}/mine/00001.opus", "inject transcribe", "queue:transcribe:test-host", 1),
    Case("inject s3 --yes", "inject s3", "queue:unpack", 1),
    Case("worker drain --host test-host", "worker drain", "host:test-host", 0),
    Case("worker resume --host far", "worker resume", "host:far", 1),
    Case("reconcile --yes", "reconcile", "batches", 2, '{"batches": ["open", "new"]}'),
    Case("expire --days 0 --yes", "expire archives", "older than 0 days", 1, '{"keys": ["archives/over.tar"]}'),
    Case("expire --days 9 --yes", "expire scratch", "test-host", 1, '{"batches": ["over"]}'),
]
each_change = pytest.mark.parametrize("case", CASES, ids=lambda case: case.command)


def words(case: Case, place: Place) -> list[str]:
    """The words of the command. Objects that it must delete from S3 are old enough afterwards."""
    if case.action == "expire archives":
        wait_until(lambda: all(at <= ago(0) for _, at in place.store.modified("")), "the clock to pass the uploads")
    return case.command.format(scratch=place.scratch_root).split()


@each_change
def test_a_change_is_announced_and_then_counted(cli, query, place, case):
    done = cli(*words(case, place))
    assert done.returncode == 0, done.stderr
    rows = query(
        "SELECT action_id, who, action, subject, affected, details, at > now() - interval '1 minute' "
        "FROM operator_actions WHERE action = %s ORDER BY action_id",
        case.action,
    )
    first, planned = rows[0][0], {**json.loads(case.details), "planned": case.affected}
    who = f"{getpass.getuser()}@{HERE}"
    assert rows == [
        (first, who, case.action, case.subject, None, planned, True),
        (first + 1, who, case.action, case.subject, case.affected, {"begun": first}, True),
    ]


@each_change
def test_nothing_is_changed_that_cannot_be_announced(cli, query, place, case):
    before = place.looks()
    query("REVOKE INSERT ON operator_actions FROM pipeline; SELECT 1")
    try:
        done = cli(*words(case, place))
    finally:
        query("GRANT INSERT ON operator_actions TO pipeline; SELECT 1")
    assert done.returncode == 1
    assert "the database refuses us; apply schema.sql again (permission denied for table operator_act" in done.stderr
    assert place.looks() == before


def test_nothing_is_changed_while_postgres_is_away(cli, place):
    before = kept(place.redis)
    for command in ("failed retry --all --yes", "failed drop --all --yes", "worker drain --all", "reconcile --yes"):
        done = cli(*command.split(), POSTGRES_PORT="1")
        assert done.returncode == 69, command
        assert "Postgres at 127.0.0.1:1 cannot be used" in done.stderr
    assert kept(place.redis) == before


def test_a_change_that_is_broken_off_is_counted_as_far_as_it_came(begin, redis_db, query):
    redis_db.rpush(FAILED, *(letter(number) for number in range(10_000)))
    running = begin("failed", "retry", "--all", "--yes")
    wait_until(lambda: redis_db.llen("queue:unpack") > 100, "the retry to be under way")
    running.send_signal(signal.SIGINT)
    assert running.wait(30) != 0
    [(first, announced), (affected, details)] = query(
        "SELECT CASE WHEN affected IS NULL THEN action_id ELSE affected END, details "
        "FROM operator_actions ORDER BY action_id"
    )
    assert announced == {"planned": 10_000}
    assert details == {"begun": first, "ended_by": "KeyboardInterrupt"}
    assert affected in {redis_db.llen("queue:unpack"), redis_db.llen("queue:unpack") - 1}
    assert redis_db.llen("queue:unpack") + redis_db.llen(FAILED) == 10_000


def test_the_person_behind_sudo_is_named(cli, redis_db, query):
    redis_db.rpush(FAILED, letter(1))
    cli("failed", "drop", "--all", "--yes", SUDO_USER="ada")
    assert query("SELECT DISTINCT who FROM operator_actions") == [(f"ada@{HERE}",)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE operator_actions SET who = 'nobody'", "DELETE FROM operator_actions", "TRUNCATE operator_actions",
        "DROP TABLE operator_actions", "ALTER TABLE operator_actions ADD COLUMN x integer",
    ],
)  # fmt: skip
def test_the_pipelines_role_cannot_alter_the_record(database, add, query, statement):
    add("operator_actions", who="ada", action="failed drop", subject="all", affected=3)
    connection = psycopg2.connect(database.pipeline_dsn)
    with connection, connection.cursor() as cursor, pytest.raises(psycopg2.errors.InsufficientPrivilege):
        cursor.execute(statement)
    connection.close()
    assert query("SELECT who, affected FROM operator_actions") == [("ada", 3)]
