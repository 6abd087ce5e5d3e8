"""The commands of the group's guide, word for word. `tests/workers` tests what becomes of the injected jobs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from s3_utils import ObjectStore
from tests.workers.conftest import tar, tone
from tests.workers.processes import WorkerProcess, wait_until

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def shell(services, settings_env):
    """Run a line as a person would: in bash, with the settings loaded and the clients on the path."""

    def run(line: str, cwd: Path = ROOT) -> str:
        env = {
            **settings_env,
            "REDISCLI_AUTH": settings_env["REDIS_PASSWORD"],
            **{
                name: settings_env[name.replace("PG", "POSTGRES_")]
                for name in ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD")
            },
            "PATH": f"{services.bin_dir}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": os.environ["HOME"],
        }
        done = subprocess.run(["bash", "-c", line], cwd=cwd, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    return run


@pytest.mark.parametrize("queue", ["queue:unpack", "queue:transcribe", "queue:failed"])
def test_queue_lengths(shell, queue):
    assert shell(f"redis-cli LLEN {queue}") == "0"


def test_the_flagged_clips_are_counted(shell):
    assert "\n     0\n" in shell('psql -d $POSTGRES_DB -c "SELECT COUNT(*) FROM ra_queue"')


def test_an_archive_injected_by_hand_is_unpacked(shell, settings_env, redis_db, tmp_path, settings):
    store = ObjectStore(settings)
    store.client.put_object(Bucket=store.bucket, Key="archives/test-001.tar", Body=tar({"a.wav": tone()}))
    line = """redis-cli LPUSH queue:unpack '{"batch_id": "test-001", "s3_key": "archives/test-001.tar"}'"""
    assert shell(line) == "1"
    with WorkerProcess("unpack", settings_env, tmp_path / "log"):
        wait_until(lambda: redis_db.llen("queue:transcribe") == 1, "the clip's job")


def test_a_clip_can_be_injected_by_hand(shell, redis_db):
    line = """redis-cli LPUSH queue:transcribe '{"audio_id": 1, "opus_path": "/data/scratch/test-001/audio.opus"}'"""
    assert shell(line) == "1"
    assert (
        redis_db.lindex("queue:transcribe", 0) == b'{"audio_id": 1, "opus_path": "/data/scratch/test-001/audio.opus"}'
    )


def test_the_s3_client_from_a_shell(shell, settings):
    line = 'python3 -c "from s3_utils import get_s3_client; print(get_s3_client().list_buckets())"'
    assert settings.s3_bucket in shell(line, cwd=ROOT / "src")


def test_the_s3_functions_from_a_shell(shell, tmp_path):
    (tmp_path / "x.tar").write_bytes(tar({"a.wav": tone()}))
    code = f"""
import s3_utils as s
assert s.check_s3_connection()
key = s.upload_archive("{tmp_path}/x.tar", "b1")
path = s.download_archive(key, "b1")
assert path.stat().st_size == s.get_archive_size(key)
s.cleanup_scratch("b1"); s.cleanup_scratch("b1")
assert not path.exists()
print(s.upload_opus("{tmp_path}/x.tar", 7, "2026-01-02"))
"""
    assert shell(f"python3 -c '{code}'", cwd=ROOT / "src") == "processed/2026-01-02/7.opus"


def test_torch_says_from_a_shell_whether_there_is_a_gpu(shell):
    import torch

    said = shell('python -c "import torch; print(torch.cuda.is_available())"')
    assert said == str(torch.cuda.is_available())
