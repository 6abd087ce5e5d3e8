"""Stored transcripts, found to be judged again, and judged without their audio."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from db import StoredTranscript, text_to_judge
from tests.results.conftest import CLEAN, CLIPS, FLAGGED, HEARD, SILENT, Batch
from tests.results.test_wanted import NEWER, SPANISH, WANTED


def save_second(batch: Batch, **changes: Any) -> None:
    """Save the second clip of the batch, too."""
    first, batch.audio_id = batch.audio_id, batch.row(CLIPS[1])
    batch.save(transcript=replace(SPANISH, **changes), not_judged="language")
    batch.audio_id = first


def found(batch: Batch, **asked: Any) -> list[str]:
    return [transcript.text for transcript in batch.db.stored_transcripts(**asked)]


def test_the_newest_transcripts_with_speech_are_found_in_order(batch: Batch) -> None:
    batch.save(CLEAN, speech_model="large", transcript=replace(HEARD, text="older"))
    batch.save(CLEAN)
    save_second(batch)
    assert found(batch) == [HEARD.text, SPANISH.text]
    assert found(batch, limit=1) == [HEARD.text]
    assert found(batch, after=batch.audio_id) == [SPANISH.text]
    batch.save(transcript=SILENT, speech_model="large")
    assert found(batch) == [SPANISH.text]


def test_those_that_are_not_judged_are_found_by_themselves(batch: Batch) -> None:
    batch.save(CLEAN)
    assert found(batch, not_judged=True) == []
    save_second(batch, finding="doubtful", translation="we meet")
    [transcript] = batch.db.stored_transcripts(not_judged=True)
    assert (transcript.language, transcript.finding, transcript.not_judged) == ("es", "doubtful", "language")
    to_judge = text_to_judge(transcript, frozenset({"en"}), "translate")
    assert to_judge is not None
    assert (to_judge.text, to_judge.judged) == ("we meet", "translation")


def test_those_that_lack_a_wanted_verdict_are_found(batch: Batch) -> None:
    batch.save(CLEAN)
    save_second(batch)
    assert found(batch, lacking=WANTED) == [SPANISH.text]
    assert found(batch, lacking=NEWER) == [HEARD.text, SPANISH.text]
    assert found(batch, lacking=replace(NEWER, languages=frozenset({"en"}))) == [HEARD.text]
    assert found(batch, lacking=WANTED, not_judged=True) == [SPANISH.text]
    assert found(batch, lacking=replace(WANTED, speech_model="large")) == [SPANISH.text], "the audio is not heard again"


def test_a_stored_transcript_that_is_judged_comes_to_the_reviewers(batch: Batch) -> None:
    batch.save(transcript=SPANISH, not_judged="language")
    [transcript] = batch.db.stored_transcripts(not_judged=True)
    assert batch.db.save_verdicts(transcript, [FLAGGED])
    assert batch.queue() == [(["hate-speech"], SPANISH.text)]
    assert batch.has(WANTED)
    assert found(batch, not_judged=True) == []


def test_a_verdict_on_a_text_that_was_replaced_meanwhile_is_not_stored(batch: Batch) -> None:
    batch.save(transcript=SPANISH, not_judged="language")
    [transcript] = batch.db.stored_transcripts(not_judged=True)
    batch.save(transcript=replace(SPANISH, text="heard anew"), not_judged="language")
    assert not batch.db.save_verdicts(transcript, [FLAGGED])
    assert batch.query("SELECT count(*) FROM classifications") == [(0,)]
    assert found(batch, not_judged=True) == ["heard anew"]


@pytest.mark.parametrize("asked", [{}, {"not_judged": True}, {"lacking": WANTED}])
def test_an_empty_database_has_none(batch: Batch, asked: dict[str, Any]) -> None:
    nothing: list[StoredTranscript] = batch.db.stored_transcripts(**asked)
    assert nothing == []
