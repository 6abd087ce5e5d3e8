"""Boot hosts of the fleet: `python -m tests.fleet.up [NAME ...]`; without names, those that a fleet begins with."""

from __future__ import annotations

import fcntl
import sys
import time

from tests.fleet import machine
from tests.fleet.base import base_tree
from tests.fleet.layout import FIRST_FLEET, FLEET, FleetError, Host, hosts
from tests.fleet.network import make_network
from tests.fleet.shell import require_root_and_programs


def boot(wanted: list[Host]) -> None:
    """Boot these hosts at the same time and wait until all are up."""
    require_root_and_programs()
    FLEET.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (FLEET / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        base_tree()
        make_network()
        for host in wanted:
            machine.start(host)
    for host in wanted:
        machine.wait_until_up(host)


def main(names: list[str]) -> int:
    began = time.monotonic()
    try:
        wanted = hosts(names or list(FIRST_FLEET))
        boot(wanted)
    except FleetError as error:
        print(error, file=sys.stderr)
        return 1
    for host in wanted:
        print(f"{host.name:12} {host.address}")
    print(f"up after {time.monotonic() - began:.0f} s; take them down with: python -m tests.fleet.down")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
