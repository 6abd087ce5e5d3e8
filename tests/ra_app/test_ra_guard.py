"""Every route needs a log-in, every answer has the security headers, and pages load nothing from other sites."""

from __future__ import annotations

import re

import pytest
from flask import Flask
from werkzeug.routing import Rule

from app.config import APP_ROOT
from app.models import ROLES
from app.roles import LEADS, needed
from app.security import HEADERS, PUBLIC_ENDPOINTS
from tests.ra_app.world import Visitor, World

TEMPLATES = sorted((APP_ROOT / "app" / "templates").glob("*.html"))
STATIC = sorted(path for path in (APP_ROOT / "app" / "static").rglob("*") if path.is_file())


# A new route must be added to one of these, or to PUBLIC_ENDPOINTS.
FOR_EVERYBODY = {
    "audio.stream", "auth.account", "auth.logout", "desk.ahead", "desk.item", "desk.pass_on", "desk.reveal",
    "desk.skip", "desk.submit", "desk.take", "me.choose", "me.index", "presence.draft", "presence.heartbeat",
    "queue.index", "queue.next_clip", "queue.next_page", "review.pass_on", "review.reveal", "review.show",
    "review.skip", "review.submit", "review.take", "training.show", "wellbeing.report",
}  # fmt: skip
FOR_ROLES = {
    "studies.index": LEADS,
    "studies.show": LEADS,
    "study_forms.new": LEADS,
    "study_forms.make": LEADS,
    "study_forms.change": LEADS,
    "study_forms.store_change": LEADS,
    "study_forms.extend": LEADS,
    "study_forms.store_extension": LEADS,
    "study_forms.open_": LEADS,
    "study_forms.pause": LEADS,
    "study_forms.close": LEADS,
    "study_plan.index": LEADS,
    "agreement.show": LEADS,
    "references.index": LEADS,
    "references.store": LEADS,
    "references.upload": LEADS,
    "references.withdraw": LEADS,
    "decisions.index": LEADS,
    "decisions.show": LEADS,
    "decisions.decide": LEADS,
    "classifier.show": LEADS,
    "classifier.fetch": LEADS,
    "codebooks.compare": LEADS,
    "codebooks.content": LEADS,
    "codebooks.index": LEADS,
    "codebooks.new": LEADS,
    "codebooks.show": LEADS,
    "codebooks.toml": LEADS,
    "codebooks.upload": LEADS,
    "codebook_drafts.again": LEADS,
    "codebook_drafts.begin": LEADS,
    "codebook_drafts.changes": LEADS,
    "codebook_drafts.discard": LEADS,
    "codebook_drafts.edit": LEADS,
    "codebook_drafts.publish": LEADS,
    "codebook_drafts.save": LEADS,
    "search.index": LEADS,
    "search.numbers": LEADS,
    "clip_history.show": LEADS,
    "clip_history.reveal": LEADS,
    "exports.index": LEADS,
    "exports.order": LEADS,
    "exports.show": LEADS,
    "exports.fetch": LEADS,
    "exports.again": LEADS,
    "exports.remove": LEADS,
    "exports.dictionary": LEADS,
    "people.index": LEADS,
    "people.person": LEADS,
    "people.invite": LEADS,
    "people.revoke": LEADS,
    "people.reset": LEADS,
    "people.close": LEADS,
    "people.reopen": LEADS,
    "people.change_role": ("admin",),
}


def _address(rule: Rule) -> str:
    return re.sub(r"<[^>]*>", "1", rule.rule)


def _ways(app: Flask, endpoint: str) -> list[tuple[str, str]]:
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint == endpoint]
    return [(method, _address(rule)) for rule in rules for method in sorted((rule.methods or set()) - {"OPTIONS"})]


def _of_clips(app: Flask) -> list[Rule]:
    return [
        rule for rule in app.url_map.iter_rules() if "audio_id" in rule.arguments and rule.endpoint not in FOR_ROLES
    ]


def test_every_route_but_the_public_ones_needs_a_log_in(app: Flask, world: World, visitor: Visitor) -> None:
    world.add_clip()
    closed = [rule for rule in app.url_map.iter_rules() if rule.endpoint not in PUBLIC_ENDPOINTS]
    assert len(closed) >= 8
    for rule in closed:
        for method in (rule.methods or set()) - {"OPTIONS"}:
            answer = visitor.client.open(_address(rule), method=method)
            shut = answer.status_code == 401 or (answer.location or "").startswith("/login")
            assert shut, f"{method} {rule.rule} answers {answer.status} to a stranger"


def test_every_route_is_open_or_for_everybody_or_for_roles(app: Flask) -> None:
    endpoints = {rule.endpoint for rule in app.url_map.iter_rules()}
    assert endpoints == PUBLIC_ENDPOINTS | FOR_EVERYBODY | FOR_ROLES.keys()
    for endpoint in endpoints:
        assert needed(app.view_functions[endpoint]) == FOR_ROLES.get(endpoint, ROLES), endpoint


@pytest.mark.parametrize("endpoint", FOR_ROLES)
def test_a_route_for_roles_is_shut_to_everybody_else(app: Flask, world: World, visitor: Visitor, endpoint: str) -> None:
    """Also with a form that has a valid token."""
    others = [role for role in ROLES if role not in FOR_ROLES[endpoint]]
    assert "ra" in others
    for role in others:
        world.add_user(role, role=role)
        visitor.log_in(role)
        for method, address in _ways(app, endpoint):
            form = {"csrf_token": visitor.token(), "role": "admin"} if method == "POST" else None
            answer = visitor.client.open(address, method=method, data=form, environ_base=visitor.address)
            assert answer.status_code == 403, f"{method} {address} answers {answer.status} to {role}"
    assert world.sql("SELECT count(*) FROM ra_links") == [(0,)]
    assert world.sql("SELECT DISTINCT event FROM ra_account_changes") == [("created",)]
    assert world.sql("SELECT DISTINCT role, active FROM ra_users ORDER BY 1 DESC")[0] == ("ra", True)


