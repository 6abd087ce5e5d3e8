"""Finds names in the documentation that do not exist: files, commands, settings, Redis keys, units."""

from __future__ import annotations

import ast
import fnmatch
import functools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
import yaml

from app.export.commands import exports
from app.people.commands import users
from app.studies.commands import studies
from cli import app

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in DOCS.glob("*.md") if page.name != "cli.md"),
    *sorted(ROOT.glob("ansible/roles/*/README.md")),
]
FOLDERS = ("", "src/", "docs/", "ansible/", "ra_app/", "tests/reliability/", "local/")  # where a path may begin

# Names of other programs, of a person's own files, or of the tests.
FOREIGN = {
    "HF_TOKEN": "the Hugging Face hub's",
    "ON_ERROR_STOP": "psql's",
    "ANSIBLE_VAULT_PASSWORD_FILE": "Ansible's",
    "OMP_WAIT_POLICY": "OpenMP's",
    "PYTHONPATH": "Python's",
    "SEED": "of make reliability",
    "BENCH_DATA": "of make bench",
    "PROCESSES": "of make test",
    "ARGS": "of make test",
    "FLEET_SUITE": "of make fleet",
    "LEAK_JOBS": "of tests/reliability/test_leaks.py",
    "group_vars/vault.yml": "made by the operator",
    "group_vars/vault-staging.yml": "made by the operator",
    "vocabulary.txt": "a file of a Whisper model",
    "backup-key.txt": "made by the operator",
    "postgresql": "a unit of the distribution",
}

FENCE = re.compile(r"^ *```.*?$(.*?)^ *```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(`+)(.+?)\1", re.DOTALL)
FILE_NAME = re.compile(r"[\w.*-]*[\w*]\.(?:py|md|lua|yml|toml|sql|txt|j2|svg|sh)")
PATH = re.compile(r"(?<![\w./~$:}-])(?:[\w.*-]+/)*(?:[\w.*-]+/|[\w*-][\w.*-]*\.[a-z0-9]+)(?![\w/{])")
COMMAND = re.compile(r"(?<![\w./-])audio-pipeline ([^|;&#\n<>]+)")
RA_COMMAND = re.compile(r"(?<![\w-])(?:ra-flask |flask )?(users|studies|exports) ([a-z-]+(?: [^|;&#\n]*)?)")
MODULE = re.compile(r"python3? -m ([\w.]+)")
TARGET = re.compile(r"(?<![\w-])make ([a-z][a-z-]*)")
SETTING = re.compile(r"(?<![\w{$-])(?:\$)?([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|[A-Z][A-Z0-9]+(?==))(?![\w-])")
KEY = re.compile(
    r"(?<![\w:/.-])((?:queue|batch|batches|inflight|worker|transfer|hosts|lease|drain|pipeline):[\w:{}<>-]+)"
)
UNIT = re.compile(r"(?:journalctl|systemctl)((?: +[^|;&\"\n]+)?)")
WORKER_UNIT = re.compile(r"(?<![\w/.-])([a-z]+-worker|audio-pipeline-[a-z-]+)(?:\.service|\.timer)?(?![\w.-])")
PLAYBOOK_TAGS = re.compile(r"--tags ([\w,]+)")
EXTRA_VARIABLE = re.compile(r"-e \"?(\w+)=")
FUNCTION = re.compile(r"(\w+)\(\)")
SYSTEMD_VERBS = {"status", "start", "stop", "restart", "enable", "disable", "show"}


@dataclass(frozen=True)
class Mention:
    """A piece of code in a page: a span, with what stands before it on its line, or a whole block."""

    code: str
    before: str = ""


def mentions(text: str) -> Iterator[Mention]:
    for block in FENCE.findall(text):
        yield Mention(block)
    for line in FENCE.sub("", text).splitlines():
        for span in SPAN.finditer(line):
            yield Mention(span[2].strip(), line[: span.start()])


def broken_spans(text: str) -> list[str]:
    """Lines on which a span of code does not end: its names would be missed."""
    return [line for line in FENCE.sub("", text).splitlines() if line.count("`") % 2]


def false_names(text: str) -> list[str]:
    """A sentence for each name in `text` (Markdown) that does not exist."""
    checks = (paths, functions, commands, ra_commands, modules, targets, settings, keys, units, playbooks)
    return [problem for mention in mentions(text) for check in checks for problem in check(mention)]


def is_printed(message: str) -> bool:
    return any(message in text for text in _texts())


def paths(mention: Mention) -> Iterator[str]:
    for found in PATH.findall(mention.code):
        name = found.removeprefix("./")
        first = name.partition("/")[0]
        of_ours = FILE_NAME.fullmatch(name.rpartition("/")[2]) or first in _top_folders()
        if of_ours and name not in FOREIGN and not _exists(name):
            yield f"no file or folder {name}"


def functions(mention: Mention) -> Iterator[str]:
    """A function must be in the last file that its line names before it, if there is one."""
    name = FUNCTION.fullmatch(mention.code)
    files = [file for file in re.findall(r"`([\w/]+\.py)`", mention.before) if file in _tree()]
    if name and files and f"def {name[1]}(" not in (ROOT / files[-1]).read_text():
        yield f"no function {name[1]} in {files[-1]}"


def commands(mention: Mention) -> Iterator[str]:
    """A span may leave out the program's name (`batch show ID`), or quote a message (`batch complete`)."""
    for line in COMMAND.findall(_joined(mention.code)):
        yield from _unknown_words(_program(), line.split("`")[0], "audio-pipeline")
    group, *rest = mention.code.split()
    called = hasattr(_program().commands.get(group), "commands") and rest and rest[0].islower()
    if called and not is_printed(mention.code):
        yield from _unknown_words(_program(), mention.code, "audio-pipeline")


