"""Boot hosts of the fleet: `python -m tests.fleet.up [NAME ...]`; without names, the hosts of a new fleet.

Afterwards FLEET_DIR holds `inventory.yml` and `vars.yml`, with which a person can run playbooks, and `checkout/`, a
clone that is configured for these hosts.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from pathlib import Path

from tests.fleet import checkout, machine, store
from tests.fleet.base import base_tree
from tests.fleet.ec2 import place_models, prepare_ec2
from tests.fleet.layout import FIRST_FLEET, FLEET, HOSTS, ROOT, FleetError, Host, hosts
from tests.fleet.network import make_network
from tests.fleet.shell import require_root_and_programs


def boot(wanted: list[Host]) -> None:
    """Boot these hosts in parallel, and wait until all are up."""
    require_root_and_programs()
    FLEET.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (FLEET / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        base_tree()
        make_network()
        for host in wanted:
            machine.start(host)
        store.start()
    for host in wanted:
        machine.wait_until_up(host)


def furnish(wanted: list[Host]) -> None:
    """Put on the hosts what exists before the operator begins: the folder of archives, the models."""
    if HOSTS["ec2"] in wanted:
        prepare_ec2()
    if HOSTS["orch"] in wanted:
        place_models(demo_models(), HOSTS["orch"])


def demo_models() -> Path:
    folder = Path(os.environ.get("MODELS_ROOT", ROOT / "models")) / "demo"
    if not folder.is_dir():
        raise FleetError(f"the demo's models are not in {folder}; fetch them first: make models")
    return folder


def main(names: list[str]) -> int:
    began = time.monotonic()
    try:
        wanted = hosts(names or list(FIRST_FLEET))
        boot(wanted)
        furnish(wanted)
        checkout.prepare()
    except FleetError as error:
        print(error, file=sys.stderr)
        return 1
    for host in wanted:
        print(f"{host.name:12} {host.address}")
    print(f"up after {time.monotonic() - began:.0f} s; take them down with: python -m tests.fleet.down")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
