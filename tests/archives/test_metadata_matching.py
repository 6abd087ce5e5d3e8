"""Which row describes which clip: one row for one clip, exact names first, and no row if it is ambiguous."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from archives.metadata_matching import Table, match_clips

Rows = list[dict[str, Any]]

ID = "7301234567890123456"
OTHER = "7309876543210987654"


def matched(rows: Sequence[Mapping[str, Any]], *clips: str, file: str = "metadata.parquet") -> dict[str, int]:
    """Clip -> number of its row."""
    found = match_clips([Table(file, tuple(rows))], clips).rows
    return {clip: next(number for number, row in enumerate(rows) if row is found[clip]) for clip in found}


def test_a_row_never_describes_the_clip_of_another_directory() -> None:
    assert matched([{"filename": "alice/1.wav"}], "alice/1.wav", "bob/1.wav") == {"alice/1.wav": 0}


@pytest.mark.parametrize("column", ["filename", "path", "video_id"])
def test_one_row_for_two_clips_is_nobodys(column: str) -> None:
    value = "1" if column == "video_id" else "1.wav"
    found = match_clips([Table("metadata.csv", ({column: value},))], ["alice/1.wav", "bob/1.wav"])
    assert (found.rows, found.ambiguous) == ({}, ("alice/1.wav", "bob/1.wav"))


def test_two_rows_for_one_clip_are_not_chosen_from() -> None:
    rows = [{"filename": "1.wav", "id": "9"}, {"filename": "1.wav", "id": "8"}]
    found = match_clips([Table("metadata.csv", tuple(rows))], ["x/1.wav"])
    assert (found.rows, found.ambiguous) == ({}, ("x/1.wav",))


def test_of_equal_rows_the_last_stays() -> None:
    assert matched([{"id": ID, "likes": 1}, {"id": ID, "likes": 2}], f"{ID}.wav") == {f"{ID}.wav": 1}


def test_an_exact_name_comes_before_an_end_of_a_path() -> None:
    rows = [{"path": "b/1.wav"}, {"path": "a/b/1.wav"}]
    assert matched(rows, "a/b/1.wav", "b/1.wav") == {"a/b/1.wav": 1, "b/1.wav": 0}


def test_whoever_has_a_partner_still_makes_others_ambiguous() -> None:
    rows = [{"path": "alice/1.wav"}, {"path": "1.wav"}]
    assert matched(rows, "alice/1.wav", "bob/1.wav") == {"alice/1.wav": 0}


def test_equal_names_in_two_directories_are_told_apart() -> None:
    rows = [{"path": "one/a.mp3"}, {"path": "two/a.mp3"}]
    assert matched(rows, "in/one/a.mp3", "two/a.mp3", "a.mp3") == {"in/one/a.mp3": 0, "two/a.mp3": 1}


def test_a_row_whose_clip_is_missing_does_not_go_to_another_person() -> None:
    rows = [{"path": "alice/1.wav"}, {"path": "carol/1.wav"}]
    assert matched(rows, "alice/1.wav", "bob/1.wav") == {"alice/1.wav": 0}


def test_one_row_of_one_person_does_not_go_to_the_only_clip_of_another() -> None:
    assert matched([{"path": "alice/1.wav"}], "bob/1.wav") == {}


def test_another_directory_on_the_other_machine_does_no_harm() -> None:
    rows = [{"path": "/home/x/dl/1.mp4"}, {"path": "/home/x/dl/2.mp4"}, {"path": "/home/x/dl/3.mp4"}]
    assert matched(rows, "batch/1.wav", "batch/3.wav") == {"batch/1.wav": 0, "batch/3.wav": 2}


@pytest.mark.parametrize("named", [f"{ID}.mp4", f"clips/{ID}.MP4", ID, f"{ID}.mp4.m4a", f"C:\\dl\\{ID}.unknown_video"])
def test_the_extension_may_have_changed(named: str) -> None:
    rows = [{"filename": named}, {"filename": f"{OTHER}.mp4"}]
    assert matched(rows, f"x/{ID}.wav")[f"x/{ID}.wav"] == 0


def test_an_equal_extension_comes_before_a_changed_one() -> None:
    assert matched([{"filename": "a.mp4"}, {"filename": "a.wav"}], "a.wav", "a.mp3") == {"a.wav": 1}


@pytest.mark.parametrize(
    "clip",
    [
        f"@some_user_video_{ID}.wav",
        f"Title of it [{ID}].wav",
        f"A [cover] of (it) [{ID}].m4a",
        f"Title-{ID}.mp3",
        f"{ID}_01 title #tag.mp3",
        f"user_1699999999_{ID}.mp3",
        f"Snaptik.app_{ID}.mp4",
        f"snaptik_{ID}_v2.mp4",
        f"{ID} (1).mp3",
        f"TikTok - example_user - {ID}.mp4",
        f"2026-01-01/alice/{ID}.opus",
        f"[{ID}].wav",
    ],
)
@pytest.mark.parametrize("column", ["id", "video_id", "Video ID", "videoId", "video.id", "aweme_id"])
def test_names_that_downloaders_write_are_found_by_id(clip: str, column: str) -> None:
    rows: Rows = [{column: OTHER, "filename": None}, {column: ID, "author.id": OTHER, "title": "Title of it"}]
    assert matched(rows, clip, "other.wav") == {clip: 1}


@pytest.mark.parametrize(
    ("clip", "video"),
    [
        ("Title [dQw4w9WgXcQ].webm", "dQw4w9WgXcQ"),
        ("Title [a-_b-c_d-e].mp3", "a-_b-c_d-e"),
        ("Some title-a_b-c_d-e_f.mp3", "a_b-c_d-e_f"),
        ("Title [12].wav", "12"),
        ("@u_video_7301.wav", "7301"),
        ("7301.wav", "7301"),
    ],
)
def test_ids_of_other_platforms_and_short_ones_are_found(clip: str, video: str) -> None:
    assert matched([{"id": video}, {"id": "x"}], clip) == {clip: 0}


def test_a_short_id_as_a_part_of_a_name_is_chance() -> None:
    assert matched([{"id": "2026"}], "trip 2026.wav") == {}


def test_a_short_id_does_not_overrule_a_file_name() -> None:
    rows: Rows = [{"filename": "b.wav", "id": 1}, {"filename": "gone.wav", "id": 2}]
    assert matched(rows, "b.wav", "2.wav") == {"b.wav": 0}


def test_a_clip_whose_name_holds_two_ids_gets_no_row() -> None:
    assert matched([{"id": ID}, {"id": OTHER}], f"duet {ID} {OTHER}.wav") == {}


def test_two_parts_of_one_video_share_no_row() -> None:
    assert matched([{"id": ID}], f"{ID}_01.mp3", f"{ID}_02.mp3") == {}


@pytest.mark.parametrize("path", [None, "", "https://www.tiktok.com/@u/video/1", "s3://bucket/x", "https://[broken"])
def test_a_file_name_that_is_none_does_not_hide_a_good_id(path: str | None) -> None:
    assert matched([{"filename": None, "path": path, "id": ID}], f"{ID}.wav") == {f"{ID}.wav": 0}


@pytest.mark.parametrize(
    "address",
    [
        f"https://www.tiktok.com/@user/video/{ID}?lang=en",
        f"https://cdn.example.org/v/{ID}.mp4",
        f"https://www.youtube.com/watch?v={ID}",
        f"file:///home/x/{ID}.mp4",
    ],
)
def test_an_address_in_a_column_of_names_is_reduced_to_an_id(address: str) -> None:
    assert matched([{"path": address}], f"@u_video_{ID}.wav", "x.wav") == {f"@u_video_{ID}.wav": 0}


@pytest.mark.parametrize("named", [f"@user_video_{ID}.mp4", f"A title [{ID}].mp4", f"tok-{ID}-hd.mp4"])
def test_a_file_name_in_a_row_is_reduced_to_an_id(named: str) -> None:
    assert matched([{"filename": named}, {"filename": "other.mp4"}], f"{ID}.wav") == {f"{ID}.wav": 0}


def test_words_that_two_titles_share_are_no_ids() -> None:
    assert matched([{"filename": f"Compilation [{ID}].mp4"}], f"Compilation [{OTHER}].wav") == {}


@pytest.mark.parametrize(
    "left",
    [
        float(ID),
        repr(float(ID)),
        int(float(ID)),
        f"{int(float(ID))}.0",
        "7.30123E+18",
        "7.30123456789012E+18",
        "7.3e18",
        ID[:15] + "0000",
        f"'{ID}",
        f'="{ID}"',
    ],
)
def test_ids_that_lost_digits_are_compared_by_what_is_left(left: object) -> None:
    rows: Rows = [{"video_id": left}, {"video_id": 6.1e18}]
    assert matched(rows, f"@u_video_{ID}.wav", "7100000000000000000.wav") == {f"@u_video_{ID}.wav": 0}


@pytest.mark.parametrize("left", [float(ID), "7.30123E+18", ID[:15] + "0000"])
def test_ids_that_lost_digits_are_not_used_when_two_clips_fit(left: object) -> None:
    twin = str(int(ID) + 1)
    found = match_clips([Table("metadata.csv", ({"id": left},))], [f"{ID}.wav", f"{twin}.wav"])
    assert (found.rows, found.ambiguous) == ({}, (f"{ID}.wav", f"{twin}.wav"))


def test_rows_whose_ids_lost_their_difference_are_not_taken_for_one() -> None:
    assert matched([{"id": float(ID), "x": 1}, {"id": float(int(ID) + 1), "x": 2}], f"{ID}.wav") == {}


def test_a_float_that_kept_all_digits_is_an_id() -> None:
    assert matched([{"id": 7301.0}, {"id": float("nan")}], "7301.wav") == {"7301.wav": 0}


def test_a_file_describes_its_own_directory_and_the_nearest_comes_first() -> None:
    tables = [
        Table("a/metadata.csv", ({"filename": "1.wav", "of": "a"},)),
        Table("b/metadata.csv", ({"filename": "1.wav", "of": "b"},)),
        Table("metadata.csv", ({"filename": "a/1.wav", "of": "root"}, {"filename": "c/1.wav", "of": "root"})),
    ]
    found = match_clips(tables, ["a/1.wav", "b/1.wav", "c/1.wav"], alone=False).rows
    assert {clip: row["of"] for clip, row in found.items()} == {"a/1.wav": "a", "b/1.wav": "b", "c/1.wav": "root"}


def test_a_far_file_is_ambiguous_also_by_clips_that_have_a_nearer_row() -> None:
    tables = [Table("a/metadata.csv", ({"filename": "1.wav"},)), Table("metadata.csv", ({"filename": "1.wav"},))]
    assert list(match_clips(tables, ["a/1.wav", "b/1.wav"], alone=False).rows) == ["a/1.wav"]


def test_a_file_beside_the_directory_of_clips_describes_them_when_it_is_the_only_one() -> None:
    table = Table("meta/metadata.csv", ({"filename": "1.wav"},))
    assert list(match_clips([table], ["clips/1.wav"], alone=True).rows) == ["clips/1.wav"]
    assert match_clips([table], ["clips/1.wav"], alone=False).rows == {}


def test_hostile_names_take_no_time() -> None:
    long = "_video_" * 14_000
    rows = [{"filename": long, "id": "[" * 90_000, "path": "a/" * 40_000}] * 2_000
    clips = ["/".join("ab" * 200) + f"/{number}" + "-x" * 200 + ".wav" for number in range(2_000)]
    assert matched([*rows, {"filename": "1.wav"}], *clips, "1.wav") == {"1.wav": 2_000}
