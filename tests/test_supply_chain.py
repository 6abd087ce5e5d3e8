"""Only the chosen code is installed: locks with hashes, installers that check them, models pinned to a commit.

Packages of the distributions are not tested here: they are signed, and apt checks the signatures.
"""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from errors import ModelError
from local import make_env
from models.fetch import Fetcher
from models.manifest import load_manifest
from tests.ansible.local_play import answers_of, play
from tests.lock_files import LOCKS, ROOT, entries, pins

TORCH = make_env.TORCH_WHEEL.replace("*", "py3-none-any")  # a name that the installer takes for a CPU build
UNPINNED = [
    "example==1.0",
    "example>=1.0 \\\n    --hash=sha256:" + 64 * "0",
    "example==1.0 \\\n    --hash=md5:" + 32 * "0",
]
# What follows `pip install` and `uv pip install`, however it is written: on a command line, or as a list of arguments.
INSTALLS = re.compile(r"\bpip[\"',\s\\-]+(?:install|sync)\b")
PLACES = ("ansible", "local", "docs", ".ci", "src", "ra_app", "bench", "Makefile", "README.md")


@pytest.mark.parametrize("name", LOCKS)
def test_every_line_of_a_lock_has_a_version_and_hashes(name: str) -> None:
    assert pins(name)


