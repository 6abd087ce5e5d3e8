"""Says what to do if the vault cannot be opened. Ansible's own message names neither setting nor file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError, AnsibleParserError

from ansible.plugins.vars import BaseVarsPlugin

DOCUMENTATION = """
    name: vault_hint
    short_description: a hint if the vault cannot be opened
    description: Opens the vaults beside the playbooks before Ansible does, and gives no variables.
"""
VAULTS = ("group_vars/all/vault.yml", "group_vars/staging/vault.yml")
SETTING = "ANSIBLE_VAULT_PASSWORD_FILE"

_seen: set[Path] = set()  # Ansible asks for every host and task


class VarsModule(BaseVarsPlugin):  # type: ignore[misc]  # Ansible has no types
    def get_vars(self, loader: Any, path: str, entities: object, cache: bool = True) -> dict[str, Any]:  # noqa: ARG002 - Ansible's own signature
        """Return no variables; raise AnsibleParserError with the hint."""
        super().get_vars(loader, path, entities)
        for vault in {Path(path, name) for name in VAULTS} - _seen:
            _seen.add(vault)
            if vault.is_file():
                _open(loader, vault)
        return {}


def _open(loader: Any, vault: Path) -> None:
    try:
        loader.load_from_file(str(vault), cache="all")
    except AnsibleError as error:
        if "decrypt" not in str(error).lower():
            raise
        why = "it has another password" if "could decrypt" in str(error) else "no password was given"
        given = os.environ.get(SETTING)
        raise AnsibleParserError(
            f"{vault.resolve()} cannot be opened: {why}. Put the vault's password into a file and run "
            f"export {SETTING}=FILE ({f'it is {given} now' if given else 'not set now'}), or add --ask-vault-pass. "
            "A vault whose password is lost must be made anew from vault.yml.example."
        ) from error
