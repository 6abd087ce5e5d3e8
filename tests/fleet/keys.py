"""ssh: the operator's key, one host key for each host, and the known_hosts file that names them."""

from __future__ import annotations

import os
from pathlib import Path

from tests.fleet.layout import SSH, USER, Host
from tests.fleet.shell import sh

KEY = SSH / "id_fleet"
KNOWN_HOSTS = SSH / "known_hosts"
UBUNTU_UID = 1000
OPTIONS = (
    "-i", str(KEY), "-o", "IdentitiesOnly=yes", "-o", f"UserKnownHostsFile={KNOWN_HOSTS}",
    "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10",
)  # fmt: skip


def make_key(path: Path = KEY) -> str:
    """Make the key pair if it does not exist -> the public key as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    if not path.exists():
        sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", path)
    return path.with_suffix(".pub").read_text()


def give_keys(host: Host) -> None:
    """Give the host its own host key, and allow the operator's key for its login user."""
    host_key = host.root / "etc/ssh/ssh_host_ed25519_key"
    if not host_key.exists():
        sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host.name, "-f", host_key)
    authorize(host, make_key())
    _know(host)


def authorize(host: Host, public: str) -> None:
    """Let the owner of a key log in as `ubuntu`; idempotent."""
    folder = host.root / f"home/{USER}/.ssh"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "authorized_keys"
    known = path.read_text() if path.exists() else ""
    if public not in known:
        path.write_text(known + public)
    path.chmod(0o600)
    for item in (folder, path):
        os.chown(item, UBUNTU_UID, UBUNTU_UID)


def known_line(host: Host) -> str:
    """The host's line in a known_hosts file."""
    kind, key = (host.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2]
    return f"{host.address} {kind} {key}\n"


def _know(host: Host) -> None:
    lines = KNOWN_HOSTS.read_text().splitlines(keepends=True) if KNOWN_HOSTS.exists() else []
    others = [line for line in lines if not line.startswith(f"{host.address} ")]
    KNOWN_HOSTS.write_text("".join([*others, known_line(host)]))
