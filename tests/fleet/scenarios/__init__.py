"""The scenarios, in the order in which they run: each builds on those before it."""

from __future__ import annotations

from collections.abc import Callable

from tests.fleet.scenarios import (
    bare,
    certificate,
    commands,
    data,
    deploys,
    forbidden,
    health,
    hosts,
    leaving,
    refused,
    rehearsals,
    reviewing,
    secrecy,
    troubles,
    university,
    work,
)
from tests.fleet.world import World

Scenario = Callable[[World], None]

SCENARIOS: dict[str, Scenario] = {
    "site": bare.site,
    "again": bare.again,
    "work": work.work,
    "review": reviewing.review,
    "certificate": certificate.certificate,
    "health": health.health,
    "commands": commands.commands,
    "on-hosts": commands.on_hosts,
    "forbidden": forbidden.forbidden,
    "hardening": secrecy.hardening,
    "deploy": deploys.deploy,
    "broken": deploys.broken,
    "rollback": deploys.rollback,
    "refused": refused.refused,
    "reboot": hosts.reboot,
    "power-off": hosts.power_off,
    "join": hosts.join,
    "restore": data.restore,
    "rotate": secrecy.rotate,
    "rotate-ca": secrecy.rotate_ca,
    "secrecy": secrecy.secrecy,
    "uninstall": leaving.uninstall,
}
# They run only when --only names them, after `rollback`: with them a run would take more than 40 minutes.
ON_REQUEST: dict[str, Scenario] = {
    "check": rehearsals.check,
    "rehearse": rehearsals.rehearse,
    "refused-later": refused.refused_later,
    "restarts": hosts.restarts,
    "university": university.university,
    "troubles": troubles.troubles,
}
ALL = SCENARIOS | ON_REQUEST
