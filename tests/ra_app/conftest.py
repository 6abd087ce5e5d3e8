"""The RA app against real Postgres and Swift: its own role, its migrations, S3 keys that can only read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from flask import Flask

from app import accounts, create_app
from app.config import load_settings
from app.models import db
from local.services import Database, Services
from tests.databases import fresh_database
from tests.ra_app.world import Visitor, World

RA_APP = Path(__file__).resolve().parents[2] / "ra_app"
BUCKET = "ra-app-tests"


def command_env(environ: dict[str, str]) -> dict[str, str]:
    """The environment of a command: these settings, and the tools of the environment that runs the tests."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "PATH") if name in os.environ}
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    return {**kept, **environ}


def run(command: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command of the guide word for word in ra_app/."""
    return subprocess.run(
        ["bash", "-c", command],
        cwd=RA_APP,
        env=command_env(environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(scope="session")
def ra_bucket(services: Services) -> str:
    services.make_bucket(BUCKET)
    return BUCKET


@pytest.fixture(scope="module")
def ra_env(services: Services, database: Database, ra_bucket: str) -> dict[str, str]:
    """The app's settings; the schema of the app is not there yet."""
    return {
        **services.ra_app_environ(database=database.name, bucket=ra_bucket),
        "FLASK_ENV": "development",
        "FLASK_APP": "app",
    }


@pytest.fixture(scope="session", autouse=True)
def cheap_hashes() -> Iterator[None]:
    """Passwords are hashed by argon2 as always, but with little work; at full cost one takes 0.2 s of CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounts, "hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        yield


@pytest.fixture(scope="session")
def migrated(services: Services, ra_bucket: str) -> str:
    """The name of a database with all migrations, to be copied."""
    template = fresh_database(services, "template_ra")
    environ = services.ra_app_environ(database=template.name, bucket=ra_bucket)
    upgraded = run("flask db upgrade", {**environ, "FLASK_ENV": "development", "FLASK_APP": "app"})
    assert upgraded.returncode == 0, upgraded.stderr
    return template.name


@pytest.fixture(scope="module")
def app(services: Services, database: Database, migrated: str, ra_env: dict[str, str]) -> Iterator[Flask]:
    """The app; its module's database is replaced by one that `flask db upgrade` has been applied to."""
    services.copy_database(migrated, database.name)
    made = create_app(load_settings(ra_env))
    yield made
    with made.app_context():
        db.engine.dispose()


@pytest.fixture(scope="module")
def _world(app: Flask, database: Database, services: Services, ra_bucket: str) -> Iterator[World]:
    made = World(app, database.admin_dsn, services, ra_bucket)
    yield made
    made.close()


@pytest.fixture
def world(_world: World) -> World:
    """Database and bucket; no clips, no users."""
    _world.empty()
    return _world


@pytest.fixture
def visitor(app: Flask) -> Visitor:
    """Somebody who is not logged in."""
    return Visitor(app)


@pytest.fixture
def mira(world: World, app: Flask) -> Visitor:
    """A research assistant who is logged in."""
    world.add_user("mira")
    browser = Visitor(app)
    assert browser.log_in("mira").status_code == 302
    return browser
