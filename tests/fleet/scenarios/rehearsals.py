"""`--check --diff`: it shows what would change, and changes nothing."""

from __future__ import annotations

from tests.fleet import machine
from tests.fleet.layout import HOSTS, Host
from tests.fleet.scenarios.bare import SITE, UNITS, demand_active
from tests.fleet.world import World

# The files that a role could change, without those that programs write while they run.
WATCHED = ("/etc", "/opt", "/usr/local", "/var/lib/systemd", "/home")
MOVING = (
    "*.pyc",
    "*/__pycache__*",
    "/opt/ra-app/logs*",
    "/var/lib/systemd/timers*",
    "*.ansible*",
    "/var/lib/systemd/random-seed",
)
# On a fleet that is up to date: the playbook, and whether it must show a change.
REHEARSED = (
    ("deploy-pipeline.yml", False),
    ("deploy-ra-app.yml", False),
    ("sync-models.yml", False),
    ("start-workers.yml", False),
    ("rotate-ca.yml", False),
    ("rotate-secrets.yml", False),
    ("setup-new-worker.yml --limit gpu-02", False),
    ("stop-workers.yml", True),
    ("rollback.yml", True),
    ("backup.yml", True),
    ("restore.yml", True),
    ("retire-worker.yml --limit gpu-02", True),
    ("erase-clip.yml -e clip=1 -e reason=withdrawn", False),
    ("uninstall.yml -e uninstall_confirmed=true", True),
)


def check(world: World) -> None:
    """`site.yml --check --diff` shows no change, and makes none."""
    before = _fingerprints()
    outcome = world.run(f"{SITE} --check --diff")
    world.require(not outcome.touched, f"--check tells of changes: {', '.join(outcome.changed_tasks())}")
    _demand_same(world, before)


def rehearse(world: World) -> None:
    """Every playbook with `--check --diff` shows what it would do, and the fleet goes on working."""
    before = _fingerprints()
    troubles = []
    for playbook, tells in REHEARSED:
        outcome = world.run(f"ansible-playbook playbooks/{playbook} --check --diff")
        if bool(outcome.touched) != tells:
            told = ", ".join(outcome.changed_tasks()) or "nothing"
            troubles.append(f"{playbook} --check tells of {told}")
    world.require(not troubles, "\n".join(troubles))
    _demand_same(world, before)
    demand_active(world, "nothing but --check")


def _fingerprints() -> dict[str, set[tuple[str, str]]]:
    return {name: _fingerprint(HOSTS[name]) for name in UNITS}


def _demand_same(world: World, before: dict[str, set[tuple[str, str]]]) -> None:
    for name, files in before.items():
        moved = sorted(path for path, _ in files ^ _fingerprint(HOSTS[name]))
        world.require(not moved, f"--check changed files on {name}: {', '.join(moved[:10])}")


def _fingerprint(host: Host) -> set[tuple[str, str]]:
    ignored = [word for pattern in MOVING for word in ("-not", "-path", pattern)]
    command = ["find", *WATCHED, "-xdev", "-type", "f", *ignored, "-printf", "%p\t%s %T@ %m %u:%g\\n"]
    lines = machine.inside(host, *command, check=False).stdout.splitlines()
    return {(path, facts) for path, _, facts in (line.partition("\t") for line in lines)}
