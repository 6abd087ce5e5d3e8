"""`audio-pipeline-health`: its findings on a host, and its alerts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "ansible/roles/common/files/host_health.py"


class Listener(ThreadingHTTPServer):
    """Keeps what is posted; answers GET with `status`."""

    def __init__(self) -> None:
        self.posts: list[dict[str, Any]] = []
        self.status = 200
        super().__init__(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Answer(BaseHTTPRequestHandler):
    server: Listener

    def do_GET(self) -> None:
        self.send_response(self.server.status)
        self.end_headers()

    def do_POST(self) -> None:
        self.server.posts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as server:
        yield server
        server.shutdown()


class Looker:
    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder, self.env = folder, env

    def run(self, *arguments: str, **config: Any) -> subprocess.CompletedProcess[str]:
        file = self.folder / "health.json"
        file.write_text(json.dumps({"host": "gpu-01", **config}))
        state = self.folder / "state/last.json"
        command: list[str | Path] = [sys.executable, PROGRAM, "--config", file, "--state", state, *arguments]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)

    def __call__(self, *arguments: str, **config: Any) -> dict[str, dict[str, Any]]:
        """The findings by the name of their check."""
        done = self.run("--json", *arguments, **config)
        found = json.loads(done.stdout)
        assert found["healthy"] == (done.returncode == 0) == all(one["ok"] for one in found["findings"])
        return {finding["check"]: finding for finding in found["findings"]}


@pytest.fixture
def look(tmp_path: Path, settings_env: dict[str, str]) -> Looker:
    """Run the check as on a host, with this checkout's `audio-pipeline` and the services of the tests."""
    commands = tmp_path / "bin"
    commands.mkdir()
    program = commands / "audio-pipeline"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT / "src/cli.py"} "$@"\n')
    program.chmod(0o755)
    return Looker(tmp_path, {**settings_env, "PATH": f"{commands}:{os.environ['PATH']}", "HOME": str(tmp_path)})


def test_one_screen_names_what_is_wrong_and_the_next_step(look, tmp_path):
    done = look.run(
        disks=[{"path": str(tmp_path), "most_percent": 100}, {"path": str(tmp_path / "no"), "most_percent": 90}]
    )
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "gpu-01: 1 of 2 checks failed"
    assert lines[1].startswith(f"  ok  disk {tmp_path}")
    assert "could not be checked: FileNotFoundError" in lines[2]
    assert lines[3].startswith("      -> ")


def test_services_that_answer_are_well_and_one_that_does_not_is_named(look):
    names = {"names": ["Redis", "Postgres", "clocks", "S3"]}
    found = look(dependencies=names)
    assert {name for name, finding in found.items() if finding["ok"]} >= {
        "Postgres from here",
        "clocks from here",
        "S3 from here",
    }
    look.env["S3_ENDPOINT"] = "http://127.0.0.1:9"
    found = look(dependencies=names)
    assert not found["S3 from here"]["ok"]
    assert "cannot be reached" in found["S3 from here"]["value"]
    assert found["Postgres from here"]["ok"]


def test_queues_are_counted_and_dead_letters_are_a_finding_with_their_cause(look, redis_db):
    limits = {"oldest_s": 60, "failed": 0, "silent_s": 300}
    redis_db.rpush("queue:unpack", '{"batch_id": "b1", "s3_key": "archives/b1.tar"}')
    letter = {"queue": "queue:unpack", "payload": "{}", "error": "no such archive", "error_class": "ArchiveError"}
    facts = {
        "attempts": 1,
        "interruptions": 0,
        "worker": "h:1:n",
        "host": "h",
        "failed_at": "2026-11-28T05:00:00+00:00",
    }
    redis_db.rpush("queue:failed", json.dumps({**letter, **facts}))
    found = look(queues=limits)
    assert found["queue:unpack"]["value"].startswith("1 jobs")
    assert not found["failed jobs"]["ok"]
    assert "no such archive" in found["failed jobs"]["value"]
    assert found["failed jobs"]["next_step"] == "audio-pipeline failed list"


def test_a_worker_without_a_heartbeat_or_held_is_a_finding(look, redis_db):
    wanted = {"host": "gpu-01", "kinds": ["gpu"]}
    assert look(heartbeats=wanted)["gpu heartbeat"]["value"] == "no heartbeat"
    for state, ok in (("idle", True), ("held", False)):
        beat = json.dumps(
            {"kind": "gpu", "state": state, "detail": "S3 is away" if state == "held" else "", "since": ""}
        )
        redis_db.set("worker:gpu-01:7:n", beat, ex=60)
        assert look(heartbeats=wanted)["gpu heartbeat"]["ok"] is ok


def test_a_model_whose_file_has_changed_or_gone_is_found(look, tmp_path):
    for name in ("whisper-base", "gemma-3-270m"):
        part = tmp_path / "demo" / name
        part.mkdir(parents=True)
        (part / "model.bin").write_bytes(b"12345")
        (part / ".verified").write_text(json.dumps({"files": {"model.bin": {"size": 5, "sha256": "", "mtime": 0}}}))
    wanted = {"folder": str(tmp_path / "demo"), "manifest": str(ROOT / "src/models.toml"), "set": "demo"}
    assert look(models=wanted)["models"]["value"] == "set demo is complete"
    (tmp_path / "demo/whisper-base/model.bin").write_bytes(b"1")
    assert look(models=wanted)["models"]["value"] == "changed or missing: whisper-base/model.bin"
    shutil.rmtree(tmp_path / "demo/gemma-3-270m")
    assert "gemma-3-270m/nothing verified" in look(models=wanted)["models"]["value"]


