"""Leads edit codebooks in the app: drafts, two leads at once, what changed, and versions that never change."""

from __future__ import annotations

import html
import io
import re
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from app.codebooks import diff
from app.codebooks.codebook import load_codebook, of_toml
from app.config import APP_ROOT
from tests.ra_app.asking import ask
from tests.ra_app.test_ra_codebook import HATE, HEAD, QUESTION
from tests.ra_app.world import Visitor, World

BOOK = "/codebooks/spoken-clips"
DRAFT = f"{BOOK}/draft"
FIELD = re.compile(r"<(input|textarea|option|select)\b([^>]*)>(?:\n?([^<]*)</textarea>)?")


@pytest.fixture
def lea(world: World, app: Flask) -> Visitor:
    return lead(world, app, "lea")


@pytest.fixture
def draft(lea: Visitor) -> Visitor:
    """A lead with a draft from version 3."""
    lea.get("/codebooks")  # publishes the app's own
    assert lea.post(f"{BOOK}/begin", {"version": "3"}).location == DRAFT
    return lea


def lead(world: World, app: Flask, name: str) -> Visitor:
    world.add_user(name, role="lead")
    browser = Visitor(app)
    browser.log_in(name)
    return browser


def fields(page: TestResponse) -> dict[str, Any]:
    """What a browser would send of the editor's form."""
    found: dict[str, Any] = {}
    select = ""
    form = page.text.partition('name="revision"')[2].rpartition("</form>")[0]
    found["revision"] = re.search(r'value="(\d*)"', form)[1]  # type: ignore[index]
    for tag, attributes, text in FIELD.findall(form):
        name = (re.search(r'name="([^"]*)"', attributes) or ["", ""])[1]
        value = html.unescape((re.search(r'value="([^"]*)"', attributes) or ["", ""])[1])
        if tag == "select":
            select = name
        elif tag == "option" and "selected" in attributes:
            found[select] = value
        elif tag == "textarea":
            found[name] = html.unescape(text)
        elif tag == "input" and "checkbox" in attributes:
            if "checked" in attributes:
                found.setdefault(name, []).append(value)
        elif tag == "input":
            found[name] = value
    return found


def codes(world: World, kind: str = "labels") -> list[str]:
    return [entry["code"] for entry in world.sql("SELECT content FROM ra_codebook_drafts")[0][0][kind]]


def send(visitor: Visitor, act: str = "save", /, **changed: Any) -> TestResponse:
    form = {**fields(visitor.get(DRAFT)), "act": act, **changed}
    return visitor.post(DRAFT, form, content_type="multipart/form-data")


def test_a_draft_that_is_stored_unchanged_says_what_its_version_says(draft: Visitor, world: World) -> None:
    before = world.sql("SELECT content, revision FROM ra_codebook_drafts")
    assert send(draft).location == DRAFT
    assert world.sql("SELECT content, revision FROM ra_codebook_drafts") == before
    assert "Nothing differs" in draft.get(f"{DRAFT}/changes").text
    assert draft.post(f"{BOOK}/begin", {"version": "3"}).location == DRAFT
    assert "There is a draft of “spoken-clips” already" in draft.get(DRAFT).text


def test_each_button_does_what_it_says_and_keeps_what_was_typed(draft: Visitor, world: World) -> None:
    first = codes(world)
    moved = send(draft, "down labels 1", **{"labels[1].definition": "Typed\r\njust now."})
    assert moved.location == f"{DRAFT}#labels-2"
    assert codes(world) == [first[1], first[0], *first[2:]]
    assert world.sql("SELECT content -> 'labels' -> 1 ->> 'definition' FROM ra_codebook_drafts") == [
        ("Typed\njust now.",)
    ]
    send(draft, "up labels 2")
    assert codes(world) == first
    send(draft, "remove labels 2")
    assert codes(world) == [first[0], *first[2:]]
    send(draft, "add labels")
    assert codes(world)[-1] == ""
    send(draft, "add questions", choice="single")
    send(draft, **{"questions[1].code": "who", "questions[1].options": "women | Women\nmen | Men | w\nodd|a|b|",
                   "questions[1].when": ["hate"], "labels[2].policies": ["hate-speech"],
                   "labels[2].other_policies": "Wrong one"})  # fmt: skip
    content = world.sql("SELECT content FROM ra_codebook_drafts")[0][0]
    assert content["choice"] == "single"
    assert [(option["code"], option["name"], option["key"]) for option in content["questions"][0]["options"]] == [
        ("women", "Women", ""), ("men", "Men", "w"), ("odd", "a|b", ""),
    ]  # fmt: skip
    assert content["labels"][1]["policies"] == ["hate-speech", "Wrong one"]
    page = draft.get(DRAFT)
    assert "odd | a|b |" in page.text
    said = re.sub(r"<[^>]*>", " ", page.text)
    for sentence in ("must be a text and not empty", "&#39;Wrong one&#39; is not valid"):
        assert sentence in said, sentence
    send(draft, "remove questions 1")
    assert codes(world, "questions") == []
    send(draft, "nonsense here now")
    assert world.sql("SELECT DISTINCT act FROM ra_acts") == [("codebook-drafted",)]


