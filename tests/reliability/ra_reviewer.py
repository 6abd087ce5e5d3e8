"""A reviewer in a real Chromium, who keeps a record of what they did and checks it against what they see.

The record has each submitted form by its key, and what a clip's form last held. A form that shows less than that when
its clip is opened again has lost a draft.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Error, Page, Playwright

from tests.ra_app.world import PASSWORD

NAME = "mira"
SCREEN = {"width": 1280, "height": 720}
PATIENCE_S = 90.0  # generous: the machine may be busy
SETTLED_MS = 100  # what was typed this long before a fault counts
WORDS = ("said", "at", "the", "start", "quietly", "then", "again", "louder", "about", "money", "a", "name", "nobody")
COMING, NO_MORE = "The next clip is being fetched …", "You have no more clips to label. Thank you!"

LOOK = """() => {
  const form = document.getElementById('label-form'), desk = document.getElementById('desk');
  const data = form && new FormData(form);
  let unsent = null;
  try { unsent = Object.keys(localStorage).filter((name) => name.startsWith('unsent:')).length; } catch {}
  const undo = document.getElementById('undo');
  return {
    page: document.querySelector('input[name=password]') ? 'log-in' : form ? 'clip'
      : document.querySelector('.progress-card') ? 'queue' : desk?.querySelector('h1')?.textContent ?? document.title,
    live: Boolean(desk?.matches('.live')), unsent, bar: document.getElementById('bar')?.textContent ?? '',
    undo: Boolean(undo && !undo.hidden),
    clip: form && Number(form.dataset.clip), key: data?.get('submission_key') ?? '',
    form: form && { labels: data.getAll('label'), confidence: Number(data.get('confidence')) || null,
      note: data.get('note').replaceAll('\\r\\n', '\\n').trim(), spans: JSON.parse(data.get('spans') || '[]') },
  };
}"""
EMPTY: dict[str, Any] = {"labels": [], "confidence": None, "note": "", "spans": []}

Form = dict[str, Any]


@dataclass
class Record:
    """What the reviewer did, and what went wrong."""

    submitted: dict[str, tuple[int, Form]] = field(default_factory=dict)  # by the form's key, in order
    stale: set[str] = field(default_factory=set)  # keys of forms of a tab that was behind: not to be stored
    unfinished: dict[int, Form] = field(default_factory=dict)  # by clip: chosen and typed, not submitted
    passed: set[int] = field(default_factory=set)
    acts: Counter[str] = field(default_factory=Counter)
    checked: int = 0  # forms that were compared with the record when a clip was opened
    faults: list[str] = field(default_factory=list)  # the kinds, in order
    problems: list[str] = field(default_factory=list)

    def problem(self, what: str) -> None:
        self.problems.append(f"{what} (after fault {len(self.faults)}: {', '.join(self.faults[-3:])})")

    def expected(self, clip: int) -> Form:
        """What the clip's form must hold: the unfinished content, else the newest label."""
        if clip in self.unfinished:
            return self.unfinished[clip]
        labels = [form for key, (of, form) in self.submitted.items() if of == clip and key not in self.stale]
        return labels[-1] if labels else EMPTY


