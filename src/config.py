"""Every setting of the pipeline: one frozen typed object, read from the environment once, validated.

A setting is one field of `Settings`. Its type says what is accepted; its help, default and example also make
`.env.example` (`python config.py`) and the error messages. Secrets may come as systemd credentials instead: a file
named like the variable in lower case under `$CREDENTIALS_DIRECTORY`.
"""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from errors import ConfigError

TRANSCRIBE = "queue:transcribe"  # clips that any GPU worker may take; a host's own list is TRANSCRIBE:HOST


def host_queue(host: str) -> str:
    """The list of the clips that lie on that host's scratch."""
    return f"{TRANSCRIBE}:{host}"


def must(
    test: Callable[[Any], object], reason: str, when: type[AfterValidator | BeforeValidator] = AfterValidator
) -> AfterValidator | BeforeValidator:
    """A demand on a value beyond its type; `reason` completes the sentence "NAME is VALUE, but ..."."""

    def check(value: Any) -> Any:
        if not test(value):
            raise ValueError(reason)
        return value

    return when(check)


Filled = Annotated[str, must(bool, "it must not be empty")]
Port = Annotated[int, must(lambda port: 1 <= port <= 65535, "a port lies between 1 and 65535")]
Positive = Annotated[int, must(lambda number: number >= 1, "it must be 1 or more")]
Natural = Annotated[int, must(lambda number: number >= 0, "it must be 0 or more")]
Seconds = Annotated[float, must(lambda number: 0 < number < 1e9, "it must be a number of seconds above 0")]
# Before pydantic reads it: that takes "yes", "on" and "1", too.
Switch = Annotated[
    bool, must(lambda value: str(value).lower() in {"true", "false"}, "it must be true or false", BeforeValidator)
]
Directory = Annotated[Path, must(Path.is_absolute, "it must be an absolute path")]
OptionalDirectory = Annotated[Directory | None, BeforeValidator(lambda value: value or None)]
Certificates = Annotated[
    OptionalDirectory,
    must(
        lambda path: path is None or (path.is_file() and os.access(path, os.R_OK)),
        "there is no such file that this user may read; it must hold certificates in PEM",
    ),
]
SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]  # as libpq names them
Url = Annotated[
    str,
    must(re.compile(r"https?://[^/\s]+/?").fullmatch, "it must be http:// or https:// and a host, without a path"),
    AfterValidator(lambda url: url.rstrip("/")),
]
Queue = Annotated[
    str,
    must(re.compile(rf"{TRANSCRIBE}(:[A-Za-z0-9._-]+)?").fullmatch, f"it must be {TRANSCRIBE} or {TRANSCRIBE}:HOST"),
]


def setting(help_: str, default: object = ..., example: str = "", *, secret: bool = False) -> Any:
    """Declare one setting. Without a default it is required; without an example its default is the example."""
    return Field(default, description=help_, examples=[example or str(default)], repr=not secret)


