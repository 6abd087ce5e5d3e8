"""Every byte that the app sends during a session of 20 clips, in each mode of a study, searched for verdicts.

The bytes are recorded between gunicorn and nginx. A study whose mode is “assisted” shows verdicts before the label; its
labels are not blind, and that is what is looked at there.
"""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, expect

from bench.ra.figures import Figure, demand, none_of
from bench.ra.site import ADDRESS, Site, door, made, ready
from tests.ra_app.browsing import log_in, settled
from tests.ra_app.profiles import launch, profile
from tests.ra_app.world import POLICY

CLIPS = 20
# The policy, the model and the word for a verdict; the scores of `filling.py`, as they are and in any rounding.
SECRET = re.compile(
    rb"zeta|omega-9|violates|(?<![\d.])0[.,](?:51|513\d*|83|829\d*|98\d*|99|432\d*)(?!\d)"
    rb"|(?<!\d)(?:51|83|98|99)[.,\d]* ?%"
)
IN_SOUND = re.compile(rb"policy-zeta|model-omega")  # a few random bytes may well be a rounded number


class Recorder(socketserver.ThreadingTCPServer):
    """Hands connections on to the app, and keeps what the app answers: one answer per connection."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, behind: str) -> None:
        self.behind = (urlsplit(behind).hostname, urlsplit(behind).port)
        self.answers: list[bytearray] = []
        super().__init__(("127.0.0.1", 0), _Connection)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def leaks(self) -> list[str]:
        """A line for each secret in an answer: what was found, and around what."""
        found = []
        for answer in self.answers:
            head, _, body = bytes(answer).partition(b"\r\n\r\n")
            sound = b"content-type: audio" in head.lower()
            texts = [(SECRET, head), (IN_SOUND if sound else SECRET, body)]
            hits = [(hit, text) for pattern, text in texts for hit in pattern.finditer(text)]
            found += [repr(text[max(0, hit.start() - 40) : hit.end() + 10]) for hit, text in hits]
        return found

    def bytes(self) -> int:
        return sum(map(len, self.answers))


class _Connection(socketserver.BaseRequestHandler):
    server: Recorder
    request: socket.socket

    def handle(self) -> None:
        answer = bytearray()
        self.server.answers.append(answer)
        with socket.create_connection(self.server.behind) as app:
            threading.Thread(target=_copy, args=(self.request, app), daemon=True).start()
            while piece := app.recv(65_536):
                answer += piece
                with suppress(OSError):  # the browser has gone on
                    self.request.sendall(piece)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):  # the answer is there, and the connection is closed
        while piece := source.recv(65_536):
            target.sendall(piece)


@contextmanager
def recorded(site: Site) -> Iterator[tuple[Recorder, Browser]]:
    with Recorder(site.behind) as recorder:
        threading.Thread(target=recorder.serve_forever, daemon=True).start()
        with door(recorder.address, made(site.folder / "recorded")) as flags:
            browser = launch(site.browser.browser_type, site.chromium, *flags)
            yield recorder, browser
            browser.close()
        recorder.shutdown()


def measure(site: Site) -> list[Figure]:
    with recorded(site) as (recorder, browser):
        return [session(site, recorder, browser, mode) for mode in ("blind", "reveal", "assisted")]


def session(site: Site, recorder: Recorder, browser: Browser, mode: str) -> Figure:
    site.filling.clips(CLIPS + 10)
    site.world.study(mode=mode)
    recorder.answers.clear()
    with profile(browser, ADDRESS, strict=False) as page:  # a draft may come after its label: 409
        log_in(page)
        site.first_clip(page)
        clips = [review(page) for _ in range(CLIPS)]
        settled(page)  # a clip whose label is still on its way is not shown again
        for path in ("/", "/?show=done", "/me", "/me?q=hate", "/account"):
            page.goto(path)
        found, size = recorder.leaks(), f"{recorder.bytes() / 1e6:.1f} MB, {len(recorder.answers)} answers"
        shown = reveal(page, clips[-1]) if mode == "reveal" else False
    demand(not shown or bool(recorder.leaks()), "the scan does not see what is revealed")
    blind = site.world.sql("SELECT count(*) FILTER (WHERE blind), count(*) FROM ra_labels")[0]
    if mode == "assisted":
        return Figure(
            "labels that an assisted study calls blind", "0", f"{blind[0]} of {blind[1]}", blind == (0, CLIPS)
        )
    demand(blind == (CLIPS, CLIPS), f"{blind[0]} of {blind[1]} labels are blind")
    if clips != sorted(clips):
        found.append(f"the order of clips: {clips}")
    return none_of(f"verdicts sent before a blind label, mode {mode}", found, f"{CLIPS} clips, {size}")


def review(page: Page) -> int:
    """Read, hear and label the clip that is shown. Sound from the middle: what was heard is sent as seconds, too."""
    ready(page)
    clip = int(page.locator("#desk").get_attribute("data-clip") or 0)
    page.keyboard.press("t")
    page.locator(".segment").nth(4).press("Enter")
    page.keyboard.press("m")
    page.keyboard.press("2")
    page.locator("#clip-title").focus()
    page.keyboard.press(" ")
    page.wait_for_timeout(150)
    page.keyboard.press("Enter")
    expect(page.locator(f"#desk[data-clip='{clip}']")).to_have_count(0)
    return clip


def reveal(page: Page, clip: int) -> bool:
    page.goto(f"/review/{clip}")
    ready(page)
    settled(page)
    page.get_by_role("button", name="Show what the model said").click()
    expect(page.get_by_text(POLICY)).to_be_visible()
    return True
