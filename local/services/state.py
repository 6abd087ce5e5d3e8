"""The ports and secrets that a data directory keeps between starts."""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
from collections.abc import Container
from pathlib import Path

# Below the range from which the kernel takes ports for outgoing connections (from 32768 on Linux), so that a remembered
# port is not given away while the service is down.
PORT_RANGE = range(18000, 32000)
PORT_TRIES = 200
# Programs that start services at the same time get a part of the range each, as "18000-21499": between the choice of a
# port and the start of its server another program could choose the same.
OWN_PORTS = "LOCAL_PORTS"


def port_range() -> range:
    first, dash, last = os.environ.get(OWN_PORTS, "").partition("-")
    return range(int(first), int(last) + 1) if dash else PORT_RANGE


def choose_port(taken: Container[int] = ()) -> int:
    """A port that is free now and not in `taken`; raises OSError if there is none."""
    ports = port_range()
    for _ in range(PORT_TRIES):
        port = secrets.choice(ports)
        if port not in taken and port_is_free(port):
            return port
    raise OSError(f"no free port found between {ports.start} and {ports.stop - 1}")


def port_is_free(port: int) -> bool:
    """Whether a server can listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do, so a port in TIME_WAIT is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read. The mode is set before the first byte is written."""
    partial = path.with_name(path.name + ".new")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    partial.replace(path)


class State:
    """Ports (chosen once, kept while they are free) and generated secrets of one data directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.Lock()  # services start in parallel
        self._path = root / "state.json"
        self._ports: dict[str, int] = {}
        self._secrets: dict[str, str] = {}
        if self._path.exists():
            known = json.loads(self._path.read_text())
            self._ports, self._secrets = known["ports"], known["secrets"]

    def port(self, name: str) -> int:
        """Return the stored port of `name`, also if it is not free. Choose and store one if there is none."""
        with self._lock:
            if name not in self._ports:
                self._choose(name)
            return self._ports[name]

    def free_port(self, name: str) -> int:
        """Return the stored port of `name` if it is free, else choose and store another one."""
        with self._lock:
            if name not in self._ports or not port_is_free(self._ports[name]):
                self._choose(name)
            return self._ports[name]

    def secret(self, name: str, length: int = 32) -> str:
        """Return a generated secret (letters and digits). Every call returns the same one."""
        with self._lock:
            if name not in self._secrets:
                self._secrets[name] = secrets.token_hex((length + 1) // 2)[:length]
                self._save()
            return self._secrets[name]

    def _choose(self, name: str) -> None:
        self._ports[name] = choose_port(set(self._ports.values()))
        self._save()

    def _save(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        write_private(self._path, json.dumps({"ports": self._ports, "secrets": self._secrets}, indent=1))
