"""How often the intervals that leads read hold the true value: bench/coverage.py, with fewer simulated studies."""

from __future__ import annotations

from bench.coverage import cases
from bench.ra.figures import Figure
from bench.ra.site import Site

RUNS = 300  # studies for each line; a line has a noise of about 1.3 points
SEED = 1
LOW, HIGH = 93.0, 97.0  # percent


def measure(_site: Site) -> list[Figure]:
    found = [(case.coverage, f"{case.measure}, {case.study}") for case in cases(RUNS, SEED)]
    outside = sorted(line for line in found if not LOW <= line[0] <= HIGH)
    named = "; ".join(f"{study} {coverage:.1f} %" for coverage, study in (*outside[:2], *outside[-1:]))
    within = f"{len(found) - len(outside)} of {len(found)} kinds of studies within"
    figure = f"{min(found)[0]:.1f} to {max(found)[0]:.1f} % ({within})"
    return [
        Figure(
            "95 % intervals that hold the true value, in simulated studies",
            f"{LOW:.0f} to {HIGH:.0f} %",
            figure + (f"; outside: {named}" if outside else ""),
            not outside,
        )
    ]
