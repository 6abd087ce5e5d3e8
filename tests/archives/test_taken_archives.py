"""What `transfer:taken` forgets: archives that are long gone from the host, and nothing else."""

from __future__ import annotations

import pytest
import redis

from archives.sources.taken import GONE, KEPT_S, TAKEN, forget_gone

PREFIX = b"ec2:/srv/archives/"
HERE, OLD = PREFIX + b"here.tar:10:1", PREFIX + b"old:name.tar:10:1"
LATER = KEPT_S + 1


@pytest.fixture
def taken(redis_db: redis.Redis) -> redis.Redis:
    redis_db.hset(TAKEN, mapping={HERE: "b1", OLD: "b2"})
    return redis_db


def look(client: redis.Redis, *listed: bytes, at: float) -> int:
    return forget_gone(client, listed, PREFIX, "*.tar*", now=at)


def test_an_entry_goes_when_its_archive_has_long_been_gone(taken: redis.Redis) -> None:
    assert look(taken, HERE, at=1) == 0
    assert look(taken, HERE, at=KEPT_S) == 0
    assert look(taken, HERE, at=LATER) == 1
    assert taken.hgetall(TAKEN) == {HERE: b"b1"}
    assert taken.exists(GONE) == 0


def test_an_archive_that_is_listed_again_counts_as_never_gone(taken: redis.Redis) -> None:
    look(taken, HERE, at=1)
    look(taken, HERE, OLD, at=2)
    assert look(taken, HERE, at=LATER) == 0
    assert taken.hlen(TAKEN) == 2


def test_a_look_that_finds_nothing_counts_for_nothing(taken: redis.Redis) -> None:
    assert look(taken, at=1) == look(taken, at=LATER) == look(taken, at=3 * LATER) == 0
    assert taken.hlen(TAKEN) == 2


@pytest.mark.parametrize(
    "name",
    [b"other-host:/srv/archives/a.tar:1:1", b"ec2:/srv/elsewhere/a.tar:1:1", PREFIX + b"sub/a.tar:1:1",
     PREFIX + b"a.zip:1:1", b"made by hand"],
)  # fmt: skip
def test_an_entry_that_this_look_could_not_find_stays(redis_db: redis.Redis, name: bytes) -> None:
    redis_db.hset(TAKEN, mapping={HERE: "b1", name: "b2"})
    assert look(redis_db, HERE, at=1) == look(redis_db, HERE, at=LATER) == 0
    assert redis_db.hlen(TAKEN) == 2
