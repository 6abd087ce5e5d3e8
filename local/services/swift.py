"""OpenStack Swift with its S3 API: the same object store as in the cloud, with its data in one folder."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import pwd
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from local.services.process import ServerProcess, ServiceError, tail
from local.services.state import State, write_private
from local.services.swift_conf import BACKENDS, REGION, SwiftFacts, files

READY_S = 40.0
NAMES = (*BACKENDS, "proxy")
DEVICE = "d1"


class Swift:
    """One Swift. Clients find it at `address`: the loopback, unless others than this machine shall reach it."""

    def __init__(self, root: Path, state: State, address: str = "127.0.0.1") -> None:
        self.root = root
        self.address = address
        self.folder = root / "swift"
        self.state = state
        self.processes: list[ServerProcess] = []

    @property
    def port(self) -> int:
        return self.state.port("swift-proxy")

    @property
    def endpoint(self) -> str:
        return f"http://{self.address}:{self.port}"

    @property
    def account(self) -> str:
        return "local" + self.state.secret("swift-account", 10)

    @property
    def access_key(self) -> str:
        return f"{self.account}:pipeline"

    @property
    def secret_key(self) -> str:
        return self.state.secret("swift-secret", 40)

    @property
    def reader_access_key(self) -> str:
        """Return the RA app's access key, which may only read buckets that `make_bucket` has created."""
        return f"{self.account}:reader"

    @property
    def reader_secret_key(self) -> str:
        return self.state.secret("swift-reader-secret", 40)

    def start(self) -> None:
        etc = self.folder / "etc"
        for folder in (etc, self.folder / "node" / DEVICE, self.folder / "cache"):
            folder.mkdir(parents=True, exist_ok=True)
        _require_xattrs(self.folder)
        scripts = Path(sysconfig.get_path("scripts"))
        self.processes = [
            ServerProcess(
                f"Swift {name} server",
                [sys.executable, "-W", "ignore", scripts / f"swift-{name}-server", etc / f"{name}-server.conf"],
                self.root / f"logs/swift-{name}.log",
                self.root / f"run/swift-{name}.pid",
                cwd=self.folder,
            )
            for name in NAMES
        ]
        for process in self.processes:
            process.reap()
        ports = {name: self.state.free_port(f"swift-{name}") for name in NAMES}
        self._configure(etc, ports)
        for process in self.processes:
            process.start()
        for process, name in zip(self.processes, NAMES, strict=True):
            address = self.address if name == "proxy" else "127.0.0.1"
            process.wait_ready(lambda at=(address, ports[name]): _listens(*at), READY_S)  # type: ignore[misc]
        self.processes[-1].wait_ready(self._healthy, READY_S)

    def stop(self) -> None:
        for process in reversed(self.processes):  # the proxy first, so that it sends no requests to stopped servers
            process.ask_to_stop()
        for process in self.processes:
            process.stop()

    def make_bucket(self, name: str) -> None:
        """Create a bucket (idempotent) that the RA app's key may read and list."""
        token, path = self._login()
        headers = {"X-Auth-Token": token, "X-Container-Read": self.reader_access_key}
        status, body = self._ask("PUT", f"{path}/{name}", headers)
        if status not in {201, 202}:
            log = tail(self.root / "logs/swift-proxy.log")
            raise ServiceError(f"Swift did not create bucket {name} ({status} {body[:200]!r}); its log says:\n{log}")

    def drop_bucket(self, name: str) -> None:
        """Delete a bucket with all its objects and unfinished multipart uploads. It may be called twice."""
        token, path = self._login()
        headers = {"X-Auth-Token": token}
        for container in (name, f"{name}+segments"):  # s3api keeps the parts of large objects beside the bucket
            there = f"{path}/{quote(container)}"
            while (listing := self._ask("GET", there, headers))[0] == 200:
                for entry in listing[1].decode().splitlines():
                    self._ask("DELETE", f"{there}/{quote(entry)}", headers)
            self._ask("DELETE", there, headers)

    def _login(self) -> tuple[str, str]:
        with self._connection() as connection:
            connection.request(
                "GET", "/auth/v1.0", headers={"X-Auth-User": self.access_key, "X-Auth-Key": self.secret_key}
            )
            answer = connection.getresponse()
            answer.read()
            token = answer.getheader("X-Auth-Token")
        if token is None:
            log = tail(self.root / "logs/swift-proxy.log")
            raise ServiceError(f"Swift refused its own credentials ({answer.status}); its log says:\n{log}")
        return token, f"/v1/AUTH_{self.account}"

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        with self._connection() as connection:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection(self.address, self.port, timeout=30)
        try:
            yield connection
        finally:
            connection.close()

    def _healthy(self) -> bool:
        try:
            return self._ask("GET", "/healthcheck", {})[0] == 200
        except OSError:
            return False

    def _configure(self, etc: Path, ports: dict[str, int]) -> None:
        key = base64.urlsafe_b64encode(self.state.secret("swift-fernet").encode()).decode()
        facts = SwiftFacts(
            etc=etc,
            devices=self.folder / "node",
            cache=self.folder / "cache",
            user=pwd.getpwuid(os.geteuid()).pw_name,
            account=self.account,
            secret=self.secret_key,
            reader_secret=self.reader_secret_key,
            fernet_key=key,
            hash_prefix=self.state.secret("swift-hash-prefix"),
            hash_suffix=self.state.secret("swift-hash-suffix"),
            ports=ports,
            proxy_address=self.address,
        )
        for name, text in files(facts).items():
            write_private(etc / name, text)
        _write_rings(etc, ports)


def _write_rings(etc: Path, ports: dict[str, int]) -> None:
    """Write the rings if a port has changed. One device holds every partition, so no data must be moved."""
    wanted = repr(sorted(ports.items()))
    stamp = etc / "rings-for"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    # In a separate process, because Swift's modules patch the standard library at import.
    servers = [f"{name}:{ports[name]}" for name in BACKENDS]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "local.services.swift_rings", str(etc), DEVICE, *servers],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ServiceError(f"Swift's rings could not be built: {done.stderr.strip()}")
    stamp.write_text(wanted)


def _listens(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def _require_xattrs(folder: Path) -> None:
    """Swift keeps an object's metadata in user extended attributes."""
    if not hasattr(os, "setxattr"):
        return
    probe = folder / ".xattr-probe"
    probe.write_bytes(b"")
    try:
        os.setxattr(probe, "user.probe", b"1")
    except OSError as error:
        raise ServiceError(
            f"The file system of {folder} has no user extended attributes ({error.strerror}), which Swift needs; "
            "put the data on ext4, xfs or btrfs (or tmpfs from Linux 6.6)."
        ) from error
    finally:
        probe.unlink()


__all__ = ["REGION", "Swift"]
