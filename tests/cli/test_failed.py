"""`audio-pipeline failed`: dead letters are listed, shown, retried and dropped; none is lost or doubled."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal

import pytest

from tests.cli.conftest import FAILED, ago, clip_letter, jobs, kept, letter
from tests.workers.conftest import tar, tone
from tests.workers.processes import wait_until

STRANGE = b"[/b] no letter \xff"
LATE = "2999-01-01T00:00:00+00:00"


def id_of(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:10]


def errors(redis_db):
    return [json.loads(raw)["error"] for raw in redis_db.lrange(FAILED, 0, -1)]


@pytest.fixture
def four(redis_db):
    """Two archives and two clips."""
    letters = [letter(1), letter(2, failed_at=LATE), clip_letter(3), clip_letter(4, "b4", error="Its Worker Died")]
    redis_db.rpush(FAILED, *letters)
    return letters


def test_letters_are_listed_oldest_first_as_sentences(cli, redis_db, four):
    redis_db.rpush(FAILED, STRANGE)
    lines = cli("failed", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == [id_of(raw) for raw in four]
    assert lines[1].split()[1:5] == ["2026-01-01", "00:00:00", "unpack", "b1"]
    assert lines[1].rstrip().endswith("  archives/b1.tar is damaged at member 1")
    assert lines[3].split()[3:] == ["gpu", "b1", "clip", "3.mp3", "clip", "3.mp3", "holds", "no", "audio"]
    assert lines[5].split() == [id_of(STRANGE), "?", "not", "a", "dead", "letter:", "[/b]", "no", "letter", r"\xff"]
    assert lines[6].startswith("1 entry is not a dead letter; audio-pipeline failed show ID")
    assert len(lines) == 7
    found = json.loads(cli("failed", "list", "--json").stdout)
    assert found == [{"id": id_of(raw), **json.loads(raw)} for raw in four]


def test_letters_are_chosen_by_id_cause_stage_batch_and_age(cli, four):
    def chosen(*arguments: str) -> list[int]:
        found = json.loads(cli("failed", "list", *arguments, "--json").stdout)
        return [[id_of(raw) for raw in four].index(entry["id"]) for entry in found]

    assert chosen(id_of(four[2]), id_of(four[0])) == [0, 2]
    assert chosen("--cause", "worker DIED") == [3]
    assert chosen("--cause", "archiveerror") == [0, 1]
    assert chosen("--stage", "gpu") == [2, 3]
    assert chosen("--batch", "b1") == [0, 2]
    assert chosen("--older", "1d") == [0, 2, 3]
    assert chosen("--older", "1d", "--stage", "unpack", "--batch", "b2") == []
    assert cli("failed", "list", "--batch", "b9").stdout == "No dead letters.\n"


def test_a_wrong_or_missing_choice_is_wrong_usage_and_changes_nothing(cli, redis_db, four):
    for words in (
        ["list", "--older", "soon"], ["retry", "--older", "-1d"], ["drop", "--older", "1e99d"], ["list", "--older", ""],
        ["retry", "--yes"], ["drop", "--yes"], ["drop", "--all", "--batch", "", "--yes"],
        ["drop", "--stage", "gpu", "--cause", "", "--yes"], ["retry", "--stage", "transfer"], ["show"],
    ):  # fmt: skip
        assert cli("failed", *words).returncode == 2, words
    assert redis_db.lrange(FAILED, 0, -1) == four


def test_a_letter_is_shown_with_its_raw_payload(cli, redis_db):
    payload = json.dumps({"batch_id": "[/b]", "s3_key": ":100: [red]"})
    binary = letter(3, payload_base64="AP8=")
    redis_db.rpush(FAILED, letter(1, payload=payload), letter(2, payload="\x1b[31m\r\x00 é [/i]"), binary)
    first, second, third = (entry["id"] for entry in json.loads(cli("failed", "list", "--json").stdout))
    shown = cli("failed", "show", first).stdout.splitlines()
    assert f"{'payload':15} {payload}" in shown
    assert f"{'id':15} {first}" in shown
    assert f"{'stage':15} unpack" in shown
    assert f"{'cause':15} ArchiveError: … is damaged at member …" in shown
    assert f"{'attempts':15} 1" in shown
    assert rf"{'payload':15} \x1b[31m\r\x00 é [/i]" in cli("failed", "show", second).stdout.splitlines()
    assert f"{'payload_base64':15} AP8=" in cli("failed", "show", third).stdout
    assert "[/b]" in cli("failed", "list").stdout


def test_an_id_that_no_letter_has_is_a_sentence_and_changes_nothing(cli, redis_db, four, actions):
    shown = cli("failed", "show", "0123456789")
    assert shown.returncode == 1
    assert shown.stderr == "no dead letter has the id 0123456789; audio-pipeline failed list shows them\n"
    for verb, past in (("retry", "brought back"), ("drop", "dropped")):
        done = cli("failed", verb, id_of(four[0]), "0123456789", "--yes")
        assert done.returncode == 1
        assert done.stderr == f"no dead letter has the id 0123456789; nothing was {past}\n"
    assert redis_db.llen(FAILED) == len(four)
    assert actions() == []


def test_a_retry_says_how_many_and_asks_first(cli, redis_db, four, actions):
    before = kept(redis_db)
    alone = cli("failed", "retry", "--stage", "unpack")
    assert alone.returncode == 1
    assert alone.stderr.startswith("Retry 2 dead letters (stage=unpack)? Nothing is changed")
    assert "--yes" in alone.stderr
    dry = cli("failed", "retry", "--stage", "unpack", "--dry-run")
    assert (dry.returncode, dry.stdout) == (0, "2 dead letters would be brought back\n")
    no = cli("failed", "retry", "--stage", "unpack", answer="n")
    assert no.returncode == 1
    assert "Retry 2 dead letters (stage=unpack)? [y/N]" in no.stdout
    assert no.stderr == "Nothing is changed.\n"
    assert kept(redis_db) == before
    assert actions() == []
    yes = cli("failed", "retry", "--stage", "unpack", answer="y")
    assert yes.returncode == 0, yes.stderr
    assert "2 dead letters brought back" in yes.stdout
    assert [job["batch_id"] for job in jobs(redis_db)] == ["b1", "b2"]
    assert redis_db.lrange(FAILED, 0, -1) == four[2:]
    assert actions() == [("failed retry", "stage=unpack", 2)]


def test_one_letter_is_brought_back_as_it_was(cli, redis_db, four):
    done = cli("failed", "retry", id_of(four[1]), "--yes")
    assert (done.returncode, done.stdout) == (0, "1 dead letter brought back\n")
    assert redis_db.lrange("queue:unpack", 0, -1) == [json.loads(four[1])["payload"].encode()]
    assert redis_db.lrange(FAILED, 0, -1) == [four[0], *four[2:]]
    assert cli("failed", "retry", "--cause", "nothing like it", "--yes").stdout == (
        "No dead letters are cause=nothing like it.\n"
    )


def test_letters_are_dropped_and_entries_that_are_none_stay(cli, redis_db, four, actions):
    redis_db.lpush(FAILED, STRANGE)
    assert cli("failed", "drop", "--cause", "DIED", "--dry-run").stdout.startswith("1 dead letter would be dropped\n")
    assert cli("failed", "drop", "--cause", "DIED", answer="n").returncode == 1
    assert redis_db.lrange(FAILED, 0, -1) == [STRANGE, *four]
    assert cli("failed", "drop", "--cause", "DIED", "--yes").stdout.startswith("1 dead letter dropped\n")
    said = cli("failed", "drop", "--all", "--yes").stdout.splitlines()
    assert said[0] == "3 dead letters dropped"
    assert said[-1].startswith("1 entry is not a dead letter; "), "what stays is said"
    assert redis_db.lrange(FAILED, 0, -1) == [STRANGE]
    assert actions() == [("failed drop", "cause=DIED", 1), ("failed drop", "all", 3)]
    assert "0 dead letters" not in cli("failed", "retry", "--all", "--yes").stdout
    assert redis_db.lrange(FAILED, 0, -1) == [STRANGE]


def test_a_dropped_archive_is_given_up_and_nothing_brings_it_back(cli, redis_db, add, put, query):
    for number, facts in ((1, {}), (2, {}), (3, {"unpacked_at": ago(9)})):
        add("batches", batch_id=f"b{number}", s3_key=put(f"archives/b{number}.tar"), **facts)
    put("archives/b4.tar")  # no worker began with it
    redis_db.set("batch:b3:total", 1)  # begun again by hand: it comes to its end without the letter
    redis_db.sadd("batch:b3:pending", "c")
    redis_db.rpush("queue:transcribe", json.dumps({"batch_id": "b3", "original_filename": "c", "opus_path": "/x"}))
    redis_db.rpush(FAILED, letter(1), letter(2), letter(3), letter(4), clip_letter(5, "b2"))
    dry = cli("failed", "drop", "--all", "--dry-run").stdout
    assert "batch b1 would be cancelled; audio-pipeline batch requeue b1 resumes it" in dry.splitlines()
    assert query("SELECT count(*) FROM batches WHERE cancelled_at IS NOT NULL") == [(0,)]
    done = cli(
        "failed", "drop", id_of(letter(1)), id_of(letter(3)), id_of(letter(4)), id_of(clip_letter(5, "b2")), "-y"
    )
    assert done.stdout.splitlines() == [
        "4 dead letters dropped",
        "batch b1 is cancelled; audio-pipeline batch requeue b1 resumes it",
        "batch b4 is cancelled; audio-pipeline batch requeue b4 resumes it",
        "left in S3: archives/b1.tar, archives/b3.tar, archives/b4.tar, failed/b2/00005.opus",
        "left in Postgres: 1 failed clip",
    ]
    assert query("SELECT batch_id FROM batches WHERE cancelled_at IS NOT NULL ORDER BY 1") == [("b1",), ("b4",)]
    assert cli("reconcile", "--yes").stdout == "Redis agrees with Postgres\n"
    assert redis_db.lrange(FAILED, 0, -1) == [letter(2)]
    assert query("SELECT details->'given_up' FROM operator_actions WHERE affected IS NULL") == [(["b1", "b4"],)]
    assert cli("batch", "requeue", "b1", "--yes").returncode == 0
    assert [job["batch_id"] for job in jobs(redis_db)] == ["b1"]


def test_a_job_that_no_worker_could_read_leaves_no_failed_clip_in_postgres(cli, redis_db):
    payload = json.dumps({"batch_id": "b1", "original_filename": "a.mp3", "opus_path": "/elsewhere/a.opus"})
    redis_db.rpush(FAILED, clip_letter(1, payload=payload, batch_id=None, clip=None, parked_s3_key=None))
    assert cli("failed", "drop", "--all", "--yes").stdout == "1 dead letter dropped\n"


def test_foreign_entries_are_seen_and_dropped_by_id_or_all(cli, redis_db, four, actions):
    other = b'{"queue": "queue:elsewhere"}'
    redis_db.rpush(FAILED, STRANGE, other, b"third")
    shown = cli("failed", "show", id_of(STRANGE)).stdout.splitlines()
    assert shown[1] == rf"{'entry':15} [/b] no letter \xff"
    retry = cli("failed", "retry", id_of(STRANGE), "--yes")
    assert retry.returncode == 1
    assert "can only be dropped" in retry.stderr
    said = cli("failed", "drop", id_of(other), "--yes").stdout.splitlines()
    assert said[0] == "1 foreign entry dropped"
    assert said[1].startswith("2 entries are not dead letters")
    assert cli("failed", "drop", "--foreign", "--dry-run").stdout == "2 foreign entries would be dropped\n"
    assert cli("failed", "drop", "--foreign", "--yes").stdout == "2 foreign entries dropped\n"
    assert redis_db.lrange(FAILED, 0, -1) == four
    assert actions() == [("failed drop", id_of(other), 1), ("failed drop", "foreign", 2)]
    assert cli("failed", "drop", "--foreign", "--yes").stdout == "No entry is foreign.\n"


def test_a_long_reason_or_name_widens_no_table_and_stays_one_line(cli, redis_db):
    long = "x y " * 200
    redis_db.rpush(FAILED, letter(1, error=long, error_class="E" * 300), clip_letter(2, clip=long), b"z" * 500)
    lines = cli("failed", "list").stdout.splitlines()
    assert len(lines) == 5
    assert max(len(line.rstrip()) for line in lines) < 320
    assert all(len(line.rstrip()) < 200 for line in cli("status").stdout.splitlines())


def test_failures_whose_names_stand_without_quotes_fall_together(cli, redis_db):
    names = ["my summer song.mp3", "b.wav", "n" * 300 + ".ogg"]
    redis_db.rpush(FAILED, *(clip_letter(n, clip=name, error=f"{name} holds no audio") for n, name in enumerate(names)))
    redis_db.rpush(FAILED, *(letter(n, error=f"object ab{n}cd{n}ef is gone") for n in range(3)))
    groups = {(group["cause"], group["count"]) for group in json.loads(cli("status", "--json").stdout)["failures"]}
    assert groups == {("AudioError: … holds no audio", 3), ("ArchiveError: object … is gone", 3)}


def test_a_clip_whose_host_is_gone_stays_and_the_command_that_works_is_said(cli, redis_db, add, put):
    add("batches", batch_id="b1", s3_key=put("archives/b1.tar"), unpacked_at=ago(9), total=1)
    stuck, injected = (clip_letter(n, batch, parked_s3_key=None) for n, batch in ((1, "b1"), (2, "manual")))
    redis_db.rpush(FAILED, stuck, injected, clip_letter(3))
    done = cli("failed", "retry", "--all", "--yes")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "1 dead letter brought back",
        (
            f"{id_of(stuck)} stays: host lost-host, which held the clip's file, is gone; its archive has it: "
            "audio-pipeline batch requeue b1"
        ),
        (
            f"{id_of(injected)} stays: host lost-host, which held the clip's file, is gone; no archive has it: "
            f"inject the clip again, then audio-pipeline failed drop {id_of(injected)}"
        ),
    ]
    assert redis_db.lrange(FAILED, 0, -1) == [stuck, injected]
    assert redis_db.llen("queue:transcribe:lost-host") == 0
    assert cli("batch", "requeue", "b1", "--yes").returncode == 0
    assert redis_db.lrange(FAILED, 0, -1) == [injected]
    redis_db.zadd("hosts:seen", {"lost-host": 1})  # silent, but not given up
    assert cli("failed", "retry", "--all", "--yes").returncode == 0
    assert redis_db.llen("queue:transcribe:lost-host") == 1


def test_letters_are_exported_whole_and_stay(cli, redis_db, four, tmp_path):
    file = tmp_path / "out.jsonl"
    done = cli("failed", "export", str(file), "--stage", "gpu")
    assert (done.returncode, done.stdout) == (0, f"2 dead letters written to {file}\n")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines == [{"id": id_of(raw), **json.loads(raw)} for raw in four[2:]]
    cli("failed", "export", str(file), "--id", id_of(four[0]))
    assert [json.loads(line)["id"] for line in file.read_text().splitlines()] == [id_of(four[0])]
    assert redis_db.llen(FAILED) == 4
    nowhere = cli("failed", "export", str(tmp_path / "none" / "out.jsonl"))
    assert nowhere.returncode == 1
    assert "cannot be written (No such file or directory)" in nowhere.stderr


def test_a_clip_comes_back_from_where_it_is_parked_when_its_scratch_is_gone(
    cli, redis_db, worker, put_archive, store, settings
):
    batch = put_archive(tar({"good.wav": tone(), "broken.mp3": b"no audio at all"}))
    unpack = worker("unpack")
    unpack.wait_for("batch unpacked")
    unpack.send(signal.SIGTERM)
    assert unpack.exit_code() == 0
    shutil.rmtree(settings.scratch_root / batch)
    redis_db.delete("queue:transcribe")
    redis_db.rpush(FAILED, clip_letter(7, "elsewhere"))
    assert cli("failed", "retry", "--all", "--yes").stdout == "2 dead letters brought back\n"
    broken, elsewhere = jobs(redis_db, "queue:transcribe")
    assert (broken["batch_id"], broken["original_filename"]) == (batch, "broken.mp3")
    assert store.stored_size(broken["opus_s3_key"]) == len(b"no audio at all")
    assert elsewhere == {**json.loads(json.loads(clip_letter(7, "elsewhere"))["payload"]),
                         "opus_s3_key": "failed/elsewhere/00007.opus"}  # fmt: skip
    assert redis_db.smembers(f"batch:{batch}:pending") == {b"good.wav", b"broken.mp3"}
    assert redis_db.get(f"batch:{batch}:failed") == b"0"


@pytest.mark.parametrize("struck_at", [1, 5_000])
@pytest.mark.thorough
def test_a_kill_in_the_middle_of_a_bulk_retry_loses_and_doubles_none(begin, cli, redis_db, actions, query, struck_at):
    letters = 10_000
    redis_db.rpush(FAILED, *(letter(number) for number in range(letters)))
    running = begin("failed", "retry", "--all", "--yes")
    wait_until(lambda: redis_db.llen("queue:unpack") >= struck_at, "the retry to be under way")
    running.kill()
    running.wait()
    waiting = [job["batch_id"] for job in jobs(redis_db)]
    left = [json.loads(json.loads(raw)["payload"])["batch_id"] for raw in redis_db.lrange(FAILED, 0, -1)]
    assert left
    assert sorted(waiting + left) == sorted(f"b{number}" for number in range(letters))
    assert query("SELECT action, subject, affected, details FROM operator_actions") == [
        ("failed retry", "all", None, {"planned": letters})
    ]
    assert cli("failed", "retry", "--all", "--yes").returncode == 0
    assert sorted(job["batch_id"] for job in jobs(redis_db)) == sorted(f"b{number}" for number in range(letters))
    assert redis_db.llen(FAILED) == 0
    assert actions() == [("failed retry", "all", len(left))]
