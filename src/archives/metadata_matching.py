"""Find the row of the metadata that describes each clip. A row describes at most one clip; an ambiguous clip gets none.

Rows and clips are compared in the steps below, exact steps before lenient ones. A step pairs a row with a clip if the
row matches no other clip of the archive in this step, and the clip matches no other row. A match with a row or clip
that is already paired counts too. A pair that was made is kept. So a row never describes two clips, and a wrong row is
not used because the right one is missing.

1. Names (the columns `FILE_COLUMNS`, one after the other): the whole path, then ends of paths, longer ends first.
2. Names without the extension: row `ID.mp4` matches clip `ID.wav`.
3. The base name alone, without the directories. This step is used only if all rows name one directory, all clips are in
   one directory, and there are several rows or the name has at least `DISTINCT_CHARS` characters. (Row `alice/1.wav`
   does not describe clip `bob/1.wav`.)
4. Ids (the columns `ID_COLUMNS`, one after the other, then ids in names and URLs of `FILE_COLUMNS`) against ids in the
   clip's name: the whole name without extension; then an id in brackets or after `_video_`, as yt-dlp and common TikTok
   downloaders write them; then any part of the name, if the id has at least `DISTINCT_CHARS` characters.
   A shorter id is used only if its row has no file name.
5. Ids that lost digits as floating-point numbers or in a spreadsheet: the digits that remain are compared.

If rows are equal in all of these columns, they describe the same clip, and the last row is used: it is the newest.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from archives.extract import AUDIO_SUFFIXES

FILE_COLUMNS = ("filename", "file_name", "file", "path", "original_filename", "filepath", "file_path")
ID_COLUMNS = ("video_id", "aweme_id", "item_id", "clip_id", "post_id", "media_id", "tiktok_id", "shortcode", "id")
DISTINCT_CHARS = 8  # an id of this length does not match by chance
NUMBER_CHARS = 15  # digits in a row's file name that count as an id
MAX_KEY_CHARS = 1_000  # of a name or id; the same limit as for names of members
MAX_PARTS = 12  # parts of a name or path that are compared, counted from its end
EXACT_FLOAT = 1 << 53  # a floating-point number below this has all digits of an id

_MEDIA_SUFFIXES = AUDIO_SUFFIXES | {".avi", ".flv", ".mpg", ".mpeg", ".wmv", ".ts", ".unknown_video", ".opus", ".weba"}
_MARKED = re.compile(r"[\[({]([\w-]+)[\])}]|_video_([\w-]+)", re.ASCII)
_SCIENTIFIC = re.compile(r"\d(?:\.(\d+))?[eE]\+?(\d{2})")

Row = Mapping[str, Any]
Keys = Mapping[str, Sequence[str]]  # a row's texts by column, for the columns that name a clip
Column = Sequence[tuple[int, str]]  # (index of a row, text)


@dataclass(frozen=True)
class Table:
    """A metadata file's rows; `file` is its path in the archive, `bad` counts rows that could not be read."""

    file: str
    rows: tuple[Row, ...]
    bad: int = 0
    first_bad: str = ""

    @property
    def directory(self) -> str:
        return _directory(_path(self.file))


@dataclass(frozen=True)
class Matches:
    rows: Mapping[str, Row]
    ambiguous: tuple[str, ...]  # clips without a row: several rows match, or one row matches several clips


def key_columns() -> str:
    return ", ".join(FILE_COLUMNS + ID_COLUMNS)


def has_key_column(row: Row) -> bool:
    return any(_column(name) in _COLUMNS for name in row)


def same_clip(row: Row, other: Row) -> bool:
    """Whether two rows describe the same clip: they are equal in all columns that name one."""
    return row is other or (bool(_keys(row)) and _keys(row) == _keys(other))


