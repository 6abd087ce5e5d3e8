"""Platform fields of the sample clips: one row per upload, as a platform's export would give them.

The rows are invented, and drawn from a generator seeded with the file name, so that they stay the same between runs.
Types differ on purpose (text, whole numbers of three widths, floats, booleans, times, a date, a list, a structure,
a list of structures, a column that is always null): a reader of real exports meets all of these.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FIRST_UPLOAD = datetime(2025, 6, 22, 14, 30, 7, tzinfo=UTC)
WINDOW_S = 580  # an archive holds ten minutes of uploads
GONE_FILE = "deleted.by.owner_7518839002.mp3"  # a row whose clip never came

SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("filename", pa.string(), nullable=False),
        pa.field("share_url", pa.string()),
        pa.field("author_handle", pa.string()),
        pa.field("author_name", pa.string()),
        pa.field("author_verified", pa.bool_()),
        pa.field("author_followers", pa.int64()),
        pa.field("author_since", pa.date32()),
        pa.field("upload_time", pa.timestamp("us", tz="UTC")),
        pa.field("description", pa.string()),
        pa.field("hashtags", pa.list_(pa.string())),
        pa.field("mentions", pa.list_(pa.struct([("handle", pa.string()), ("user_id", pa.int64())]))),
        pa.field("like_count", pa.int64()),
        pa.field("comment_count", pa.int32()),
        pa.field("share_count", pa.int32()),
        pa.field("play_count", pa.int64()),
        pa.field("engagement_rate", pa.float64()),
        pa.field("region", pa.string()),
        pa.field("language_hint", pa.string()),
        pa.field("location", pa.struct([("city", pa.string()), ("lat", pa.float32()), ("lon", pa.float32())])),
        pa.field("music_title", pa.string()),
        pa.field("video", pa.struct([("width", pa.int16()), ("height", pa.int16()), ("fps", pa.float32())])),
        pa.field("duration_s", pa.float32()),
        pa.field("is_ad", pa.bool_()),
        pa.field("stitch_of", pa.null()),
    ]
)
PLACES: dict[str, tuple[str, float, float]] = {
    "US": ("Harbor Bay", 41.2, -71.9),
    "GB": ("Hillside", 53.4, -1.8),
    "ES": ("Villa del Prado", 40.3, -4.3),
}


def seeded(name: str) -> np.random.Generator:
    """Return the generator that belongs to a file name."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def _row(name: str, given: Mapping[str, Any], duration_s: float | None, upload_time: datetime) -> dict[str, Any]:
    """Return the row of one clip: what ``scripts.toml`` gives, the rest drawn; ``duration_s`` in seconds."""
    rng = seeded(name + "#row")
    region = given.get("region", "US")
    number = name.rsplit("_", 1)[-1].split(".", maxsplit=1)[0]
    video_id = (number if number.isdecimal() else "7518837820") + f"{int(rng.integers(10**9)):09d}"
    plays = int(rng.lognormal(8.5, 1.6))
    likes = int(plays * rng.uniform(0.02, 0.2))
    comments = int(likes * rng.uniform(0.01, 0.12))
    place = PLACES.get(region) if rng.random() < 0.4 else None
    mentioned = [{"handle": "cityhall.live", "user_id": 6_900_114_227}] if "vote" in given.get("hashtags", ()) else []
    return {
        "video_id": video_id,
        "filename": name,
        "share_url": f"https://clips.example/@{given['author_handle']}/video/{video_id}",
        "author_verified": False,
        "author_followers": int(rng.lognormal(8, 2)),
        "author_since": date(2018, 1, 1) + timedelta(days=int(rng.integers(2500))),
        "upload_time": upload_time,
        "hashtags": [],
        "mentions": mentioned,
        "like_count": likes,
        "comment_count": comments,
        "share_count": int(likes * rng.uniform(0, 0.3)) if rng.random() < 0.85 else None,
        "play_count": plays,
        "engagement_rate": (likes + comments) / plays if plays else None,
        "language_hint": "en" if rng.random() < 0.6 else None,
        "location": dict(zip(("city", "lat", "lon"), place, strict=True)) if place else None,
        "video": {"width": 1080, "height": 1920, "fps": 30.0} if rng.random() < 0.7 else None,
        "duration_s": duration_s,
        "is_ad": False,
        "stitch_of": None,
        **given,
    }


def write_metadata(path: Path, clips: Sequence[tuple[str, Mapping[str, Any], float | None]]) -> None:
    """Write ``path``: a row for every (file name, given fields, duration in seconds), and one for a clip that is gone.

    Raises ``ValueError`` for a given field that the schema does not name.
    """
    gone = {"author_handle": "deleted.by.owner", "author_name": "Deleted Account", "description": None}
    rows = []
    for index, (name, given, duration_s) in enumerate([*clips, (GONE_FILE, gone, None)]):
        unknown = set(given) - set(SCHEMA.names)
        if unknown:
            raise ValueError(f"{name}: scripts.toml gives unknown platform fields {sorted(unknown)}.")
        jitter_s = float(seeded(name + "#time").uniform(0, 12))
        upload_time = FIRST_UPLOAD + timedelta(seconds=WINDOW_S * index / (len(clips) + 1) + jitter_s)
        rows.append(_row(name, given, duration_s, upload_time))
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path, compression="zstd")
