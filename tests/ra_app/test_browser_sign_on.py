"""Single sign-on in a real browser: cookies across sites, the content security policy, and what the pages look like."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from flask import Flask
from playwright.sync_api import Browser, expect

from tests.ra_app.browsing import CONTRAST, NAMELESS, SCREEN
from tests.ra_app.campus import Campus, running
from tests.ra_app.serving import GUNICORN, serving
from tests.ra_app.test_ra_sign_on import invite
from tests.ra_app.world import Visitor, World


@pytest.fixture(scope="module")
def campus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campus]:
    """The provider under another name than the app: to the browser these are two sites."""
    with running(tmp_path_factory.mktemp("campus"), registered=False) as made:
        yield replace(made, address=made.address.replace("127.0.0.1", "localhost"))


@pytest.fixture(scope="module")
def ra_env(ra_env: dict[str, str], campus: Campus) -> dict[str, str]:
    return {**ra_env, **campus.settings}


@pytest.mark.thorough  # a browser and a server of its own
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_person_joins_and_comes_back_by_single_sign_on(
    app: Flask, world: World, browser: Browser, campus: Campus, ra_env: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory, theme: str,
) -> None:  # fmt: skip
    world.add_user("lea", role="lead")
    lea = Visitor(app)
    lea.log_in("lea")
    link = invite(lea)
    campus.knows("subject-7", email="mira@example.edu")
    context = browser.new_context(viewport=SCREEN, color_scheme=theme)
    # The provider's page wants a style sheet from the network.
    context.route(lambda url: "//cdn." in url, lambda route: route.fulfill(body="", content_type="text/css"))
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)

    def stands_out(name: str) -> None:
        assert page.evaluate(CONTRAST) == []
        assert page.evaluate(NAMELESS) == []
        page.screenshot(path=tmp_path_factory.getbasetemp() / f"sign-on-{name}-{theme}.png", full_page=True)

    with serving(GUNICORN, ra_env, tmp_path_factory.mktemp("gunicorn")) as address:
        page.goto(address + link)
        stands_out("join")
        page.get_by_role("link", name="Log in with your campus account").click()
        page.locator("input[name=sub]").fill("subject-7")
        page.locator("button", has_text="Authorize").click()
        expect(page.get_by_label("User name")).to_have_value("mira")
        stands_out("name")
        page.get_by_role("button", name="Make the account and log in").click()
        expect(page.get_by_role("heading", name="Your queue")).to_be_visible()
        page.goto(f"{address}/account")
        stands_out("account")
        page.get_by_role("button", name="Log out").click()
        page.goto(f"{address}/me")
        stands_out("log-in")
        page.get_by_role("link", name="Log in with your campus account").click()
        page.locator("button", has_text="Deny").click()
        expect(page.get_by_role("heading", name="You did not log in")).to_be_visible()
        stands_out("declined")
        page.get_by_role("link", name="Begin again").click()
        page.get_by_role("link", name="Log in with your campus account").click()
        page.locator("button", has_text="subject-7").click()
        expect(page.get_by_role("heading", name="Your queue")).to_be_visible()
    context.close()
    assert [text for text in problems if "403" not in text] == []  # the page of a refusal has this status
