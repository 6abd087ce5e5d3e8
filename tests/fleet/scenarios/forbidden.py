"""Accesses that must be refused."""

from __future__ import annotations

import socket
from collections.abc import Callable

from tests.fleet import machine, observe
from tests.fleet.checkout import secrets
from tests.fleet.layout import CONTROLLER, HOSTS
from tests.fleet.world import World

ORCH = HOSTS["orch"].address
OPEN_PORTS = {"orch": {22, 80, 443}, "transfer-01": {22}, "gpu-01": {22}}
TRIED_PORTS = (22, 80, 443, 5432, 6379, 8000)


def forbidden(world: World) -> None:
    """Refused: Redis without password, commands and tables that a worker or role does not need, ports from outside."""
    refused: dict[str, Callable[[], str]] = {
        "Redis without a password": _redis_error,
        "Redis with a wrong password": lambda: _redis_error(user="default", password="wrong"),
    }
    refused |= {name: lambda command=command: _tls_error(command) for name, command in IN_THE_CLEAR.items()}  # type: ignore[misc]
    for kind in ("transfer", "unpack", "gpu"):
        own = {"user": f"{kind}-worker", "password": secrets()[f"vault_redis_{kind}_password"]}
        for command in (("CONFIG", "GET", "*"), ("FLUSHALL",), ("KEYS", "*"), ("ACL", "LIST"), ("SHUTDOWN",)):
            refused[f"{kind}-worker: {' '.join(command)}"] = lambda own=own, command=command: _redis_error(
                *command, **own
            )  # type: ignore[misc]
    for role, statement in STATEMENTS:
        refused[f"{role}: {statement}"] = lambda role=role, statement=statement: _postgres_error(role, statement)  # type: ignore[misc]
    allowed = [what for what, attempt in refused.items() if not attempt()]
    world.require(not allowed, f"these accesses were not refused: {'; '.join(allowed)}")
    for name, wanted in OPEN_PORTS.items():
        found = {port for port in TRIED_PORTS if _answers(HOSTS[name].address, port)}
        world.require(found <= wanted, f"{name} answers from outside on ports {sorted(found - wanted)}")
    world.require(_answers(ORCH, 443), "nginx does not answer from outside on port 443")


STATEMENTS = (
    ("ra_app", "INSERT INTO batches (batch_id) VALUES ('forbidden')"),
    ("ra_app", "UPDATE classifications SET violates = NOT violates"),
    ("ra_app", "DELETE FROM audio_files"),
    ("ra_app", "TRUNCATE transcripts"),
    ("ra_app", "DROP TABLE audio_files"),
    ("ra_app", "CREATE TABLE public.forbidden (a int)"),
    ("ra_app", "CREATE FUNCTION public.format(text, name, name) RETURNS text LANGUAGE sql AS 'SELECT $1'"),
    ("ra_app", "CREATE TEMPORARY TABLE forbidden (a int)"),
    ("ra_app", "CREATE SCHEMA forbidden"),
    ("pipeline", "SELECT * FROM ra_app.ra_users"),
    ("pipeline", "UPDATE ra_app.ra_labels SET note = ''"),
    ("pipeline", "DELETE FROM ra_app.ra_labels"),
    ("pipeline", "DELETE FROM audio_files"),
    ("pipeline", "UPDATE operator_actions SET who = ''"),
    ("pipeline", "CREATE TABLE forbidden (a int)"),
    ("pipeline", "CREATE ROLE forbidden"),
)
# Commands of a host that uses no TLS, or does not know the fleet's authority, and the error that it must get.
IN_THE_CLEAR = {
    "Redis without TLS": f"/usr/bin/redis-cli -h {ORCH} PING",
    "Redis, by a host without the authority": f"/usr/bin/redis-cli --tls -h {ORCH} PING",
    "Postgres without TLS": f"psql 'host={ORCH} user=pipeline dbname=audio_pipeline sslmode=disable' -c 'SELECT 1'",
    "Postgres, by a host without the authority": f"psql 'host={ORCH} user=pipeline dbname=audio_pipeline "
    "sslmode=verify-full sslrootcert=/etc/ssl/certs/ca-certificates.crt' -c 'SELECT 1'",
}
TLS_REFUSALS = (
    "closed by server",
    "closed the connection",
    "reset by peer",
    "certificate verify failed",
    "no pg_hba.conf entry",
    "pg_hba.conf rejects",
)
REFUSALS = ("NOAUTH", "WRONGPASS", "NOPERM")


def _redis_error(*command: str, user: str = "", password: str = "") -> str:
    """Run a Redis command -> the error, or empty text if it was not refused."""
    # From the orchestrator itself, to its private address: here the firewall refuses nothing.
    asked = command or ("LLEN", "queue:unpack")
    if user:
        said = observe.redis_as(user, password, *asked)
    else:
        said = machine.inside(HOSTS["orch"], "/usr/local/bin/redis-cli", "-h", ORCH, *asked, check=False).stdout
    return said if any(word in said for word in REFUSALS) else ""


def _tls_error(command: str) -> str:
    """Try a connection that must fail -> its error, or empty text if it succeeded."""
    password = secrets()["vault_postgres_password"]
    done = machine.inside(HOSTS["orch"], "env", f"PGPASSWORD={password}", "sh", "-c", command, check=False)
    said = (done.stdout + done.stderr).lower()
    return said if any(word in said for word in TLS_REFUSALS) else ""


def _postgres_error(role: str, statement: str) -> str:
    """Run a role's statement -> Postgres' error, or empty text if it succeeded. It is always rolled back."""
    password = secrets()["vault_postgres_password" if role == "pipeline" else "vault_ra_app_postgres_password"]
    host = ORCH if role == "pipeline" else "localhost"  # ra_app comes from the orchestrator only
    words = ["psql", "-XAtq", "-h", host, "-U", role, "-d", observe.DATABASE, "-v", "ON_ERROR_STOP=1"]
    script = f"BEGIN; {statement}; ROLLBACK;"
    done = machine.inside(HOSTS["orch"], "env", f"PGPASSWORD={password}", *words, "-c", script, check=False)
    return done.stderr if "permission denied" in done.stderr or "must be owner" in done.stderr else ""


def _answers(address: str, port: int) -> bool:
    """Whether a port answers this machine, which is not in the fleet."""
    try:
        socket.create_connection((address, port), timeout=1.5, source_address=(CONTROLLER, 0)).close()
    except OSError:
        return False
    return True
