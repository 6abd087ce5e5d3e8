"""The distributions that a fleet's hosts can run, by the code name of the release: `FLEET_SUITE=noble make fleet`."""

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
# Debian 12 has no package of Ubuntu's keys. This is Ubuntu's own package, checked by its checksum.
UBUNTU_KEYS = f"{UBUNTU}/pool/main/u/ubuntu-keyring/ubuntu-keyring_2023.11.28.1_all.deb"
UBUNTU_KEYS_SHA256 = "36de43b15853ccae0028e9a767613770c704833f82586f28eb262f0311adb8a8"


@dataclass(frozen=True)
class Suite:
    """A release of a distribution, and the package archives that its cloud image uses."""

    name: str
    distribution: str
    components: str = "main"
    sources: tuple[str, ...] = ()  # lines of sources.list; none: mmdebstrap's default
    own_keys: bool = False  # the archives are signed by keys that Debian does not have
    lock: str = "cpu"  # the lock of the GPU hosts


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
            # CUDA's build of torch also runs on the CPU, so the packages of a production fleet are tested here.
            lock="gpu",
        ),
    )
}


def suite() -> Suite:
    """The suite of FLEET_SUITE; raises FleetError if it is not known."""
    name = os.environ.get("FLEET_SUITE", "bookworm")
    if name not in SUITES:
        raise FleetError(f"FLEET_SUITE is {name!r}; there are {', '.join(SUITES)}")
    return SUITES[name]


def keyring() -> Path:
    """Fetch the keys of Ubuntu's package archives, once."""
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
