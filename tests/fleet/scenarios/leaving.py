"""Uninstalling: nothing of the project is left on the hosts."""

from __future__ import annotations

from tests.fleet import machine
from tests.fleet.layout import HOSTS
from tests.fleet.world import World

UNINSTALL = "ansible-playbook playbooks/uninstall.yml -e uninstall_confirmed=true"
# Archives, models and downloaded packages must not be deleted; the journals are still needed after the removal.
# Not searched. Backups and the database's cluster are data, which stay unless uninstall_data is true.
SPARED = (
    "/proc", "/sys", "/run", "/srv", "/var/cache", "/var/log", "/data", "/var/backups", "/etc/postgresql",
)  # fmt: skip
OURS = ("*audio-pipeline*", "*ra-app*", "*unpack-worker*", "*gpu-worker*", "*transfer-worker*")
USERS = ("audio-pipeline", "ra-app")


def uninstall(world: World) -> None:
    """Uninstalling leaves clean hosts; the data on the volume stays."""
    world.run(UNINSTALL)
    troubles = []
    for name in ("orch", "transfer-01", *world.gpu_hosts()):
        host = HOSTS[name]
        left = machine.inside(host, *_search(), check=False).stdout.split()
        troubles += [f"{name} keeps {path}" for path in left]
        for user in USERS:
            if machine.inside(host, "getent", "passwd", user, check=False).returncode == 0:
                troubles.append(f"{name} keeps the user {user}")
        failed = machine.inside(host, "systemctl", "--failed", "--no-legend", "--plain", check=False).stdout.strip()
        troubles += [f"{name}: {line}" for line in failed.splitlines()]
    world.require(not troubles, "\n".join(troubles))


def _search() -> list[str]:
    spared = [word for path in SPARED for word in ("-o", "-path", path)][1:]
    ours = [word for name in OURS for word in ("-o", "-name", name)][1:]
    return ["find", "/", "-xdev", "(", *spared, ")", "-prune", "-o", "(", *ours, ")", "-print"]
