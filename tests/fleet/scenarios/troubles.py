"""Tests the runbook: each trouble is caused, shows the symptom of the runbook, and is repaired as the runbook says."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import yaml

from tests.fleet import checkout, machine, observe
from tests.fleet.layout import CONTROLLER, HOSTS
from tests.fleet.ledger import waiting_lists
from tests.fleet.scenarios.deploys import demand_units
from tests.fleet.scenarios.reviewing import log_in
from tests.fleet.world import World

GPU, TRANSFER, ORCH = HOSTS["gpu-01"], HOSTS["transfer-01"], HOSTS["orch"]
MODELS = "/data/models/demo"
AWAY = "/var/lib/taken-away"  # on the host, off the data volume
LEFT_BYTES = 1 << 20  # of scratch: less than any archive needs
EXIT_CONFIG = "78"


def troubles(world: World) -> None:
    """Every trouble of the runbook that this fleet can have: check the symptom, run the command, check the result."""
    for heading, trouble in TROUBLES.items():
        world.say(f"-- {heading}")
        trouble(world)
    demand_units(world)
    world.settle_accounts()


def model_missing(world: World) -> None:
    model = machine.inside(GPU, "sh", "-c", f"ls -d {MODELS}/*/ | head -1").stdout.strip().rstrip("/")
    machine.inside(GPU, "mv", model, AWAY)
    machine.inside(GPU, "systemctl", "restart", "--no-block", "gpu-worker")
    world.until(lambda: _property("gpu-worker", "ExecMainStatus") == EXIT_CONFIG, "gpu-worker ends with 78")
    said = observe.on(GPU, "systemctl status gpu-worker")[1]
    world.require(model.rpartition("/")[2] in said, f"its status does not name {model}:\n{said}")
    world.run("ansible-playbook playbooks/sync-models.yml --limit gpu-01")
    machine.inside(GPU, "rm", "-r", AWAY)
    demand_units(world)
    world.require(observe.journal(GPU, "gpu-worker", "models loaded"), "its journal does not say 'models loaded'")


def s3_refuses(world: World) -> None:
    """First wrong settings, which `config check` tells apart; then a firewall while the fleet works."""
    code, said = observe.on(GPU, "audio-pipeline config check")
    world.require(code == 0, f"config check ends with {code} on a sound host:\n{said}")
    for setting, words in (
        (f"S3_ENDPOINT=http://{CONTROLLER}:9", "cannot be reached"),
        ("S3_SECRET_KEY=wrong", "refuses access"),
        ("S3_BUCKET=no-such-bucket", "has no bucket"),
    ):
        code, said = observe.on(GPU, f"{setting} timeout 120 audio-pipeline config check")
        told = code == 1 and words in " ".join(said.split())
        world.require(told, f"{setting}: config check ends with {code} and not with {words!r}:\n{said}")
    store = urlsplit(checkout.settings()["s3_endpoint"])
    with _firewalled(world, f"ip daddr {store.hostname} tcp dport {store.port}"):
        world.ledger.place("small")
        world.until(lambda: "held" in _workers(), "a worker is held", 120)
    world.until(lambda: "held" not in _workers(), "nobody is held any more", 120)


def import_error(world: World) -> None:
    """Also changes BATCH_SIZE, as the runbook says for a GPU that is out of memory: the same playbook brings it."""
    _set_batch_size(4)
    machine.inside(GPU, "sh", "-c", f"mv /opt/audio-pipeline/venv/lib/python3*/site-packages/redis {AWAY}")
    machine.inside(GPU, "systemctl", "restart", "--no-block", "unpack-worker")
    world.until(lambda: bool(observe.journal(GPU, "unpack-worker", "ModuleNotFoundError")), "the journal says why")
    world.run('ansible gpu-01 -a "rm /opt/audio-pipeline/venv/.complete" --become')
    world.run("ansible-playbook playbooks/site.yml --limit gpu-01")
    machine.inside(GPU, "rm", "-r", AWAY)
    demand_units(world)
    said = observe.on(GPU, "audio-pipeline config show")[1]
    sizes = [line.split()[1] for line in said.splitlines() if line.startswith("BATCH_SIZE ")]
    world.require(sizes == ["4"], f"BATCH_SIZE is {sizes} after site.yml")


def queue_builds_up(world: World) -> None:
    world.run('ansible gpu_workers -m systemd -a "name=gpu-worker state=stopped" --become')
    world.ledger.place("small", 2)
    wanted = "clips wait, but no GPU worker is alive"
    world.until(lambda: wanted in _status(), f"status says: {wanted}", 120)
    world.run('ansible gpu_workers -m systemd -a "name=gpu-worker state=restarted" --become')
    world.settle_accounts()


def scratch_full(world: World) -> None:
    for name in world.gpu_hosts():
        fill = f"fallocate -l $(( $(df --output=avail -B1 /data | tail -1) - {LEFT_BYTES} )) /data/filled"
        machine.inside(HOSTS[name], "sh", "-c", fill)
    world.ledger.place("small")
    world.until(lambda: "waiting" in _workers() and "scratch" in _workers(), "unpack waits for scratch", 120)
    world.run('ansible gpu_workers -a "df -h /data"')
    for name in world.gpu_hosts():
        machine.inside(HOSTS[name], "rm", "/data/filled")
    world.settle_accounts()


def batch_stuck(world: World) -> None:
    """A clip's job is removed from Redis, as by a mistake of an operator."""
    _gpu_workers(world, "stop")
    [archive] = world.ledger.place("small")
    of_archive = f"FROM batches WHERE original_filename = '{archive}' AND unpacked_at IS NOT NULL"
    world.until(lambda: bool(observe.rows(f"SELECT 1 {of_archive}")), f"{archive} is unpacked", 120)
    jobs = f"queue:transcribe:{observe.value(f'SELECT unpack_host {of_archive}')}"
    observe.redis("LPOP", jobs)
    _gpu_workers(world, "start")
    world.until(lambda: not observe.queue_length(jobs), "its other jobs are taken", 120)
    batch_id = observe.value(f"SELECT batch_id {of_archive}")
    code, said = observe.on(ORCH, f"audio-pipeline batch show {batch_id}")
    world.require(code == 0, f"batch show ends with {code}:\n{said}")
    _operator(world, "audio-pipeline reconcile --yes")
    world.settle_accounts()


