"""The conventions of this repository."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from tests.lock_files import LOCKS, pins

ROOT = Path(__file__).resolve().parents[1]
NAME_LENGTH = 80
REQUIREMENTS = [
    "requirements.txt",
    "requirements-gpu.txt",
    "ra_app/requirements.txt",
    "ansible/requirements.txt",
    "ansible/requirements-awscli.txt",
    "local/requirements.txt",
]


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_dependency_is_pinned_and_says_why_it_is_there(name):
    for line in (ROOT / name).read_text().splitlines():
        if line and not line.startswith(("#", "-r ")):
            assert re.fullmatch(r"[A-Za-z0-9-]+==[0-9][\w.]* +# \S.+", line), f"{name}: {line}"


def test_there_is_a_lock_for_every_kind_of_host():
    assert LOCKS == ["ansible.txt", "awscli.txt", "cpu.txt", "gpu.txt", "pipeline.txt", "ra_app.txt", "uv.txt"]


def test_the_one_machine_lock_carries_no_cuda():
    names = pins("cpu.txt").keys()
    assert not [name for name in names if name.startswith("nvidia-")]
    assert names.isdisjoint({"triton", "torchvision", "torchcodec"})
    assert pins("cpu.txt")["torch"].version.endswith("+cpu")


@pytest.mark.parametrize("lock", ["ansible.txt", "gpu.txt", "pipeline.txt", "ra_app.txt", "uv.txt"])
def test_the_hosts_locks_agree_with_the_one_that_is_tested_but_for_torch(lock):
    tested = pins("cpu.txt")
    family = {"torch", "torchaudio", "setuptools"}
    differing = {
        name: (pin.version, tested[name].version)
        for name, pin in pins(lock).items()
        if name in tested and tested[name].version != pin.version and name not in family
    }
    assert differing == {}


def test_files_stay_small_enough_to_hold_one_concept():
    long = {
        path.relative_to(ROOT).as_posix(): lines
        for path in tracked("*.py")
        if "migrations/versions" not in path.as_posix()
        and (lines := len(path.read_text().splitlines())) > (500 if "tests" in path.parts else 420)
    }
    assert long == {}


def test_names_of_tests_can_be_read_at_a_glance():
    long = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in tracked("tests/*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and len(node.name) > NAME_LENGTH
    ]
    assert long == []


def test_links_in_the_documentation_lead_somewhere():
    links = [
        (page, target)
        for page in tracked("*.md")
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    ]
    broken = [f"{page.relative_to(ROOT)}: {target}" for page, target in links if not (page.parent / target).exists()]
    assert broken == []
