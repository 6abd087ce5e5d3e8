"""A review page opened in a new browser profile: until it can be played, how many requests that takes, and its bytes.

Playable: the player says `canplay`, and the script acts on keys. The emulated network adds its round trip to each
request, but not to the opening of a connection; TCP and TLS 1.3 take two more round trips, which are added here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Request

from bench.ra.figures import Figure, at_most, percentile
from bench.ra.site import ADDRESS, ROUND_TRIP_MS, Site, far_away, ready
from tests.ra_app.profiles import profile

ROUNDS = 12
CONNECTING_MS = 2 * ROUND_TRIP_MS
PLAYABLE = """() => {
  addEventListener("canplay", () => { window.playable ??= performance.now(); }, true);
  new MutationObserver(() => {
    if (document.querySelector("#desk.live")) window.live ??= performance.now();
  }).observe(document, { childList: true, subtree: true, attributes: true });
}"""


@dataclass
class Opening:
    """One opening of the page."""

    playable_ms: float = 0
    requests: int = 0  # begun until then
    transferred: dict[str, int] = field(default_factory=dict)  # bytes by address, also of what came later


def measure(site: Site) -> list[Figure]:
    site.filling.clips(500)
    with site.visitor() as page:
        site.first_clip(page)
        address, state = page.url, page.context.storage_state()
    opened = [opening(site, address, state) for _ in range(ROUNDS)]
    times = [each.playable_ms + CONNECTING_MS for each in opened]
    note = f"p50 {percentile(times, 0.5):,.0f} ms, {len(times)} openings; {CONNECTING_MS} ms of each for the connection"
    begun = [each.requests for each in opened]
    last = opened[-1].transferred
    ahead = sum(size for name, size in last.items() if "/desk/" in name)
    page_bytes = sum(size for name, size in last.items() if "/audio/" not in name and "/desk/" not in name)
    parts = ", ".join(f"{name} {size / 1000:.1f}" for name, size in sorted(by_kind(last).items()))
    return [
        at_most("cold open → playable audio, slowest", 1500, max(times), "ms", note=note),
        at_most("requests cold, until playable", 8, max(begun), "", note=f"p50 {percentile(begun, 0.5):.0f}"),
        at_most("page without audio, as transferred", 40, page_bytes / 1000, "KB", digits=1, note=parts),
        Figure("the same with the two clips that come next", "–", f"{(page_bytes + ahead) / 1000:.1f} KB", None),
    ]


def opening(site: Site, address: str, state: Any) -> Opening:
    found = Opening()
    with profile(site.browser, ADDRESS, storage_state=state) as page:
        page.add_init_script(f"({PLAYABLE})()")
        session = far_away(page)
        names: dict[str, str] = {}
        session.on(
            "Network.requestWillBeSent", lambda event: names.update({event["requestId"]: event["request"]["url"]})
        )
        session.on("Network.loadingFinished", lambda event: add(found, names, event))
        requests: list[Request] = []

        def note(request: Request) -> None:
            requests.append(request)

        page.on("request", note)  # Playwright takes no method of a built-in type
        page.goto(address)
        ready(page)
        page.wait_for_timeout(2500)  # for what the page asks for afterwards
        found.playable_ms = page.evaluate("Math.max(playable, live)")
        until = page.evaluate("performance.timeOrigin") + found.playable_ms
        found.requests = sum(network(each.url) and each.timing["startTime"] <= until for each in requests)
    return found


def add(found: Opening, names: dict[str, str], event: dict[str, Any]) -> None:
    name = names.get(event["requestId"], "")
    if network(name):
        found.transferred[name] = found.transferred.get(name, 0) + int(event["encodedDataLength"])


def network(address: str) -> bool:
    return address.startswith("http")


def by_kind(transferred: dict[str, int]) -> dict[str, int]:
    """Bytes of the page, by what they are."""
    kinds = {".css": "styles", ".js": "scripts", ".svg": "icon", "/review/": "HTML"}
    found: dict[str, int] = {}
    for name, size in transferred.items():
        kind = next((kind for part, kind in kinds.items() if part in name.partition("?")[0]), None)
        if kind == "HTML" and not name.rpartition("/")[2].isdigit():
            kind = None
        if kind is not None:
            found[kind] = found.get(kind, 0) + size
    return found