def database_away(world: World) -> None:
    ask = f"psql -h {ORCH.address} -U {{}} -d audio_pipeline -c 'SELECT 1'"
    said = observe.on(GPU, f"PGPASSWORD=x {ask.format('ra_app')}")[1]
    world.require("pg_hba.conf rejects connection" in said, f"as ra_app from a GPU host: {said}")
    said = observe.on(GPU, f"PGPASSWORD=wrong {ask.format('pipeline')}")[1]
    world.require("password authentication failed" in said, f"with a wrong password: {said}")
    machine.inside(ORCH, "systemctl", "stop", "postgresql")
    said = observe.on(GPU, ask.format("pipeline"))[1]
    world.require("Connection refused" in said, f"without a server: {said}")
    machine.inside(ORCH, "systemctl", "start", "postgresql")
    world.run(f'ansible gpu-01 -a "{ask.format("pipeline")}"')


def ra_app_down(world: World) -> None:
    browser = log_in(world)
    machine.inside(ORCH, "systemctl", "stop", "ra-app")
    status, _, _ = browser.get("/healthz")
    world.require(status == 502, f"nginx answers {status} while the app is down")
    world.run('ansible orchestrator -a "systemctl status ra-app"', fails=True)
    machine.inside(ORCH, "systemctl", "start", "ra-app")
    world.until(lambda: browser.get("/healthz")[0] == 200, "/healthz answers")


