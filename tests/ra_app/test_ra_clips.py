"""The page of a clip: its whole history, and that it does not break blindness; and what erasing a clip removes here."""

from __future__ import annotations

import json

import pytest
from flask import Flask

from tests.ra_app.campaign import add_items, add_study, judge
from tests.ra_app.world import POLICY, Visitor, World

ASKS = "Show verdicts and labels all the same"


@pytest.fixture
def lea(app: Flask, world: World) -> Visitor:
    """A lead who is logged in."""
    world.add_user("lea", role="lead")
    browser = Visitor(app)
    assert browser.log_in("lea").status_code == 302
    return browser


def judged(world: World, clip: int) -> int:
    """Let somebody label the clip twice in a study, and a lead decide and set a reference -> the person's number."""
    jo = world.add_user("jo")
    [item] = add_items(world, add_study(world, "Spoken threats"), [clip])
    first = judge(world, item, jo, ["scam"], note="He says <b>buy</b>.")
    judge(world, item, jo, ["hate"], blind=False)
    world.sql(
        "INSERT INTO ra_decisions (item_id, codebook_id, codebook_version, labels, reason, label_ids, user_id) "
        "VALUES (%s, 'spoken-clips', '3', '[\"hate\"]', 'the tone', ARRAY[%s], 1)",
        item, first,
    )  # fmt: skip
    world.sql(
        "INSERT INTO ra_references (audio_id, codebook_id, codebook_version, labels, reason, user_id) "
        "VALUES (%s, 'spoken-clips', '3', '[\"none\"]', 'unmistakable', 1)",
        clip,
    )
    return jo


def test_the_page_shows_the_whole_history(lea: Visitor, world: World) -> None:
    clip = world.add_clip(audio=b"sound", filename="a<b>.mp3", doubts=["few-words"])
    world.unflag(clip)
    world.sql('UPDATE audio_files SET platform_metadata = \'{"author": "ada"}\' WHERE audio_id = %s', clip)
    world.sql("UPDATE batches SET s3_key = 'archives/b.tar', transferred_at = '2026-11-19T08:00:00Z'")
    jo = judged(world, clip)
    page = lea.get(f"/clips/{clip}").text
    pseudonym = world.sql("SELECT pseudonym FROM ra_users WHERE user_id = %s", jo)[0][0]
    for text in (
        "20261120-103000-a1b2c3", "archives/b.tar", "a&lt;b&gt;.mp3", "ada", "So listen.", "There are few words",
        f"{POLICY} 1.0.0", f"{POLICY} 2.0.0", "In force", "Spoken threats", pseudonym, "spoken-clips 3", "scam", "hate",
        "(revision)", "He says &lt;b&gt;buy&lt;/b&gt;.", "the tone", "unmistakable", f'src="/audio/{clip}"',
    ):  # fmt: skip
        assert text in page, text
    assert "jo" not in page.replace(pseudonym, "").split("What happened, in order")[1].split(">")
    order = [
        "The archive was fetched",
        "The clip was processed: done",
        f"{POLICY} 1.0.0",
        "Label in Spoken threats: scam",
    ]
    assert sorted(order, key=page.rindex) == order
    assert world.sql("SELECT act, subject, user_id FROM ra_acts") == [("clip-opened", str(clip), 1)]
    assert "opened the history of clip" in lea.get(f"/clips/{clip}").text
    assert lea.get("/clips/99").status_code == 404
    assert lea.get(f"/clips/{world.add_clip(violates=False)}").status_code == 200


def test_who_holds_the_clip_unlabelled_is_asked_first_and_then_does_not_label_blind(lea: Visitor, world: World) -> None:
    world.study(mode="blind")
    clip = world.add_clip()
    judged(world, clip)
    lea.hold(clip)
    covered = lea.get(f"/clips/{clip}").text
    assert ASKS in covered
    for text in (POLICY, "scam", "the tone", "unmistakable", "In force"):
        assert text not in covered, text
    assert world.sql("SELECT count(*) FROM ra_audit WHERE event = 'revealed'") == [(0,)]
    assert lea.post(f"/clips/{clip}/reveal").location == f"/clips/{clip}"
    shown = lea.get(f"/clips/{clip}").text
    assert ASKS not in shown
    assert POLICY in shown
    assert world.sql("SELECT revealed_at IS NOT NULL FROM ra_assignments WHERE user_id = 1") == [(True,)]
    assert world.sql("SELECT count(*) FROM ra_audit WHERE event = 'revealed' AND user_id = 1") == [(1,)]
    lea.label(clip, "hate")
    assert world.sql("SELECT blind FROM ra_labels ORDER BY label_id DESC LIMIT 1") == [(False,)]


def test_a_label_after_the_page_was_seen_is_not_blind_and_others_are(lea: Visitor, world: World) -> None:
    seen, unseen = world.add_clip(), world.add_clip()
    assert POLICY in lea.get(f"/clips/{seen}").text
    for clip in (seen, unseen):
        lea.hold(clip)
        lea.label(clip, "hate")
    assert world.sql("SELECT audio_id, blind FROM ra_labels JOIN ra_assignments USING (assignment_id) ORDER BY 1") == [
        (seen, False), (unseen, True)
    ]  # fmt: skip
    assert ASKS not in lea.get(f"/clips/{unseen}").text


def test_what_the_app_holds_of_an_erased_clip_goes_with_a_receipt(
    app: Flask, world: World, lea: Visitor, mira: Visitor
) -> None:
    clip, other = world.add_clip(), world.add_clip()
    judged(world, clip)
    mira.hold(clip)
    mira.post(f"/review/{clip}/draft", {**mira.form(clip), "note": "he says"})
    runner = app.test_cli_runner()
    refused = runner.invoke(args=["clips", "erase", str(clip)])
    assert refused.exit_code == 1
    assert f"audio-pipeline clip erase {clip}" in refused.output
    study = world.sql("SELECT study_id FROM ra_studies WHERE name = 'Spoken threats'")[0][0]
    world.sql(
        "INSERT INTO ra_exports (name, study_ids, formats, state, finished_at) VALUES "
        "('paper-1', ARRAY[%s::bigint], '{csv}', 'done', now()), ('other', '{99}', '{csv}', 'done', now())",
        study,
    )
    world.sql("UPDATE audio_files SET erased_at = now(), s3_opus_path = NULL WHERE audio_id = %s", clip)
    done = runner.invoke(args=["clips", "erase", str(clip)])
    assert done.exit_code == 0, done.output
    assert "paper-1" in done.output
    assert "other" not in done.output
    assert runner.invoke(args=["clips", "erase", str(clip)]).output == done.output
    assert world.sql("SELECT kind, subject FROM ra_receipts") == [("erase", str(clip))]
    assert json.dumps(world.sql("SELECT content FROM ra_receipts")[0][0]["changed"], sort_keys=True) == json.dumps(
        {"decisions": 1, "drafts": 1, "items": 2, "notes": 1, "references": 1, "slots": 3}
    )
    assert world.sql("SELECT DISTINCT state, user_id FROM ra_assignments WHERE audio_id = %s AND state <> 'submitted'",
                     clip) == [("withdrawn", None)]  # fmt: skip
    assert world.sql("SELECT string_agg(note, ''), count(*) FROM ra_labels") == [("", 2)]
    assert world.sql("SELECT count(*) FROM ra_drafts") == [(0,)]
    page = lea.get(f"/clips/{clip}")
    assert page.status_code == 200
    assert "This clip was erased" in page.text
    assert lea.get(f"/audio/{clip}").status_code == 404
    assert mira.hold(other).get(f"/review/{other}").status_code == 200
