"""`audio-pipeline clip erase`: nothing of the clip is left, everything else is, and no new run brings it back."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import redis
from pyarrow import parquet

from archives.clip_metadata import clip_metadata
from archives.cutting import cut
from archives.extract import extract
from errors import ArchiveError
from tests.cli.conftest import Cli, ago, clip_letter
from tests.workers.conftest import tar, tone
from tests.workers.processes import wait_until

BATCH, CLIP, OTHER = "b1", "sub/secret-name.wav", "b – ü.wav"
REASON = ("--reason", "the author withdrew")


def metadata() -> bytes:
    rows = [{"file": CLIP, "author": "Secret Author"}, {"file": OTHER, "author": "Grace"}]
    file = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def contents() -> dict[str, bytes]:
    return {
        "a.wav": tone(0.2), CLIP: tone(0.3), "sub/secret-name.info.json": b"{}", "sub/secret-name2.wav": tone(0.2),
        OTHER: tone(0.4), "metadata.parquet": metadata(),
    }  # fmt: skip


def names(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        return found.getnames()


@pytest.fixture
def clip(add: Callable[..., Any], put: Callable[..., str], redis_db: redis.Redis, query: Any) -> int:
    """A clip whose batch is complete, with all that the pipeline may have of it -> its number."""
    put(f"archives/{BATCH}.tar", tar(contents(), "w:xz"))
    problems = json.dumps([{"of": CLIP, "reason": "ambiguous"}, {"of": "z.wav", "reason": "ambiguous"}])
    skipped = json.dumps([{"name": "sub/secret-name.info.json", "reason": "no clip"}])
    add(
        "batches", batch_id=BATCH, s3_key=f"archives/{BATCH}.tar", completed_at=ago(60), total=4,
        metadata_problems=problems, skipped_members=skipped,
    )  # fmt: skip
    number = int(
        add(
            "audio_files",
            batch_id=BATCH,
            original_filename=CLIP,
            status="done",
            source_sha256="ab",
            peaks=b"\1",
            platform_metadata='{"author": "Secret Author"}',
            created_at=ago(90_000),
            processed_at=ago(60),
            audio_notes='["Secret Author"]',
            source_bytes=1,
        )
    )
    key = put(f"processed/{ago(60):%Y-%m-%d}/{number}.opus")
    add("audio_files", batch_id=BATCH, original_filename=OTHER, status="done", s3_opus_path="processed/x.opus")
    put("processed/x.opus")
    put(f"processed/{ago(90_000):%Y-%m-%d}/{number}.opus")
    add_row = add("transcripts", audio_id=number, model="m", text="secret words", language="en", speech_s=1,
                  no_speech=False, translation="secret too", segments='[{"text": "secret"}]', words="[]",
                  words_from="decoder", windows='[{"text": "secret"}]')  # fmt: skip
    add(
        "classifications", audio_id=number, transcript_id=add_row, policy="p", policy_version="1.0.0",
        policy_sha256="x", model="m", prompt_version="1", violates=True, score=0.9, threshold=0.5, mass=1,
        truncated=False, text_sha256="y",
    )  # fmt: skip
    put(f"failed/{BATCH}/00007.opus")
    put(f"failed/{BATCH}/00008.opus")
    mine = {"batch_id": BATCH, "clip": CLIP, "parked_s3_key": f"failed/{BATCH}/00007.opus"}
    redis_db.rpush("queue:failed", clip_letter(7, BATCH, **mine), clip_letter(8, BATCH))
    query("UPDATE audio_files SET s3_opus_path = %s WHERE audio_id = %s", key, number)
    return number


def test_a_clip_is_erased_everywhere_and_a_second_call_says_the_same(
    cli: Cli, clip: int, query: Any, store: Any, redis_db: redis.Redis, tmp_path: Path
) -> None:
    number = clip
    planned = cli("clip", "erase", str(number), *REASON, "--dry-run")
    assert planned.stdout.startswith(f"would be erased: clip {number} of batch b1: 3 objects in S3, an archive, 1 dead")
    assert "add --yes" in cli("clip", "erase", str(number), *REASON).stderr
    assert query("SELECT count(*) FROM operator_actions") == [(0,)]

    done = cli("clip", "erase", str(number), *REASON, "--yes")
    assert done.returncode == 0, done.stderr
    assert "written anew without the clip; 2 members and 1 metadata row removed" in done.stdout
    assert "secret" not in done.stdout.lower()
    again = cli("clip", "erase", str(number), "--reason", "another", "--yes")
    assert again.stdout == done.stdout
    assert json.loads(cli("clip", "erase", str(number), *REASON, "--json").stdout)["audio_id"] == number
    assert query("SELECT affected FROM operator_actions WHERE affected IS NOT NULL") == [(1,)]

    everything = [
        *query("SELECT a::text FROM audio_files a WHERE audio_id = %s", number),
        *query("SELECT t::text FROM transcripts t"), *query("SELECT c::text FROM classifications c"),
        *query("SELECT b::text FROM batches b"), *query("SELECT o::text FROM operator_actions o"),
    ]  # fmt: skip
    assert not [row for (row,) in everything if "secret" in row.lower()]
    assert query("SELECT original_filename, status, s3_opus_path, source_sha256, peaks, erased_at IS NOT NULL "
                 "FROM audio_files WHERE audio_id = %s", number) == [
        (f"erased-{number}", "no_speech", None, None, None, True)
    ]  # fmt: skip
    assert query("SELECT score, text_sha256 FROM classifications") == [(0.9, None)]
    assert query("SELECT count(*) FROM ra_queue") == [(0,)]
    left = {key for prefix in ("processed/", "failed/") for key in store.keys(prefix)}
    assert left == {"processed/x.opus", f"failed/{BATCH}/00008.opus"}
    assert [json.loads(entry)["clip"] for entry in redis_db.lrange("queue:failed", 0, -1)] == ["clip 8.mp3"]

    store.download(f"archives/{BATCH}.tar", tmp_path / "new.tar")
    members = extract(tmp_path / "new.tar", tmp_path / "out").members
    assert {member.name: member.path.read_bytes() for member in members if member.kind == "clip"} == {
        name: data for name, data in contents().items() if name.endswith(".wav") and name != CLIP
    }
    found = clip_metadata([each for each in members if each.kind == "metadata"], [OTHER, CLIP])
    assert found.rows == {OTHER: {"file": OTHER, "author": "Grace"}}


def test_a_clip_of_a_batch_under_way_is_refused_and_a_new_run_does_not_bring_it_back(
    cli: Cli, clip: int, query: Any, worker: Any, redis_db: redis.Redis
) -> None:
    number = clip
    query("UPDATE batches SET completed_at = NULL")
    assert "is under way" in cli("clip", "erase", str(number), *REASON, "--yes").stderr
    query("UPDATE batches SET completed_at = now()")
    assert cli("clip", "erase", str(number), *REASON, "--yes").returncode == 0
    assert cli("batch", "requeue", BATCH, "--everything", "--yes").returncode == 0
    worker("unpack")
    wait_until(lambda: redis_db.exists(f"batch:{BATCH}:total"), "the batch to begin")
    assert query("SELECT original_filename, status FROM audio_files ORDER BY 1") == [
        ("a.wav", "pending"), (OTHER, "pending"), (f"erased-{number}", "no_speech"), ("sub/secret-name2.wav", "pending")
    ]  # fmt: skip
    assert "knows no clip 99" in cli("clip", "erase", "99", *REASON).stderr


def test_an_archive_that_cannot_be_read_is_not_replaced(
    cli: Cli, clip: int, query: Any, store: Any, put: Callable[..., str]
) -> None:
    put(f"archives/{BATCH}.tar", tar(contents())[:3000])
    done = cli("clip", "erase", str(clip), *REASON, "--yes")
    assert "nothing can be cut out of it" in done.stderr
    assert store.size(f"archives/{BATCH}.tar") == 3000
    assert query("SELECT erased_at FROM audio_files WHERE audio_id = %s", clip) == [(None,)]


@pytest.mark.parametrize("format_", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_several_archives_in_one_file_are_cut(tmp_path: Path, format_: int) -> None:
    """Headers of a member go with it, and those of the others stay."""
    long = "x" * 150
    for part, each in enumerate((f"{long}/a.wav", f"{long}/b.wav", "c.wav")):
        with tarfile.open(tmp_path / f"{part}.tar", "w", format=format_) as made:
            for name in (each, f"{part}.wav"):
                info = tarfile.TarInfo(name)
                info.size = 700
                made.addfile(info, io.BytesIO(bytes([part]) * 700))
    whole = tmp_path / "whole.tar"
    whole.write_bytes(b"".join((tmp_path / f"{part}.tar").read_bytes() for part in range(3)))
    done = cut(whole, tmp_path / "new.tar", f"{long}/b.wav", tmp_path)
    assert done.members == [f"{long}/b.wav"]
    assert names((tmp_path / "new.tar").read_bytes()) == [f"{long}/a.wav", "0.wav", "1.wav", "c.wav", "2.wav"]
    assert cut(whole, tmp_path / "none.tar", "nothing.wav", tmp_path).members == []
    assert not (tmp_path / "none.tar").exists()
    (tmp_path / "bad.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(ArchiveError, match="nothing can be cut"):
        cut(tmp_path / "bad.tar", tmp_path / "x.tar", "a", tmp_path)
