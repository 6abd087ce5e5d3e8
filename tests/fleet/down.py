"""Stop hosts and delete their files: `python -m tests.fleet.down [NAME ...]`; without names, the whole fleet.

Without names nothing of the fleet stays: also its secrets, its checkout, the logs and the report. The base tree and the
package cache stay in FLEET_CACHE; a later fleet boots from them in seconds.
"""

from __future__ import annotations

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fleet import machine, store
from tests.fleet.layout import CLONES, DISKS, FLEET, HOSTS, LEDGER, RUN, SSH, FleetError, Host, hosts
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


def remove_files(folder: Path, mounts: str) -> None:
    """Delete the fleet's folder; raises FleetError while something of it is mounted (`mounts`, as in /proc/mounts)."""
    below = [line.split()[1] for line in mounts.splitlines() if line.split()[1].startswith(f"{folder}/")]
    if below:
        raise FleetError(f"{folder} is not deleted, because {below[0]} is still mounted: umount {below[0]}")
    if folder.exists():
        shutil.rmtree(folder)


def main(names: list[str]) -> int:
    try:
        require_root_and_programs()
        take_down(hosts(names or list(HOSTS)))
        if not names:
            remove_files(FLEET, Path("/proc/mounts").read_text())
    except FleetError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
