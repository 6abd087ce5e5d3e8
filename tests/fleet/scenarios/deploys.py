"""Deploys and rollbacks while the fleet works."""

from __future__ import annotations

from pathlib import Path

from tests.fleet import checkout, machine
from tests.fleet.layout import HOSTS
from tests.fleet.world import World

DEPLOY = "ansible-playbook playbooks/deploy-pipeline.yml"
ROLLBACK = "ansible-playbook playbooks/rollback.yml"
CURRENT = "/opt/audio-pipeline/current/VERSION"
WORKER = Path("src/workers/gpu_worker.py")
UNITS = {"transfer-01": ("transfer-worker",), "gpu": ("unpack-worker", "gpu-worker")}


def deploy(world: World) -> None:
    """A new version is deployed during work: no clip is lost or counted twice."""
    version = _new_version("# A later version.\n")
    world.run_at_work(DEPLOY)
    _demand_version(world, version)
    world.settle_accounts()


def broken(world: World) -> None:
    """A version whose GPU worker cannot start stops at the first host and is rolled back there."""
    before = versions(world)
    _new_version('raise SystemExit("this version is broken on purpose")\n')
    world.run_at_work(DEPLOY, fails=True)
    world.require(versions(world) == before, f"hosts are left with {versions(world)}, they had {before}")
    demand_units(world)
    world.settle_accounts()
    checkout.drop_last_commit()


def rollback(world: World) -> None:
    """One command restores the previous release; after a deploy that stopped half-way, it undoes this half."""
    after = versions(world)
    world.run_at_work(ROLLBACK)
    back = versions(world)
    same = [name for name in back if back[name] == after[name]]
    world.require(not same, f"rollback.yml left {', '.join(same)} at {after}")
    world.run(f"{DEPLOY} --limit gpu-01")
    world.require(versions(world) == back | {"gpu-01": after["gpu-01"]}, f"--limit gpu-01 left {versions(world)}")
    world.run(ROLLBACK)
    world.require(versions(world) == back, f"after half a deploy rollback.yml left {versions(world)}, not {back}")
    checkout.drop_last_commit()  # now the commit is again the one that runs
    world.settle_accounts()


def versions(world: World) -> dict[str, str]:
    """The full commit that each host runs; on the orchestrator, that of its command line."""
    names = ["orch", "transfer-01", *world.gpu_hosts()]
    return {name: machine.inside(HOSTS[name], "cat", CURRENT).stdout.strip() for name in names}


def demand_units(world: World) -> None:
    """Require that the workers run on every host within a minute."""
    for name in ("transfer-01", *world.gpu_hosts()):
        for unit in UNITS["gpu" if name.startswith("gpu") else name]:
            world.until(lambda name=name, unit=unit: active(name, unit), f"{unit} runs on {name}")  # type: ignore[misc]


def active(name: str, unit: str) -> bool:
    return machine.inside(HOSTS[name], "systemctl", "is-active", unit, check=False).stdout.strip() == "active"


def _new_version(line: str) -> str:
    """Insert a line near the top of the GPU worker, and commit it."""
    path = checkout.CHECKOUT / WORKER
    head, first, rest = path.read_text().partition("from __future__ import annotations\n")
    path.write_text(head + first + line + rest)
    return checkout.commit("A version for the fleet's tests")


def _demand_version(world: World, version: str) -> None:
    wrong = {name: found for name, found in versions(world).items() if found != version}
    world.require(not wrong, f"{wrong} instead of {version}")
