"""Which results are in force, and which clips have all that are wanted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from config import Settings, load_settings
from db import Verdict, WantedResults, WantedVerdict, wanted_results
from errors import ModelError, PolicyError
from moderation.policies import load_policies
from tests.results.conftest import CLEAN, CLIPS, FLAGGED, HEARD, SILENT, Batch

SPANISH = replace(HEARD, text="nos vemos en el mercado", language="es")


def wanted(verdict: Verdict, **changes: Any) -> WantedResults:
    """The results of a clip whose one verdict is this one, with these changes."""
    values = {name: getattr(verdict, name) for name in WantedVerdict._fields} | changes
    return WantedResults("base", (WantedVerdict(**values),))


WANTED = wanted(FLAGGED)
NEWER = wanted(FLAGGED, policy_version="2.0.0")


def test_results_are_complete_only_with_every_policys_verdict(batch: Batch) -> None:
    batch.save(CLEAN)
    assert batch.has(WANTED)
    assert batch.has(WantedResults("base"))
    scams = wanted(FLAGGED, policy="scams").verdicts
    assert not batch.has(replace(WANTED, verdicts=(*WANTED.verdicts, *scams)))


@pytest.mark.parametrize(
    "change",
    [
        {"policy_version": "2.0.0"},
        {"policy_sha256": "cd"},
        {"model": "another model"},
        {"prompt_version": "p2"},
        {"threshold": 0.50001},
    ],
    ids="".join,
)
def test_a_verdict_that_was_made_in_another_way_is_not_current(batch: Batch, change: dict[str, Any]) -> None:
    batch.save(CLEAN)
    assert not batch.has(wanted(FLAGGED, **change))


def test_speech_in_a_language_that_is_not_judged_is_done_when_this_is_recorded(batch: Batch) -> None:
    english = replace(WANTED, languages=frozenset({"en"}))
    batch.save(transcript=SPANISH, not_judged="language")
    assert batch.has(english)
    assert batch.has(replace(NEWER, languages=frozenset({"en"}))), "no policy is asked"
    assert not batch.has(replace(WANTED, languages=frozenset({"en", "es"})))
    assert not batch.has(WANTED)
    batch.save(CLEAN, transcript=SPANISH)
    assert batch.has(WANTED)
    assert batch.has(english), "an operator may ask for more than the workers judge"
    assert not batch.has(replace(NEWER, languages=frozenset({"en"}))), (
        "but it is to be current, or recorded as not judged"
    )


def test_a_translation_counts_where_translations_are_judged(batch: Batch) -> None:
    translated = replace(SPANISH, translation="we meet at the market")
    translate = replace(WANTED, languages=frozenset({"en"}), other_languages="translate")
    batch.save(transcript=SPANISH, not_judged="language")
    assert not batch.has(translate), "a translation was never asked for"
    batch.save(CLEAN, transcript=translated)
    assert not batch.has(translate), "the original was judged"
    batch.save(replace(CLEAN, judged="translation"), transcript=translated)
    assert batch.has(translate)
    assert not batch.has(WANTED), "a verdict on the translation is none on the original"
    batch.save(transcript=replace(SPANISH, translation=""), not_judged="language")
    assert batch.has(translate), "there was nothing to translate"


def test_a_clip_that_is_not_judged_any_more_leaves_the_queue(batch: Batch) -> None:
    batch.save(FLAGGED, transcript=SPANISH)
    assert batch.queue() != []
    batch.save(transcript=SPANISH, not_judged="language", speech_model="large")
    assert batch.queue() == []
    batch.save(FLAGGED, transcript=SPANISH)
    assert batch.queue() != []


def test_a_verdict_counts_only_with_the_wanted_speech_models_transcript(batch: Batch) -> None:
    batch.save(CLEAN)
    batch.save(CLEAN, speech_model="large")
    assert batch.has(replace(WANTED, speech_model="large"))
    assert not batch.has(WANTED)


def test_a_clip_without_speech_has_the_results_of_any_policy_version(batch: Batch) -> None:
    batch.save(transcript=SILENT)
    assert batch.has(WANTED)
    assert batch.has(NEWER)
    assert not batch.has(replace(WANTED, speech_model="large"))


def test_a_model_that_hears_no_speech_takes_the_clip_out_of_the_queue(batch: Batch) -> None:
    batch.save(FLAGGED)
    batch.save(transcript=SILENT, speech_model="large")
    assert batch.queue() == []
    assert batch.has(replace(NEWER, speech_model="large"))
    assert not batch.has(WANTED)


def test_a_clip_that_an_operator_wants_done_again_has_no_results(batch: Batch) -> None:
    batch.save(CLEAN)
    with batch.db.reopened_batch("b1", everything=True):
        pass
    assert not batch.has(WANTED)


def test_a_clip_without_any_result_is_not_done(batch: Batch) -> None:
    assert not batch.has(WantedResults("base"))


@pytest.mark.parametrize(
    ("first", "second", "queued"),
    [(FLAGGED, CLEAN, [(["hate-speech"], HEARD.text)]), (CLEAN, FLAGGED, [])],
    ids=["flagged by the old version", "clean by the old version"],
)
def test_the_verdict_in_force_is_the_one_that_was_judged_last(
    batch: Batch, first: Verdict, second: Verdict, queued: list[Any]
) -> None:
    batch.save(first)
    batch.save(replace(second, policy_version="2.0.0"))
    assert batch.has(NEWER)
    assert not batch.has(WANTED), "going back to the older version is a change as well"
    batch.save(first)
    assert batch.has(WANTED)
    assert not batch.has(NEWER)
    assert batch.query("SELECT policy_version, violates FROM verdicts_in_force") == [("1.0.0", first.violates)]
    assert batch.queue() == queued
    assert next(clip.flagged for clip in batch.db.clips("b1")) == (["hate-speech"] if queued else [])
    assert batch.query("SELECT count(*) FROM classifications") == [(2,)], "both stay, one row each"


def test_the_queue_shows_the_transcript_that_the_last_verdict_is_about(batch: Batch) -> None:
    batch.save(FLAGGED)
    batch.save(FLAGGED, transcript=replace(HEARD, text="second"), speech_model="large")
    assert batch.queue() == [(["hate-speech"], "second")]
    batch.save(FLAGGED, transcript=replace(HEARD, text="third"))
    assert batch.queue() == [(["hate-speech"], "third")]


@pytest.mark.parametrize("everything", [False, True])
def test_reviewers_keep_the_older_verdict_while_a_clip_is_done_again(batch: Batch, *, everything: bool) -> None:
    batch.save(FLAGGED)
    before = batch.queue()
    with batch.db.reopened_batch("b1", everything=everything):
        pass
    batch.unpack()
    assert batch.queue() == before != []
    batch.db.mark_failed("b1", CLIPS[0], "cannot be read any more")
    assert batch.queue() == before


def test_a_requeue_counts_the_clips_that_lack_a_wanted_result(batch: Batch) -> None:
    assert batch.db.clips_to_do("b1", WANTED) == 2
    batch.save(CLEAN)
    assert batch.db.clips_to_do("b1", WANTED) == 1
    assert batch.db.clips_to_do("b1", NEWER) == 2


def test_wanted_results_come_from_the_policies_and_the_manifest(settings: Settings) -> None:
    found = wanted_results(settings)
    policy = next(policy for policy in load_policies(settings.policies_dir) if policy.id == "hate-speech")
    assert found.speech_model == "base"
    assert found.languages == frozenset({"en"})
    [verdict] = [verdict for verdict in found.verdicts if verdict.policy == "hate-speech"]
    assert verdict[1:] == ("1.0.0", policy.sha256, "gemma-3-270m-demo", "cope-a-1-overview", 0.9129)


def test_a_host_without_models_knows_what_the_workers_of_the_fleet_write(settings_env: dict[str, str]) -> None:
    found = wanted_results(load_settings({**settings_env, "MODEL_SET": "production"}))
    assert {(verdict.model, verdict.prompt_version, verdict.threshold) for verdict in found.verdicts} == {
        ("cope-a-9b", "cope-a-1", 0.5)
    }


def test_the_settings_say_which_languages_are_wanted(settings_env: dict[str, str]) -> None:
    chosen = {"JUDGED_LANGUAGES": "en, es", "OTHER_LANGUAGES": "translate"}
    found = wanted_results(load_settings({**settings_env, **chosen}))
    assert (found.languages, found.other_languages) == (frozenset({"en", "es"}), "translate")
    assert wanted_results(load_settings({**settings_env, "JUDGED_LANGUAGES": "*"})).languages is None


def test_wanted_results_that_cannot_be_read_are_an_error_that_says_where(
    settings_env: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(PolicyError, match="holds no policy"):
        wanted_results(load_settings({**settings_env, "POLICIES_DIR": str(tmp_path)}))
    with pytest.raises(ModelError, match="MODEL_SET"):
        wanted_results(load_settings({**settings_env, "MODEL_SET": "huge"}))
