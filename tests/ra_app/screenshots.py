"""Makes the pictures of the RA app in docs/ra-guide.md: `python -m tests.ra_app.screenshots`, or `make screenshots`.

The app runs as it is deployed, on sample clips whose speech is invented. The pipeline converts and measures them; the
times of sentences and words are spread over the clip by their length.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from local.demo_browser import HOW, find_chromium
from local.samples.archive import CLIPS, load_manifest
from local.services import Services
from media.audio import convert_to_opus
from tests.ra_app.browsing import SCREEN, log_in, open_clip, wait
from tests.ra_app.world import Visitor
from tests.reliability.ra_site import Site

DOCS = Path(__file__).resolve().parents[2] / "docs"
MOST_BYTES = 150_000
COLORS = 96
NAME = "mira"
FIRST_CLIP = 4071
FIRST_S = 0.3  # the silence before the first word
LONGEST_CLIP_S = 600.0
DAYS = {1: 31, 2: 28, 5: 35, 6: 22}  # labels of earlier days
OFFER, MARKET = "coinwave.max_7518832018.mp3", "día de mercado – señora Brícolé.mp3"
DOUBTS = {"finding": "doubtful", "reasons": ["unclear-language"]}
DOUBTFUL = {**DOUBTS, "windows": json.dumps([{"start": 0.0, "end": 9.5, **DOUBTS}])}
WAITING = 80  # further clips
FURTHER = ("liftwithmarcus_7518834008.mp3", "maplecreditunion_7518834319.mp3", "bakery.on.main_7518835480.mp3")
MARKET_IN_ENGLISH = (
    "Good morning, everybody. Today is market day in our village, and I came very early with my daughter. The tomatoes"
    " are very cheap this week, and the oranges smell wonderful. We are going to buy bread, cheese and a little fish"
    " for supper. My grandmother always said that the best fruit is found before nine in the morning."
)


class Samples:
    """Puts sample clips into the database and the bucket, as the pipeline would."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.world = site.world
        self.folder = folder
        self.manifest = {clip.file: clip for clip in load_manifest()}

    def add(self, name: str, **transcript: Any) -> int:
        """Add a clip. `transcript` holds further columns of its transcript. Return the clip's number."""
        sample, target = self.manifest[name], self.folder / "clip.opus"
        made = convert_to_opus(CLIPS / name, target, max_clip_s=LONGEST_CLIP_S)
        segments, words = spoken(sample.text, made.duration_s)
        number = self.world.add_clip(audio=target.read_bytes(), segments=segments, filename=name)
        levels = made.levels
        self.world.sql(
            "UPDATE audio_files SET (duration_s, peaks, loudness_lufs, peak_dbfs) = (%s, %s, %s, %s) "
            "WHERE audio_id = %s",
            *(made.duration_s, levels.peaks, levels.loudness_lufs, levels.peak_dbfs, number),
        )
        columns = {"text": sample.text, "language": sample.language, "words": json.dumps(words), **transcript}
        self.world.sql(
            f"UPDATE transcripts SET {', '.join(f'{column} = %s' for column in columns)} WHERE audio_id = %s",
            *(*columns.values(), number),
        )
        return number


