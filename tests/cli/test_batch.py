"""`audio-pipeline batch | inject | reconcile | expire`: repairs while workers work."""

from __future__ import annotations

import json

import pytest

from tests.reliability.tones import clip_name, write_archive
from tests.workers.processes import wait_until

CLIPS = (0, 1, 2, 39)


@pytest.fixture
def archive(tmp_path):
    write_archive(tmp_path / "a.tar", CLIPS)
    return (tmp_path / "a.tar").read_bytes()


def state(cli, batch_id):
    return json.loads(cli("batch", "show", batch_id, "--json").stdout)


def test_a_batch_is_shown_cancelled_taken_up_again_and_completes_once(cli, worker, put_archive, archive, actions, redis_db):
    put_archive(archive, "b1")
    worker("unpack").wait_for("batch unpacked")
    found = state(cli, "b1")
    assert {clip["clip"]: clip["status"] for clip in found["clips"]} == {
        clip_name(number): "failed" if number == 39 else "pending" for number in CLIPS
    }
    assert cli("batch", "cancel", "b1", "--yes").returncode == 0
    assert redis_db.keys("batch:*") == []
    assert redis_db.llen("queue:transcribe") == 0
    assert cli("reconcile", "--dry-run").stdout.startswith("0 batches")
    assert cli("batch", "requeue", "b1", "--yes").returncode == 0
    wait_until(lambda: redis_db.llen("queue:transcribe") == 3, "the clips' jobs to be back")
    assert not state(cli, "b1")["cancelled_at"]
    assert [action[:2] for action in actions()] == [("batch cancel", "b1"), ("batch requeue", "b1")]


def test_an_unknown_batch_is_a_sentence(cli):
    done = cli("batch", "show", "nothing")
    assert (done.returncode, done.stderr.strip()) == (
        1,
        "Postgres knows no batch nothing; see audio-pipeline batch list",
    )


def test_an_injected_archive_is_checked_first(cli, store, archive, redis_db, actions):
    missing = cli("inject", "unpack", "archives/none.tar")
    assert missing.returncode == 1
    assert "not pushed: S3 has no object archives/none.tar" in missing.stderr
    store.client.put_object(Bucket=store.bucket, Key="archives/test-001.tar", Body=archive)
    assert "would push to queue:unpack" in cli("inject", "unpack", "archives/test-001.tar", "--dry-run").stdout
    assert redis_db.llen("queue:unpack") == 0
    assert cli("inject", "s3").returncode == 0
    assert json.loads(redis_db.lindex("queue:unpack", 0))["batch_id"] == "test-001"
    assert "0 jobs pushed" in cli("inject", "s3").stdout
    assert actions() == [("inject s3", "queue:unpack", 1)]


def test_an_injected_clip_must_lie_on_this_hosts_scratch(cli, settings, redis_db):
    outside = cli("inject", "transcribe", "/etc/passwd")
    assert outside.returncode == 1
    assert "not pushed" in outside.stderr
    clip = settings.scratch_root / "b1" / "a.opus"
    clip.parent.mkdir()
    clip.write_bytes(b"x")
    assert cli("inject", "transcribe", str(clip), "--audio-id", "7").returncode == 0
    assert json.loads(redis_db.lindex("queue:transcribe:test-host", 0))["audio_id"] == 7


def test_old_archives_of_complete_batches_expire_and_no_others(cli, store, query):
    for name in ("done", "open"):
        store.client.put_object(Bucket=store.bucket, Key=f"archives/{name}.tar", Body=b"x")
    query(
        "INSERT INTO batches (batch_id, s3_key, completed_at) VALUES ('done', 'archives/done.tar', now()) RETURNING 1"
    )
    query("INSERT INTO batches (batch_id, s3_key) VALUES ('open', 'archives/open.tar') RETURNING 1")
    assert "0 archives deleted" in cli("expire", "--days", "1", "--yes").stdout
    assert sorted(store.keys("archives/")) == ["archives/done.tar", "archives/open.tar"]
