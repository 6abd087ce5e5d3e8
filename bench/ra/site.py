"""The RA app as it is deployed: gunicorn behind nginx with TLS, PostgreSQL and S3; and a Chromium that opens it."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flask import Flask
from playwright.sync_api import Browser, CDPSession, Page

from app import create_app
from app.config import load_settings
from app.models import db
from bench.ra.filling import Filling
from local.demo_browser import HOW, find_chromium
from local.services import Services
from tests.databases import fresh_database
from tests.ra_app.browsing import log_in, wait
from tests.ra_app.nginx import NAME, in_front_of
from tests.ra_app.profiles import chromium, profile
from tests.ra_app.serving import GUNICORN, RA_APP, run, serving
from tests.ra_app.world import World

ADDRESS = f"https://{NAME}"
ROUND_TRIP_MS = 80
BANDWIDTH = 12_000_000  # bits per second
BUCKET = "ra-screen"


@dataclass(frozen=True)
class Site:
    app: Flask  # for changes behind the server's back
    world: World
    filling: Filling
    behind: str  # gunicorn's own address
    chromium: str  # path
    flags: list[str]  # with which Chromium finds the site and trusts its certificate
    browser: Browser
    folder: Path  # for files of one run

    @contextmanager
    def visitor(self, username: str | None = "mira", **options: Any) -> Iterator[Page]:
        """A new browser profile in which this person is logged in."""
        with profile(self.browser, ADDRESS, **options) as page:
            if username is not None:
                log_in(page, username)
            yield page

    def first_clip(self, page: Page) -> None:
        """Open the first clip that waits, and wait until it can be played and the keys work."""
        page.goto("/")
        page.get_by_role("button", name="first clip").or_(page.get_by_role("button", name="Next clip")).click()
        page.wait_for_url("**/review/*")
        ready(page)


def ready(page: Page) -> None:
    wait(page, "document.querySelector('#desk.live') && a && a.readyState >= 3")


@contextmanager
def running() -> Iterator[Site]:
    """Start everything, and stop it when the block ends."""
    path = find_chromium()
    if path is None:
        raise SystemExit(f"There is no Chromium on this machine. {HOW}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        services = stack.enter_context(Services(folder / "services", durable=False))
        services.make_bucket(BUCKET)
        database = fresh_database(services, "ra_screen")
        environ = {
            **services.ra_app_environ(database=database.name, bucket=BUCKET),
            "FLASK_ENV": "production",
            "TRUSTED_PROXIES": "1",
            "FLASK_APP": "app",
        }
        upgraded = run("flask db upgrade", environ)
        if upgraded.returncode:
            raise SystemExit(upgraded.stderr)
        app = create_app(load_settings(environ))
        world = World(app, database.admin_dsn, services, BUCKET)
        behind = stack.enter_context(serving(GUNICORN, environ, made(folder / "gunicorn")))
        flags = stack.enter_context(door(behind, made(folder / "nginx")))
        browser = stack.enter_context(chromium(path, *flags))
        yield Site(app, world, Filling(world), behind, path, flags, browser, folder)
        world.close()
        with app.app_context():
            db.engine.dispose()


@contextmanager
def door(behind: str, folder: Path) -> Iterator[list[str]]:
    """Run nginx in front of this address; yields the flags with which Chromium finds it under the site's name."""
    (folder / "current").symlink_to(RA_APP)  # where nginx looks for static files
    with in_front_of(behind, folder) as port:
        key = x509.load_pem_x509_certificate((folder / "ra-app.crt").read_bytes()).public_key()
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        pin = base64.b64encode(hashlib.sha256(der).digest()).decode()
        yield [
            f"--host-resolver-rules=MAP {NAME}:443 127.0.0.1:{port}",
            f"--ignore-certificate-errors-spki-list={pin}",
        ]


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def far_away(page: Page) -> CDPSession:
    """From now on the page's network has a round trip of `ROUND_TRIP_MS` and `BANDWIDTH`."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send(
        "Network.emulateNetworkConditions",
        {
            "offline": False,
            "latency": ROUND_TRIP_MS,
            "downloadThroughput": BANDWIDTH / 8,
            "uploadThroughput": BANDWIDTH / 8,
        },
    )
    return session
