"""Conversion in parallel: a failure concerns only its clip, and no process outlives its parent."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from errors import AudioError, OperatorError, RetryableError
from media.audio import ConvertedClip, convert_to_opus
from media.conversion import convert_all

MakeAudio = Callable[..., Path]
SRC = Path(__file__).resolve().parents[2] / "src"


def misbehave(source: Path, target: Path, *, max_clip_s: float) -> ConvertedClip:
    """Replaces the decoder by one with a defect, which the clip's name chooses."""
    if "hang" in source.name:
        while True:
            pass
    if "die" in source.name:
        os.kill(os.getpid(), signal.SIGKILL)
    if "crash" in source.name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "leave" in source.name:
        os._exit(3)
    if "memory" in source.name:
        bytearray(8 << 30)  # a header that claims too much
    if "disk" in source.name:
        raise OperatorError("the disk is full")
    if "term" in source.name:
        os.kill(os.getpid(), signal.SIGTERM)  # as sent to a whole control group; blocked
    return convert_to_opus(source, target, max_clip_s=max_clip_s)


def run(jobs: list[tuple[Path, Path]], **settings: object) -> dict[int, object]:
    options: dict[str, object] = {"processes": 2, "clip_timeout_s": 30, "max_clip_s": 60} | settings
    return dict(convert_all(jobs, **options))  # type: ignore[arg-type]


def test_every_clip_is_converted_and_told_apart_by_its_index(make_audio: MakeAudio, tmp_path: Path) -> None:
    jobs = [(make_audio(f"{n}.wav", seconds=0.5 + n / 10), tmp_path / f"{n}.opus") for n in range(7)]
    outcomes = run(jobs)
    assert sorted(outcomes) == list(range(7))
    for index, clip in outcomes.items():
        assert isinstance(clip, ConvertedClip)
        assert clip.duration_s == pytest.approx(0.5 + index / 10, abs=0.01)
        assert jobs[index][1].stat().st_size > 0


def test_bad_clips_fail_alone(make_audio: MakeAudio, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp3"
    bad.write_text("no audio")
    outcomes = run([(bad, tmp_path / "bad.opus"), (make_audio("good.mp3"), tmp_path / "good.opus")], processes=0)
    assert isinstance(outcomes[0], AudioError)
    assert isinstance(outcomes[1], ConvertedClip)


def test_no_jobs_no_outcomes() -> None:
    assert run([]) == {}


BAD: dict[str, tuple[type[Exception], str]] = {
    "hang.wav": (AudioError, "takes longer than 2 s"),
    "crash.wav": (AudioError, "signal 11"),
    "disk.wav": (OperatorError, "disk is full"),
    "die.wav": (AudioError, "signal 9"),
    "leave.wav": (AudioError, "status 3"),
    "memory.wav": (AudioError, "memory"),
}


@pytest.mark.parametrize(
    "bad",
    [
        ("hang.wav", "crash.wav", "disk.wav"),
        *(pytest.param((name,), id=name, marks=pytest.mark.thorough) for name in BAD),
    ],
)
def test_a_decoder_that_hangs_or_dies_takes_only_its_clip(
    make_audio: MakeAudio, tmp_path: Path, bad: tuple[str, ...]
) -> None:
    names = ["a.wav", *bad, "b.wav", "c.wav"]
    jobs = [(make_audio(item), tmp_path / f"{item}.opus") for item in names]
    outcomes = run(jobs, convert=misbehave, clip_timeout_s=2)
    for index, name in enumerate(names):
        kind, said = BAD.get(name, (ConvertedClip, ""))
        assert isinstance(outcomes[index], kind), name
        assert said in str(outcomes[index])
        assert jobs[index][1].exists() == (name not in BAD)


def test_sigterm_to_the_whole_group_does_not_cost_a_clip(make_audio: MakeAudio, tmp_path: Path) -> None:
    outcomes = run([(make_audio("term.wav"), tmp_path / "x.opus")], convert=misbehave)
    assert isinstance(outcomes[0], ConvertedClip)
    assert not isinstance(outcomes[0], RetryableError)


def test_a_request_to_stop_ends_running_conversions_at_once(make_audio: MakeAudio, tmp_path: Path) -> None:
    jobs = [(make_audio(f"{n}-hang.wav"), tmp_path / f"{n}.opus") for n in range(4)]
    started = time.monotonic()
    outcomes = run(jobs, convert=misbehave, should_stop=lambda: time.monotonic() - started > 1)
    assert outcomes == {}
    assert time.monotonic() - started < 5
    assert _children_named("hang") == []


def test_a_directory_for_temporary_files_with_a_long_path_is_named(make_audio: MakeAudio, tmp_path: Path) -> None:
    long = tmp_path / ("d" * 100)
    long.mkdir()
    program = textwrap.dedent(f"""
        from pathlib import Path
        from media.conversion import convert_all
        jobs = [(Path({str(make_audio("a.wav"))!r}), Path("a.opus"))]
        list(convert_all(jobs, processes=1, clip_timeout_s=60, max_clip_s=60))
    """)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(SRC), "TMPDIR": str(long)}, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert re.search(
        rf"OperatorError: the processes that .* {re.escape(str(long))} \(TMPDIR\): its path must be short", done.stderr
    )


