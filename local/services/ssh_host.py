"""The SFTP server that replaces the EC2 host: `python -m local.services.ssh_host CONFIG.json`; SIGTERM stops it.

Keys only, one user, one directory that it cannot leave, no shell. A process of its own, so that tests may kill it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import asyncssh

from local.services.ssh import HostConfig


class RootedSFTPServer(asyncssh.SFTPServer):
    """An SFTP server whose `/` is one directory. It refuses links that lead out of this directory."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], root: str) -> None:
        super().__init__(channel, chroot=root.encode())
        self._root = os.path.realpath(root).encode()

    def map_path(self, path: bytes) -> bytes:
        local = super().map_path(path)
        if os.path.commonpath((self._root, os.path.realpath(local))) != self._root:
            raise asyncssh.SFTPPermissionDenied("This path leads out of the shared directory")
        return local


class OneUser(asyncssh.SSHServer):
    def __init__(self, user: str) -> None:
        self._user = user

    def begin_auth(self, username: str) -> bool:
        """Require authentication, and refuse other user names."""
        if username != self._user:
            raise asyncssh.PermissionDenied(f"There is no user {username} here")
        return True


async def serve(config: HostConfig) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    server = await asyncssh.listen(
        "127.0.0.1",
        config.port,
        server_factory=lambda: OneUser(config.user),
        server_host_keys=[config.host_key],
        authorized_client_keys=config.authorized_keys,
        password_auth=False,
        kbdint_auth=False,
        gss_host=None,
        sftp_factory=lambda channel: RootedSFTPServer(channel, config.root),
        allow_scp=False,
        agent_forwarding=False,
        x11_forwarding=False,
        reuse_address=True,
    )
    async with server:
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(serve(HostConfig(**json.loads(Path(sys.argv[1]).read_text()))))
