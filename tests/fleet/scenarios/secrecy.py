"""Secrets can be changed while the fleet works and exist only in their files. Units have the required sandbox."""

from __future__ import annotations

import re

from local.services.state import write_private
from tests.fleet import checkout, machine, observe
from tests.fleet.layout import HOSTS
from tests.fleet.playbooks import LOGS
from tests.fleet.scenarios.deploys import demand_units
from tests.fleet.world import World

ROTATED = (
    "vault_redis_password", "vault_redis_transfer_password", "vault_redis_unpack_password", "vault_redis_gpu_password",
    "vault_postgres_password", "vault_ra_app_postgres_password", "vault_ra_app_secret_key",
)  # fmt: skip
EXPOSURE = {
    "transfer-worker": 2.0, "unpack-worker": 2.0, "ra-app": 2.0, "gpu-worker": 3.0,
    "nginx": 3.0, "postgresql@15-main": 3.5, "postgresql@16-main": 3.5,
}  # fmt: skip
PATTERNS = "/root/.fleet-secrets"


def rotate(world: World) -> None:
    """Secrets are changed during work: the old ones are refused, and no clip is lost."""
    old = checkout.secrets()
    checkout.rotate()
    world.run_at_work("ansible-playbook playbooks/rotate-secrets.yml")
    new = checkout.secrets()
    same = [name for name in ROTATED if old[name] == new[name]]
    world.require(not same, f"{same} have not changed, so this scenario would test nothing")
    refused = observe.redis_as("default", old["vault_redis_password"], "PING")
    world.require("WRONGPASS" in refused, f"the old Redis password still works: {refused}")
    demand_units(world)
    world.settle_accounts()


def rotate_ca(world: World) -> None:
    """The authority of the certificates is changed during work: no worker is restarted, and no clip is lost."""
    before, started = observe.authority(), _worker_starts(world)
    world.run_at_work("ansible-playbook playbooks/rotate-ca.yml")
    world.require(observe.authority() != before, "Redis still shows a certificate of the old authority")
    for name in ("orch", "transfer-01", *world.gpu_hosts()):
        known = machine.inside(HOSTS[name], "grep", "-c", "BEGIN", "/etc/audio-pipeline/fleet-ca.pem").stdout.strip()
        world.require(known == "1", f"{name} trusts {known} authorities after the rotation")
    world.require(_worker_starts(world) == started, "a worker was restarted by the rotation of the authority")
    demand_units(world)
    world.settle_accounts()


def _worker_starts(world: World) -> list[str]:
    command = (
        "systemctl",
        "show",
        "--value",
        "--property=ActiveEnterTimestampMonotonic",
        "unpack-worker",
        "gpu-worker",
    )
    return [machine.inside(HOSTS[name], *command).stdout for name in world.gpu_hosts()]


def secrecy(world: World) -> None:
    """No secret is in units, `systemctl show`, arguments, journals, world-readable files or Ansible's output."""
    wanted = _texts()
    found = []
    for name in ("orch", "transfer-01", *world.gpu_hosts()):
        list_ = HOSTS[name].root / PATTERNS.lstrip("/")  # in a file: as arguments the search would find itself
        write_private(list_, "\n".join(wanted) + "\n")
        try:
            for what, command in PLACES.items():
                search = f"({command}) 2>/dev/null | grep -aoFf {PATTERNS} | sort -u"
                hits = machine.inside(HOSTS[name], "bash", "-c", search, check=False).stdout.splitlines()
                found += [f"{what} of {name}: {wanted[hit]}" for hit in hits]
        finally:
            list_.unlink()
    for log in sorted(LOGS.iterdir()):
        text = log.read_text(errors="replace")
        found += [f"{log.name}: {secret}" for hit, secret in wanted.items() if hit in text]
    world.require(not found, "secrets were found in places where they must not be: " + "; ".join(sorted(set(found))))


def _texts() -> dict[str, str]:
    """The secrets to search for -> their names. Access keys are not secret, so they are left out."""
    found = {
        value: name for name, value in checkout.secrets().items() if not name.endswith(("_access_key", "_private_key"))
    }
    key_lines = checkout.secrets()["vault_transfer_ssh_private_key"].splitlines()
    return found | {key_lines[2]: "vault_transfer_ssh_private_key"}


PLACES = {
    "unit files": "cat /etc/systemd/system/*.service /etc/systemd/system/*/*.conf",
    "systemctl show": "systemctl show '*'",
    "arguments": "ps -eo args",
    "the journal": "journalctl --no-pager -o cat",
    "world-readable files": "find /etc /opt /home /var/lib /usr/local /run -xdev -type f -perm -o=r "
    "-not -path '*/venvs/*' -not -path '/var/lib/apt/*' -not -path '/var/lib/dpkg/*' -print0 | xargs -0 cat",
}


def hardening(world: World) -> None:
    """`systemd-analyze security` on the hosts: at most 2.0; GPU worker and nginx 3.0, PostgreSQL 3.5."""
    for name in ("orch", "transfer-01", *world.gpu_hosts()):
        for unit, limit in EXPOSURE.items():
            if machine.inside(HOSTS[name], "systemctl", "cat", unit, check=False).returncode != 0:
                continue
            said = machine.inside(HOSTS[name], "systemd-analyze", "security", "--no-pager", unit, check=False).stdout
            score = re.search(r"exposure level for \S+: (\d+\.\d)", said)
            world.require(score, f"systemd-analyze security {unit} says nothing on {name}: {said[-200:]}")
            if score:
                world.say(f"{name} {unit}: {score[1]}")
                world.require(float(score[1]) <= limit, f"{unit} on {name} scores {score[1]}, more than {limit}")
