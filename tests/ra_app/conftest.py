"""The RA app against real Postgres and Swift: its own role, its migrations, S3 keys that can only read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher
from flask import Flask
from playwright.sync_api import Browser, Page

from app import create_app
from app.config import load_settings
from app.models import db
from app.people import accounts
from local.services import Database, Services
from tests.databases import fresh_database
from tests.ra_app.browsing import SCREEN
from tests.ra_app.campaign import CODERS
from tests.ra_app.profiles import chromium
from tests.ra_app.serving import GUNICORN, run, serving
from tests.ra_app.world import Visitor, World

BUCKET = "ra-app-tests"


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


@pytest.fixture
def lead(world: World, app: Flask) -> Visitor:
    """A lead who is logged in."""
    world.add_user("lea", role="lead")
    browser = Visitor(app)
    browser.log_in("lea")
    return browser


@pytest.fixture
def coders(world: World) -> list[int]:
    """The numbers of three research assistants."""
    return [world.add_user(name) for name in CODERS]


@pytest.fixture(scope="module")  # not longer: Playwright's event loop runs meanwhile, and other tests start their own
def browser(chromium_path: str) -> Iterator[Browser]:
    with chromium(chromium_path) as running:
        yield running


@pytest.fixture(scope="module")
def address(app: Flask, ra_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app served as it is deployed; the migrations have run."""
    assert app is not None
    with serving(GUNICORN, ra_env, tmp_path_factory.mktemp("gunicorn")) as url:
        yield url


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A new browser profile. Any error of the page fails the test."""
    context = browser.new_context(viewport=SCREEN, base_url=address)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    opened.on("requestfailed", lambda request: complaints.append(f"{request.url}: {request.failure}"))
    yield opened
    context.close()
    # What a page is still loading when one leaves it is cut off; that is no fault.
    assert [line for line in complaints if "ERR_ABORTED" not in line] == []
