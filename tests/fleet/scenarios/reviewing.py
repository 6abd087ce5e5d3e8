"""A research assistant at work."""

from __future__ import annotations

from tests.fleet import observe
from tests.fleet.checkout import secrets, settings
from tests.fleet.https import Browser, certificate_of
from tests.fleet.layout import HOSTS
from tests.fleet.world import World

ADMIN = "admin"
LABELS = "SELECT count(*) FROM ra_app.ra_labels"


def review(world: World) -> None:
    """An RA logs in through nginx over TLS, hears a clip and labels it; the label is in Postgres."""
    before = observe.value(LABELS)
    browser = log_in(world)
    status, headers, _ = browser.post("/next", {})
    clip = headers.get("location", "")
    world.require("/review/" in clip, f"there is no clip to review: {status} {headers}")
    status, headers, sound = browser.get(clip.replace("/review/", "/audio/"))
    heard = f"{status}, {headers.get('content-type')}, {len(sound)} bytes"
    world.require(status == 200 and sound.startswith(b"OggS"), f"the clip's audio cannot be heard: {heard}")
    status, headers, page = browser.post(clip, {"label": "no_violation", "note": "heard by the fleet's tests"})
    world.require(status == 302, f"the label was not taken: {status} {page[:300]!r}")
    world.require(observe.value(LABELS) == before + 1, "the label is not in Postgres")


def log_in(world: World) -> Browser:
    orchestrator = HOSTS["orch"]
    name = settings()["ra_app_server_name"]
    browser = Browser(orchestrator.address, name, certificate_of(orchestrator.address))
    fields = {"username": ADMIN, "password": secrets()["vault_ra_admin_password"]}
    status, headers, page = browser.post("/login", fields)
    world.require(status == 302, f"the log-in was refused: {status} {headers} {page[-500:]!r}")
    return browser
