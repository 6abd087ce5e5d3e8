"""Every setting of the RA app: one frozen typed object, read from the environment once, validated.

A setting is one field of `Settings`; its metadata carries the variable's default, an example and one line of help, from
which `.env.example` is written (its first lines say how) and the error messages are built. Secrets may come as systemd
credentials instead: a file named like the variable in lower case under `$CREDENTIALS_DIRECTORY`. The app is deployed
without the pipeline's `src/`, so it has its own reader and its own few settings.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from app.errors import ConfigError

Parser = Callable[[str], Any]

APP_ROOT = Path(__file__).resolve().parent.parent
SECRET_KEY_LENGTH = 32  # characters; shorter ones can be guessed from one captured cookie


def _text(value: str) -> str:
    return value


def _database_url(value: str) -> str:
    """The address for SQLAlchemy, with the driver named: its own default changes between releases."""
    try:
        url = make_url(value)
    except ArgumentError:
        raise ValueError("it must be an address of a Postgres database") from None
    if url.drivername not in {"postgresql", "postgres", "postgresql+psycopg2"}:
        raise ValueError("it must begin with postgresql://")
    if not url.database:
        raise ValueError("it must end with the database's name")
    return url.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)


def _secret_key(value: str) -> str:
    if len(value) < SECRET_KEY_LENGTH:
        raise ValueError(
            f"it must be {SECRET_KEY_LENGTH} characters or more; "
            "python3 -c 'import secrets; print(secrets.token_hex(32))' makes one"
        )
    return value


def _url(value: str) -> str:
    if not re.fullmatch(r"https?://[^/\s]+/?", value):
        raise ValueError("it must be http:// or https:// and a host, without a path")
    return value.rstrip("/")


def _flag(value: str) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if value.lower() not in known:
        raise ValueError("it must be true or false")
    return known[value.lower()]


def _proxies(value: str) -> int:
    number = int(value)
    if not 0 <= number <= 10:
        raise ValueError("it must be a number of proxies between 0 and 10")
    return number


def _hours(value: str) -> float:
    number = float(value)
    if not 0 < number <= 24 * 31:
        raise ValueError("it must be a number of hours above 0 and within a month")
    return number


def _file(value: str) -> Path:
    path = Path(value)
    return path if path.is_absolute() else APP_ROOT / path


def _environment(value: str) -> str:
    if value not in {"production", "development"}:
        raise ValueError("it must be production or development")
    return value


def setting(
    help_: str, example: str, default: str | None = None, parse: Parser = _text, *, secret: bool = False
) -> Any:
    """Declare one setting; `default` is text as it would stand in the environment, None makes it required."""
    meta = {"help": help_, "example": example, "default": default, "parse": parse, "secret": secret}
    return field(metadata=meta, repr=not secret)


@dataclass(frozen=True, kw_only=True)
class Settings:
    flask_env: str = setting(
        "production or development; development sends session cookies over plain http",
        "production",
        "production",
        _environment,
    )
    database_url: str = setting(
        "Postgres: address of the pipeline's database, as role ra_app",
        "postgresql://ra_app:change-me@localhost/audio_pipeline",
        None,
        _database_url,
        secret=True,
    )
    secret_key: str = setting(
        f"Signs sessions and forms; {SECRET_KEY_LENGTH} characters or more, kept through deploys",
        "0123456789abcdef0123456789abcdef-make-your-own",
        None,
        _secret_key,
        secret=True,
    )

    s3_endpoint: str = setting("S3: address of the service", "https://object-store.example.org:8080", None, _url)
    s3_access_key: str = setting("S3: access key that may read", "AKIAEXAMPLE", None, secret=True)
    s3_secret_key: str = setting("S3: its secret key", "change-me", None, secret=True)
    s3_bucket: str = setting("S3: bucket", "audio-archives", "audio-archives")
    s3_region: str = setting("S3: region that signatures name", "us-east-1", "us-east-1")

    codebook_path: Path = setting(  # noqa: RUF009 - it returns a dataclass field
        "The codebook; a relative path counts from the app's directory", "codebook.toml", "codebook.toml", _file
    )
    session_cookie_secure: bool = setting(
        "Send session cookies over https only; default true, in development false", "true", "true", _flag
    )
    session_hours: float = setting("A session unused for so long ends (hours)", "12", "12", _hours)
    session_max_hours: float = setting(
        "A session ends so long after the log-in, however much it is used (hours)", "12", "12", _hours
    )
    trusted_proxies: int = setting(
        "Reverse proxies in front of the app whose X-Forwarded headers count; 0: none", "1", "0", _proxies
    )


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read and validate every setting.

    Raises
    ------
    ConfigError
        One sentence that names the variable, what is wrong with it and an example value.
    """
    source = dict(os.environ if environ is None else environ)
    if source.get("FLASK_ENV") == "development" or source.get("FLASK_DEBUG", "0").lower() in {"1", "true"}:
        source.setdefault("SESSION_COOKIE_SECURE", "false")
    return Settings(**{item.name: _read(item, source) for item in fields(Settings)})


def _read(item: Field[Any], source: Mapping[str, str]) -> Any:
    name, meta = item.name.upper(), item.metadata
    raw = source.get(name)
    if raw is None and meta["secret"]:
        raw = _credential(item.name, source)
    if not raw:
        raw = meta["default"]
    if raw is None:
        raise ConfigError(
            f"{name} is not set ({meta['help']}); set it in the environment, for example {name}={meta['example']}"
        )
    try:
        return meta["parse"](raw)
    except ValueError as error:
        shown = "the value given" if meta["secret"] else repr(raw)
        # int() and float() speak of literals; every other parser here speaks to the operator.
        plain = not any(word in str(error) for word in ("invalid literal", "could not convert"))
        reason = str(error) if plain else "it must be a number"
        raise ConfigError(f"{name} is {shown}, but {reason}; for example {name}={meta['example']}") from error


def _credential(name: str, source: Mapping[str, str]) -> str | None:
    directory = source.get("CREDENTIALS_DIRECTORY")
    path = Path(directory) / name if directory else None
    return path.read_text().rstrip("\n") if path is not None and path.is_file() else None


def env_example() -> str:
    """The text of `.env.example`: every setting with its help; defaults commented out, required ones to fill in."""
    lines = [
        "# Every setting of the RA app, written in ra_app/ by",
        "#   python -c 'from app.config import env_example as e; print(e(), end=\"\")' > .env.example",
        "# A test keeps it so.",
        "# Load it with: set -a; . ./.env; set +a",
    ]
    for item in fields(Settings):
        name, meta = item.name.upper(), item.metadata
        required = meta["default"] is None
        lines += ["", f"# {meta['help']}" + (" (required)" if required else "")]
        lines.append(f"{name}={meta['example']}" if required else f"#{name}={meta['example']}")
    return "\n".join(lines) + "\n"
