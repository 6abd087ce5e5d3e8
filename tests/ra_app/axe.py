"""axe-core on the pages of the RA app: which pages there are, and what axe finds on one that is open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from axe_playwright_python.base import AXE_SCRIPT
from flask import Flask, render_template
from playwright.sync_api import Page

from app.people import accounts, links
from tests.ra_app.asking import ask
from tests.ra_app.campaign import CODEBOOK, add_items, add_study, judge
from tests.ra_app.world import Visitor, World, hold, tone

WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"]
CONTRAST = ["color-contrast"]
DOUBTS = ["few-words", "uncovered-speech", "unclear-language"]

# Each route with a page, and its addresses, that with most on it first. {held} and so on are those of `Places`.
PAGES = {
    "auth.account": ("/account",),
    "auth.login": ("/login",),
    "codebook_drafts.changes": ("/codebooks/short/draft/changes",),
    "codebook_drafts.edit": ("/codebooks/short/draft",),
    "codebooks.compare": ("/codebooks/spoken-clips/compare?old=3&new=4",),
    "codebooks.index": ("/codebooks",),
    "codebooks.show": ("/codebooks/spoken-clips/versions/4", "/codebooks/spoken-clips/versions/none"),
    "exports.dictionary": ("/exports/dictionary",),
    "exports.index": ("/exports",),
    "exports.show": ("/exports/{export}", "/exports/99"),
    "join.show": ("/join/{link}", "/join/no-such-link"),
    "me.index": ("/me", "/me?q=nothing"),
    "people.index": ("/people",),
    "people.person": ("/people/{person}", "/people/1", "/people/99"),
    "queue.index": ("/", "/?show=done", "/?show=skipped&quality=doubtful"),
    "review.show": ("/review/{held}", "/review/{labelled}", "/review/{other}", "/review/99999"),
    "sso.choose": ("/sso/join",),
    "search.index": ("/clips?words=listen", "/clips?words=nothing"),
    "search.numbers": ("/clips/numbers?words=listen",),
    "clip_history.show": ("/clips/{labelled}", "/clips/{held}"),
    "studies.index": ("/studies",),
    "studies.show": ("/studies/{sample}", "/studies/1"),
    "study_forms.new": ("/studies/new",),
    "study_forms.change": ("/studies/{sample}/change", "/studies/1/change"),
    "study_forms.extend": ("/studies/{sample}/extend", "/studies/1/extend"),
    "study_plan.index": ("/studies/plan?half_width=5", "/studies/plan"),
    "agreement.show": ("/studies/{judged}/agreement", "/studies/1/agreement"),
    "references.index": ("/studies/{judged}/references", "/studies/1/references"),
    "decisions.index": ("/studies/{judged}/decisions", "/studies/1/decisions?show=decided"),
    "decisions.show": ("/studies/{judged}/decisions/{disagreed}", "/studies/{judged}/decisions/{disagreed}?verdict=1"),
    "classifier.show": ("/studies/{judged}/classifier?policy=hate-speech&at=0.6", "/studies/1/classifier"),
    "training.show": ("/training/{training}",),
}
# Routes that answer a GET with something else: data, a file, or the way to a page.
WITHOUT_PAGE = {
    "audio.stream", "codebooks.content", "codebooks.toml", "desk.item", "exports.fetch", "health.healthz",
    "queue.next_page", "scripts.review", "sso.begin", "sso.begin_with_link", "sso.callback", "static",
}  # fmt: skip
STRANGERS = {"auth.login", "join.show", "sso.choose"}  # pages for somebody who is not logged in


@dataclass(frozen=True)
class Places:
    """What stands in the addresses: clips of an administrator (`mira`), another person, and an invitation."""

    held: int  # doubtful
    labelled: int
    other: int  # nobody has it
    person: int
    link: str  # the token of an invitation
    sample: int  # a study whose clips were drawn
    judged: int  # a study with judgements
    disagreed: int  # an item of it
    training: int  # a study in which the administrator has labelled
    export: int

    def addresses(self, endpoint: str) -> list[str]:
        return [address.format(**vars(self)) for address in PAGES[endpoint]]


def furnish(world: World) -> Places:
    """Make the people, clips and links that the pages of `PAGES` show."""
    world.add_user("mira", role="admin")
    person = world.add_user("jo")
    held, labelled, other, aside = (
        world.add_clip(audio=tone(1), doubts=doubts) for doubts in (DOUBTS, None, None, None)
    )
    for clip in (held, labelled, aside):
        hold(world.app, "mira", clip)
    world.sql("UPDATE ra_assignments SET state = 'skipped' WHERE audio_id = %s", aside)
    mira = Visitor(world.app)
    mira.log_in("mira")
    mira.get("/codebooks")  # publishes version 3
    ask(world)
    mira.label(labelled, "hate", note="Said at 0:06. " * 20, **{"answer.target": "men"})
    mira.post(f"/review/{labelled}/reveal")
    write_a_draft(world, mira)
    sample = sample_of_two_days(world, mira)
    judged = _judged(world, (1, person))
    return Places(held, labelled, other, person, invite(world.app), sample, *judged, add_exports(world))


def sample_of_two_days(world: World, lead: Visitor) -> int:
    """A sample of clips of its own, of which `mira` has labelled something on two days."""
    for violates in (True, True, False, False):
        clip = world.add_clip(violates=violates, score=0.9 if violates else 0.2)
        world.sql("UPDATE audio_files SET processed_at = '2026-11-25T12:00Z' WHERE audio_id = %s", clip)
    form = {
        "act": "make", "name": "A sample", "kind": "study", "mode": "blind", "coders": "2", "share": "50",
        "lease": "15", "codebook": "spoken-clips 3", "which": "sample", "flagged": "all", "bounds": "50%", "rest": "1",
        "seed": "1", "since": "2026-11-25",
    }  # fmt: skip
    path = lead.post("/studies/new", form).location
    world.sql(
        "UPDATE ra_assignments a SET user_id = u.user_id, state = 'submitted', submitted_at = now() - "
        "make_interval(days => (a.assignment_id % 2)::int) FROM ra_users u, ra_studies s "
        "WHERE u.username = 'mira' AND s.study_id = a.study_id AND s.name = 'A sample' AND a.coder_number = 1"
    )
    return int(path.rpartition("/")[2])


def _judged(world: World, coders: tuple[int, int]) -> tuple[int, int, int]:
    """A study with labels of two weeks, verdicts, a decision and a reference; and a training study."""
    study, training = add_study(world, "Judged"), add_study(world, "Trained", kind="training")
    clips = [world.add_clip(audio=tone(1)) for _ in range(3)]
    items = add_items(world, study, clips[:2], coders=2)
    for item, at in zip(items, ("2026-11-03", "2026-11-12"), strict=True):
        for coder, code in zip(coders, ("hate", "scam"), strict=True):
            judge(world, item, coder, [code], at=at, note="Said at 0:06.")
    world.sql(
        "INSERT INTO ra_decisions (item_id, codebook_id, codebook_version, labels, reason, label_ids, user_id) "
        "VALUES (%s, %s, %s, '[\"hate\"]', 'Because.', '{1}', 1)", items[0], *CODEBOOK,
    )  # fmt: skip
    judge(world, add_items(world, training, clips[2:])[0], 1, ["hate"])
    for clip in clips:
        world.sql(
            "INSERT INTO ra_references (audio_id, codebook_id, codebook_version, labels, reason, user_id) "
            "VALUES (%s, %s, %s, '[\"hate\"]', 'Because.', 1)", clip, *CODEBOOK,
        )  # fmt: skip
    world.sql("UPDATE classifications SET policy = 'hate-speech' WHERE audio_id = ANY (%s)", clips)
    return study, items[0], training


def write_a_draft(world: World, lead: Visitor) -> None:
    """Begin a codebook `short` with a label and a question, both of them with mistakes that the editor shows."""
    lead.post("/codebooks/new", {"id": "short", "title": "Short"})
    revision = world.sql("SELECT revision FROM ra_codebook_drafts")[0][0]
    typed = {"title": "Short", "labels[1].code": "rude", "labels[1].name": "Rude", "labels[1].key": "n"}
    asked = {"questions[1].code": "whom", "questions[1].options": "one", "questions[1].when": "gone"}
    lead.post("/codebooks/short/draft", {**typed, **asked, "revision": revision, "act": "add labels"})


def add_exports(world: World) -> int:
    """Add an export that waits, one on its way, one that failed, and one that is done. Return the last one's number."""
    add = (
        "INSERT INTO ra_exports (name, study_ids, formats, state, rows_done, rows_total, error, files, bounds, "
        "finished_at) VALUES (%s, '{1}', '{jsonl,csv}', %s, 30, 100, %s, %s, %s, now()) RETURNING export_id"
    )
    file = '[{"name": "judgements.csv", "bytes": 1048576, "sha256": "' + "ab" * 32 + '"}]'
    compared = '"again": {"same": false, "says": "Other values of clip 1."}'
    again = '{"rows": 50, "at": "2026-11-20T12:00:00+00:00", ' + compared + "}"
    world.sql(add, "first-round", "waiting", None, "[]", "{}")
    world.sql(add, "second-round", "running", None, "[]", "{}")
    world.sql(add, "third-round", "failed", "The disk of /srv is full. Nothing was kept.", "[]", "{}")
    return int(world.sql(add, "fourth-round", "done", None, file, again)[0][0])


