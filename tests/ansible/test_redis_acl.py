"""Redis' users as the role defines them: with its own user each worker can do its work, and nothing else."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from jobs.payloads import probe_job
from local.services import Services
from tests.reliability import chaos
from tests.reliability.scene import CLIPS, Scene, scene
from tests.workers.processes import wait_until
from workers.probe import read_answer

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "ansible/roles/orchestrator/templates/users.acl.j2"
KINDS = ("transfer", "unpack", "gpu")
FORBIDDEN = (
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("CONFIG", "SET", "maxmemory", "1"),
    ("CONFIG", "GET", "*"),
    ("KEYS", "*"),
    ("SHUTDOWN", "NOSAVE"),
    ("ACL", "LIST"),
    ("MONITOR",),
    ("FUNCTION", "FLUSH"),
    ("SCRIPT", "FLUSH"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("REPLICAOF", "NO", "ONE"),
    ("PUBLISH", "anything", "x"),
    ("SET", "session:1", "x"),
    ("GET", "session:1"),
    ("SET", "drain:all", "x"),
    ("DEL", "drain:all"),
)
OTHERS_KEYS = {
    "transfer": (("SET", "batch:b1:processed", "9"), ("SADD", "batches:finishing", "b1"), ("SET", "probe:x", "y")),
    "unpack": (("HSET", "transfer:taken", "x", "y"), ("SET", "probe:x", "y")),
    "gpu": (("HSET", "transfer:taken", "x", "y"), ("SET", "pipeline:memory", "1")),
}


def password(kind: str) -> str:
    return f"the password of {kind}"


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """The lines of the template, rendered by Ansible itself, as words."""
    target = tmp_path_factory.mktemp("acl") / "users.acl"
    variables = {
        "vault_redis_password": password("operator"),
        **{f"vault_redis_{kind}_password": password(kind) for kind in KINDS},
        "orchestrator_redis_kept_hashes": {"gpu-worker": ["0" * 64]},
    }
    subprocess.run(
        [
            Path(sys.executable).with_name("ansible"), "localhost", "-c", "local", "-m", "ansible.builtin.template",
            "-a", f"src={TEMPLATE} dest={target} mode=0600", "-e", json.dumps(variables),
            "-e", f"ansible_python_interpreter={sys.executable}",
        ],
        check=True, capture_output=True, cwd=ROOT / "ansible",
    )  # fmt: skip
    lines = [line for line in target.read_text().splitlines() if line.strip()]
    assert all(line.startswith("user ") for line in lines), lines
    return [line.split()[1:] for line in lines]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, users: list[list[str]]) -> Iterator[Services]:
    """Separate services, whose Redis has the workers' users. An additional user has the operator's rules."""
    with Services(tmp_path_factory.mktemp("guarded"), durable=False) as services:
        with redis.Redis(services.redis_host, services.redis_port, 0, services.redis_password) as admin:
            for name, *rules in users:
                admin.execute_command("ACL", "SETUSER", "operator" if name == "default" else name, *rules)
        yield services


def client(services: Services, user: str, kind: str) -> redis.Redis:
    return redis.Redis(services.redis_host, services.redis_port, 1, password(kind), username=user)


def credentials(kind: str) -> dict[str, str]:
    return {"REDIS_USER": f"{kind}-worker", "REDIS_PASSWORD": password(kind)}


def test_the_file_holds_hashes_and_no_password(users):
    assert [name for name, *_ in users] == ["default", "transfer-worker", "unpack-worker", "gpu-worker"]
    for name, *rules in users:
        assert "nopass" not in rules
        assert [rule for rule in rules if rule.startswith(">")] == []
        hashes = [rule for rule in rules if rule.startswith("#")]
        assert len(hashes) == (2 if name == "gpu-worker" else 1), "the kept one, too, while passwords change"


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_may_not_do_what_is_not_its_work(guarded, kind):
    with client(guarded, f"{kind}-worker", kind) as worker:
        for command in (*FORBIDDEN, *OTHERS_KEYS[kind]):
            with pytest.raises(redis.exceptions.NoPermissionError):
                worker.execute_command(*command)


def test_nobody_gets_in_without_a_password_or_with_anothers(guarded):
    for user, word in (("gpu-worker", password("unpack")), ("default", ""), ("nobody", password("gpu"))):
        stranger = redis.Redis(guarded.redis_host, guarded.redis_port, 1, word or None, username=user)
        with stranger, pytest.raises((redis.AuthenticationError, redis.ResponseError)):
            stranger.llen("queue:unpack")


def test_the_operator_may_repair_and_may_not_end_the_server(guarded):
    with client(guarded, "operator", "operator") as operator:
        assert operator.lpush("queue:unpack", "{}") == 1
        assert operator.delete("queue:unpack") == 1
        assert operator.config_get("maxmemory-policy")
        for command in (("SHUTDOWN",), ("MODULE", "LIST"), ("REPLICAOF", "NO", "ONE")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                operator.execute_command(*command)


@pytest.mark.parametrize("clips", [40, pytest.param(200, marks=pytest.mark.thorough)])
@pytest.mark.thorough
def test_archives_go_through_although_workers_are_killed(guarded, tmp_path, clips):
    """Transfer to completion with broken clips, retries, dead letters, reaping: every script that workers run.

    Also the short form of what `tests.reliability.chaos` does with more clips.
    """
    report = chaos.run(tmp_path, guarded, seed=5, clips=clips, within_s=300, credentials=credentials)
    assert report.kills + report.terms + report.zombies > 0
    assert (report.accounts.lost, report.accounts.doubled, report.accounts.problems) == (0, 0, [])
    assert report.accounts.done + report.accounts.failed == clips
    assert "does not let our user" not in "".join(log.read_text() for log in (tmp_path / "logs").iterdir())


@pytest.fixture
def world(guarded: Services, tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path, guarded, HOST_LOST_AFTER_S="2") as opened:
        yield opened


@pytest.mark.thorough
def test_a_lost_hosts_batch_is_done_elsewhere_and_an_emptied_redis_is_filled_again(world):
    lost = {"WORKER_HOST": "host-lost", "TRANSCRIBE_QUEUE": "queue:transcribe:host-lost", **credentials("unpack")}
    first = world.start("unpack", **lost)
    world.inject("b1", CLIPS)
    world.wait_for(first, "batch unpacked")
    first.signal(signal.SIGKILL, group=True)
    world.start("unpack", **credentials("unpack"))
    world.start("gpu", **credentials("gpu"))
    wait_until(lambda: world.over({"b1": CLIPS}), "another host to have done the lost host's batch", within_s=60)

    world.redis.lpush("queue:transcribe:host-1", probe_job("n1"))
    wait_until(lambda: read_answer(world.redis, "n1"), "the GPU worker to answer a probe")

    world.redis.flushdb()
    world.query("UPDATE batches SET completed_at = NULL WHERE batch_id = 'b1'")
    again = world.start("unpack", **credentials("unpack"))
    world.wait_for(again, "batch brought back")
    wait_until(lambda: world.over({"b1": CLIPS}), "the batch that was brought back", within_s=60)
    assert not [line for line in world.lines() if "does not let our user" in line or "refuses" in line]
