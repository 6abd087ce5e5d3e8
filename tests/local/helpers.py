"""Helpers of tests: run one statement, send one request, open one ssh session, run one command."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import asyncssh
import boto3
import psycopg2
from botocore.client import Config

from local.services import Services

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tests.conftest import SshHostFixture

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")

CRASHING = """
import os, signal, sys
from pathlib import Path
from local.services import Services
services = Services(Path(sys.argv[1]), durable=False)
services.start()
print([process.pid for process in services.processes], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def s3_client(services: Services, access_key: str = "", secret_key: str = "") -> S3Client:
    client: S3Client = boto3.client(
        "s3",
        endpoint_url=services.s3_endpoint,
        region_name="us-east-1",
        aws_access_key_id=access_key or services.s3_access_key,
        aws_secret_access_key=secret_key or services.s3_secret_key,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    return client


def put(services: Services, bucket: str, key: str, content: bytes) -> None:
    with contextlib.closing(s3_client(services)) as client:
        client.put_object(Bucket=bucket, Key=key, Body=content)


def get(services: Services, bucket: str, key: str) -> bytes:
    with contextlib.closing(s3_client(services)) as client:
        content: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    return content


def http_get(address: str) -> tuple[int, bytes]:
    """Status and body of one plain request."""
    parts = urlsplit(address)
    with contextlib.closing(http.client.HTTPConnection(parts.netloc, timeout=10)) as connection:
        connection.request("GET", f"{parts.path}?{parts.query}")
        answer = connection.getresponse()
        return answer.status, answer.read()


def execute(dsn: str, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
    """Run one statement in its own transaction -> its rows, if it has any."""
    with contextlib.closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement, arguments or None)
        return cursor.fetchall() if cursor.description else []


def run(command: Sequence[str | Path], env: Mapping[str, str]) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def killed_program_with_services(root: Path) -> list[int]:
    """Start services from a program that then kills itself with SIGKILL -> the pids of its servers."""
    command = [sys.executable, "-c", CRASHING, str(root)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    pids: list[int] = json.loads(done.stdout)
    return pids


def ssh_run(host: SshHostFixture, use: Callable[[asyncssh.SSHClientConnection], Awaitable[T]], **other: Any) -> T:
    """Log in as the transfer worker does (`other` changes this), and call `use` with the connection."""

    async def session() -> T:
        arguments: dict[str, Any] = {
            "username": host.env["TRANSFER_SSH_USER"],
            "client_keys": [host.env["TRANSFER_SSH_KEY"]],
            "known_hosts": host.env["TRANSFER_KNOWN_HOSTS"],
            "config": None,
            "agent_path": None,
        }
        port = int(host.env["TRANSFER_SSH_PORT"])
        async with asyncssh.connect(host.env["TRANSFER_SSH_HOST"], port, **(arguments | other)) as connection:
            return await use(connection)

    return asyncio.run(session())


def sftp_run(host: SshHostFixture, use: Callable[[asyncssh.SFTPClient], Awaitable[T]], **other: Any) -> T:
    async def with_sftp(connection: asyncssh.SSHClientConnection) -> T:
        async with connection.start_sftp_client() as sftp:
            return await use(sftp)

    return ssh_run(host, with_sftp, **other)
