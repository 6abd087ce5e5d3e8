"""An HTTP proxy for the fleet's hosts, which notes what it was asked for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.tls.in_front import pump

MAX_HEAD = 65_536


@contextmanager
def proxy(address: str) -> Iterator[tuple[str, set[str]]]:
    """Run a proxy -> its address, and the hosts that it was asked for so far."""
    asked: set[str] = set()
    with socket.create_server((address, 0)) as server:
        threading.Thread(target=_accept, args=(server, asked), daemon=True).start()
        yield f"http://{address}:{server.getsockname()[1]}", asked


def _accept(server: socket.socket, asked: set[str]) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:  # the scenario is over
            return
        threading.Thread(target=_serve, args=(client, asked), daemon=True).start()


def _serve(client: socket.socket, asked: set[str]) -> None:
    """Serve one connection. A plain request is sent on with `Connection: close`, so each has its own connection."""
    with client:
        try:
            head = b""
            while b"\r\n\r\n" not in head and len(head) < MAX_HEAD and (data := client.recv(4096)):
                head += data
            method, url, version = head.split(b"\r\n", 1)[0].decode().split()
            if method == "CONNECT":
                host, _, port = url.rpartition(":")
            else:
                parts = urlsplit(url)
                host, port = str(parts.hostname), str(parts.port or 80)
            asked.add(host)
            with socket.create_connection((host, int(port))) as target:
                if method == "CONNECT":
                    client.sendall(b"HTTP/1.1 200 established\r\n\r\n")
                else:
                    path = url.partition("://")[2].partition("/")[2]
                    lines = [line for line in head.split(b"\r\n")[1:] if not line.lower().startswith(b"connection:")]
                    first = f"{method} /{path} {version}".encode()
                    target.sendall(b"\r\n".join([first, b"Connection: close", *lines]))
                threading.Thread(target=pump, args=(client, target), daemon=True).start()
                pump(target, client)
        except (OSError, ValueError):
            return
