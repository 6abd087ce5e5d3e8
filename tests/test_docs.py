"""The documentation names nothing that does not exist. `docs/cli.md` is left out: the program itself writes it."""

from __future__ import annotations

import re

import pytest

from tests.documentation import DOCS, FOREIGN, PAGES, ROOT, broken_spans, false_names, is_printed, mentions
from tests.test_floors import FLOORS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_only_what_exists(page):
    text = page.read_text()
    assert broken_spans(text) == []
    assert false_names(text) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("`src/jobs/no_such.py`", "no file or folder src/jobs/no_such.py"),
        ("`no_such.lua`", "no file or folder no_such.lua"),
        ("`src/queues/`", "no file or folder src/queues/"),
        ("`tests/reliability/test_no_such_*.py`", "no file or folder tests/reliability/test_no_such_*.py"),
        ("`src/jobs/job_queue.py` `no_such()`", "no function no_such in src/jobs/job_queue.py"),
        ("`make no-such`", "no make target no-such"),
        ("`audio-pipeline batch burn ID`", "audio-pipeline batch has no command burn"),
        ("`audio-pipeline status --no-such`", "audio-pipeline status has no option --no-such"),
        ("`failed burn`", "audio-pipeline failed has no command burn"),
        ("`ra-flask users burn NAME`", "users has no command burn"),
        ("`flask studies burn NAME`", "studies has no command burn"),
        ("`python -m workers.no_worker`", "no module workers.no_worker"),
        ("`NO_SUCH_SETTING`", "no setting NO_SUCH_SETTING"),
        ("`BATCHSIZE=4`", "no setting BATCHSIZE"),
        ("`queue:nowhere`", "no Redis key queue:nowhere"),
        ("`batch:{id}:dreams`", "no Redis key batch:{id}:dreams"),
        ("`ansible-playbook playbooks/no-such.yml`", "no file or folder playbooks/no-such.yml"),
        ("`ansible-playbook playbooks/site.yml --tags no_such`", "no tag no_such"),
        ("`ansible-playbook playbooks/site.yml -e no_such=1`", "no variable no_such in ansible/"),
        ("`journalctl -u cpu-worker`", "no unit cpu-worker"),
        ("`systemctl start audio-pipeline-dreams`", "no unit audio-pipeline-dreams"),
        ("`audio-pipeline-dreams.service`", "no unit audio-pipeline-dreams"),
    ],
)
def test_a_false_name_is_found(text, problem):
    assert false_names(text) == [problem]


def test_a_block_of_code_is_read_like_a_span():
    text = "```sh\nmake test     # every test\nmake no-such  # nothing\n```\n"
    assert false_names(text) == ["no make target no-such"]


def test_names_outside_of_code_are_words():
    assert false_names("make no-such, audio-pipeline burn, queue:nowhere") == []


@pytest.mark.parametrize("name", FOREIGN)
def test_an_exception_is_still_needed(name):
    assert any(name in mention.code for page in PAGES for mention in mentions(page.read_text()))


def test_a_line_that_the_guide_explains_is_one_that_workers_log():
    _, _, table = (DOCS / "operator-guide.md").read_text().partition("| line | what it means | what to do |\n")
    lines = re.findall(r"^\| `([^`]+)`", table.partition("\n\n")[0], re.MULTILINE)
    assert len(lines) > 8
    assert [line for line in lines if not is_printed(line)] == []


def test_a_line_that_nobody_logs_is_found():
    assert not is_printed("the worker dreams")


def test_the_picture_of_the_floors_is_the_one_that_is_checked():
    _, _, picture = (DOCS / "architecture.md").read_text().partition("```\n")
    lines = picture.partition("```")[0].splitlines()
    rooms = [set(re.split(r" {3,}", line)[0].split()) for line in reversed(lines)]
    assert rooms == [set(floor) for floor in FLOORS]
