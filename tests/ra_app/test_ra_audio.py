"""Clips through the app: ranges as players request them, no access without a log-in, clear errors while S3 is down."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from flask import Flask

from app import create_app
from app.config import load_settings
from app.models import db
from app.ranges import single_range
from app.storage import AudioObject, AudioStore
from tests.ra_app.world import Visitor, World

BODY = bytes(range(256)) * 1000
SIZE = len(BODY)


@pytest.fixture
def clip(mira: Visitor, world: World) -> int:
    """A clip that mira holds."""
    held = world.add_clip(audio=BODY)
    mira.hold(held)
    return held


def test_the_whole_clip(mira: Visitor, clip: int) -> None:
    answer = mira.get(f"/audio/{clip}")
    assert answer.status_code == 200
    assert answer.data == BODY
    assert answer.headers["Content-Type"] == "audio/ogg"
    assert answer.headers["Content-Length"] == str(SIZE)
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert answer.headers["ETag"].startswith('"')


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-", 0, SIZE - 1),
        ("bytes=0-0", 0, 0),
        ("bytes=100-199", 100, 199),
        ("bytes=255000-", 255000, SIZE - 1),
        ("bytes=-500", SIZE - 500, SIZE - 1),
        ("bytes=-9999999", 0, SIZE - 1),
        ("bytes=255999-9999999", 255999, SIZE - 1),
        ("Bytes = 1-2", 1, 2),
    ],
)
def test_one_range_is_answered_with_that_part(mira: Visitor, clip: int, asked: str, first: int, last: int) -> None:
    answer = mira.get(f"/audio/{clip}", headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
    assert answer.headers["Content-Length"] == str(last - first + 1)
    assert answer.data == BODY[first : last + 1]


@pytest.mark.parametrize("asked", ["bytes=256000-", "bytes=999999999-", "bytes=-0"])
def test_a_range_outside_the_clip_is_refused_with_its_size(mira: Visitor, clip: int, asked: str) -> None:
    answer = mira.get(f"/audio/{clip}", headers={"Range": asked})
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-9", "bytes=9-5", "bytes=-", "lines=1-2", "bytes=a-b", "junk", ""])
def test_what_is_no_single_range_is_answered_with_the_whole(mira: Visitor, clip: int, asked: str) -> None:
    answer = mira.get(f"/audio/{clip}", headers={"Range": asked})
    assert (answer.status_code, len(answer.data)) == (200, SIZE)


def test_a_range_of_endless_digits_is_not_passed_on() -> None:
    assert single_range("bytes=" + "9" * 400 + "-") is None


def test_if_range_gives_the_part_only_of_the_same_file(mira: Visitor, clip: int) -> None:
    tag = mira.get(f"/audio/{clip}").headers["ETag"]
    part = {"Range": "bytes=0-9"}
    assert mira.get(f"/audio/{clip}", headers={**part, "If-Range": tag}).status_code == 206
    for stale in ('"0123456789abcdef0123456789abcdef"', f"W/{tag}", "Fri, 20 Nov 2026 12:00:00 GMT"):
        answer = mira.get(f"/audio/{clip}", headers={**part, "If-Range": stale})
        assert (answer.status_code, len(answer.data)) == (200, SIZE)


def test_head_gives_the_size_and_no_body(mira: Visitor, clip: int) -> None:
    answer = mira.client.head(f"/audio/{clip}")
    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.headers["Content-Length"] == str(SIZE)
    assert answer.headers["Content-Type"] == "audio/ogg"


def test_a_stranger_hears_nothing(visitor: Visitor, clip: int) -> None:
    answer = visitor.get(f"/audio/{clip}")
    assert answer.status_code == 401
    assert answer.mimetype == "text/plain"


def test_clips_that_one_does_not_hold_are_not_given_out(mira: Visitor, world: World) -> None:
    clean, flagged = world.add_clip(audio=BODY, violates=False, score=0.1), world.add_clip(audio=BODY)
    for audio_id in (clean, flagged, 999, 2**63 - 1, 2**63):
        assert mira.get(f"/audio/{audio_id}").status_code == 404


def test_a_clip_one_has_labelled_can_be_heard_after_it_left_the_queue(
    mira: Visitor, world: World, visitor: Visitor, clip: int
) -> None:
    mira.label(clip, "hate")
    world.unflag(clip)
    assert mira.get(f"/audio/{clip}").status_code == 200
    world.add_user("jo")
    visitor.log_in("jo")
    assert visitor.get(f"/audio/{clip}").status_code == 404


def test_a_missing_object_is_said_to_be_missing(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    answer = mira.hold(clip).get(f"/audio/{clip}")
    assert answer.status_code == 404
    assert answer.text == "The audio of this clip is missing. Set the clip aside and tell your lead its number.\n"
    assert mira.client.head(f"/audio/{clip}").status_code == 404


@pytest.mark.usefixtures("mira")
@pytest.mark.parametrize(
    "wrong",
    [{"S3_ENDPOINT": "http://127.0.0.1:1"}, {"S3_SECRET_KEY": "wrong"}, {"S3_BUCKET": "no-such-bucket"}],
    ids=["down", "refused", "no bucket"],
)
def test_when_s3_is_away_the_answer_is_503_and_the_pages_still_work(
    ra_env: dict[str, str], clip: int, wrong: dict[str, str]
) -> None:
    lame = Visitor(create_app(load_settings({**ra_env, **wrong})))
    lame.log_in("mira")
    answer = lame.get(f"/audio/{clip}")
    assert answer.status_code == 503
    assert answer.text == "The audio store (S3) is down. Try again in a minute.\n"
    assert "Retry-After" in answer.headers
    assert lame.get(f"/review/{clip}").status_code == 200
    with lame.client.application.app_context():
        db.engine.dispose()


class WatchedStore(AudioStore):
    """The real store; it remembers what it opened."""

    opened: list[AudioObject]

    def _open(self, key: str, **options: str) -> AudioObject:
        found = super()._open(key, **options)
        self.opened.append(found)
        return found


@pytest.fixture
def watched(app: Flask, ra_env: dict[str, str]) -> Iterator[WatchedStore]:
    store = WatchedStore(load_settings(ra_env))
    store.opened = []
    before = app.extensions["ra"]
    app.extensions["ra"] = dataclasses.replace(before, audio=store)
    yield store
    app.extensions["ra"] = before


@pytest.mark.parametrize("read_first", [True, False])
def test_a_listener_who_goes_away_leaves_no_connection_open(
    mira: Visitor, watched: WatchedStore, clip: int, read_first: bool
) -> None:
    answer = mira.get(f"/audio/{clip}", buffered=False)
    if read_first:
        assert next(iter(answer.response))
    answer.close()
    assert [item.body._raw_stream.closed for item in watched.opened] == [True]


def test_no_database_connection_is_held_while_a_clip_is_sent(mira: Visitor, app: Flask, clip: int) -> None:
    answer = mira.get(f"/audio/{clip}", buffered=False)
    next(iter(answer.response))
    with app.app_context():
        assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    answer.close()
