"""What the browser keeps until the server has it: it is shown again, and neither too old nor too late."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.ra_app.browsing import log_in, open_clip, settled, shown, wait
from tests.ra_app.world import World, hold, tone

ON_DISK = """() => new Promise((done, fail) => {
  const asked = indexedDB.open("work", 1);
  asked.onupgradeneeded = () => fail(new Error("the page has made no database"));
  asked.onsuccess = () => {
    const names = asked.result.transaction("kept").objectStore("kept").getAllKeys();
    names.onsuccess = () => { asked.result.close(); done(names.result.map((name) => name.split(":")[0])); };
  };
})"""


def offline_after(page: Page, world: World, clip: int) -> Page:
    """A page whose complaints count for nothing, at this clip; no draft and no label reaches the server any more."""
    page = page.context.new_page()
    log_in(page)
    open_clip(page, world, clip)
    wait(page, "performance.getEntriesByType('resource').filter((e) => e.name.includes('/audio/')).length >= 2")
    page.context.route("**/draft", lambda route: route.abort())
    page.context.route("**/desk/*/submit", lambda route: route.abort())
    return page


def test_a_clip_whose_label_is_still_to_be_sent_is_not_shown_again(page: Page, world: World) -> None:
    world.add_user("mira")
    first, second = world.add_clip(audio=tone(2)), world.add_clip(audio=tone(2))
    tab = offline_after(page, world, first)
    tab.keyboard.press("2")
    tab.keyboard.press("Enter")
    shown(tab, second)
    tab.close()
    later = page.context.new_page()
    later.goto(f"/review/{first}")
    expect(later.get_by_text("The next clip is being fetched")).to_be_visible()
    later.context.unroute("**/desk/*/submit")
    shown(later, second)
    assert world.sql("SELECT labels FROM ra_labels") == [(["hate"],)]


def test_a_draft_of_this_browser_is_newer_than_one_that_arrived_late(page: Page, world: World) -> None:
    world.add_user("mira")
    clip = world.add_clip(audio=tone(2))
    tab = page.context.new_page()
    log_in(tab)
    hold(world.app, "mira", clip)
    tab.goto(f"/review/{clip}")
    shown(tab, clip)
    with tab.expect_response("**/draft"):
        tab.locator("#note").fill("half a thought")
    tab.context.route("**/draft", lambda route: route.abort())
    tab.locator("#note").fill("a whole thought")
    world.sql("UPDATE ra_drafts SET updated_at = now() + interval '1 minute'")
    tab.reload()
    shown(tab, clip)
    expect(tab.locator("#note")).to_have_value("a whole thought")


def test_what_local_storage_has_lost_comes_back_from_the_disk(page: Page, world: World) -> None:
    world.add_user("mira")
    first, second = world.add_clip(audio=tone(2)), world.add_clip(audio=tone(2))
    tab = offline_after(page, world, first)
    tab.keyboard.press("2")
    tab.keyboard.press("Enter")
    shown(tab, second)
    tab.locator("#note").fill("half a thought")
    tab.evaluate("localStorage.clear()")  # as after a browser that was killed
    tab.context.unroute("**/desk/*/submit")
    tab.reload()
    shown(tab, second)
    settled(tab)
    expect(tab.locator("#note")).to_have_value("half a thought")
    assert world.sql("SELECT labels FROM ra_labels") == [(["hate"],)]


def test_after_the_log_out_no_draft_is_on_the_disk(page: Page, world: World) -> None:
    world.add_user("mira")
    clip = world.add_clip(audio=tone(2))
    for leaves_from in (None, "/me"):
        tab = page.context.new_page()
        log_in(tab)
        hold(world.app, "mira", clip)
        tab.goto(f"/review/{clip}")
        shown(tab, clip)
        tab.locator("#note").fill(f"for nobody else {leaves_from}")
        assert tab.evaluate(ON_DISK) == ["draft"]
        if leaves_from:
            tab.goto(leaves_from)
        tab.get_by_role("button", name="Log out").click()
        expect(tab.get_by_label("Password")).to_be_visible()
        assert tab.evaluate(ON_DISK) == []
        tab.close()


def test_a_screen_without_a_clip_goes_on_when_another_tab_has_sent_the_label(page: Page, world: World) -> None:
    world.add_user("mira")
    first, second = world.add_clip(audio=tone(2)), world.add_clip(audio=tone(2))
    tab = offline_after(page, world, first)
    tab.keyboard.press("2")
    tab.keyboard.press("Enter")
    shown(tab, second)
    tab.close()
    later = page.context.new_page()
    later.goto(f"/review/{first}")
    expect(later.get_by_text("not stored yet")).to_be_visible()
    later.evaluate("for (const name in localStorage) if (name.startsWith('unsent:')) localStorage.removeItem(name)")
    later.get_by_role("button", name="Try now").click()
    expect(later.locator("#desk.live")).to_be_visible()
