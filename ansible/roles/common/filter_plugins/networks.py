"""Tells which entries of a list are no networks, so that preflight can name them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable


def not_networks(entries: Iterable[object]) -> list[str]:
    """The entries that are neither an address nor a network of IPv4 or IPv6."""
    return [str(entry) for entry in entries if not _is_network(str(entry))]


def _is_network(entry: str) -> bool:
    try:
        ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
    return "%" not in entry  # a zone means something on one host only


class FilterModule:
    def filters(self) -> dict[str, Callable[[Iterable[object]], list[str]]]:
        return {"not_networks": not_networks}
