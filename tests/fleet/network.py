"""The bridge of the hosts, their NAT, and the kernel settings of this machine that they change."""

from __future__ import annotations

import json
from pathlib import Path

from tests.fleet.layout import BRIDGE, CACHE, CONTROLLER, NET
from tests.fleet.shell import quiet, sh

# A host with a data volume has a writable /sys and /proc/sys, because udev needs /sys. So a role that sets one of these
# sets it for the whole machine. The values are stored before the first host boots, and restored after the last ends.
SHARED_SYSCTL = (
    "net/ipv4/ip_forward", "vm/overcommit_memory", "vm/swappiness", "vm/max_map_count", "vm/dirty_ratio",
    "vm/dirty_background_ratio", "fs/inotify/max_user_instances", "fs/inotify/max_user_watches", "fs/file-max",
    "kernel/pid_max",
)  # fmt: skip
SYSCTL = Path("/proc/sys")
NOTED = CACHE / "sysctl.before"  # one file for all fleets of this machine

NAT = f"""\
table ip {BRIDGE} {{
  chain post {{
    type nat hook postrouting priority srcnat
    ip saddr {NET}.0/24 oifname != "{BRIDGE}" masquerade
  }}
}}
"""


def make_network() -> None:
    """Create the bridge, its address and the NAT. A second call changes nothing."""
    if sh("ip", "link", "show", BRIDGE, check=False).returncode == 0:
        return
    if not NOTED.exists():
        NOTED.write_text(json.dumps({name: (SYSCTL / name).read_text().strip() for name in SHARED_SYSCTL}))
    sh("ip", "link", "add", BRIDGE, "type", "bridge")
    sh("ip", "address", "add", f"{CONTROLLER}/24", "dev", BRIDGE)
    sh("ip", "link", "set", BRIDGE, "up")
    (SYSCTL / "net/ipv4/ip_forward").write_text("1")
    sh("nft", "-f", "-", given=NAT)


def remove_network() -> None:
    quiet([("nft", "delete", "table", "ip", BRIDGE), ("ip", "link", "delete", BRIDGE)])
    if _other_fleets() or not NOTED.exists():
        return  # the last fleet that ends restores the settings
    for name, value in json.loads(NOTED.read_text()).items():
        path = SYSCTL / name
        if path.read_text().strip() != value:
            path.write_text(value)
    NOTED.unlink()


def _other_fleets() -> bool:
    return any(name.name.startswith("fleet") for name in Path("/sys/class/net").iterdir())
