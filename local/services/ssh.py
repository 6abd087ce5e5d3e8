"""Runs the SFTP host (`ssh_host.py`) and creates the keys with which the transfer worker connects to it."""

from __future__ import annotations

import json
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from local.services.process import ServerProcess
from local.services.state import State, write_private

READY_S = 20.0
USER = "ubuntu"  # as on the cloud image
REMOTE_DIR = "/archives"  # as the transfer worker names it


@dataclass(frozen=True)
class HostConfig:
    """The configuration of the server process. It names files and holds no secrets."""

    port: int
    user: str
    root: str
    host_key: str
    authorized_keys: str

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))


class SshHost:
    def __init__(self, root: Path, state: State) -> None:
        self.root = root
        self.folder = root / "ssh"
        self.state = state
        self._process: ServerProcess | None = None

    @property
    def port(self) -> int:
        return self.state.port("ssh")

    @property
    def processes(self) -> list[ServerProcess]:
        return [self._process] if self._process else []

    @property
    def served_root(self) -> Path:
        """Return the directory that clients see as `/`."""
        return self.folder / "files"

    @property
    def archives(self) -> Path:
        """Return the local path of `REMOTE_DIR`, the folder for archives."""
        return self.served_root / REMOTE_DIR.lstrip("/")

    @property
    def client_key(self) -> Path:
        return self.folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def environ(self) -> dict[str, str]:
        return {
            "TRANSFER_SSH_HOST": "127.0.0.1",
            "TRANSFER_SSH_PORT": str(self.port),
            "TRANSFER_SSH_USER": USER,
            "TRANSFER_SSH_KEY": str(self.client_key),
            "TRANSFER_KNOWN_HOSTS": str(self.known_hosts),
            "TRANSFER_REMOTE_DIR": REMOTE_DIR,
        }

    def start(self) -> None:
        self.archives.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        config = self.folder / "host.json"
        process = ServerProcess(
            "The SFTP host",
            [sys.executable, "-m", "local.services.ssh_host", config],
            self.root / "logs/ssh-host.log",
            self.root / "run/ssh-host.pid",
            cwd=Path(__file__).resolve().parents[2],
        )
        process.reap()
        port = self.state.free_port("ssh")
        self._make_keys(port)
        HostConfig(
            port=port,
            user=USER,
            root=str(self.served_root),
            host_key=str(self.folder / "host_ed25519"),
            authorized_keys=str(self.folder / "authorized_keys"),
        ).save(config)
        self._process = process
        process.start()
        process.wait_ready(self._answers, READY_S)

    def stop(self) -> None:
        for process in self.processes:
            process.stop()

    def _make_keys(self, port: int) -> None:
        host = _key_pair(self.folder / "host_ed25519")
        client = _key_pair(self.client_key)
        write_private(self.folder / "authorized_keys", client)
        write_private(self.known_hosts, f"[127.0.0.1]:{port} {host}")

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                return connection.recv(8).startswith(b"SSH-2.0")
        except OSError:
            return False


def _key_pair(path: Path) -> str:
    """Create an ed25519 key (0600) unless it exists, and return its public key as one line."""
    public = path.with_suffix(".pub")
    if not path.exists() or not public.exists():
        from cryptography.hazmat.primitives import serialization as form
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
        write_private(path, private.decode())
        public.write_bytes(key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH) + b"\n")
    return public.read_text()
