"""The base tree: a distribution like a cloud image, with the login user `ubuntu`. Each host is an overlay on it."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from pathlib import Path

from tests.fleet import registries, suites
from tests.fleet.layout import CACHE, USER, FleetError
from tests.fleet.shell import sh

# The packages of a cloud image, which the playbooks may use. The playbooks must install all others.
PACKAGES = (
    "systemd", "systemd-sysv", "libpam-systemd", "dbus", "udev", "kmod", "openssh-server", "sudo", "python3",
    "python3-apt", "ca-certificates", "iproute2", "iputils-ping", "netbase", "procps", "e2fsprogs",
    "curl", "gnupg", "less", "locales",
)  # fmt: skip
KEPT = 2  # how many trees of earlier recipes are kept


def base_tree() -> Path:
    """Return the base tree. Build it if none exists for the current recipe (about half a minute)."""
    tree = CACHE / f"base-{_recipe()}"
    if _ready(tree):
        return tree
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two programs that start at the same time build only one tree
        if not _ready(tree):
            print(
                f"==> building the base tree in {tree} ({suites.suite().distribution}, about half a minute, once)",
                flush=True,
            )
            _build(tree)
            _forget_old(tree)
    return tree


def uv_cache() -> Path:
    folder = CACHE / "uv"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _recipe() -> str:
    """Return a hash that changes with everything that the tree is built from."""
    parts = [Path(__file__).read_bytes(), repr(suites.suite()).encode(), registries.pip_conf().encode()]
    parts += [registries.uv_toml().encode(), *(ca.read_bytes() for ca in registries.private_cas())]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def _ready(tree: Path) -> bool:
    return (tree / ".ready").exists()


def _build(tree: Path) -> None:
    if tree.exists():
        shutil.rmtree(tree)  # an earlier build was cut short
    suite = suites.suite()
    done = sh(
        "mmdebstrap",
        "--mode=root",
        "--variant=apt",
        "--skip=cleanup/apt/lists",
        f"--include={','.join(PACKAGES)}",
        f"--components={suite.components}",
        *([f"--keyring={suites.keyring()}"] if suite.own_keys else []),
        suite.name,
        tree,
        *suite.sources,
        check=False,
        timeout_s=1200,
    )
    if done.returncode != 0:
        raise FleetError(f"mmdebstrap could not build the base tree: {done.stderr.strip()[-600:]}")
    _trust(tree)
    _network(tree)
    _login_user(tree)
    (tree / "etc/machine-id").write_text("")  # each host makes its own at its first boot
    for key in (tree / "etc/ssh").glob("ssh_host_*"):
        key.unlink()  # each host has its own
    (tree / ".ready").touch()


def _trust(tree: Path) -> None:
    folder = tree / "usr/local/share/ca-certificates"
    for ca in registries.private_cas():
        shutil.copy(ca, folder / ca.name)
    sh("chroot", tree, "update-ca-certificates")
    (tree / "etc/pip.conf").write_text(registries.pip_conf())
    (tree / "etc/uv").mkdir()
    (tree / "etc/uv/uv.toml").write_text(registries.uv_toml())


def _network(tree: Path) -> None:
    sh("chroot", tree, "systemctl", "enable", "systemd-networkd.service")
    resolver = tree / "etc/resolv.conf"
    resolver.unlink(missing_ok=True)
    shutil.copy("/etc/resolv.conf", resolver)


def _login_user(tree: Path) -> None:
    sh("chroot", tree, "useradd", "-m", "-s", "/bin/bash", "-G", "sudo,adm", USER)
    rule = tree / "etc/sudoers.d/90-cloud-init-users"
    rule.write_text(f"{USER} ALL=(ALL) NOPASSWD:ALL\n")
    rule.chmod(0o440)


def _forget_old(current: Path) -> None:
    """Remove base trees that no overlay of a host uses."""
    mounts = Path("/proc/mounts").read_text()
    trees = sorted(CACHE.glob("base-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for tree in [tree for tree in trees if tree != current][KEPT - 1 :]:
        if str(tree) not in mounts:
            shutil.rmtree(tree, ignore_errors=True)
