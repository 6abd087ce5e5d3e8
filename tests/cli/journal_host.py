"""A real journald with a batch's lines, and a command that reads them: `python -m tests.cli.journal_host COMMAND...`.

To be run in a mount namespace of its own (`unshare --mount`), whose /run it covers, so that the host's own journal is
neither read nor written.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.workers.processes import wait_until

JOURNALD = "/lib/systemd/systemd-journald"
SOCKET = Path("/run/systemd/journal/socket")
LINES = (
    ("unpack-worker", "INFO unpack batch unpacked batch=b-1 clips=1"),
    ("gpu-worker", 'INFO gpu clip done batch=b-1 clip="a b.mp3" audio_id=1'),
    ("gpu-worker", "INFO gpu clip done batch=b-10 clip=a.mp3 audio_id=2"),
    ("gpu-worker", "INFO gpu batch complete batch=b-1"),
    ("stranger", "INFO another program's batch=b-1"),
)


def main() -> int:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    SOCKET.parent.mkdir(parents=True)
    Path("/run/log/journal").mkdir(parents=True)
    _give_machine_id()
    with subprocess.Popen([JOURNALD], stderr=subprocess.DEVNULL) as journald:
        try:
            _write_lines()
            return subprocess.run(sys.argv[1:], check=False).returncode
        finally:
            journald.terminate()


def _give_machine_id() -> None:
    path = Path("/etc/machine-id")
    if path.exists() and path.read_text().strip():
        return
    path.touch()
    with tempfile.NamedTemporaryFile("w") as own:
        own.write("0123456789abcdef0123456789abcdef\n")
        own.flush()
        subprocess.run(["mount", "--bind", own.name, str(path)], check=True)


def _write_lines() -> None:
    """In journald's own protocol. OBJECT_SYSTEMD_UNIT, written by root, counts as the unit that a line is about."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:

        def listens() -> bool:
            with contextlib.suppress(OSError):
                out.connect(str(SOCKET))
                return True
            return False

        wait_until(listens, "journald to listen")
        for unit, message in LINES:
            out.send(f"MESSAGE={message}\nPRIORITY=6\nOBJECT_SYSTEMD_UNIT={unit}.service\n".encode())
    subprocess.run(["journalctl", "--sync"], check=True)


if __name__ == "__main__":
    sys.exit(main())
