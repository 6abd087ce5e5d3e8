"""The operator's checkout: a clone of this repository whose inventory and variables describe the fleet.

Commands run in its `ansible/` folder exactly as the guide writes them, with a vault that is encrypted; new versions
are commits made in it.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from local.services.state import State, write_private
from tests.fleet import keys, registries, store, suites
from tests.fleet.layout import CLONES, FLEET, HOSTS, ROOT, SSH, USER, Host
from tests.fleet.shell import sh

CHECKOUT = FLEET / "checkout"
ANSIBLE = CHECKOUT / "ansible"
VAULT_PASSWORD = FLEET / "vault-password"
VARS = FLEET / "vars.yml"  # the same variables, for a checkout that must not be changed: ansible-playbook -e @vars.yml
GENERATION = FLEET / "secrets-generation"  # how often the secrets were changed
TRANSFER_KEY = SSH / "id_transfer"
MODELS = "/srv/models"
BIN = Path(sys.executable).parent
# Short, so that the scenarios need not wait for what takes half an hour on a real fleet.
WAITS = {
    "TRANSFER_POLL_S": 2,
    "TRANSFER_SETTLE_S": 3,
    "RETRY_BASE_S": 2,
    "HEARTBEAT_TTL_S": 20,
    "HOST_LOST_AFTER_S": 60,
}
BACKUP_KEY = FLEET / "backup-key.txt"  # decrypts the copies of backups; it is on no host
AUTHOR = ("-c", "user.name=Fleet", "-c", "user.email=fleet@localhost")


def prepare() -> None:
    """Clone the commit of this repository, and write the inventory and the variables of the hosts that exist."""
    if CHECKOUT.exists():
        shutil.rmtree(CHECKOUT)
    sh("git", "clone", "--quiet", ROOT, CHECKOUT)
    write_private(VAULT_PASSWORD, State(FLEET).secret("vault-password", 40) + "\n")
    write_inventory([host for host in HOSTS.values() if (CLONES / host.name).is_dir()])
    write_private(VARS, yaml.safe_dump(settings() | secrets()))
    _override(ANSIBLE / "group_vars/all.yml", settings())
    _override(ANSIBLE / "group_vars/gpu_workers.yml", {"pipeline_lock": suites.suite().lock})
    write_vault()


def override(values: Mapping[str, Any]) -> None:
    """Change variables of the fleet, as an operator does."""
    _override(ANSIBLE / "group_vars/all.yml", dict(values))


def write_vault(other: Mapping[str, str] | None = None) -> None:
    """Write and encrypt the vault, with some secrets that are `other` than the fleet's."""
    vault = ANSIBLE / "group_vars/vault.yml"
    write_private(vault, yaml.safe_dump(secrets() | dict(other or {})))
    sh("ansible-vault", "encrypt", vault, env=environment(), cwd=ANSIBLE)


def rotate() -> None:
    """Change the secrets, also in the vault. S3's keys and the transfer host's key stay, because others issue them."""
    GENERATION.write_text(GENERATION.read_text() + "+" if GENERATION.exists() else "+")
    write_vault()
    write_private(VARS, yaml.safe_dump(settings() | secrets()))


def write_inventory(hosts: list[Host]) -> None:
    """Write `inventory/production.yml` as an operator of this fleet would."""
    groups: dict[str, dict[str, Any]] = {"orchestrator": {}, "gpu_workers": {}, "transfer": {}}
    for host in hosts:
        if host.name == "ec2":
            continue  # Ansible does not manage the EC2 host
        group = {"orch": "orchestrator", "gpu": "gpu_workers", "transfer": "transfer"}[host.name.split("-")[0]]
        groups[group][host.name] = {"ansible_host": host.address}
    common = {"ansible_user": USER, "ansible_ssh_private_key_file": str(keys.KEY)}
    common["ansible_ssh_common_args"] = f"-o UserKnownHostsFile={keys.KNOWN_HOSTS} -o IdentitiesOnly=yes"
    children = {name: {"hosts": members} for name, members in groups.items()}
    text = yaml.safe_dump({"all": {"vars": common, "children": children}}, sort_keys=False)
    (FLEET / "inventory.yml").write_text(text)
    if ANSIBLE.is_dir():
        (ANSIBLE / "inventory").mkdir(exist_ok=True)
        (ANSIBLE / "inventory/production.yml").write_text(text)


def settings() -> dict[str, Any]:
    """The variables that differ from a production fleet: addresses, the demo's models, short waits."""
    return {
        "s3_endpoint": store.store().endpoint,
        "s3_bucket": store.BUCKET,
        "model_source_host": "orch",
        "model_source_path": MODELS,
        "model_set": "demo",
        "gpu_enabled": False,
        "pipeline_find_links": [str(folder) for folder in registries.wheel_folders()],
        "ra_app_server_name": "ra.fleet.test",
        "pipeline_settings": WAITS,
        "backup_s3_bucket": store.BACKUPS,
        "backup_recipient": backup_recipient(),
        "transfer_ssh_host": HOSTS["ec2"].address,
        "transfer_ssh_user": USER,
        "transfer_remote_dir": "/srv/archives",
        "transfer_known_hosts": keys.known_line(HOSTS["ec2"]) if HOSTS["ec2"].root.is_dir() else "",
    }


def backup_recipient() -> str:
    """The public key that copies of backups are encrypted for; its secret key stays on this machine."""
    if not BACKUP_KEY.exists():
        write_private(BACKUP_KEY, sh("age-keygen").stdout)
    return sh("age-keygen", "-y", BACKUP_KEY).stdout.strip()


def secrets() -> dict[str, str]:
    state, swift = State(FLEET), store.store()
    generated = (
        "redis_password", "redis_transfer_password", "redis_unpack_password", "redis_gpu_password", "postgres_password",
        "ra_app_postgres_password", "ra_app_secret_key", "ra_admin_password",
    )  # fmt: skip
    keys.make_key(TRANSFER_KEY)
    turn = GENERATION.read_text() if GENERATION.exists() else ""
    return {f"vault_{name}": state.secret(name + turn, 40) for name in generated} | {
        "vault_s3_access_key": swift.access_key,
        "vault_s3_secret_key": swift.secret_key,
        "vault_backup_s3_access_key": swift.access_key,
        "vault_backup_s3_secret_key": swift.secret_key,
        "vault_ra_app_s3_access_key": swift.reader_access_key,
        "vault_ra_app_s3_secret_key": swift.reader_secret_key,
        "vault_transfer_ssh_private_key": TRANSFER_KEY.read_text(),
    }


def environment() -> dict[str, str]:
    """The environment of the operator's shell."""
    path = f"{BIN}:{os.environ.get('PATH', '')}"
    return os.environ | {"PATH": path, "ANSIBLE_VAULT_PASSWORD_FILE": str(VAULT_PASSWORD), "NO_COLOR": "1"}


def commit(message: str) -> str:
    """Commit the changes of the programs, but not those of inventory and variables -> the new commit's id."""
    sh("git", *AUTHOR, "commit", "--quiet", "--message", message, "--", "src", cwd=CHECKOUT)
    return head()


def drop_last_commit() -> None:
    sh("git", "reset", "--quiet", "--keep", "HEAD~1", cwd=CHECKOUT)


def head() -> str:
    return sh("git", "rev-parse", "HEAD", cwd=CHECKOUT).stdout.strip()


def _override(path: Path, values: dict[str, Any]) -> None:
    known = yaml.safe_load(path.read_text()) if path.exists() else {}
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump((known or {}) | values, sort_keys=False))
