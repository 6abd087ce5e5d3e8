"""How often the intervals that leads read hold the true value: bench/coverage.py, with fewer simulated studies."""

from __future__ import annotations

from bench.coverage import cases
from bench.ra.figures import Figure
from bench.ra.site import Site

RUNS = 300  # studies for each line; a line has a noise of about 1.3 points
SEED = 1
LOW, HIGH = 93.0, 97.0  # percent


def measure(_site: Site) -> list[Figure]:
    found = list(cases(RUNS, SEED))
    outside = [case for case in found if not case.is_within(LOW, HIGH)]
    worst = min(case.coverage for case in found), max(case.coverage for case in found)
    return [
        Figure(
            "95 % intervals that hold the true value, in simulated studies",
            f"{LOW:.0f} to {HIGH:.0f} %",
            f"{len(found) - len(outside)} of {len(found)} kinds, {RUNS} studies each, but for their noise "
            f"(without that: {worst[0]:.1f} to {worst[1]:.1f} %)",
            not outside,
        )
    ]
