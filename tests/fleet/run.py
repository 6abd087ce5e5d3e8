"""The scenarios, in order: `python -m tests.fleet.run [--only NAME ...] [--keep] [--list]`, or `make fleet`.

Boots new hosts, runs the scenarios, writes the report and removes the hosts. `--only` uses the fleet that runs, if one
does; `--keep` keeps the hosts. The exit code is 0 only if every scenario passed.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from tests.fleet import checkout, report
from tests.fleet.down import take_down
from tests.fleet.layout import FIRST_FLEET, FLEET, HOSTS, FleetError, hosts
from tests.fleet.machine import is_up
from tests.fleet.scenarios import ALL, SCENARIOS
from tests.fleet.shell import require_root_and_programs
from tests.fleet.up import boot, furnish
from tests.fleet.world import Figures, ScenarioError, World

REPORT = FLEET / "report.md"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fleet.run", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(ALL), help="these scenarios")
    parser.add_argument("--keep", action="store_true", help="leave the hosts up")
    parser.add_argument("--list", action="store_true", help="name the scenarios and end")
    chosen = parser.parse_args(arguments)
    if chosen.list:
        for name, scenario in ALL.items():
            print(f"{name:18} {(scenario.__doc__ or '').partition(chr(10))[0]}")
        return 0
    try:
        require_root_and_programs()  # before anything is taken down
    except FleetError as error:
        print(error, file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, _interrupt)
    lines: list[Figures] = []
    try:
        _boot(anew=not chosen.only)
        _go_through(World(), chosen.only or list(SCENARIOS), lines)
    except FleetError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if not chosen.keep:
            take_down(list(HOSTS.values()))
        if lines:
            report.write(REPORT, lines)
            print(f"\n{report.table(lines)}\nThe report stands in {REPORT}")
    return 1 if any(line.trouble for line in lines) else 0


def _boot(*, anew: bool) -> None:
    standing = any(is_up(host) for host in HOSTS.values())
    if standing and not anew:
        return
    take_down(list(HOSTS.values()))
    began = time.monotonic()
    first = hosts(list(FIRST_FLEET))
    boot(first)
    furnish(first)
    checkout.prepare()
    print(f"==> {len(first)} hosts are up after {time.monotonic() - began:.0f} s", flush=True)


def _go_through(world: World, names: Sequence[str], lines: list[Figures]) -> None:
    """Run the scenarios until one fails: each needs the result of those before it."""
    for name in names:
        lines.append(world.begin_scenario(name))
        scenario = ALL[name]
        print(f"==> {name}: {(scenario.__doc__ or '').partition(chr(10))[0]}", flush=True)
        began = time.monotonic()
        try:
            scenario(world)
        except (ScenarioError, FleetError) as error:
            lines[-1].trouble = str(error)
        except Exception:  # noqa: BLE001 - an error in a scenario is a failure; the report is written anyway
            lines[-1].trouble = traceback.format_exc()
        lines[-1].seconds = time.monotonic() - began
        if lines[-1].trouble:
            print(f"    FAILED after {lines[-1].seconds:.0f} s: {lines[-1].trouble}", flush=True)
            return
        print(f"    passed after {lines[-1].seconds:.0f} s", flush=True)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
