#!/usr/bin/python3 -B
"""Check the health of this host. The exit code is 1 if a check fails.

    audio-pipeline-health [--json] [--alert] [--config FILE]

Ansible writes /etc/audio-pipeline/health.json, which names the checks of this host and their limits. Each check has a
time limit and yields findings. A check that crashes is a finding, too. With --alert (used by the timer) the program
stores the result, and sends the changes since the last result by webhook or mail.

It uses the standard library and the two files beside it only, so it also runs if the pipeline's environments are
broken.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from host_alerts import alert
from host_findings import BROKEN, Config, Finding, screen

CONFIG = Path("/etc/audio-pipeline/health.json")
STATE = Path("/var/lib/audio-pipeline-health/last.json")
COMMAND_S = 30  # time limit of each command
FROM_HERE = " from here"  # ends the names of the checks of services
ORCHESTRATOR = "ansible-playbook playbooks/site.yml --limit orchestrator"
GIB = 2**30
Findings = Iterator[Finding]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--alert", action="store_true", help="store the result and send what has changed")
    parser.add_argument("--config", type=Path, default=CONFIG, help="file with the checks of this host")
    parser.add_argument("--state", type=Path, default=STATE, help="file with the last result")
    chosen = parser.parse_args()
    try:
        config = json.loads(chosen.config.read_text())
    except (OSError, ValueError) as error:
        config = {"host": socket.gethostname()}
        value = f"{BROKEN}: {chosen.config}: {type(error).__name__}"
        findings = [Finding("configuration", False, value, "ansible-playbook playbooks/site.yml --tags health")]
    else:
        findings = examine(config)
    if chosen.alert:
        findings += alert(config, findings, chosen.state)
    healthy = all(finding.ok for finding in findings)
    if chosen.json:
        shown = [asdict(finding) for finding in findings]
        print(json.dumps({"host": config["host"], "healthy": healthy, "findings": shown}))
    else:
        print(screen(config["host"], findings))
    return 0 if healthy else 1


def examine(config: Config) -> list[Finding]:
    """Run every check that the configuration of this host names."""
    found: list[Finding] = []
    for name, check in CHECKS.items():
        if name in config:
            try:
                found += check(config[name])
            except Exception as error:  # noqa: BLE001 - a check that crashes must not hide the others
                found.append(_broken(name, error, found))
    return found


def _broken(name: str, error: Exception, before: list[Finding]) -> Finding:
    """A check that could not be made. It is not a failure of its own if a finding names the service that it needs."""
    away = [one.check.removesuffix(FROM_HERE) for one in before if not one.ok and one.check.endswith(FROM_HERE)]
    cause = next((service for service in away if service in str(error)), None)
    if cause:
        return Finding(name, True, f"{BROKEN}: see {cause}{FROM_HERE}")
    said = str(error) if isinstance(error, RuntimeError) else f"{type(error).__name__}: {error}"
    step = "audio-pipeline config check; journalctl -u audio-pipeline-health -n 50"
    return Finding(name, False, f"{BROKEN}: {said}", step)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command with a time limit.

    subprocess.run waits for the end of the process that it has killed. A process that hangs in the kernel (nvidia-smi
    with a lost GPU, any program on a dead volume) never ends, so this function does not wait for it.
    """
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, err = process.communicate(timeout=COMMAND_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the whole group: also processes that the command has started
        raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def run_json(*command: str) -> Any:
    """Return the JSON that a command prints, or raise RuntimeError with its error message if it prints nothing."""
    done = run(*command)
    if not done.stdout.strip():
        raise RuntimeError(done.stderr.strip()[-200:] or f"{' '.join(command)} printed nothing")
    return json.loads(done.stdout)


def units(names: list[str]) -> Findings:
    """Each unit is active, and systemd has restarted it fewer than five times."""
    for name in names:
        done = run("systemctl", "show", name, "--property=ActiveState,SubState,NRestarts,Result")
        shown = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        state, restarts = shown.get("ActiveState", "unknown"), int(shown.get("NRestarts") or 0)
        value = f"{state} ({shown.get('SubState')}), restarted {restarts} times"
        ok = state == "active" and restarts < 5
        yield Finding(f"unit {name}", ok, value, f"journalctl -u {name} -n 50; sudo systemctl restart {name}")


def dependencies(wanted: dict[str, Any]) -> Findings:
    """`audio-pipeline config check` finds no problem with Redis and its settings, Postgres, clocks, S3 and scratch."""
    done = run("audio-pipeline", "config", "check")
    seen = set()
    for line in done.stdout.splitlines():
        name, _, says = line.partition(" ")
        if name in wanted["names"]:
            seen.add(name)
            says = says.strip()
            if says.startswith("not checked"):  # another line says why
                yield Finding(f"{name}{FROM_HERE}", True, f"{BROKEN}: {says}")
            else:
                step = "search for this message in docs/operations.md"
                yield Finding(f"{name}{FROM_HERE}", says == "good", says, step)
    missing = sorted(set(wanted["names"]) - seen)
    if missing:  # one cause: the command has failed as a whole
        said = (done.stderr or "no answer").strip()
        yield Finding(f"{', '.join(missing)}{FROM_HERE}", False, said, "audio-pipeline config check")


def heartbeats(wanted: dict[str, Any]) -> Findings:
    """Each kind of worker of this host has a heartbeat, and none is held."""
    workers = run_json("audio-pipeline", "worker", "list", "--json")["workers"]
    for kind in wanted["kinds"]:
        mine = [worker for worker in workers if worker["host"] == wanted["host"] and worker["kind"] == kind]
        held = [worker for worker in mine if worker["state"] == "held"]
        value = ", ".join(f"{one['state']} {one['detail'][:80]}".strip() for one in mine) or "no heartbeat"
        yield Finding(f"{kind} heartbeat", bool(mine) and not held, value, f"journalctl -u {kind}-worker -n 50")


def queues(limits: dict[str, Any]) -> Findings:
    """The age of the oldest job of every queue, the number of dead letters, and silent hosts."""
    overview = run_json("audio-pipeline", "status", "--json")
    for queue in overview["queues"]:
        if queue["name"] == "queue:failed":
            continue
        age = queue["oldest_s"] or 0
        value = f"{queue['depth']} jobs" + (f", next is {age / 60:.0f} min old" if queue["depth"] else "")
        step = "audio-pipeline status: is a worker held, or are there too few workers?"
        yield Finding(queue["name"], age <= limits["oldest_s"], value, step)
    failures = [f"{group['count']} x {group['stage']}: {group['cause']}" for group in overview["failures"]]
    failed = sum(group["count"] for group in overview["failures"])
    shown = "; ".join(failures[:3])
    yield Finding("failed jobs", failed <= limits["failed"], f"{failed} {shown}".strip(), "audio-pipeline failed list")
    for host in overview["hosts"]:
        silent = host["heard_s"] > limits["silent_s"] and not host["workers"]
        value = f"last heartbeat {host['heard_s']:.0f} s ago"
        yield Finding(f"host {host['host']}", not silent, value, "is it running? if it is lost: retire-worker.yml")


def disks(wanted: list[dict[str, Any]]) -> Findings:
    """Each disk has enough free space and inodes, and each volume is mounted."""
    for disk in wanted:
        path = Path(disk["path"])
        if disk.get("mount") and not path.is_mount():
            yield Finding(f"disk {path}", False, "not mounted", f"findmnt {path}; sudo mount {path}")
            continue
        usage = shutil.disk_usage(path)
        percent = 100 * (1 - usage.free / usage.total)
        files = os.statvfs(path)
        inodes = (
            100 * (1 - files.f_favail / files.f_files) if files.f_files else 0.0
        )  # some file systems have no inode count
        value = f"{percent:.0f} % used, {usage.free / GIB:.1f} GiB free, {inodes:.0f} % of inodes used"
        ok = max(percent, inodes) <= disk["most_percent"]
        yield Finding(f"disk {path}", ok, value, f"du -xsh {path}/* | sort -h; du -xs --inodes {path}/* | sort -n")


def models(wanted: dict[str, str]) -> Findings:
    """Every file of the model set exists and has its verified size. (Hashes are compared at each synchronization.)"""
    chosen = tomllib.loads(Path(wanted["manifest"]).read_text())["sets"][wanted["set"]]
    parts = [chosen["speech"]["part"], chosen["moderation"]["base"], chosen["moderation"].get("adapter")]
    wrong = []
    for part in filter(None, parts):
        record = Path(wanted["folder"]) / part / ".verified"
        recorded = json.loads(record.read_text())["files"] if record.is_file() else {"nothing verified": {"size": -1}}
        for name, facts in recorded.items():
            file = record.parent / name
            if not file.is_file() or file.stat().st_size != facts["size"]:
                wrong.append(f"{part}/{name}")
    value = f"changed or missing: {', '.join(wrong[:3])}" if wrong else f"set {wanted['set']} is complete"
    yield Finding("models", not wrong, value, "ansible-playbook playbooks/sync-models.yml --limit this host")


def memory(limits: dict[str, float]) -> Findings:
    """Enough memory is available."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    kib = {words[0].rstrip(":"): int(words[1]) for words in lines}
    percent = 100 * kib["MemAvailable"] / kib["MemTotal"]
    value = f"{percent:.0f} % of {kib['MemTotal'] * 1024 / GIB:.0f} GiB available"
    yield Finding("memory", percent >= limits["least_percent"], value, "ps aux --sort=-rss | head")


def gpu(limits: dict[str, Any]) -> Findings:
    """The driver answers, and no GPU is too hot."""
    query = "--query-gpu=name,memory.used,memory.total,temperature.gpu"
    done = run("nvidia-smi", query, "--format=csv,noheader,nounits")
    if done.returncode != 0:
        says = (done.stderr or done.stdout).strip()[:120]
        yield Finding("gpu", False, says, "run nvidia-smi; reboot after an update of the driver")
        return
    for line in done.stdout.splitlines():
        name, used, total, celsius = (part.strip() for part in line.split(","))
        ok = int(celsius) <= limits["most_celsius"]
        yield Finding(
            f"gpu {name}", ok, f"{used} of {total} MiB, {celsius} °C", "check the cooling; nvidia-smi -q -d TEMPERATURE"
        )


def postgres(wanted: dict[str, Any]) -> Findings:
    """Postgres answers. The value shows how many clips are in the review queue."""
    query = "SELECT (SELECT count(*) FROM public.ra_queue), (SELECT max(version) FROM public.schema_version)"
    # Not runuser: it opens a PAM session, which the unit's sandbox does not allow.
    become = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")
    # An administrator's session must not call functions of other roles, so only pg_catalog needs no schema.
    safe_path = ("env", "PGOPTIONS=-c search_path=pg_catalog")
    done = run(*become, *safe_path, "psql", "-XAtd", wanted["database"], "-c", query)
    ok = done.returncode == 0
    value = "{} clips in ra_queue, schema {}".format(*done.stdout.strip().split("|")) if ok else done.stderr.strip()
    yield Finding("postgres", ok, value, "systemctl status postgresql; journalctl -u 'postgresql@*' -n 50")


def backup(wanted: dict[str, Any]) -> Findings:
    """The newest backup, and its copy in S3 if there is one, are not too old."""
    latest = Path(wanted["directory"]) / "latest"
    hours = (time.time() - latest.stat().st_mtime) / 3600 if latest.exists() else None
    value = "none" if hours is None else f"{latest.resolve().name}, {hours:.0f} h old"
    ok = hours is not None and hours <= wanted["most_hours"]
    yield Finding("backup", ok, value, "ansible-playbook playbooks/backup.yml")
    if wanted.get("copy"):
        noted = Path(wanted["copy"]) / "latest"
        hours = (time.time() - noted.stat().st_mtime) / 3600 if noted.exists() else None
        value = "none" if hours is None else f"{noted.read_text().strip()}, {hours:.0f} h old"
        ok = hours is not None and hours <= wanted["most_hours"]
        yield Finding("backup copy", ok, value, "journalctl -u audio-pipeline-backup-copy -n 20")


def certificate(wanted: dict[str, Any]) -> Findings:
    days, problem = _days_left(wanted["file"])
    if problem:
        yield Finding("certificate", False, problem, f"{ORCHESTRATOR} --tags nginx")
        return
    step = f"given: set a new ra_app_tls_certificate; self-signed: {ORCHESTRATOR} --tags nginx"
    yield Finding("certificate", days >= wanted["least_days"], f"ends in {days} days", step)


def fleet_certificates(wanted: dict[str, Any]) -> Findings:
    """The certificates of Redis and PostgreSQL and their authority are valid for long enough."""
    step = "systemctl start audio-pipeline-certificates; for the authority: ansible-playbook playbooks/rotate-ca.yml"
    for file in wanted["files"]:
        days, problem = _days_left(file)
        value = problem or f"ends in {days} days"
        yield Finding(f"fleet tls {'/'.join(Path(file).parts[-2:])}", days >= wanted["least_days"], value, step)


def _days_left(file: str) -> tuple[int, str]:
    """Return the days until a certificate expires, and an error message if it cannot be read."""
    done = run("openssl", "x509", "-noout", "-enddate", "-in", file)
    if done.returncode != 0:
        return -1, done.stderr.strip()[:120] or f"{file} cannot be read"
    end = datetime.strptime(done.stdout.strip().partition("=")[2], "%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC)
    return (end - datetime.now(UTC)).days, ""


def ra_app(url: str) -> Findings:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - a fixed http address of this host
            ok, value = answer.status == 200, f"answers {answer.status}"
    except (urllib.error.URLError, OSError) as error:
        ok, value = False, f"does not answer ({error})"
    yield Finding("ra app", ok, value, "journalctl -u ra-app -n 50; tail -50 /opt/ra-app/logs/error.log")


CHECKS: dict[str, Callable[[Any], Findings]] = {
    "units": units, "dependencies": dependencies, "heartbeats": heartbeats, "queues": queues,
    "disks": disks, "memory": memory, "models": models, "gpu": gpu, "postgres": postgres,
    "backup": backup, "certificate": certificate, "fleet_certificates": fleet_certificates, "ra_app": ra_app,
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
