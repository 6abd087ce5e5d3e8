"""The folders of a fleet on this machine, and the hosts that it can consist of.

Two people who test at the same time set different `FLEET_DIR` and `FLEET_NET`. They share the base tree in
`FLEET_CACHE`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ANSIBLE = ROOT / "ansible"

FLEET = Path(os.environ.get("FLEET_DIR", "/var/tmp/audio-pipeline-fleet")).resolve()  # noqa: S108 - root's, made 0700
CACHE = Path(os.environ.get("FLEET_CACHE", "/var/tmp/audio-pipeline-fleet-cache")).resolve()  # noqa: S108
NET = os.environ.get("FLEET_NET", "10.77.0")  # the first three numbers of the hosts' network, a /24
RUN = FLEET / "run"  # pid files, logs of the consoles
CLONES = FLEET / "clones"  # one overlay for each host
DISKS = FLEET / "disks"  # one sparse file for each data volume
SSH = FLEET / "ssh"
LEDGER = FLEET / "ledger.json"  # the archives that were put on the EC2 host; a later run with --only reads it

USER = "ubuntu"  # as on a cloud image
BRIDGE = "fleet" + "-".join(NET.split(".")[1:])  # at most 15 characters, the kernel's limit
CONTROLLER = f"{NET}.1"  # this machine, as the hosts see it
DISK_GIB = 20


class FleetError(RuntimeError):
    """The fleet cannot do what was requested; the message says why, and what to do."""


@dataclass(frozen=True)
class Host:
    name: str
    address: str
    disk: bool = False  # a data volume as /dev/vdb

    @property
    def root(self) -> Path:
        """The host's file system, as this machine sees it."""
        return CLONES / self.name / "root"

    @property
    def image(self) -> Path:
        return DISKS / f"{self.name}.img"


def _host(name: str, number: int, *, disk: bool = False) -> Host:
    return Host(name, f"{NET}.{number}", disk)


HOSTS = {
    host.name: host
    for host in (
        _host("orch", 11),
        _host("transfer-01", 12),
        _host("gpu-01", 21, disk=True),
        _host("gpu-02", 22, disk=True),
        _host("gpu-03", 23, disk=True),
        _host("ec2", 31),
    )
}
FIRST_FLEET = ("orch", "transfer-01", "gpu-01", "gpu-02", "ec2")  # gpu-03 joins later


def hosts(names: list[str]) -> list[Host]:
    """The hosts of these names; raises FleetError for one that is not known."""
    unknown = [name for name in names if name not in HOSTS]
    if unknown:
        raise FleetError(f"no such host: {', '.join(unknown)}; there are {', '.join(HOSTS)}")
    if not re.fullmatch(r"\d+\.\d+\.\d+", NET):
        raise FleetError(f"FLEET_NET is {NET!r}; it must be the first three numbers of a network, for example 10.77.0")
    return [HOSTS[name] for name in names]
