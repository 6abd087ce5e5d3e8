"""Every setting of the pipeline: one frozen typed object, read from the environment once, validated.

A setting is one field of `Settings`; its metadata carries the variable's default, an example and one line of help, from
which `.env.example` is written (`python config.py`) and the error messages are built. Secrets may come as systemd
credentials instead: a file named like the variable in lower case under `$CREDENTIALS_DIRECTORY`.
"""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from errors import ConfigError

Parser = Callable[[str], Any]

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")  # as libpq names them


def _text(value: str) -> str:
    return value


def _port(value: str) -> int:
    number = int(value)
    if not 1 <= number <= 65535:
        raise ValueError("a port lies between 1 and 65535")
    return number


def _positive(value: str) -> int:
    number = int(value)
    if number < 1:
        raise ValueError("it must be 1 or more")
    return number


def _natural(value: str) -> int:
    number = int(value)
    if number < 0:
        raise ValueError("it must be 0 or more")
    return number


def _seconds(value: str) -> float:
    number = float(value)
    if not 0 < number < 1e9:
        raise ValueError("it must be a number of seconds above 0")
    return number


def _directory(value: str) -> Path:
    path = Path(value)
    if not path.is_absolute():
        raise ValueError("it must be an absolute path")
    return path


def _optional_directory(value: str) -> Path | None:
    return _directory(value) if value else None


def _switch(value: str) -> bool:
    if value.lower() not in {"true", "false"}:
        raise ValueError("it must be true or false")
    return value.lower() == "true"


def _certificates(value: str) -> Path | None:
    if not value:
        return None
    path = _directory(value)
    if not (path.is_file() and os.access(path, os.R_OK)):
        raise ValueError("there is no such file that this user may read; it must hold certificates in PEM")
    return path


def _sslmode(value: str) -> str:
    if value not in SSL_MODES:
        raise ValueError(f"it must be one of {', '.join(SSL_MODES)}")
    return value


def _url(value: str) -> str:
    if not re.fullmatch(r"https?://[^/\s]+/?", value):
        raise ValueError("it must be http:// or https:// and a host, without a path")
    return value.rstrip("/")


def _queue(value: str) -> str:
    if not re.fullmatch(r"queue:transcribe(:[A-Za-z0-9._-]+)?", value):
        raise ValueError("it must be queue:transcribe or queue:transcribe:HOST")
    return value


def _device(value: str) -> str:
    if value not in {"auto", "cuda", "cpu"}:
        raise ValueError("it must be auto, cuda or cpu")
    return value


def setting(
    help_: str, example: str, default: str | None = None, parse: Parser = _text, *, secret: bool = False
) -> Any:
    """Declare one setting; `default` is text as it would stand in the environment, None makes it required."""
    meta = {"help": help_, "example": example, "default": default, "parse": parse, "secret": secret}
    return field(metadata=meta, repr=not secret)


