"""Reads the state of the fleet's stores and hosts directly, without the programs that the roles install."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import boto3
from botocore.config import Config

from local.services.swift import REGION
from tests.fleet import machine
from tests.fleet.keys import OPTIONS
from tests.fleet.layout import HOSTS, USER, Host
from tests.fleet.shell import sh
from tests.fleet.store import BUCKET, store

DATABASE = "audio_pipeline"
SCRATCH = "data/scratch"
# Read from the file, so it is the valid password also during a rotation, and it is in no argument.
REDIS_CLI = 'REDISCLI_AUTH="$(cat /etc/redis/operator-password)" exec /usr/local/bin/redis-cli --raw "$@"'


def rows(query: str, database: str = DATABASE) -> list[dict[str, Any]]:
    """Run a query as the database's administrator -> one record for each row."""
    wrapped = f"SELECT coalesce(json_agg(q), '[]') FROM ({query}) q"
    done = machine.inside(HOSTS["orch"], "runuser", "-u", "postgres", "--", "psql", "-XAtqc", wrapped, "-d", database)
    return list(json.loads(done.stdout))


def value(query: str) -> Any:
    [row] = rows(query)
    [found] = row.values()
    return found


def redis(*command: str) -> list[str]:
    """Run a Redis command as the operator -> the lines of the reply."""
    done = machine.inside(HOSTS["orch"], "sh", "-c", REDIS_CLI, "redis-cli", *command)
    return [line for line in done.stdout.splitlines() if line]


def redis_as(user: str, password: str, *command: str) -> str:
    """Run a Redis command as a user, at the orchestrator's private address -> the reply or the error."""
    orchestrator = HOSTS["orch"]
    words = ["/usr/local/bin/redis-cli", "-h", orchestrator.address, "--user", user, *command]
    done = machine.inside(orchestrator, "env", f"REDISCLI_AUTH={password}", *words, check=False)
    return (done.stdout + done.stderr).strip()


def authority() -> str:
    """The name of the authority that signed Redis' certificate, verified with the orchestrator's own file."""
    ask = (
        f"openssl s_client -connect {HOSTS['orch'].address}:6379 -CAfile /etc/audio-pipeline/fleet-ca.pem "
        "-verify_return_error </dev/null 2>/dev/null | openssl x509 -noout -issuer"
    )
    return machine.inside(HOSTS["orch"], "sh", "-c", ask).stdout.strip()


def queue_length(name: str) -> int:
    return int(redis("LLEN", name)[0])


def keys(pattern: str) -> list[str]:
    return sorted(redis("--scan", "--pattern", pattern))


def s3_client() -> Any:
    swift = store()
    return boto3.client(
        "s3",
        endpoint_url=swift.endpoint,
        aws_access_key_id=swift.access_key,
        aws_secret_access_key=swift.secret_key,
        region_name=REGION,
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 2}),
    )


def objects(prefix: str) -> list[str]:
    pages = s3_client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def on(host: Host, command: str, *, given: str | None = None) -> tuple[int, str]:
    """Run a command by ssh as the login user -> exit code and all output."""
    done = sh("ssh", *OPTIONS, f"{USER}@{host.address}", command, given=given, check=False)
    return done.returncode, done.stdout + done.stderr


def scratch(host: Host) -> list[str]:
    """The entries of a host's scratch directory."""
    listed = machine.inside(
        host, "find", f"/{SCRATCH}", "-mindepth", "1", "-maxdepth", "1", "-printf", "%f\\n", check=False
    )
    return sorted(listed.stdout.split())


def journal(host: Host, unit: str, *words: str, since: float = 0.0) -> list[str]:
    """Lines of a unit's journal that hold all the words; `since` is in Unix time."""
    command = ["journalctl", "-q", "-u", unit, "-o", "cat", "--no-pager", f"--since=@{since:.0f}"]
    done = machine.inside(host, *command, check=False)
    return [line for line in done.stdout.splitlines() if all(word in line for word in words)]


def running(hosts: Iterable[Host]) -> list[Host]:
    return [host for host in hosts if machine.is_up(host)]
