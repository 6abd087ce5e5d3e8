"""`audio-pipeline batch`: where clips are, and how a batch is requeued or cancelled while workers work."""

from __future__ import annotations

import json
import signal

import pytest

from tests.cli.conftest import ago, clip_letter, jobs, kept
from tests.workers.conftest import tar, tone
from tests.workers.processes import wait_until

CLIPS = {"a [1].wav": tone(hertz=440), "b.wav": tone(hertz=500), "c.wav": tone(hertz=600)}
ARCHIVE = tar({**CLIPS, "broken.mp3": b"no audio at all", "notes.txt": b"words"})


def shown(cli, batch_id):
    return json.loads(cli("batch", "show", batch_id, "--json").stdout)


def states(found):
    return {clip["clip"]: (clip["status"], clip["job"]) for clip in found["clips"]}


@pytest.fixture
def unpacked(worker, put_archive):
    """Unpack an archive and stop the worker -> the batch id."""

    def run() -> str:
        put_archive(ARCHIVE, "b1")
        process = worker("unpack")
        process.wait_for("batch unpacked")
        process.send(signal.SIGTERM)
        assert process.exit_code() == 0
        return "b1"

    return run


def test_batches_are_listed_newest_first(cli, add):
    assert cli("batch", "list").stdout == "No batches.\n"
    add("batches", batch_id="oldest", s3_key="k", created_at=ago(50))
    add("batches", batch_id="given-up", s3_key="k", created_at=ago(40), unpacked_at=ago(30), cancelled_at=ago(20))
    add("batches", batch_id="over", s3_key="k", original_filename="monday [1].tar", created_at=ago(30), total=2,
        transferred_at=ago(90), unpack_began_at=ago(60), unpacked_at=ago(50), completed_at=ago(10))  # fmt: skip
    add("batches", batch_id="newest", s3_key="k", created_at=ago(20), unpacked_at=ago(10), total=3)
    for clip, status in (("a", "done"), ("b", "no_speech"), ("c", "failed")):
        add("audio_files", batch_id="newest", original_filename=clip, status=status)

    lines = cli("batch", "list").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["BATCH", "ARCHIVE", "STATE", "CLIPS", "DONE", "FAILED", "DOUBTFUL", "NOT", "JUDGED", "TOOK"],
        ["newest", "under", "way", "3", "2", "1", "0", "0", "–"],
        ["over", "monday", "[1].tar", "complete", "2", "0", "0", "0", "0", "80", "s"],
        ["given-up", "cancelled", "0", "0", "0", "0", "0", "–"],
        ["oldest", "not", "unpacked", "0", "0", "0", "0", "0", "–"],
    ]

    def named(*arguments: str) -> list[tuple[str, str]]:
        return [(batch["batch_id"], batch["state"]) for batch in json.loads(cli("batch", "list", *arguments).stdout)]

    assert named("--json", "--open") == [("newest", "under way"), ("oldest", "not unpacked")]
    assert named("--json", "--limit", "2") == [("newest", "under way"), ("over", "complete")]
    assert cli("batch", "list", "--limit", "0").returncode == 2


@pytest.mark.thorough
def test_a_batch_is_shown_with_every_clip_its_place_and_its_times(cli, unpacked, redis_db, query):
    unpacked()
    [first, second, third] = redis_db.lrange("queue:transcribe", 0, -1)
    redis_db.lrem("queue:transcribe", 1, second)
    redis_db.zadd("queue:delayed", {b"queue:transcribe\nnonce\n" + second: 9e9})
    redis_db.lrem("queue:transcribe", 1, third)
    redis_db.lpush("inflight:queue:transcribe:gpu-01:7:n", third)
    query("UPDATE audio_files SET status = 'done', processed_at = now() + interval '60 s', transcribe_s = 4, "
          "classify_s = 1.5, duration_s = 9 WHERE original_filename = 'a [1].wav' RETURNING 1")  # fmt: skip
    redis_db.lrem("queue:transcribe", 1, first)

    found = shown(cli, "b1")
    assert states(found) == {
        "a [1].wav": ("done", None),
        "b.wav": ("pending", "queue:delayed"),
        "c.wav": ("pending", "claimed"),
        "broken.mp3": ("failed", None),
    }
    assert (found["state"], found["total"], found["done"], found["failed"]) == ("under way", 4, 1, 1)
    assert (found["unpack_host"], found["s3_key"]) == ("test-host", "archives/b1.tar")
    assert found["unpack_began_at"] < found["unpacked_at"]
    assert found["skipped_members"] == [{"name": "notes.txt", "reason": "its name is not that of an audio file"}]

    lines = cli("batch", "show", "b1").stdout.splitlines()
    assert lines[0] == "b1: under way; 1 of 4 clips done, 1 failed"
    assert "skipped      notes.txt: its name is not that of an audio file" in lines
    assert "metadata     matched 0 of 4 clips" in lines
    assert any(line.startswith("unpacked  ") and " on test-host, after – of waiting and " in line for line in lines)
    rows = {line.split()[1]: " ".join(line.split()[2:]) for line in lines if line.split()[0].isdigit()}
    assert rows["a"].startswith("[1].wav done 9.0 s ")
    assert rows["a"].endswith(" s 4.0 s 1.5 s")
    waited = int(rows["a"].removeprefix("[1].wav done 9.0 s ").split()[0])
    assert 50 <= waited <= 56, "a minute from unpacking to the results, less the 5.5 s of work"
    assert rows["b.wav"] == "queue:delayed 0.5 s"
    assert rows["c.wav"] == "claimed 0.5 s"
    assert rows["broken.mp3"].startswith("failed 'broken.mp3' cannot be read as audio")


