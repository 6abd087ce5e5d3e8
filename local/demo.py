"""Run the whole system on this machine: `python -m local.demo run | check | reset`, or `make demo`, `make demo-check`.

The demo starts the real services, the three workers and the RA app. The transfer worker finds the sample archive, and
the demo shows the progress of its clips and compares the results with the manifest. `run` then serves until Ctrl-C.
`check` stops, with exit code 0 only if every check passed. All data are in `.demo/` and stay for the next start;
`reset` deletes them.

When this program ends, also by a signal, it stops every process that it has started, and no others.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

import psycopg2

from local import demo_paths as paths
from local import demo_programs as programs
from local import demo_report as report
from local.demo_coders import CODERS
from local.demo_console import Screen
from local.demo_person import Person, PersonError
from local.demo_progress import Progress, Reader
from local.demo_results import Check, checks, read_results, read_truths
from local.demo_study import order_export, play, wait_for_export
from local.samples.archive import build_archive, load_manifest
from local.samples.librivox import LibrivoxError, fetch_librivox
from local.services import ServiceError, Services
from local.services.process import ServerProcess, reap_leftover
from local.services.stack import DATABASE
from local.services.state import write_private

STALL_S = 10 * 60.0  # without a change of any count; a busy machine needs a minute for a clip
BATCH_LIMIT_S = 2 * 3600.0
CLEAR_S = 15.0  # after a batch's completion, for the removal of its scratch and keys; the checks fail if it is not done
LOOK_S = 0.5
LEFT_TO_DECIDE = 2  # disagreements of the coders, for whoever uses the demo
EXIT_FAILED, EXIT_INTERRUPTED = 1, 130


class Demo:
    """One run: `prepare`, `process`, `report`."""

    def __init__(self, screen: Screen, services: Services, cleanup: contextlib.ExitStack) -> None:
        self.screen = screen
        self.services = services
        self.cleanup = cleanup
        self.programs: list[ServerProcess] = []
        self.address = ""
        self.worked = False  # False: an earlier run has processed the batch
        self.ra_app_after_s = 0.0

    def prepare(self) -> None:
        """Start the services and programs, and put the archive where the transfer worker looks for it."""
        with self.screen.step("Models", "the first time about 300 MB and a minute or two, later only a check"):
            self._fetch_models()
        with self.screen.step("LibriVox sentences", "34 MB the first time"):
            librivox = fetch_librivox(paths.LIBRIVOX)
        with self.screen.step("Services: Valkey, PostgreSQL, Swift, SFTP host"):
            self.cleanup.callback(self.services.stop)
            self.services.start()
            self.services.make_bucket()
            paths.write_env_file(self.services)
        with self.screen.step("Database: schema.sql"):
            self.services.make_database()
        with self.screen.step("RA app: migrations and two accounts"):
            self._prepare_ra_app()
        with self.screen.step("RA app"):
            self._start_ra_app()
        with self.screen.step("Workers: transfer, unpack, gpu"):
            self._start_workers()
        with self.screen.step("Sample archive"):
            self.archive = self._place_archive(librivox)

    def process(self) -> Progress:
        """Wait until the batch is complete, with all programs alive.

        Raises
        ------
        ServiceError
            A program ended, there was no progress for `STALL_S`, or the batch took longer than `BATCH_LIMIT_S`.
        """
        reader = Reader(self.services, self.archive)
        began = moved = time.monotonic()
        last = Progress()
        with self.screen.step("Clips", "takes minutes the first time: two models run on the CPU"):
            while not (progress := reader.read()).complete:
                self.worked = True
                self.screen.update(str(progress))
                programs.check_alive(self.programs)
                now = time.monotonic()
                if progress != last:
                    last, moved = progress, now
                if now - moved > STALL_S or now - began > BATCH_LIMIT_S:
                    raise ServiceError(
                        f"No progress for {now - moved:.0f} s, {now - began:.0f} s after the start; {progress}. "
                        f"See the logs in {paths.shown(paths.LOGS)}."
                    )
                time.sleep(LOOK_S)
            deadline = time.monotonic() + CLEAR_S
            while reader.traces_left(progress.batch_id or "") and time.monotonic() < deadline:
                time.sleep(LOOK_S)
        return progress

    def study(self, progress: Progress) -> Check:
        """Let three coders label a sample of the clips, and a lead decide where they disagree, unless it is done."""
        with self.screen.step("Study: a lead and three coders"):
            passwords = {coder.username: self._account(coder.username, "ra") for coder in CODERS}
            truths = read_truths(self.services, progress.batch_id or "", load_manifest())
            with Person(self.address, paths.RA_LEAD, self._password(paths.RA_LEAD)) as lead:
                try:
                    played = play(self.address, lead, passwords, truths, undecided=LEFT_TO_DECIDE)
                    if played is not None:
                        wait_for_export(lead, order_export(lead, played.study_id))
                except PersonError as error:
                    return Check("study", False, str(error))
        return Check("study", True, str(played) if played is not None else "made by an earlier start")

    def report(self, progress: Progress) -> bool:
        """Show the results and return whether every check passed."""
        results = read_results(self.services, progress.batch_id or "", load_manifest())
        found = [*checks(results), self.study(progress)]
        report.show_clips(self.screen, results)
        gpu_peak = programs.peak_memory_bytes(self.programs[-1]) if self.worked else None
        report.show_figures(self.screen, results, gpu_peak, self.ra_app_after_s)
        report.show_checks(self.screen, found)
        return all(check.passed for check in found)

    def serve(self) -> NoReturn:
        """Stay until a signal comes or a program ends."""
        report.show_addresses(self.screen, self.address)
        self.screen.say("The demo runs until you press Ctrl-C.", "bold")
        while True:
            programs.check_alive(self.programs)
            time.sleep(LOOK_S)

    def _fetch_models(self) -> None:
        programs.run_command(
            "Fetching the models",
            [sys.executable, "-m", "models", "fetch", "demo"],
            cwd=paths.ROOT / "src",
            env={"MODELS_ROOT": str(paths.models_root())},
            log=paths.LOGS / "models.log",
            watch=self.screen.update,
        )

    def _prepare_ra_app(self) -> None:
        env = paths.ra_app_environ(self.services)
        flask = [sys.executable, "-m", "flask"]
        home = paths.ROOT / "ra_app"
        for command, log in ((["db", "upgrade"], "migrate.log"), (["codebook", "publish"], "codebook.log")):
            programs.run_command(
                f"flask {' '.join(command)}", [*flask, *command], cwd=home, env=env, log=paths.LOGS / log
            )
        for username, role in paths.RA_ACCOUNTS.items():
            write_private(paths.password_file(username), self._account(username, role) + "\n")

    def _password(self, username: str) -> str:
        return self.services.state.secret(f"ra-{username}-password", 16)

    def _account(self, username: str, role: str) -> str:
        """Make an account of the RA app, unless it is there, and return its password."""
        password = self._password(username)
        if username not in self._accounts():
            programs.run_command(
                f"flask users create {username}",
                [sys.executable, "-m", "flask", "users", "create", username, "--role", role, "--password-stdin"],
                cwd=paths.ROOT / "ra_app",
                env=paths.ra_app_environ(self.services),
                log=paths.LOGS / "users.log",
                given=password + "\n",
            )
        return password

    def _accounts(self) -> set[str]:
        connection = psycopg2.connect(self.services.postgres.dsn("ra_app", DATABASE))
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute("SELECT username FROM ra_users")
                return {username for (username,) in cursor.fetchall()}
        finally:
            connection.close()

    def _start_ra_app(self) -> None:
        port = programs.ra_app_port(self.services.state)
        env = paths.ra_app_environ(self.services)
        app = programs.ra_app(env, port)
        self._start(app)
        self._start(programs.exports(env))
        app.wait_ready(lambda: programs.ra_app_answers(port), programs.RA_APP_READY_S)
        self.address = f"http://127.0.0.1:{port}/"
        self.ra_app_after_s = self.screen.elapsed_s
        self.screen.say(f"             {self.address}")

    def _start_workers(self) -> None:
        for folder in (paths.SCRATCH, paths.STAGING):
            folder.mkdir(parents=True, exist_ok=True)
        for kind in programs.WORKERS:
            self._start(programs.worker(kind, paths.pipeline_environ(self.services)))

    def _start(self, program: ServerProcess) -> None:
        program.reap()
        self.programs.append(program)
        program.start()

    def _place_archive(self, librivox: list[Path]) -> Path:
        """Put the archive on the SFTP host, unless it is there already: a new file would become a new batch."""
        made = build_archive(paths.DEMO / "archive", librivox)
        there = self.services.ssh.archives / made.name
        if not there.exists() or there.read_bytes() != made.read_bytes():
            partial = there.with_name(f".{there.name}.part")
            shutil.copyfile(made, partial)
            partial.replace(there)
        return there


def _on_signal(handler: Callable[[int, FrameType | None], None]) -> None:
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    _on_signal(_ignore)
    raise KeyboardInterrupt


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Ignore signals while the programs are stopped. SIG_IGN is not used, because new processes would inherit it."""