def test_children_do_not_outlive_a_parent_that_is_killed(make_audio: MakeAudio, tmp_path: Path) -> None:
    jobs = [(str(make_audio("hang.wav")), str(tmp_path / "x.opus"))]
    program = textwrap.dedent(f"""
        import sys
        sys.path[:0] = [{str(SRC)!r}, {str(Path(__file__).parent)!r}]
        from pathlib import Path
        from media.conversion import convert_all
        from test_conversion import misbehave
        if __name__ == "__main__":
            jobs = [(Path(a), Path(b)) for a, b in {jobs!r}]
            for _ in convert_all(jobs, processes=1, clip_timeout_s=600, max_clip_s=60, convert=misbehave):
                pass
    """)
    script = tmp_path / "parent.py"
    script.write_text(program)
    parent = subprocess.Popen([sys.executable, str(script)], start_new_session=True)
    try:
        family = _wait_for(lambda: [pid for pid in _session(parent.pid) if _busy(pid)], 30)
        assert family
        parent.kill()
        parent.wait()
        _wait_for(lambda: not _session(parent.pid), 10)
        assert _session(parent.pid) == []
    finally:
        for pid in _session(parent.pid):
            os.kill(pid, signal.SIGKILL)


def _wait_for(condition: Callable[[], object], limit_s: float) -> object:
    end = time.monotonic() + limit_s
    while not (result := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return result


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _session(session: int) -> list[int]:
    """The living processes of a session."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    stats = {pid: _stat(pid) for pid in pids}
    return [pid for pid, stat in stats.items() if stat and stat[3] == str(session) and stat[0] != "Z"]


def _busy(pid: int) -> bool:
    """True for the forked child that spins: it has the fork server as parent, not the session's leader."""
    stat = _stat(pid)
    return bool(stat) and stat[1] not in {stat[3], "1"} and pid != int(stat[3]) and int(stat[11]) > 50


def _children_named(_: str) -> list[int]:
    return [pid for pid in _session(os.getsid(0)) if _stat(pid)[1:2] == [str(os.getpid())] and _busy(pid)]


@pytest.mark.thorough
def test_processes_that_start_while_their_pool_ends_print_nothing(make_audio: MakeAudio, tmp_path: Path) -> None:
    """With few short clips, most processes are still starting when the last clip is done."""
    jobs = [(str(make_audio(f"{n}.wav", seconds=0.3)), str(tmp_path / f"{n}.opus")) for n in range(6)]
    program = textwrap.dedent(f"""
        import sys
        sys.path[:0] = [{str(SRC)!r}]
        from pathlib import Path
        from media.conversion import convert_all
        if __name__ == "__main__":
            jobs = [(Path(a), Path(b)) for a, b in {jobs!r}]
            for count in [1, 2, 6] * 5:
                done = list(convert_all(jobs[:count], processes=6, clip_timeout_s=60, max_clip_s=60))
                assert len(done) == count
            for _ in convert_all(jobs, processes=6, clip_timeout_s=60, max_clip_s=60):
                break
            list(convert_all(jobs, processes=6, clip_timeout_s=60, max_clip_s=60, should_stop=lambda: True))
    """)
    script = tmp_path / "parent.py"
    script.write_text(program)
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
