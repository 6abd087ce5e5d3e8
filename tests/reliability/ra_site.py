"""The RA app as it is deployed, with clips to review, and the ways in which it fails for the tests of faults."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from app import create_app
from app.config import load_settings
from local.services import Services
from local.services.process import ServerProcess
from local.services.state import choose_port
from tests.databases import fresh_database
from tests.ra_app.serving import RA_APP, START_TIMEOUT_S, command_env, run, status
from tests.ra_app.world import World, tone

BUCKET = "ra-faults"
AUDIO_S = 9.5


class Site:
    """Gunicorn, Postgres and S3. `world` is the database as an administrator sees it."""

    def __init__(self, services: Services, logs: Path) -> None:
        services.make_bucket(BUCKET)
        database = fresh_database(services, "ra_faults")
        environ = {
            **services.ra_app_environ(database=database.name, bucket=BUCKET),
            "FLASK_ENV": "development",
            "FLASK_APP": "app",
        }
        for command in ("flask db upgrade", "flask codebook publish"):
            done = run(command, environ)
            if done.returncode != 0:
                raise RuntimeError(f"{command} failed: {done.stderr}")
        self.world = World(create_app(load_settings(environ)), database.admin_dsn, services, BUCKET)
        port = choose_port()
        self.address = f"http://127.0.0.1:{port}"
        tools = Path(sys.executable).parent
        self._server = ServerProcess(
            "The RA app",
            [tools / "gunicorn", "--bind", f"127.0.0.1:{port}", "app:create_app()"],
            logs / "gunicorn.log",
            logs / "gunicorn.pid",
            env=command_env(environ),
            cwd=RA_APP,
        )

    def add_clips(self, count: int) -> None:
        """Add flagged clips. They share one recording."""
        key = "processed/2026-11-20/shared.opus"
        self.world.put(key, tone(AUDIO_S))
        for _ in range(count):
            self.world.add_clip()
        self.world.sql("UPDATE audio_files SET s3_opus_path = %s, duration_s = %s", key, AUDIO_S)

    # --- the server

    def start(self) -> None:
        """Start the server if it does not run. It answers some time later."""
        if not self._server.alive():
            self._server.start()

    def wait(self) -> None:
        self.start()
        self._server.wait_ready(lambda: status(f"{self.address}/healthz") == 200, START_TIMEOUT_S)

    def kill(self) -> None:
        """Kill gunicorn and its workers at once (SIGKILL)."""
        if self._server.popen is not None and self._server.alive():
            os.killpg(self._server.popen.pid, signal.SIGKILL)
            self._server.popen.wait()

    def close(self) -> None:
        self._server.stop()
        self.world.close()

    # --- the database

    def end_connections(self) -> None:
        """End every connection of the app, as when Postgres is started again."""
        self.world.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'ra_app'")

    def end_sessions(self) -> None:
        self.world.sql("UPDATE ra_users SET session_epoch = session_epoch + 1")

    def labels(self) -> list[tuple[Any, ...]]:
        """Return every stored label, in the order in which they were stored.

        A row has: key of the form, clip, labels, confidence, note, marked parts, number of the label, the label before.
        """
        return self.world.sql(
            "SELECT l.submission_key::text, a.audio_id, l.labels, l.confidence, l.note, l.spans, l.label_id, "
            "l.revision_of FROM ra_labels l JOIN ra_assignments a USING (assignment_id) ORDER BY l.label_id"
        )

    def drafts(self) -> dict[int, dict[str, Any]]:
        """Return the content of the drafts by clip."""
        rows = self.world.sql(
            "SELECT a.audio_id, d.content FROM ra_drafts d JOIN ra_assignments a USING (assignment_id)"
        )
        return dict(rows)
