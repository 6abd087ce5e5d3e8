"""The hosts' firewall: nft accepts its rules, and packets between network namespaces pass or are dropped as they must.

The order of arrival shows whether a packet was dropped: the forbidden packet is sent first, and another arrives first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.ansible.local_play import BIN, ROOT, answers_of, play

TEMPLATE = ROOT / "ansible/roles/common/templates/nftables.conf.j2"
FLEET = {"orch": "10.99.0.1", "gpu-01": "10.99.0.9"}
OPERATORS = ["10.99.0.2", "10.1.0.0/16", "10.1.2.0/24", "fd00:99::2", "2001:db8::/48"]
HOST4, OPERATOR4, STRANGER4 = "10.99.0.1", "10.99.0.2", "10.99.0.66"
HOST6, OPERATOR6, STRANGER6 = "fd00:99::1", "fd00:99::2", "fd00:99::66"
HOST_LINK, OTHER_LINK = "fe80::99:1", "fe80::99:2"
WAIT_S = 20


def rules(folder: Path, operators: list[str], fleet: dict[str, str] = FLEET) -> Path:
    """The rules of the orchestrator, made by Ansible from the role's template."""
    given = {
        "common_firewall_host": "orch", "common_firewall_without": [], "common_firewall_rules": [],
        "ssh_allowed_from": operators, "ssh_port": 22, "redis_port": 6379, "postgres_port": 5432,
        "ansible_connection": "local", "ansible_python_interpreter": sys.executable,
    }  # fmt: skip
    hosts = {name: {"private_address": address} for name, address in fleet.items()}
    inventory = {"all": {"vars": given, "children": {"orchestrator": {"hosts": {"orch": {}}}}, "hosts": hosts}}
    (folder / "inventory.yml").write_text(yaml.safe_dump(inventory))
    out = folder / "nftables.conf"
    arguments = json.dumps({"src": str(TEMPLATE), "dest": str(out), "mode": "0644"})
    command: list[str | Path] = [
        BIN / "ansible",
        "orch",
        "-i",
        folder / "inventory.yml",
        "-m",
        "ansible.builtin.template",
        "-a",
        arguments,
    ]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.mark.parametrize(
    "operators",
    [[], *(pytest.param(some, marks=pytest.mark.thorough) for some in (["10.1.0.0/16"], ["2001:db8::/48"], OPERATORS))],
)
def test_nft_takes_the_rules_for_operators_of_either_family(tmp_path: Path, operators: list[str]) -> None:
    done = subprocess.run(
        ["nft", "-c", "-f", str(rules(tmp_path, operators))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.thorough
def test_nft_takes_the_rules_of_a_fleet_with_ipv6_addresses(tmp_path: Path) -> None:
    path = rules(tmp_path, OPERATORS, {"orch": "10.99.0.1", "gpu-01": "fd00:99::9"})
    done = subprocess.run(["nft", "-c", "-f", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_entries_that_are_no_networks_are_refused_by_name(tmp_path: Path) -> None:
    groups = {"orchestrator": ["orch"]}
    entries = ["10.1.0.0/16", "2001:db8::/48", "10.1.0.0/33", "office", "fe80::1%eth0", "::1; flush ruleset"]
    done = play(tmp_path, "preflight_firewall", {"orch": {"ssh_allowed_from": entries}}, groups=groups)
    [answer] = answers_of("orch", done.stdout)
    assert "names 10.1.0.0/33 and office and fe80::1%eth0 and ::1; flush ruleset, which is not an address" in answer


@pytest.mark.thorough
def test_networks_of_both_families_pass_the_preflight(tmp_path: Path) -> None:
    hosts: dict[str, dict[str, list[str]]] = {"orch": {"ssh_allowed_from": OPERATORS}, "open": {"ssh_allowed_from": []}}
    assert play(tmp_path, "preflight_firewall", hosts).returncode == 0


@dataclass(frozen=True)
class Wire:
    """A host behind the firewall and another machine, each in its own network namespace, with a link between them."""

    host: str
    other: str

    def run(self, where: str, *command: str | Path) -> None:
        subprocess.run(["ip", "netns", "exec", where, *command], check=True)

    def python(self, where: str, code: str) -> str:
        command = ["ip", "netns", "exec", where, sys.executable, "-c", textwrap.dedent(code)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WAIT_S)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @contextmanager
    def listening(self, code: str) -> Iterator[subprocess.Popen[str]]:
        """Start a program on the host that prints a line when it listens, and a second line about the first packet."""
        command = ["ip", "netns", "exec", self.host, sys.executable, "-uc", textwrap.dedent(code)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
            assert program.stdout
            try:
                assert program.stdout.readline() == "listening\n"
                yield program
            finally:
                program.kill()

    def first_to_reach(self, listener: str, *senders: str) -> str:
        """Run the senders one after the other on the other machine -> what the listener says about the first packet."""
        with self.listening(listener) as program:
            for sender in senders:
                self.python(self.other, sender)
            return program.communicate(timeout=WAIT_S)[0].strip()


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    both = Wire(f"fw-host-{os.getpid()}", f"fw-other-{os.getpid()}")
    try:
        for name in (both.host, both.other):
            subprocess.run(["ip", "netns", "add", name], check=True)
        cable = ["ip", "-n", both.host, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0"]
        subprocess.run([*cable, "netns", both.other], check=True)
        own = {
            both.host: (HOST4, HOST6, HOST_LINK),
            both.other: (OPERATOR4, STRANGER4, OPERATOR6, STRANGER6, OTHER_LINK),
        }
        for name, addresses in own.items():
            subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
            subprocess.run(["ip", "-n", name, "link", "set", "eth0", "addrgenmode", "none", "up"], check=True)
            for address in addresses:
                full = [f"{address}/64", "nodad"] if ":" in address else [f"{address}/24"]
                subprocess.run(["ip", "-n", name, "addr", "add", *full, "dev", "eth0"], check=True)
        both.run(both.host, "nft", "-f", rules(tmp_path_factory.mktemp("rules"), OPERATORS))
        yield both
    finally:
        for name in (both.host, both.other):
            subprocess.run(["ip", "netns", "del", name], check=False)


def ssh_port(address: str) -> str:
    return f"""
        import socket
        family = socket.AF_INET6 if ":" in "{address}" else socket.AF_INET
        server = socket.create_server(("{address}", 22), family=family)
        print("listening")
        print(server.accept()[1][0])
    """


def call(stranger: str, operator: str, target: str) -> str:
    """The stranger's first packet leaves before the operator connects, and its socket stays open until then."""
    return f"""
        import socket
        stranger = socket.socket(socket.AF_INET6 if ":" in "{target}" else socket.AF_INET)
        stranger.bind(("{stranger}", 0))
        stranger.setblocking(False)
        stranger.connect_ex(("{target}", 22))
        socket.create_connection(("{target}", 22), {WAIT_S}, ("{operator}", 0))
    """


@pytest.mark.parametrize(
    ("stranger", "operator", "host"),
    [(STRANGER4, OPERATOR4, HOST4), (STRANGER6, OPERATOR6, HOST6)],
    ids=["IPv4", "IPv6"],
)
def test_an_operator_reaches_ssh_and_a_stranger_does_not(wire: Wire, stranger: str, operator: str, host: str) -> None:
    # Over IPv6 this also needs neighbour discovery, which the firewall must let through.
    assert wire.first_to_reach(ssh_port(host), call(stranger, operator, host)) == operator


def dhcp(source: str, port: int, target: str = HOST_LINK) -> str:
    return f"""
        import socket
        link = socket.if_nametoindex("eth0")
        sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sender.bind(("{source}", {port}, 0, link))
        sender.sendto(b"{source} {port}", ("{target}", 546, 0, link))
    """


DHCP_CLIENT = """
    import socket
    client = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    client.bind(("::", 546))
    print("listening")
    print(client.recv(100).decode())
"""


def test_a_dhcpv6_reply_of_the_own_link_passes_and_nothing_else_does(wire: Wire) -> None:
    not_the_port = dhcp(OTHER_LINK, 5000)
    not_the_link = dhcp(STRANGER6, 547, HOST6)
    reply = dhcp(OTHER_LINK, 547)
    assert wire.first_to_reach(DHCP_CLIENT, not_the_port, not_the_link, reply) == f"{OTHER_LINK} 547"
