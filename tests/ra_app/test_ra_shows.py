"""What a reviewer learns of where a clip comes from is the study's choice. By default it is nothing."""

from __future__ import annotations

import json

import pytest
from werkzeug.test import TestResponse

from tests.ra_app.world import Visitor, World, tone

NAME = "zq.handle.of.somebody_7518830412.mp3"
FIELD = "zq-platform-author"
BATCH = "20261120-103000-a1b2c3"


@pytest.fixture
def clip(world: World) -> int:
    audio_id = world.add_clip(audio=tone(1), filename=NAME)
    world.sql("UPDATE audio_files SET platform_metadata = %s", json.dumps({"author": FIELD, "likes": 7, "gone": None}))
    return audio_id


def everything(visitor: Visitor, clip: int) -> list[TestResponse]:
    paths = ["/", "/?show=done", "/?show=skipped", f"/review/{clip}", f"/audio/{clip}", "/account"]
    return [visitor.get(path) for path in paths]


def leaks(answers: list[TestResponse]) -> list[str]:
    """The secrets that stand in the bytes of these answers or in their headers."""
    sent = b"".join(answer.get_data() + str(answer.headers).encode() for answer in answers)
    return [secret for secret in (NAME, "zq.handle", FIELD, BATCH) if secret.encode() in sent]


def test_by_default_no_byte_names_the_file_the_batch_or_the_account(
    mira: Visitor, world: World, visitor: Visitor, clip: int
) -> None:
    answers = everything(mira, clip)
    answers += [mira.post("/next"), *everything(mira, clip)]
    answers += [
        mira.post(f"/review/{clip}/{what}", {"label": "hate"}) for what in ("draft", "heartbeat", "skip", "take")
    ]
    answers += [
        mira.label(clip),
        mira.label(clip, "hate"),
        mira.post(f"/review/{clip}/reveal"),
        *everything(mira, clip),
    ]
    assert leaks(answers) == []
    assert {answer.status_code for answer in answers} >= {200, 302, 422}
    world.add_user("lea", role="lead")
    visitor.log_in("lea")
    assert leaks(everything(visitor, clip)) == []


@pytest.mark.parametrize(
    ("shows", "on_the_page", "on_the_list"),
    [
        (["filename"], [NAME, "zq.handle"], [NAME, "zq.handle"]),
        (["batch"], [BATCH], [BATCH]),
        (["platform"], [FIELD], []),
    ],
)
def test_a_study_shows_what_it_says(
    mira: Visitor, world: World, clip: int, shows: list[str], on_the_page: list[str], on_the_list: list[str]
) -> None:
    world.study(shows=shows)
    mira.hold(clip)
    assert leaks([mira.get(f"/review/{clip}")]) == on_the_page
    assert leaks([mira.get("/")]) == on_the_list


def test_fields_of_the_platform_are_only_ever_text(mira: Visitor, world: World, clip: int) -> None:
    world.study(shows=["platform"])
    hostile = json.dumps({"<b>name</b>": '"><script>alert(1)</script>', "deep": {"a": ["<i>"]}})
    world.sql("UPDATE audio_files SET platform_metadata = %s", hostile)
    page = mira.hold(clip).get(f"/review/{clip}").text
    for tag in ("<script>alert", "<b>name", "<i>"):
        assert tag not in page
    assert "&lt;script&gt;alert(1)" in page
