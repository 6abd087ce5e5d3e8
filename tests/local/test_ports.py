"""Ports of the local services when several programs start services on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.services.state import OWN_PORTS, PORT_RANGE, State, choose_port


def test_ports_come_from_the_part_of_the_range_that_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(OWN_PORTS, "18100-18139")
    state = State(tmp_path)
    assert {state.free_port(name) in range(18100, 18140) for name in "abcdef"} == {True}


def test_without_a_part_the_whole_range_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OWN_PORTS, raising=False)
    assert choose_port() in PORT_RANGE


def test_where_no_port_is_left_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OWN_PORTS, "18100-18100")
    with pytest.raises(OSError, match="no free port found between 18100 and 18100"):
        choose_port(taken={18100})
