"""A filter that finds invalid networks in a list, so that the preflight can name them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable


def not_networks(entries: Iterable[object]) -> list[str]:
    """Return the entries that are not an address or network of IPv4 or IPv6."""
    return [str(entry) for entry in entries if not _is_network(str(entry))]


def _is_network(entry: str) -> bool:
    try:
        ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
    return "%" not in entry  # a zone is valid on one host only


class FilterModule:
    def filters(self) -> dict[str, Callable[[Iterable[object]], list[str]]]:
        return {"not_networks": not_networks}
