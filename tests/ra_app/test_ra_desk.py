"""The API of the review screen: items ahead, answers that bring what comes next, passing, marked parts, and undo."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from app.scripts import joined
from tests.ra_app.world import POLICY, SCORE, Visitor, World, field


def ask(browser: Visitor, path: str, form: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    answer = browser.post(f"/desk/{path}", form)
    return answer.status_code, answer.get_json()


def clips_of(answer: dict[str, Any]) -> list[int]:
    return [item["clip"] for item in answer["items"]]


def form_of(html: str) -> dict[str, str]:
    """The hidden fields of an item's form."""
    return dict(re.findall(r'<input type="hidden" name="([a-z_]+)" value="([^"]*)"', html))


def test_what_comes_next_is_claimed_ahead_and_never_sent_twice(mira: Visitor, world: World) -> None:
    clips = [world.add_clip() for _ in range(5)]
    mira.claim()
    code, answer = ask(mira, "ahead", {"have": str(clips[0]), "want": "9"})
    assert (code, clips_of(answer)) == (200, clips[1:3])
    assert clips_of(ask(mira, "ahead", {"have": "", "want": "2"})[1]) == clips[:2], "what one holds comes first"
    form = {
        **mira.form(clips[0]),
        "label": "hate",
        "have": f"{clips[1]} {clips[2]}",
        "want": "1",
        "showing": str(clips[1]),
    }
    code, answer = ask(mira, f"{clips[0]}/submit", form)
    assert (code, answer["state"], clips_of(answer)) == (200, "stored", [clips[3]])
    assert "1 of 5" in answer["progress"]
    assert (clips[1],) in world.sql("SELECT audio_id FROM ra_audit WHERE event = 'opened'")
    code, answer = ask(mira, f"{clips[0]}/submit", form)
    assert (code, answer["state"]) == (200, "stored")
    assert world.sql("SELECT count(*) FROM ra_labels") == [(1,)]


