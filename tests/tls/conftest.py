"""A Redis and a PostgreSQL with TLS, whose certificates come from the program that makes them on the orchestrator."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pytest
import redis

from config import Settings, load_settings
from local.services.state import choose_port
from tests.workers.processes import wait_until

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "ansible/roles/orchestrator"
PASSWORD = "the password"
POSTGRES = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")


@dataclass(frozen=True)
class Authority:
    """The folders of `fleet-certificates`, and the program itself, for services on this machine."""

    folder: Path
    program: Path

    @property
    def trusted(self) -> Path:
        return self.folder / "ca/trusted.pem"

    def certificate(self, service: str) -> Path:
        return self.folder / service / "server.crt"

    def run(self, step: str) -> str:
        """Run a step of the program -> its output."""
        done = subprocess.run([self.program, step], capture_output=True, text=True, check=True)
        return done.stdout


def make_authority(folder: Path, names: Sequence[str] = ("IP:127.0.0.1",)) -> Authority:
    """The program as Ansible writes it, with its own folders. It has created nothing yet."""
    variables = {
        "orchestrator_fleet_ca": str(folder / "ca"),
        "orchestrator_redis_tls": str(folder / "redis"),
        "orchestrator_postgres_tls": str(folder / "postgres"),
        "orchestrator_redis_socket": str(folder / "redis.sock"),
        "orchestrator_redis_password_file": str(folder / "password"),
        "orchestrator_postgres_unit": "none",
        "orchestrator_fleet_names": list(names),
        "orchestrator_name": "orch",
        "orchestrator_fleet_ca_days": 3650,
        "orchestrator_fleet_days": 397,
        "orchestrator_fleet_renew_days": 30,
        "ansible_python_interpreter": sys.executable,
    }
    for service in ("redis", "postgres"):
        (folder / service).mkdir(parents=True)
        shutil.chown(folder / service, group=service)
        (folder / service).chmod(0o750)
    (folder / "password").write_text(PASSWORD)
    program = folder / "fleet-certificates"
    subprocess.run(
        [
            Path(sys.executable).with_name("ansible"), "localhost", "-c", "local", "-m", "ansible.builtin.template",
            "-a", f"src={ROLE}/templates/fleet-certificates.sh.j2 dest={program} mode=0700",
            "-e", json.dumps(variables),
        ],
        check=True, capture_output=True, cwd=ROOT / "ansible",
    )  # fmt: skip
    return Authority(folder, program)


@pytest.fixture(scope="module")
def readable() -> Iterator[Path]:
    """A folder that the services' users may read; pytest's own folders belong to root."""
    with tempfile.TemporaryDirectory(prefix="tls-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def authority(readable: Path) -> Authority:
    made = make_authority(readable / "fleet")
    made.run("renew")
    return made


@pytest.fixture(scope="module")
def tls_redis(authority: Authority) -> Iterator[int]:
    """Debian's Redis with the TLS settings of the role -> its port."""
    with redis_server(authority.folder, authority.certificate("redis"), authority.folder / "redis.sock") as port:
        yield port


class redis_server:  # noqa: N801 -- reads as a statement where it is used
    """A Redis that shows a certificate; its key lies beside it."""

    def __init__(self, folder: Path, certificate: Path, unix_socket: Path | None = None) -> None:
        self.port = choose_port()
        words = {
            "port": "0", "tls-port": str(self.port), "tls-cert-file": str(certificate), "save": "",
            "tls-key-file": str(certificate.with_suffix(".key")), "tls-auth-clients": "no", "bind": "127.0.0.1",
            "requirepass": PASSWORD, "dir": str(folder), "appendonly": "yes", "appenddirname": f"aof-{self.port}",
        }  # fmt: skip
        if unix_socket is not None:
            words["unixsocket"] = str(unix_socket)
        self._command = ["redis-server", *(word for name, value in words.items() for word in (f"--{name}", value))]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> int:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)

        def listens() -> bool:
            with socket.socket() as caller:
                return caller.connect_ex(("127.0.0.1", self.port)) == 0

        wait_until(listens, "Redis listens", 20)
        return self.port

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(20)


@pytest.fixture(scope="module")
def tls_postgres(authority: Authority, readable: Path) -> Iterator[int]:
    """Debian's PostgreSQL with TLS, which refuses connections without TLS -> its port."""
    [binaries, *_] = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    data = readable / "data"
    data.mkdir()
    shutil.chown(data, "postgres", "postgres")
    secret = readable / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    subprocess.run(
        [*POSTGRES, binaries / "initdb", "-D", data, "-U", "pipeline", "--pwfile", secret, "-A", "scram-sha-256"],
        check=True, capture_output=True, cwd=readable,
    )  # fmt: skip
    (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\nhost all all 0.0.0.0/0 reject\n")
    port, certificate = choose_port(), authority.certificate("postgres")
    settings = {
        "port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "ssl": "on",
        "ssl_cert_file": certificate, "ssl_key_file": certificate.with_suffix(".key"),
        "ssl_min_protocol_version": "TLSv1.2",
    }  # fmt: skip
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    process = subprocess.Popen([*POSTGRES, binaries / "postgres", "-D", data, *options], stderr=subprocess.DEVNULL)

    def answers() -> bool:
        try:
            psycopg2.connect(_dsn(port)).close()
        except psycopg2.OperationalError:
            return False
        return True

    try:
        wait_until(answers, "PostgreSQL answers", 30)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def _dsn(port: int) -> str:
    return f"host=127.0.0.1 port={port} user=pipeline dbname=postgres password='{PASSWORD}' sslmode=require"


def redis_settings(port: int, ca: Path | None, host: str = "127.0.0.1", **more: str) -> Settings:
    own = {"REDIS_HOST": host, "REDIS_PORT": str(port), "REDIS_PASSWORD": PASSWORD, "REDIS_TLS": "true"}
    return load_settings({**_S3, **own, "REDIS_CA_FILE": str(ca or ""), **more})


def postgres_settings(port: int, ca: Path | None, host: str = "127.0.0.1", mode: str = "verify-full") -> Settings:
    own = {
        "POSTGRES_HOST": host, "POSTGRES_PORT": str(port), "POSTGRES_PASSWORD": PASSWORD, "POSTGRES_DB": "postgres",
        "POSTGRES_SSLMODE": mode, "POSTGRES_CA_FILE": str(ca or ""),
    }  # fmt: skip
    return load_settings({**_S3, **own})


_S3 = {"S3_ENDPOINT": "http://127.0.0.1:1", "S3_ACCESS_KEY": "k", "S3_SECRET_KEY": "s", "PATH": os.environ["PATH"]}


def client(port: int, ca: Path) -> redis.Redis:
    return redis.Redis("127.0.0.1", port, 0, PASSWORD, ssl=True, ssl_ca_certs=str(ca))
