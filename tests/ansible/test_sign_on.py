"""Single sign-on of the RA app: wrong settings stop the playbook, and the app understands those that it writes."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.config import load_settings
from app.errors import ConfigError
from tests.ansible.local_play import BIN, ROOT, answers_of, play

ROLE = ROOT / "ansible/roles/orchestrator"
SECRET = "s3cr3t-of-the-client"
KEY = "k" * 40
OTHERS = (
    "vault_ra_app_postgres_password", "vault_ra_app_secret_key", "vault_ra_app_s3_access_key",
    "vault_ra_app_s3_secret_key",
)  # fmt: skip
FILES = ("ra-app.env", "ra-app.service", "ra-flask.sh")
GOOD = {
    "ra_app_oidc_issuer": "https://login.example.edu/realms/campus",
    "ra_app_oidc_client_id": "ra-app",
    "ra_app_oidc_label": "Log in with your campus account",
}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "good": ({}, ""),
    "no-https": ({"ra_app_oidc_issuer": "http://login.example.edu"}, "it must begin with https://"),
    "no-id": ({"ra_app_oidc_client_id": ""}, "with the redirect address https://ra.example.org/sso/callback"),
    "for-everybody": ({"ra_app_oidc_without_invitation": True}, "nothing says who may have an account"),
    "quote": ({"ra_app_oidc_label": 'Log in "here"'}, "ra_app_oidc_label has a character"),
    "dollar": ({"ra_app_oidc_claim": "groups=$HOME"}, "ra_app_oidc_claim has a character"),
}


def test_wrong_settings_are_named_before_anything_is_changed(tmp_path):
    hosts = {case: {"ra_app_server_name": "ra.example.org", **GOOD, **given} for case, (given, _) in WRONG.items()}
    done = play(tmp_path, "sign_on_check", hosts, role="orchestrator", together=False)
    for case, (_, said) in WRONG.items():
        [failed] = re.findall(rf"^{case} .* failed=(\d)", done.stdout, re.MULTILINE)
        assert failed == ("1" if said else "0"), done.stdout
        assert said in " ".join(answers_of(case, done.stdout))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the role writes for a host with single sign-on and one without: settings, secrets, unit and ra-flask.

    One module writes all of it: each module takes half a second.
    """
    folder = tmp_path_factory.mktemp("written")
    texts = yaml.safe_load((ROLE / "tasks/ra_settings.yml").read_text())
    secrets = next(task["vars"] for task in texts if task["name"].startswith("Write the app's secrets"))
    shown = ", ".join(f"'{name}': lookup('ansible.builtin.template', '{ROLE}/templates/{name}.j2')" for name in FILES)
    everything = {
        "content": f"{{{{ {{'secrets': orchestrator_ra_secrets, {shown}}} | to_json }}}}",
        "dest": str(folder) + "/{{ inventory_hostname }}.json",
        "mode": "0600",
    }
    on = {**GOOD, "ra_app_oidc_email_domains": ["example.edu"], "vault_ra_app_oidc_client_secret": SECRET}
    hosts: dict[str, Any] = {"with": {**on, "ra_app_oidc_without_invitation": True}, "without": {}}
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, **dict.fromkeys(OTHERS, KEY)}
    (folder / "hosts.yml").write_text(
        yaml.safe_dump({"orchestrator": {"hosts": hosts, "vars": {**local, "s3_endpoint": "https://s3.example.org"}}})
    )
    files = [ROLE / "defaults/main.yml", *sorted((ROLE / "vars/main").glob("*.yml"))]
    task = {"ansible.builtin.copy": everything, "vars": secrets, "no_log": True}
    book = {"hosts": "all", "gather_facts": False, "vars_files": [str(file) for file in files], "tasks": [task]}
    (folder / "play.yml").write_text(yaml.safe_dump([book]))
    unit = "orchestrator_postgres_unit=postgresql"  # else facts decide it, which take a second to gather
    done = subprocess.run(
        [BIN / "ansible-playbook", "-i", folder / "hosts.yml", "-e", unit, folder / "play.yml"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for name in hosts:
        (folder / name).mkdir()
        found = json.loads((folder / f"{name}.json").read_text())
        for file, text in (found.pop("secrets") | found).items():
            (folder / name / file).write_text(text)
    return folder


def _environment(folder: Path) -> dict[str, str]:
    lines = [line for line in (folder / "ra-app.env").read_text().splitlines() if line and not line.startswith("#")]
    return dict(shlex.split(line)[0].split("=", 1) for line in lines) | {"CREDENTIALS_DIRECTORY": str(folder)}


def test_the_app_understands_what_is_written(written):
    settings = load_settings(_environment(written / "with"))
    assert settings.oidc_issuer == "https://login.example.edu/realms/campus"
    assert (settings.oidc_client_id, settings.oidc_client_secret) == ("ra-app", SECRET)
    assert settings.oidc_label == "Log in with your campus account"
    assert (settings.oidc_email_domains, settings.oidc_claim) == (("example.edu",), None)
    assert settings.oidc_without_invitation
    assert load_settings(_environment(written / "without")).oidc_issuer is None


def test_the_secret_is_a_credential_and_stands_nowhere_else(written):
    for name in ("ra-app.service", "ra-flask.sh"):
        assert "LoadCredential=oidc_client_secret:" in (written / "with" / name).read_text()
        assert "oidc" not in (written / "without" / name).read_text()
    holding = {path.name for path in (written / "with").iterdir() if SECRET in path.read_text()}
    assert holding == {"oidc_client_secret"}
    assert not (written / "without" / "oidc_client_secret").exists()
    with pytest.raises(ConfigError, match="OIDC_CLIENT_SECRET is not set"):
        load_settings(_environment(written / "with") | {"CREDENTIALS_DIRECTORY": str(written / "without")})
