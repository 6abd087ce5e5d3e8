"""Gives the hosts this machine's access to package registries: its CA, pip's settings, folders of local wheels."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from tests.fleet.shell import sh

CA_FOLDER = Path("/usr/local/share/ca-certificates")
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
PASSED_ON = ("index-url", "extra-index-url", "find-links", "default-timeout")
UV_CACHE = "/var/cache/uv-fleet"


def pip_settings() -> dict[str, str]:
    """The settings of pip on this machine (environment or file) that say where packages come from."""
    found: dict[str, str] = {}
    for line in sh(sys.executable, "-m", "pip", "config", "list").stdout.splitlines():
        key, _, value = line.partition("=")
        scope, _, name = key.rpartition(".")
        if name in PASSED_ON and scope in {"global", "install", ":env:"}:
            found[name] = str(ast.literal_eval(value))
    return found


def wheel_folders() -> list[Path]:
    """The folders of local wheels that pip uses besides its index."""
    return [Path(word) for word in pip_settings().get("find-links", "").split() if Path(word).is_dir()]


def shared_folders() -> list[Path]:
    """Local folders that pip's settings name. The hosts must have them at the same paths."""
    words = " ".join(value for name, value in pip_settings().items() if name != "default-timeout").split()
    local = [Path(word.removeprefix("file://")) for word in words if word.startswith(("file://", "/"))]
    folders = []
    for path in local:
        # An index of local files links to ../files, so the parent folder is shared: it holds both.
        folder = path.parent if path.name == "simple" else path
        if folder.is_dir() and folder not in folders:
            folders.append(folder)
    return folders


def pip_conf() -> str:
    lines = [f"{name} = {value}" for name, value in pip_settings().items()]
    return "\n".join(["[global]", f"cert = {CA_BUNDLE}", *lines]) + "\n"


def uv_toml() -> str:
    """Settings for uv on the hosts: one cache for all of them, and the CA that the system trusts."""
    return f'cache-dir = "{UV_CACHE}"\nlink-mode = "copy"\nnative-tls = true\n'


def private_cas() -> list[Path]:
    return sorted(CA_FOLDER.glob("*.crt")) if CA_FOLDER.is_dir() else []
