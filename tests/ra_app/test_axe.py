"""axe finds nothing on any page of the RA app, in the light theme and in the dark one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask
from playwright.sync_api import Browser, Page

from tests.ra_app.axe import (
    CONTRAST,
    PAGES,
    STRANGERS,
    WITHOUT_PAGE,
    Places,
    findings,
    furnish,
    in_both_themes,
    routes,
    without_a_provider,
)
from tests.ra_app.browsing import log_in, shown
from tests.ra_app.profiles import profile
from tests.ra_app.world import World, hold


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """Without the complaints of `conftest.py`: some of the pages are those of missing addresses."""
    with profile(browser, address) as opened:
        yield opened


def test_every_route_with_a_page_is_known_here(app: Flask) -> None:
    assert routes(app) == PAGES.keys() | WITHOUT_PAGE


def test_axe_finds_what_is_wrong(page: Page) -> None:
    """The page's own content security policy does not keep axe from looking."""
    page.goto("/login")
    assert findings(page) == []
    page.evaluate("document.querySelector('label[for=username]').remove()")
    assert [line.split(": ")[1] for line in findings(page)] == ["label"]


def test_axe_finds_nothing_on_any_page(page: Page, world: World) -> None:
    """The first address of each route; the others are looked at by the next test."""
    places = furnish(world)
    found = _on_pages(page, world, places, slice(0, 1))
    page.goto(f"/review/{places.held}")
    shown(page, places.held)
    page.keyboard.press("Enter")  # the problem in line
    found += in_both_themes(page, dark=CONTRAST)
    page.keyboard.press("?")
    found += in_both_themes(page, dark=CONTRAST)
    page.keyboard.press("Escape")
    page.evaluate("document.querySelector('#pause').showModal()")
    found += in_both_themes(page, dark=CONTRAST)
    found += _at_a_clip_that_went_to_somebody_else(page, world, places.other)
    assert found == []


@pytest.mark.thorough
def test_axe_finds_nothing_on_other_states_of_the_pages(page: Page, world: World) -> None:
    assert _on_pages(page, world, furnish(world), slice(1, None)) == []


def _on_pages(page: Page, world: World, places: Places, which: slice) -> list[str]:
    without_a_provider(page, world.app)
    found = []
    for endpoint in sorted(STRANGERS):
        found += [line for path in places.addresses(endpoint)[which] for line in _at(page, path)]
    log_in(page)
    for endpoint in sorted(PAGES.keys() - STRANGERS):
        found += [line for path in places.addresses(endpoint)[which] for line in _at(page, path)]
    return found


def _at_a_clip_that_went_to_somebody_else(page: Page, world: World, clip: int) -> list[str]:
    for person in ("jo", "mira"):
        world.sql("UPDATE ra_assignments SET claimed_until = now() - interval '1 s' WHERE audio_id = %s", clip)
        hold(world.app, person, clip)
    page.context.clear_cookies()
    log_in(page, "jo")
    found = _at(page, f"/review/{clip}")
    assert "You do not hold clip" in page.content()
    return found


def _at(page: Page, path: str) -> list[str]:
    page.goto(path)
    return list(in_both_themes(page, dark=CONTRAST))
