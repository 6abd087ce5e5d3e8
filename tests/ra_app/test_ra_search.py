"""The search over clips: words in many languages, filters, pages, and what it must not tell."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask

from app.search import conditions, search
from tests.ra_app.campaign import add_items, add_study, judge
from tests.ra_app.world import POLICY, Visitor, World

Add = Callable[..., int]


@pytest.fixture
def lea(app: Flask, world: World) -> Visitor:
    """A lead who is logged in."""
    world.add_user("lea", role="lead")
    browser = Visitor(app)
    assert browser.log_in("lea").status_code == 302
    return browser


@pytest.fixture
def add(world: World) -> Add:
    """Add a clip that says this -> its number."""

    def clip(said: str, language: str = "en", translation: str | None = None, **columns: Any) -> int:
        number = world.add_clip(violates=columns.pop("violates", True))
        world.sql(
            "UPDATE transcripts SET text = %s, language = %s, translation = %s WHERE audio_id = %s",
            said, language, translation, number,
        )  # fmt: skip
        for name, value in columns.items():
            world.sql(f"UPDATE audio_files SET {name} = %s WHERE audio_id = %s", value, number)
        return number

    return clip


def found(lea: Visitor, **fields: Any) -> list[int]:
    page = lea.get(f"/clips?{urlencode(fields)}")
    assert page.status_code == 200, page.text
    return [int(number) for number in re.findall(r'<a href="/clips/(\d+)">', page.text)]


def test_words_are_found_in_their_own_language(lea: Visitor, add: Add) -> None:
    german = add("Die Häuser am Marktplatz brennen.", "de")
    russian = add("Мы встретились на рынках города", "ru")
    chinese = add("我们明天在市场见面", "zh")
    thai = add("วันนี้เราไปตลาดนัด", "th")
    arabic = add("قرأت الكتاب أمس", "ar")
    english = add("We met at the markets.")
    translated = add("Nos vemos", "es", "See you at the harbours")
    assert found(lea, words="haus") == [german]
    assert found(lea, words="брандмауэр") == []
    assert found(lea, words="города рынка") == [russian]
    assert found(lea, words="市场") == [chinese]
    assert found(lea, words="场市") == []
    assert found(lea, words="ตลาด") == [thai]
    assert found(lea, words="كتاب") == [arabic]
    assert found(lea, words="market") == [english]
    assert found(lea, words="harbour") == [translated]
    assert found(lea, words="haus", language="en") == []


def test_the_query_is_read_as_search_engines_read_it(lea: Visitor, add: Add) -> None:
    near, far, other = add("red wine and bread"), add("wine is red"), add("only bread")
    assert found(lea, words='"red wine"') == [near]
    assert found(lea, words="wine red") == [far, near]
    assert found(lea, words="bread -wine") == [other]
    assert found(lea, words="-wine") == [other]
    assert found(lea, words='"red wine" or only') == [other, near]
    assert found(lea, words="the wine") == [far, near]
    assert found(lea, words="is") == [far]
    for hostile in ("'; DROP TABLE transcripts; --", "a & | !( 'b", '"', "- or or", "\\' :* <-> %s :x", "!!! ???"):
        assert found(lea, words=hostile) == [], hostile
    assert found(lea, words="wine") == [far, near]


def test_what_was_found_is_marked_and_nothing_is_markup(lea: Visitor, add: Add) -> None:
    add("<script>alert(1)</script> the Märkte \ue000open\ue001 5 < 6 & <b>offen</b>", "de")
    add("我们明天在市场见面", "zh")
    page = lea.get("/clips?words=markt+offen").text
    assert "<mark>Märkte</mark>" in page
    assert "<mark>offen</mark>" in page
    assert "5 &lt; 6 &amp;" in page
    assert "<script>alert" not in page
    assert "<mark>open" not in page
    marked = lea.get("/clips?words=市场").text
    assert re.search(r"我们明天在(<mark>市</mark><mark>场</mark>|<mark>市场</mark>)见面", marked)
    assert "<img" not in lea.get("/clips?words=%3Cimg%3E&batch=%22%3E%3Cimg%3E").text


def test_filters_narrow_the_search_and_stay_in_the_address(lea: Visitor, add: Add, world: World) -> None:
    day = "2026-11-21T23:30:00Z"
    first = add("one", "de", processed_at=day, platform_metadata='{"likes": 3, "author": "ada"}')
    second = add("two", violates=False, platform_metadata='{"likes": 30, "author": "3"}', original_filename="x/a_b.mp3")
    third = add("three")
    world.sql("DELETE FROM classifications WHERE audio_id = %s", third)
    world.sql("UPDATE transcripts SET finding = 'doubtful' WHERE audio_id = %s", third)
    assert found(lea, verdict="flagged", policy=POLICY) == found(lea, verdict="flagged") == [first]
    assert found(lea, verdict="flagged", policy="other") == []
    assert found(lea, verdict="clean", policy=POLICY) == [second]
    assert found(lea, verdict="unjudged") == [third]
    assert found(lea, language="de") == [first]
    assert found(lea, finding="doubtful") == [third]
    assert found(lea, since="2026-11-21", until="2026-11-21") == [first]
    assert found(lea, until="2026-11-20") == [third, second]
    assert found(lea, field="likes", value="3") == [first]
    assert found(lea, field="author", value="3") == [second]
    assert found(lea, clip="x/a_") == [second]
    assert found(lea, clip="x/ab") == []
    assert found(lea, clip=str(first)) == [first]
    assert found(lea, batch="20261120-103000-a1b2c3", clip="A_B") == [second]
    jo = world.add_user("jo")
    [item] = add_items(world, add_study(world, "s"), [second])
    judge(world, item, jo, ["scam"])
    assert found(lea, label="scam") == [second]
    judge(world, item, jo, ["hate"])
    assert found(lea, label="scam") == []
    for value in ("1e999", "NaN", "9" * 299, "true", '{"a": 1}', "\x00"):
        assert lea.get("/clips?" + urlencode({"field": "likes", "value": value})).status_code in {200, 422}
    assert lea.get("/clips?before=99999999999999999999").status_code == 404
    assert lea.get("/clips?until=9999-12-31").status_code == 422
    wrong = lea.get("/clips?since=tomorrow&finding=x&policy=p&words=kept")
    assert wrong.status_code == 422
    assert "“tomorrow” is not a day" in wrong.text
    assert 'value="kept"' in wrong.text


def test_pages_are_complete_and_without_doubles(
    lea: Visitor, add: Add, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "PAGE_SIZE", 2)
    clips = [add("alpha") for _ in range(5)]
    world.sql(
        "INSERT INTO transcripts (audio_id, model, text, language, speech_s, no_speech, created_at) "
        "SELECT audio_id, 'other', 'alpha again', 'en', 1, false, now() + interval '1 s' FROM audio_files"
    )
    seen, address = [], "/clips?words=alpha"
    while address:
        page = lea.get(address).text
        seen += [int(number) for number in re.findall(r'<a href="/clips/(\d+)">', page)]
        older = re.search(r'rel="next" href="([^"]+)"', page)
        address = older[1].replace("&amp;", "&") if older else ""
    assert seen == clips[::-1]
    assert "5\n    clips" in lea.get("/clips/numbers?words=alpha").text


def test_a_search_that_takes_too_long_is_stopped_and_says_so(
    lea: Visitor, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("alpha")
    monkeypatch.setitem(conditions._WAYS, "clean", "(SELECT pg_sleep(5) IS NOT NULL)")
    monkeypatch.setattr(search, "TIMEOUT_MS", 50)
    answer = lea.get("/clips?verdict=clean")
    assert answer.status_code == 503
    assert "was stopped" in answer.text
    assert lea.get("/clips?words=alpha").status_code == 200


def test_clips_in_hand_are_left_out_where_a_filter_would_tell_their_verdict(lea: Visitor, add: Add) -> None:
    held, other = add("alpha"), add("alpha")
    lea.hold(held)
    assert found(lea, words="alpha") == [other, held]
    assert found(lea, words="alpha", verdict="flagged") == [other]