def test_the_guides_payload_is_shown_as_its_clips_job(cli, add, redis_db, settings):
    add("batches", batch_id="test-001", unpacked_at=ago(9), total=1)
    add("audio_files", batch_id="test-001", original_filename="audio.opus")
    redis_db.lpush("queue:transcribe", json.dumps({"opus_path": f"{settings.scratch_root}/test-001/audio.opus"}))
    assert states(shown(cli, "test-001")) == {"audio.opus": ("pending", "queue:transcribe")}


def test_a_batch_that_is_unknown_or_waits_to_be_unpacked_is_a_sentence(cli, put_archive):
    for verb in ("show", "requeue", "cancel"):
        done = cli("batch", verb, "nothing")
        assert done.returncode == 1
        assert done.stderr == "Postgres knows no batch nothing; audio-pipeline batch list shows those it knows\n"
    put_archive(ARCHIVE, "b1")
    done = cli("batch", "show", "b1")
    assert done.returncode == 1
    assert done.stderr == "batch b1 waits to be unpacked; Postgres knows it when a worker has begun with it\n"


def test_a_requeue_does_what_is_missing_and_everything_only_when_asked(cli, unpacked, worker, redis_db, query, actions):
    unpacked()
    query(
        "WITH silent AS (UPDATE audio_files SET status = 'no_speech', s3_opus_path = 'x' "
        "WHERE original_filename = 'b.wav' RETURNING audio_id) INSERT INTO transcripts "
        "(audio_id, model, text, speech_s, no_speech) SELECT audio_id, 'base', '', 0, true FROM silent RETURNING 1"
    )
    [first, _, third] = redis_db.lrange("queue:transcribe", 0, -1)
    redis_db.lrem("queue:transcribe", 1, third)
    redis_db.zadd("queue:delayed", {b"queue:transcribe\nnonce\n" + third: 9e9})
    redis_db.rpush("queue:transcribe", b'{"batch_id": "other"}')

    before = kept(redis_db)
    assert cli("batch", "requeue", "b1").returncode == 1
    asked = cli("batch", "requeue", "b1", answer="n")
    assert "Unpack b1 again and do its clips that lack a result (3)? [y/N]" in asked.stdout
    assert kept(redis_db) == before

    for _ in range(2):  # asked twice, it is unpacked once
        assert cli("batch", "requeue", "b1", "--yes").stdout == "b1 stands in queue:unpack again\n"
    assert jobs(redis_db) == [{"batch_id": "b1", "s3_key": "archives/b1.tar"}]
    assert jobs(redis_db, "queue:transcribe") == [{"batch_id": "other"}]
    assert redis_db.keys("batch*") == []
    assert redis_db.zcard("queue:delayed") == 0

    process = worker("unpack")
    process.wait_for("batch unpacked")
    assert [job["original_filename"] for job in jobs(redis_db, "queue:transcribe")[1:]] == ["a [1].wav", "c.wav"]
    assert json.loads(first)["original_filename"] == "a [1].wav"

    asked = cli("batch", "requeue", "b1", "--everything", answer="y")
    assert "Unpack b1 again and do all its clips (4)? [y/N]" in asked.stdout
    assert asked.returncode == 0, asked.stderr
    wait_until(lambda: process.text.count("batch unpacked") == 2, "the archive to be unpacked again")
    assert [job["original_filename"] for job in jobs(redis_db, "queue:transcribe")[1:]] == list(CLIPS)
    assert actions() == [("batch requeue", "b1", 3), ("batch requeue", "b1", 3), ("batch requeue", "b1", 4)]


