"""Settings and secrets that are well formed and wrong: one host finds out, and nothing stops."""

from __future__ import annotations

from tests.fleet import checkout, machine
from tests.fleet.layout import HOSTS
from tests.fleet.scenarios.deploys import demand_units
from tests.fleet.scenarios.reviewing import log_in
from tests.fleet.world import World

SETTINGS = "ansible-playbook playbooks/site.yml --tags settings,release"
# The service that must be named, the secret that is wrong, and the hosts to which the run is limited: without a limit
# the orchestrator's command line is the first to ask, with one it is a worker.
WRONG = (
    ("S3", "vault_s3_secret_key", ""),
    ("Redis", "vault_redis_gpu_password", ""),
    ("Postgres", "vault_postgres_password", " --limit gpu_workers"),
)
PATHS = (
    "/etc/audio-pipeline",
    "/opt/audio-pipeline/.env",
    "/etc/ra-app",
    "/etc/systemd/system",
    "/etc/redis/users.acl",
)
UNREACHABLE = "192.0.2.1"  # of a network that no host is in
IS_BACK = "Its workers are at work and have passed the test."


def refused(world: World) -> None:
    """A wrong secret of S3, Redis or Postgres is refused on the first host during work; no host is changed."""
    for service, secret, limit in WRONG:
        before, starts = _files(world), _starts(world)
        checkout.write_vault({secret: _wrong(secret)})
        outcome = world.run_at_work(f"{SETTINGS}{limit}", fails=True)
        checkout.write_vault()
        told = " ".join(outcome.output.split())
        world.require(f"{service}: " in told, f"the message does not name {service}; see {outcome.log}")
        world.require("the run stops before other hosts get theirs" in told, f"the message is another: {outcome.log}")
        _demand_same(world, before, f"a wrong {secret}")
        world.require(_starts(world) == starts, f"a worker was restarted because of a wrong {secret}")
    demand_units(world)
    world.settle_accounts()


def refused_later(world: World) -> None:
    """What only the test of a host finds, wrong keys in a rotation, and wrong keys of the RA app: all is put back."""
    before = _files(world)
    reachable = f'-e worker_gate_s=90 -e \'{{"gpu_worker_reachable": ["{UNREACHABLE}"]}}\''
    outcome = world.run_at_work(f"{SETTINGS},units {reachable}", fails=True)
    told = " ".join(outcome.output.split())
    world.require(IS_BACK in told, f"gpu-01 is not told to be back at work; see {outcome.log}")
    world.require("The new settings do not work on gpu-01" in told, f"the release is blamed; see {outcome.log}")
    world.require("held" in told, f"the message does not say what the workers wait for; see {outcome.log}")
    _demand_same(world, before, "units that reach no service")
    demand_units(world)
    for secret in ("vault_s3_secret_key", "vault_ra_app_s3_secret_key"):
        checkout.write_vault({secret: _wrong(secret)})
        outcome = world.run("ansible-playbook playbooks/rotate-secrets.yml", fails=True)
        told = " ".join(outcome.output.split())
        world.require("No secret was changed on any host, because S3 refuses" in told, f"see {outcome.log}")
        if secret.startswith("vault_ra_app"):
            outcome = world.run("ansible-playbook playbooks/deploy-ra-app.yml", fails=True)
            world.require(
                "S3 refuses to send" in " ".join(outcome.output.split()), f"S3 is not named; see {outcome.log}"
            )
            log_in(world)
        _demand_same(world, before, f"a wrong {secret}")
    checkout.write_vault()
    demand_units(world)
    world.settle_accounts()


def _wrong(secret: str) -> str:
    return checkout.secrets()[secret][::-1]


def _files(world: World) -> dict[str, str]:
    """A checksum of the settings, secrets and units of each host."""
    search = f"find {' '.join(PATHS)} -type f -not -name health.json 2>/dev/null | sort | xargs sha256sum | sha256sum"
    names = ("orch", "transfer-01", *world.gpu_hosts())
    return {name: machine.inside(HOSTS[name], "sh", "-c", search).stdout for name in names}


def _demand_same(world: World, before: dict[str, str], after: str) -> None:
    changed = [name for name, files in _files(world).items() if files != before[name]]
    world.require(not changed, f"{after} has left its traces on {', '.join(changed)}")


def _starts(world: World) -> list[str]:
    show = ("systemctl", "show", "--value", "--property=ExecMainStartTimestampMonotonic")
    hosts = {"transfer-01": ("transfer-worker",), **dict.fromkeys(world.gpu_hosts(), ("unpack-worker", "gpu-worker"))}
    return [machine.inside(HOSTS[name], *show, *units).stdout for name, units in hosts.items()]
