"""Faults while a reviewer works in the RA app: no label may be lost or stored twice, and no draft may be lost.

    python -m tests.reliability.ra_faults --seed 1 --faults 1000

A reviewer in a real Chromium labels clips by keyboard, in the app as it is deployed (gunicorn, Postgres, S3). After
every few acts a fault happens. Some last for a few acts, so that faults meet. What the reviewer did is recorded in
`ra_reviewer.py`. Compared with the record are: every form that is shown, and at the end every stored label.

A label counts as given when the screen has gone on to the next clip. What was typed counts as a draft 100 ms later.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import APIResponse, Error, Playwright, Route, sync_playwright

from local.demo_browser import HOW, find_chromium
from local.services import Services
from tests.reliability.ra_reviewer import NAME, SETTLED_MS, Record, Reviewer
from tests.reliability.ra_site import Site

CLIPS_PER_FAULT = 1.3
SETTLE_EACH = 25  # faults between two looks at the database
FETCH_MS = 30_000


@dataclass
class Report:
    seed: int
    record: Record
    lost: int = 0
    doubled: int = 0
    drafts_lost: int = 0
    trips: int = 0  # errors of the browser's driver
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return not (self.lost or self.doubled or self.drafts_lost or self.record.problems)

    def summary(self) -> dict[str, Any]:
        kinds = Counter(self.record.faults)
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "faults": kinds.total(),
            "by kind": dict(sorted(kinds.items())),
            "acts": dict(sorted(self.record.acts.items())),
            "labels": len(self.record.submitted) - len(self.record.stale),
            "forms compared": self.record.checked,
            "lost": self.lost,
            "doubled": self.doubled,
            "drafts lost": self.drafts_lost,
            "problems": len(self.record.problems),
            "errors of the driver": self.trips,
        }


class Faults:
    def __init__(self, site: Site, playwright: Playwright, chromium: str, profile: Path, rng: random.Random) -> None:
        self.site = site
        self.rng = rng
        self.held: list[tuple[Route, APIResponse | None]] = []
        self.routed: str | None = None
        self.offline = False
        self.lasting = 0  # acts until what lasts is mended
        self.reviewer = Reviewer(playwright, chromium, profile, site.address, rng, self.mend)
        self.kinds: dict[str, tuple[Callable[[], None], int]] = {
            "server killed": (self.kill_server, 13),
            "network cut": (self.cut_network, 18),
            "request held back": (lambda: self.route("held back"), 9),
            "answer late": (lambda: self.route("late"), 9),
            "answer cut off": (lambda: self.route("cut off"), 14),
            "database connections ended": (self.site.end_connections, 12),
            "tab closed": (self.close_tab, 8),
            "session ended": (self.site.end_sessions, 5),
            "two tabs": (self.two_tabs, 4),
            "page crashed": (self.crash_page, 5),
            "browser killed": (self.kill_browser, 3),
        }

    def one(self) -> None:
        """Let the reviewer work a little, and then one fault happen."""
        for _ in range(self.rng.randint(0, 3)):
            self.work()
        if self.rng.random() < 0.5:
            self.reviewer.act("submit")  # the fault meets the label on its way
        kind = self.rng.choices(list(self.kinds), [weight for _, weight in self.kinds.values()])[0]
        self.reviewer.page.wait_for_timeout(self.rng.choice((0, 5, 20, 80)))
        self.reviewer.record.faults.append(kind)
        self.kinds[kind][0]()

    def work(self) -> None:
        self.reviewer.act()
        self.lasting -= 1
        if self.lasting == 0:
            self.mend()

    def last(self) -> None:
        self.lasting = self.rng.randint(1, 5)

    def mend(self) -> None:
        """End what lasts: network, server and answers are there again."""
        self.lasting = 0
        self.site.wait()
        if self.offline:
            self.offline = False
            self.reviewer.context.set_offline(False)
        self.release()

    # --- faults

    def kill_server(self) -> None:
        self.site.kill()
        self.last()
        if self.rng.random() < 0.5:
            self.site.start()  # it answers in a moment

    def cut_network(self) -> None:
        self.offline = True
        self.reviewer.context.set_offline(True)
        self.last()

    def route(self, way: str) -> None:
        self.release()
        self.routed = way
        self.reviewer.context.route(lambda url: "/desk/" in url or url.endswith("/draft"), self.handle)
        self.last()

    def handle(self, route: Route) -> None:
        with contextlib.suppress(Error):  # the page may be gone
            if self.routed is None:
                route.continue_()
            elif self.routed == "held back":
                self.held.append((route, None))
            else:
                answer = route.fetch(timeout=FETCH_MS)  # the server has done its part
                if self.routed == "cut off":
                    route.abort("connectionreset")
                else:
                    self.held.append((route, answer))

    def release(self) -> None:
        if self.routed is None:
            return
        self.routed = None
        for route, answer in self.held:
            with contextlib.suppress(Error):
                if answer is None:
                    route.continue_()
                else:
                    route.fulfill(response=answer)
        self.held.clear()
        with contextlib.suppress(Error):
            self.reviewer.context.unroute_all(behavior="ignoreErrors")

    def close_tab(self) -> None:
        self.typed()
        old = self.reviewer.page
        self.mend()
        self.reviewer.page = self.reviewer.tab()
        old.close(run_before_unload=self.rng.random() < 0.3)
        self.open_again()

    def crash_page(self) -> None:
        self.typed()
        old = self.reviewer.page
        with contextlib.suppress(Error):
            old.goto("chrome://crash", timeout=5000)
        self.reviewer.page = self.reviewer.tab()
        old.close()  # before anything is asked of all pages: a crashed one would not answer
        self.mend()
        self.open_again()

    def kill_browser(self) -> None:
        with contextlib.suppress(Error):
            self.typed()
        self.routed, self.offline = None, False
        self.held.clear()
        self.reviewer.kill_browser()
        self.mend()
        self.open_again()

    def tripped(self) -> None:
        """Go on after an error of the browser's driver, with a new browser.

        A label that was being given is stored, or else its content must be in the form.
        """
        reviewer, record = self.reviewer, self.reviewer.record
        given = reviewer.giving
        self.kill_browser()
        reviewer.settle()
        if given is not None:
            key, clip, form = given
            reviewer.giving = None
            record.unfinished.pop(clip, None)
            if key in {row[0] for row in self.site.labels()}:
                record.submitted[key] = (clip, form)
            else:
                record.unfinished[clip] = form

    def typed(self) -> None:
        """Let the time pass after which what was typed counts."""
        self.reviewer.page.wait_for_timeout(SETTLED_MS)

    def open_again(self) -> None:
        """Open the app where the reviewer was, or by its first page."""
        clip = self.reviewer.shown
        self.reviewer.go(f"/review/{clip}" if clip is not None and self.rng.random() < 0.5 else "/")

    def two_tabs(self) -> None:
        """The clip is opened twice. Either the first tab is closed, or both submit and the first one is behind."""
        reviewer, record = self.reviewer, self.reviewer.record
        reviewer.settle()
        behind = reviewer.ready()
        first, second = reviewer.page, reviewer.tab()
        reviewer.page = second
        reviewer.go(f"/review/{behind['clip']}")
        same = reviewer.ready()["clip"] == behind["clip"]
        reviewer.act("note")
        if not same or self.rng.random() < 0.5:
            first.close()
            return
        reviewer.act("submit")
        reviewer.settle()
        second.close()
        reviewer.page, reviewer.shown = first, None
        seen = reviewer.chosen(reviewer.look())
        first.keyboard.press("Enter")
        record.submitted[seen["key"]] = (seen["clip"], seen["form"])
        record.stale.add(seen["key"])
        first.locator("#bar").get_by_role("button", name="Compare").click()
        record.unfinished[seen["clip"]] = seen["form"]
        if reviewer.until(lambda now: now["clip"] == seen["clip"]) is None:
            record.problem(f"the conflict on clip {seen['clip']} is not shown: {reviewer.look()}")


def compare(site: Site, report: Report) -> None:
    """Compare the stored labels with the record."""
    record = report.record
    rows = site.labels()
    found = Counter(row[0] for row in rows)
    stored: dict[int, list[str]] = {}
    for key, clip, labels, confidence, note, spans, label_id, before in rows:
        form = {"labels": labels, "confidence": confidence, "note": note, "spans": spans}
        if key not in record.submitted or record.submitted[key] != (clip, form):
            record.problem(f"label {label_id} of clip {clip} is {form}, not {record.submitted.get(key)}")
        chain = stored.setdefault(clip, [])
        if (before is None) != (not chain):
            record.problem(f"label {label_id} of clip {clip} does not follow the one before it")
        chain.append(key)
    for key, (clip, form) in record.submitted.items():
        if key in record.stale:
            if found[key]:
                record.problem(f"clip {clip}: a label of a tab that was behind was stored")
        elif not found[key]:
            report.lost += 1
            record.problem(f"label lost: clip {clip} {form}")
    report.doubled = sum(count - 1 for count in found.values())
    for clip, keys in stored.items():
        given = [key for key, (of, _) in record.submitted.items() if of == clip and key not in record.stale]
        if keys != given:
            record.problem(f"clip {clip}: the labels have another order than they were given in")


def open_unfinished(site: Site, faults: Faults) -> None:
    """Open every clip that was begun and not submitted. One that was passed is not shown: its draft is stored."""
    reviewer, record = faults.reviewer, faults.reviewer.record
    kept = site.drafts()
    for clip, form in list(record.unfinished.items()):
        if clip in record.passed:
            if kept.get(clip, form) != form or (clip not in kept and any(form.values())):
                record.problem(f"draft lost: passed clip {clip} has {kept.get(clip)} instead of {form}")
            continue
        reviewer.go(f"/review/{clip}")
        seen = reviewer.ready()
        if seen["clip"] != clip:
            record.problem(f"draft lost: clip {clip} cannot be opened, with {form}")


def run(root: Path, services: Services, *, seed: int, faults: int, only: str | None = None) -> Report:
    """Run once, on services that are started -> the report. `only` is the one kind of faults that happens."""
    chromium = find_chromium()
    if chromium is None:
        raise SystemExit(f"There is no Chromium on this machine. {HOW}")
    site = Site(services, root / "logs")
    site.world.add_user(NAME)
    site.add_clips(int(faults * CLIPS_PER_FAULT) + 50)
    began = time.monotonic()
    try:
        site.wait()
        with sync_playwright() as playwright:
            rng = random.Random(seed)  # noqa: S311 -- to be repeated, not to be secret
            made = Faults(site, playwright, chromium, root / "profile", rng)
            made.kinds = {kind: what for kind, what in made.kinds.items() if only in {None, kind}}
            report = Report(seed, made.reviewer.record)
            made.reviewer.go("/")
            happened = report.record.faults
            while len(happened) < faults:
                try:
                    made.one()
                except Error as error:
                    print(f"the browser's driver failed: {str(error).splitlines()[0]}", flush=True)
                    report.trips += 1
                    made.tripped()
                if len(happened) % SETTLE_EACH == 0:
                    told(report, made, began)
            made.reviewer.settle()
            open_unfinished(site, made)
            made.reviewer.settle()
            compare(site, report)
            made.reviewer.context.close()
    finally:
        site.close()
    report.drafts_lost = sum(problem.startswith("draft lost") for problem in report.record.problems)
    report.seconds = time.monotonic() - began
    return report


def told(report: Report, faults: Faults, began: float) -> None:
    """Print how far the run is, and stop it early if labels are missing."""
    faults.reviewer.settle()
    stored = {row[0] for row in faults.site.labels()}
    record = report.record
    missing = [key for key in record.submitted if key not in stored and key not in record.stale]
    print(
        f"{len(record.faults)} faults, {len(stored)} labels stored, {len(missing)} missing, "
        f"{len(record.problems)} problems, {time.monotonic() - began:.0f} s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--only", help="faults of this kind alone, for example: browser killed")
    parser.add_argument("--keep", type=Path, help="keep logs and data in this folder")
    arguments = parser.parse_args()
    root = arguments.keep or Path(tempfile.mkdtemp(prefix="ra-faults-"))
    with Services(root / "services", durable=False) as services:
        report = run(root, services, seed=arguments.seed, faults=arguments.faults, only=arguments.only)
    print(json.dumps(report.summary(), ensure_ascii=False), flush=True)
    for problem in report.record.problems:
        print(f"  PROBLEM {problem}", flush=True)
    if not arguments.keep:
        shutil.rmtree(root, ignore_errors=True)
    sys.exit(0 if report.good else 1)


if __name__ == "__main__":
    main()
