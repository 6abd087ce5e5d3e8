"""Clips that are held: claims when many claim from a large study, when a lapsed clip goes on, and the warning before.

The lapse is made by `claimed_until` in the database. The time before the warning is that of a clock which the
measurement moves, while the network is cut.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

from playwright.sync_api import Page, expect

from bench.ra.figures import Figure, MeasureError, at_most, demand
from bench.ra.site import Site, ready
from bench.report import ROOT

SLOTS = 1_000_000
PEOPLE = 50
STEP_MS = 5000
CLAIMED = re.compile(r"(\d+) claims, .* p95 ([\d.]+) ms, slowest ([\d.]+) ms; (\d+) duplicates")
AHEAD = """async () => {
  const form = new FormData();
  form.set("csrf_token", document.querySelector("[name=csrf_token]").value);
  form.set("want", "1");
  const answer = await fetch("/desk/ahead", { method: "POST", body: form });
  return (await answer.json()).items.map((item) => item.clip);
}"""


def claims(_: Site, slots: int = SLOTS) -> list[Figure]:
    command = [sys.executable, "-m", "bench.claims", "--slots", str(slots), "--people", str(PEOPLE)]
    path = os.pathsep.join(str(ROOT / part) for part in ("src", ".", "ra_app"))
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    said = CLAIMED.search(done.stdout)
    if said is None:
        raise MeasureError(f"bench.claims says: {done.stdout}")
    count, p95, slowest, twice = int(said[1]), float(said[2]), float(said[3]), int(said[4])
    what = f"claim, {PEOPLE} people, {slots:,} slots"
    return [
        at_most(f"{what}, p95", 50, p95, "ms", digits=1, note=f"{count} claims, slowest {slowest:.0f} ms"),
        Figure("clips that two people got, or one person twice", "0", f"{twice} of {count}", twice == 0),
    ]


def measure(site: Site) -> list[Figure]:
    return [lapsed(site), *warned(site)]


def lapsed(site: Site) -> Figure:
    """The only clip lapses in two seconds; another person asks for it all the time."""
    site.filling.clips(1)
    site.world.add_user("jo")
    with site.visitor() as page:
        site.first_clip(page)
        clip = int(page.locator("#desk").get_attribute("data-clip") or 0)
    with site.visitor("jo") as page:
        page.goto("/")
        site.world.sql("UPDATE ra_assignments SET claimed_until = now() + interval '2 s' WHERE audio_id = %s", clip)
        until = site.world.sql("SELECT claimed_until FROM ra_assignments WHERE audio_id = %s", clip)[0][0]
        demand(page.evaluate(AHEAD) == [], "a held clip goes to nobody else")
        for _ in range(100):
            if page.evaluate(AHEAD) == [clip]:
                break
            page.wait_for_timeout(100)
        taken, by = site.world.sql("SELECT opened_at, user_id FROM ra_assignments WHERE audio_id = %s", clip)[0]
    demand(by == 2, "nobody else got the clip")
    return at_most("lapsed clip → another person has it", 60, (taken - until).total_seconds(), "s", digits=1)


def warned(site: Site) -> list[Figure]:
    site.filling.clips(3)
    lease_s = site.world.sql("SELECT lease_s FROM ra_studies")[0][0]
    with site.visitor(strict=False) as page:
        page.clock.install()
        with page.expect_response(lambda answer: answer.url.endswith("/desk/ahead")):
            site.first_clip(page)
        page.wait_for_timeout(1000)  # the page reads the answer
        held_until = now(page) + lease_s * 1000
        page.context.set_offline(True)
        warning = page.locator("#bar").get_by_text("is held for you")
        page.clock.fast_forward(1000 * (lease_s - 200))
        while not warning.count():
            page.clock.run_for(STEP_MS)
            demand(now(page) < held_until, "the clip has lapsed without a warning")
        before = (held_until - now(page)) / 1000
        page.context.set_offline(False)
        page.get_by_role("button", name="Keep it").press("Enter")
        expect(warning).to_have_count(0)
        ready(page)
    return [
        Figure("warning before a clip lapses", "≥ 60 s", f"{before:.0f} s, also without network", before >= 60),
        Figure(
            "acts that keep the clip for longer", "1", "1 (“Keep it”; or any work while the network is there)", True
        ),
    ]


def now(page: Page) -> float:
    return float(page.evaluate("Date.now()"))
