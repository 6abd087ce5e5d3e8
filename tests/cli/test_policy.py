"""`audio-pipeline policy` with a scripted model: arguments, output, exit codes, and what is recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from db import TranscriptArchive
from policy_lab import model
from tests.policy_lab.archive import Archive
from tests.policy_lab.policy_files import write_policy
from tests.policy_lab.scripted_scorer import ScriptedScorer

EXAMPLES = [
    ("we hurt you", 1), ("kill kill kill", 1), ("you will pay", 1),
    ("nice hot tea", 0), ("hurt my knee", 0), ("kill the lights", 0),
]  # fmt: skip


@pytest.fixture
def scorer(monkeypatch: pytest.MonkeyPatch) -> ScriptedScorer:
    """The scripted model in the place of the set's own, under that one's name."""
    found = ScriptedScorer(name="gemma-3-270m-demo", prompt_version="cope-a-1-overview")
    monkeypatch.setattr(model, "load_scorer", lambda _: found)
    return found


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    write_policy(folder, "threats", "hurt kill", threshold=0.3)
    write_policy(folder, "scams", "money card", threshold=0.3)
    return folder


@pytest.fixture
def policy(cli: Any, policies: Path) -> Callable[..., Any]:
    return lambda *arguments, **more: cli("policy", *arguments, POLICIES_DIR=str(policies), **more)


@pytest.fixture
def no_models(tmp_path: Path) -> dict[str, str]:
    """Without a tokenizer, lint estimates the tokens, and loads no library that takes seconds."""
    return {"MODELS_ROOT": str(tmp_path)}


@pytest.fixture
def examples(tmp_path: Path) -> str:
    path = tmp_path / "examples.jsonl"
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in EXAMPLES))
    return str(path)


@pytest.fixture
def archive(settings: Any, query: Any) -> Any:
    opened = TranscriptArchive(settings)
    yield Archive(opened, query, settings)
    opened.close()


def test_lint_lists_all_problems_with_file_and_line(policy, policies, no_models):
    assert policy("lint", **no_models).stdout.endswith("2 files without problems\n")
    path = write_policy(policies, "threats", "hurt", version="1", threshold=2)
    done = policy("lint", **no_models)
    assert done.returncode == 1
    assert [line.split(": ")[0] for line in done.stdout.splitlines()[:2]] == [f"{path}:3", f"{path}:5"]
    assert done.stderr == "2 problems in 2 files\n"
    assert policy("lint", str(policies / "scams.md"), **no_models).returncode == 0


@pytest.mark.thorough
def test_lint_calls_an_estimate_an_estimate(policy, tmp_path):
    exact, guess = policy("lint"), policy("lint", MODELS_ROOT=str(tmp_path))
    assert "The tokens are estimated" not in exact.stdout
    assert "scams.md: about" not in exact.stdout
    assert (
        "The tokens are estimated from the characters: the tokenizer of gemma-3-270m-demo is not here" in guess.stdout
    )
    assert "scams.md: about " in guess.stdout


def test_no_service_and_no_key_is_needed_to_write_a_policy(policy, examples, scorer, no_models):
    nothing = {**no_models, "S3_ENDPOINT": "", "POSTGRES_HOST": "nowhere", "REDIS_HOST": "nowhere"}
    assert policy("lint", **nothing).returncode == 0
    assert policy("test", "threats", "--examples", examples, **nothing).returncode == 0
    assert policy("calibrate", "threats", "--examples", examples, "--recall", "0.5", **nothing).returncode == 0
    assert scorer.asked


def test_a_test_shows_figures_counts_and_the_worst_mistakes_first(policy, examples, scorer):  # noqa: ARG001
    done = policy("test", "threats", "--examples", examples)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == ("threats@1.0.0 by gemma-3-270m-demo (prompt cope-a-1-overview), threshold 0.3, 6 examples")
    assert lines[1].split() == ["precision", "0.500", "(95", "%:", "0.150", "to", "0.850)"]
    assert lines[2].split()[:2] == ["recall", "0.667"]
    assert lines[3].split()[:2] == ["F1", "0.571"]
    assert [line.split()[-2:] for line in lines[5:7]] == [["2", "2"], ["1", "1"]]
    assert [line.split()[0] for line in lines[8:11]] == ["3", "5", "6"]
    assert lines[8].split()[1:] == ["0.0000", "missed", "you", "will", "pay"]


def test_a_test_gives_its_figures_to_other_programs(policy, examples, scorer):  # noqa: ARG001
    [found] = json.loads(policy("test", "threats", "--examples", examples, "--json").stdout)
    assert found["counts"] == {"hits": 2, "false_alarms": 2, "misses": 1, "rest": 1}
    assert found["precision"]["value"] == 0.5
    assert found["mistakes"][0] == {"line": 3, "text": "you will pay", "label": 1, "score": 0.0}


def test_a_test_below_its_bars_fails_and_says_which(policy, examples, scorer):  # noqa: ARG001
    asked = ["test", "threats", "--examples", examples]
    assert policy(*asked, "--min-precision", "0.5", "--min-recall", "0.6").returncode == 0
    done = policy(*asked, "--min-precision", "0.6", "--min-recall", "0.9")
    assert done.returncode == 1
    assert done.stderr == (
        "the precision of threats is 0.500, but must be at least 0.6; "
        "the recall of threats is 0.667, but must be at least 0.9\n"
    )
    none_flagged = policy(*asked, "--threshold", "1", "--min-precision", "0.1", "--worst", "0")
    assert none_flagged.returncode == 0  # one example has a score of 1
    assert policy("test", "scams", "--examples", examples, "--min-precision", "0.1").stderr.startswith(
        "the precision of scams is not defined"
    )


def test_all_policies_are_tested_on_the_examples_beside_them(policy, policies, examples, scorer):  # noqa: ARG001
    (policies / "tests").mkdir()
    for name in ("threats", "scams"):
        (policies / "tests" / f"{name}.jsonl").write_text(Path(examples).read_text())
    found = json.loads(policy("test", "--json").stdout)
    assert [result["policy"] for result in found] == ["scams", "threats"]


def test_mistakes_in_what_is_given_are_named(policy, tmp_path, scorer):
    assert "has no policy none; there are scams, threats" in policy("test", "none").stderr
    assert "tests/threats.jsonl cannot be read: No such file" in policy("test", "threats").stderr
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "a"}\n')
    assert policy("test", "threats", "--examples", str(bad)).stderr.startswith(f"{bad}:1: the example has no label")
    assert policy("calibrate", "threats", "--examples", str(bad)).returncode == 2
    assert scorer.asked == []


def test_a_calibration_prints_the_line_to_write(policy, policies, examples, scorer):
    done = policy("calibrate", "threats", "--examples", examples, "--precision", "0.9")
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("In the file of the policy:")]
    threshold = line.split(" = ")[1]
    assert f'thresholds = {{ "threats@1.0.0" = {threshold} }}' in done.stdout
    assert "has a threshold of its own" not in done.stdout
    write_policy(policies, "threats", "hurt kill", threshold=float(threshold))
    assert policy("test", "threats", "--examples", examples, "--min-precision", "0.9").returncode == 0
    scorer.thresholds = {"threats": 0.77}
    warned = policy("calibrate", "threats", "--examples", examples, "--precision", "0.9")
    assert "gemma-3-270m-demo has a threshold of its own for threats, 0.77, which counts" in warned.stdout


def test_a_calibration_out_of_reach_says_what_can_be_reached(policy, examples, scorer):  # noqa: ARG001
    done = policy("calibrate", "threats", "--examples", examples, "--recall", "1")
    assert done.returncode == 1
    assert "no threshold gives a recall of 1 on these 6 examples: the best is 0.667" in done.stderr


def test_a_diff_shows_what_would_change_and_stores_nothing(policy, archive, tmp_path, scorer):  # noqa: ARG001
    for text in ("kill you now", "punch you now", "nice hot tea"):
        archive.store(text)
    assert policy("rescore", "threats", "--yes").returncode == 0
    before = archive.rows()
    draft = str(write_policy(tmp_path / "drafts", "threats", "punch", version="1.1.0", threshold=0.3))
    done = policy("diff", "threats", "--new", draft)
    assert done.returncode == 0, done.stderr
    for line in (
        "threats 1.0.0 -> 1.1.0 by gemma-3-270m-demo: 3 transcripts scored",
        "1 of the 1 clips flagged now: 0 newly flagged (of all: 0 to 0), 1 no longer flagged (of all: 1 to 1)",
        "2 of the 2 clips not flagged now: 1 newly flagged (of all: 1 to 1), 0 no longer flagged (of all: 0 to 0)",
    ):
        assert line in done.stdout
    assert [line.split()[3] for line in done.stdout.splitlines()[1:3]] == ["no", "newly"]
    by_version = json.loads(policy("diff", "threats", "--old", "1.0.0", "--new", draft, "--json").stdout)
    assert (by_version["old_version"], len(by_version["changes"])) == ("1.0.0", 2)
    assert archive.rows() == before
    missing = policy("diff", "threats", "--old", "0.9.0", "--new", draft)
    assert "there is no stored transcript with a verdict of threats 0.9.0" in missing.stderr
    other = policy("diff", "scams", "--new", draft)
    assert "is the policy threats, not scams" in other.stderr


def test_a_rescore_shows_asks_stores_and_is_recorded(policy, archive, actions, scorer):
    archive.store("kill you now")
    archive.store("nice hot tea")
    shown = policy("rescore", "--dry-run")
    assert shown.stdout.splitlines() == [
        "scams@1.0.0: 2 clips to judge", "threats@1.0.0: 2 clips to judge", "2 clips in all; languages: en 2",
    ]  # fmt: skip
    refused = policy("rescore")
    assert refused.returncode == 1
    assert "add --yes" in refused.stderr
    assert (archive.verdicts(), scorer.asked, actions()) == ([], [], [])
    done = policy("rescore", "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[3:] == [
        "2 clips judged again", "threats: 1 clip newly flagged, 0 no longer flagged",
    ]  # fmt: skip
    assert actions() == [("policy rescore", "scams@1.0.0, threats@1.0.0", 2)]
    assert policy("rescore", "--yes").stdout == "Every clip has the current verdicts.\n"
    assert policy("rescore", "--not-judged").stdout == "No clip was recorded as not judged.\n"


def test_ctrl_c_leaves_whole_clips_and_says_how_to_continue(policy, archive, query, scorer):
    archive.store("kill you now")

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    scorer.before = interrupt
    done = policy("rescore", "threats", "--yes")
    assert done.returncode == 130
    assert done.stderr == "stopped; 0 clips done, each with all its verdicts; the same command continues\n"
    ended = query("SELECT affected, details->>'ended_by' FROM operator_actions WHERE affected IS NOT NULL")
    assert ended == [(0, "KeyboardInterrupt")]
    assert archive.verdicts() == []


def test_a_rescore_takes_only_what_it_knows(policy, scorer):
    assert "has no policy none; there are scams, threats" in policy("rescore", "none").stderr
    assert "Postgres knows no batch none" in policy("rescore", "--batch", "none").stderr
    assert policy("rescore", "--since", "yesterday").returncode == 2
    assert scorer.asked == []
