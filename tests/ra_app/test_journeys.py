"""Through the RA app from the log-in to the log-out: by keys alone, and by what a screen reader is told alone."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.ra_app.browsing import TYPICAL
from tests.ra_app.journeys import by_keyboard, by_tree
from tests.ra_app.world import World, tone

CLIPS = 3


@pytest.fixture
def clips(world: World) -> None:
    """Somebody, and more clips than they are to label."""
    world.add_user("mira")
    sound = tone(30)
    for _ in range(CLIPS + 1):
        world.add_clip(audio=sound, segments=TYPICAL)


@pytest.mark.usefixtures("clips")
def test_by_keys_alone_from_the_log_in_to_the_log_out(page: Page, world: World) -> None:
    by_keyboard(page, CLIPS)
    assert world.sql("SELECT labels, spans FROM ra_labels ORDER BY label_id") == [(["hate"], [])] * CLIPS


@pytest.mark.usefixtures("clips")
@pytest.mark.thorough  # the same is done by keys alone above
def test_a_screen_reader_is_told_all_that_a_label_needs(page: Page, world: World) -> None:
    by_tree(page, CLIPS)
    labels = world.sql("SELECT labels, confidence, spans FROM ra_labels ORDER BY label_id")
    assert labels == [(["hate"], 3, [[6.0, 8.9]])] * CLIPS
