"""What the benchmarks count and print, from figures that are made up; and the GPU's script on small shapes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bench import gpu, growth, page, speech, verdicts, words, worker
from bench.clips import Clip
from bench.gpu_models import GEMMA_2_9B, LARGE_V3
from bench.growth import Cost, Turn
from bench.meter import Spent, session_cpu_seconds
from bench.report import ROOT, Table, as_text, write_json
from bench.speech_engines import Heard
from bench.worker import Round
from moderation.policies import load_policies
from tests.workers.processes import wait_until

HELLO = "hello there my friend"
BUSY = "import time\nend = time.monotonic() + 0.3\nwhile time.monotonic() < end: pass\nprint('x', flush=True)\ninput()"


def clip(name: str, kind: str, text: str = "", language: str = "en", seconds: float = 10.0) -> Clip:
    return Clip(name, kind, language if text else "", text, np.zeros(int(16_000 * seconds), np.float32))


CLIPS = [clip("a", "plain", HELLO), clip("b", "repeated", HELLO), clip("c", "music"), clip("d", "recording")]


class Told:
    """An engine that says what it was told, by the name of the file."""

    def __init__(self, name: str, texts: dict[str, str]) -> None:
        self.name, self._texts = name, texts
        self.groups: list[list[str]] = []

    def transcribe(self, files: Sequence[Path]) -> list[Heard]:
        self.groups.append([file.stem for file in files])
        return [Heard(self._texts.get(file.stem, ""), "en") for file in files]


def cells(table: Table, row: int) -> dict[str, object]:
    """The row of a table by its columns."""
    return dict(zip(table.columns, table.rows[row], strict=True))


@pytest.mark.parametrize(
    ("language", "said", "heard", "counted"),
    [
        ("en", "He has twenty-one dogs.", "he has 20 1 dogs", words.Words(5, 5, 0)),
        ("es", "Marque dos, por favor.", "marque 2 por favor", words.Words(4, 4, 0)),
        ("fr", "l'écho répété", "L’echo repete", words.Words(3, 3, 0)),
        ("ru", "Нажмите три, Алёна!", "нажмите 3 алена", words.Words(3, 3, 0)),
        ("nl", "een twee drie", "een drie", words.Words(3, 2, 1)),
        ("en", "said and lost", "", words.Words(3, 0, 3)),
        ("en", "", "made up words", words.Words(0, 0, 3)),
    ],
)
def test_words_are_counted_in_every_language(language, said, heard, counted):
    assert words.count(said, heard, language) == counted


def test_engines_get_the_same_groups_in_turn(monkeypatch):
    monkeypatch.setattr(speech, "GROUP", 1)
    engines = [Told("ours", {"a": HELLO}), Told("other", {})]
    files = {item.name: Path(f"{item.name}.opus") for item in CLIPS}
    spent, texts = speech.race(engines, CLIPS, files)
    assert engines[0].groups == engines[1].groups == [["a"], ["a"], ["b"], ["c"], ["d"]]
    assert texts["ours"]["a"].text == HELLO
    assert set(spent["other"]) == {True, False}


def test_the_time_of_the_other_engines_is_in_times_of_ours():
    spent = {"ours": {True: Spent(10.0, 5.0)}, "other": {True: Spent(15.0, 8.0)}}
    table = speech.time_table(CLIPS, spent)
    assert cells(table, 1) == {
        "engine": "other", "CPU s": "15.0", "wall s": "8.0", "times real time": "3.8", "CPU s per clip": "5.00",
        "CPU, times ours": "1.50",
    }  # fmt: skip
    assert "3 clips, 30 s" in table.title  # a recording without speech does not count


def test_words_kept_and_doubtful_windows_stand_by_kind():
    heard = {
        "a": Heard(HELLO, "en", "speech", ((HELLO, "speech"),)),
        "b": Heard("hello there", "en", "doubtful", (("hello", "speech"), ("there", "doubtful"))),
    }
    table = speech.kind_table(CLIPS, {"ours": heard})
    assert [list(row) for row in table.rows] == [
        ["plain", 1, 4, "100.0 %", "0.0 %", "0 of 1", 0],
        ["repeated", 1, 4, "50.0 %", "50.0 %", "1 of 2", 0],
        ["all but untimed", 2, 8, "75.0 %", "25.0 %", "1 of 3", 0],
    ]


def test_text_on_clips_without_speech_is_counted(capsys):
    texts = {"ours": {"c": Heard("", None), "d": Heard("Thank you.", "en", "doubtful")}, "other": {}}
    texts["other"] = {"c": Heard("la la", "en"), "d": Heard("You", "en")}
    table = speech.invented_table(CLIPS, texts)
    assert [list(row) for row in table.rows] == [["recording", 1, 1, 1], ["music", 1, 0, 1]]
    assert "ours wrote on d (doubtful): Thank you." in capsys.readouterr().out


def test_windows_that_differ_are_counted_and_shown():
    ours = {"a": Heard("x y", "en", "speech", (("x", "speech"), ("y", "speech"))), "b": Heard("z", "en")}
    other = {"a": Heard("x", "en", "speech", (("x", "speech"),)), "b": Heard("z", "en")}
    found = speech.differing(ours, other)
    assert (found["windows"], found["equal"]) == (3, 2)
    assert found["different"] == [["a", "y", "(no window)"]]


def test_a_verdict_is_equal_on_the_same_side_of_the_threshold():
    scores = {"ours": {"p": [0.49, 0.90]}, "generate, one at a time": {"p": [0.505, 0.90]}}
    table = verdicts.equality_table(scores, {"p": 0.5})
    assert list(table.rows[0]) == ["ours", 2, 1, "50.0 %", "0.01500", True]


def test_each_way_scores_every_text_under_every_policy():
    policies = load_policies(ROOT / "policies")[:2]
    ways = {"ours": lambda policy, texts: [len(policy.id) * float(len(text)) for text in texts]}
    spent, scores = verdicts.race(ways, policies, ["a", "bc"])
    assert scores["ours"] == {policy.id: [1.0 * len(policy.id), 2.0 * len(policy.id)] for policy in policies}
    table = verdicts.time_table({**spent, "other": Spent(4.0, 2.0)}, {"ours": 4, "other": 4})
    assert cells(table, 1)["wall s per verdict"] == "0.500"


def test_the_other_ways_may_score_only_a_few_of_the_texts():
    policies = load_policies(ROOT / "policies")[:1]
    ways = dict.fromkeys(("ours", "generate, one at a time"), lambda _policy, texts: [0.9 for _ in texts])
    _, scores = verdicts.race(ways, policies, ["a", "b", "c"], ["a", "b"])
    assert [len(scores[name][policies[0].id]) for name in ways] == [3, 2]
    assert list(verdicts.equality_table(scores, {policies[0].id: 0.5}).rows[0])[1:3] == [2, 2]
    twice = {"ours": Spent(3.0, 3.0), "generate, one at a time": Spent(4.0, 4.0)}
    table = verdicts.time_table(twice, {"ours": 3, "generate, one at a time": 2})
    assert cells(table, 1)["CPU, times ours"] == "2.00"


def test_the_texts_to_judge_are_some_and_never_twice():
    texts = verdicts.some_texts(40)
    assert len(texts) == len(set(texts)) == 40


def test_two_trees_are_compared_by_their_mean_and_their_words():
    rounds = [
        Round("earlier", 40.0, {"unpack": 2.0, "gpu": 18.0}, {"a": "hello", "c": "la"}, flagged=2),
        Round("this tree", 20.0, {"unpack": 2.0, "gpu": 8.0}, {"a": HELLO}),
        Round("this tree", 22.0, {"unpack": 2.0, "gpu": 8.0}, {}),
    ]
    times = worker.time_table(rounds, 2, "596228d")
    assert cells(times, 0)["CPU ratio"] == "2.00"
    assert cells(times, 1)["wall s"] == "21.0"
    heard = worker.words_table(rounds, CLIPS[:1] + CLIPS[2:3])
    assert cells(heard, 0)["plain"] == "25.0 %, 75.0 %"
    assert cells(heard, 0)["text without speech"] == "1 of 1"
    assert cells(heard, 1)["plain"] == "100.0 %, 0.0 %"


def test_growth_is_within_the_bound_or_said_not_to_be():
    """On a machine where everything takes twice as long, the ratio stays."""
    even = [Cost(10, Turn(300, 30, 60), Turn(100, 10, 20)), Cost(100, Turn(300, 62, 60), Turn(100, 20, 40))]
    assert growth.within(even)
    assert not growth.within([*even, Cost(1000, Turn(1000, 120, 200), Turn(100, 10, 20))])
    assert cells(growth.cost_table(even), 1)["ratio"] == "1.033"


def test_a_table_is_markdown_with_aligned_columns():
    assert as_text(Table("T", ["name", "n"], [["a", 1], ["long name", 200]])) == (
        "T:\n\n| name      |   n |\n| --------- | --- |\n| a         |   1 |\n| long name | 200 |"
    )


def test_figures_are_written_with_machine_and_date(tmp_path, capsys):
    target = write_json("speech", {"clips": 3}, tmp_path / "deep" / "speech.json")
    content = json.loads(target.read_text())
    assert content["clips"] == 3
    assert {"date", "processor", "cores", "torch", "commit"} <= content["machine"].keys()
    assert str(target) in capsys.readouterr().out


def test_the_page_gets_the_figures_and_keeps_those_without_new_ones(tmp_path):
    write_json("speech", {"tables": [["Time", ["engine", "CPU s"], [["ours", "1.0"]]]]}, tmp_path / "speech.json")
    old = f"# P\n{page.BEGIN}\n### Speech\n\nold\n\n### Growth\n\nkept\n{page.END}end\n"
    written = page.rewritten(old, page.results(tmp_path))
    assert "old" not in written
    assert "| ours   |   1.0 |" in written
    assert "`make bench-speech`" in written
    assert written.index("### Speech") < written.index("### Growth\n\nkept")
    assert written.endswith(f"{page.END}end\n")
    assert page.rewritten(written, page.results(tmp_path)) == written


def test_a_page_without_marks_is_refused():
    with pytest.raises(page.PageError, match="needs the lines"):
        page.rewritten("# P\n", {})


def test_the_cpu_time_of_a_program_and_of_its_children_is_seen():
    script = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BUSY!r}], stdin=subprocess.PIPE)\n{BUSY}"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as program:
        assert program.stdout
        program.stdout.readline()
        wait_until(lambda: session_cpu_seconds(program.pid) > 0, "the time of both programs to be seen")
        program.kill()


@pytest.mark.thorough
# The script collects garbage, and with it files that tests before this one left open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_gpu_script_runs_on_small_shapes(tmp_path, monkeypatch, models_root):
    target = tmp_path / "gpu.json"
    monkeypatch.setattr(gpu, "BATCHES", (1, 2))
    monkeypatch.setattr(gpu, "MEASURE_S", 0.0)
    monkeypatch.setattr(sys, "argv", ["gpu", "--small", "--models", str(models_root), "--json", str(target)])
    assert gpu.main() == 0
    roof, whisper, gemma = json.loads(target.read_text())["tables"]
    assert [row[0] for row in roof[2]] == ["matrix products, TFLOP/s", "copying, GB/s"]
    assert [row[0] for row in whisper[2]] == ["1, beam 5", "2, beam 5", "1, beam 1", "2, beam 1"]
    assert [row[0] for row in gemma[2]] == ["ours", "generate, one at a time", "padded batches of 8"]
    assert all(float(row[1].replace(",", "")) > 0 for row in [*whisper[2], *gemma[2]])


def test_the_shapes_have_the_sizes_that_are_published():
    assert LARGE_V3.encoder_flop == pytest.approx(2.59e12, rel=0.01)
    assert LARGE_V3.decoder_bytes == pytest.approx(1.60e9, rel=0.01)
    assert LARGE_V3.cross_bytes == pytest.approx(0.246e9, rel=0.01)
    assert GEMMA_2_9B.flop_per_token == pytest.approx(16.65e9, rel=0.01)
