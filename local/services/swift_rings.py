"""Write the three rings of a one-device Swift: `python -m local.services.swift_rings ETC DEVICE NAME:PORT ...`."""

from __future__ import annotations

import sys
from pathlib import Path

from swift.common.ring import RingBuilder  # type: ignore[import-untyped]  # Swift publishes no types

PART_POWER = 4  # 16 partitions: one device, few objects


def main(etc: Path, device: str, servers: list[str]) -> None:
    for server in servers:
        name, _, port = server.partition(":")
        builder = RingBuilder(PART_POWER, 1, 1)
        builder.add_dev(
            {
                "id": 0,
                "region": 1,
                "zone": 1,
                "ip": "127.0.0.1",
                "port": int(port),
                "device": device,
                "weight": 1.0,
                "replication_ip": "127.0.0.1",
                "replication_port": int(port),
                "meta": "",
            }
        )
        builder.rebalance()
        builder.get_ring().save(str(etc / f"{name}.ring.gz"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