def spoken(text: str, seconds: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the sentences and words of a text with times, by their share of its letters."""
    each = (seconds - 2 * FIRST_S) / len(text)
    segments, words = [], []
    for sentence in re.finditer(r"\S[^.!?]*[.!?]", text):
        start, end = (round(FIRST_S + each * place, 2) for place in sentence.span())
        segments.append({"start": start, "end": end, "text": sentence[0]})
    for word in re.finditer(r"\S+", text):
        start, end = (round(FIRST_S + each * place, 2) for place in word.span())
        words.append({"start": start, "end": end, "word": word[0], "probability": 0.9})
    return segments, words


def work_before(site: Site) -> None:
    """Let the reviewer have labelled clips on earlier days."""
    world, rng = site.world, random.Random(1)  # noqa: S311 -- the same pictures each time
    visitor = Visitor(world.app)
    visitor.log_in(NAME)
    notes = ("", "", "", "said at 0:06", "a joke among friends", "hard to hear under the music", "quotes the news")
    for day, count in DAYS.items():
        before = world.sql("SELECT coalesce(max(label_id), 0) FROM ra_labels")[0][0]
        for _ in range(count):
            label = rng.choice(("no_violation", "no_violation", "no_violation", "scam", "hate", "unsure"))
            visitor.label(world.add_clip(), label, note=rng.choice(notes), confidence=rng.choice("123"))
        world.sql("SET session_replication_role = replica")  # without the triggers that keep labels as they are
        earlier = "created_at - %s * interval '1 day'"
        world.sql(f"UPDATE ra_labels SET created_at = {earlier} WHERE label_id > %s", day, before)
        world.sql("SET session_replication_role = origin")
        world.sql(
            "UPDATE ra_assignments SET submitted_at = submitted_at - %s * interval '1 day' "
            "WHERE submitted_at > now() - interval '12 hours'",
            day,
        )
        world.sql(
            "INSERT INTO ra_exposures (at, user_id, audio_id, heard_ms, intervals) "
            "SELECT now() - %s * interval '1 day', user_id, 1, %s, '[]' FROM ra_users",
            *(day, count * 41_000),
        )


def picture(page: Page, name: str) -> None:
    """Write what the page shows to docs/, with few colors."""
    page.mouse.move(2, SCREEN["height"] - 2)
    page.wait_for_timeout(300)
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    few = image.quantize(COLORS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    target = DOCS / f"{name}.png"
    few.save(target, optimize=True)
    size = target.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{target.name} has {size} bytes; a picture of the guide has {MOST_BYTES} or fewer.")
    print(f"{target.name}: {size // 1000} kB")


def listened(page: Page, seconds: float) -> None:
    """Play the clip from its start to this moment."""
    page.keyboard.press(" ")
    wait(page, f"a.currentTime > {seconds}")
    page.keyboard.press(" ")


def theme(page: Page, scheme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=scheme)


def take_pictures(page: Page, site: Site, offer: int, market: int) -> None:
    log_in(page, NAME)
    open_clip(page, site.world, offer)
    picture(page, "ra-covered")
    page.keyboard.press("t")
    listened(page, 9.6)
    page.keyboard.press("m")
    page.keyboard.press("3")
    page.keyboard.press("c")
    page.keyboard.press("c")
    page.locator("#note").fill("Promises to double what is sent, at 0:05.")
    page.locator("#note").press("Escape")
    picture(page, "ra-review")
    page.keyboard.press("?")
    picture(page, "ra-keys")
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    page.wait_for_timeout(500)
    theme(page, "dark")
    open_clip(page, site.world, market)
    page.keyboard.press("t")
    listened(page, 7.4)
    picture(page, "ra-review-dark")
    page.keyboard.press("0")
    page.keyboard.press("Enter")
    wait(page, "!Object.keys(localStorage).some((name) => name.startsWith('unsent:'))")
    page.wait_for_timeout(500)
    theme(page, "light")
    page.goto("/me")
    page.locator(".beside").evaluate("element => scrollBy(0, element.getBoundingClientRect().top - 20)")
    picture(page, "ra-page")
    page.goto("/")
    picture(page, "ra-queue")


@contextmanager
def stage(prefix: str) -> Iterator[tuple[Site, Path, Callable[[], Page]]]:
    """Give the app with its services, a folder, and a way to open a page in a browser of the guide's size.

    Raises
    ------
    SystemExit
        There is no Chromium.
    """
    chromium = find_chromium()
    if chromium is None:
        raise SystemExit(f"There is no Chromium on this machine. {HOW}")
    root = Path(tempfile.mkdtemp(prefix=prefix))
    with Services(root / "services", durable=False) as services, sync_playwright() as playwright:
        site = Site(services, root / "logs")

        def opened() -> Page:
            site.wait()
            flags = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox does not start as root
            browser = playwright.chromium.launch(executable_path=chromium, args=flags)
            return browser.new_page(viewport=SCREEN, base_url=site.address, color_scheme="light", locale="en-GB")

        try:
            yield site, root, opened
        finally:
            site.close()
    shutil.rmtree(root, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    with stage("screenshots-") as (site, root, opened):
        site.world.add_user(NAME)
        site.world.sql(f"ALTER TABLE audio_files ALTER audio_id RESTART WITH {FIRST_CLIP - sum(DAYS.values())}")
        work_before(site)
        samples = Samples(site, root)
        offer = samples.add(OFFER)
        market = samples.add(MARKET, translation=MARKET_IN_ENGLISH, **DOUBTFUL)
        for name in FURTHER:
            samples.add(name)
        for _ in range(WAITING):
            site.world.add_clip()
        take_pictures(opened(), site, offer, market)


if __name__ == "__main__":
    main()