def test_a_second_lead_who_stores_an_old_state_is_told_and_sees_both(draft: Visitor, world: World, app: Flask) -> None:
    other = lead(world, app, "max")
    old = fields(other.get(DRAFT))
    send(draft, **{"labels[1].definition": "Lea has written this."})
    answer = other.post(DRAFT, {**old, "act": "remove labels 2", "labels[1].definition": "Max has written that."})
    assert answer.status_code == 409
    assert "Somebody else has changed this draft" in answer.text
    assert "Max has written that.</textarea>" in answer.text
    assert re.search(r"<del>.*Lea.*</del>", answer.text)
    assert re.search(r"<ins>.*Max.*</ins>", answer.text)
    stored = (
        "SELECT content -> 'labels' -> 0 ->> 'definition', jsonb_array_length(content -> 'labels') "
        "FROM ra_codebook_drafts"
    )
    assert world.sql(stored) == [("Lea has written this.", 7)]
    assert other.post(DRAFT, {**fields(answer), "act": "save"}).status_code == 302
    assert world.sql(stored) == [("Max has written that.", 7)]
    # The draft is thrown away meanwhile: what Lea typed is not lost.
    typed = {**fields(draft.get(DRAFT)), "labels[1].definition": "Lea again."}
    other.post(f"{DRAFT}/discard", {"revision": typed["revision"]})
    gone = draft.post(DRAFT, typed)
    assert (gone.status_code, "Lea again.</textarea>" in gone.text) == (409, True)
    assert draft.post(f"{DRAFT}/again", fields(gone)).location == DRAFT
    assert world.sql(stored) == [("Lea again.", 7)]
    assert other.post(f"{DRAFT}/discard", {"revision": typed["revision"]}).location == "/codebooks"
    assert world.sql("SELECT count(*) FROM ra_codebook_drafts") == [(1,)]


def test_a_draft_is_published_once_with_its_note_and_changes_no_more(draft: Visitor, world: World) -> None:
    changes = send(draft, "compare", **{"labels[3].definition": "An attack on people for what they are."})
    page = draft.get(changes.location or "")
    assert re.search(r'<input id="version"[^>]*value="4"', page.text)
    assert "Hate speech" in page.text
    form = {"revision": fields(draft.get(DRAFT))["revision"], "note": "Shorter."}
    taken = draft.post(f"{DRAFT}/publish", {**form, "version": "3"})
    assert taken.status_code == 422
    assert "Version 3 is published already" in taken.text
    assert "Shorter.</textarea>" in taken.text
    assert draft.post(f"{DRAFT}/publish", {**form, "version": "a b"}).status_code == 422
    assert draft.post(f"{DRAFT}/publish", {**form, "version": "4", "revision": "7"}).status_code == 409
    assert draft.post(f"{DRAFT}/publish", {**form, "version": "4"}).location == f"{BOOK}/versions/4"
    assert world.sql("SELECT version, note, username FROM ra_codebooks LEFT JOIN ra_users ON user_id = published_by "
                     "ORDER BY 1") == [("3", "", None), ("4", "Shorter.", "lea")]  # fmt: skip
    assert world.sql("SELECT count(*) FROM ra_codebook_drafts") == [(0,)]
    assert world.sql("SELECT subject FROM ra_acts WHERE act = 'codebook-published'") == [("spoken-clips, version 4",)]
    assert draft.get(DRAFT).status_code == 404
    compared = re.sub(r'<span class="visually-hidden">.*?</span>', "", draft.get(f"{BOOK}/compare?old=3&new=4").text)
    assert "people <del>because of who </del><ins>for what </ins>they" in compared
    assert draft.get(f"{BOOK}/compare?old=3&new=5").status_code == 404


def test_a_draft_that_is_not_complete_is_not_published(draft: Visitor, world: World) -> None:
    send(draft, **{"labels[2].key": "n"})
    form = {"revision": fields(draft.get(DRAFT))["revision"], "version": "4"}
    answer = draft.post(f"{DRAFT}/publish", form)
    assert answer.status_code == 422
    assert "labels[2].key" in answer.text
    assert world.sql("SELECT version FROM ra_codebooks") == [("3",)]


def test_a_code_in_use_whose_text_changes_is_warned_about(draft: Visitor, world: World, app: Flask) -> None:
    world.add_user("mira")
    mira = Visitor(app)
    mira.log_in("mira")
    mira.label(world.add_clip(), "hate")
    send(draft, **{"labels[3].definition": "Else.", "labels[2].definition": "Else."})
    page = " ".join(draft.get(f"{DRAFT}/changes").text.split())
    assert "Labels name <code>hate</code>, whose text this draft changes" in page
    assert "Labels name <code>violent_threat</code>" not in page
    send(draft, "remove labels 3")
    assert "Labels name <code>hate</code>, which this draft removes" in draft.get(f"{DRAFT}/changes").text
    row = re.search(r"<tr>(.*?)</tr>", draft.get("/codebooks").text.partition("<tbody>")[2], re.DOTALL)
    assert row is not None
    assert '<td class="number">1</td>' in row[1]
    assert "Flagged clips" in row[1]


