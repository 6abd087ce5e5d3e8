"""TLS in front of a server that has none, with a certificate that signs itself. The bytes pass unchanged."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def make_certificate(folder: Path, address: str) -> tuple[Path, Path]:
    """Make a certificate for an address that signs itself -> the certificate, its key."""
    made, key = folder / "s3.crt", folder / "s3.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", key, "-out", made, "-days", "2",
         "-subj", "/CN=s3", "-addext", f"subjectAltName=IP:{address}"],
        check=True, capture_output=True,
    )  # fmt: skip
    return made, key


@contextmanager
def tls_in_front(target: tuple[str, int], address: str, certificate: tuple[Path, Path]) -> Iterator[str]:
    """Listen on the address, and pass what comes to the target -> the https address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with socket.create_server((address, 0)) as server:
        threading.Thread(target=_accept, args=(server, context, target), daemon=True).start()
        yield f"https://{address}:{server.getsockname()[1]}"


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
            threading.Thread(target=pump, args=(s3, client), daemon=True).start()
            pump(client, s3)
    except OSError:  # the client refuses our certificate
        plain.close()


def pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        return
