"""The preflight finds mistakes in a given certificate before nginx uses it.

One play checks all cases, each on its own host: a play for each case would take a minute in all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ansible.local_play import answers_of, play
from tests.certificates import make

NAME = "ra.example.org"
NO_KEY = "The key in {folder}/{key} cannot be read. It must be a file on this machine, in PEM"


@dataclass(frozen=True)
class Given:
    certificate: str = "ours.crt"
    key: str = "ours.key"
    said: str = ""
    """What the playbook stops with; nothing: it goes on."""
    name: str = NAME


CASES = {
    "none": Given("", ""),
    "for-this-name": Given(),
    "for-all-names-beside-it": Given("wild.crt", "wild.key"),
    "for-an-address": Given("address.crt", "address.key", name="192.0.2.7"),
    "without-its-key": Given(key="", said="Set both ra_app_tls_certificate and ra_app_tls_key, or neither"),
    "without-its-certificate": Given("", said="Set both ra_app_tls_certificate and ra_app_tls_key, or neither"),
    "key-of-another": Given(
        key="wild.key", said="The key in {folder}/wild.key does not belong to the certificate in {folder}/ours.crt."
    ),
    "for-another-name": Given(
        "deep.crt", "deep.key", f"is for DNS:deep.{NAME}, DNS:*.{NAME}, but browsers use {NAME}."
    ),
    "ended": Given("ended.crt", "ended.key", "(UTC), which does not include today. Get a new one"),
    "no-such-file": Given("nowhere.crt", "nowhere.key", "The certificate in {folder}/nowhere.crt cannot be read."),
    "no-certificate": Given("words.crt", "ours.key", "The certificate in {folder}/words.crt cannot be read."),
    "no-such-key": Given(key="nowhere.key", said=NO_KEY),
    "no-key": Given(key="words.key", said=NO_KEY),
}


@pytest.fixture(scope="module")
def looked_into(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Check all cases -> the folder of the files, and Ansible's output."""
    folder = tmp_path_factory.mktemp("given")
    make(folder, "ours", [NAME])
    make(folder, "wild", ["other.example.org", "*.example.org"])
    make(folder, "address", ["192.0.2.7"])
    make(folder, "deep", [f"deep.{NAME}", f"*.{NAME}"])
    make(folder, "ended", [NAME], ended=True)
    for kind in ("crt", "key"):
        (folder / f"words.{kind}").write_text("neither certificate nor key")
    hosts = {
        case: {
            "orchestrator_tls_certificate": given.certificate and f"{folder}/{given.certificate}",
            "orchestrator_tls_key": given.key and f"{folder}/{given.key}",
            "orchestrator_server_name": given.name,
        }
        for case, given in CASES.items()
    }
    done = play(folder, "tls_given", hosts, role="orchestrator", together=False)
    return folder, done.stdout + done.stderr


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_with_it_is_said(looked_into, case):
    folder, output = looked_into
    given = CASES[case]
    [recap] = re.findall(rf"^{case} .* failed=(\d)", output, re.MULTILINE)
    assert recap == ("1" if given.said else "0"), output
    said = given.said.format(folder=folder, key=given.key)
    assert not said or any(said in answer for answer in answers_of(case, output)), output


def test_no_key_is_shown(looked_into):
    folder, output = looked_into
    secret = (folder / "ours.key").read_text().splitlines()[1]
    assert secret not in output
    assert "PRIVATE KEY" not in output
