"""A certificate that the operator gives."""

from __future__ import annotations

import shlex
from pathlib import Path

from tests.certificates import make
from tests.fleet.checkout import ANSIBLE, environment, settings
from tests.fleet.https import certificate_of
from tests.fleet.layout import HOSTS
from tests.fleet.scenarios.reviewing import log_in
from tests.fleet.shell import sh
from tests.fleet.world import World


def certificate(world: World) -> None:
    """The RA app serves a given certificate with an encrypted key; with a wrong key the playbook stops before nginx."""
    name = str(settings()["ra_app_server_name"])
    ours, key = make(ANSIBLE, "given", [name])
    _, other_key = make(ANSIBLE, "other", [name])
    sh("ansible-vault", "encrypt", key, env=environment(), cwd=ANSIBLE)
    world.run(_playbook(ours, key))
    world.require(_served() == ours.read_text().strip(), "nginx does not serve the certificate that was given")
    log_in(world)
    outcome = world.run(_playbook(ours, other_key), fails=True)
    world.require(
        "does not belong to the certificate" in outcome.output, f"it does not say why: {outcome.last_words()}"
    )
    world.require(_served() == ours.read_text().strip(), "nginx serves another certificate after the playbook stopped")


def _playbook(given: Path, key: Path) -> str:
    values = f"ra_app_tls_certificate={given} ra_app_tls_key={key}"
    return f"ansible-playbook playbooks/site.yml --limit orchestrator --tags nginx -e {shlex.quote(values)}"


def _served() -> str:
    return certificate_of(HOSTS["orch"].address).strip()
