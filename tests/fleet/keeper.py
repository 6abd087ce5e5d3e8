"""The process that keeps one host: `python -m tests.fleet.keeper NAME [LOOP]`, in a mount namespace of its own.

Runs systemd-nspawn, and runs it again when the host reboots. Ends when the host is powered off or killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.fleet import registries
from tests.fleet.base import uv_cache
from tests.fleet.layout import BRIDGE, HOSTS, RUN, Host
from tests.fleet.shell import sh

REBOOT = 133  # exit code of systemd-nspawn with --keep-unit when its host reboots
CGROUPS = Path("/sys/fs/cgroup")


def main(name: str, loop: str = "") -> int:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    host = HOSTS[name]
    _pure_cgroups()
    while True:
        _own_cgroup(name)
        with subprocess.Popen(_command(host, loop), env=_environment(loop), stdin=subprocess.DEVNULL) as nspawn:
            (RUN / f"{name}.nspawn").write_text(str(nspawn.pid))
            code = nspawn.wait()
        if code != REBOOT:
            return code
        print("--- reboot ---", flush=True)


def _pure_cgroups() -> None:
    """Mount cgroups as the distribution does, independent of this machine. Only this mount namespace sees them."""
    own = Path("/run/systemd/nspawn")
    own.mkdir(parents=True, exist_ok=True)
    sh("mount", "-t", "tmpfs", "tmpfs", own)
    sh("umount", "--recursive", CGROUPS, check=False)
    sh("mount", "-t", "cgroup2", "cgroup2", CGROUPS)


def _own_cgroup(name: str) -> None:
    """Create a cgroup for this host. Two hosts in one cgroup would stop each other's processes."""
    group = CGROUPS / BRIDGE / name
    group.mkdir(parents=True, exist_ok=True)
    (group / "cgroup.procs").write_text(str(os.getpid()))


def _environment(loop: str) -> dict[str, str]:
    settings = {
        "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
        "SYSTEMD_NSPAWN_LOCK": "0",
        "SYSTEMD_NSPAWN_TMPFS_TMP": "0",  # /tmp on the disk, as on a VM, not a small share of the memory
    }
    if loop:
        settings["SYSTEMD_NSPAWN_API_VFS_WRITABLE"] = "yes"  # with a writable /sys, udev runs: /dev/vdb, fsck, remount
    return os.environ | settings


def _command(host: Host, loop: str) -> list[str]:
    # The host's name is also the name of its network interface on this machine. Two fleets must differ in the first 15
    # characters.
    machine = f"{BRIDGE}-{host.address.rpartition('.')[2]}"
    command = [
        "systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", f"--machine={machine}",
        f"--hostname={host.name}", f"--directory={host.root}", f"--network-bridge={BRIDGE}",
        "--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=read-only", "--kill-signal=SIGRTMIN+3",
        # IPAddressDeny= and DevicePolicy= are BPF programs
        "--capability=CAP_BPF,CAP_PERFMON", "--system-call-filter=bpf",
        f"--bind={uv_cache()}:{registries.UV_CACHE}",
    ]  # fmt: skip
    command += [f"--bind-ro={folder}" for folder in registries.shared_folders()]
    return [*command, f"--bind={loop}"] if loop else command


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
