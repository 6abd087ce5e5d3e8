"""Doubtful transcripts and clips that are not judged: counted and shown wherever an operator looks at clips."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.conftest import ago

CLIPS: dict[str, dict[str, Any]] = {
    "fast.mp3": {"finding": "doubtful", "reasons": ["few-words", "uncovered-speech"]},
    "spanish.mp3": {"language": "es", "not_judged": "language"},
    "plain.mp3": {},
    "silent.mp3": {"finding": "no_speech", "reasons": ["no-words"], "no_speech": True},
}


@pytest.fixture
def heard(add):
    """A batch under way whose clips are done, each heard once."""
    add("batches", batch_id="b1", s3_key="k", unpacked_at=ago(60), total=len(CLIPS) + 1)
    add("audio_files", batch_id="b1", original_filename="waits.mp3")
    for clip, found in CLIPS.items():
        status = "no_speech" if found.get("no_speech") else "done"
        audio_id = add("audio_files", batch_id="b1", original_filename=clip, status=status, processed_at=ago(50))
        values = {"no_speech": False, "text": "a", "speech_s": 1, "language": "en", "created_at": ago(50), **found}
        add("transcripts", audio_id=audio_id, model="base", **values)
        if clip == "plain.mp3":  # another model had doubts, and what was heard last counts
            old = {"finding": "doubtful", "not_judged": "language", "created_at": ago(90)}
            add("transcripts", audio_id=audio_id, model="tiny", **{**values, **old})


@pytest.mark.usefixtures("heard")
def test_a_batch_shows_which_clips_are_doubtful_or_not_judged_and_why(cli):
    shown = json.loads(cli("batch", "show", "b1", "--json").stdout)
    assert (shown["doubtful"], shown["not_judged"]) == (1, 1)
    clips = {clip["clip"]: clip for clip in shown["clips"]}
    assert (clips["fast.mp3"]["finding"], clips["fast.mp3"]["reasons"]) == (
        "doubtful",
        ["few-words", "uncovered-speech"],
    )
    assert (clips["spanish.mp3"]["not_judged"], clips["spanish.mp3"]["language"]) == ("language", "es")
    assert (clips["waits.mp3"]["finding"], clips["waits.mp3"]["reasons"]) == (None, [])
    assert (clips["plain.mp3"]["finding"], clips["plain.mp3"]["not_judged"]) == ("speech", None)
    lines = cli("batch", "show", "b1").stdout.splitlines()
    assert "quality      1 doubtful transcript, 1 clip not judged for the language" in lines
    ends = {name: line.rstrip() for line in lines for name in CLIPS if name in line}
    assert ends["fast.mp3"].endswith("doubtful (few-words, uncovered-speech)")
    assert ends["spanish.mp3"].endswith("not judged: language es")
    assert "doubtful" not in ends["plain.mp3"] + ends["silent.mp3"]


@pytest.mark.usefixtures("heard")
def test_batches_are_listed_with_both_counts(cli):
    [batch] = json.loads(cli("batch", "list", "--json").stdout)
    assert (batch["done"], batch["doubtful"], batch["not_judged"]) == (4, 1, 1)
    assert cli("batch", "list").stdout.splitlines()[1].split()[-4:] == ["0", "1", "1", "–"]


@pytest.mark.usefixtures("heard")
def test_the_status_counts_them_per_batch_and_day(cli, redis_db, query):
    for name, value in (("total", 5), ("processed", 4), ("failed", 0)):
        redis_db.set(f"batch:b1:{name}", value)
    redis_db.sadd("batch:b1:pending", "waits.mp3")
    found = json.loads(cli("status", "--json").stdout)
    assert [(batch["doubtful"], batch["not_judged"]) for batch in found["batches"]] == [(1, 1)]
    assert (found["activity"]["doubtful_today"], found["activity"]["not_judged_today"]) == (1, 1)
    lines = cli("status").stdout.splitlines()
    assert "Last 24 hours: 1 doubtful, 1 not judged for their language" in lines
    of_batch = next(" ".join(line.split()) for line in lines if line.startswith("b1 "))
    assert " 4 of 5 0 1 1 0 1 " in of_batch
    query("UPDATE transcripts SET created_at = created_at - interval '1 day' RETURNING 1")
    later = json.loads(cli("status", "--json").stdout)["activity"]
    assert (later["doubtful_today"], later["not_judged_today"]) == (0, 0)


@pytest.mark.usefixtures("heard")
def test_counts_that_postgres_cannot_give_are_left_open(cli, redis_db):
    redis_db.set("batch:b1:total", 5)
    found = json.loads(cli("status", "--json", POSTGRES_PORT="1").stdout)
    assert [(batch["doubtful"], batch["not_judged"]) for batch in found["batches"]] == [(None, None)]