def main(command: str) -> int:
    screen = Screen()
    services = Services(paths.DEMO)
    if command == "reset":
        return reset(screen, services)
    _on_signal(_interrupt)
    with contextlib.ExitStack() as cleanup:
        demo = Demo(screen, services, cleanup)
        try:
            return run(demo, serve=command == "run")
        except KeyboardInterrupt:
            screen.say("\nStopping the programs and services of the demo.")
            return 0 if command == "run" and demo.address else EXIT_INTERRUPTED
        except (ServiceError, LibrivoxError, OSError, ValueError) as error:
            screen.say(f"\n{error}", "red")
            return EXIT_FAILED
        finally:
            _on_signal(_ignore)
            programs.stop_all(demo.programs)


def run(demo: Demo, *, serve: bool) -> int:
    demo.prepare()
    passed = demo.report(demo.process())
    if serve:
        demo.serve()
    demo.screen.say("All checks passed." if passed else "Some checks failed.", "green" if passed else "red")
    return 0 if passed else EXIT_FAILED


def reset(screen: Screen, services: Services) -> int:
    """Stop processes that a crashed run has left, and delete the demo's data."""
    try:
        services.claim()
    except ServiceError as error:
        screen.say(str(error), "red")
        return EXIT_FAILED
    for pidfile in sorted(paths.RUN.glob("*.pid")):
        reap_leftover(pidfile)
    shutil.rmtree(paths.DEMO)
    services.stop()
    screen.say(f"Deleted {paths.shown(paths.DEMO)}/. The models and the environment stay.")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m local.demo", description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=["run", "check", "reset"])
    sys.exit(main(parser.parse_args().command))
