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
from system import languages

TRANSCRIBE = "queue:transcribe"  # clips that any GPU worker may take; a host's own list is TRANSCRIBE:HOST
TRANSCRIBE_QUEUE = re.compile(rf"{TRANSCRIBE}(?::([A-Za-z0-9._-]+))?")  # that list, or a host's own


def host_queue(host: str) -> str:
    """The list of the clips that lie on that host's scratch."""
    return f"{TRANSCRIBE}:{host}"


def host_of(queue: str) -> str | None:
    """The host whose own list this is; None for every other queue."""
    match = TRANSCRIBE_QUEUE.fullmatch(queue)
    return match[1] if match else None


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
Probability = Annotated[float, must(lambda part: 0 <= part <= 1, "it must be a number from 0 to 1")]
Logprob = Annotated[float, must(lambda value: -20 <= value <= 0, "it must be a number from -20 to 0")]
Decibels = Annotated[float, must(lambda level: 0 <= level < 1000, "it must be a number of 0 or more")]
Ratio = Annotated[float, must(lambda ratio: 1 <= ratio < 1000, "it must be a number of 1 or more")]
Rate = Annotated[float, must(lambda rate: 0 <= rate < 1000, "it must be a number of 0 or more")]
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
Languages = Annotated[
    str,
    must(
        lambda text: text == "*" or set(_listed(text)) <= languages.CODES,
        "it must be ISO 639-1 codes with commas between them, or * for all",
    ),
]
Queue = Annotated[
    str,
    must(TRANSCRIBE_QUEUE.fullmatch, f"it must be {TRANSCRIBE} or {TRANSCRIBE}:HOST"),
]


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",")]


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
        "Redis: true uses TLS and checks the server's certificate and name; use false only on one machine",
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
        "Postgres: libpq's sslmode; use verify-full between hosts, because others accept the certificate of any server",
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
    s3_ca_file: Certificates = setting(
        "S3: certificates of the authorities that are trusted; empty: those that come with boto3",
        None,
        "/etc/ssl/certs/ca-certificates.crt",
    )

    scratch_root: Directory = setting("Where archives are unpacked, on the data volume", Path("/data/scratch"))
    scratch_mount: OptionalDirectory = setting(
        "Where the data volume is mounted; workers wait until it is. Empty: not checked", None, "/data"
    )
    models_root: Directory = setting("Where the models are", Path("/data/models"))
    model_set: str = setting("Set of models in the manifest: production or demo", "production")
    policies_dir: Directory = setting(
        "The content policies; default: policies/ of this release",
        Path(__file__).resolve().parent.parent / "policies",
        "/opt/audio-pipeline/current/policies",
    )
    judged_languages: Languages = setting(
        "Languages that the moderation model judges: ISO 639-1 codes with commas between them, or * for all",
        "en",
    )
    other_languages: Literal["record", "translate"] = setting(
        "Speech in other languages: record (it is not judged), or translate (its translation into English is judged)",
        "record",
    )
    reuse_verdicts: Switch = setting(
        "true gives an equal text the score that it has had from the same policy text, model and prompt",
        default=True,
        example="true",
    )
    device: Literal["auto", "cuda", "cpu"] = setting("auto takes CUDA if there is a GPU; cuda or cpu force it", "auto")
    moderation_dtype: Literal["auto", "float32", "bfloat16"] = setting(
        "Numbers of the moderation model; auto takes bfloat16 on CUDA and float32 on a CPU. bfloat16 on a CPU with "
        "AVX-512 BF16 or AMX halves the time of verdicts and moves their probabilities a little: measure it first",
        "auto",
    )
    batch_size: Positive = setting(
        "Speech windows that are decoded at once; halved by itself when the device runs out of memory", 16
    )
    speech_compute_type: Literal["auto", "float16", "int8_float16", "int8", "float32"] = setting(
        "Arithmetic of the speech model: auto takes float16 on CUDA, int8 on a CPU; int8_float16 needs less memory",
        "auto",
    )

    # Each default's reason stands beside `Limits` in transcription/gate.py.
    gate_no_speech_prob: Probability = setting("Gate: a window with a higher no-speech probability is doubtful", 0.6)
    gate_unsure_logprob: Logprob = setting("Gate: a text with a lower mean log-probability is doubtful", -0.5)
    gate_very_unsure_logprob: Logprob = setting("Gate: a lower mean log-probability counts twice", -1.0)
    gate_compression: Ratio = setting("Gate: a text that zlib makes smaller by more repeats itself and is checked", 2.4)
    gate_language_probability: Probability = setting("Gate: a window whose language is less probable is doubtful", 0.5)
    gate_coverage: Probability = setting(
        "Gate: a window is doubtful if less of its speech has text (part, 0 to 1)", 0.6
    )
    gate_tokens_per_s: Rate = setting("Gate: a window with fewer tokens of text per second of speech is doubtful", 1.0)
    gate_little_speech_s: Seconds = setting("Gate: a window with no more speech is doubtful (seconds)", 1.0)
    gate_other_sound_db: Decibels = setting(
        "Gate: where the level of a window changes less, another voice or sound may fill the pauses (dB)", 12.3
    )
    gate_other_sound_logprob: Logprob = setting(
        "Gate: such a window is doubtful if its first text has a lower mean log-probability", -0.25
    )
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
    retry_base_s: Seconds = setting("Pause before the second try; it doubles with each try (seconds)", 5)
    heartbeat_ttl_s: Seconds = setting("A worker without a heartbeat for this time counts as dead (seconds)", 60)
    host_lost_after_s: Seconds = setting(
        "A host without a heartbeat for this time counts as lost; other hosts unpack its batches again (seconds)", 1800
    )
    room_wait_s: Seconds = setting(
        "For this time smaller archives may pass one that waits for room on scratch. After it, an archive that would "
        "not fit even on an empty scratch is given up (seconds)",
        600,
    )
    backlog_clips: Positive = setting("unpack waits while this many clips or more wait for transcription", 2000)
    stop_timeout_s: Seconds = setting("A stopping worker hands its job back after this time (seconds)", 60)

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
        "Transfer: where fetched archives are kept until they are in S3",
        Path(tempfile.gettempdir()) / "audio-pipeline-staging",
        "/var/lib/audio-pipeline/staging",
    )
    transfer_poll_s: Seconds = setting("Transfer: pause between two looks for new archives (seconds)", 30)
    transfer_settle_s: Seconds = setting("Transfer: an archive unchanged for this time is complete (seconds)", 60)

    @classmethod
    def settings_customise_sources(cls, *_: Any, **sources: Any) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `_read` passes: pydantic reads neither the environment nor a `.env` file."""
        return (sources["init_settings"],)

    @property
    def host(self) -> str:
        """This host's name, safe to stand in a Redis key."""
        return re.sub(r"[^A-Za-z0-9._-]", "-", self.worker_host or socket.gethostname())

    @property
    def judged_language_codes(self) -> frozenset[str] | None:
        """The languages that are judged; None: all."""
        return None if self.judged_languages == "*" else frozenset(_listed(self.judged_languages))

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


def _credentials(source: Mapping[str, str]) -> dict[str, str]:
    """The secrets that systemd hands over as files. Only the line end is removed: a password may end in a space."""
    folder = source.get("CREDENTIALS_DIRECTORY")
    files = {name: Path(folder, name.lower()) for name, field in FIELDS.items() if not field.repr} if folder else {}
    return {name: file.read_text().rstrip("\n") for name, file in files.items() if file.is_file()}


def _read(source: Mapping[str, str]) -> Settings:
    given: dict[str, Any] = {**_credentials(source), **{name: source[name] for name in FIELDS if name in source}}
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
