"""Difficult clips in the real workers: their transcripts, their notes, and no other lines in the log."""

from __future__ import annotations

import io
import signal
import wave

import numpy as np
import pytest

from media.audio import decode
from tests.workers.conftest import tar, tone
from tests.workers.processes import wait_until
from tests.workers.test_gpu_worker import CLIPS, START_S, THREAT, is_over


def opposite_phase() -> bytes:
    """A spoken threat whose right channel is the left channel inverted."""
    left = np.rint(decode(CLIPS / THREAT) * 32767)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(np.stack([left, -left], axis=1).astype("<i2").tobytes())
    return file.getvalue()


@pytest.mark.thorough
def test_speech_in_opposite_phase_is_heard_judged_and_noted(worker, put_archive, redis_db, query, settings):
    batch = put_archive(tar({"anti.wav": opposite_phase(), "plain.wav": tone()}))
    unpack = worker("unpack")
    unpack.wait_for("batch unpacked")
    assert "channels cancel each other" in unpack.text
    assert max(np.std(decode(path)) for path in (settings.scratch_root / batch).glob("*.opus")) > 0.03
    notes = dict(query("SELECT original_filename, audio_notes FROM audio_files"))
    assert notes["plain.wav"] == []
    assert "channels cancel each other" in notes["anti.wav"][0]
    worker("gpu").wait_for("batch complete", START_S)
    wait_until(lambda: is_over(redis_db, query, batch), "the batch to be over")
    [(text,)] = query(
        "SELECT t.text FROM transcripts t JOIN audio_files a USING (audio_id) WHERE original_filename = 'anti.wav'"
    )
    assert "garage on mill street" in text.lower()
    assert query("SELECT original_filename FROM ra_queue") == [("anti.wav",)]


@pytest.mark.thorough
def test_batches_and_a_stop_leave_no_traceback_in_the_log_of_unpack(worker, put_archive):
    process = worker("unpack", CONVERT_PROCESSES="6")
    for number in range(6):
        put_archive(tar({f"{clip}.wav": tone(0.3) for clip in range(1 + number % 3)}), f"test-{number}")
        process.wait_for(f"batch=test-{number} clips=")
    process.send(signal.SIGTERM)
    assert process.exit_code() == 0
    assert "Traceback" not in process.text
