"""Create or refresh `.venv` from `locks/cpu.txt`: the one environment of the demo, the tests and the checks.

Needs Python 3.11 or newer with `venv`, and the package registry that pip is set up for; nothing else. Files whose
SHA-256 is not in the lock are refused, the installer's too. Nothing is built: a build fetches packages that no lock
names.
A second run returns at once while the lock has not changed. Standard library only, because it runs before there is an
environment.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "locks" / "cpu.txt"
STAMP = VENV / ".installed-from"
UV_LOCK = ROOT / "locks" / "uv.txt"  # uv installs the lock in seconds where pip needs minutes
TORCH_WHEEL = "torch-2.13.0+cpu-*.whl"
TORCH_WHEELS = "https://download.pytorch.org/whl/cpu/torch/"


def main() -> None:
    if sys.version_info < (3, 11):
        sys.exit(
            f"Python 3.11 or newer is needed; {sys.executable} is {sys.version.split()[0]}. Try: make PYTHON=python3.12"
        )
    wanted = hashlib.sha256(LOCK.read_bytes() + Path(__file__).read_bytes()).hexdigest()
    if STAMP.exists() and STAMP.read_text() == wanted:
        return
    started = time.monotonic()
    say(f"creating the environment in {VENV.name}/ from {LOCK.relative_to(ROOT)} (about 2.5 GB, once)")
    create_venv()
    install_uv()
    install_lock()
    run(VENV / "bin/python", ROOT / "local" / "fix_torchaudio.py")
    install_command_line()
    STAMP.write_text(wanted)
    say(f"environment ready after {time.monotonic() - started:.0f} s")


def create_venv() -> None:
    try:
        venv.create(VENV, with_pip=True, clear=not STAMP.exists())
    except subprocess.CalledProcessError:
        sys.exit("Python cannot create environments with pip; on Debian and Ubuntu: apt install python3-venv")


def install_uv() -> None:
    pip: list[str | Path] = [VENV / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(*pip, "--require-hashes", "--only-binary=:all:", "-r", UV_LOCK)


def install_lock() -> None:
    """Install exactly the lock. CPU builds of torch come from a folder that pip knows, else from torch's own list."""
    folders = pip_find_links()
    if not any(list(Path(folder).glob(TORCH_WHEEL)) for folder in folders):
        folders = [*folders, TORCH_WHEELS]
    uv: list[str | Path] = [VENV / "bin/uv", "pip", "sync", "--quiet", "--compile-bytecode", "-p", VENV / "bin/python"]
    sources = [argument for folder in folders for argument in ("--find-links", folder)]
    run(*uv, *sources, "--require-hashes", "--no-build", LOCK)


def install_command_line() -> None:
    """Put `audio-pipeline` on the environment's path. The pipeline is run from its source tree, not installed."""
    program = VENV / "bin" / "audio-pipeline"
    program.write_text(
        f"#!{VENV}/bin/python\n"
        "import sys\n\n"
        f"sys.path.insert(0, {str(ROOT / 'src')!r})\n"
        "from cli import main\n\n"
        "main()\n"
    )
    program.chmod(0o755)


def pip_find_links() -> list[str]:
    """The folders that pip is configured to look into besides its index; uv does not read pip's settings."""
    answer = subprocess.run(
        [VENV / "bin/python", "-m", "pip", "config", "get", "global.find-links"],
        capture_output=True,
        text=True,
        check=False,
    )
    configured = os.environ.get("PIP_FIND_LINKS", "") + " " + answer.stdout
    return sorted({word for word in configured.split() if Path(word).is_dir()})


def run(*command: str | Path) -> None:
    done = subprocess.run([str(part) for part in command], check=False)
    if done.returncode != 0:
        sys.exit(f"this step failed (exit code {done.returncode}): {' '.join(str(part) for part in command)}")


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


if __name__ == "__main__":
    main()