def match_clips(
    tables: Sequence[Table], clips: Sequence[str], *, alone: bool = True, on_progress: Callable[[], None] = lambda: None
) -> Matches:
    """Find the row of each clip. Give the nearest table first; a later table does not replace a row that was found.

    A table describes the clips in its directory and below. If there are none and the table is `alone` (no other
    directory has metadata), it describes all clips.
    """
    found: dict[str, Row] = {}
    ambiguous: dict[str, None] = {}
    for table in tables:
        on_progress()
        scope = [clip for clip in clips if _is_below(_path(clip), table.directory)]
        if not scope and alone:
            scope = list(clips)
        matching = _Matching(table, scope)
        for clip, row in matching.run().items():
            found.setdefault(clip, row)
        ambiguous |= dict.fromkeys(clip for clip in scope if clip in matching.rivals)
    return Matches(found, tuple(clip for clip in ambiguous if clip not in found))


Edges = set[tuple[int, int]]  # (index of a clip, index of a row)


@dataclass
class _Matching:
    """Matches the rows of one table with the clips that the table may describe."""

    table: Table
    clips: Sequence[str]
    rivals: set[str] = field(default_factory=set)

    def run(self) -> dict[str, Row]:
        rows = _latest([(row, _keys(row)) for row in self.table.rows])
        partner_of_clip: dict[int, int] = {}
        taken: set[int] = set()
        for edges in _steps([keys for _, keys in rows], [_path(clip) for clip in self.clips], self.table.directory):
            rows_of_clip = Counter(clip for clip, _ in edges)
            clips_of_row = Counter(row for _, row in edges)
            for clip, row in sorted(edges):
                if clip in partner_of_clip or row in taken:
                    continue
                if rows_of_clip[clip] == clips_of_row[row] == 1:
                    partner_of_clip[clip] = row
                    taken.add(row)
                else:
                    self.rivals.add(self.clips[clip])
        return {self.clips[clip]: rows[row][0] for clip, row in partner_of_clip.items()}


def _keys(row: Row) -> Keys:
    """The row's texts by column. All spellings of a column are accepted (`Video ID`, `video.id`, `videoId`)."""
    keys: dict[str, list[str]] = {}
    for name, value in row.items():
        if (column := _COLUMNS.get(_column(name))) and (text := _text(value)):
            keys.setdefault(column, []).append(text)
    return keys


def _latest(rows: Sequence[tuple[Row, Keys]]) -> list[tuple[Row, Keys]]:
    """The rows without duplicates; the last of equal rows stays. A number that lost digits makes no rows equal."""
    last: dict[object, tuple[Row, Keys]] = {}
    for number, (row, keys) in enumerate(rows):
        whole = any(not _remaining_digits(text) for texts in keys.values() for text in texts)
        last[tuple(sorted((column, tuple(texts)) for column, texts in keys.items())) if whole else number] = row, keys
    return list(last.values())


def _steps(rows: Sequence[Keys], clips: Sequence[str], directory: str) -> Iterator[Edges]:
    columns = [column for name in FILE_COLUMNS if (column := _names(rows, name))]
    inside = [clip.removeprefix(directory).lstrip("/") if _is_below(clip, directory) else clip for clip in clips]
    for column in columns:
        yield _equal(column, enumerate(clips)) | _equal(column, enumerate(inside))
    for strip in (lambda path: {path}, _stems):
        for column in columns:
            yield from _by_ends(column, clips, strip)
    one_directory = len({_directory(clip) for clip in clips}) == 1
    for column in columns:
        if one_directory and len({_directory(name) for _, name in column}) == 1:
            several = len(column) > 1
            bases = [(row, base) for row, base in _bases(column) if several or len(base) >= DISTINCT_CHARS]
            yield _equal(bases, _bases(enumerate(clips)))
    yield from _by_id(rows, {row for column in columns for row, _ in column}, clips)


def _equal(rows: Iterable[tuple[int, object]], clips: Iterable[tuple[int, object]]) -> Edges:
    by_key: dict[object, set[int]] = defaultdict(set)
    for row, key in rows:
        by_key[key].add(row)
    return {(clip, row) for clip, key in clips for row in by_key.get(key, ())}


