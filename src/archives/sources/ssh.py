"""List the archives on the EC2 host, and fetch them over SFTP.

The interface is synchronous, like the worker. Behind it, an event loop runs in its own thread, so that keepalives are
answered while the worker sleeps or uploads. This module never writes on the remote host.

A fetch may be interrupted at any moment (network, SIGTERM, power). The bytes received so far are in a `.part` file
named after the archive's identity, and the next fetch of the same archive continues after them. The file gets its own
name only when it is complete, on disk, and the source is unchanged since it was listed.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import fnmatch
import os
import stat
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Self, TypeVar

import asyncssh

from archives.sources.remote_archive import RemoteArchive, digest
from archives.sources.staging import check_space, is_whole, local_error, remove_other_parts
from config import Settings, require
from errors import (
    ConfigError,
    OneArchiveError,
    PipelineError,
    RetryableError,
    ServiceUnavailableError,
)
from system import shown

CONNECT_TIMEOUT_S = 20.0  # also for the login that follows
CALL_TIMEOUT_S = 120.0  # for one listing, stat or window of data: 8 MiB at 70 kB/s
KEEPALIVE_S = 15  # a silent connection counts as lost after three of these
WINDOW_BYTES = 8 << 20  # asyncssh splits it into parallel requests; two windows are under way at a time
LOST_CONNECTION = (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.DisconnectError)

# Names that programs give to incomplete files.
_UNFINISHED = ("*.part", "*.partial", "*.filepart", "*.tmp", "*.temp", "*.incomplete", "*.crdownload", "*~")

Result = TypeVar("Result")

asyncssh.set_log_level("WARNING")  # at lower levels it logs every step of every connection


class ArchiveHost:
    """The remote host, as a context manager. It connects at the first call, and again after a lost connection.

    Without `key`, the keys in `~/.ssh` and the agent are tried; without `known_hosts`, `~/.ssh/known_hosts` is read.
    A host whose key is not in that file is refused.
    """

    def __init__(
        self,
        host: str,
        *,
        port: int = 22,
        user: str = "ubuntu",
        key: Path | None = None,
        known_hosts: Path | None = None,
    ) -> None:
        self.host, self._port, self._user, self._key = host, port, user, key
        self._known_hosts = known_hosts or Path("~/.ssh/known_hosts").expanduser()
        self._connection: asyncssh.SSHClientConnection | None = None
        self._client: asyncssh.SFTPClient | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> ArchiveHost:
        require(settings, "transfer_ssh_host")
        return cls(
            settings.transfer_ssh_host,
            port=settings.transfer_ssh_port,
            user=settings.transfer_ssh_user,
            key=Path(settings.transfer_ssh_key) if settings.transfer_ssh_key else None,
            known_hosts=Path(settings.transfer_known_hosts) if settings.transfer_known_hosts else None,
        )

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ssh", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._submit(_cancel_everything()).result(CONNECT_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def list(self, directory: str, pattern: str = "*.tar*") -> list[RemoteArchive]:
        """Regular files in `directory` whose names match `pattern`, oldest first.

        Leaves out hidden and incomplete files (`*.part`, `*.tmp` …). The caller detects files that still grow.

        Raises
        ------
        ServiceUnavailableError
            The host or the directory cannot be reached; the message names the setting.
        ConfigError
            The private key cannot be used.
        """
        found: list[RemoteArchive] = []
        for entry in self._call(lambda sftp: sftp.readdir(directory), f"list {directory}", directory):
            name, attrs = str(entry.filename), entry.attrs
            if not stat.S_ISREG(attrs.permissions or 0) or not _wanted(name, pattern):
                continue
            path = f"{directory.rstrip('/')}/{name}"
            size, mtime = attrs.size or 0, int(attrs.mtime or 0)
            found.append(RemoteArchive(_shown(name), path, size, mtime))
        return sorted(found, key=lambda archive: (archive.mtime, archive.path))

    def fetch(
        self, archive: RemoteArchive, target: Path, on_progress: Callable[[int, int], None] | None = None
    ) -> Path:
        """Fetch `archive` to `target`, unless the complete file exists already.

        Calls `on_progress(done, total)`, in bytes, after every window, in the caller's thread. It may raise an
        exception to stop the fetch; a later call continues the fetch.

        Raises
        ------
        RetryableError
            The archive was changed or removed during the fetch.
        ServiceUnavailableError
            The connection failed; the bytes received so far are kept.
        OneArchiveError
            The host answers, but this archive cannot be read; or the staging volume has no room for it.
        OperatorError
            The staging directory cannot be written.
        """
        if is_whole(target, archive):
            return target
        part = target.with_name(f"{target.name}.{digest(f'{self.host}:{archive.identity}')[:12]}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            remove_other_parts(target, part)
            self._check_source(archive)
            if part.is_file() and part.stat().st_size > archive.size:
                part.unlink()
            with part.open("ab") as file:
                check_space(target.parent, archive, file.tell())
                self._copy(archive, file, on_progress)
                file.flush()
                os.fsync(file.fileno())
            self._check_source(archive)
            os.utime(part, (archive.mtime, archive.mtime))
            part.rename(target)
            fd = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(fd)  # the rename itself
            finally:
                os.close(fd)
        except RetryableError:
            part.unlink(missing_ok=True)  # it belongs to a version that no longer exists
            raise
        except OSError as error:
            raise local_error(error, target.parent) from error
        return target

    def _copy(self, archive: RemoteArchive, file: Any, on_progress: Callable[[int, int], None] | None) -> None:
        """Append the missing bytes to `file` in order, so that it always is a prefix of the archive."""
        doing = f"fetch {archive.path}"
        done: int = file.tell()
        if done == archive.size:
            return
        source = self._call(lambda sftp: _opened(sftp, archive.path), doing, archive.path)
        starts = iter(range(done, archive.size, WINDOW_BYTES))
        ahead = None

        def ask() -> concurrent.futures.Future[bytes] | None:
            start = next(starts, None)
            size = min(WINDOW_BYTES, archive.size - (start or 0))
            return None if start is None else self._submit(source.read(size, start))

        try:
            ahead = ask()
            while ahead is not None:
                current, ahead = ahead, ask()
                data = self._wait(current, doing, archive.path)
                file.write(data)
                done += len(data)
                if on_progress is not None:
                    on_progress(done, archive.size)
                if len(data) != min(WINDOW_BYTES, archive.size - (done - len(data))):
                    break  # the source has shrunk; `_check_source` reports it
        finally:
            if ahead is not None:
                ahead.cancel()
            if self._client is not None:
                self._wait(self._submit(source.close()), doing, archive.path)

    def _check_source(self, archive: RemoteArchive) -> None:
        """Raise RetryableError if the source changed since it was listed, so that no file mixes two versions."""
        attrs = self._call(lambda sftp: sftp.stat(archive.path), f"look at {archive.path}", archive.path)
        if (attrs.size, int(attrs.mtime or 0)) == (archive.size, archive.mtime):
            return
        raise RetryableError(
            f"{archive.name} changed on {self.host} during the fetch ({archive.size:,} bytes when listed, "
            f"{attrs.size or 0:,} now); it is fetched again when it has stopped growing"
        )

    def _call(
        self, action: Callable[[asyncssh.SFTPClient], Coroutine[Any, Any, Result]], doing: str, path: str
    ) -> Result:
        if self._client is not None:
            try:
                return self._wait(self._submit(action(self._client)), doing, path)
            except ServiceUnavailableError as error:
                if not isinstance(error.__cause__, LOST_CONNECTION):
                    raise
                # The connection may have been lost long ago. Connect again and repeat the request; that is harmless.
        self._wait(self._submit(self._connect()), "connect", path)
        assert self._client is not None  # noqa: S101 - _connect has set it or raised
        return self._wait(self._submit(action(self._client)), doing, path)

    def _submit(self, action: Coroutine[Any, Any, Result]) -> concurrent.futures.Future[Result]:
        return asyncio.run_coroutine_threadsafe(action, self._loop)

    def _wait(self, future: concurrent.futures.Future[Result], doing: str, path: str) -> Result:
        try:
            return future.result(CALL_TIMEOUT_S)
        except (asyncssh.Error, OSError, ValueError) as error:
            mapped = self._mapped(error, doing, path)
            if isinstance(mapped, ServiceUnavailableError):
                self.close()
            raise mapped from error
        finally:
            future.cancel()  # needed when the wait ended early, by the time limit or a signal

    async def _connect(self) -> None:
        if self._key is not None:
            _check_key(self._key)
        if not self._known_hosts.is_file():
            raise ServiceUnavailableError(f"the known_hosts file {self._known_hosts} does not exist: {self._keyscan()}")
        options: dict[str, Any] = {"client_keys": [str(self._key)], "agent_path": None} if self._key else {}
        try:
            self._connection = await asyncssh.connect(
                self.host,
                self._port,
                username=self._user,
                known_hosts=str(self._known_hosts),
                config=None,  # a person's ~/.ssh/config must have no effect
                preferred_auth="publickey",
                connect_timeout=CONNECT_TIMEOUT_S,
                login_timeout=CONNECT_TIMEOUT_S,
                keepalive_interval=KEEPALIVE_S,
                keepalive_count_max=3,
                **options,
            )
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            sentence = f"TRANSFER_SSH_KEY={self._key} must hold a private key without a passphrase ({error})"
            raise ConfigError(sentence) from error
        self._client = await self._connection.start_sftp_client(path_errors="surrogateescape")

    def close(self) -> None:
        """Close the connection; the next call makes a new one."""
        connection, self._connection, self._client = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(TimeoutError):
                self._submit(_closed(connection)).result(CONNECT_TIMEOUT_S)

    def _mapped(self, error: Exception, doing: str, path: str) -> PipelineError:
        doing, path = _shown(doing), _shown(path)
        where = f"{self._user}@{self.host}:{self._port}"
        if isinstance(error, asyncssh.HostKeyNotVerifiable):
            return ServiceUnavailableError(self._host_key_sentence())
        if isinstance(error, asyncssh.PermissionDenied):
            return ServiceUnavailableError(
                f"{where} refuses our key: on that host, add the public key of TRANSFER_SSH_KEY to "
                "~/.ssh/authorized_keys of TRANSFER_SSH_USER"
            )
        if isinstance(error, asyncssh.SFTPError) and (refusal := self._file_refusal(error, doing, path)):
            return refusal
        reason = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        if doing == "connect":
            return ServiceUnavailableError(
                f"no ssh connection to {where} ({reason}): check TRANSFER_SSH_HOST, TRANSFER_SSH_PORT, the firewall, "
                "and that the host runs"
            )
        return ServiceUnavailableError(
            f"the connection to {where} failed during: {doing} ({reason}); the bytes received so far are kept"
        )

    def _file_refusal(self, error: asyncssh.SFTPError, doing: str, path: str) -> PipelineError | None:
        if isinstance(error, asyncssh.SFTPNoSuchFile):
            if doing.startswith("list"):
                return ServiceUnavailableError(
                    f"{self.host} has no directory {path}: correct TRANSFER_REMOTE_DIR, or create it there"
                )
            return RetryableError(f"{path} no longer exists on {self.host}")
        if isinstance(error, asyncssh.SFTPPermissionDenied):
            if doing.startswith("list"):
                return ServiceUnavailableError(
                    f"{self._user} may not read {path} on {self.host}: give TRANSFER_SSH_USER the right to, or correct "
                    "TRANSFER_REMOTE_DIR"
                )
            return OneArchiveError(
                f"{self._user} may not read {path} on {self.host}: give TRANSFER_SSH_USER the right to (chmod), or "
                "move it away"
            )
        if not isinstance(error, LOST_CONNECTION) and not doing.startswith("list"):
            # The host answers, so only this file is affected. For example, a read error (EIO) comes as SSH_FX_FAILURE.
            return OneArchiveError(
                f"{self.host} cannot read {path} ({error}): check it there (ls -l, dmesg), then repair it or move "
                "it away; the bytes received so far are kept"
            )
        return None

    def _keyscan(self) -> str:
        return (
            f"run `ssh-keyscan -p {self._port} {self.host} >> {self._known_hosts}`, compare the fingerprint with the "
            "one that the host itself shows, and set TRANSFER_KNOWN_HOSTS to that file"
        )

    def _host_key_sentence(self) -> str:
        if self._knows_host():
            return (
                f"the host key of {self.host} differs from the one in {self._known_hosts}: this may be an attack. Only "
                f"if the host was installed again, remove its line and {self._keyscan()}"
            )
        return f"the host key of {self.host} is not in {self._known_hosts}: {self._keyscan()}"

    def _knows_host(self) -> bool:
        try:
            return bool(asyncssh.match_known_hosts(str(self._known_hosts), self.host, "", self._port)[0])
        except (OSError, ValueError):
            return False


async def _opened(sftp: asyncssh.SFTPClient, path: str) -> asyncssh.SFTPClientFile:
    return await sftp.open(path, "rb", encoding=None)


async def _cancel_everything() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _closed(connection: asyncssh.SSHClientConnection) -> None:
    connection.abort()
    await connection.wait_closed()


def _check_key(key: Path) -> None:
    try:
        mode = key.stat().st_mode
    except OSError as error:
        raise ConfigError(f"TRANSFER_SSH_KEY={key} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise ConfigError(f"TRANSFER_SSH_KEY={key} can be read by others: run `chmod 600 {key}`")


def _shown(name: str) -> str:
    """Make a file name safe for messages: bytes that are not UTF-8 and control characters become escapes."""
    return shown.one_line(name.encode(errors="surrogateescape").decode(errors="backslashreplace"))


def _wanted(name: str, pattern: str) -> bool:
    if "/" in name or name.startswith(".") or any(fnmatch.fnmatchcase(name.lower(), end) for end in _UNFINISHED):
        return False
    return fnmatch.fnmatchcase(name, pattern)