@pytest.mark.parametrize("line", UNPINNED)
def test_a_lock_with_an_unpinned_line_is_noticed(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks/some.txt").write_text((ROOT / "locks/uv.txt").read_text() + line + "\n")
    monkeypatch.setattr("tests.lock_files.ROOT", tmp_path)
    with pytest.raises(AssertionError, match=r"some\.txt: example"):
        pins("some.txt")


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_registry_and_no_folder(name: str) -> None:
    text = (ROOT / "locks" / name).read_text()
    assert not [entry for entry in entries(text) if entry.startswith("-") or "://" in entry or " @ " in entry]


def test_every_install_command_demands_hashes() -> None:
    listed = subprocess.run(["git", "ls-files", *PLACES], cwd=ROOT, capture_output=True, text=True, check=True)
    found = 0
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.suffix not in {".py", ".sh", ".yml", ".j2", ".md", ".toml", ""} or not path.is_file():
            continue
        text = path.read_text()
        for command in INSTALLS.finditer(text):
            found += 1
            assert "require-hashes" in text[command.start() : command.start() + 300], f"{name}: {command.group()}"
    assert found >= 6  # make_env twice, the roles' five, the guide's two: the pattern must not fall silent


def test_models_are_pinned_but_for_the_one_that_is_pinned_at_first_fetch() -> None:
    loose = set()
    for part in load_manifest().parts.values():
        if part.hub is not None and not part.hub.is_pinned:
            loose.add(part.name)
        if part.hub is None:
            assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", package) for package in part.packages), part.name
            assert set(part.members) <= set(part.sha256), part.name
    assert loose <= {"cope-a-9b"}  # docs/models.md, "Pinning CoPE-A"


def test_every_model_names_its_licence() -> None:
    for part in load_manifest().parts.values():
        assert part.licence, part.name
        assert not part.licence.startswith("see"), part.name


def test_production_is_not_fetched_while_a_part_of_it_is_unpinned(tmp_path: Path) -> None:
    manifest = load_manifest()
    fetcher = Fetcher(tmp_path, "python -m models fetch production", lambda _: None, hub_token="hf_any")
    for name in manifest.set("production").part_names:
        part = manifest.parts[name]
        if part.hub is not None and not part.hub.is_pinned:
            with pytest.raises(ModelError, match="models pin production"):
                fetcher.check_pinned(part)
        else:
            fetcher.check_pinned(part)


def wheel(folder: Path, text: str = "") -> str:
    """Write a small wheel and return its SHA-256."""
    files = {
        "example.py": text,
        "example-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: example\nVersion: 1.0\n",
        "example-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}")
    record = "\n".join([*lines, "example-1.0.dist-info/RECORD,,\n"])
    folder.mkdir(exist_ok=True)
    path = folder / "example-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**files, "example-1.0.dist-info/RECORD": record}.items():
            archive.writestr(zipfile.ZipInfo(name), content)  # a fixed time: the same wheel, the same hash
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lock_line(digest: str | None) -> str:
    return "example==1.0" + (f" \\\n    --hash=sha256:{digest}\n" if digest else "\n")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment that the real installer of `make env` fills from a folder of wheels, without any index."""
    monkeypatch.setattr(make_env, "VENV", tmp_path / "venv")
    monkeypatch.setattr(make_env, "STAMP", tmp_path / "venv" / "stamp")
    monkeypatch.setattr(make_env, "LOCK", tmp_path / "lock.txt")
    make_env.create_venv()
    (tmp_path / "venv/bin/uv").symlink_to(Path(sys.executable).with_name("uv"))
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / TORCH).touch()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def installed(environment: Path) -> bool:
    return bool(list(environment.glob("lib/*/site-packages/example.py")))


@pytest.mark.thorough
def test_make_env_installs_a_wheel_that_has_its_hash(workplace: Path) -> None:
    make_env.LOCK.write_text(lock_line(wheel(workplace / "wheels")))
    make_env.install_lock()
    assert installed(make_env.VENV)


@pytest.mark.thorough
def test_make_env_refuses_a_tampered_wheel(workplace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make_env.LOCK.write_text(lock_line(wheel(workplace / "wheels")))
    wheel(workplace / "wheels", "import os  # what somebody added\n")
    with pytest.raises(SystemExit, match="This command failed"):
        make_env.install_lock()
    assert "Hash mismatch" in capfd.readouterr().err
    assert not installed(make_env.VENV)


@pytest.mark.thorough
def test_make_env_refuses_a_line_without_a_hash(workplace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wheel(workplace / "wheels")
    make_env.LOCK.write_text(lock_line(None))
    with pytest.raises(SystemExit, match="This command failed"):
        make_env.install_lock()
    assert "hash" in capfd.readouterr().err
    assert not installed(make_env.VENV)


@pytest.mark.thorough
def test_make_env_refuses_a_tampered_installer(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (workplace / "uv.txt").write_text(lock_line(wheel(workplace / "wheels")))
    wheel(workplace / "wheels", "import os  # what somebody added\n")
    monkeypatch.setattr(make_env, "UV_LOCK", workplace / "uv.txt")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(SystemExit, match="This command failed"):
        make_env.install_uv()
    assert "DO NOT MATCH THE HASHES" in capfd.readouterr().err


def make_host_environment(tmp_path: Path, lock: str) -> subprocess.CompletedProcess[str]:
    given = {
        "common_repository": str(ROOT),
        "common_lock": "pipeline",
        "common_lock_text": {"stdout": lock},
        "common_release_name": "v1",
        "common_environment": str(tmp_path / "environment"),
        "common_find_links": [str(tmp_path / "wheels")],
        "pipeline_lock": "pipeline",
    }
    return play(tmp_path, "environment", {"home": given})


@pytest.mark.thorough
def test_a_host_gets_an_environment_whose_wheels_have_their_hashes(tmp_path: Path) -> None:
    done = make_host_environment(tmp_path, lock_line(wheel(tmp_path / "wheels")))
    assert done.returncode == 0, done.stdout + done.stderr
    assert installed(tmp_path / "environment")
    assert (tmp_path / "environment/.complete").is_file()
    assert not (tmp_path / "environment/installer").exists()


@pytest.mark.thorough
def test_a_host_refuses_a_tampered_wheel(tmp_path: Path) -> None:
    lock = lock_line(wheel(tmp_path / "wheels"))
    wheel(tmp_path / "wheels", "import os  # what somebody added\n")
    done = make_host_environment(tmp_path, lock)
    assert "Hash mismatch" in answers_of("home", done.stdout)[-1]
    assert not installed(tmp_path / "environment")
    assert not (tmp_path / "environment/.complete").exists()


def test_a_host_refuses_a_lock_without_hashes_by_name(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels")
    done = make_host_environment(tmp_path, lock_line(None))
    assert "locks/pipeline.txt of v1 has no hashes" in answers_of("home", done.stdout)[-1]
