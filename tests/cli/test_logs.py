"""`audio-pipeline logs`, with a real journal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def logs(settings_env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, str(ROOT / "src/cli.py"), "logs", *arguments]
    return subprocess.run(
        ["unshare", "--mount", sys.executable, "-m", "tests.cli.journal_host", *program],
        cwd=ROOT, env={"PATH": os.environ["PATH"], **settings_env}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_batchs_lines_are_shown_in_order_from_all_workers_and_no_others(settings_env):
    shown = logs(settings_env, "b-1")
    assert shown.returncode == 0, shown.stderr
    assert [line.partition("]: ")[2] for line in shown.stdout.splitlines()] == [
        "INFO unpack batch unpacked batch=b-1 clips=1",
        'INFO gpu clip done batch=b-1 clip="a b.mp3" audio_id=1',
        "INFO gpu batch complete batch=b-1",
    ]


def test_a_batch_that_the_journal_does_not_know_is_a_sentence(settings_env):
    for arguments in (["b-2"], ["b-1", "--since", "tomorrow"]):
        shown = logs(settings_env, *arguments)
        assert shown.returncode == 1
        assert shown.stderr.strip().endswith(f"has no line of batch {arguments[0]}")


def test_a_host_without_a_journal_says_so(cli, tmp_path):
    shown = cli("logs", "b-1", PATH=str(tmp_path))
    assert shown.returncode == 69
    assert "this host has no journalctl" in shown.stderr


def test_where_log_dir_is_set_the_files_there_are_read(cli, tmp_path):
    (tmp_path / "unpack-worker.log").write_text(
        "2026-01-31T10:00:02 INFO unpack batch unpacked batch=b-1 clips=1\n2026-01-31T10:00:03 INFO other batch=b-10\n"
    )
    (tmp_path / "transfer-worker.log").write_text("2026-01-30T10:00:01 INFO transfer archive found batch=b-1\nno line")
    (tmp_path / "ra-app.log").write_text("2026-01-31T10:00:01 INFO another program's batch=b-1\n")
    shown = cli("logs", "b-1", LOG_DIR=str(tmp_path))
    assert shown.stdout.splitlines() == [
        "2026-01-30T10:00:01 INFO transfer archive found batch=b-1",
        "2026-01-31T10:00:02 INFO unpack batch unpacked batch=b-1 clips=1",
    ]
    assert len(cli("logs", "b-1", "--since", "2026-01-31", LOG_DIR=str(tmp_path)).stdout.splitlines()) == 1
    assert cli("logs", "b-1", "--since", "soon", LOG_DIR=str(tmp_path)).returncode == 2
    none = cli("logs", "b-2", LOG_DIR=str(tmp_path))
    assert none.returncode == 1
    assert none.stderr.strip().endswith("have no line of batch b-2")
