"""`audio-pipeline worker retire`: other hosts get the work of a host that is gone for good, at once."""

from __future__ import annotations

import json


def test_a_gone_hosts_batches_wait_for_another_host_at_once(cli, add, redis_db, actions):
    add("batches", batch_id="begun", s3_key="archives/begun.tar", original_filename="one.tar", unpack_host="gpu-02")
    add("batches", batch_id="elsewhere", s3_key="archives/elsewhere.tar", unpack_host="gpu-01")
    redis_db.zadd("hosts:seen", {"gpu-02": 1})
    shown = cli("worker", "retire", "--host", "gpu-02", "--dry-run")
    assert shown.stdout == "begun: one.tar\n1 batch would be unpacked again\n", shown.stderr
    assert redis_db.llen("queue:unpack") == 0

    done = cli("worker", "retire", "--host", "gpu-02", "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("gpu-02 is retired; 1 batch unpacked again\n")
    assert [json.loads(job)["batch_id"] for job in redis_db.lrange("queue:unpack", 0, -1)] == ["begun"]
    assert actions() == [("worker retire", "gpu-02", 1)]


def test_a_host_that_still_works_is_not_retired(cli, gpu, redis_db):
    gpu(WORKER_HOST="gpu-02").wait_for("ready")
    refused = cli("worker", "retire", "--host", "gpu-02", "--yes")
    assert refused.returncode == 1
    assert refused.stderr.startswith("gpu-02 still works (gpu-02:")
    assert redis_db.llen("queue:unpack") == 0
