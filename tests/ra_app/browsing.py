"""Helpers for the tests in a real browser: logging in, opening a clip, waiting, and what every page must hold."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page, expect

from tests.ra_app.world import PASSWORD, World, hold

SCREEN = {"width": 1280, "height": 720}
WAIT_MS = 30_000  # generous: the machine may be busy
PLAYER = "document.querySelector('#player')"
DOUBTS = ["few-words", "uncovered-speech", "unclear-language"]
TYPICAL = [{"start": 3.0 * n, "end": 3.0 * n + 2.9, "text": f"Sentence number {n} of a clip."} for n in range(10)]

# Every text on the page against what is painted behind it, by the formula of WCAG 2.
CONTRAST = """() => {
  const rgb = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = rgb(getComputedStyle(e).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return rgb(getComputedStyle(document.body).backgroundColor);
  };
  const weak = [];
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility()) continue;
    const [a, b] = [light(rgb(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) weak.push(`${ratio.toFixed(2)} ${element.tagName} ${element.textContent.trim().slice(0, 30)}`);
  }
  return weak;
}"""

# Form fields and buttons that a screen reader could not name.
NAMELESS = """() => [...document.querySelectorAll("input:not([type=hidden]), textarea, button, a, audio, progress")]
  .filter((e) => e.checkVisibility())
  .filter((e) => !(e.labels?.length || e.getAttribute("aria-label") || e.getAttribute("aria-labelledby")
                   || e.textContent.trim()))
  .map((e) => e.outerHTML.slice(0, 120))"""


def log_in(page: Page, username: str = "mira") -> None:
    page.goto("/")
    page.get_by_label("User name").fill(username)
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Your queue")).to_be_visible()


def audio(page: Page, what: str) -> Any:
    return page.evaluate(f"{PLAYER}.{what}")


def wait(page: Page, condition: str) -> None:
    """Wait until something holds. One evaluation, not Playwright's polling: that one calls eval(), which the page's
    content security policy forbids. `a` is the player.
    """
    page.evaluate(f"""() => new Promise((done, fail) => {{
      const look = setInterval(() => {{
        const a = {PLAYER};
        if ({condition}) {{ clearInterval(look); done(); }}
      }}, 20);
      setTimeout(() => fail(new Error({condition!r} + " did not come true; at " + {PLAYER}?.currentTime)), {WAIT_MS});
    }})""")


def open_clip(page: Page, world: World, clip: int, username: str = "mira") -> None:
    """Let the person hold the clip and open it; its script runs and its audio can be played."""
    hold(world.app, username, clip)
    page.goto(f"/review/{clip}")
    shown(page, clip)
    wait(page, "a.readyState >= 2 && a.duration > 1")


def shown(page: Page, clip: int) -> None:
    """Wait until the screen shows this clip and its script runs."""
    expect(page.locator(f"#desk.live[data-clip='{clip}']")).to_be_visible(timeout=WAIT_MS)


def settled(page: Page) -> None:
    """Wait until the server has every label, and the page has what comes next."""
    wait(page, "!Object.keys(localStorage).some((name) => name.startsWith('unsent:'))")


def chosen(page: Page) -> list[str]:
    codes: list[str] = page.locator("input[name=label]:checked").evaluate_all("boxes => boxes.map(box => box.value)")
    return codes
