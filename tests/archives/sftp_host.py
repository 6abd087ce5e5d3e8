"""A real SFTP server on a free port, with its own host and user keys. A test can make it fail."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import asyncssh

from archives.sources.ssh import ArchiveHost


class _Files(asyncssh.SFTPServer):
    """Serves a folder; calls `on_read` before every read, so that a test can interfere in the middle of a fetch."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], owner: SftpHost) -> None:
        super().__init__(channel, chroot=str(owner.files).encode())
        self._owner, self._channel = owner, channel
        owner.channels.append(channel)

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        if (number := self._refusal(path)) == errno.EACCES:
            raise OSError(number, os.strerror(number))
        return super().open(path, pflags, attrs)

    def _refusal(self, path: bytes) -> int | None:
        return self._owner.refused.get(Path(os.fsdecode(path)).name)

    def read(self, file_obj: object, offset: int, size: int) -> bytes | Awaitable[bytes]:
        if number := self._refusal(os.fsencode(getattr(file_obj, "name", ""))):
            raise OSError(number, os.strerror(number))
        self._owner.bytes_asked += size
        if self._owner.on_read is not None:
            self._owner.on_read(offset, self._channel)
        return super().read(file_obj, offset, size)


class SftpHost:
    """The server; `with SftpHost(folder) as host: host.client()`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.files = folder, folder / "files"
        self.user_key, self.known_hosts = folder / "user_key", folder / "known_hosts"
        self.on_read: Callable[[int, Any], None] | None = None
        self.refused: dict[str, int] = {}  # file name -> the error that opening (EACCES) or reading it gives
        self.bytes_asked, self.port = 0, 0
        self.channels: list[asyncssh.SSHServerChannel[bytes]] = []
        self._host_key = asyncssh.generate_private_key("ssh-ed25519")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        (self.files / "archives").mkdir(parents=True)
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(self.user_key)
        self.user_key.chmod(0o600)
        key.write_public_key(folder / "authorized_keys")

    async def _listen(self) -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[self._host_key],
            authorized_client_keys=str(self.folder / "authorized_keys"),
            sftp_factory=lambda channel: _Files(channel, self),
        )

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        self.port = self._server.get_port()
        self.write_known_hosts(self._host_key)
        return self

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            self._server.close()
            await self._server.wait_closed()
            await asyncio.sleep(0.05)  # connections that the client closed end on their own

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def drop_connections(self) -> None:
        """Close every connection from this side; when it returns, they are closed."""

        async def close() -> None:
            connections = {channel.get_connection() for channel in self.channels}
            self.channels.clear()
            for connection in connections:
                connection.close()
                await connection.wait_closed()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(10)

    def write_known_hosts(self, key: asyncssh.SSHKey) -> None:
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {key.export_public_key().decode()}")

    def client(self, **changes: Any) -> ArchiveHost:
        options: dict[str, Any] = {
            "port": self.port,
            "user": "ubuntu",
            "key": self.user_key,
            "known_hosts": self.known_hosts,
        } | changes
        return ArchiveHost(str(options.pop("host", "127.0.0.1")), **options)

    def put(self, name: str, data: bytes, mtime: int = 1_750_000_000) -> Path:
        path = self.files / "archives" / name
        path.write_bytes(data)
        os.utime(path, (mtime, mtime))
        return path
