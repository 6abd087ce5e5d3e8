"""Two ways through the RA app, from the log-in through some clips to the log-out: by keys alone, and by what a screen
reader is told alone.
"""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.ra_app.browsing import WAIT_MS, settled, wait
from tests.ra_app.world import PASSWORD

FARTHEST = 40  # presses of Tab to any control
READY = "document.querySelector('#desk.live') && a && a.readyState >= 1"


class Keys:
    """Presses keys and counts them. It knows no mouse."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.pressed = 0

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
            self.pressed += 1

    def type(self, text: str) -> None:
        self.page.keyboard.type(text)
        self.pressed += len(text)

    def go_to(self, name: str, by: str = "Tab") -> None:
        """Press Tab until the control of this name has the focus, and see that the focus is painted."""
        for _ in range(FARTHEST):
            self.press(by)
            text, outline = self.page.evaluate(
                "[document.activeElement.textContent.trim(), getComputedStyle(document.activeElement).outlineStyle]"
            )
            if text.startswith(name):
                assert outline != "none", f"one does not see that {name} has the focus"
                return
        raise AssertionError(f"Tab does not lead to {name}")


def by_keyboard(page: Page, clips: int) -> int:
    """Log in, hear and label so many clips, and log out. Return how many keys that took."""
    keys = Keys(page)
    page.goto("/login")
    keys.type("mira")
    keys.press("Tab")
    keys.type(PASSWORD)
    keys.press("Enter")
    heading(page, "Your queue")
    keys.go_to("Start with the first clip")
    keys.press("Enter")
    page.wait_for_url("**/review/*", timeout=WAIT_MS)
    for _ in range(clips):
        wait(page, READY)
        title = page.locator("#clip-title").inner_text()
        keys.press(" ")
        wait(page, "!a.paused && a.currentTime > 0.1")
        keys.press("2", "Enter")
        expect(page.locator("#said")).to_have_text(f"{title} submitted.", timeout=WAIT_MS)
        another(page, title)
    keys.go_to("Log out", by="Shift+Tab")
    settled(page)
    keys.press("Enter")
    heading(page, "Log in")
    return keys.pressed


def by_tree(page: Page, clips: int) -> int:
    """Log in, label so many clips, and log out; find everything by role and name. Return how many steps that took."""
    steps = 0

    def do(control: Locator, key: str = "Enter") -> None:
        nonlocal steps
        control.press(key, timeout=WAIT_MS)
        steps += 1

    page.goto("/login")
    page.get_by_role("textbox", name="User name").fill("mira")
    page.get_by_label("Password").fill(PASSWORD)
    do(page.get_by_role("button", name="Log in"))
    do(page.get_by_role("button", name="Start with the first clip"))
    page.wait_for_url("**/review/*", timeout=WAIT_MS)
    for _ in range(clips):
        wait(page, READY)
        title = page.get_by_role("main").get_by_role("heading", name=re.compile("^Clip ")).inner_text()
        _label(page, do)
        expect(page.get_by_role("status").filter(has_text=f"{title} submitted.")).to_be_visible(timeout=WAIT_MS)
        another(page, title)
    settled(page)
    do(page.get_by_role("button", name="Log out"))
    heading(page, "Log in")
    return steps


def _label(page: Page, do: Any) -> None:
    """Uncover the text, go to the third sentence, mark it, and label the clip."""
    do(page.get_by_role("button", name="Show the text"))
    sentences = page.get_by_role("region", name="Transcript").get_by_role("listitem")
    assert sentences.count() >= 4
    do(page.get_by_role("button", name="Submit"))
    expect(page.get_by_role("alert").filter(has_text="Choose at least one label")).to_be_visible()
    do(sentences.nth(2).get_by_role("button"))
    wait(page, "!a.seeking && a.currentTime >= 6")
    slider = page.get_by_role("slider", name="Position in the clip")
    expect(slider).to_have_attribute("aria-valuetext", "0:06 of 0:30")
    do(slider, "ArrowRight")
    expect(slider).to_have_attribute("aria-valuetext", "0:07 of 0:30")
    assert told(page, "slider", "Position in the clip") == 7
    do(page.get_by_role("button", name="Mark", exact=True))
    marked = page.get_by_role("list", name="Marked parts").get_by_role("button")
    expect(marked).to_have_accessible_name("Remove the marked part from 0:06 to 0:08")
    choice = page.get_by_role("group", name="Label").get_by_role("checkbox", name="Hate speech")
    do(choice, " ")
    expect(choice).to_be_checked()
    do(page.get_by_role("radio", name="High"), " ")
    do(page.get_by_role("button", name="Submit"))


def told(page: Page, role: str, name: str) -> Any:
    """The value of a control in the browser's own accessibility tree, which is what a screen reader gets."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    for node in nodes:
        if [node.get(what, {}).get("value") for what in ("role", "name")] == [role, name]:
            return node["value"]["value"]
    return None


def another(page: Page, title: str) -> None:
    """Wait until another clip is shown. Its title has the focus, so a screen reader says it."""
    following = page.locator("#desk.live h1").filter(has_not_text=re.compile(f"^{title}$"))
    expect(following).to_be_focused(timeout=WAIT_MS)


def heading(page: Page, name: str) -> None:
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible(timeout=WAIT_MS)