class Settings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, extra="ignore", alias_generator=str.upper)

    redis_host: str = setting("Redis: host", "localhost", "10.0.0.5")
    redis_port: Port = setting("Redis: port", 6379)
    redis_user: str = setting("Redis: user of its access list; empty for the default user", "", "gpu-worker")
    redis_password: str = setting("Redis: password; empty for none", "", "change-me", secret=True)
    redis_db: Natural = setting("Redis: database number", 0)
    redis_tls: Switch = setting(
        "Redis: true speaks TLS and verifies the server's certificate and name; false only on one machine",
        default=False,
        example="true",
    )
    redis_ca_file: Certificates = setting(
        "Redis: certificates of the authorities that are trusted; empty: those of the system",
        None,
        "/etc/audio-pipeline/fleet-ca.pem",
    )

    postgres_host: str = setting("Postgres: host, or the folder of its socket", "localhost", "10.0.0.5")
    postgres_port: Port = setting("Postgres: port", 5432)
    postgres_db: str = setting("Postgres: database", "audio_pipeline")
    postgres_user: str = setting("Postgres: login role of the pipeline", "pipeline")
    postgres_password: str = setting("Postgres: its password; empty for none", "", "change-me", secret=True)
    postgres_sslmode: SslMode = setting(
        "Postgres: libpq's sslmode; verify-full between hosts, since all others accept a stranger's certificate",
        "prefer",
        "verify-full",
    )
    postgres_ca_file: Certificates = setting(
        "Postgres: certificates of the authorities that are trusted; needed for verify-ca and verify-full",
        None,
        "/etc/audio-pipeline/fleet-ca.pem",
    )

    s3_endpoint: Url = setting("S3: address of the service", example="https://object-store.example.org:8080")
    s3_access_key: Filled = setting("S3: access key", example="AKIAEXAMPLE", secret=True)
    s3_secret_key: Filled = setting("S3: secret key", example="change-me", secret=True)
    s3_bucket: str = setting("S3: bucket", "audio-archives")
    s3_region: str = setting("S3: region that signatures name", "us-east-1")

    scratch_root: Directory = setting("Where archives are unpacked, on the data volume", Path("/data/scratch"))
    scratch_mount: OptionalDirectory = setting(
        "Where the data volume is mounted; workers wait until it is. Empty: not checked", None, "/data"
    )
    models_root: Directory = setting("Where the models lie", Path("/data/models"))
    model_set: str = setting("Set of models in the manifest: production or demo", "production")
    policies_dir: Directory = setting(
        "The content policies; default: policies/ of this release",
        Path(__file__).resolve().parent.parent / "policies",
        "/opt/audio-pipeline/current/policies",
    )
    device: Literal["auto", "cuda", "cpu"] = setting("auto takes CUDA where there is one; cuda or cpu force it", "auto")
    batch_size: Positive = setting("Speech windows per batch; reduce it when CUDA runs out of memory", 16)
    clips_in_hand: Positive = setting(
        "Most clips that a GPU worker has claimed at a time; half of them are on the device together, while the others "
        "are prepared and stored. 1: one after the other",
        32,
    )
    batch_wait_s: Seconds = setting(
        "Longest time that a clip waits for others, so that more are on the device together (seconds)", 0.5
    )
    prepare_threads: Natural = setting(
        "Clips that a GPU worker decodes and searches for speech at the same time; 0: one per core", 0, "4"
    )
    worker_memory_limit_bytes: Natural = setting(
        "A GPU worker that uses more memory (resident, and reserved by torch on the GPU) ends what it has begun, and "
        "starts again; 0: no limit (bytes)",
        0,
        "34359738368",
    )

    transcribe_queue: Queue = setting(
        f"Where unpack pushes clips: {TRANSCRIBE} on one machine, this host's own list in a fleet",
        TRANSCRIBE,
        host_queue("gpu-01"),
    )
    worker_host: str = setting("This host's name in queues and logs; default: the host name", "", "gpu-01")
    max_attempts: Positive = setting("Tries of a job before it goes to queue:failed", 3)
    retry_base_s: Seconds = setting("Wait before the second try; it doubles with each (seconds)", 5)
    heartbeat_ttl_s: Seconds = setting("A worker silent for so long is taken for dead (seconds)", 60)
    host_lost_after_s: Seconds = setting(
        "The batches of a host silent for so long are unpacked again elsewhere (seconds)", 1800
    )
    room_wait_s: Seconds = setting(
        "An archive without room on scratch lets smaller ones by for so long; one that would not fit on an empty "
        "scratch is given up after it (seconds)",
        600,
    )
    backlog_clips: Positive = setting("unpack waits while so many clips wait for transcription", 2000)
    stop_timeout_s: Seconds = setting("A stopping worker hands its job back after so long (seconds)", 60)

    log_dir: OptionalDirectory = setting(
        "Where `audio-pipeline logs` reads the workers' log files (*-worker.log). Empty: the journal",
        None,
        "/var/log/audio-pipeline",
    )

    convert_processes: Natural = setting("Clips that unpack converts at the same time; 0: one per core", 0, "4")
    clip_timeout_s: Seconds = setting("A clip whose conversion takes longer is given up (seconds)", 120)
    max_clip_s: Seconds = setting("Longest clip accepted (seconds of audio)", 1800)
    max_archive_bytes: Positive = setting("Largest archive accepted, unpacked (bytes)", 20 << 30)
    max_archive_members: Positive = setting("Most files in one archive", 20000)

    transfer_ssh_host: str = setting("Transfer: the EC2 host that archives appear on", "", "ec2.example.org")
    transfer_ssh_port: Port = setting("Transfer: its ssh port", 22)
    transfer_ssh_user: str = setting("Transfer: user there", "ubuntu")
    transfer_ssh_key: str = setting("Transfer: private key file (0600)", "", "/etc/audio-pipeline/ssh/id_ed25519")
    transfer_known_hosts: str = setting(
        "Transfer: known_hosts file with the host's key", "", "/etc/audio-pipeline/ssh/known_hosts"
    )
    transfer_remote_dir: str = setting("Transfer: directory on the EC2 host", "/srv/archives")
    transfer_glob: str = setting("Transfer: which files there are archives", "*.tar*")
    transfer_staging: Directory = setting(
        "Transfer: where archives are staged on their way",
        Path(tempfile.gettempdir()) / "audio-pipeline-staging",
        "/var/lib/audio-pipeline/staging",
    )
    transfer_poll_s: Seconds = setting("Transfer: look for new archives every so often (seconds)", 30)
    transfer_settle_s: Seconds = setting("Transfer: an archive unchanged for so long has stopped growing (seconds)", 60)

    @classmethod
    def settings_customise_sources(cls, *_: Any, **sources: Any) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `_read` passes, and below it the credentials: no `.env` file is read."""
        return sources["init_settings"], sources["file_secret_settings"]

    @property
    def host(self) -> str:
        """This host's name, safe to stand in a Redis key."""
        return re.sub(r"[^A-Za-z0-9._-]", "-", self.worker_host or socket.gethostname())

    @property
    def transcribe_queues(self) -> tuple[str, ...]:
        """The lists a GPU worker serves: this host's own clips first, then those any host may take."""
        return host_queue(self.host), TRANSCRIBE


