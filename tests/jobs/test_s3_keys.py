"""Keys of objects in S3: one module writes and parses them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from jobs.payloads import BATCH_ID
from jobs.queue_snapshot import TRANSCRIBE_LISTS
from jobs.s3_keys import ARCHIVES, archive_key, batch_of_archive, parked_key, processed_key

SRC = Path(__file__).resolve().parents[2] / "src"
HOMES = {"config.py", "s3_keys.py"}


@pytest.mark.parametrize("batch_id", ["test-001", "20250622-143052-a1b2c3", "a", "a.tar", "A" * 128])
def test_the_archive_of_a_batch_leads_back_to_the_batch(batch_id):
    assert BATCH_ID.fullmatch(batch_id)
    assert archive_key(batch_id).startswith(ARCHIVES)
    assert batch_of_archive(archive_key(batch_id)) == batch_id


@pytest.mark.parametrize(
    "key",
    [
        "archives/.hidden.tar",
        "archives/a/b.tar",
        "archives/a.tar.gz",
        "archives/a.tar\n",
        "archives/.tar",
        "old/archives/a.tar",
        "archives/" + "a" * 129 + ".tar",
        processed_key(1, "2026-01-02"),
        parked_key("b1", "0.tar"),
    ],
)
def test_a_foreign_key_belongs_to_no_batch(key):
    assert batch_of_archive(key) is None


def test_finished_and_parked_clips_lie_where_they_always_did():
    assert processed_key(17, "2026-01-02") == "processed/2026-01-02/17.opus"
    assert parked_key("b1", "00000.mp3") == "failed/b1/00000.mp3"


def test_no_other_module_spells_a_key_or_the_transcribe_queue():
    spelled = re.compile(r"(archives|processed|failed)/|queue:transcribe[:*]?")
    found = [
        f"{path.relative_to(SRC)}: {node.value!r}"
        for path in SRC.rglob("*.py")
        if path.name not in HOMES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and spelled.fullmatch(node.value)
    ]
    assert found == []


def test_the_lua_scripts_look_for_the_same_transcribe_lists():
    spelled = {
        name
        for path in (SRC / "jobs/lua").glob("*.lua")
        for name in re.findall(r"'(queue:transcribe.*?)'", path.read_text())
    }
    assert spelled == {TRANSCRIBE_LISTS}
