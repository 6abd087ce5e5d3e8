"""From bare hosts to a fleet, and again without a change."""

from __future__ import annotations

from tests.fleet import machine
from tests.fleet.layout import HOSTS, Host
from tests.fleet.world import World

UNITS = {
    "orch": ("redis-server", "postgresql", "ra-app", "nginx"),
    "transfer-01": ("transfer-worker",),
    "gpu-01": ("unpack-worker", "gpu-worker"),
    "gpu-02": ("unpack-worker", "gpu-worker"),
}
SITE = "ansible-playbook playbooks/site.yml"
# What a role could change; without what programs write while they run.
WATCHED = ("/etc", "/opt", "/usr/local", "/var/lib/systemd", "/home")
MOVING = (
    "*.pyc",
    "*/__pycache__*",
    "/opt/ra-app/logs*",
    "/var/lib/systemd/timers*",
    "*.ansible*",
    "/var/lib/systemd/random-seed",
)


def site(world: World) -> None:
    """`site.yml` makes a fleet of bare hosts."""
    outcome = world.run(SITE)
    world.require(set(outcome.ok) >= set(UNITS), f"site.yml worked on {sorted(outcome.ok)} only")
    for name, units in UNITS.items():
        for unit in units:
            state = machine.inside(HOSTS[name], "systemctl", "is-active", unit, check=False).stdout.strip()
            world.require(state == "active", f"{unit} on {name} is {state} after site.yml")


def again(world: World) -> None:
    """A second run of `site.yml` changes nothing."""
    outcome = world.run(SITE)
    world.require(not outcome.touched, f"the second run changed: {', '.join(outcome.changed_tasks())}")


def check(world: World) -> None:
    """`site.yml --check --diff` tells of no change, and makes none."""
    before = {name: _fingerprint(HOSTS[name]) for name in UNITS}
    outcome = world.run(f"{SITE} --check --diff")
    world.require(not outcome.touched, f"--check tells of changes: {', '.join(outcome.changed_tasks())}")
    for name, files in before.items():
        moved = sorted(path for path, _ in files ^ _fingerprint(HOSTS[name]))
        world.require(not moved, f"--check changed files on {name}: {', '.join(moved[:10])}")


def _fingerprint(host: Host) -> set[tuple[str, str]]:
    ignored = [word for pattern in MOVING for word in ("-not", "-path", pattern)]
    command = ["find", *WATCHED, "-xdev", "-type", "f", *ignored, "-printf", "%p\t%s %T@ %m %u:%g\\n"]
    lines = machine.inside(host, *command, check=False).stdout.splitlines()
    return {(path, facts) for path, _, facts in (line.partition("\t") for line in lines)}
