"""Agreement, and the classifier against people: the numbers of small studies that were worked out by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from app.models import Study, db
from app.results import classifier, judgements
from app.results.classifier import NO_SAMPLE, Results
from app.results.reviewed import Question
from app.results.truth import truth
from policy_lab import model
from tests.cli import in_process
from tests.policy_lab.policy_files import write_policy
from tests.policy_lab.scripted_scorer import ScriptedScorer
from tests.ra_app.campaign import CODEBOOK, CODERS, add_items, add_study, judge
from tests.ra_app.world import Visitor, World

OLD = {
    "id": CODEBOOK[0],
    "version": "2",
    "title": "Before",
    "labels": [{"key": "1", "code": "hate", "name": "Old hate", "definition": "As it was."}],
}


def flag(world: World, clip: int, score: float, *, version: str = "1.0.0", at: str = "now") -> None:
    """A verdict of the policy hate-speech, whose threshold is 0.5."""
    world.sql(
        "INSERT INTO classifications (audio_id, transcript_id, policy, policy_version, policy_sha256, model, "
        "prompt_version, violates, score, threshold, mass, truncated, created_at) "
        "SELECT audio_id, transcript_id, 'hate-speech', %s, 'abc', 'm', '1', %s, %s, 0.5, 1, false, %s "
        "FROM transcripts WHERE audio_id = %s",
        version, score >= 0.5, score, at, clip,
    )  # fmt: skip


def row(page: str, name: str) -> str:
    """The text of the first row of a table whose heading holds this name."""
    found = re.search(rf"<tr>\s*<th scope=\"row\">(?:<a [^>]*>)?{name}.*?</tr>", page, re.DOTALL)
    assert found is not None, page
    return " ".join(re.sub(r"<[^>]+>", " ", found[0]).split())


def numbers(world: World, study: int, rule: str = "majority", version: str | None = None) -> Results:
    with world.app.test_request_context():
        found = db.session.get(Study, study)
        assert found is not None
        which = judgements.which_of(found)
        of_version = judgements.versions(found, which)[0]
        question = Question(study=found, which=which, version=of_version, policy="hate-speech", rule=rule)  # type: ignore[arg-type]
        return classifier.results(question, version, None)


def test_agreement_is_as_worked_out_by_hand(world: World, lead: Visitor, coders: list[int]) -> None:
    """All yes; one yes of three; all no; two yes and one who could not decide."""
    study = add_study(world, "s")
    answers = (("hate",) * 3, ("hate", "scam", "scam"), ("no_violation",) * 3, ("hate", "hate", "unsure"))
    for item, codes in zip(add_items(world, study, range(1, 5)), answers, strict=True):
        for coder, code in zip(coders, codes, strict=True):
            judge(world, item, coder, [code])
    page = lead.get(f"/studies/{study}/agreement").text
    assert "11 judgements of 4 clips" in page
    assert re.findall(r"(\d\.\d{3}) \(", row(page, "Hate speech")) == ["0.800", "0.667", "0.676", "0.833"]
    pairs = lead.get(f"/studies/{study}/agreement?label=hate").text
    assert "Mean over the pairs: 0.633" in pairs  # one pair has 0.5 on 4 clips, one 0.4 and one 1.0 on 3
    names = [name for (name,) in world.sql("SELECT pseudonym FROM ra_users WHERE role = 'ra'")]
    assert [name for name in names if name not in pairs] == []
    assert [name for name in CODERS if name in pairs] == []
    judge(world, 1, coders[0], ["scam"])
    assert "0.800 (" not in row(lead.get(f"/studies/{study}/agreement").text, "Hate speech")  # nothing old is shown


def test_versions_of_the_codebook_are_never_mixed(world: World, lead: Visitor, coders: list[int]) -> None:
    world.sql(
        "INSERT INTO ra_codebooks (codebook_id, version, sha256, content) VALUES (%s, '2', 'x', %s)",
        CODEBOOK[0], json.dumps(OLD),
    )  # fmt: skip
    study = add_study(world, "s")
    old, new = add_items(world, study, (1, 2))
    for coder in coders:
        judge(world, old, coder, ["hate"], version="2")
        judge(world, new, coder, ["scam"])
    page = lead.get(f"/studies/{study}/agreement").text
    assert "3 judgements of 1 clips" in page
    assert "Old hate" not in page
    before = lead.get(f"/studies/{study}/agreement?version=2").text
    assert "Old hate" in before
    assert "Hate speech" not in before
    assert lead.get(f"/studies/{study}/agreement?version=9").status_code == 404


def test_where_the_verdict_may_be_seen_labels_from_before_count(world: World, lead: Visitor, coders: list[int]) -> None:
    study = add_study(world, "s", mode="reveal")
    [item] = add_items(world, study, [1])
    for coder in coders[:2]:
        judge(world, item, coder, ["hate"])
    judge(world, item, coders[1], ["scam"], blind=False)
    assert "1.000" in row(lead.get(f"/studies/{study}/agreement").text, "Hate speech")
    assert "0.000" in row(lead.get(f"/studies/{study}/agreement?labels=newest").text, "Hate speech")


def test_without_judgements_the_pages_say_so(world: World, lead: Visitor) -> None:
    study = add_study(world, "s")
    add_items(world, study, [1])
    for tab in ("agreement", "classifier"):
        page = lead.get(f"/studies/{study}/{tab}")
        assert page.status_code == 200
        assert "Nobody has judged a clip of this study yet" in page.text
    for tab in ("references", "decisions"):
        assert lead.get(f"/studies/{study}/{tab}").status_code == 200
        assert lead.get(f"/studies/99/{tab}").status_code == 404


@pytest.mark.parametrize(
    ("judged", "yes", "decision", "wanted"),
    [
        (3, 2, None, {"majority": True, "any": True, "all": False}),
        (2, 1, None, {"majority": "tie", "any": True, "all": False}),
        (2, 1, False, {"majority": False, "any": True, "all": False}),
        (0, 0, None, {"majority": "undecided", "any": "undecided", "all": "undecided"}),
        (3, 3, "neither", {"majority": "undecided", "any": True, "all": True}),
    ],
)
def test_the_people_have_one_answer_per_clip(judged, yes, decision, wanted) -> None:
    stands = {
        "decided": decision is not None,
        "decided_yes": decision is True,
        "decided_neither": decision == "neither",
    }
    assert {rule: truth(rule, judged=judged, yes=yes, **stands) for rule in wanted} == wanted


def sampled_study(world: World, coders: list[int]) -> tuple[int, list[int]]:
    """Three of four flagged clips are judged, and two that were drawn with probability 0.1: one of them is a miss."""
    study = add_study(world, "s")
    clips = [world.add_clip() for _ in range(6)]
    for clip, score in zip(clips, (0.95, 0.9, 0.8, 0.7, 0.2, 0.1), strict=True):
        flag(world, clip, score)
    items = add_items(world, study, clips[:4]) + add_items(world, study, clips[4:], stratum="rest", probability=0.1)
    for item, code in zip((items[0], items[1], items[2], items[4], items[5]),
                          ("hate", "hate", "scam", "hate", "scam"), strict=True):  # fmt: skip
        for coder in coders:
            judge(world, item, coder, [code])
    return study, clips


def test_matrix_precision_and_recall_are_weighted_by_hand(world: World, coders: list[int]) -> None:
    study, clips = sampled_study(world, coders)
    found = numbers(world, study)
    matrix = found.matrix
    assert (matrix.hits, matrix.false_alarms, matrix.misses, matrix.rightly_left) == (2, 1, 1, 1)
    assert matrix.weighted == pytest.approx((8 / 3, 4 / 3, 10, 10))  # 3 of 4 flagged clips have an answer
    assert found.accuracy.precision.value == pytest.approx(2 / 3)
    assert found.accuracy.recall.value == pytest.approx(8 / 3 / (8 / 3 + 10))
    assert [clip.audio_id for clip in found.false_alarms] == [clips[2]]
    assert [clip.audio_id for clip in found.misses] == [clips[4]]
    [at_once] = [point for point in found.curve if point.threshold == 0.9]
    assert (at_once.precision.value, found.threshold, found.sampled) == (1.0, 0.5, True)


def test_recall_is_unknown_if_only_flagged_clips_were_reviewed(world: World, lead: Visitor, coders: list[int]) -> None:
    """Also where clips that another policy flagged show some misses."""
    study, clips = sampled_study(world, coders)
    world.sql("UPDATE ra_items SET stratum = 'flagged', inclusion_probability = 1 WHERE study_id = %s", study)
    found = numbers(world, study)
    assert (found.accuracy.recall.value, found.accuracy.recall.reason) == (None, NO_SAMPLE)
    assert min(point.threshold for point in found.curve) >= 0.5
    page = lead.get(f"/studies/{study}/classifier?policy=hate-speech&at=0.85").text
    assert NO_SAMPLE in page
    assert "threshold = 0.85" in page
    assert f'href="/clips/{clips[2]}"' in page
    seen = world.sql(
        "SELECT DISTINCT audio_id FROM ra_audit WHERE event = 'revealed' AND user_id = (SELECT "
        "user_id FROM ra_users WHERE username = 'lea')"
    )
    assert (clips[2],) in seen, "a later label of the lead is not blind"
    wrong = lead.get(f"/studies/{study}/classifier?policy=hate-speech&at=high")
    assert (wrong.status_code, "“high” is not a threshold" in wrong.text) == (422, True)


def test_decisions_doubts_ties_and_policy_versions_count_as_the_page_says(world: World, coders: list[int]) -> None:
    study, clips = sampled_study(world, coders)
    item = dict(world.sql("SELECT audio_id, item_id FROM ra_items"))
    world.sql(  # people said no to clip 3, the lead says yes
        "INSERT INTO ra_decisions (item_id, codebook_id, codebook_version, labels, reason, label_ids, user_id) "
        "VALUES (%s, %s, %s, '[\"hate\"]', 'because', '{1}', 1)", item[clips[2]], *CODEBOOK,
    )  # fmt: skip
    assert numbers(world, study).accuracy.precision.value == 1
    assert numbers(world, study, "any").accuracy.precision.value == pytest.approx(2 / 3)
    world.sql("UPDATE transcripts SET finding = 'doubtful' WHERE audio_id = %s", clips[0])
    by_name = {each.name: each for each in numbers(world, study).variants}
    assert by_name["Only doubtful transcripts"].clips == 1
    assert by_name["Without doubtful transcripts"].clips == 4
    for coder, code in zip(coders, ("hate", "scam", "unsure"), strict=True):
        judge(world, item[clips[0]], coder, [code])
    flag(world, clips[1], 0.4, version="2.0.0", at="2100-01-01")
    found = numbers(world, study)
    assert (found.left.ties, found.left.other_versions, found.version, found.clips) == (1, 3, "2.0.0", 1)
    assert (numbers(world, study, version="1.0.0").clips, numbers(world, study, version="").clips) == (3, 4)
    world.sql("DELETE FROM classifications WHERE audio_id = %s AND policy = 'hate-speech'", clips[5])
    world.sql("UPDATE transcripts SET not_judged = 'language' WHERE audio_id = %s", clips[5])
    found = numbers(world, study, version="")
    assert (found.clips, found.left.language, found.variants[3].clips) == (3, 1, 4)


def test_the_examples_are_a_file_that_calibrate_reads(
    world: World, lead: Visitor, coders: list[int], tmp_path: Path, settings_env: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    study, clips = sampled_study(world, coders)
    said = ("vermin vermin", "vermin all of them", "nice tea", "not judged", "same words", "same  words")
    for clip, text in zip(clips, said, strict=True):
        world.sql("UPDATE transcripts SET text = %s WHERE audio_id = %s", text, clip)
    answer = lead.post(f"/studies/{study}/classifier/examples", {"policy": "hate-speech"})
    assert answer.headers["Content-Disposition"] == f'attachment; filename="hate-speech-study-{study}.jsonl"'
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [(line["text"], line["label"], line["clip"]) for line in lines] == [
        ("vermin vermin", 1, clips[0]), ("vermin all of them", 1, clips[1]), ("nice tea", 0, clips[2])
    ]  # fmt: skip
    path = tmp_path / "examples.jsonl"
    path.write_bytes(answer.data)
    write_policy(tmp_path / "policies", "hate-speech", "vermin")
    monkeypatch.setattr(model, "load_scorer", lambda _: ScriptedScorer())
    asked = ("policy", "calibrate", "hate-speech", "--examples", str(path), "--recall", "1")
    done = in_process.run(asked, {**settings_env, "POLICIES_DIR": str(tmp_path / "policies")})
    assert done.returncode == 0, done.stderr
    assert "3 examples" in done.stdout
    assert "threshold = 0." in done.stdout
    assert world.sql("SELECT act, subject FROM ra_acts") == [("examples-fetched", "hate-speech")]
    assert lead.post(f"/studies/{study}/classifier/examples", {"policy": "no-such"}).status_code == 404