def ra_commands(mention: Mention) -> Iterator[str]:
    for group, line in RA_COMMAND.findall(mention.code):
        yield from _unknown_words({"users": users, "studies": studies, "exports": exports}[group], line, group)


def modules(mention: Mention) -> Iterator[str]:
    for module in MODULE.findall(mention.code):
        path = module.replace(".", "/")
        files = (f"{folder}{path}{end}" for folder in ("", "src/") for end in (".py", "/__main__.py"))
        if module.split(".")[0] not in sys.stdlib_module_names and not any(name in _tree() for name in files):
            yield f"no module {module}"


def targets(mention: Mention) -> Iterator[str]:
    known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    yield from (f"no make target {target}" for target in TARGET.findall(mention.code) if target not in known)


def settings(mention: Mention) -> Iterator[str]:
    """Settings are in the two example files. Other tests check that these agree with the code."""
    examples = (ROOT / ".env.example").read_text() + (ROOT / "ra_app/.env.example").read_text()
    known = {*re.findall(r"^#?([A-Z][A-Z0-9_]+)=", examples, re.MULTILINE), *FOREIGN}
    yield from (f"no setting {name}" for name in SETTING.findall(mention.code) if name not in known)


def keys(mention: Mention) -> Iterator[str]:
    """For `batch:{id}:total` the code must contain `batch:`, and `total` as a separate text or after a colon."""
    for key in KEY.findall(mention.code):
        parts = re.sub(r"[{<][^:]*[}>]|\b[A-Z]+\b", "*", key).split(":")
        first = ":".join(parts[: parts.index("*")]) + ":" if "*" in parts else key
        rest = [part for part in parts[parts.index("*") :] if part != "*"] if "*" in parts else []
        # The code makes a host's own list from the name of the common one: `queue:transcribe` and `:{host}`.
        known = any(
            re.search(rf"(?<![\w:]){re.escape(first)}(?!\w)", text) or text in {first, first.removesuffix(":")}
            for text in _texts()
        )
        if not known or any(not _ends_a_key(part) for part in rest):
            yield f"no Redis key {key}"


def units(mention: Mention) -> Iterator[str]:
    named = set(WORKER_UNIT.findall(mention.code))
    for line in UNIT.findall(mention.code):
        words = [word for word in line.split() if not word.startswith("-")]
        if words and words[0] in SYSTEMD_VERBS:
            named.update(words[1:])
    known = set(re.findall(r"templates/([\w-]+)\.(?:service|timer)\.j2", "\n".join(_tree())))
    yield from (f"no unit {name}" for name in sorted(named) if name not in known and name not in FOREIGN)


def playbooks(mention: Mention) -> Iterator[str]:
    for tags in PLAYBOOK_TAGS.findall(mention.code):
        yield from (f"no tag {tag}" for tag in tags.split(",") if tag not in _tags())
    for name in EXTRA_VARIABLE.findall(mention.code):
        if not re.search(rf"\b{name}\b", _ansible()):
            yield f"no variable {name} in ansible/"


def _unknown_words(program: Any, line: str, name: str) -> Iterator[str]:
    """Subcommands and options of `line` that the program does not know."""
    command, called = program, name
    for word in shlex.split(line.rstrip("'\"") if line.count('"') % 2 or line.count("'") % 2 else line):
        if word.startswith("-"):
            option = word.partition("=")[0]
            if option != "--help" and not any(option in parameter.opts for parameter in command.params):
                yield f"{called} has no option {option}"
        elif hasattr(command, "commands"):  # Typer's groups are not Click's, but look the same
            if word not in command.commands:
                yield f"{called} has no command {word}"
                return
            command, called = command.commands[word], f"{called} {word}"


def _ends_a_key(part: str) -> bool:
    return part in _texts() or any(re.search(rf":{part}(?!\w)", text) for text in _texts())


def _joined(code: str) -> str:
    """Remove comments, and join continued lines."""
    return re.sub(r"(^|\s)#.*", "", code.replace("\\\n", " "))


def _exists(name: str) -> bool:
    for folder in FOLDERS:
        if name.endswith("/") and any(path.startswith(folder + name) for path in _tree()):
            return True
    if name.endswith("/"):
        return False
    return any(fnmatch.fnmatch(path, folder + name) for path in _tree() for folder in (*FOLDERS, "*/"))


@functools.cache
def _tree() -> frozenset[str]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return frozenset(name for name in listed if name and (ROOT / name).exists())


@functools.cache
def _top_folders() -> frozenset[str]:
    return frozenset(name.partition("/")[0] for name in _tree() if "/" in name)


@functools.cache
def _program() -> Any:
    return typer.main.get_command(app)


@functools.cache
def _texts() -> frozenset[str]:
    """All string constants in the code of the pipeline except docstrings, and the texts of its scripts for Redis."""
    found = {path.read_text() for path in (ROOT / "src").rglob("*.lua")}
    for path in (ROOT / "src").rglob("*.py"):
        tree = ast.parse(path.read_text())
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docstrings)
        found.update(node.value for node in constants if isinstance(node.value, str))
    return frozenset(found)


@functools.cache
def _ansible() -> str:
    """All playbooks, roles and variables."""
    files = [
        name for name in sorted(_tree()) if name.startswith("ansible/") and name.endswith((".yml", ".j2", ".example"))
    ]
    return "\n".join((ROOT / name).read_text() for name in files)


@functools.cache
def _tags() -> frozenset[str]:
    lists = re.findall(r"^\s*tags: *(\[.*\])", _ansible(), re.MULTILINE)
    return frozenset(tag for tags in lists for tag in yaml.safe_load(tags))