def test_a_version_is_downloaded_edited_and_uploaded_as_a_draft(lea: Visitor, world: World) -> None:
    lea.get("/codebooks")
    file = lea.get(f"{BOOK}/toml/3")
    shipped = load_codebook(APP_ROOT / "codebook.toml")
    assert of_toml(file.text, "file").sha256() == shipped.sha256()
    assert "spoken-clips-3.toml" in file.headers["Content-Disposition"]
    assert lea.get(f"{BOOK}/json/3").json == shipped.content()
    answer = upload(lea, file.text.replace("Hate speech", "Hatred"))
    assert answer.location == DRAFT
    assert world.sql("SELECT based_on FROM ra_codebook_drafts") == [("3",)]
    assert "Hatred" in lea.get(f"{DRAFT}/changes").text
    assert "already. Edit it" in upload(lea, file.text).text


def test_a_version_with_questions_is_read_copied_and_edited(lea: Visitor, world: World) -> None:
    lea.get("/codebooks")
    ask(world)
    page = lea.get(f"{BOOK}/versions/4").text
    assert "women | Women\nmen | Men | w</dd>" in page
    assert "hate, violent_threat" in page
    lea.post(f"{BOOK}/begin", {"version": "4"})
    send(lea)
    assert "Nothing differs" in lea.get(f"{DRAFT}/changes").text
    send(lea, "compare", **{"questions[1].options": "women | Women", "questions[1].when": ["hate"]})
    changes = lea.get(f"{DRAFT}/changes").text
    assert "Question" in changes
    assert changes.count(">removed: <") == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("labels = 1", "labels: it must be a list"),
        ("= x", "not a TOML file"),
        (HEAD + HATE.replace('"1"', '"n"') + QUESTION.replace('"hate"', '"x"'), "questions[1].when"),
        ("", "is missing"),
    ],
)
def test_a_file_that_is_no_codebook_is_refused_with_its_mistakes(
    lea: Visitor, world: World, text: str, said: str
) -> None:
    answer = upload(lea, text)
    assert answer.status_code == 422
    assert said in html.unescape(answer.text)
    assert lea.post("/codebooks/upload", {}).status_code == 422
    assert world.sql("SELECT count(*) FROM ra_codebook_drafts") == [(0,)]


def test_a_new_codebook_begins_with_an_empty_label(lea: Visitor, world: World) -> None:
    lea.get("/codebooks")
    for name, title in (("Spoken clips", "T"), ("spoken-clips", "T"), ("other", " ")):
        refused = lea.post("/codebooks/new", {"id": name, "title": title})
        assert (refused.status_code, f'value="{name}"' in refused.text) == (422, True)
    assert lea.post("/codebooks/new", {"id": "other", "title": "Other"}).location == "/codebooks/other/draft"
    page = lea.get("/codebooks/other/draft").text
    assert "4 things must be mended" in page
    assert "the codebook is new" in lea.get("/codebooks/other/draft/changes").text
    assert world.sql("SELECT content ->> 'title', based_on FROM ra_codebook_drafts") == [("Other", None)]


def test_a_long_codebook_can_be_stored(draft: Visitor, world: World) -> None:
    assert send(draft, **{"labels[1].examples": "“Ünïcode” line\n" * 6000}).status_code == 302
    assert world.sql("SELECT jsonb_array_length(content -> 'labels' -> 0 -> 'examples') FROM ra_codebook_drafts") == [
        (6000,)
    ]


def test_what_differs_is_said_by_entry_field_and_word() -> None:
    old, new = (
        of_toml(text, "x").content() for text in (HEAD + HATE, HEAD + HATE.replace('"D"', '"D or E"') + QUESTION)
    )
    changed, added = diff.compare(old, new)
    assert (changed.kind, changed.code, [field.name for field in changed.fields]) == ("changed", "hate", ["Definition"])
    assert [(part.kind, part.text) for part in changed.fields[0].parts] == [("same", "D "), ("added", "or E ")]
    assert (added.what, added.kind) == ("question", "added")
    back = diff.compare(new, old)
    assert [entry.kind for entry in back] == ["changed", "removed"]
    two = of_toml(HEAD + HATE + HATE.replace("hate", "rude").replace('"1"', '"2"'), "x").content()
    turned = {**two, "labels": two["labels"][::-1]}
    moved = diff.compare(two, turned)
    assert [field.name for entry in moved for field in entry.fields] == ["Place"]


def upload(visitor: Visitor, text: str) -> TestResponse:
    return visitor.post("/codebooks/upload", {"file": (io.BytesIO(text.encode()), "mine.toml")})
