from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.models.workshop import Workshop


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


@pytest.fixture(scope="module")
def fetched_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workshop = Workshop(tmp_path_factory.mktemp("fetched"))
    workshop.packaged()
    done = workshop.run("fetch", "own")
    assert done.returncode == 0, done.stderr
    return workshop.folder


@pytest.fixture
def fetched(fetched_once: Path, tmp_path: Path) -> Workshop:
    shutil.copytree(fetched_once, tmp_path, dirs_exist_ok=True)
    return Workshop(tmp_path)
