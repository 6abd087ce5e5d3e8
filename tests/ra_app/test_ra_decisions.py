"""Decisions on clips whose coders disagree; references, and what those who train see of them."""

from __future__ import annotations

import io
import re

from werkzeug.test import TestResponse

from tests.ra_app.asking import ask
from tests.ra_app.campaign import CODEBOOK, CODERS, add_items, add_study, judge
from tests.ra_app.world import POLICY, Visitor, World, at_once, field

REASON = "Because the codebook says so in its second example."


def disagreed(world: World, coders: list[int], clips: int = 1, **columns: object) -> tuple[int, list[int]]:
    """Clips to which one of three coders gave another label than the others."""
    study = add_study(world, "s", **columns)
    items = add_items(world, study, [world.add_clip() for _ in range(clips)])
    for item in items:
        for coder, code in zip(coders, ("hate", "hate", "scam"), strict=True):
            judge(world, item, coder, [code], note=f"note on {code}")
    return study, items


def listed(page: str) -> list[int]:
    return [int(item) for item in re.findall(r"/decisions/(\d+)", page)]


def form(lead: Visitor, at: str, *codes: str, reason: str = REASON) -> dict[str, object]:
    page = lead.get(at)
    basis = {name: field(page, name) for name in ("label_ids", "decision_id")}
    return {**basis, "label": list(codes), "reason": reason}


def test_clips_wait_when_all_are_done_and_differ(world: World, lead: Visitor, coders: list[int]) -> None:
    study, items = disagreed(world, coders, 2)
    agreed, unfinished = add_items(world, study, [901, 902])
    for coder in coders:
        judge(world, agreed, coder, ["hate"])
    judge(world, unfinished, coders[0], ["hate"])
    judge(world, unfinished, coders[1], ["scam"])
    assert listed(lead.get(f"/studies/{study}/decisions").text) == items
    assert listed(lead.get(f"/studies/{study}/decisions?label=scam").text) == items
    assert listed(lead.get(f"/studies/{study}/decisions?label=violent_threat").text) == []
    assert lead.get(f"/studies/{study}/decisions/{agreed}").status_code == 404
    assert lead.get(f"/studies/{study}/decisions/{unfinished}").status_code == 404
    world.sql("UPDATE ra_items SET coders = 2 WHERE item_id = %s", unfinished)
    assert listed(lead.get(f"/studies/{study}/decisions").text) == [*items, unfinished]


def test_coders_and_verdict_are_hidden_on_the_page_of_a_clip(world: World, lead: Visitor, coders: list[int]) -> None:
    """The order of coders is drawn per clip: over ten clips, not always the same one is the first."""
    study, items = disagreed(world, coders, 10)
    pages = [lead.get(f"/studies/{study}/decisions/{item}").text for item in items]
    hidden = [*CODERS, *(name for (name,) in world.sql("SELECT pseudonym FROM ra_users WHERE role = 'ra'")), POLICY]
    assert [(name, page) for page in pages for name in hidden if name in page] == []
    firsts = {re.search(r"Coder 1</th>\s*<td>([^<]*)</td>", page)[1] for page in pages}  # type: ignore[index]
    assert firsts == {"Hate speech", "Scam or fraud"}
    assert "note on scam" in pages[0]
    assert POLICY in lead.get(f"/studies/{study}/decisions/{items[0]}?verdict=1").text


def test_a_decision_needs_a_reason_and_leads_to_the_next_clip(world: World, lead: Visitor, coders: list[int]) -> None:
    study, items = disagreed(world, coders, 2)
    at = f"/studies/{study}/decisions/{items[0]}"
    refused = lead.post(at, form(lead, at, "scam", reason=" "))
    assert (refused.status_code, "Write the reason" in refused.text) == (422, True)
    assert 'value="scam" checked' in refused.text
    assert "Choose at least one label" in lead.post(at, form(lead, at)).text
    done = lead.post(at, {**form(lead, at, "scam"), "reference": "on"})
    assert (done.status_code, listed(done.location or "")) == (302, [items[1]])
    clip = world.sql("SELECT audio_id FROM ra_items WHERE item_id = %s", items[0])[0][0]
    assert world.sql("SELECT labels, reason, label_ids, user_id FROM ra_decisions") == [
        (["scam"], REASON, [1, 2, 3], 1)
    ]
    assert world.sql("SELECT audio_id, labels, reason FROM ra_references") == [(clip, ["scam"], REASON)]
    acts = world.sql("SELECT act, subject FROM ra_acts ORDER BY act")
    assert acts == [("decided", str(clip)), ("reference-set", str(clip))]
    assert listed(lead.get(f"/studies/{study}/decisions?show=decided").text) == [items[0]]
    judge(world, items[0], coders[0], ["no_violation"])
    assert listed(lead.get(f"/studies/{study}/decisions?show=again").text) == [items[0]]
    assert "on labels that were changed since" in lead.get(at).text


