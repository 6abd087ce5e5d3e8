"""Stop hosts and delete their files: `python -m tests.fleet.down [NAME ...]`; without names, the whole fleet.

The base tree and the package cache stay in FLEET_CACHE; a later fleet boots from them in seconds.
"""

from __future__ import annotations

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.fleet import machine, store
from tests.fleet.layout import CLONES, DISKS, HOSTS, LEDGER, RUN, SSH, FleetError, Host, hosts
from tests.fleet.network import remove_network
from tests.fleet.shell import require_root_and_programs


def take_down(wanted: list[Host]) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(machine.power_off, wanted))
    for host in wanted:
        machine.remove(host)
    if not any(machine.is_up(host) for host in HOSTS.values()):
        store.stop()
        remove_network()
        for folder in (CLONES, DISKS, RUN, SSH, store.FOLDER):
            shutil.rmtree(folder, ignore_errors=True)
        LEDGER.unlink(missing_ok=True)  # the next fleet must not look for these archives


def main(names: list[str]) -> int:
    try:
        require_root_and_programs()
        take_down(hosts(names or list(HOSTS)))
    except FleetError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