class Reviewer:
    """`mend` ends faults that last: without it a page could not be loaded."""

    def __init__(
        self,
        playwright: Playwright,
        chromium: str,
        profile: Path,
        address: str,
        rng: random.Random,
        mend: Callable[[], None],
    ) -> None:
        self.playwright, self.chromium, self.profile = playwright, chromium, profile
        self.address, self.rng, self.mend = address, rng, mend
        self.record = Record()
        self.shown: int | None = None
        self.giving: tuple[str, int, Form] | None = None  # the form that is being submitted
        self.context: BrowserContext
        self.page: Page
        self.launch()

    # --- the browser

    def launch(self) -> None:
        """Start the browser on its profile, which holds what earlier ones have stored."""
        flags = ["--disable-background-networking"]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")  # Chromium's sandbox does not start as root
        self.context = self.playwright.chromium.launch_persistent_context(
            self.profile, executable_path=self.chromium, args=flags, viewport=SCREEN, base_url=self.address
        )
        self.context.set_default_timeout(PATIENCE_S * 1000)
        self.page = self.opened(self.context.pages[0] if self.context.pages else self.context.new_page())

    def opened(self, page: Page) -> Page:
        page.on("dialog", lambda dialog: dialog.accept())  # leaving with unsent labels asks
        page.on("pageerror", lambda error: self.record.problem(f"error of the page: {error}"))
        self.shown = None
        return page

    def tab(self) -> Page:
        return self.opened(self.context.new_page())

    def kill_browser(self) -> None:
        """Kill the browser's main process at once (SIGKILL), and start it on the same profile."""
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                line = (process / "cmdline").read_bytes()
                if f"--user-data-dir={self.profile}".encode() in line and b"--type=" not in line:
                    os.kill(int(process.name), signal.SIGKILL)
        with contextlib.suppress(Error):
            self.page.wait_for_timeout(10_000)  # until the driver notices
        with contextlib.suppress(Error):
            self.context.close()
        self.launch()

    # --- looking

    def look(self) -> dict[str, Any]:
        """Return what the page shows. While another page is loaded, it tries again."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                seen: dict[str, Any] = self.page.evaluate(LOOK)
            except Error as error:
                if time.monotonic() > deadline or "closed" in str(error) or "crashed" in str(error):
                    raise
                self.page.wait_for_timeout(20)
            else:
                return seen

    def until(self, holds: Callable[[dict[str, Any]], bool], within_s: float = PATIENCE_S) -> dict[str, Any] | None:
        deadline = time.monotonic() + within_s
        while not holds(seen := self.look()):
            if time.monotonic() > deadline:
                return None
            self.page.wait_for_timeout(15)
        return seen

    def ready(self) -> dict[str, Any]:
        """Go where a clip can be labelled, as a reviewer would, and compare its form with the record."""
        began = time.monotonic()
        while time.monotonic() < began + PATIENCE_S:
            seen = self.look()
            if "Log in again" in seen["bar"]:
                self.mend()
                self.page.locator("#bar").get_by_role("link", name="Log in again").click()
                self.until(lambda now: now["page"] in {"log-in", "queue"} or now["live"], 10)
            elif seen["page"] == "clip" and seen["live"]:
                return self.compared(seen)
            else:
                self.advance(seen, time.monotonic() - began)
        raise RuntimeError(f"no clip in {PATIENCE_S:.0f} s: {self.page.url} {self.look()}")

    def advance(self, seen: dict[str, Any], waited_s: float) -> None:
        page = self.page
        if seen["page"] == "log-in":
            self.mend()
            page.get_by_label("User name").fill(NAME)
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_label("Password").press("Enter")
            self.until(lambda now: now["page"] != "log-in", 10)
        elif seen["page"] == "queue":
            self.mend()
            page.locator(".progress-card button").click()
            self.until(lambda now: now["page"] != "queue", 10)
        elif seen["page"] == NO_MORE:
            page.get_by_role("button", name="Look for new clips").click()
            page.wait_for_timeout(100)
        elif (
            seen["page"] in {COMING, "clip"} and waited_s < PATIENCE_S / 3
        ):  # the script is not there yet, or the next clip
            if waited_s > 0.5:
                self.mend()
            page.wait_for_timeout(20)
        else:  # an error page, for example
            if seen["page"] == COMING:
                self.record.problem("the next clip did not come; the page had to be loaded again")
            self.go("/")

    def go(self, path: str) -> None:
        self.mend()
        with contextlib.suppress(Error):  # a navigation that another one has ended
            self.page.goto(path)

    def compared(self, seen: dict[str, Any]) -> dict[str, Any]:
        """Compare the form with the record: each time, and not only when the clip is opened."""
        clip = seen["clip"]
        wanted = self.record.expected(clip)
        self.record.checked += clip != self.shown
        self.shown = clip
        if seen["form"] != wanted:
            self.record.problem(f"draft lost: clip {clip} shows {seen['form']} instead of {wanted}")
            self.record.unfinished[clip] = seen["form"]
        return seen

    # --- acting

    def act(self, what: str | None = None) -> None:
        acts: dict[str, tuple[Callable[..., None], int]] = {
            "label": (self.label, 30), "note": (self.note, 25), "mark": (self.mark, 12),
            "confidence": (self.confidence, 6), "submit": (self.submit, 32), "undo": (self.undo, 6),
            "set aside": (self.decline, 4), "pass": (self.decline, 3),
        }  # fmt: skip
        what = what or self.rng.choices(list(acts), [weight for _, weight in acts.values()])[0]
        seen = self.ready()
        self.record.acts[what] += 1
        doing = acts[what][0]
        if doing == self.decline:
            self.decline(seen, what)
        else:
            doing(seen)

    def edited(self, before: dict[str, Any]) -> None:
        """Record what the form holds after a change."""
        now = self.look()
        if now["clip"] != before["clip"]:
            if now["page"] != "clip":
                return
            self.record.problem(f"clip {before['clip']} gave way to {now['clip']} without the reviewer's act")
        elif now["form"] != before["form"]:
            self.record.unfinished[now["clip"]] = now["form"]

    def label(self, seen: dict[str, Any]) -> None:
        self.page.keyboard.press(self.rng.choice("0123345u"))
        self.edited(seen)

    def confidence(self, seen: dict[str, Any]) -> None:
        self.page.keyboard.press("c")
        self.edited(seen)

    def note(self, seen: dict[str, Any]) -> None:
        self.page.keyboard.press("n")
        self.page.keyboard.press("Control+End")
        self.page.keyboard.type(f" {self.rng.choice(WORDS)}")
        self.edited(seen)
        self.page.keyboard.press("Escape")

    def mark(self, seen: dict[str, Any]) -> None:
        for _ in range(self.rng.randint(0, 2)):
            self.page.keyboard.press("j")
        self.page.keyboard.press("m")
        self.edited(seen)

    def chosen(self, seen: dict[str, Any]) -> dict[str, Any]:
        """Choose a label if none is chosen: without one nothing is submitted."""
        if not seen["form"]["labels"]:
            self.page.keyboard.press(self.rng.choice("012345u"))
            self.edited(seen)
        return self.look()

    def submit(self, seen: dict[str, Any]) -> None:
        seen = self.chosen(seen)
        self.giving = (seen["key"], seen["clip"], seen["form"])
        self.page.keyboard.press("Enter")
        taken = self.until(lambda now: now["key"] != seen["key"], 20)
        self.giving = None
        if taken is None:
            self.record.problem(f"clip {seen['clip']} was not taken: {self.look()}")
            return
        self.record.submitted[seen["key"]] = (seen["clip"], seen["form"])
        self.record.unfinished.pop(seen["clip"], None)
        self.shown = None

    def decline(self, seen: dict[str, Any], what: str) -> None:
        self.page.keyboard.press("s" if what == "set aside" else "p")
        gone = self.until(lambda now: now["key"] != seen["key"], 2)
        if gone is not None and what == "pass":
            self.record.passed.add(seen["clip"])
        self.shown = None if gone is not None else self.shown  # a clip with a label is not given back

    def undo(self, seen: dict[str, Any]) -> None:
        if not seen["undo"]:
            return
        self.page.keyboard.press("z")
        self.page.wait_for_timeout(self.rng.randint(0, 300))
        self.mend()

        def over(now: dict[str, Any]) -> bool:
            return now["key"] != seen["key"] or any(
                words in now["bar"]
                for words in ("still on its way", "could not be opened", "Somebody else", "Log in again")
            )

        if (now := self.until(over, 40)) is None:
            self.record.problem(f"an undo had no end: {self.look()}")
        elif now["clip"] is not None:
            self.record.passed.discard(now["clip"])
            self.shown = None

    # --- the end

    def settle(self) -> None:
        """Wait, with a network, until every label is on the server."""
        self.mend()
        self.ready()
        if self.until(lambda now: now["unsent"] == 0 or "Log in again" in now["bar"]) is None:
            self.record.problem(f"labels do not leave the browser: {self.look()}")
        if "Log in again" in self.look()["bar"]:
            self.ready()
            self.until(lambda now: now["unsent"] == 0)
