"""The process that makes exports: `flask exports work`.

It takes one export at a time from `ra_exports`, writes it into a hidden folder, and renames that folder when all is
written; so a folder with a name is always whole. Started again after a crash, it begins an export anew that has been
silent for a minute, and removes what was left. On SIGTERM it drops what is half done, lets the export wait, and ends.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

import sqlalchemy as sa
import sqlalchemy.exc

from app.export import bounds, canonical, differences, jobs
from app.export.build import Built, build, same, steps
from app.export.canonical import Snapshot
from app.export.columns import Choices, columns_of
from app.export.jobs import Job, LostError
from app.models import db

POLL_S = 2.0
DOWN_S = 10.0  # until the next try while Postgres is away
TELL_S = 1.0
OURS = re.compile(r"\.?(\d+)[-.].*")  # `12-name`, and `.12.time.part` while it is written

log = logging.getLogger(__name__)


class StoppedError(Exception):
    """The process was asked to stop."""


def work(root: Path, stop: Event, *, once: bool = False) -> None:
    """Make exports until `stop` is set; with `once`, until none waits.

    Raises
    ------
    OSError
        The folder of exports cannot be made.
    """
    root.mkdir(parents=True, exist_ok=True)
    while not stop.is_set():
        try:
            sweep(root)
            job = jobs.claim()
            if job is not None:
                run(job, root, stop)
            elif once:
                return
            else:
                stop.wait(POLL_S)
        except sqlalchemy.exc.DBAPIError as error:
            log.warning("Postgres is away or busy; trying again in %d s: %s", DOWN_S, error.orig)
            db.engine.dispose()
            if once:
                raise
            stop.wait(DOWN_S)


def sweep(root: Path) -> None:
    """Remove the files of exports that a lead has removed, and what was left half written."""
    states = jobs.states()
    for path in root.iterdir():
        found = OURS.fullmatch(path.name)
        state = states.get(int(found[1])) if found else None
        if state == "removed" or (state not in {None, "running"} and path.name.startswith(".")):
            shutil.rmtree(path, ignore_errors=True)


def run(job: Job, root: Path, stop: Event) -> None:
    """Make one export. Whatever happens, nothing half written stays."""
    for left in root.glob(f".{job.export_id}.*.part"):
        shutil.rmtree(left, ignore_errors=True)
    part = root / f".{job.export_id}.{job.mark.timestamp():.6f}.part"
    try:
        if job.bounds.get("attempts", 0) > jobs.ATTEMPTS:
            _fail(job, root, f"It ended the process that made it {jobs.ATTEMPTS} times; see that process's log.")
            return
        part.mkdir()
        _make(job, root, part, stop)
    except StoppedError:
        jobs.hand_back(job)
    except LostError as error:
        log.warning("%s", error)
    except OSError as error:
        log.exception("export %s", job.name)
        _fail(job, root, _sentence(error, root))
    except (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError):
        raise  # the export stays; it is begun anew when Postgres is back
    except Exception as error:
        log.exception("export %s", job.name)
        _fail(job, root, f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}")
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _fail(job: Job, root: Path, why: str) -> None:
    """End with an error. Files of an earlier build can still be fetched."""
    jobs.end(job, "done" if (root / job.folder).is_dir() else "failed", error=why)


def _make(job: Job, root: Path, part: Path, stop: Event) -> None:
    choices = Choices(text=job.bounds.get("text", False), names=job.bounds.get("names", False))
    fixed = dict(job.bounds)
    if "labels" not in fixed:
        with _reading() as connection:
            fixed |= bounds.fix(connection)
        jobs.keep(job, **fixed)
    with _reading() as connection:
        canonical.prepare(connection)
        total = bounds.count(connection, job.studies, fixed["labels"])
        tell = _teller(job, total * steps(job.formats), stop)
        policies = fixed.get("policies")
        if policies is None:
            policies = bounds.policies(connection, job.studies)
        snapshot = Snapshot(
            studies=job.studies, bounds=fixed, policies=tuple(policies), columns=columns_of(choices, policies)
        )
        made = build(connection, snapshot, part, name=job.name, formats=job.formats, choices=choices, tell=tell)
    if "sha256" in fixed and fixed["sha256"] != made.written.sha256:
        _say_what_changed(job, root / job.folder, part)
        return
    _publish(job, root, part, made, policies)


def _reading() -> sa.engine.Connection:
    """A connection that sees one moment of the database, from its first query to its end."""
    connection = db.engine.connect().execution_options(isolation_level="REPEATABLE READ")
    connection.begin()
    return connection


def _teller(job: Job, total: int, stop: Event) -> Callable[[int], None]:
    """Return what the writers call: it stores the progress about once a second, and ends the work if it must."""
    said = 0.0

    def tell(done: int) -> None:
        nonlocal said
        if stop.is_set():
            raise StoppedError
        if time.monotonic() - said > TELL_S:
            jobs.progress(job, done, total)
            said = time.monotonic()

    tell(0)
    return tell


def _publish(job: Job, root: Path, part: Path, made: Built, policies: list[str]) -> None:
    again = {"again": {"same": True, "bytes": same(job.files, made.files)}} if "sha256" in job.bounds else {}
    jobs.progress(job, made.written.rows * steps(job.formats), made.written.rows * steps(job.formats))
    _sync(part)
    target, old = root / job.folder, root / f".{job.export_id}.old.part"
    if target.exists():
        target.rename(old)
    part.rename(target)
    _sync(root)
    shutil.rmtree(old, ignore_errors=True)
    jobs.finish(job, made.files, sha256=made.written.sha256, rows=made.written.rows, policies=policies, **again)


def _say_what_changed(job: Job, published: Path, part: Path) -> None:
    """The database does not hold the snapshot any more: the files stay as they are, and the page says why."""
    there = (published / canonical.FILE).is_file()
    if there:
        says = differences.said(published / canonical.FILE, part / canonical.FILE)
    else:
        says = "Its files are not there any more, so what has changed cannot be said. Order a new export."
    jobs.end(job, "done" if there else "removed", again={"same": False, "says": says})


def _sync(folder: Path) -> None:
    """See that the names in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sentence(error: OSError, root: Path) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT} or "No space left" in str(error):
        return (
            f"The disk of {root} is full. Nothing was kept. Remove files of older exports, then build this one again."
        )
    return f"The files cannot be written in {root}: {error.strerror or error}. Nothing was kept."