def redis_memory_lost(world: World) -> None:
    """`transfer:taken` is lost, too: archives that are still on the EC2 host are found and completed a second time."""
    world.ledger.place("small", 2)
    world.ledger.wait(lambda: any(map(observe.queue_length, waiting_lists())), "clips wait")
    observe.redis("FLUSHALL")
    lost_at = world.ledger.redis_forgot()
    _operator(world, "audio-pipeline reconcile --yes")
    found = "is in S3 already"
    world.until(
        lambda: bool(observe.journal(TRANSFER, "transfer-worker", found, since=lost_at)), "transfer looks again"
    )
    world.settle_accounts()


# By the headings of the runbook. Other scenarios test some of the rest; some need what this fleet does not have.
TROUBLES: dict[str, Callable[[World], None]] = {
    "A model is missing under /data/models": model_missing,
    "S3 connection failed": s3_refuses,
    "Import error": import_error,
    "A queue builds up": queue_builds_up,
    "Scratch is full": scratch_full,
    "A batch is stuck": batch_stuck,
    "No connection to the database": database_away,
    "The RA app does not load": ra_app_down,
    "Redis has lost its memory, or is full": redis_memory_lost,
}
ELSEWHERE = {
    "A deploy stopped": "broken",
    "New settings or secrets are refused": "refused",
    "A host is gone": "power-off",
    "The database is gone or wrong": "restore",
    "A certificate is refused": "forbidden",
    "The backup fails": "restore",
}
# Tested without hosts.
BY_TESTS = {
    "A worker has stopped after crashes": "tests/ansible/test_crash_loop.py",
    "An archive is not taken from the EC2 host": "tests/workers/test_transfer_worker.py",
    "A GPU worker starts again by itself": "tests/workers/test_many_clips.py",
    "Clips are done one after the other": "tests/workers/test_many_clips.py",
    "Clips without metadata": "tests/workers/test_unpack_worker.py",
    "A package or a model is refused": "tests/test_supply_chain.py",
    "Somebody cannot log in to the RA app": "tests/ra_app/test_ra_origins.py",
    "Single sign-on fails": "tests/ra_app/test_ra_sign_on.py",
    "The RA app says that the codebook must be mended": "tests/ra_app/test_ra_published.py",
    "A device with an open session is lost": "tests/ra_app/test_ra_sessions.py",
    "Dead letters that cannot go back, or should go": "tests/cli/test_failed.py",
    "schema.sql says that something of ra_app's cannot move": "tests/security/test_database_attacks.py",
    '"clip not kept whole" in the log of unpack': "tests/media/test_hard_inputs.py",
}
UNTRIED = {"CUDA out of memory"}  # needs a GPU; its command is the same as for an import error


@contextmanager
def _firewalled(world: World, rule: str) -> Iterator[None]:
    """Refuse outgoing packets of the GPU hosts that match the rule, in an nftables table of the test."""
    table = "inet fleet_trouble"
    chain = f"add chain {table} out {{ type filter hook output priority 0; }}"
    hosts = [HOSTS[name] for name in world.gpu_hosts()]
    for host in hosts:
        machine.inside(host, "nft", f"add table {table}; {chain}; add rule {table} out {rule} reject with tcp reset")
    try:
        yield
    finally:
        for host in hosts:
            machine.inside(host, "nft", f"delete table {table}")


def _gpu_workers(world: World, verb: str) -> None:
    for name in world.gpu_hosts():
        machine.inside(HOSTS[name], "systemctl", verb, "gpu-worker")


def _set_batch_size(size: int) -> None:
    path = checkout.ANSIBLE / "group_vars/gpu_workers.yml"
    values = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(values | {"BATCH_SIZE": size}))


def _operator(world: World, line: str) -> None:
    """Run a command on the orchestrator; it must succeed."""
    world.say(f"orch$ {line}")
    code, said = observe.on(ORCH, f"bash -lc {shlex.quote(line)}")
    world.require(code == 0, f"{line} ends with {code}:\n{said}")


def _status() -> str:
    return " ".join(observe.on(ORCH, "audio-pipeline status")[1].split())


def _workers() -> str:
    return " ".join(observe.on(ORCH, "audio-pipeline worker list")[1].split())


def _property(unit: str, name: str) -> str:
    return machine.inside(GPU, "systemctl", "show", "-P", name, unit).stdout.strip()
