"""The stored clips that have no waveform and no loudness, because an earlier release finished them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from results.database import Database
from results.rows import one_row, save_levels

if TYPE_CHECKING:  # with numpy, which the command line can do without
    from media.levels import Levels

_WITHOUT = "peaks IS NULL AND s3_opus_path IS NOT NULL AND coalesce(batch_id = %(batch_id)s, %(batch_id)s IS NULL)"


@dataclass(frozen=True)
class StoredClip:
    audio_id: int
    s3_opus_path: str
    batch_id: str
    original_filename: str


class LevelArchive(Database):
    def count_without_levels(self, batch_id: str | None) -> int:
        """How many stored clips have no levels, of one batch or of all."""
        with self._transaction() as cursor:
            cursor.execute(f"SELECT count(*) FROM audio_files WHERE {_WITHOUT}", {"batch_id": batch_id})  # noqa: S608
            return int(one_row(cursor)[0])

    def without_levels(self, batch_id: str | None, *, after: int, limit: int) -> list[StoredClip]:
        """The next of them by their ids; `after` is the last id of the page before."""
        with self._transaction() as cursor:
            cursor.execute(
                f"""
                SELECT audio_id, s3_opus_path, batch_id, original_filename FROM audio_files
                WHERE {_WITHOUT} AND audio_id > %(after)s ORDER BY audio_id LIMIT %(limit)s
                """,  # noqa: S608 -- a constant
                {"batch_id": batch_id, "after": after, "limit": limit},
            )
            return [StoredClip(*row) for row in cursor.fetchall()]

    def store_levels(self, audio_id: int, levels: Levels) -> None:
        """Commit the levels of one clip: a transaction over many clips could wait for a worker that waits for it."""
        with self._transaction() as cursor:
            save_levels(cursor, audio_id, levels)
