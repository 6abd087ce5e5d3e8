"""How many keys a verdict takes without a mouse: counted in the page, and looked up in the database."""

from __future__ import annotations

import time
from typing import Any

from playwright.sync_api import Page

from bench.ra.figures import Figure
from bench.ra.site import Site, ready
from tests.ra_app.browsing import wait

CLIPS = 5  # of each kind
PATIENCE_S = 30
COUNT = """() => {
  window.pressed = 0;
  addEventListener("keydown", () => { window.pressed += 1; }, true);
}"""


def measure(site: Site) -> list[Figure]:
    site.filling.clips(50)
    with site.visitor() as page:
        site.first_clip(page)
        page.evaluate(COUNT)
        plain = [label(site, page, "2", "Enter") for _ in range(CLIPS)]
        part = [with_a_part(site, page) for _ in range(CLIPS)]
        page.keyboard.press("?")
        page.get_by_role("checkbox", name="submits at once").press(" ")
        page.keyboard.press("Escape")
        at_once = [label(site, page, "0") for _ in range(CLIPS)]
    return [
        line("keys per verdict", 2, plain, ["hate"]),
        line("keys per verdict, by the choice “submits at once”", 1, at_once, ["no_violation"]),
        line("keys per verdict with a marked part", 3, part, ["hate"], spans=1),
    ]


def label(site: Site, page: Page, *keys: str) -> tuple[int, tuple[Any, ...]]:
    """Press these keys on the clip that is shown. Return how many the page got, and what is stored."""
    ready(page)
    clip = page.locator("#desk").get_attribute("data-clip")
    page.evaluate("window.pressed = 0")
    for key in keys:
        page.keyboard.press(key)
    pressed = int(page.evaluate("window.pressed"))
    until = time.monotonic() + PATIENCE_S
    query = (
        "SELECT l.labels, l.spans FROM ra_labels l JOIN ra_assignments a USING (assignment_id) WHERE a.audio_id = %s"
    )
    while not (stored := site.world.sql(query, clip)):
        if time.monotonic() > until:
            raise TimeoutError(f"the label of clip {clip} was not stored")
        time.sleep(0.02)
    wait(page, f"document.querySelector('#desk').dataset.clip !== '{clip}'")
    return pressed, stored[0]


def with_a_part(site: Site, page: Page) -> tuple[int, tuple[Any, ...]]:
    """Mark the second sentence while it plays; listening itself is not counted."""
    ready(page)
    page.keyboard.press("j")
    wait(page, "!a.seeking && a.currentTime >= 3")
    page.keyboard.press(" ")
    wait(page, "!a.paused && a.currentTime > 3.2")
    return label(site, page, "m", "2", "Enter")


def line(name: str, target: int, made: list[tuple[int, tuple[Any, ...]]], labels: list[str], spans: int = 0) -> Figure:
    most = max(pressed for pressed, _ in made)
    stored = all(found[0] == labels and len(found[1]) == spans for _, found in made)
    figure = f"{most}, {len(made)} clips" if stored else "what was stored is not what was chosen"
    return Figure(name, f"{target}" if target < 3 else f"≤ {target}", figure, stored and most <= target)
