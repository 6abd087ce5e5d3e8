"""A Chromium and its profiles, for programs outside of pytest and for pages that are not there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserType, Page, sync_playwright

from tests.ra_app.browsing import SCREEN, WAIT_MS


@contextmanager
def chromium(path: str, *flags: str) -> Iterator[Browser]:
    """Run a Chromium until the block ends."""
    with sync_playwright() as playwright:
        running = launch(playwright.chromium, path, *flags)
        yield running
        running.close()


def launch(kind: BrowserType, path: str, *flags: str) -> Browser:
    """Start a Chromium. Sound needs an act of the user, as in a reviewer's own browser."""
    given = ["--disable-background-networking", "--autoplay-policy=user-gesture-required", *flags]
    if os.geteuid() == 0:
        given.append("--no-sandbox")  # Chromium's sandbox does not start as root
    return kind.launch(executable_path=path, args=given)


@contextmanager
def profile(browser: Browser, address: str, *, strict: bool = True, **options: Any) -> Iterator[Page]:
    """A page in a new browser profile. If `strict`, errors of the page fail the block, but not a missing clip."""
    context = browser.new_context(viewport=SCREEN, base_url=address, **options)
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    yield page
    context.close()
    left = [line for line in complaints if strict and not re.search("status of 40[49]", line)]
    assert left == [], f"the page complains: {left[:3]}"