def test_an_item_is_the_clip_and_its_form_and_no_verdict(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    answer = ask(mira, "ahead", {"want": "1"})[1]
    [item] = answer["items"]
    assert (item["page"], item["audio"]) == (f"/review/{clip}", f"/audio/{clip}")
    assert "Listen &lt;b&gt;closely&lt;/b&gt;." in item["html"]
    for secret in (POLICY, str(SCORE), "0.4321", "model-omega-9"):
        assert secret not in json.dumps(answer)
    form = {**form_of(item["html"]), "label": "scam", "want": "1"}
    assert ask(mira, f"{clip}/submit", form)[1]["items"] == []
    again = mira.get(f"/desk/{clip}").get_json()["item"]["html"]
    assert POLICY not in again
    shown = ask(mira, f"{clip}/reveal")[1]["item"]["html"]
    assert POLICY in shown


def test_refused_and_stale_forms_say_so_and_are_kept(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    form = {**mira.hold(clip).form(clip), "note": "so far", "spans": "[[1, 2.5]]"}
    code, answer = ask(mira, f"{clip}/submit", form)
    assert (code, answer["problem"]) == (422, "Choose at least one label before you submit.")
    html = mira.get(f"/desk/{clip}").get_json()["item"]["html"]
    assert "so far" in html
    assert 'name="spans" value="[[1.0, 2.5]]"' in html
    assert mira.label(clip, "hate").status_code == 302
    code, answer = ask(mira, f"{clip}/submit", {**form, "label": "scam"})
    assert (code, answer["state"]) == (409, "stale")
    assert "Another label for this clip was stored" in answer["item"]["html"]
    assert ask(mira, f"{clip}/submit", {**form_of(answer["item"]["html"]), "label": "scam"})[0] == 200
    assert world.sql("SELECT labels FROM ra_labels ORDER BY label_id") == [(["hate"],), (["scam"],)]


def test_a_passed_clip_goes_to_others_and_never_comes_back(mira: Visitor, visitor: Visitor, world: World) -> None:
    clip = world.add_clip()
    form = {**mira.hold(clip).form(clip), "note": "not for me"}
    assert ask(mira, f"{clip}/pass", form)[1]["state"] == "aside"
    assert ask(mira, f"{clip}/pass", form)[1]["state"] == "aside", "a form that arrives twice"
    assert mira.claim() is None
    assert "no more clips" in mira.get("/").text
    assert re.search(r'Set aside\s*<span class="count">0<', mira.get("/").text)
    assert world.sql("SELECT event FROM ra_audit WHERE event = 'passed'") == [("passed",)]
    world.add_user("jo")
    visitor.log_in("jo")
    assert visitor.claim() == clip
    assert "not for me" not in visitor.get(f"/review/{clip}").text
    assert ask(mira, f"{clip}/take")[0] == 409


def test_an_undo_of_a_pass_holds_the_clip_again_with_its_draft(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    ask(mira, f"{clip}/pass", {**mira.hold(clip).form(clip), "label": "hate", "note": "so far"})
    code, answer = ask(mira, f"{clip}/take")
    assert code == 200
    assert "so far" in answer["item"]["html"]
    assert world.sql("SELECT count(*) FROM ra_declines") == [(0,)]


@pytest.mark.parametrize("spans", ["x", "[[2, 1]]", "[[1, 1e999]]", json.dumps([[n, n + 1] for n in range(51)])])
def test_marked_parts_that_cannot_be_are_refused(mira: Visitor, world: World, spans: str) -> None:
    clip = world.add_clip()
    code, answer = ask(mira, f"{clip}/submit", {**mira.hold(clip).form(clip), "label": "hate", "spans": spans})
    assert (code, answer["problem"][:36]) == (422, "The marked parts could not be read. ")
    assert world.sql("SELECT count(*) FROM ra_labels") == [(0,)]


def test_heartbeats_renew_what_is_held_ahead(mira: Visitor, world: World) -> None:
    clips = [world.add_clip() for _ in range(3)]
    for clip in clips:
        mira.hold(clip)
    world.sql("UPDATE ra_assignments SET claimed_until = now() + interval '1 minute'")
    beat = mira.post(f"/review/{clips[0]}/heartbeat", {"also": f"{clips[1]} 99999"})
    assert beat.get_json() == {"state": "held", "seconds": 900}
    renewed = "SELECT audio_id FROM ra_assignments WHERE claimed_until > now() + interval '10 minutes' ORDER BY 1"
    assert world.sql(renewed) == [(clips[0],), (clips[1],)]


def test_labels_and_claims_ahead_renew_what_the_page_has(mira: Visitor, world: World) -> None:
    """So a clip that is done within a minute needs no heartbeat."""
    clips = [world.add_clip() for _ in range(3)]
    for clip in clips:
        mira.hold(clip)
    world.sql("UPDATE ra_assignments SET claimed_until = now() + interval '1 minute'")
    code, answer = ask(mira, f"{clips[0]}/submit", {**mira.form(clips[0]), "label": "hate", "have": str(clips[1])})
    assert (code, answer["held"]) == (200, {str(clips[1]): 900}), "a labelled clip is not held, and another's is not"
    renewed = "SELECT audio_id FROM ra_assignments WHERE claimed_until > now() + interval '10 minutes'"
    assert world.sql(renewed) == [(clips[1],)]


def test_a_script_gets_words_not_pages_when_the_session_ends(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    form = {"csrf_token": mira.token(), **mira.hold(clip).form(clip), "label": "hate"}
    world.sql("UPDATE ra_users SET session_epoch = session_epoch + 1")
    answer = mira.client.post(f"/desk/{clip}/submit", data=form, environ_base=mira.address)
    assert (answer.status_code, answer.mimetype) == (401, "text/plain")
    mira.log_in()
    answer = mira.client.post(f"/desk/{clip}/submit", data={**form, "csrf_token": "old"}, environ_base=mira.address)
    assert (answer.status_code, answer.mimetype) == (400, "text/plain")


def test_doubtful_windows_word_times_and_translations_are_shown(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    words = [{"start": 3.0, "end": 3.4, "word": "Listen"}, {"start": 4.0, "end": 4.4, "word": "<b>closely</b>."}]
    window = {"start": 5.9, "end": 9.5, "finding": "doubtful", "reasons": ["few-words"]}
    world.sql(
        "UPDATE transcripts SET words = %s, windows = %s, translation = 'That <i>is</i> all.', not_judged = 'language'",
        json.dumps(words),
        json.dumps([window, {"start": 0, "end": 5.8, "finding": "speech", "reasons": []}, "no window"]),
    )
    page = mira.hold(clip).get(f"/review/{clip}").text
    assert '<span class="word" data-at="4.0">&lt;b&gt;closely&lt;/b&gt;.</span>' in page
    assert "So everybody keeps asking me." in page
    assert page.count('class="unsure"') == 1
    assert "There are few words for so much speech." in page
    assert "That &lt;i&gt;is&lt;/i&gt; all." in page
    assert "Not judged: language" in page


def test_peaks_and_loudness_reach_the_screen(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    world.sql("UPDATE audio_files SET peaks = %s, loudness_lufs = -18.5, peak_dbfs = 0", bytes([0, 127, 255]))
    page = mira.hold(clip).get(f"/review/{clip}").text
    for part in ('data-peaks="AH//"', 'data-lufs="-18.5"', 'data-peak-dbfs="0.0"', 'data-cap-db="-12"'):
        assert part in page


def test_the_script_is_one_file_whose_address_changes_with_it(mira: Visitor, world: World) -> None:
    mira.hold(world.add_clip())
    found = re.search(r'src="(/scripts/review\.js\?v=[0-9a-f]{12})"', mira.get("/review/1").text)
    assert found is not None
    answer = mira.get(found[1])
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.mimetype == "text/javascript"
    assert not re.search(r"^(import|export)\b", answer.text, re.MULTILINE)


def test_modules_are_joined_once_each_and_in_order(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text('import { b } from "./b.js";\nimport { c } from "./c.js";\n\nb(c);\n')
    (tmp_path / "b.js").write_text('import { c } from "./c.js";\n// why\nexport const b = () => c;\n')
    (tmp_path / "c.js").write_text("export class c {}\n")
    assert joined(tmp_path / "a.js").split("\n\n") == ["class c {}\nconst b = () => c;", "b(c);\n"]
    (tmp_path / "c.js").write_text('import { b } from "./b.js";\n')
    with pytest.raises(ValueError, match="imports itself"):
        joined(tmp_path / "a.js")
    (tmp_path / "c.js").write_text("export class c {}\nconst b = 1;\n")
    with pytest.raises(ValueError, match=r"^b stands at the top of two modules"):
        joined(tmp_path / "a.js")
    (tmp_path / "c.js").write_text("export default 1;\n")
    with pytest.raises(ValueError, match="not understood here: export default"):
        joined(tmp_path / "a.js")


def test_an_item_of_a_clip_that_was_never_held_is_not_found(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    assert mira.get(f"/desk/{clip}").status_code == 404
    assert mira.post(f"/desk/{clip}/submit", {"label": "hate"}).status_code == 404
    assert field(mira.get("/account"), "csrf_token")
