"""The tools of a scenario: run commands, place archives, require conditions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.fleet import machine
from tests.fleet.layout import HOSTS, FleetError
from tests.fleet.ledger import GPU_HOSTS, Ledger
from tests.fleet.playbooks import Outcome, Running

BACKLOG = 3  # archives: one for each of two GPU hosts, and one that waits
FEED_S = 2.0
SETTLE_S = 30.0  # longest time from the last batch's completion until scratch and keys are removed


class ScenarioError(AssertionError):
    """A condition was not met; the message says what was expected and what was found."""


@dataclass
class Figures:
    """One line of the report."""

    name: str
    hosts: int = 0
    tasks: int = 0
    changed: int = 0
    seconds: float = 0.0
    jobs: int = 0
    lost: int = 0
    doubled: int = 0
    trouble: str = ""


@dataclass
class World:
    ledger: Ledger = field(default_factory=Ledger)
    figures: Figures = field(default_factory=lambda: Figures("none"))
    settled: int = 0  # clips that earlier scenarios have checked

    def begin_scenario(self, name: str) -> Figures:
        self.figures = Figures(name)
        return self.figures

    def run(self, line: str, *, fails: bool = False) -> Outcome:
        """Run a command of the guide. With `fails` it must fail."""
        return self.take(self.begin(line), fails=fails)

    def begin(self, line: str) -> Running:
        self.say(f"$ {line}")
        return Running(line)

    def take(self, running: Running, *, fails: bool = False) -> Outcome:
        """Wait for a command, add its numbers to the report, and check its exit code."""
        outcome = running.wait()
        self.figures.hosts = max(self.figures.hosts, len(outcome.ok))
        self.figures.tasks += sum(outcome.ok.values())
        self.figures.changed += sum(outcome.changed.values())
        self.say(f"  exit code {outcome.code} after {outcome.took_s:.0f} s")
        if (outcome.code != 0) != fails:
            wanted = "must fail, and did not" if fails else f"failed with {outcome.code}"
            raise ScenarioError(f"{outcome.line} {wanted}; see {outcome.log}:\n{outcome.last_words()}")
        return outcome

    def run_at_work(self, line: str, *, fails: bool = False) -> Outcome:
        """Run a command while the fleet has work, from the start of the command to its end."""
        done = self.ledger.clips_done()
        self.ledger.place("small", BACKLOG)
        self.ledger.wait(lambda: self.ledger.clips_done() > done, "the fleet is at work")
        running = self.begin(line)
        while not running.ended:
            if len(self.ledger.unfinished()) < BACKLOG:
                self.ledger.place("small")
            time.sleep(FEED_S)
        return self.take(running, fails=fails)

    def require(self, holds: object, sentence: str) -> None:
        """Raise ScenarioError unless the condition holds. The sentence says what was found instead."""
        if not holds:
            raise ScenarioError(sentence)

    def until(self, condition: Callable[[], bool], what: str, limit_s: float = 60.0) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > deadline:
                raise ScenarioError(f"after {limit_s:.0f} s it still does not hold that {what}")
            time.sleep(0.5)

    def settle_accounts(self, limit_s: float = 900.0) -> None:
        """Wait for the end of all work, and require that nothing was lost, counted twice or left behind."""
        try:
            self.ledger.wait_until_complete(limit_s)
        except FleetError as error:
            raise ScenarioError(str(error)) from error
        deadline = time.monotonic() + SETTLE_S
        while (audit := self.ledger.audit()).troubles and time.monotonic() < deadline:
            time.sleep(1)
        figures = self.figures
        figures.jobs += audit.jobs - self.settled
        figures.lost, figures.doubled = len(audit.lost), len(audit.doubled)
        self.settled = audit.jobs
        self.require(not audit.troubles, "the accounts do not balance:\n  " + "\n  ".join(audit.troubles[:20]))

    def gpu_hosts(self) -> list[str]:
        return [name for name in GPU_HOSTS if machine.is_up(HOSTS[name])]

    def say(self, text: str) -> None:
        print(f"    {text}", flush=True)
