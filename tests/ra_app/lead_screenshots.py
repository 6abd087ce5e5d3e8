"""Makes the pictures of the guide for leads: `python -m tests.ra_app.lead_screenshots`, or `make screenshots`.

The study in them is the demo's: a script draws a sample, plays three coders and decides. The clips are invented.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from random import Random
from threading import Event

from playwright.sync_api import Page

from app.export import worker
from local.demo_coders import CODERS, Truth
from local.demo_person import Person
from local.demo_study import order_export, play
from tests.ra_app.browsing import log_in
from tests.ra_app.screenshots import picture, stage
from tests.ra_app.world import PASSWORD, World

LEAD = "lea"
HATE, SCAM = ("hate-speech", "hate"), ("scams-and-fraud", "scam")
FLAGGED, OTHERS, REST = 48, 320, 32
DAYS = 21  # over which the clips were processed and labelled


def fill(world: World) -> dict[int, Truth]:
    """Add clips of two policies, with scores that tell mostly what applies. Return what applies to each clip."""
    random, truths = Random(11), {}  # noqa: S311 - nothing secret
    for number in range(FLAGGED + OTHERS):
        policy, code = HATE if number % 3 else SCAM
        violates = number < FLAGGED
        score = random.uniform(0.5, 1) if violates else random.uniform(0, 0.5) ** 2
        clip = world.add_clip(violates=violates, score=score)
        world.sql("UPDATE classifications SET policy = %s, threshold = 0.5 WHERE audio_id = %s", policy, clip)
        world.sql(
            "UPDATE audio_files SET processed_at = now() - %s * interval '1 day' WHERE audio_id = %s",
            *(DAYS * random.random(), clip),
        )
        applies = random.random() < (0.35 + 0.6 * score if violates else 0.6 * score)
        truths[clip] = Truth(frozenset({code} if applies else ()), random.uniform(12, 50))
    return truths


def spread(world: World) -> None:
    """Move the labels back in time, so that they come from several days, as in a real study."""
    world.sql("SET session_replication_role = replica")  # without the triggers that keep labels as they are
    back = "(label_id %% %s) * interval '1 day'"
    world.sql(f"UPDATE ra_labels SET created_at = created_at - {back}", DAYS)
    world.sql("SET session_replication_role = origin")
    world.sql(
        "UPDATE ra_assignments a SET submitted_at = l.created_at FROM ra_labels l "
        "WHERE l.assignment_id = a.assignment_id"
    )


def make_exports(world: World, folder: Path) -> None:
    """Make what was ordered, as the process of exports does."""
    with world.app.app_context():
        worker.work(folder, Event(), once=True)


def take_pictures(page: Page, study: int) -> None:
    log_in(page, LEAD)
    of_study = f"/studies/{study}"
    page.goto("/studies/plan?half_width=8&clips=368&flagged=48&prevalence=10&recall=75")
    picture(page, "lead-plan")
    page.goto(of_study)
    page.locator(".figures").first.evaluate("element => scrollBy(0, element.getBoundingClientRect().top - 60)")
    picture(page, "lead-study")
    page.goto(f"{of_study}/agreement")
    picture(page, "lead-agreement")
    page.goto(f"{of_study}/decisions")
    page.locator("main a[href*='/decisions/']").first.click()
    page.get_by_text("Labels side by side").evaluate("element => scrollBy(0, element.getBoundingClientRect().top - 30)")
    picture(page, "lead-decision")
    page.goto(f"{of_study}/classifier?policy={HATE[0]}")
    page.locator(".plot").first.evaluate("element => scrollBy(0, element.getBoundingClientRect().top - 60)")
    picture(page, "lead-threshold")
    page.goto("/codebooks/spoken-clips/versions/3")
    page.get_by_role("button", name="Start a draft from it").click()
    page.locator("fieldset").nth(2).evaluate("element => scrollBy(0, element.getBoundingClientRect().top - 30)")
    picture(page, "lead-codebook")
    page.goto("/clips?words=listen")
    picture(page, "lead-search")
    page.goto("/exports")
    page.get_by_role("link", name="demo-study").click()
    picture(page, "lead-exports")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    with stage("lead-screenshots-") as (site, root, opened):
        for name, role in ((LEAD, "lead"), *((coder.username, "ra") for coder in CODERS)):
            site.world.add_user(name, role=role)
        truths = fill(site.world)
        site.wait()
        passwords = {coder.username: PASSWORD for coder in CODERS}
        with Person(site.address, LEAD, PASSWORD) as lead:
            played = play(site.address, lead, passwords, truths, rest=REST, undecided=4)
            if played is None:
                raise RuntimeError("the study was there before it was played")
            order_export(lead, played.study_id)
        spread(site.world)
        make_exports(site.world, root / "exports")
        take_pictures(opened(), played.study_id)


if __name__ == "__main__":
    main()
