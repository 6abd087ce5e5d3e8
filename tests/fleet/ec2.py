"""The host that replaces the EC2 host: sshd, the public key of the transfer worker, and a folder for archives."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.fleet import checkout, keys
from tests.fleet.layout import HOSTS, Host

ARCHIVES = "srv/archives"


def prepare_ec2() -> None:
    host = HOSTS["ec2"]
    keys.authorize(host, keys.make_key(checkout.TRANSFER_KEY))
    folder = host.root / ARCHIVES
    folder.mkdir(parents=True, exist_ok=True)
    os.chown(folder, keys.UBUNTU_UID, keys.UBUNTU_UID)


def place(archive: Path, name: str) -> None:
    """Put an archive on the EC2 host. It appears there complete, by a rename."""
    folder = HOSTS["ec2"].root / ARCHIVES
    partial = folder / f".{name}.part"
    shutil.copyfile(archive, partial)
    os.chown(partial, keys.UBUNTU_UID, keys.UBUNTU_UID)
    partial.replace(folder / name)


def place_models(source: Path, orchestrator: Host) -> None:
    """Copy the demo's models to the orchestrator, from which GPU hosts fetch them."""
    target = orchestrator.root / checkout.MODELS.lstrip("/") / source.name
    if not target.exists():
        shutil.copytree(source, target)
