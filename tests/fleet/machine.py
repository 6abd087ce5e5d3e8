"""One host: boot it, power it off, cut its power, remove it, and run commands in it without ssh."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from local.services.process import started_at
from tests.fleet import disks, keys
from tests.fleet.base import base_tree
from tests.fleet.layout import BRIDGE, CLONES, CONTROLLER, ROOT, RUN, FleetError, Host
from tests.fleet.shell import sh

BOOT_S = 60.0
POWER_OFF_S = 20.0
POLL_S = 0.1
NETWORK = """\
[Match]
Name=host0

[Network]
Address={address}/24
Gateway={gateway}
LinkLocalAddressing=no
"""


def start(host: Host) -> None:
    """Begin to boot the host; `wait_until_up` waits for the end."""
    if is_up(host):
        return
    RUN.mkdir(parents=True, exist_ok=True)
    _mount(host)
    _identity(host)
    keys.give_keys(host)
    loop = disks.attach(host) if host.disk else ""
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", "tests.fleet.keeper", host.name]
    with (RUN / f"{host.name}.log").open("ab") as log:
        keeper = subprocess.Popen(
            [*command, *([loop] if loop else [])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=ROOT,
        )
    _note(host, "keeper", keeper.pid)


def wait_until_up(host: Host, limit_s: float = BOOT_S) -> None:
    """Wait until systemd has started everything and ssh answers."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if _systemd_state(host) in {"running", "degraded"} and _ssh_answers(host):
            return
        if _alive(host, "keeper") is None:
            raise FleetError(f"{host.name} ended while it booted; its console stands in {RUN / host.name}.log")
        time.sleep(POLL_S)
    raise FleetError(f"{host.name} was not up after {limit_s:.0f} s; its console stands in {RUN / host.name}.log")


def is_up(host: Host) -> bool:
    return _alive(host, "keeper") is not None


def leader(host: Host) -> int | None:
    """The process id, on this machine, of the host's PID 1."""
    try:
        nspawn = int((RUN / f"{host.name}.nspawn").read_text())
        tasks = Path(f"/proc/{nspawn}/task").iterdir()
        children = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    except (OSError, ValueError):
        return None
    return next((pid for pid in children if _number_inside(pid) == 1), None)


def inside(host: Host, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command as root in the host's namespaces. It needs neither network nor ssh."""
    pid = leader(host)
    if pid is None:
        raise FleetError(f"{host.name} is not running")
    return sh("nsenter", "-t", str(pid), "-a", *command, check=check)


def power_off(host: Host) -> None:
    """Shut the host down in order."""
    pid = leader(host)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGRTMIN + 4)
    deadline = time.monotonic() + POWER_OFF_S
    while is_up(host) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    cut_power(host)


def cut_power(host: Host) -> None:
    """Kill the host at once, as when its power is cut: no process of the host can react."""
    keeper, pid = _alive(host, "keeper"), leader(host)
    for victim in (keeper, pid):  # the keeper first, so that it does not boot the host again
        if victim is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
    deadline = time.monotonic() + POWER_OFF_S
    while leader(host) is not None and time.monotonic() < deadline:
        time.sleep(POLL_S)
    for name in ("keeper", "nspawn"):
        (RUN / f"{host.name}.{name}").unlink(missing_ok=True)


def remove(host: Host) -> None:
    """Remove everything of a host that is powered off: mounts, loop device, cgroup, disk, files."""
    sh("umount", "--recursive", host.root, check=False)
    disks.detach(host)
    for tree in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
        group = tree / BRIDGE / host.name
        for folder in sorted(group.rglob("*/"), reverse=True) if group.is_dir() else []:
            with contextlib.suppress(OSError):
                folder.rmdir()
        with contextlib.suppress(OSError):
            group.rmdir()
    host.image.unlink(missing_ok=True)
    if not os.path.ismount(host.root):
        shutil.rmtree(CLONES / host.name, ignore_errors=True)


def _mount(host: Host) -> None:
    if os.path.ismount(host.root):
        return
    clone = CLONES / host.name
    for part in ("up", "work", "root"):
        (clone / part).mkdir(parents=True, exist_ok=True)
    base = _base_of(clone)
    options = f"lowerdir={base},upperdir={clone / 'up'},workdir={clone / 'work'}"
    sh("mount", "-t", "overlay", "overlay", "-o", options, host.root)


def _base_of(clone: Path) -> Path:
    """Return the base tree that the host was created on. It keeps this tree, also if the recipe has changed."""
    noted = clone / "base"
    if noted.exists() and Path(noted.read_text()).is_dir():
        return Path(noted.read_text())
    tree = base_tree()
    noted.write_text(str(tree))
    return tree


def _identity(host: Host) -> None:
    etc = host.root / "etc"
    if (etc / "systemd/network/10-host0.network").exists():
        return  # a role may have changed these since
    (etc / "hostname").write_text(f"{host.name}\n")
    (etc / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {host.name}\n")
    network = NETWORK.format(address=host.address, gateway=CONTROLLER)
    (etc / "systemd/network/10-host0.network").write_text(network)


def _note(host: Host, what: str, pid: int) -> None:
    """Store a pid with the start time of its process, so that a later process with the same pid is not killed."""
    (RUN / f"{host.name}.{what}").write_text(f"{pid} {started_at(pid)}")


def _alive(host: Host, what: str) -> int | None:
    try:
        pid, _, began = (RUN / f"{host.name}.{what}").read_text().partition(" ")
    except OSError:
        return None
    return int(pid) if began != "None" and started_at(int(pid)) == began else None


def _number_inside(pid: int) -> int | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[-1]) for line in status if line.startswith("NSpid:")), None)


def _systemd_state(host: Host) -> str:
    pid = leader(host)
    if pid is None:
        return ""
    return sh("nsenter", "-t", str(pid), "-a", "systemctl", "is-system-running", check=False).stdout.strip()


def _ssh_answers(host: Host) -> bool:
    return sh("ssh", *keys.OPTIONS, f"ubuntu@{host.address}", "true", check=False).returncode == 0