def invite(app: Flask) -> str:
    with app.app_context():
        maker = accounts.find_user("mira")
        assert maker is not None
        return links.invite(maker, "ra", None)


def without_a_provider(page: Page, app: Flask) -> None:
    """Show the page of single sign-on as its template makes it; the app itself would want somebody from a provider."""
    with app.test_request_context():
        made = render_template("sso.html", link=None, username="no name", problem="This is not a valid user name.")
    page.route("**/sso/join", lambda route: route.fulfill(body=made, content_type="text/html"))


def routes(app: Flask) -> set[str]:
    """The endpoints that answer a GET."""
    return {rule.endpoint for rule in app.url_map.iter_rules() if "GET" in (rule.methods or set())}


def findings(page: Page, rules: list[str] | None = None) -> list[str]:
    """What axe finds on this page: a line for each rule and element. Without `rules`: all of WCAG 2.0 to 2.2, A and AA.

    axe is put into the page by the debugger's protocol, which the content security policy does not concern.
    """
    wanted = {"type": "rule", "values": rules} if rules else {"type": "tag", "values": WCAG}
    if page.evaluate("typeof axe") == "undefined":
        page.evaluate(AXE_SCRIPT)
    results = page.evaluate("(options) => axe.run(options)", {"runOnly": wanted, "resultTypes": ["violations"]})
    return [
        f"{page.url}: {broken['id']}: {' '.join(map(str, node['target']))}"
        for broken in results["violations"]
        for node in broken["nodes"]
    ]


def in_both_themes(page: Page, *, dark: list[str] | None = None) -> Iterator[str]:
    """What axe finds on the page in the light theme, and in the dark one by the rules `dark` if they are given."""
    page.emulate_media(color_scheme="light")
    yield from findings(page)
    page.emulate_media(color_scheme="dark")
    yield from (f"dark: {line}" for line in findings(page, dark))