FIELDS = {name.upper(): field for name, field in Settings.model_fields.items()}  # by variable


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read and validate every setting.

    Raises
    ------
    ConfigError
        One sentence that names the variable, what is wrong with it and an example value.
    """
    settings = _read(os.environ if environ is None else environ)
    if settings.postgres_sslmode in {"verify-ca", "verify-full"} and settings.postgres_ca_file is None:
        raise ConfigError(
            f"POSTGRES_CA_FILE is not set, but POSTGRES_SSLMODE={settings.postgres_sslmode} verifies the server by it; "
            "set it, for example POSTGRES_CA_FILE=/etc/audio-pipeline/fleet-ca.pem"
        )
    return settings


def origins(environ: Mapping[str, str] | None = None) -> list[tuple[str, Any, str, bool]]:
    """Every setting as (variable, effective value, where it came from, whether it is secret); raises ConfigError."""
    source = os.environ if environ is None else environ
    settings = _read(source)
    found = []
    for name, field in FIELDS.items():
        elsewhere = "credential" if name.lower() in settings.model_fields_set else "default"
        origin = "environment" if name in source else elsewhere
        found.append((name, getattr(settings, name.lower()), origin, not field.repr))
    return found


def require(settings: Settings, *names: str) -> None:
    """Demand settings that only one worker needs, for example `require(settings, "transfer_ssh_host")`."""
    for name in names:
        if not getattr(settings, name):
            raise ConfigError(_missing(name.upper()))


def _read(source: Mapping[str, str]) -> Settings:
    given: dict[str, Any] = {name: source[name] for name in FIELDS if name in source}
    credentials = source.get("CREDENTIALS_DIRECTORY")
    if credentials and Path(credentials).is_dir():
        given["_secrets_dir"] = credentials
    try:
        return Settings(**given)
    except ValidationError as error:
        problem = error.errors()[0]
    # Raised here and not above, so that no traceback shows the values that pydantic quotes.
    raise ConfigError(_sentence(str(problem["loc"][0]), problem["type"], problem["input"], problem.get("ctx", {})))


def _sentence(name: str, kind: str, value: object, context: Mapping[str, Any]) -> str:
    """What pydantic found wrong, as a sentence for the operator."""
    if kind == "missing" or (value == "" and FIELDS[name].is_required()):
        return _missing(name)
    if kind == "value_error":  # ours, see `must`
        reason = str(context["error"])
    elif kind == "literal_error":
        reason = "it must be one of " + context["expected"].replace("'", "")
    else:
        reason = "it must be a number"
    shown = repr(value) if FIELDS[name].repr else "the value given"
    return f"{name} is {shown}, but {reason}; for example {_example(name)}"


def _missing(name: str) -> str:
    return f"{name} is not set ({FIELDS[name].description}); set it in the environment, for example {_example(name)}"


def _example(name: str) -> str:
    return f"{name}={(FIELDS[name].examples or [])[0]}"


def env_example() -> str:
    """The text of `.env.example`: every setting with its help; defaults commented out, required ones to fill in."""
    lines = [
        "# Every setting of the pipeline, written by: cd src && python config.py > ../.env.example",
        "# Load it with: set -a; . ./.env; set +a",
    ]
    for name, field in FIELDS.items():
        required = field.is_required()
        lines += ["", f"# {field.description}" + (" (required)" if required else "")]
        lines.append(("" if required else "#") + _example(name))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(env_example())
