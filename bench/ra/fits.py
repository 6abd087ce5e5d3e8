"""Whether the review screen fits on 1280×720 without scrolling: the page, its left part and its right part."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from bench.ra.figures import Figure, none_of
from bench.ra.site import Site, ready
from tests.ra_app.browsing import SCREEN, settled

AREAS = {"page": "document.documentElement", "left": "document.querySelector('.listen')",
         "right": "document.querySelector('.panel')"}  # fmt: skip
DOUBTFUL = 10  # every tenth clip is


def measure(site: Site) -> list[Figure]:
    site.filling.clips(40)
    seen: list[str] = []
    too_tall: list[str] = []
    for theme in ("light", "dark"):
        with site.visitor(color_scheme=theme) as page:

            def look(state: str, page: Page = page, theme: str = theme) -> None:
                seen.append(f"{theme}, {state}")
                too_tall.extend(f"{seen[-1]}: {line}" for line in overflow(page))

            walk(site, page, look)
    size = f"{SCREEN['width']}×{SCREEN['height']}"
    return [none_of(f"parts that scroll at {size}", too_tall, f"{len(seen)} states and themes, 3 parts each")]


def walk(site: Site, page: Page, look: Callable[[str], None]) -> None:
    site.first_clip(page)
    look("a clip")
    page.keyboard.press("t")
    page.keyboard.press("m")
    look("text shown, a marked part")
    page.keyboard.press("Enter")
    look("no label chosen")
    doubtful = site.world.sql("SELECT min(audio_id) FROM ra_assignments WHERE doubtful AND state = 'free'")[0][0]
    site.world.sql(
        "UPDATE ra_assignments SET state = 'open', user_id = 1, opened_at = now(), claimed_until = now() + interval "
        "'10 minutes' WHERE audio_id = %s",
        doubtful,
    )
    page.goto(f"/review/{doubtful}")
    ready(page)
    look("a doubtful clip")
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    settled(page)
    page.goto(f"/review/{doubtful}")
    ready(page)
    look("a stored label")
    page.get_by_role("button", name="Show what the model said").click()
    expect(page.locator(".verdicts")).to_be_visible()
    look("verdicts shown")


def overflow(page: Page) -> list[str]:
    tall = {name: page.evaluate(f"{area}.scrollHeight - {area}.clientHeight") for name, area in AREAS.items()}
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    found = [f"{name} {pixels} px too tall" for name, pixels in tall.items() if pixels > 0]
    return found + ([f"page {wide} px too wide"] if wide > 0 else [])
