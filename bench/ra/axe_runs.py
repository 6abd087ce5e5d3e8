"""axe-core on every page of the app and on what can open on it: dialogs, messages, problems; each in both themes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from playwright.sync_api import Page, expect

from bench.ra.figures import Figure, none_of
from bench.ra.site import ADDRESS, Site, ready
from tests.ra_app.axe import PAGES, STRANGERS, WITHOUT_PAGE, Places, furnish, in_both_themes, routes, without_a_provider
from tests.ra_app.browsing import log_in, settled, shown
from tests.ra_app.profiles import profile
from tests.ra_app.world import tone


def measure(site: Site) -> list[Figure]:
    site.world.empty()
    places = furnish(site.world)
    for _ in range(4):
        site.world.add_clip(audio=tone(2))
    unknown = routes(site.app) - PAGES.keys() - WITHOUT_PAGE
    found = [f"{endpoint}: no address is known" for endpoint in unknown]
    states = 0
    with profile(site.browser, ADDRESS, strict=False) as page:
        without_a_provider(page, site.app)
        for _ in (*pages(page, places), *problems(page, places), *screen(page, site, places), *fallbacks(page, places)):
            found += in_both_themes(page)
            states += 1
    return [none_of("axe findings, WCAG 2.0–2.2 A and AA", found, f"{states} pages and states in 2 themes")]


def pages(page: Page, places: Places) -> Iterator[None]:
    """Open every route that has a page; at the end somebody is logged in."""
    for endpoint in sorted(STRANGERS):
        yield from opened(page, places.addresses(endpoint))
    log_in(page)
    for endpoint in sorted(PAGES.keys() - STRANGERS):
        yield from opened(page, places.addresses(endpoint))


def opened(page: Page, addresses: list[str]) -> Iterator[None]:
    for address in addresses:
        page.goto(address)
        yield


def problems(page: Page, places: Places) -> Iterator[None]:
    """Open what follows on forms: problems, a link that is shown once, a message."""
    page.goto("/account")
    for field in ("Current password", "New password", "New password again"):
        page.get_by_label(field, exact=True).fill("not the password")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    yield
    page.goto("/people")
    page.get_by_label("User name").fill("no name!")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    yield
    page.goto(f"/people/{places.person}")
    page.get_by_role("button", name="Make a link").click()
    expect(page.locator(".link-text")).to_be_visible()
    yield
    page.goto(f"/people/{places.person}")
    page.get_by_role("button", name="Close the account").click()
    expect(page.get_by_role("status").filter(has_text="closed")).to_be_visible()
    yield


def screen(page: Page, site: Site, places: Places) -> Iterator[None]:
    """Walk through the states of the review screen."""
    page.goto(f"/review/{places.held}")
    shown(page, places.held)
    ready(page)
    page.keyboard.press("Enter")  # the problem in line
    yield
    page.keyboard.press("t")
    page.keyboard.press("m")
    page.keyboard.press(" ")
    expect(page.locator(".segment[aria-current]")).to_be_visible()
    yield  # the text, a lit sentence, a marked part
    page.keyboard.press("?")
    yield
    page.get_by_role("button", name=re.compile("change the key for: slower")).click()
    page.keyboard.press("2")  # taken
    yield
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Close", exact=True).click()
    page.keyboard.press("Escape")  # covered
    yield
    page.context.set_offline(True)
    page.keyboard.press("2")
    page.keyboard.press("Enter")  # the question that belongs to this label is not answered
    yield
    page.keyboard.press("w")
    page.keyboard.press("Enter")
    expect(page.locator("#bar .notice")).to_be_visible()
    yield
    page.context.set_offline(False)
    page.locator("#bar button").first.click()
    settled(page)
    site.world.sql("UPDATE ra_users SET session_epoch = session_epoch + 1 WHERE username = 'mira'")
    page.keyboard.press("z")
    expect(page.locator("#bar .notice").filter(has_text="session")).to_be_visible()
    yield
    log_in(page)
    yield from conflict(page, places)
    page.goto("/")
    page.get_by_role("button", name="Next clip").click()
    page.wait_for_url("**/review/*")
    end = page.get_by_role("heading", name="no more clips")
    while not end.count():
        if page.locator("#desk.live").count():
            page.keyboard.press("0")
            page.keyboard.press("Enter")
        page.wait_for_timeout(300)
    yield


def conflict(page: Page, places: Places) -> Iterator[None]:
    page.goto(f"/review/{places.held}")
    shown(page, places.held)
    other = page.context.new_page()
    other.goto(f"/review/{places.held}")
    shown(other, places.held)
    for tab, key in ((other, "3"), (page, "4")):
        tab.bring_to_front()
        tab.keyboard.press(key)
        tab.keyboard.press("Enter")
        settled(tab)
    expect(page.locator("#bar .notice").filter(has_text="another label")).to_be_visible()
    yield
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".conflict")).to_be_visible()
    yield
    other.close()


def fallbacks(page: Page, places: Places) -> Iterator[None]:
    """Open the review screen without its script."""
    page.route("**/scripts/**", lambda route: route.abort())
    page.goto(f"/review/{places.labelled}")
    expect(page.locator("#unloaded")).to_be_visible()
    yield
    page.unroute("**/scripts/**")
