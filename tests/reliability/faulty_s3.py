"""An HTTP proxy in front of S3 that answers with an error, stalls, slows down or cuts bodies short.

It passes headers on unchanged, also Host, so signatures stay valid. Each request gets its own connection. A fault
applies to requests of one method whose path contains a text, until it is removed or has happened `times` times. A test
also uses a stalled body to stop a worker in the middle of its job.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Self
from urllib.parse import urlsplit

from tests.reliability.faulty_network import reset

PIECE = 16_384
STALL_LIMIT_S = 55.0  # below the workers' own read time-out of 60 s: a test that forgets to lift a stall must not hang
MAX_HEAD = 65_536


class CutShortError(Exception):
    """The body ends here."""


@dataclass(eq=False)
class Fault:
    kind: Literal["refuse", "cut", "stall"]
    method: str
    path: str  # part of the request's path
    after: int = 0  # bytes of the body that pass before it happens
    times: int | None = None  # None: until lifted
    answer: tuple[int, str] = (503, "ServiceUnavailable")  # of a refusal: status and S3's code
    hits: int = 0  # bodies it has stopped, or requests it has refused
    claimed: int = 0  # requests it applies to, so far
    lifted: threading.Event = field(default_factory=threading.Event)

    def lift(self) -> None:
        self.lifted.set()

    def applies(self, method: str, path: str) -> bool:
        fresh = not self.lifted.is_set() and (self.times is None or self.claimed < self.times)
        return fresh and method == self.method and self.path in path


@dataclass(frozen=True)
class _Request:
    head: bytes
    method: str
    path: str
    length: int
    waits: bool  # for "100 Continue" before it sends its body


class FaultyS3:
    """Forwards 127.0.0.1:`port` to the S3 service at `endpoint`; use it as a context manager."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.bytes_per_s: float | None = None  # of each body; None: as fast as it goes
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._start(threading.Thread(target=self._accept, daemon=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        for fault in self._faults:
            fault.lift()
        reset(self._listener)
        with self._lock:
            still_open = list(self._open)
        for connection in still_open:
            reset(connection)
        for thread in list(self._threads):
            thread.join(5)

    def refuse(
        self, method: str, path: str, times: int | None = None, *, status: int = 503, code: str = "ServiceUnavailable"
    ) -> Fault:
        """Answer with an error of S3."""
        return self._add(Fault("refuse", method, path, times=times, answer=(status, code)))

    def cut(self, method: str, path: str, after: int, times: int | None = None) -> Fault:
        """Reset the connection after so many bytes of the body (the request's for PUT, else the answer's)."""
        return self._add(Fault("cut", method, path, after, times))

    def stall(self, method: str, path: str, after: int = 0, times: int | None = None) -> Fault:
        """Stop the body after this many bytes until the fault is removed."""
        return self._add(Fault("stall", method, path, after, times))

    def _add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def _start(self, thread: threading.Thread) -> None:
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._start(threading.Thread(target=self._serve, args=(client,), daemon=True))

    @contextlib.contextmanager
    def _kept(self, connection: socket.socket) -> Iterator[socket.socket]:
        """Register a connection, so that `__exit__` closes it."""
        with self._lock:
            self._open.add(connection)
        try:
            yield connection
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _serve(self, client: socket.socket) -> None:
        with self._kept(client), contextlib.suppress(OSError):
            request, rest = _read_request(client)
            fault = self._fault(request)
            if fault is not None and fault.kind == "refuse":
                with self._lock:
                    fault.hits += 1
                _refuse(client, request, len(rest), *fault.answer)
            else:
                self._relay(client, request, rest, fault)

    def _fault(self, request: _Request) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.applies(request.method, request.path):
                    fault.claimed += 1
                    return fault
        return None

    def _relay(self, client: socket.socket, request: _Request, rest: bytes, fault: Fault | None) -> None:
        upward = fault if request.method == "PUT" else None
        downward = None if request.method == "PUT" else fault
        with self._kept(socket.create_connection(self._target, timeout=60)) as server:
            first, _, others = request.head.partition(b"\r\n")
            server.sendall(first + b"\r\nConnection: close\r\n" + others)
            sender = threading.Thread(target=self._send_body, args=(client, server, request, rest, upward), daemon=True)
            sender.start()
            try:
                self._answer(server, client, downward)
            except (CutShortError, OSError):
                reset(client)
            finally:
                reset(server)
            sender.join(5)

    def _send_body(
        self, client: socket.socket, server: socket.socket, request: _Request, rest: bytes, fault: Fault | None
    ) -> None:
        try:
            left = request.length - len(rest)
            sent = self._pass(rest, server, 0, fault)
            while left > 0 and (data := client.recv(min(PIECE, left))):
                left -= len(data)
                sent = self._pass(data, server, sent, fault)
        except CutShortError:
            reset(client)
            reset(server)
        except OSError:  # the other direction is over
            pass

    def _answer(self, server: socket.socket, client: socket.socket, fault: Fault | None) -> None:
        head, rest = _read_head(server)
        while head.startswith(b"HTTP/1.1 100"):
            client.sendall(head)
            head, rest = _read_head(server, rest)
        client.sendall(head)
        sent = self._pass(rest, client, 0, fault)
        while data := server.recv(PIECE):
            sent = self._pass(data, client, sent, fault)

    def _pass(self, data: bytes, sink: socket.socket, sent: int, fault: Fault | None) -> int:
        """Send a piece of a body of which `sent` bytes were sent before -> the bytes sent until now."""
        due = fault is not None and not fault.lifted.is_set() and bool(data) and sent + len(data) > fault.after
        if fault is not None and due:
            head = data[: max(0, fault.after - sent)]
            sink.sendall(head)
            sent, data = sent + len(head), data[len(head) :]
            with self._lock:
                fault.hits += 1
            if fault.kind == "cut":
                raise CutShortError
            fault.lifted.wait(STALL_LIMIT_S)
        if self.bytes_per_s:
            self._closing.wait(len(data) / self.bytes_per_s)
        sink.sendall(data)
        return sent + len(data)


def _read_head(connection: socket.socket, received: bytes = b"") -> tuple[bytes, bytes]:
    """-> (the head with its empty line, what came after it)."""
    while b"\r\n\r\n" not in received:
        data = connection.recv(PIECE)
        if not data or len(received) > MAX_HEAD:
            raise ConnectionResetError("no head")
        received += data
    head, end, rest = received.partition(b"\r\n\r\n")
    return head + end, rest


def _read_request(client: socket.socket) -> tuple[_Request, bytes]:
    head, rest = _read_head(client)
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    return _Request(head, method, path, length, waits=headers.get("expect", "").lower() == "100-continue"), rest


def _refuse(client: socket.socket, request: _Request, received: int, status: int, code: str) -> None:
    while not request.waits and received < request.length and (data := client.recv(PIECE)):
        received += len(data)
    answer = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>As the test wants</Message></Error>".encode()
    head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    body = b"" if request.method == "HEAD" else answer
    client.sendall(f"{head}Content-Length: {len(answer)}\r\n\r\n".encode() + body)
