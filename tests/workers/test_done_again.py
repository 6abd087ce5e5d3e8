"""Which clips a requeue processes again after policies or models changed, and which it skips."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.workers.conftest import StartWorker, tar, tone
from tests.workers.processes import wait_until
from tests.workers.programs import STUB_GPU, Program

ROOT = Path(__file__).resolve().parents[2]
FLAGGED, CLEAN, SILENT = 500, 440, 0  # hertz; the stub flags multiples of 50
ARCHIVE = {"flagged.wav": tone(hertz=FLAGGED), "clean.wav": tone(hertz=CLEAN), "silent.wav": tone(hertz=SILENT)}
BATCH = "test-001"
OTHER_SPEECH = """
[sets.demo.speech]
name = "another-whisper"
part = "whisper-base"

[sets.demo.moderation]
name = "gemma-3-270m-demo"
base = "gemma-3-270m"
"""


class Host:
    """A GPU host whose policies and models change. Its unpack worker always runs; a test starts its GPU worker."""

    def __init__(self, start: StartWorker, client: redis.Redis, env: dict[str, str], folder: Path) -> None:
        self.policies, self._models, self._log = folder / "policies", folder / "models", folder / "gpu.log"
        self.policies.mkdir()
        self._models.mkdir()
        shutil.copy(ROOT / "policies/hate-speech.md", self.policies)
        own = {"POLICIES_DIR": str(self.policies), "MODELS_ROOT": str(self._models)}
        self._redis, self.env = client, {**env, "HEARTBEAT_TTL_S": "5", **own}
        self.unpack = start("unpack", HEARTBEAT_TTL_S="5", **own)
        self._unpacked = 0

    def unpacks(self) -> str:
        """Wait until the batch is unpacked once more -> the line of the log that says so."""
        self._unpacked += 1
        wait_until(lambda: self.unpack.text.count("batch unpacked") == self._unpacked, "the batch to be unpacked")
        return next(line for line in reversed(self.unpack.text.splitlines()) if "batch unpacked" in line)

    def judges(self) -> str:
        """Start a GPU worker with the current policies and models, let it finish the batch, and stop it -> its log."""
        self._log.unlink(missing_ok=True)
        with Program(STUB_GPU, self.env, self._log) as gpu:
            gpu.wait_for("batch complete")
            wait_until(lambda: not self._redis.keys("batch*"), "the batch's keys to be gone")
            assert gpu.stop() == 0
            return gpu.text

    def change_policy(self, old: str, new: str) -> None:
        file = self.policies / "hate-speech.md"
        text = file.read_text()
        assert f'version = "{old}"' in text
        file.write_text(text.replace(f'version = "{old}"', f'version = "{new}"'))

    def edit_policy(self) -> None:
        """Change the text, and not the version."""
        file = self.policies / "hate-speech.md"
        file.write_text(file.read_text().replace("## Overview\n", "## Overview\n\nEdited.\n"))

    def change_speech_model(self) -> None:
        (self._models / "models.toml").write_text(OTHER_SPEECH)


@pytest.fixture
def host(worker: StartWorker, redis_db: redis.Redis, settings_env: dict[str, str], tmp_path: Path) -> Host:
    return Host(worker, redis_db, settings_env, tmp_path)


@pytest.fixture
def requeue(host: Host) -> Callable[..., None]:
    """Run `audio-pipeline batch requeue`."""

    def run(*options: str) -> None:
        command = [sys.executable, str(ROOT / "src/cli.py"), "batch", "requeue", BATCH, "--yes", *options]
        done = subprocess.run(command, env={**os.environ, **host.env}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    return run


@pytest.fixture
def complete(host: Host, put_archive: Callable[..., str]) -> None:
    """A batch that is complete, judged by version 1.0.0 of its policy."""
    put_archive(tar(ARCHIVE), BATCH)
    host.unpacks()
    assert host.judges().count("clip done") == len(ARCHIVE)


Query = Callable[..., list[tuple[Any, ...]]]


def verdicts(query: Query) -> dict[str, list[str]]:
    """The policy versions that each clip was judged by."""
    return dict(
        query(
            "SELECT original_filename, array_agg(policy_version ORDER BY policy_version) "
            "FROM classifications JOIN audio_files USING (audio_id) GROUP BY 1"
        )
    )


def counts(query: Query) -> list[tuple[Any, ...]]:
    return query("SELECT completed_at IS NOT NULL, total, processed, failed FROM batches")


@pytest.mark.usefixtures("complete")
@pytest.mark.thorough
def test_a_requeue_with_nothing_changed_skips_every_clip(host: Host, requeue, query) -> None:
    requeue()
    assert "done_before=3" in host.unpacks()
    log = host.judges()
    assert log.count("clip done") == 0
    assert log.count("batch complete") == 1
    assert counts(query) == [(True, 3, 3, 0)]


@pytest.mark.usefixtures("complete")
def test_a_requeue_after_a_policy_changed_adds_its_verdicts(host: Host, requeue, query) -> None:
    host.change_policy("1.0.0", "2.0.0")
    requeue()
    assert "done_before=1" in host.unpacks(), "the clip without speech"
    log = host.judges()
    assert log.count("clip done") == 2
    assert log.count("batch complete") == 1
    assert verdicts(query) == {"flagged.wav": ["1.0.0", "2.0.0"], "clean.wav": ["1.0.0", "2.0.0"]}
    assert set(query("SELECT policy_version FROM verdicts_in_force")) == {("2.0.0",)}
    assert counts(query) == [(True, 3, 3, 0)]


@pytest.mark.usefixtures("complete")
@pytest.mark.thorough
def test_a_requeue_after_a_policy_went_back_puts_the_older_version_in_force(host: Host, requeue, query) -> None:
    for old, new in (("1.0.0", "2.0.0"), ("2.0.0", "1.0.0")):
        host.change_policy(old, new)
        requeue()
        host.unpacks()
        host.judges()
    assert set(query("SELECT policy_version FROM verdicts_in_force")) == {("1.0.0",)}
    assert query("SELECT count(*) FROM classifications") == [(4,)], "two clips, two versions"


@pytest.mark.usefixtures("complete")
@pytest.mark.thorough
def test_a_policy_edited_without_a_new_version_stops_the_gpu_worker(host: Host, redis_db, tmp_path) -> None:
    host.edit_policy()
    with Program(STUB_GPU, host.env, tmp_path / "refused.log") as gpu:
        assert gpu.exit_code() == 78
        assert "hate-speech.md has been edited, but still says version 1.0.0" in gpu.text.strip().splitlines()[-1]
    assert redis_db.keys("inflight*") == []
    host.change_policy("1.0.0", "1.0.1")
    with Program(STUB_GPU, host.env, tmp_path / "mended.log") as gpu:
        gpu.wait_for("ready")
        assert gpu.stop() == 0


@pytest.mark.thorough
def test_a_language_that_is_not_judged_is_recorded_and_then_done(
    worker, put_archive, redis_db, settings_env, tmp_path, query
) -> None:
    env = {**settings_env, "JUDGED_LANGUAGES": "de,es", "HEARTBEAT_TTL_S": "5"}
    unpack = worker("unpack", **env)
    put_archive(tar(ARCHIVE), BATCH)
    with Program(STUB_GPU, env, tmp_path / "gpu.log") as gpu:
        gpu.wait_for("batch complete")
        assert gpu.text.count("not_judged=language") == 2
        assert query("SELECT count(*) FROM classifications") == [(0,)]
        states = "SELECT status, not_judged, count(*) FROM audio_files JOIN transcripts USING (audio_id) GROUP BY 1, 2"
        assert sorted(query(states)) == [("done", "language", 2), ("no_speech", None, 1)]
        wait_until(lambda: not redis_db.keys("batch*"), "the batch's keys to be gone")
        put_archive(tar(ARCHIVE), BATCH)
        wait_until(lambda: unpack.text.count("batch unpacked") == 2, "the batch to be unpacked again")
        assert "done_before=3" in unpack.text
        assert gpu.stop() == 0


@pytest.mark.usefixtures("complete")
@pytest.mark.thorough
def test_a_requeue_with_another_speech_model_does_every_clip_again(host: Host, requeue, query) -> None:
    host.change_speech_model()
    requeue()
    host.unpacks()
    assert host.judges().count("clip done") == 3
    assert query("SELECT model, count(*) FROM transcripts GROUP BY 1 ORDER BY 1") == [
        ("another-whisper", 3),
        ("base", 3),
    ]
    assert counts(query) == [(True, 3, 3, 0)]


@pytest.mark.usefixtures("complete")
@pytest.mark.thorough
def test_reviewers_see_the_older_verdict_until_the_new_one_is_there(host: Host, requeue, query) -> None:
    queue = "SELECT original_filename, policies, transcript, s3_opus_path FROM ra_queue"
    before = query(queue)
    assert [row[0] for row in before] == ["flagged.wav"]
    host.change_policy("1.0.0", "2.0.0")
    requeue("--everything")
    host.unpacks()
    assert query(queue) == before
    host.judges()
    assert query(queue) == before
    assert query("SELECT policy_version FROM verdicts_in_force WHERE violates") == [("2.0.0",)]


def test_an_unpack_worker_without_policies_stops_before_it_claims(worker, put_archive, redis_db, tmp_path) -> None:
    put_archive(tar(ARCHIVE), BATCH)
    process = worker("unpack", POLICIES_DIR=str(tmp_path / "none"))
    assert process.exit_code() == 78
    assert "correct POLICIES_DIR" in process.text.strip().splitlines()[-1]
    assert redis_db.llen("queue:unpack") == 1


def test_a_policy_that_breaks_while_the_worker_runs_costs_no_job(host: Host, put_archive, redis_db) -> None:
    host.unpack.wait_for("ready")
    (host.policies / "hate-speech.md").write_text("half a fi")
    put_archive(tar(ARCHIVE), BATCH)
    assert host.unpack.exit_code() == 78
    assert "hate-speech.md:1" in host.unpack.text.strip().splitlines()[-1]
    assert redis_db.llen("queue:unpack") == 1
    assert redis_db.hlen("queue:attempts") == 0
