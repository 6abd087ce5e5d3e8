"""The program that makes certificates on the orchestrator: renewal, and a new authority while clients are connected."""

from __future__ import annotations

import stat
import subprocess

import pytest

from tests.tls.conftest import client, make_authority


def issuer(certificate) -> str:
    command = ["openssl", "x509", "-noout", "-issuer", "-in", certificate]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_second_renewal_changes_nothing_and_says_nothing(authority):
    before = authority.certificate("redis").read_bytes()
    assert authority.run("renew") == ""
    assert authority.certificate("redis").read_bytes() == before


def test_keys_are_for_root_and_their_service_alone(authority):
    for path, mode in (
        (authority.folder / "ca/ca.key", 0o600),
        (authority.certificate("redis").with_suffix(".key"), 0o640),
        (authority.certificate("postgres").with_suffix(".key"), 0o640),
    ):
        assert stat.S_IMODE(path.stat().st_mode) == mode, path
        assert path.stat().st_uid == 0


def test_a_certificate_that_ends_soon_or_has_another_address_is_made_anew(readable):
    soon = make_authority(readable / "soon")
    text = soon.program.read_text()
    soon.program.write_text(text.replace("-days 397", "-days 20"))
    soon.run("renew")
    first = soon.certificate("postgres").read_bytes()
    soon.program.write_text(text)
    assert "created a certificate for postgres" in soon.run("renew")
    assert soon.certificate("postgres").read_bytes() != first
    soon.program.write_text(text.replace("IP:127.0.0.1", "IP:10.0.0.9"))
    assert "created a certificate for redis" in soon.run("renew")


def test_a_new_authority_takes_over_while_clients_are_connected(authority, tls_redis):
    old = authority.folder / "old.pem"
    old.write_bytes(authority.trusted.read_bytes())
    before = issuer(authority.certificate("redis"))
    with client(tls_redis, old) as connected:
        assert connected.ping()
        authority.run("next")
        assert authority.run("next") == "", "a step that is repeated does nothing"
        both = authority.trusted.read_bytes()
        assert both.count(b"BEGIN") == 2
        assert "redis uses its new certificate" in authority.run("switch")
        assert issuer(authority.certificate("redis")) != before
        assert authority.trusted.read_bytes().count(b"BEGIN") == 2, "hosts that were not reached yet still fit"
        assert connected.ping(), "the connection that stood is not broken"
        with client(tls_redis, authority.trusted) as fresh:
            assert fresh.ping()
        authority.run("switch")
        authority.run("forget")
        assert authority.trusted.read_bytes().count(b"BEGIN") == 1
        with client(tls_redis, authority.trusted) as fresh:
            assert fresh.ping()


@pytest.mark.thorough
def test_a_switch_that_was_cut_off_is_finished_by_the_next(readable):
    cut = make_authority(readable / "cut")
    cut.run("renew")
    cut.run("next")
    (cut.folder / "ca/next.key").rename(cut.folder / "ca/ca.key")
    assert "created a certificate for redis" in cut.run("switch")
    verify = ["openssl", "verify", "-CAfile", str(cut.folder / "ca/ca.crt"), str(cut.certificate("redis"))]
    assert subprocess.run(verify, capture_output=True, check=False).returncode == 0