def test_a_decision_answers_the_questions_of_the_codebook(world: World, lead: Visitor, coders: list[int]) -> None:
    lead.get("/codebooks")  # publishes version 3, of which the next one is made
    ask(world)
    study = add_study(world, "s", codebook_id=CODEBOOK[0], codebook_version="4")
    [item] = add_items(world, study, [world.add_clip()])
    for coder, target in zip(coders, ("women", "women", "men"), strict=True):
        judge(world, item, coder, ["hate"], version="4", answers={"target": [target]})
    at = f"/studies/{study}/decisions/{item}"
    assert listed(lead.get(f"/studies/{study}/decisions").text) == [item], "only their answers differ"
    assert lead.get(at).text.count("Who is attacked? Women") == 2
    assert "Answer “Who is attacked?”" in lead.post(at, form(lead, at, "hate")).text
    assert lead.post(at, {**form(lead, at, "hate"), "answer.target": "men"}).status_code == 302
    assert world.sql("SELECT labels, answers FROM ra_decisions") == [(["hate"], {"target": ["men"]})]
    assert "Who is attacked? Men." in lead.get(at).text


def test_who_decides_on_what_has_changed_is_told(world: World, lead: Visitor, coders: list[int]) -> None:
    study, items = disagreed(world, coders)
    at = f"/studies/{study}/decisions/{items[0]}"
    world.add_user("lew", role="lead")
    other = Visitor(world.app)
    other.log_in("lew")
    codes = at_once((lead, at, form(lead, at, "hate")), (other, at, form(other, at, "scam")))
    assert sorted(codes) == [302, 409]
    assert world.sql("SELECT count(*) FROM ra_decisions") == [(1,)]
    before = form(lead, at, "hate", reason="kept as typed")
    judge(world, items[0], coders[2], ["no_violation"])
    stale = lead.post(at, before)
    assert stale.status_code == 409
    assert "Something has changed since you opened this page" in stale.text
    assert "kept as typed" in stale.text
    assert lead.post(at, form(lead, at, "hate")).status_code == 302


def test_references_are_set_changed_and_taken_back(world: World, lead: Visitor) -> None:
    study = add_study(world, "s")
    clip, elsewhere = world.add_clip(), world.add_clip()
    add_items(world, study, [clip])
    at = f"/studies/{study}/references"
    for sent, problem in (
        ({"clip": "x", "label": "hate"}, "Write the number of a clip"),
        ({"clip": 999, "label": "hate"}, "There is no clip 999"),
        ({"clip": elsewhere, "label": "hate"}, "is not in this study"),
        ({"clip": clip}, "Choose at least one label"),
        ({"clip": clip, "label": ["no_violation", "hate"]}, "cannot be combined"),
    ):
        refused = lead.post(at, {**sent, "reason": "kept as typed"})
        assert refused.status_code == 422
        assert problem in refused.text
        assert "kept as typed" in refused.text
    assert lead.post(at, {"clip": clip, "label": "hate", "reason": "first"}).status_code == 302
    assert lead.post(at, {"clip": clip, "label": ["scam", "hate"], "reason": "second"}).status_code == 302
    page = lead.get(at).text
    assert ("second" in page, "first" in page, "Hate speech, Scam or fraud" in page) == (True, False, True)
    lead.post(f"{at}/withdraw", {"clip": clip})
    assert "No clip of this study has a reference" in lead.get(at).text
    assert [row[0] for row in world.sql("SELECT labels FROM ra_references ORDER BY 1")].count(None) == 1
    assert world.sql("SELECT count(*) FROM ra_acts") == [(3,)]


GOOD_TABLES = (
    "clip,labels,reason\n{0},hate scam,Both\n{1},no_violation,\n",
    "\ufeffclip;labels;reason\r\n{0};hate,scam;Both\r\n{1};unsure;\r\n",
)
BAD_TABLES = {
    "": "Line 1: the column “clip” is missing",
    "clip,labels,reason\n": "The file holds no reference",
    "clip,labels\n{0},hate\n": "Line 1: the column “reason” is missing",
    "clip,labels,reason\n{0},hate,a\n{0},scam,b\n": "Line 3: clip {0} stands in line 2, too",
    "clip,labels,reason\nfirst,hate,a\n": "Line 2: the clip is “first”",
    "clip,labels,reason\n{0},hate,a\n{1},hatred,b\n999,hate,c\n": "Line 3: The codebook has no label “hatred”",
}


