"""What the network of a university needs: a proxy for packages, and S3 with a certificate of an own authority."""

from __future__ import annotations

import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from tests.fleet import checkout, machine, observe
from tests.fleet.layout import CONTROLLER, HOSTS
from tests.fleet.proxy import proxy
from tests.fleet.scenarios.bare import SITE
from tests.fleet.scenarios.deploys import demand_units
from tests.fleet.scenarios.reviewing import log_in
from tests.fleet.world import World
from tests.tls.in_front import make_certificate, tls_in_front

INCOMPLETE = "rm /opt/audio-pipeline/venv/.complete; rm -rf /var/lib/apt/lists/*; rm -f /var/cache/apt/pkgcache.bin"


def university(world: World) -> None:
    """Packages come through a proxy, and S3 has a certificate of an own authority; afterwards neither has."""
    target = urlsplit(checkout.settings()["s3_endpoint"])
    with tempfile.TemporaryDirectory() as folder, proxy(CONTROLLER) as (address, asked):
        certificate = make_certificate(Path(folder), CONTROLLER)
        with tls_in_front((str(target.hostname), int(target.port or 0)), CONTROLLER, certificate) as endpoint:
            own = {"s3_endpoint": endpoint, "extra_authorities": [str(certificate[0])], "http_proxy": address}
            checkout.override(own)
            machine.inside(HOSTS["gpu-01"], "sh", "-c", INCOMPLETE)
            world.run(SITE)
            world.say(f"the proxy was asked for {', '.join(sorted(asked))}")
            world.require(len(asked) > 1, "pip, uv and apt have not used the proxy")
            said = observe.on(HOSTS["gpu-01"], "audio-pipeline config show")[1]
            world.require("ca-certificates.crt" in said and endpoint in said, f"the settings are others:\n{said}")
            world.ledger.place("small", 2)
            world.settle_accounts()
            log_in(world)
            checkout.override(
                {"s3_endpoint": checkout.settings()["s3_endpoint"], "extra_authorities": [], "http_proxy": ""}
            )
            world.run(SITE)
    demand_units(world)
    world.ledger.place("small")
    world.settle_accounts()
