"""Whether the file that a clip's job names can be read; anything but a regular file is named, and never opened.

A person may have written the path, so anything may lie there: a directory, a FIFO that would block its reader for
ever, a file of another user.
"""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def problem(path: Path, host: str) -> str | None:
    """Why no clip can be read from `path` on this host, in words for the operator; None when one can."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            # Not blocking, in case it has become a FIFO meanwhile.
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
            return None
    except (FileNotFoundError, NotADirectoryError):
        return (
            f"{path} is not on this host ({host}): correct the path; if it is right and its scratch is gone, push the "
            "batch's archive to queue:unpack again"
        )
    except PermissionError:
        return f"{path} cannot be read by {_user()}: give that user the right to read it and to enter its directories"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror}); look at the volume it lies on"
    kind = _KINDS.get(stat.S_IFMT(mode), "not a regular file")
    return f"{path} is {kind}, not an audio file: correct the path, and inject the clip again"


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"user {os.geteuid()}"