@pytest.mark.parametrize("role", ROLES)
def test_only_those_who_may_open_the_people_page_see_the_link(world: World, visitor: Visitor, role: str) -> None:
    world.add_user("jo", role=role)
    visitor.log_in("jo")
    assert ('href="/people"' in visitor.get("/").text) == (role != "ra")


def test_a_flagged_clip_is_open_only_to_who_holds_it_and_to_leads(
    app: Flask, world: World, mira: Visitor, visitor: Visitor
) -> None:
    """Each route of a clip, also one that is added later."""
    clip = world.add_clip(audio=b"sound")
    world.add_user("jo")
    visitor.log_in("jo")
    visitor.hold(clip)
    ways = [(rule, method) for rule in _of_clips(app) for method in (rule.methods or set()) - {"OPTIONS"}]
    assert len(ways) >= 9
    for rule, method in ways:
        form = {"csrf_token": mira.token(), "label": "hate"} if method == "POST" else None
        answer = mira.client.open(_address(rule), method=method, data=form, environ_base=mira.address)
        assert answer.status_code == 404, f"{method} {rule.rule} answers {answer.status} to somebody without the clip"
    assert visitor.get(f"/review/{clip}").status_code == 200
    assert visitor.get(f"/audio/{clip}").status_code == 200
    assert world.sql("SELECT DISTINCT user_id FROM ra_audit") == [(2,)]


@pytest.mark.parametrize("role", ["lead", "admin"])
def test_leads_read_and_hear_every_clip_and_label_what_they_take(world: World, visitor: Visitor, role: str) -> None:
    clip, clean = world.add_clip(audio=b"sound"), world.add_clip(audio=b"sound", violates=False)
    world.add_user("lea", role=role)
    visitor.log_in("lea")
    for number in (clip, clean):
        page = visitor.get(f"/review/{number}")
        assert page.status_code == 200
        assert "To label it you must hold it" in page.text
        assert "policy-zeta" not in page.text
        assert visitor.get(f"/audio/{number}").status_code == 200
        assert visitor.post(f"/review/{number}", {"label": "hate"}).status_code == 404
    assert world.sql("SELECT event, audio_id FROM ra_audit ORDER BY audio_id, event DESC") == [
        ("opened", clip), ("listened", clip), ("opened", clean), ("listened", clean)
    ]  # fmt: skip
    visitor.hold(clip)
    assert visitor.label(clip, "hate").status_code == 302


def test_only_these_endpoints_are_public() -> None:
    single_sign_on = {"sso.begin", "sso.begin_with_link", "sso.callback", "sso.choose", "sso.finish"}
    assert {
        "auth.login",
        "health.healthz",
        "join.show",
        "join.use",
        "scripts.review",
        "static",
    } | single_sign_on == PUBLIC_ENDPOINTS


def test_options_tells_a_stranger_nothing(visitor: Visitor) -> None:
    assert visitor.client.open("/review/1", method="OPTIONS").status_code == 302


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    "path", ["/", "/login", "/join/x", "/healthz", "/nothing-here", "/audio/1", "/static/css/app.css"]
)
def test_every_answer_carries_the_security_headers(visitor: Visitor, path: str) -> None:
    answer = visitor.get(path)
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    answer.close()


def test_pages_are_not_kept_by_the_browser_and_static_files_are(mira: Visitor) -> None:
    assert mira.get("/").headers["Cache-Control"] == "private, no-store"
    sheet = re.search(r'href="(/static/css/app\.css\?v=[0-9a-f]{12})"', mira.get("/").text)
    assert sheet is not None
    answer = mira.get(sheet[1])
    assert "max-age=31536000" in answer.headers["Cache-Control"]
    answer.close()


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_hold_no_inline_script_or_style(path: object) -> None:
    text = path.read_text()  # type: ignore[attr-defined]
    assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:", text)
    assert all('src="' in tag for tag in re.findall(r"<script[^>]*>", text))
    assert "|safe" not in text.replace(" ", "")


@pytest.mark.parametrize("path", [*TEMPLATES, *STATIC], ids=lambda path: path.name)
def test_nothing_is_fetched_from_elsewhere(path: object) -> None:
    text = path.read_text()  # type: ignore[attr-defined]
    found = set(re.findall(r"https?://[^\s\"')]+", text))
    assert found <= {"http://www.w3.org/2000/svg"}  # a name, not an address


def test_file_names_of_uploads_are_only_ever_text(mira: Visitor, world: World) -> None:
    clip = world.add_clip(filename='"><script>alert(1)</script>.mp3')
    world.study(shows=["filename"])
    mira.hold(clip)
    for path in ("/", f"/review/{clip}"):
        page = mira.get(path).text
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_health_is_open_and_says_no_more_than_ok(visitor: Visitor) -> None:
    answer = visitor.get("/healthz")
    assert (answer.status_code, answer.text) == (200, "ok\n")


def test_a_page_that_is_not_there_says_so_in_the_layout(mira: Visitor) -> None:
    answer = mira.get("/nothing-here")
    assert answer.status_code == 404
    assert "This page does not exist" in answer.text
    assert "Clip review" in answer.text


def test_more_than_a_form_is_refused(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    answer = mira.hold(clip).post(f"/review/{clip}", {"note": "x" * 100_000})
    assert answer.status_code == 413
    assert "too long" in answer.text
