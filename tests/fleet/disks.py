"""The data volume of a host: a sparse file, a loop device, and udev rules that name the device /dev/vdb in the host."""

from __future__ import annotations

from pathlib import Path

from tests.fleet.layout import DISK_GIB, DISKS, Host
from tests.fleet.shell import sh

# The udev events of this machine reach every host. A host must use its own loop device only.
RULES = """\
KERNEL=="{loop}", SYMLINK+="vdb"
SUBSYSTEM=="block", KERNEL!="{loop}", ENV{{UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG}}="1", ENV{{SYSTEMD_READY}}="0"
"""
# PID 1 of a container starts before udev, so it misses the first events and must be told to look once.
TRIGGER = """\
[Service]
ExecStart=
ExecStart=/bin/udevadm trigger --action=add --sysname-match={loop}
ExecStart=/bin/udevadm trigger --action=add --subsystem-match=net
ExecStartPost=/bin/udevadm settle --timeout=3 --exit-if-exists=/dev/vdb
ExecStartPost=/bin/systemctl --no-block daemon-reload
"""


def attach(host: Host) -> str:
    """Return the host's loop device, created if there is none. Write the rules that name it into the host's tree."""
    DISKS.mkdir(parents=True, exist_ok=True)
    if not host.image.exists():
        with host.image.open("wb") as image:
            image.truncate(DISK_GIB << 30)
    device = _device(host) or sh("losetup", "--find", "--show", host.image).stdout.strip()
    loop = Path(device).name
    rules = host.root / "etc/udev/rules.d/00-fleet.rules"
    trigger = host.root / "etc/systemd/system/systemd-udev-trigger.service.d/fleet.conf"
    for path, text in ((rules, RULES), (trigger, TRIGGER)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(loop=loop))
    return device


def detach(host: Host) -> None:
    device = _device(host)
    if device:
        sh("losetup", "--detach", device, check=False)


def _device(host: Host) -> str:
    if not host.image.exists():
        return ""
    listed = sh("losetup", "--associated", host.image, "--output", "NAME", "--noheadings", check=False)
    return listed.stdout.split()[0] if listed.stdout.split() else ""