def test_a_file_of_references_is_taken_as_a_whole_or_not_at_all(world: World, lead: Visitor) -> None:
    study = add_study(world, "s")
    clips = [world.add_clip(), world.add_clip()]
    add_items(world, study, clips)

    def send(table: str) -> TestResponse:
        sent = io.BytesIO(table.format(*clips).encode())
        return lead.post(f"/studies/{study}/references/upload", {"file": (sent, "references.csv")})

    for table, problem in BAD_TABLES.items():
        answer = send(table)
        assert answer.status_code == 422
        assert problem.format(*clips) in answer.text
    assert world.sql("SELECT count(*) FROM ra_references") == [(0,)]
    for number, table in enumerate(GOOD_TABLES, 1):
        assert send(table).status_code == 302
        assert world.sql('SELECT count(*) FROM ra_references WHERE labels = \'["hate", "scam"]\'') == [(number,)]


def set_reference(world: World, clip: int, *codes: str) -> None:
    quoted = ", ".join(f'"{code}"' for code in codes)
    world.sql(
        "INSERT INTO ra_references (audio_id, codebook_id, codebook_version, labels, reason, user_id) "
        "VALUES (%s, %s, %s, %s, %s, 1)", clip, *CODEBOOK, f"[{quoted}]", REASON,
    )  # fmt: skip


def test_coders_are_compared_with_the_references(world: World, lead: Visitor, coders: list[int]) -> None:
    """Of two clips that should be hate, the first coder finds one; the third could not decide on one."""
    study = add_study(world, "s")
    items = add_items(world, study, (1, 2, 3))
    for clip, code in zip((1, 2), ("hate", "hate"), strict=True):
        set_reference(world, clip, code)
    for item, codes in zip(items, (("hate",) * 3, ("scam", "hate", "unsure"), ("hate",) * 3), strict=True):
        for coder, code in zip(coders, codes, strict=True):
            judge(world, item, coder, [code])
    page = lead.get(f"/studies/{study}/references").text
    rows = [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in re.findall(r"<tr>.*?</tr>", page, re.DOTALL)]
    names = [name for (name,) in world.sql("SELECT pseudonym FROM ra_users WHERE role = 'ra' ORDER BY user_id")]

    def shares(name: str, what: str) -> list[str]:
        return [row.split(f"{what} ")[1][:5] for row in rows if row.startswith(f"{name} {what}")]

    assert shares(names[0], "Labels equal the reference") == ["0.500"]
    assert shares(names[0], "Hate speech: sensitivity") == ["0.500"]
    assert shares(names[0], "Hate speech: precision") == ["1.000"]
    assert shares(names[1], "Labels equal the reference") == ["1.000"]
    assert "could not decide on 1" in next(row for row in rows if row.startswith(names[2]))
    assert [name for name in CODERS if name in page] == []


def test_no_reference_is_sent_before_the_own_label(world: World, mira: Visitor) -> None:
    """Then it stands on “your training”, to which the queue leads. A label changed afterwards does not count."""
    study = add_study(world, "First steps", kind="training", coders_per_item=2)
    clip, other = world.add_clip(), world.add_clip()
    add_items(world, study, [clip, other], coders=2)
    world.study(state="closed")
    for each in (clip, other):
        set_reference(world, each, "scam")
    sent = [mira.get("/").text, mira.get(f"/training/{study}").text]
    assert mira.claim() == clip
    sent += [mira.get(f"/review/{clip}").text, mira.get(f"/desk/{clip}").text, mira.get("/").text]
    assert mira.get(f"/training/{study}").status_code == 404
    assert [page for page in sent if REASON in page or "First steps" in page] == []
    mira.label(clip, "hate")
    assert f'href="/training/{study}"' in mira.get("/").text
    page = mira.get(f"/training/{study}").text
    assert page.count(REASON) == 1
    assert re.search(r"<td>Hate speech</td>\s*<td>Scam or fraud</td><td>No</td>", page)
    mira.label(clip, "scam")
    assert "<td>Hate speech</td>" in mira.get(f"/training/{study}").text
    world.add_user("jo")
    stranger = Visitor(world.app)
    stranger.log_in("jo")
    assert stranger.get(f"/training/{study}").status_code == 404
    assert mira.get("/training/1").status_code == 404
