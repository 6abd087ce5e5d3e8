"""From the submit to the next clip: until it is painted, until it sounds, and what the network carries for it.

Times are taken in the page. They begin at the time stamp of the key. Painted: after the new title stands, a frame has
been made (the second `requestAnimationFrame`). Sounding: the player has said `playing` and its time has moved on.
"""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

from bench.ra.figures import Figure, at_most, percentile
from bench.ra.site import Site, far_away, ready

CLIPS = 120
PAUSE_MS = 1000  # between two clips; faster than anybody reviews
HEARD_MS = 6000  # of a clip that is listened to
CLIPS_HEARD = 6
DECIDING_MS = 1500  # from the choice of a label to the submit
BEAT = "heartbeat"
LONGEST_MS = 10_000  # then the clip counts as not shown

WATCH = """() => {
  let began, before, found, done;
  window.arm = () => {
    before = document.querySelector("#clip-title")?.textContent;
    began = found = null;
    window.swapped = new Promise((resolve) => {
      done = resolve;
      setTimeout(() => resolve(found ?? {}), LONGEST);
    });
  };
  const settle = () => { if (found.painted && found.sounding) done(found); };
  addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || began) return;
    began = event.timeStamp;
    found = {};
  }, true);
  const look = () => {
    const title = document.querySelector("#clip-title")?.textContent;
    if (!began || found.seen || !title || title === before) return;
    found.seen = true;
    requestAnimationFrame(() => requestAnimationFrame(() => {
      found.painted = performance.now() - began;
      settle();
    }));
  };
  new MutationObserver(look).observe(document.querySelector("#main"), { childList: true, subtree: true });
  addEventListener("playing", (event) => {
    const audio = event.target;
    if (!began || found.sounding) return;
    const from = audio.currentTime;
    const wait = () => {
      if (audio.currentTime === from) { setTimeout(wait, 1); return; }
      found.sounding ||= performance.now() - began;
      settle();
    };
    wait();
  }, true);
}""".replace("LONGEST", str(LONGEST_MS))


def measure(site: Site) -> list[Figure]:
    site.filling.clips(5000)
    with site.visitor() as page:
        site.first_clip(page)
        asked: list[str] = []
        far_away(page).on("Network.responseReceived", lambda event: asked.extend(named(event["response"])))
        page.evaluate(WATCH)
        page.wait_for_timeout(2000)
        swap(page)  # the first one also makes what later clips share
        page.wait_for_timeout(2000)
        asked.clear()
        swaps = [swap(page) for _ in range(CLIPS)]
        page.wait_for_timeout(2000)
        quick = list(asked)
        asked.clear()
        heard = [hear(page) for _ in range(CLIPS_HEARD)]
        page.wait_for_timeout(2000)
    return [
        timed("submit → next clip painted", "painted", 100, swaps),
        timed("submit → next audio sounding", "sounding", 150, swaps),
        timed(f"the same after hearing each clip for {HEARD_MS // 1000} s", "sounding", 150, heard),
        requests("requests per clip", quick, CLIPS),
        requests(f"requests per clip that is read and heard for {HEARD_MS // 1000} s", asked, CLIPS_HEARD),
    ]


def requests(name: str, asked: list[str], clips: int) -> Figure:
    """Requests that a clip makes. Signs of life, one a minute however many clips that are, are named beside them."""
    kinds = ", ".join(f"{kind} {asked.count(kind) / clips:.2f}" for kind in sorted(set(asked) - {BEAT}))
    each = (len(asked) - asked.count(BEAT)) / clips
    return at_most(name, 2, each, "", digits=2, note=f"{kinds}; signs of life: {asked.count(BEAT)} for {clips} clips")


def swap(page: Page) -> dict[str, float]:
    """Label the clip that is shown, and play the next one at once."""
    page.wait_for_timeout(PAUSE_MS)
    page.keyboard.press("2")
    return submitted(page)


def hear(page: Page) -> dict[str, float]:
    """Read and hear some of the clip, which plays already, choose a label, and go on a moment later."""
    page.keyboard.press("t")
    page.wait_for_timeout(HEARD_MS - DECIDING_MS)
    page.keyboard.press("2")
    page.wait_for_timeout(DECIDING_MS)
    return submitted(page)


def submitted(page: Page) -> dict[str, float]:
    page.evaluate("arm()")
    for key in ("Enter", " "):
        page.keyboard.press(key)
    found: dict[str, float] = page.evaluate("swapped")
    if "sounding" not in found:  # it was not there yet, so Space played nothing
        ready(page)
    return found


def timed(name: str, what: str, limit: int, swaps: list[dict[str, Any]]) -> Figure:
    times = [found.get(what, LONGEST_MS) for found in swaps]
    note = f"p50 {percentile(times, 0.5):.0f} ms, slowest {max(times):.0f} ms, {len(times)} clips"
    return at_most(f"{name}, p95", limit, percentile(times, 0.95), "ms", note=note)


def named(response: dict[str, Any]) -> list[str]:
    """What an answer is; nothing for what has not used the network."""
    address = str(response["url"])
    if not address.startswith("http") or response.get("fromDiskCache"):
        return []
    return ["audio" if "/audio/" in address else address.rpartition("/")[2]]