def _bases(paths: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    return ((index, stem) for index, path in paths for stem in _stems(PurePosixPath(path).name))


def _by_ends(rows: Column, clips: Sequence[str], strip: Callable[[str], set[str]]) -> Iterator[Edges]:
    """Pairs where one whole path is the end of the other; pairs with the most common parts come first."""
    levels: dict[int, Edges] = defaultdict(set)
    whole_rows = [(row, path) for row, name in rows for path in strip(name)]
    whole_clips = [(clip, path) for clip, name in enumerate(clips) for path in strip(name)]
    for clip, row, parts in _ends(whole_clips, whole_rows):
        levels[parts].add((clip, row))
    for row, clip, parts in _ends(whole_rows, whole_clips):
        levels[parts].add((clip, row))
    for parts in sorted(levels, reverse=True):
        yield levels[parts]


def _ends(long: Iterable[tuple[int, str]], short: Iterable[tuple[int, str]]) -> Iterator[tuple[int, int, int]]:
    """(long, short, number of common parts) for each path of `short` that is an end of a path of `long`."""
    by_path: dict[str, set[int]] = defaultdict(set)
    for index, path in short:
        by_path[path].add(index)
    for index, path in long:
        parts = path.split("/")
        for start in range(max(0, len(parts) - MAX_PARTS), len(parts)):
            for other in by_path.get("/".join(parts[start:]), ()):
                yield index, other, len(parts) - start


def _by_id(rows: Sequence[Keys], named: AbstractSet[int], clips: Sequence[str]) -> Iterator[Edges]:
    """Pairs with equal ids. `named` are the rows that have a file name."""
    columns: list[Column] = []
    for name in ID_COLUMNS:
        texts = [(index, text) for index, keys in enumerate(rows) for text in keys.get(name, ())]
        columns.append([(index, text) for index, text in texts if len(text) >= DISTINCT_CHARS or index not in named])
    columns.append([(index, text) for index, keys in enumerate(rows) for text in _ids_in_names(keys)])
    columns = [column for column in columns if column]
    whole = list(_bases(enumerate(clips)))
    marked = [(clip, key) for clip, path in enumerate(clips) for key in _marked(PurePosixPath(path).name)]
    parts = [(clip, key) for clip, path in enumerate(clips) for key in _parts(path)]
    for keys_of_clips in (whole, marked, parts):
        for column in columns:
            yield _equal(column, keys_of_clips)
    numbers = {(clip, key) for clip, key in (*marked, *parts) if key.isdecimal() and len(key) > NUMBER_CHARS}
    for kind in ("float", "rounded", "cut"):
        for column in columns:
            left = [(row, key) for row, text in column for key in _remaining_digits(text) if key[0] == kind]
            digits = {key[1] for _, key in left}
            yield _equal(left, ((clip, key) for clip, number in numbers for key in _shortened(number, digits)))


def _remaining_digits(value: str) -> list[tuple[str, int, object]]:
    """The digits that remain of an id that was a floating-point number or was in a spreadsheet."""
    if scientific := _SCIENTIFIC.fullmatch(value):
        digits = 1 + len(scientific[1] or "")
        if int(scientific[2]) < NUMBER_CHARS:
            return []
        rounded = [("rounded", digits, int(Decimal(value)))] if digits <= NUMBER_CHARS else []
        return [("float", 0, float(value)), *rounded]
    number = value.removesuffix(".0")
    if not number.isdecimal() or len(number) <= NUMBER_CHARS:
        return []
    kept: list[tuple[str, int, object]] = []
    if number != value or int(float(number)) == int(number):  # it may have been a float that looks like an integer
        kept.append(("float", 0, float(number)))
    if not number[NUMBER_CHARS:].strip("0"):
        kept.append(("cut", len(number), number[:NUMBER_CHARS]))
    return kept


def _shortened(number: str, digits: Iterable[int]) -> Iterator[tuple[str, int, object]]:
    """The same, computed from a complete id."""
    yield "float", 0, float(number)
    yield "cut", len(number), number[:NUMBER_CHARS]
    for count in digits:
        if 0 < count <= NUMBER_CHARS:
            yield "rounded", count, int(Context(prec=count, rounding=ROUND_HALF_EVEN).create_decimal(number))


@functools.lru_cache(4096)  # limited, because the names come from untrusted files
def _column(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


_COLUMNS = {
    _column(name): name for name in reversed(FILE_COLUMNS + ID_COLUMNS)
}  # of two that are spelt alike the first


def _text(value: Any) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < EXACT_FLOAT else repr(value)
    if not isinstance(value, int | str) or isinstance(value, bool):
        return ""
    text = str(value).strip()
    if len(text) > MAX_KEY_CHARS:
        return ""
    if spelt := re.fullmatch(r"""['=]"?(\d+)"?""", text):  # in spreadsheets this prefix marks a number as text
        return spelt[1]
    return text.removesuffix(".0") if re.fullmatch(r"\d{1,15}\.0", text) else text


def _names(rows: Sequence[Keys], column: str) -> list[tuple[int, str]]:
    """Paths in a column of file names, without URLs, which do not name a file."""
    texts = [(index, text) for index, keys in enumerate(rows) for text in keys.get(column, ())]
    files = [(index, unquote(text[7:]) if text.startswith("file://") else text) for index, text in texts]
    return [(index, path) for index, text in files if not _is_address(text) and (path := _path(text))]


def _is_address(text: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


def _ids_in_names(keys: Keys) -> Iterator[str]:
    """Ids in a row's file names (in brackets, after `_video_`, or long numbers), and the last parts of URLs."""
    for column in FILE_COLUMNS:
        for text in keys.get(column, ()):
            if _is_address(text):
                yield from _ids_in_address(text)
            else:
                base = PurePosixPath(_path(text)).name
                yield from (key for key in _marked(base) if len(key) >= DISTINCT_CHARS)
                yield from re.findall(rf"(?<!\d)\d{{{NUMBER_CHARS + 1},}}(?!\d)", base)


def _ids_in_address(text: str) -> Iterator[str]:
    try:
        address = urlsplit(text)
    except ValueError:
        return
    last = unquote(address.path).rstrip("/").rpartition("/")[2]
    for key in (*_stems(last), *parse_qs(address.query).get("v", [])):
        if len(key) >= DISTINCT_CHARS:
            yield key


def _marked(base: str) -> Iterator[str]:
    """The texts in brackets and after `_video_`."""
    for stem in _stems(base):
        for found in _MARKED.finditer(stem):
            yield found[1] or found[2]


def _parts(path: str) -> Iterator[str]:
    """Parts of a clip's name that may be an id. An id may hold `_` and `-`, so starts and ends of the name count."""
    for stem in _stems(PurePosixPath(path).name):
        pieces = re.split(r"([^0-9A-Za-z]+)", stem)[-2 * MAX_PARTS - 1 :]
        ends = ("".join(pieces[start:]) for start in range(0, len(pieces), 2))
        starts = ("".join(pieces[: start + 1]) for start in range(0, len(pieces), 2))
        yield from {key for key in (*pieces[::2], *ends, *starts) if len(key) >= DISTINCT_CHARS}


def _stems(path: str) -> set[str]:
    """The name itself, and the name without its audio and video extensions."""
    directory, slash, base = path.rpartition("/")
    stems = {path}
    while (suffix := PurePosixPath(base).suffix) and suffix.lower() in _MEDIA_SUFFIXES:
        base = base[: -len(suffix)]
        stems.add(directory + slash + base)
    return stems


def _path(name: str) -> str:
    """Normalise a path: composed characters (macOS writes decomposed ones) and forward slashes."""
    composed = unicodedata.normalize("NFC", name.strip().replace("\\", "/"))
    return "/".join(part for part in composed.split("/") if part not in {"", "."})


def _directory(path: str) -> str:
    return path.rpartition("/")[0]


def _is_below(path: str, directory: str) -> bool:
    return not directory or path.startswith(directory + "/")
