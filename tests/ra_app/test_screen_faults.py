"""Nothing that a reviewer chooses or writes is lost: networks, sessions, tabs and leases that end."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.ra_app.browsing import CONTRAST, NAMELESS, chosen, log_in, open_clip, settled, shown, wait
from tests.ra_app.world import PASSWORD, World, hold, tone

UNSENT = "Object.keys(localStorage).filter((name) => name.startsWith('unsent:')).length"
LABELS = "SELECT labels, note FROM ra_labels ORDER BY label_id"


def note(page: Page, text: str) -> None:
    page.locator("#note").fill(text)


def again(page: Page) -> None:
    """Log in on the page that came instead of the one that was wanted."""
    page.get_by_label("User name").fill("mira")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")


def no_errors(context: BrowserContext) -> Page:
    """A page of its own, for faults that the browser complains about."""
    return context.new_page()


def test_without_an_answer_one_goes_on_and_labels_are_stored_later_once(page: Page, world: World) -> None:
    world.add_user("mira")
    clips = [world.add_clip(audio=tone(2)) for _ in range(3)]
    page = no_errors(page.context)
    log_in(page)
    open_clip(page, world, clips[0])
    wait(page, "performance.getEntriesByType('resource').filter((e) => e.name.includes('/audio/')).length >= 3")
    received: list[str] = []

    def answer_is_lost(route: Route) -> None:
        route.fetch()  # the server stores it
        received.append(route.request.url)
        route.abort()

    page.route("**/desk/*/submit", answer_is_lost, times=1)
    page.route("**/desk/*/submit", lambda route: route.abort(), times=1)  # routes added later come first
    for clip, key in ((clips[1], "1"), (clips[2], "2")):
        page.keyboard.press(key)
        page.keyboard.press("Enter")
        shown(page, clip)
    expect(page.get_by_text("not stored yet: the server does not answer")).to_be_visible()
    page.get_by_role("button", name="Try now").click()
    settled(page)
    expect(page.get_by_text("not stored yet")).to_be_hidden(timeout=30_000)
    assert len(received) == 1
    assert world.sql(LABELS) == [(["violent_threat"], ""), (["hate"], "")]


def test_unsent_labels_outlive_the_tab(page: Page, world: World) -> None:
    world.add_user("mira")
    first, second = world.add_clip(audio=tone(2)), world.add_clip(audio=tone(2))
    context, page = page.context, no_errors(page.context)
    log_in(page)
    open_clip(page, world, first)
    wait(page, "performance.getEntriesByType('resource').filter((e) => e.name.includes('/audio/')).length >= 2")
    context.set_offline(True)
    page.keyboard.press("2")
    note(page, "said while the network was away")
    page.locator("#note").press("Control+Enter")
    shown(page, second)
    note(page, "half a thought")
    wait(page, f"{UNSENT} === 1")
    page.close(run_before_unload=False)
    context.set_offline(False)
    later = no_errors(context)
    later.goto(f"/review/{second}")
    shown(later, second)
    settled(later)
    expect(later.locator("#note")).to_have_value("half a thought")
    expect(later.get_by_text("This is your draft from before")).to_be_visible()
    assert world.sql(LABELS) == [(["hate"], "said while the network was away")]


def test_work_outlives_the_session(page: Page, world: World) -> None:
    world.add_user("mira")
    first, second = world.add_clip(audio=tone(2)), world.add_clip(audio=tone(2))
    page = no_errors(page.context)
    log_in(page)
    open_clip(page, world, first)
    wait(page, "performance.getEntriesByType('resource').filter((e) => e.name.includes('/audio/')).length >= 2")
    page.keyboard.press("2")
    page.get_by_role("radio", name="High").check()
    note(page, "said at 0:06")
    world.sql("UPDATE ra_users SET session_epoch = session_epoch + 1")
    page.get_by_role("button", name=re.compile("^Submit")).click()
    shown(page, second)
    page.keyboard.press("3")
    page.get_by_role("link", name="Log in again").click()
    again(page)
    page.wait_for_url(f"**/review/{second}")
    shown(page, second)
    settled(page)
    assert chosen(page) == ["scam"]
    assert world.sql("SELECT labels, confidence, note FROM ra_labels") == [(["hate"], 3, "said at 0:06")]


def test_a_log_out_forgets_drafts_and_warns_of_unsent_labels(page: Page, world: World) -> None:
    world.add_user("mira")
    first, second = world.add_clip(audio=tone(2)), world.add_clip(audio=tone(2))
    page = no_errors(page.context)
    log_in(page)
    open_clip(page, world, first)
    wait(page, "performance.getEntriesByType('resource').filter((e) => e.name.includes('/audio/')).length >= 2")
    page.route("**/desk/*/submit", lambda route: route.abort())
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    shown(page, second)
    note(page, "for nobody else")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_text("One of your labels is not stored yet")).to_be_visible()
    page.unroute("**/desk/*/submit")
    settled(page)
    assert "for nobody else" in page.evaluate("JSON.stringify(localStorage)")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Password")).to_be_visible()
    assert "for nobody else" not in page.evaluate("JSON.stringify(localStorage)")
    assert world.sql(LABELS) == [(["hate"], "")]


def test_a_second_tab_that_is_stale_shows_the_conflict(page: Page, world: World) -> None:
    world.add_user("mira")
    clip = world.add_clip(audio=tone(2))
    other = no_errors(page.context)
    log_in(page)
    open_clip(page, world, clip)
    other.goto(f"/review/{clip}")
    shown(other, clip)
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    settled(page)
    other.keyboard.press("3")
    other.keyboard.press("Enter")
    other.get_by_role("button", name="Compare").click()
    expect(other.get_by_text("Another label for this clip was stored")).to_be_visible()
    assert (other.evaluate(CONTRAST), other.evaluate(NAMELESS)) == ([], [])
    other.get_by_role("button", name=re.compile("^Store the change")).click()
    settled(other)
    assert world.sql(LABELS) == [(["hate"], ""), (["scam"], "")]


@pytest.mark.thorough
def test_a_clip_that_went_to_somebody_else_is_said_and_the_draft_kept(page: Page, world: World) -> None:
    world.add_user("mira")
    world.add_user("jo")
    clip = world.add_clip(audio=tone(2))
    page = no_errors(page.context)
    log_in(page)
    open_clip(page, world, clip)
    note(page, "mine")
    world.sql("UPDATE ra_assignments SET claimed_until = now() - interval '1 s'")
    hold(world.app, "jo", clip)
    page.keyboard.press("Escape")
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    expect(page.get_by_text(f"Somebody else has clip {clip} by now.")).to_be_visible()
    assert world.sql(LABELS) == []
    assert world.sql("SELECT content ->> 'note' FROM ra_drafts") == [("mine",)]


def test_a_draft_and_what_was_heard_reach_the_server(page: Page, world: World) -> None:
    world.add_user("mira")
    clip = world.add_clip(audio=tone(5))
    log_in(page)
    open_clip(page, world, clip)
    page.keyboard.press(" ")
    wait(page, "a.currentTime > 1")
    page.keyboard.press(" ")
    with page.expect_response(lambda answer: answer.url.endswith("/draft")) as kept:
        note(page, "half a thought")
    assert kept.value.status == 200
    page.evaluate("localStorage.clear()")
    page.goto(f"/review/{clip}")
    shown(page, clip)
    expect(page.get_by_text("This is your draft from before")).to_be_visible()
    expect(page.locator("#note")).to_have_value("half a thought")
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    settled(page)
    stored = "SELECT note, heard_ms > 500, active_ms > 500 FROM ra_labels"
    assert world.sql(stored) == [("half a thought", True, True)]


def test_a_lease_that_nears_its_end_is_said_in_time_and_extended(page: Page, world: World) -> None:
    world.add_user("mira")
    world.study(lease_s=300)
    clip = world.add_clip(audio=tone(2))
    page = no_errors(page.context)
    page.clock.install()
    log_in(page)
    hold(world.app, "mira", clip)
    with page.expect_response(lambda answer: answer.url.endswith("/desk/ahead")):
        page.goto(f"/review/{clip}")
        shown(page, clip)
        page.clock.run_for(4000)
    page.route("**/heartbeat", lambda route: route.abort())
    page.clock.run_for(170_000)
    expect(page.get_by_text("is held for you for less than")).to_be_hidden()
    page.clock.run_for(20_000)
    expect(page.get_by_text(f"Clip {clip} is held for you for less than 120 s more.")).to_be_visible()
    page.unroute("**/heartbeat")
    with page.expect_response(lambda answer: answer.url.endswith("/heartbeat")):
        page.get_by_role("button", name="Keep it").click()
    page.clock.run_for(2000)
    expect(page.get_by_text("is held for you for less than")).to_be_hidden()
