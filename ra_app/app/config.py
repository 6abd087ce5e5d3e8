"""Every setting of the RA app: one frozen typed object, read from the environment once, validated.

A setting is one field of `Settings`. Its type says what is accepted; its help, default and example also make
`.env.example` (its first lines say how) and the error messages. Secrets may come as systemd credentials instead: a file
named like the variable in lower case under `$CREDENTIALS_DIRECTORY`. The app is deployed without the pipeline's `src/`,
so it has its own few settings.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from app.errors import ConfigError

APP_ROOT = Path(__file__).resolve().parent.parent
SECRET_KEY_LENGTH = 32  # characters; shorter ones can be guessed from one captured cookie


def must(test: Callable[[Any], object], reason: str) -> AfterValidator:
    """A demand on a value beyond its type; `reason` completes the sentence "NAME is VALUE, but ..."."""

    def check(value: Any) -> Any:
        if not test(value):
            raise ValueError(reason)
        return value

    return AfterValidator(check)


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


DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
SecretKey = Annotated[
    str,
    must(
        lambda key: len(key) >= SECRET_KEY_LENGTH,
        f"it must be {SECRET_KEY_LENGTH} characters or more; "
        "python3 -c 'import secrets; print(secrets.token_hex(32))' makes one",
    ),
]
Url = Annotated[
    str,
    must(re.compile(r"https?://[^/\s]+/?").fullmatch, "it must be http:// or https:// and a host, without a path"),
    AfterValidator(lambda url: url.rstrip("/")),
]
File = Annotated[Path, AfterValidator(lambda path: APP_ROOT / path)]  # an absolute path stays as it is
Folder = Annotated[
    Path,
    AfterValidator(lambda path: APP_ROOT / path),
    must(
        lambda path: len(path.parts) > 2 and path not in {APP_ROOT, *APP_ROOT.parents},
        "it must be a folder of its own: all that it holds is the app's",
    ),
]
Hours = Annotated[
    float, must(lambda hours: 0 < hours <= 24 * 31, "it must be a number of hours above 0 and within a month")
]
Issuer = Annotated[
    str,
    must(
        re.compile(r"(https://[^/\s?#]+|http://(localhost|127\.0\.0\.1)(:\d+)?)(/[^\s?#]*)?").fullmatch,
        "it must begin with https:// and have neither ? nor # (http:// only for localhost)",
    ),
]
Scopes = Annotated[str, must(lambda scopes: "openid" in scopes.split(), "openid must be one of the scopes")]
Domains = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda text: tuple(text.lower().replace(",", " ").split()) if isinstance(text, str) else text),
    must(
        lambda domains: all(re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", domain) for domain in domains),
        "it must be domains as they stand behind the @ of an address, with commas between them",
    ),
]
Claim = Annotated[str, must(re.compile(r"[^=\s]+=\S.*").fullmatch, "it must be the claim's name, =, and its value")]
Label = Annotated[
    str, must(lambda label: label.isprintable() and len(label) <= 60, "it must be 60 characters or fewer")
]
Proxies = Annotated[int, must(lambda number: 0 <= number <= 10, "it must be a number of proxies between 0 and 10")]


def setting(help_: str, default: object = ..., example: str = "", *, secret: bool = False) -> Any:
    """Declare one setting. Without a default it is required; without an example its default is the example."""
    return Field(default, description=help_, examples=[example or str(default)], repr=not secret)


class Settings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, extra="ignore", alias_generator=str.upper)

    flask_env: Literal["production", "development"] = setting(
        "production or development; development sends session cookies over plain http", "production"
    )
    database_url: DatabaseUrl = setting(
        "Postgres: address of the pipeline's database, as role ra_app",
        example="postgresql://ra_app:change-me@localhost/audio_pipeline",
        secret=True,
    )
    secret_key: SecretKey = setting(
        f"Signs sessions and forms; {SECRET_KEY_LENGTH} characters or more, kept through deploys",
        example="0123456789abcdef0123456789abcdef-make-your-own",
        secret=True,
    )

    s3_endpoint: Url = setting("S3: address of the service", example="https://object-store.example.org:8080")
    s3_access_key: str = setting("S3: access key that may read", example="AKIAEXAMPLE", secret=True)
    s3_secret_key: str = setting("S3: its secret key", example="change-me", secret=True)
    s3_bucket: str = setting("S3: bucket", "audio-archives")
    s3_region: str = setting("S3: region that signatures name", "us-east-1")

    codebook_path: File = setting(
        "The codebook; a relative path counts from the app's directory", Path("codebook.toml")
    )
    session_cookie_secure: bool = setting(
        "Send session cookies over https only; default true, in development false", default=True, example="true"
    )
    session_hours: Hours = setting("A session that is not used for this time ends (hours)", 12)
    session_max_hours: Hours = setting("A session ends this time after the log-in, also when it is used (hours)", 12)
    trusted_proxies: Proxies = setting(
        "Reverse proxies in front of the app whose X-Forwarded headers count; 0: none", 0, "1"
    )

    ra_exports: Folder = setting(
        "Folder of the exports, which `flask exports work` writes; a relative path counts from the app's directory",
        Path("instance/exports"),
        "/var/lib/ra-app-exports",
    )

    oidc_issuer: Issuer | None = setting(
        "Single sign-on: address of the OpenID Connect provider (its issuer); without it there is none",
        None,
        "https://login.example.edu/realms/campus",
    )
    oidc_client_id: str = setting("Single sign-on: the id that the provider has given this app", "", "ra-app")
    oidc_client_secret: str = setting("Single sign-on: the secret for this id", "", "change-me", secret=True)
    oidc_label: Label = setting("Single sign-on: what the button says", "Log in with single sign-on")
    oidc_scopes: Scopes = setting("Single sign-on: what the app asks the provider for", "openid email")
    oidc_email_domains: Domains = setting(
        "Single sign-on: only people with a confirmed address of these domains; not set: of any domain",
        (),
        "example.edu,lab.example.edu",
    )
    oidc_claim: Claim | None = setting(
        "Single sign-on: only people whose claim has this value, or has it in its list; not set: everybody",
        None,
        "groups=ra-app",
    )
    oidc_without_invitation: bool = setting(
        "Single sign-on: whoever may log in by it gets an account (research assistant) without an invitation",
        default=False,
        example="false",
    )

    @classmethod
    def settings_customise_sources(cls, *_: Any, **sources: Any) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load_settings` passes: pydantic reads neither the environment nor a `.env` file."""
        return (sources["init_settings"],)


