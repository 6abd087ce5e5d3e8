"""The commands of the group's guide, as written."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from tests.fleet import observe
from tests.fleet.layout import HOSTS
from tests.fleet.world import World


@dataclass(frozen=True)
class Command:
    line: str
    says: str = ""  # the output must contain it
    codes: tuple[int, ...] = (0,)
    shows_secrets: bool = False  # it prints secrets, so its output is not kept


ORCHESTRATOR = HOSTS["orch"].address

COMMANDS = (
    Command("ansible-vault view group_vars/vault.yml", "vault_postgres_password", shows_secrets=True),
    Command("ansible all -m ping", "ping: pong"),
    # daily
    Command('ansible orchestrator -a "redis-cli LLEN queue:unpack"', "rc=0"),
    Command('ansible orchestrator -a "redis-cli LLEN queue:transcribe"', "rc=0"),
    Command('ansible orchestrator -a "redis-cli LLEN queue:failed"', "rc=0"),
    Command(
        'ansible transfer -a "aws s3 ls s3://audio-archives/archives/ --endpoint-url \\$S3_ENDPOINT | wc -l"', "rc=0"
    ),
    Command('ansible gpu_workers -a "du -sh /data/scratch/*" --ignore-errors', codes=(0, 2)),  # 2: scratch is empty
    Command('ansible gpu_workers -a "df -h /data"', "/data"),
    Command('ansible orchestrator -a "psql -d audio_pipeline -c \\"SELECT COUNT(*) FROM ra_queue\\""', "count"),
    Command('ansible gpu_workers -a "systemctl status gpu-worker"', "active (running)"),
    Command('ansible gpu_workers -a "journalctl -u gpu-worker -n 20 --no-pager"', "rc=0"),
    Command('ansible gpu_workers -a "python3 -c \\"import boto3; print(\'S3 OK\')\\""', "S3 OK"),
    # emergency
    Command('ansible gpu_workers -m systemd -a "name=gpu-worker state=stopped" --become', "state: stopped"),
    Command('ansible gpu_workers -m systemd -a "name=gpu-worker state=restarted" --become', "state: started"),
    Command('ansible gpu_workers -m systemd -a "name=unpack-worker state=stopped" --become', "state: stopped"),
    Command('ansible gpu_workers -m systemd -a "name=unpack-worker state=restarted" --become', "state: started"),
    Command('ansible transfer -m systemd -a "name=transfer-worker state=stopped" --become', "state: stopped"),
    Command('ansible transfer -m systemd -a "name=transfer-worker state=restarted" --become', "state: started"),
    Command('ansible gpu_workers -a "find /data/scratch -type d -mtime +1 -exec rm -rf {} +" --become', "rc=0"),
    # troubleshooting
    Command(f"ansible gpu-01 -a \"psql -h {ORCHESTRATOR} -U pipeline -d audio_pipeline -c 'SELECT 1'\"", "1 row"),
    Command('ansible orchestrator -a "cat /etc/postgresql/VERSION/main/pg_hba.conf"', "audio_pipeline"),
    Command('ansible orchestrator -a "ss -tlnp | grep 5432"', "5432"),
    Command('ansible orchestrator -a "systemctl status ra-app"', "active (running)"),
    Command('ansible orchestrator -a "tail -50 /opt/ra-app/logs/error.log"', "rc=0"),
    # playbooks
    Command("ansible-playbook playbooks/sync-models.yml --limit gpu-01"),
    Command("ansible-playbook playbooks/sync-models.yml"),
    Command("ansible-playbook playbooks/deploy-ra-app.yml"),
    Command("ansible-playbook playbooks/deploy-pipeline.yml --limit gpu-01"),
    Command("ansible-playbook playbooks/stop-workers.yml"),
    Command("ansible-playbook playbooks/start-workers.yml"),
    Command("ansible-playbook playbooks/site.yml --limit orchestrator"),
    Command("ansible-playbook playbooks/health-check.yml"),
)

# On the hosts themselves, as the operator after logging in.
ACTIVATE = "cd /opt/audio-pipeline && source venv/bin/activate"
IMPORTS = "set -a && . ./.env && set +a && cd src"
BUCKETS = "from s3_utils import get_s3_client; print(get_s3_client().list_buckets())"
ON_HOSTS = (
    ("gpu-01", f'{ACTIVATE} && python -c "import torch; print(torch.cuda.is_available())"', "False"),
    ("gpu-01", f'{ACTIVATE} && {IMPORTS} && python3 -c "{BUCKETS}"', "audio-archives"),
    ("gpu-01", "audio-pipeline worker list", "gpu-01"),
    ("orch", "audio-pipeline status --json || test $? = 1", "queue:failed"),  # 1: dead letters wait
    ("orch", "redis-cli LLEN queue:unpack", ""),
    ("orch", "cd /opt/ra-app && source venv/bin/activate && gunicorn --version", "gunicorn"),
)


def commands(world: World) -> None:
    """Every command of the guide runs as written."""
    troubles = []
    postgres = next((HOSTS["orch"].root / "etc/postgresql").iterdir()).name  # the version of the distribution
    for command in COMMANDS:
        running = world.begin(command.line.replace("VERSION", postgres))
        outcome = running.wait()
        words = outcome.last_words(12)
        if command.shows_secrets:
            outcome.log.write_text("(not kept)\n")
        if outcome.code not in command.codes:
            troubles.append(f"{command.line}\n  ended with {outcome.code}:\n{words}")
        elif command.says not in outcome.output:
            troubles.append(f"{command.line}\n  does not say {command.says!r}:\n{words}")
    world.require(not troubles, "\n\n".join(troubles))


def on_hosts(world: World) -> None:
    """The commands that the guide has for a shell on a host."""
    troubles = []
    for name, line, says in ON_HOSTS:
        world.say(f"{name}$ {line}")
        code, output = observe.on(HOSTS[name], f"bash -lc {shlex.quote(line)}")
        if code != 0 or says not in output:
            troubles.append(f"{name}$ {line}\n  ended with {code}:\n{output[-1500:]}")
    world.require(not troubles, "\n\n".join(troubles))
