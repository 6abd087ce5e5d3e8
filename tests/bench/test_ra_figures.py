"""What the measures of the review screen count and print, from figures that are made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.ra import table
from bench.ra.figures import Figure, at_most, none_of, percentile
from bench.ra.sent import Recorder


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert percentile([5, 1, 4, 2, 3], 0.5) == 3
    assert percentile(list(range(1, 101)), 0.95) == 95
    assert percentile([7], 0.95) == 7


def test_a_line_says_whether_its_target_is_met() -> None:
    assert at_most("wait", 100, 99.6, "ms") == Figure("wait", "≤ 100 ms", "100 ms", met=True)
    assert at_most("wait", 100, 100.4, "ms", digits=1, note="p50 3 ms").met is False
    assert none_of("faults", [], "3 pages") == Figure("faults", "0", "0 (3 pages)", met=True)
    assert none_of("faults", ["a", "b"], "3 pages") == Figure("faults", "0", "2 (3 pages): a; b", met=False)


def test_groups_are_kept_and_their_table_goes_between_the_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "FILE", tmp_path / "figures.json")
    table.store("keys", [Figure("keys", "2", "2", met=True)], load=0.5, seconds=3)
    table.store("swap", [Figure("painted", "≤ 100 ms", "300 ms", met=False)], load=2.0, seconds=3)
    table.store("swap", [Figure("painted", "≤ 100 ms", "30 ms", met=True)], load=1.0, seconds=3)
    assert table.print_all(["keys", "swap"])
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.BEGIN}old\n{table.END}after\n")
    table.write_page(page, ["keys", "swap"])
    written = page.read_text()
    assert "| painted" in written
    assert "300 ms" not in written
    assert "old" not in written
    assert written.startswith("before\n")
    assert written.endswith("after\n")
    page.write_text("no marks")
    with pytest.raises(SystemExit, match="between which the table is written"):
        table.write_page(page, ["keys"])


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (b"Content-Type: text/html\r\n\r\n<td>0.99</td>", True),
        (b"Content-Type: text/html\r\nX-Policy: zeta\r\n\r\n", True),
        (b"Content-Type: text/html\r\n\r\n<i data-at='12.51'>12.4 s of 98.0 s, 0.9 and 0:51</i>", False),
        (b"Content-Type: audio/ogg\r\n\r\n\x00 0.99 98 %", False),
        (b"Content-Type: audio/ogg\r\n\r\n\x00policy-zeta-7f3", True),
    ],
)
def test_the_scan_finds_verdicts_and_takes_nothing_else_for_one(answer: bytes, found: bool) -> None:
    with Recorder("http://127.0.0.1:9") as recorder:
        recorder.answers.append(bytearray(answer))
        assert bool(recorder.leaks()) == found
