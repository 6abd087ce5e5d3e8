"""The RA app: research assistants listen to flagged clips and label them by the codebook.

`create_app()` reads every setting once and stops with an error if a setting is wrong. It does not connect to Postgres
or S3 before the first request. So the app also starts while they are down, and answers 503 until they are back.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flask import Flask
from flask_migrate import Migrate
from werkzeug.middleware.proxy_fix import ProxyFix

from app.assets import fingerprint_static
from app.check_commands import check
from app.codebooks.codebook import load_codebook
from app.codebooks.commands import codebook
from app.config import APP_ROOT, Settings, load_settings
from app.export.commands import exports as export_commands
from app.failures import handle_failures
from app.formats import add_formats
from app.models import db
from app.pages import BLUEPRINTS
from app.people.commands import users
from app.people.sign_on import Rules
from app.removal.clip_commands import clip_group
from app.removal.purge_commands import purge
from app.security import protect
from app.state import State
from app.storage import AudioStore
from app.studies.commands import studies
from app.studies.tabs import add_tabs

FORM_LIMIT = 64 * 1024  # bytes; far more than a note of 2000 characters and all labels need
CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_MS = 15_000  # a query that hangs must release its server thread
STATIC_MAX_AGE_S = 365 * 24 * 3600  # the URL of a static file carries a fingerprint of its content


def create_app(config: Settings | None = None) -> Flask:
    settings = config if config is not None else load_settings()
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY=settings.secret_key,
        MAX_CONTENT_LENGTH=FORM_LIMIT,
        MAX_FORM_MEMORY_SIZE=FORM_LIMIT,
        SEND_FILE_MAX_AGE_DEFAULT=STATIC_MAX_AGE_S,
        SESSION_COOKIE_NAME="ra_session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=settings.session_cookie_secure,
        PERMANENT_SESSION_LIFETIME=timedelta(hours=settings.session_hours),
        RA_EXPORTS=settings.ra_exports,
        RA_SESSION_MAX=timedelta(hours=settings.session_max_hours),
        WTF_CSRF_TIME_LIMIT=None,  # a form is valid as long as its session: a reviewer may think about a clip for hours
        SQLALCHEMY_DATABASE_URI=settings.database_url,
        SQLALCHEMY_ENGINE_OPTIONS={
            "pool_pre_ping": True,  # Postgres may have been restarted since the last request
            "connect_args": {
                "connect_timeout": CONNECT_TIMEOUT_S,
                "application_name": "ra-app",
                "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS}",
            },
        },
    )
    app.extensions["ra"] = State(
        codebook=load_codebook(settings.codebook_path), audio=AudioStore(settings), **_single_sign_on(app, settings)
    )
    db.init_app(app)
    Migrate(app, db, directory=str(APP_ROOT / "migrations"))
    protect(app)
    handle_failures(app)
    fingerprint_static(app)
    add_formats(app)
    add_tabs(app)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    for command in (check, users, codebook, studies, clip_group, export_commands, purge):
        app.cli.add_command(command)
    if settings.trusted_proxies:
        hops = settings.trusted_proxies
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]  # Flask's documented way to add middleware
            app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops
        )
    return app


def _single_sign_on(app: Flask, settings: Settings) -> dict[str, Any]:
    if settings.oidc_issuer is None:
        return {}
    from app.people.provider import Provider  # it takes 0.2 s, and most sites have no single sign-on

    return {"provider": Provider(app, settings), "sign_on": Rules.of(settings)}
