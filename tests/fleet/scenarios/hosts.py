"""Hosts that reboot, die and join."""

from __future__ import annotations

from tests.fleet import checkout, machine, observe
from tests.fleet.layout import HOSTS, Host, hosts
from tests.fleet.ledger import BATCHES
from tests.fleet.scenarios.deploys import demand_units
from tests.fleet.scenarios.work import hosts_of
from tests.fleet.up import boot
from tests.fleet.world import World

LOST = "gpu-02"
NEW = "gpu-03"


def reboot(world: World) -> None:
    """A GPU host reboots during work: its volume is mounted and its workers start again, and no clip is lost."""
    world.ledger.place("small", 4)
    _wait_until_in_hand(world, "gpu-01")
    before = machine.leader(HOSTS["gpu-01"])
    machine.inside(HOSTS["gpu-01"], "systemctl", "reboot", "--no-block")
    # Compare the pids of PID 1: the time without a PID 1 may be shorter than the pause of this loop.
    world.until(lambda: machine.leader(HOSTS["gpu-01"]) not in {None, before}, "gpu-01 boots again", 180)
    machine.wait_until_up(HOSTS["gpu-01"], 90)
    mounted = machine.inside(HOSTS["gpu-01"], "findmnt", "-no", "SOURCE", "/data", check=False).stdout.strip()
    world.require(mounted, "after the reboot nothing is mounted on /data of gpu-01")
    demand_units(world)
    world.settle_accounts()


def restarts(world: World) -> None:
    """A person may restart a worker as often as they like; a worker that crashes again and again is stopped."""
    host, unit, often = HOSTS["transfer-01"], "transfer-worker", 12
    for _ in range(often):
        machine.inside(host, "systemctl", "restart", "--no-block", unit)
        world.until(lambda: _state(host, unit) in {"activating", "active"}, f"{unit} is started by hand")
    demand_units(world)
    program = "/opt/audio-pipeline/current/src/workers/transfer_worker.py"
    machine.inside(host, "mv", program, f"{program}.away")
    machine.inside(host, "systemctl", "restart", "--no-block", unit)
    world.until(lambda: _state(host, unit) == "failed", f"{unit} is stopped after its crashes", 180)
    said = observe.journal(host, unit, "has crashed 8 times")
    world.require(said, f"the journal of {unit} does not say why it was stopped")
    machine.inside(host, "mv", f"{program}.away", program)
    machine.inside(host, "systemctl", "restart", "--no-block", unit)
    demand_units(world)


def _state(host: Host, unit: str) -> str:
    return machine.inside(host, "systemctl", "is-active", unit, check=False).stdout.strip()


def power_off(world: World) -> None:
    """A GPU host dies for good during work: other hosts finish its batches, and it is retired."""
    world.ledger.place("small", 6)
    _wait_until_in_hand(world, LOST)
    machine.cut_power(HOSTS[LOST])
    world.settle_accounts()
    world.run(f"ansible-playbook playbooks/retire-worker.yml --limit {LOST}")
    machine.remove(HOSTS[LOST])
    checkout.write_inventory(_standing())


def join(world: World) -> None:
    """`setup-new-worker.yml` sets up a new host as a GPU worker, and it takes work."""
    boot(hosts([NEW]))
    checkout.write_inventory(_standing())
    line = f"ansible-playbook playbooks/setup-new-worker.yml --limit {NEW}"
    world.run(line)
    names = world.ledger.place("small", 6)
    world.settle_accounts()
    world.require(NEW in hosts_of(names), f"{NEW} took no work; {', '.join(hosts_of(names))} did")
    outcome = world.run(line)
    world.require(not outcome.touched, f"a second run changed: {', '.join(outcome.changed_tasks())}")


def _standing() -> list[Host]:
    return [host for host in HOSTS.values() if machine.is_up(host)]


def _wait_until_in_hand(world: World, name: str) -> None:
    """Wait until the host has a batch of which some clips are done."""

    def in_hand() -> bool:
        of_host = f"NOT b.complete AND b.unpack_host = '{name}' AND a.status <> 'pending'"
        query = f"SELECT count(*) FROM ({BATCHES}) b JOIN audio_files a USING (batch_id) WHERE {of_host}"
        return bool(observe.value(query))

    world.ledger.wait(in_hand, f"{name} is in the middle of a batch")
