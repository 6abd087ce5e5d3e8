"""The pipeline's clients and servers with TLS: which servers they accept, which they refuse, and the messages."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from config import load_settings
from db import Database
from errors import ConfigError, OperatorError, ServiceUnavailableError
from jobs.job_queue import mapped_redis_errors
from monitoring.redis_checks import check_redis
from tests.certificates import make
from tests.tls.conftest import _S3, PASSWORD, make_authority, postgres_settings, redis_server, redis_settings
from utils import get_redis_client


def ask_redis(settings) -> None:
    with mapped_redis_errors(), get_redis_client(settings) as client:
        client.llen("queue:unpack")


def ask_postgres(settings) -> None:
    database = Database(settings)
    try:
        database.check()
    except OperatorError as error:
        if "schema version 0" not in str(error):  # reached: the rest is another matter
            raise
    finally:
        database.close()


@pytest.fixture(scope="module")
def stranger(readable: Path) -> Path:
    """Another fleet's authority."""
    other = make_authority(readable / "other")
    other.run("renew")
    return other.trusted


def test_redis_is_reached_by_the_fleets_authority(authority, tls_redis):
    ask_redis(redis_settings(tls_redis, authority.trusted))
    with get_redis_client(redis_settings(tls_redis, authority.trusted)) as client:
        check_redis(client)


def test_postgres_is_reached_by_the_fleets_authority(authority, tls_postgres):
    ask_postgres(postgres_settings(tls_postgres, authority.trusted))


@pytest.mark.parametrize("known", ["nothing of the fleet", "another fleet"])
def test_a_host_without_the_authority_is_refused_by_redis(tls_redis, stranger, known):
    ca = stranger if known == "another fleet" else None
    with pytest.raises(ServiceUnavailableError, match="no authority in REDIS_CA_FILE has signed its certificate"):
        ask_redis(redis_settings(tls_redis, ca))


def test_a_host_with_another_authority_is_refused_by_postgres(tls_postgres, stranger):
    with pytest.raises(ServiceUnavailableError, match="no authority in POSTGRES_CA_FILE has signed its certificate"):
        ask_postgres(postgres_settings(tls_postgres, stranger))


def test_a_certificate_for_another_name_is_refused(authority, tls_redis, tls_postgres):
    with pytest.raises(ServiceUnavailableError, match=r"for another name; .* REDIS_HOST"):
        ask_redis(redis_settings(tls_redis, authority.trusted, host="localhost"))
    with pytest.raises(ServiceUnavailableError, match=r"for another name; .* POSTGRES_HOST"):
        ask_postgres(postgres_settings(tls_postgres, authority.trusted, host="localhost"))


def test_an_expired_certificate_is_refused(authority, readable):
    ca = (authority.folder / "ca/ca.crt", authority.folder / "ca/ca.key")
    expired, _ = make(readable, "expired", ["127.0.0.1"], ended=True, issuer=ca)
    with (
        redis_server(readable, expired) as port,
        pytest.raises(ServiceUnavailableError, match="its certificate has expired; make a new one"),
    ):
        ask_redis(redis_settings(port, authority.trusted))


def test_a_redis_without_tls_gets_no_password(authority, services):
    with pytest.raises(ServiceUnavailableError, match="REDIS_HOST, REDIS_PORT, REDIS_TLS"):
        ask_redis(redis_settings(services.redis_port, authority.trusted))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        heard: list[bytes] = []
        thread = threading.Thread(target=lambda: heard.append(_first_words(listener)))
        thread.start()
        with pytest.raises(ServiceUnavailableError):
            ask_redis(redis_settings(listener.getsockname()[1], authority.trusted))
        thread.join(10)
    assert heard[0].startswith(b"\x16"), "a TLS handshake, and nothing else"
    assert PASSWORD.encode() not in heard[0]


def _first_words(listener: socket.socket) -> bytes:
    connection, _ = listener.accept()
    with connection:
        return connection.recv(4096)


def test_a_postgres_without_tls_gets_no_password(authority, services):
    settings = postgres_settings(services.postgres.port, authority.trusted)
    with pytest.raises(ServiceUnavailableError, match="does not use TLS on this port, and nothing is sent unencrypted"):
        ask_postgres(settings)


def test_a_client_without_tls_is_refused_by_both_servers(tls_redis, tls_postgres):
    with pytest.raises(ServiceUnavailableError, match="REDIS_HOST, REDIS_PORT, REDIS_TLS"):
        ask_redis(redis_settings(tls_redis, None, REDIS_TLS="false"))
    with pytest.raises(ServiceUnavailableError, match=r"pg_hba\.conf rejects"):
        ask_postgres(postgres_settings(tls_postgres, None, mode="disable"))


def test_one_machine_needs_no_tls(settings):
    ask_redis(settings)
    ask_postgres(settings)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"REDIS_TLS": "yes"}, "REDIS_TLS is 'yes', but it must be true or false"),
        ({"REDIS_CA_FILE": "/nowhere.pem"}, "REDIS_CA_FILE is '/nowhere.pem', but there is no such file"),
        ({"POSTGRES_SSLMODE": "verify"}, "POSTGRES_SSLMODE is 'verify', but it must be one of disable"),
        ({"POSTGRES_SSLMODE": "verify-full"}, "POSTGRES_CA_FILE is not set, but POSTGRES_SSLMODE=verify-full"),
    ],
)
def test_a_wrong_setting_is_named(given, sentence):
    with pytest.raises(ConfigError, match=sentence):
        load_settings({**_S3, **given})
