"""Measures the RA app, its screen in a real Chromium, and prints one table: measure, target, figure, met or not.

    PYTHONPATH=src:.:ra_app python -m bench.ra_screen [--only keys swap] [--page docs/ra-app.md]

The app runs as it is deployed: gunicorn behind nginx with TLS, a PostgreSQL and an S3 of its own. Each group of
measures is stored when it is done, so a group that was disturbed can be measured again alone. `--page`
writes the table into a page of the documentation, between its two marks.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.ra import (
    agreement,
    axe_runs,
    cold,
    coverage,
    export,
    fits,
    keys,
    leases,
    lighthouse,
    search,
    sent,
    swap,
    ways,
)
from bench.ra.figures import Figure
from bench.ra.site import Site, running
from bench.ra.table import print_all, store, write_page

MEASURES: dict[str, Callable[[Site], list[Figure]]] = {
    "keys": keys.measure,
    "swap": swap.measure,
    "cold": cold.measure,
    "axe": axe_runs.measure,
    "lighthouse": lighthouse.measure,
    "fits": fits.measure,
    "claims": leases.claims,
    "leases": leases.measure,
    "sent": sent.measure,
    "ways": ways.measure,
    "agreement": agreement.measure,
    "coverage": coverage.measure,
    "search": search.measure,
    "export": export.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES), help="groups of measures")
    parser.add_argument("--page", type=Path, help="a page of the documentation that gets the table")
    parser.add_argument("--slots", type=int, default=leases.SLOTS, help="of the study in which claims are timed")
    arguments = parser.parse_args()
    MEASURES["claims"] = partial(leases.claims, slots=arguments.slots)
    with running() as site:
        for name in arguments.only:
            take(name, site)
    met = print_all(MEASURES)
    if arguments.page is not None:
        write_page(arguments.page, MEASURES)
    return 0 if met else 1


def take(name: str, site: Site) -> None:
    load, began = os.getloadavg()[0], time.monotonic()
    print(f"{name} …", flush=True)
    try:
        figures = MEASURES[name](site)
    except Exception as error:  # noqa: BLE001 - the other measures are taken all the same
        print(f"{name}: {error}", file=sys.stderr)
        figures = [Figure(name, "", f"not measured: {type(error).__name__} {str(error).partition(chr(10))[0]}", False)]
    store(name, figures, load=load, seconds=time.monotonic() - began)
    for line in figures:
        print(f"  {line.measure}: {line.figure}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
