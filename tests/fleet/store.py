"""The S3 endpoint of the fleet: an OpenStack Swift on this machine, which listens on the bridge's address.

`python -m tests.fleet.store` runs until it is stopped; `up` starts it and `down` stops it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time

from local.services.process import reap_leftover, started_at, tail
from local.services.state import State
from local.services.swift import Swift
from tests.fleet.layout import CONTROLLER, FLEET, ROOT, RUN, FleetError

BUCKET = "audio-archives"
BACKUPS = "fleet-backups"
FOLDER = FLEET / "store"
PIDFILE = RUN / "store.pid"
LOG = RUN / "store.log"
READY = RUN / "store.ready"
START_S = 60.0


def store() -> Swift:
    """The endpoint and its keys. The server is a separate process."""
    return Swift(FOLDER, State(FOLDER), CONTROLLER)


def start() -> None:
    """Start the server in the background if it does not run."""
    if serving():
        return
    RUN.mkdir(parents=True, exist_ok=True)
    READY.unlink(missing_ok=True)
    with LOG.open("ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.fleet.store"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=ROOT,
        )
    PIDFILE.write_text(json.dumps({"pid": server.pid, "started": started_at(server.pid)}))
    deadline = time.monotonic() + START_S
    while not READY.exists():
        if server.poll() is not None or time.monotonic() > deadline:
            raise FleetError(f"the S3 endpoint did not start; its log says:\n{tail(LOG)}")
        time.sleep(0.1)


def stop() -> None:
    reap_leftover(PIDFILE)


def serving() -> bool:
    try:
        identity = json.loads(PIDFILE.read_text())
    except (OSError, ValueError):
        return False
    return identity["started"] is not None and started_at(identity["pid"]) == identity["started"] and READY.exists()


def serve() -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    swift = store()
    swift.start()
    try:
        swift.make_bucket(BUCKET)
        swift.make_bucket(BACKUPS)
        READY.touch()
        stop.wait()
    finally:
        swift.stop()


if __name__ == "__main__":
    serve()
