"""Every command once as a separate process, as an operator starts it. Other tests call most of them in-process.

`make test` starts one command of each group, with every exit code among them; `make reliability` starts all.
"""

from __future__ import annotations

import pytest
import typer

from cli import app
from tests.test_floors import SRC

POLICIES = SRC.parent / "policies"

# Words of a call -> its exit code, and how its answer begins (on standard error where the code is not 0).
CALLS = {
    "status": (0, "QUEUE"),
    "batch list": (0, "No batches."),
    "batch show none": (1, "Postgres knows no batch none"),
    "batch requeue none": (1, "Postgres knows no batch none"),
    "batch cancel none": (1, "Postgres knows no batch none"),
    "failed list": (0, "No dead letters"),
    "failed show none": (1, "no dead letter has the id none"),
    "failed retry --all --yes": (0, "No dead letters"),
    "failed drop --all --yes": (0, "No dead letters"),
    "failed export /dev/null": (0, "0 dead letters written"),
    "worker list": (0, "No worker is alive."),
    "worker drain --all": (0, "all is drained"),
    "worker resume --host none": (1, "host:none is not drained"),
    "worker probe --host none --kind gpu --wait 1": (1, "none: no gpu worker"),
    "worker retire --host none --yes": (0, "none is retired"),
    "logs none": (1, "the log files in "),
    "inject unpack archives/none.tar": (1, "nothing was pushed: "),
    "inject transcribe /none.opus": (1, "nothing was pushed: "),
    "inject s3 --yes": (0, "0 jobs pushed"),
    "clip waveforms --yes": (0, "Every stored clip has a waveform and its levels."),
    "clip erase 99 --reason none --yes": (1, "Postgres knows no clip 99"),
    "reconcile --yes": (0, "Redis agrees with Postgres"),
    "expire --yes": (0, "0 archives"),
    "policy lint": (0, "/"),
    "policy test none": (1, "{policies} has no policy none"),
    "policy calibrate none --recall 0.9": (1, "{policies} has no policy none"),
    "policy diff none --new none.md": (1, "{policies} has no policy none"),
    "policy rescore --yes": (0, "Every clip has the current verdicts."),
    "config show": (0, "SETTING"),
    "config check": (0, "Redis"),
    "db init --host /nowhere": (1, "schema.sql was not applied"),
    "db check": (0, "test_"),
    "models list": (0, "production"),
    "models fetch none": (1, "there is no model set"),
    "models pin none": (1, "there is no model set"),
    "models verify none": (1, "there is no model set"),
    "models path": (0, "/"),
}


IN_THE_GATE = (
    "status", "batch show none", "failed list", "worker list", "logs none", "inject s3 --yes", "clip waveforms --yes",
    "reconcile --yes", "expire --yes", "policy lint", "config check", "db check", "models path",
)  # fmt: skip


def commands(group: object, path: tuple[str, ...] = ()) -> list[str]:
    below = getattr(group, "commands", None)
    if below is None:
        return [" ".join(path)]
    return [found for name, command in below.items() for found in commands(command, (*path, name))]


def test_every_command_is_called():
    missing = [
        command
        for command in commands(typer.main.get_command(app))
        if not any(f"{call} ".startswith(f"{command} ") for call in CALLS)
    ]
    assert missing == []


def test_the_gate_starts_a_command_of_each_group():
    assert {call.split()[0] for call in IN_THE_GATE} == {call.split()[0] for call in CALLS}
    assert {CALLS[call][0] for call in IN_THE_GATE} == {code for code, _ in CALLS.values()}


@pytest.mark.parametrize(
    "call", [pytest.param(call, marks=[] if call in IN_THE_GATE else pytest.mark.thorough) for call in CALLS]
)
def test_a_command_runs_as_a_program(program, call, tmp_path):
    code, said = CALLS[call]
    # Without a model, lint estimates the tokens: to load a tokenizer takes ten times as long as all else.
    more = {"MODELS_ROOT": str(tmp_path)} if call == "policy lint" else {}
    done = program(*call.split(), LOG_DIR=str(tmp_path), **more)
    assert done.returncode == code, done.stderr
    answer = done.stderr if code else done.stdout
    assert answer.startswith(said.format(policies=POLICIES))
    assert (done.stderr == "") == (code == 0)
