"""`audio-pipeline clip waveforms`: clips of an earlier release get what workers measure today."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from db import LevelArchive
from media.audio import convert_to_opus, decode
from media.levels import Levels, levels_of
from recovery import missing_levels
from tests.cli.conftest import Cli, Rows
from tests.workers.conftest import tone

Stored = dict[str, tuple[bytes | None, float | None, float | None]]
AddClip = Callable[..., int]
ALL_DONE = "Every stored clip has a waveform and its levels.\n"


@pytest.fixture
def opus(tmp_path: Path) -> Path:
    (tmp_path / "a.wav").write_bytes(tone(1.0))
    convert_to_opus(tmp_path / "a.wav", tmp_path / "a.opus", max_clip_s=60)
    return tmp_path / "a.opus"


@pytest.fixture
def add_clip(add: Callable[..., Any], put: Callable[..., str], query: Any, opus: Path) -> AddClip:
    """A clip of an earlier release; its object in S3 is a tone unless `content` says otherwise -> its number."""

    def make(name: str, *, batch: str = "b1", content: bytes | None = b"tone", **columns: object) -> int:
        query("INSERT INTO batches (batch_id) VALUES (%s) ON CONFLICT DO NOTHING", batch)
        key = f"processed/2026-01-01/{batch}-{name}.opus"
        if content is not None:
            put(key, opus.read_bytes() if content == b"tone" else content)
        row = {"status": "done", "s3_opus_path": key, **columns}
        return int(add("audio_files", batch_id=batch, original_filename=name, **row))

    return make


@pytest.fixture
def stored(query: Any) -> Callable[[], Stored]:
    def read() -> Stored:
        found = query("SELECT original_filename, peaks, loudness_lufs, peak_dbfs FROM audio_files")
        return {name: (None if peaks is None else bytes(peaks), *rest) for name, peaks, *rest in found}

    return read


def values(levels: Levels) -> tuple[bytes, float | None, float | None]:
    return levels.peaks, levels.loudness_lufs, levels.peak_dbfs


def test_it_shows_asks_measures_and_is_recorded(
    cli: Cli, add_clip: AddClip, stored: Callable[[], Stored], opus: Path, actions: Callable[[], Rows]
) -> None:
    add_clip("a.mp3")
    add_clip("b.mp3", batch="b2", status="no_speech")
    add_clip("new.mp3", peaks=b"\1\2", loudness_lufs=-20.0, peak_dbfs=-3.0)
    add_clip("waiting.mp3", status="pending", s3_opus_path=None)
    before = stored()
    assert cli("clip", "waveforms", "--dry-run").stdout == "2 clips would be measured\n"
    refused = cli("clip", "waveforms")
    assert refused.returncode == 1
    assert "add --yes" in refused.stderr
    assert (stored(), actions()) == (before, [])

    one = cli("clip", "waveforms", "--batch", "b2", "--yes")
    assert (one.returncode, one.stdout) == (0, "1 clip measured\n"), one.stderr
    assert cli("clip", "waveforms", answer="y").stdout.endswith("1 clip measured\n")
    tone_levels = values(levels_of(decode(opus)))
    assert stored() == {**before, "a.mp3": tone_levels, "b.mp3": tone_levels}
    assert actions() == [("clip waveforms", "b2", 1), ("clip waveforms", "all batches", 1)]
    assert cli("clip", "waveforms", "--yes").stdout == ALL_DONE


def test_a_clip_that_cannot_be_measured_is_named_and_the_others_are_done(
    cli: Cli, add_clip: AddClip, stored: Callable[[], Stored]
) -> None:
    add_clip("gone\x1b[31m.mp3", content=None)
    broken = add_clip("broken.mp3", content=b"no audio")
    add_clip("good.mp3")
    done = cli("clip", "waveforms", "--yes")
    assert done.returncode == 1
    assert done.stdout == "1 clip measured\n"
    gone, bad, summary = done.stderr.splitlines()
    assert gone.startswith(r"gone\x1b[31m.mp3 of batch b1 is not measured: ")
    assert bad.startswith(f"broken.mp3 of batch b1 is not measured: '{broken}.opus' cannot be read as audio")
    assert summary == "2 clips could not be measured; see above"
    assert {name for name, levels in stored().items() if levels[0]} == {"good.mp3"}
    assert cli("clip", "waveforms", "--dry-run").stdout == "2 clips would be measured\n"


def test_after_ctrl_c_the_same_command_continues(
    cli: Cli,
    add_clip: AddClip,
    stored: Callable[[], Stored],
    query: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numbers = [add_clip(f"{number}.mp3") for number in range(5)]
    monkeypatch.setattr(missing_levels, "_PAGE", 2)
    real = LevelArchive.store_levels

    def interrupted(archive: LevelArchive, audio_id: int, levels: Levels) -> None:
        if audio_id == numbers[3]:
            raise KeyboardInterrupt
        real(archive, audio_id, levels)

    monkeypatch.setattr(LevelArchive, "store_levels", interrupted)
    stopped = cli("clip", "waveforms", "--yes")
    assert stopped.returncode == 130
    assert stopped.stderr == "stopped; 3 clips measured; the same command continues\n"
    ended = query("SELECT affected, details->>'ended_by' FROM operator_actions WHERE affected IS NOT NULL")
    assert ended == [(3, "KeyboardInterrupt")]

    monkeypatch.setattr(LevelArchive, "store_levels", real)
    assert cli("clip", "waveforms", "--yes").stdout == "2 clips measured\n"
    assert all(levels[0] for levels in stored().values())
    assert cli("clip", "waveforms", "--yes").stdout == ALL_DONE


def test_an_unknown_batch_and_a_bucket_that_is_down_are_named(cli: Cli, add_clip: AddClip) -> None:
    add_clip("a.mp3")
    assert "Postgres knows no batch none" in cli("clip", "waveforms", "--batch", "none", "--yes").stderr
    down = cli("clip", "waveforms", "--yes", S3_BUCKET="no-such-bucket")
    assert down.returncode == 69
    assert "has no bucket no-such-bucket" in down.stderr