FIELDS = {name.upper(): field for name, field in Settings.model_fields.items()}  # by variable


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read and validate every setting. An empty variable or credential counts as one that is not set.

    Raises
    ------
    ConfigError
        One sentence that names the variable, what is wrong with it and an example value.
    """
    source = os.environ if environ is None else environ
    found = {**_credentials(source), **{name: source[name] for name in FIELDS if source.get(name)}}
    given: dict[str, Any] = {name: value for name, value in found.items() if value}
    if source.get("FLASK_ENV") == "development" or source.get("FLASK_DEBUG", "0").lower() in {"1", "true"}:
        given.setdefault("SESSION_COOKIE_SECURE", "false")
    try:
        settings = Settings(**given)
    except ValidationError as error:
        problem = error.errors()[0]
    else:
        _check_single_sign_on(settings)
        return settings
    # Raised here and not above, so that no traceback shows the values that pydantic quotes.
    raise ConfigError(_sentence(str(problem["loc"][0]), problem["type"], problem["input"], problem.get("ctx", {})))


def _check_single_sign_on(settings: Settings) -> None:
    if settings.oidc_issuer is None:
        return
    for name, value in (
        ("OIDC_CLIENT_ID", settings.oidc_client_id),
        ("OIDC_CLIENT_SECRET", settings.oidc_client_secret),
    ):
        if not value:
            raise ConfigError(f"{name} is not set, but OIDC_ISSUER is; set both or none, for example {_example(name)}")
    if settings.oidc_without_invitation and not (settings.oidc_email_domains or settings.oidc_claim):
        # A provider may know everybody in the world.
        raise ConfigError(
            "OIDC_WITHOUT_INVITATION is true, but nothing says who may have an account; set OIDC_EMAIL_DOMAINS or "
            f"OIDC_CLAIM, for example {_example('OIDC_CLAIM')}"
        )


def _credentials(source: Mapping[str, str]) -> dict[str, str]:
    """The secrets that systemd hands over as files. Only the line end is removed: a password may end in a space."""
    folder = source.get("CREDENTIALS_DIRECTORY")
    files = {name: Path(folder, name.lower()) for name, field in FIELDS.items() if not field.repr} if folder else {}
    return {name: file.read_text().rstrip("\n") for name, file in files.items() if file.is_file()}


def _sentence(name: str, kind: str, value: object, context: Mapping[str, Any]) -> str:
    """What pydantic found wrong, as a sentence for the operator."""
    field = FIELDS[name]
    if kind == "missing":
        return f"{name} is not set ({field.description}); set it in the environment, for example {_example(name)}"
    if kind == "value_error":  # ours, see `must`
        reason = str(context["error"])
    elif kind == "literal_error":
        reason = "it must be one of " + context["expected"].replace("'", "")
    else:
        reason = {"bool_parsing": "it must be true or false"}.get(kind, "it must be a number")
    return f"{name} is {repr(value) if field.repr else 'the value given'}, but {reason}; for example {_example(name)}"


def _example(name: str) -> str:
    return f"{name}={shlex.quote((FIELDS[name].examples or [])[0])}"


def env_example() -> str:
    """The text of `.env.example`: every setting with its help; defaults commented out, required ones to fill in."""
    lines = [
        "# Every setting of the RA app, written in ra_app/ by",
        "#   python -c 'from app.config import env_example as e; print(e(), end=\"\")' > .env.example",
        "# A test keeps it so.",
        "# Load it with: set -a; . ./.env; set +a",
    ]
    for name, field in FIELDS.items():
        required = field.is_required()
        lines += ["", f"# {field.description}" + (" (required)" if required else "")]
        lines.append(("" if required else "#") + _example(name))
    return "\n".join(lines) + "\n"
