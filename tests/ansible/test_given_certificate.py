"""A certificate that an operator gives: what is wrong with it is said before nginx gets it."""

from __future__ import annotations

import pytest

from tests.ansible.local_play import play
from tests.certificates import make

NAME = "ra.example.org"


def given(folder, certificate, key, name=NAME):
    files = {
        "orchestrator_tls_certificate": f"{folder}/{certificate}" if certificate else "",
        "orchestrator_tls_key": f"{folder}/{key}" if key else "",
        "orchestrator_server_name": name,
    }
    done = play(folder, "tls_given", {"orch": files}, role="orchestrator")
    assert "PRIVATE KEY" not in done.stdout + done.stderr
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize("names", [[NAME], ["other.example.org", "*.example.org"]])
def test_a_good_one_is_taken(tmp_path, names):
    make(tmp_path, "ours", names)
    code, output = given(tmp_path, "ours.crt", "ours.key")
    assert code == 0, output


def test_an_address_is_a_name_too(tmp_path):
    make(tmp_path, "ours", ["192.0.2.7"])
    code, output = given(tmp_path, "ours.crt", "ours.key", "192.0.2.7")
    assert code == 0, output


def test_none_is_fine(tmp_path):
    code, output = given(tmp_path, "", "")
    assert code == 0, output


def test_a_certificate_without_its_key(tmp_path):
    make(tmp_path, "ours", [NAME])
    code, output = given(tmp_path, "ours.crt", "")
    assert code != 0
    assert "Set both ra_app_tls_certificate and ra_app_tls_key" in output


def test_the_key_of_another(tmp_path):
    make(tmp_path, "ours", [NAME])
    make(tmp_path, "theirs", [NAME])
    code, output = given(tmp_path, "ours.crt", "theirs.key")
    assert code != 0
    assert f"{tmp_path}/theirs.key does not belong to the certificate in {tmp_path}/ours.crt" in output


def test_another_name(tmp_path):
    make(tmp_path, "ours", ["deep.ra.example.org", "*.ra.example.org"])
    code, output = given(tmp_path, "ours.crt", "ours.key")
    assert code != 0
    assert f"is for DNS:deep.ra.example.org, DNS:*.ra.example.org, and browsers ask for {NAME}" in output


def test_one_that_has_ended(tmp_path):
    make(tmp_path, "ours", [NAME], ended=True)
    code, output = given(tmp_path, "ours.crt", "ours.key")
    assert code != 0
    assert "which is not today" in output


def test_a_file_that_is_not_there(tmp_path):
    code, output = given(tmp_path, "nowhere.crt", "nowhere.key")
    assert code != 0
    assert f"{tmp_path}/nowhere.crt" in output


@pytest.mark.parametrize("content", [None, "no key at all"])
def test_a_key_that_cannot_be_read(tmp_path, content):
    make(tmp_path, "ours", [NAME])
    (tmp_path / "ours.key").unlink()
    if content:
        (tmp_path / "ours.key").write_text(content)
    code, output = given(tmp_path, "ours.crt", "ours.key")
    assert code != 0
    assert f"The key in {tmp_path}/ours.key cannot be read" in output