@dataclass(frozen=True, kw_only=True)
class Settings:
    redis_host: str = setting("Redis: host", "10.0.0.5", "localhost")
    redis_port: int = setting("Redis: port", "6379", "6379", _port)
    redis_user: str = setting("Redis: user of its access list; empty for the default user", "gpu-worker", "")
    redis_password: str = setting("Redis: password; empty for none", "change-me", "", secret=True)
    redis_db: int = setting("Redis: database number", "0", "0", _natural)
    redis_tls: bool = setting(
        "Redis: true speaks TLS and verifies the server's certificate and name; false only on one machine",
        "true",
        "false",
        _switch,
    )
    redis_ca_file: Path | None = setting(
        "Redis: certificates of the authorities that are trusted; empty: those of the system",
        "/etc/audio-pipeline/fleet-ca.pem",
        "",
        _certificates,
    )

    postgres_host: str = setting("Postgres: host, or the folder of its socket", "10.0.0.5", "localhost")
    postgres_port: int = setting("Postgres: port", "5432", "5432", _port)
    postgres_db: str = setting("Postgres: database", "audio_pipeline", "audio_pipeline")
    postgres_user: str = setting("Postgres: login role of the pipeline", "pipeline", "pipeline")
    postgres_password: str = setting("Postgres: its password; empty for none", "change-me", "", secret=True)
    postgres_sslmode: str = setting(
        "Postgres: libpq's sslmode; verify-full between hosts, since all others accept a stranger's certificate",
        "verify-full",
        "prefer",
        _sslmode,
    )
    postgres_ca_file: Path | None = setting(
        "Postgres: certificates of the authorities that are trusted; needed for verify-ca and verify-full",
        "/etc/audio-pipeline/fleet-ca.pem",
        "",
        _certificates,
    )

    s3_endpoint: str = setting("S3: address of the service", "https://object-store.example.org:8080", None, _url)
    s3_access_key: str = setting("S3: access key", "AKIAEXAMPLE", None, secret=True)
    s3_secret_key: str = setting("S3: secret key", "change-me", None, secret=True)
    s3_bucket: str = setting("S3: bucket", "audio-archives", "audio-archives")
    s3_region: str = setting("S3: region that signatures name", "us-east-1", "us-east-1")

    scratch_root: Path = setting(
        "Where archives are unpacked, on the data volume", "/data/scratch", "/data/scratch", _directory
    )
    scratch_mount: Path | None = setting(
        "Where the data volume is mounted; workers wait until it is. Empty: not checked",
        "/data",
        "",
        _optional_directory,
    )
    models_root: Path = setting("Where the models lie", "/data/models", "/data/models", _directory)
    model_set: str = setting("Set of models in the manifest: production or demo", "production", "production")
    policies_dir: Path = setting(
        "The content policies; default: policies/ of this release",
        "/opt/audio-pipeline/current/policies",
        str(Path(__file__).resolve().parent.parent / "policies"),
        _directory,
    )
    device: str = setting("auto takes CUDA where there is one; cuda or cpu force it", "auto", "auto", _device)
    batch_size: int = setting("Speech windows per batch; reduce it when CUDA runs out of memory", "16", "16", _positive)

    transcribe_queue: str = setting(
        "Where unpack pushes clips: queue:transcribe on one machine, this host's own list in a fleet",
        "queue:transcribe:gpu-01",
        "queue:transcribe",
        _queue,
    )
    worker_host: str = setting("This host's name in queues and logs; default: the host name", "gpu-01", "")
    max_attempts: int = setting("Tries of a job before it goes to queue:failed", "3", "3", _positive)
    retry_base_s: float = setting("Wait before the second try; it doubles with each (seconds)", "5", "5", _seconds)
    heartbeat_ttl_s: float = setting("A worker silent for so long is taken for dead (seconds)", "60", "60", _seconds)
    host_lost_after_s: float = setting(
        "The batches of a host silent for so long are unpacked again elsewhere (seconds)", "1800", "1800", _seconds
    )
    room_wait_s: float = setting(
        "An archive without room on scratch lets smaller ones by for so long; one that would not fit on an empty "
        "scratch is given up after it (seconds)",
        "600",
        "600",
        _seconds,
    )
    backlog_clips: int = setting("unpack waits while so many clips wait for transcription", "2000", "2000", _positive)
    stop_timeout_s: float = setting(
        "A stopping worker hands its job back after so long (seconds)", "60", "60", _seconds
    )

    log_dir: Path | None = setting(
        "Where `audio-pipeline logs` reads the workers' log files (*-worker.log). Empty: the journal",
        "/var/log/audio-pipeline",
        "",
        _optional_directory,
    )

    convert_processes: int = setting("Clips that unpack converts at the same time; 0: one per core", "4", "0", _natural)
    clip_timeout_s: float = setting(
        "A clip whose conversion takes longer is given up (seconds)", "120", "120", _seconds
    )
    max_clip_s: float = setting("Longest clip accepted (seconds of audio)", "1800", "1800", _seconds)
    max_archive_bytes: int = setting(
        "Largest archive accepted, unpacked (bytes)", "21474836480", "21474836480", _positive
    )
    max_archive_members: int = setting("Most files in one archive", "20000", "20000", _positive)

    transfer_ssh_host: str = setting("Transfer: the EC2 host that archives appear on", "ec2.example.org", "")
    transfer_ssh_port: int = setting("Transfer: its ssh port", "22", "22", _port)
    transfer_ssh_user: str = setting("Transfer: user there", "ubuntu", "ubuntu")
    transfer_ssh_key: str = setting("Transfer: private key file (0600)", "/etc/audio-pipeline/ssh/id_ed25519", "")
    transfer_known_hosts: str = setting(
        "Transfer: known_hosts file with the host's key", "/etc/audio-pipeline/ssh/known_hosts", ""
    )
    transfer_remote_dir: str = setting("Transfer: directory on the EC2 host", "/srv/archives", "/srv/archives")
    transfer_glob: str = setting("Transfer: which files there are archives", "*.tar*", "*.tar*")
    transfer_staging: Path = setting(
        "Transfer: where archives are staged on their way",
        "/var/lib/audio-pipeline/staging",
        str(Path(tempfile.gettempdir()) / "audio-pipeline-staging"),
        _directory,
    )
    transfer_poll_s: float = setting("Transfer: look for new archives every so often (seconds)", "30", "30", _seconds)
    transfer_settle_s: float = setting(
        "Transfer: an archive unchanged for so long has stopped growing (seconds)", "60", "60", _seconds
    )

    @property
    def host(self) -> str:
        """This host's name, safe to stand in a Redis key."""
        return re.sub(r"[^A-Za-z0-9._-]", "-", self.worker_host or socket.gethostname())

    @property
    def transcribe_queues(self) -> tuple[str, ...]:
        """The lists a GPU worker serves: this host's own clips first, then those any host may take."""
        return (f"queue:transcribe:{self.host}", "queue:transcribe")


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read and validate every setting.

    Raises
    ------
    ConfigError
        One sentence that names the variable, what is wrong with it and an example value.
    """
    source = os.environ if environ is None else environ
    settings = Settings(**{item.name: _read(item, source) for item in fields(Settings)})
    if settings.postgres_sslmode in {"verify-ca", "verify-full"} and settings.postgres_ca_file is None:
        raise ConfigError(
            f"POSTGRES_CA_FILE is not set, but POSTGRES_SSLMODE={settings.postgres_sslmode} verifies the server by it; "
            "set it, for example POSTGRES_CA_FILE=/etc/audio-pipeline/fleet-ca.pem"
        )
    return settings


def origins(environ: Mapping[str, str] | None = None) -> list[tuple[str, Any, str, bool]]:
    """Every setting as (variable, effective value, where it came from, whether it is secret); raises ConfigError."""
    source = os.environ if environ is None else environ
    found = []
    for item in fields(Settings):
        name, secret = item.name.upper(), item.metadata["secret"]
        if source.get(name) is not None:
            origin = "environment"
        elif secret and _credential(item.name, source) is not None:
            origin = "credential"
        else:
            origin = "default"
        found.append((name, _read(item, source), origin, secret))
    return found


def require(settings: Settings, *names: str) -> None:
    """Demand settings that only one worker needs, for example `require(settings, "transfer_ssh_host")`."""
    for item in fields(Settings):
        if item.name in names and not getattr(settings, item.name):
            raise ConfigError(_missing(item))


def _read(item: Field[Any], source: Mapping[str, str]) -> Any:
    name, meta = item.name.upper(), item.metadata
    raw = source.get(name)
    if raw is None and meta["secret"]:
        raw = _credential(item.name, source)
    if raw is None or (raw == "" and meta["default"] is None):
        raw = meta["default"]
    if raw is None:
        raise ConfigError(_missing(item))
    try:
        return meta["parse"](raw)
    except ValueError as error:
        shown = "the value given" if meta["secret"] else repr(raw)
        # int() and float() speak of literals and bases; every other parser here speaks to the operator.
        plain = not any(word in str(error) for word in ("invalid literal", "could not convert"))
        reason = str(error) if plain else "it must be a number"
        raise ConfigError(f"{name} is {shown}, but {reason}; for example {name}={meta['example']}") from error


def _credential(name: str, source: Mapping[str, str]) -> str | None:
    directory = source.get("CREDENTIALS_DIRECTORY")
    path = Path(directory) / name if directory else None
    return path.read_text().rstrip("\n") if path is not None and path.is_file() else None


def _missing(item: Field[Any]) -> str:
    name, meta = item.name.upper(), item.metadata
    return f"{name} is not set ({meta['help']}); set it in the environment, for example {name}={meta['example']}"


def env_example() -> str:
    """The text of `.env.example`: every setting with its help; defaults commented out, required ones to fill in."""
    lines = [
        "# Every setting of the pipeline, written by: cd src && python config.py > ../.env.example",
        "# Load it with: set -a; . ./.env; set +a",
    ]
    for item in fields(Settings):
        name, meta = item.name.upper(), item.metadata
        required = meta["default"] is None
        lines += ["", f"# {meta['help']}" + (" (required)" if required else "")]
        lines.append(f"{name}={meta['example']}" if required else f"#{name}={meta['example']}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(env_example())
