"""S3 with a certificate of an authority of the university: refused by default, accepted with S3_CA_FILE."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from config import Settings
from errors import ServiceUnavailableError
from s3_utils import ObjectStore


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    made, key = tmp_path / "s3.crt", tmp_path / "s3.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", key, "-out", made, "-days", "2",
         "-subj", "/CN=s3", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return made, key


@pytest.fixture
def over_tls(settings: Settings, certificate: tuple[Path, Path]) -> Iterator[Settings]:
    """The settings of a worker whose S3 is behind TLS. The bytes pass unchanged, so signatures stay valid."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    target = urlsplit(settings.s3_endpoint)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        threading.Thread(target=_accept, args=(server, context, (target.hostname, target.port)), daemon=True).start()
        yield settings.model_copy(update={"s3_endpoint": f"https://127.0.0.1:{port}"})


def _accept(server: socket.socket, context: ssl.SSLContext, target: tuple[str, int]) -> None:
    while True:
        try:
            plain, _ = server.accept()
        except OSError:  # the test is over
            return
        threading.Thread(target=_carry, args=(plain, context, target), daemon=True).start()


def _carry(plain: socket.socket, context: ssl.SSLContext, target: tuple[str, int]) -> None:
    try:
        with context.wrap_socket(plain, server_side=True) as client, socket.create_connection(target) as s3:
            threading.Thread(target=_pump, args=(s3, client), daemon=True).start()
            _pump(client, s3)
    except OSError:  # the client refuses our certificate
        plain.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        return


def test_the_authority_of_s3_is_trusted_only_if_it_is_named(over_tls, certificate):
    with pytest.raises(ServiceUnavailableError, match="cannot be reached"):
        ObjectStore(over_tls).check()
    ObjectStore(over_tls.model_copy(update={"s3_ca_file": certificate[0]})).check()
