"""The health check: it passes on a healthy fleet, and fails on a broken one."""

from __future__ import annotations

from tests.fleet import machine, observe
from tests.fleet.layout import HOSTS
from tests.fleet.scenarios.deploys import demand_units
from tests.fleet.world import World

CHECK = "ansible-playbook playbooks/health-check.yml"


def health(world: World) -> None:
    """`health-check.yml` passes on a healthy fleet, and fails when a worker is stopped or the RA app is down."""
    # Some sample clips cannot be read. An operator would look at their dead letters and drop them.
    code, said = observe.on(HOSTS["orch"], "audio-pipeline failed drop --all --yes")
    world.require(code == 0 or not observe.queue_length("queue:failed"), f"the dead letters cannot be dropped: {said}")
    world.run(CHECK)
    for name, unit in (("gpu-01", "gpu-worker"), ("orch", "ra-app")):
        machine.inside(HOSTS[name], "systemctl", "stop", unit)
        outcome = world.run(CHECK, fails=True)
        world.require(unit in outcome.output, f"health-check.yml fails, but does not name {unit}")
        machine.inside(HOSTS[name], "systemctl", "start", unit)
    demand_units(world)
