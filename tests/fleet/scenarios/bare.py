"""`site.yml` sets up new hosts, and a second run changes nothing."""

from __future__ import annotations

from tests.fleet import machine
from tests.fleet.layout import HOSTS
from tests.fleet.world import World

UNITS = {
    "orch": ("redis-server", "postgresql", "ra-app", "nginx"),
    "transfer-01": ("transfer-worker",),
    "gpu-01": ("unpack-worker", "gpu-worker"),
    "gpu-02": ("unpack-worker", "gpu-worker"),
}
SITE = "ansible-playbook playbooks/site.yml"


def site(world: World) -> None:
    """`site.yml` sets up a fleet on new hosts."""
    outcome = world.run(SITE)
    world.require(set(outcome.ok) >= set(UNITS), f"site.yml worked on {sorted(outcome.ok)} only")
    demand_active(world, "site.yml")


def again(world: World) -> None:
    """A second run of `site.yml` changes nothing."""
    outcome = world.run(SITE)
    world.require(not outcome.touched, f"the second run changed: {', '.join(outcome.changed_tasks())}")


def demand_active(world: World, after: str) -> None:
    """Require that every unit of the first fleet is active."""
    for name, units in UNITS.items():
        for unit in units:
            state = machine.inside(HOSTS[name], "systemctl", "is-active", unit, check=False).stdout.strip()
            world.require(state == "active", f"{unit} on {name} is {state} after {after}")