def test_memory_that_is_used_up_is_a_finding(look):
    assert look(memory={"least_percent": 0})["memory"]["ok"]
    assert not look(memory={"least_percent": 100})["memory"]["ok"]


@pytest.mark.parametrize(("days", "ok"), [(10, False), (30, True)])
def test_a_certificate_is_told_before_it_ends(look, tmp_path, days, ok):
    file = tmp_path / "tls.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", tmp_path / "tls.key", "-out", file,
         "-days", str(days), "-subj", "/CN=test"],
        check=True, capture_output=True,
    )  # fmt: skip
    assert look(certificate={"file": str(file), "least_days": 14})["certificate"]["ok"] is ok


def test_a_backup_is_there_and_young(look, tmp_path):
    wanted = {"directory": str(tmp_path), "most_hours": 30}
    assert look(backup=wanted)["backup"]["value"] == "none"
    made = tmp_path / "20261128T033000Z"
    made.mkdir()
    (tmp_path / "latest").symlink_to(made.name)
    assert look(backup=wanted)["backup"]["ok"]
    os.utime(made, (time.time() - 40 * 3600,) * 2)
    assert look(backup=wanted)["backup"]["value"] == "20261128T033000Z, 40 h old"


def test_only_what_has_changed_is_told(look, tmp_path, listener):
    (tmp_path / "webhook").write_text(f"{listener.url}\n")
    config = {"ra_app": listener.url, "alert": {"webhook_file": str(tmp_path / "webhook"), "mail_to": ""}}
    look("--alert", **config)
    assert listener.posts == [], "nothing was bad before, nothing is"
    listener.status = 503
    for _ in range(2):
        look("--alert", **config)
    [post] = listener.posts
    assert post["host"] == "gpu-01"
    assert [finding["check"] for finding in post["bad"]] == ["ra app"]
    assert "1 of 1 checks failed" in post["text"]
    listener.status = 200
    look("--alert", **config)
    assert [finding["check"] for finding in listener.posts[1]["mended"]] == ["ra app"]
    assert len(listener.posts) == 2


def test_an_alert_that_cannot_be_sent_is_a_finding_without_address_and_is_sent_later(look, tmp_path, listener):
    (tmp_path / "webhook").write_text("http://127.0.0.1:9/secret-token")
    listener.status = 503
    config = {"ra_app": listener.url, "alert": {"webhook_file": str(tmp_path / "webhook")}}
    found = look("--alert", **config)
    assert not found["alert"]["ok"]
    assert "secret-token" not in json.dumps(found)
    (tmp_path / "webhook").write_text(listener.url)
    look("--alert", **config)
    assert len(listener.posts) == 1


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/secret token", "secret-token"])
def test_an_address_that_is_none_is_a_finding_without_its_words(look, tmp_path, listener, address):
    (tmp_path / "webhook").write_text(address)
    listener.status = 503
    done = look.run("--alert", ra_app=listener.url, alert={"webhook_file": str(tmp_path / "webhook")})
    assert "webhook: could not be sent" in done.stdout
    assert "secret" not in done.stdout + done.stderr


def test_a_kept_result_that_is_cut_off_is_begun_anew(look, tmp_path, listener):
    (tmp_path / "webhook").write_text(listener.url)
    (tmp_path / "state").mkdir()
    (tmp_path / "state/last.json").write_text('{"bad": [')
    listener.status = 503
    look("--alert", ra_app=listener.url, alert={"webhook_file": str(tmp_path / "webhook")})
    assert len(listener.posts) == 1


def test_a_host_without_its_configuration_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, PROGRAM, "--json", "--config", tmp_path / "none.json"], capture_output=True, check=False
    )
    assert done.returncode == 1
    assert [one["check"] for one in json.loads(done.stdout)["findings"]] == ["configuration"]


def test_a_way_that_works_is_not_told_again_because_another_does_not(look, tmp_path, listener):
    (tmp_path / "webhook").write_text(listener.url)
    listener.status = 503
    nobody = {"mail_to": "ops@example.org", "smtp_host": "127.0.0.1", "smtp_port": 9}
    for _ in range(2):
        found = look("--alert", ra_app=listener.url, alert={"webhook_file": str(tmp_path / "webhook"), **nobody})
        assert found["alert"]["value"].startswith("mail: could not be sent")
    assert len(listener.posts) == 1


def test_a_service_that_is_down_is_named_where_a_check_needs_it(look):
    look.env["REDIS_PORT"] = "9"
    assert "Redis cannot be reached" in look(heartbeats={"host": "gpu-01", "kinds": ["gpu"]})["heartbeats"]["value"]


def test_one_cause_is_told_once(look):
    look.env["REDIS_PORT"] = "9"
    dependencies, beats = {"names": ["Redis", "Postgres", "clocks", "S3"]}, {"host": "gpu-01", "kinds": ["gpu"]}
    found = look(dependencies=dependencies, heartbeats=beats, queues={"oldest_s": 60, "failed": 0, "silent_s": 300})
    assert [name for name, finding in found.items() if not finding["ok"]] == ["Redis from here"]
    assert found["heartbeats"]["value"] == "could not be checked: see Redis from here"
    look.env["POSTGRES_PORT"] = "9"
    done = look.run(dependencies=dependencies, heartbeats=beats)
    lines = [" ".join(line.split()[:5]) for line in done.stdout.splitlines()]
    assert lines[0] == "gpu-01: 2 of 5 checks"
    assert "-- clocks from here could" in lines
    assert "-- heartbeats could not be" in lines
    look.env["MAX_ATTEMPTS"] = "many"
    done = look.run(dependencies=dependencies)
    assert done.stdout.count("MAX_ATTEMPTS is") == 1
    assert "BAD Postgres, Redis, S3, clocks from here" in " ".join(done.stdout.split())
