"""Create or refresh `.venv` from `locks/cpu.txt`: the one environment of the demo, the tests and the checks.

It needs only Python 3.11 or newer with `venv`, and the package index that pip is configured for. Files whose SHA-256
is not in the lock are refused, also those of the installer. No package is built from source, because a build fetches
packages that are not in the lock. A second run does nothing if the lock has not changed. The program uses the standard
library only, because it runs before an environment exists.
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
            f"This needs Python 3.11 or newer, but {sys.executable} is {sys.version.split()[0]}. "
            "Try: make PYTHON=python3.12"
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
        sys.exit("Python cannot create an environment with pip. On Debian and Ubuntu run: apt install python3-venv")


def install_uv() -> None:
    pip: list[str | Path] = [VENV / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(*pip, "--require-hashes", "--only-binary=:all:", "-r", UV_LOCK)


def install_lock() -> None:
    """Install the packages of the lock. Torch comes from a folder of pip's settings, else from the site of torch."""
    folders = pip_find_links()
    if not any(list(Path(folder).glob(TORCH_WHEEL)) for folder in folders):
        folders = [*folders, TORCH_WHEELS]
    # Nothing is compiled now: most modules of these packages are never imported, and the others are compiled then.
    uv: list[str | Path] = [VENV / "bin/uv", "pip", "sync", "--quiet", "-p", VENV / "bin/python"]
    sources = [argument for folder in folders for argument in ("--find-links", folder)]
    run(*uv, *sources, "--require-hashes", "--no-build", LOCK)


def install_command_line() -> None:
    """Install the program `audio-pipeline`, which runs the pipeline from its source tree."""
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
    """Return the folders of pip's setting find-links, because uv does not read pip's settings."""
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
        sys.exit(f"This command failed (exit code {done.returncode}): {' '.join(str(part) for part in command)}")


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


if __name__ == "__main__":
    main()
