"""The distributions that hosts of a fleet can run, by their releases' code names: `FLEET_SUITE=noble make fleet`."""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tests.fleet.layout import CACHE, FleetError
from tests.fleet.shell import sh

UBUNTU = "http://archive.ubuntu.com/ubuntu"
# Debian 12 has no package of Ubuntu's keys; this is Ubuntu's own, by its checksum.
UBUNTU_KEYS = f"{UBUNTU}/pool/main/u/ubuntu-keyring/ubuntu-keyring_2023.11.28.1_all.deb"
UBUNTU_KEYS_SHA256 = "36de43b15853ccae0028e9a767613770c704833f82586f28eb262f0311adb8a8"


@dataclass(frozen=True)
class Suite:
    """A release of a distribution, with the archives that a cloud image of it is set up with."""

    name: str
    distribution: str
    components: str = "main"
    sources: tuple[str, ...] = ()  # lines of sources.list; none: what mmdebstrap knows by itself
    own_keys: bool = False  # signed by keys that Debian does not have
    lock: str = "cpu"  # packages of the GPU hosts


SUITES = {
    suite.name: suite
    for suite in (
        Suite("bookworm", "Debian 12"),
        Suite(
            "noble",
            "Ubuntu 24.04",
            "main universe",
            tuple(f"deb {UBUNTU} {pocket} main universe" for pocket in ("noble", "noble-updates", "noble-security")),
            own_keys=True,
            # CUDA's build of torch runs on the CPU, too, so a production fleet's packages are tried here.
            lock="gpu",
        ),
    )
}


def suite() -> Suite:
    """The one that was asked for; raises FleetError for one that is not known."""
    name = os.environ.get("FLEET_SUITE", "bookworm")
    if name not in SUITES:
        raise FleetError(f"FLEET_SUITE is {name!r}; there are {', '.join(SUITES)}")
    return SUITES[name]


def keyring() -> Path:
    """Ubuntu's archive keys, fetched once."""
    path = CACHE / "ubuntu-archive-keyring.gpg"
    if path.exists():
        return path
    with urllib.request.urlopen(UBUNTU_KEYS, timeout=60) as answer:  # noqa: S310 - a fixed address
        package = answer.read()
    if hashlib.sha256(package).hexdigest() != UBUNTU_KEYS_SHA256:
        raise FleetError(f"{UBUNTU_KEYS} is another package than UBUNTU_KEYS_SHA256 in {__file__} says")
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        (Path(folder) / "keys.deb").write_bytes(package)
        sh("dpkg-deb", "-x", f"{folder}/keys.deb", folder)
        (Path(folder) / "usr/share/keyrings" / path.name).replace(path)
    return path