def test_a_batch_whose_archive_is_gone_or_never_was_cannot_be_requeued(cli, add, put, redis_db, actions):
    add("batches", batch_id="lost", s3_key="archives/lost.tar")
    add("batches", batch_id="manual")
    put("archives/other.tar")
    lost, manual = (cli("batch", "requeue", batch, "--yes") for batch in ("lost", "manual"))
    assert (lost.returncode, manual.returncode) == (1, 1)
    assert "S3 has no object archives/lost.tar" in lost.stderr
    assert lost.stderr.endswith("bring the archive back, or inject its clips\n")
    assert manual.stderr == "batch manual has no archive: its clips were injected one by one; inject them again\n"
    assert redis_db.keys() == []
    assert actions() == []


def test_a_complete_batch_cannot_be_cancelled(cli, add, redis_db, actions, query):
    add("batches", batch_id="b1", s3_key="k", unpacked_at=ago(9), completed_at=ago(1))
    redis_db.rpush("queue:failed", clip_letter(1))
    done = cli("batch", "cancel", "b1", "--yes")
    assert done.returncode == 1
    assert done.stderr == "batch b1 is complete; there is nothing to cancel\n"
    assert query("SELECT cancelled_at FROM batches") == [(None,)]
    assert actions() == []


@pytest.mark.thorough
def test_a_batch_is_given_up_with_all_its_jobs_and_taken_up_again_where_it_stopped(  # noqa: PLR0917 -- fixtures
    cli, unpacked, worker, gpu, redis_db, query, tmp_path, actions, settings
):
    gate = tmp_path / "gate"
    unpacked()
    other = b'{"batch_id": "other", "opus_path": "/x"}'
    [*_, third] = redis_db.lrange("queue:transcribe", 0, -1)
    redis_db.lrem("queue:transcribe", 1, third)
    redis_db.zadd("queue:delayed", {b"queue:transcribe\nnonce\n" + third: 9e9, b"queue:transcribe\nn\n" + other: 9e9})
    stub = gpu(STUB_WAITS_FOR=str(gate), CLIPS_IN_HAND="1")
    wait_until(lambda: redis_db.keys("inflight:*"), "a clip to be in hand")

    asked = cli("batch", "cancel", "b1", answer="n")
    assert "Cancel b1, with 3 clips to do? [y/N]" in asked.stdout
    assert redis_db.get("batch:b1:total") == b"4"
    done = cli("batch", "cancel", "b1", "--yes")
    assert (done.returncode, done.stdout) == (0, "b1 is cancelled; 3 jobs removed\n"), done.stderr
    assert redis_db.keys("batch*") == redis_db.keys("inflight:*") == redis_db.keys("queue:transcribe*") == []
    assert redis_db.zrange("queue:delayed", 0, -1) == [b"queue:transcribe\nn\n" + other]

    gate.touch()
    stub.wait_for("job no longer belongs to this worker")
    found = shown(cli, "b1")
    assert found["state"] == "cancelled"
    assert states(found)["a [1].wav"] == ("done", None), "what was done keeps its results"
    assert any(line.startswith("cancelled  ") for line in cli("batch", "show", "b1").stdout.splitlines())
    assert cli("reconcile", "--yes").stdout == "Redis agrees with Postgres\n"
    unpack = worker("unpack")
    unpack.wait_for("ready")
    assert redis_db.llen("queue:unpack") == 0

    assert cli("batch", "requeue", "b1", "--yes").returncode == 0
    stub.wait_for("batch complete")
    assert query("SELECT cancelled_at, completed_at IS NOT NULL, total, processed, failed FROM batches") == [
        (None, True, 4, 3, 1)
    ]
    assert stub.text.count("clip done") == 3, "the first clip was not done again"
    wait_until(lambda: not list(settings.scratch_root.iterdir()), "the batch's scratch to go")
    assert actions() == [("batch cancel", "b1", 3), ("batch requeue", "b1", 3)]


def test_an_archive_that_waits_to_be_unpacked_can_be_cancelled(cli, put, redis_db, actions):
    put("archives/w1.tar")
    redis_db.rpush("queue:unpack", json.dumps({"batch_id": "w1", "s3_key": "archives/w1.tar"}), b"another")
    assert cli("batch", "list").stdout.splitlines()[-1] == "2 archives in queue:unpack"
    done = cli("batch", "cancel", "w1", "--yes")
    assert (done.returncode, done.stdout) == (0, "w1 is cancelled; 1 job removed\n"), done.stderr
    assert redis_db.lrange("queue:unpack", 0, -1) == [b"another"]
    assert shown(cli, "w1")["state"] == "cancelled"
    assert "0 jobs would be pushed" in cli("inject", "s3", "--dry-run").stdout
    assert [row[:2] for row in actions()] == [("batch cancel", "w1")]
