"""A TCP proxy whose faults a test chooses: the network between a worker and Redis, Postgres or S3.

The modes, which hold for every connection at once:

- forward: pass everything on, with `delay_s` before each piece;
- drop: discard what is sent, and do not answer new connections; connections that lost data are closed when the fault
  ends;
- hold: deliver nothing until the fault ends, and then everything, as TCP's retransmission would, also requests that the
  client does not wait for any more;
- close: connections are reset, and new ones too.

`lose_answer(...)` lets a request through and resets the connection instead of delivering its answer.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import Literal, Self

Mode = Literal["forward", "drop", "hold", "close"]
LOOK_S = 0.02  # between looks at the mode
PIECE = 65_536


def reset(connection: socket.socket) -> None:
    """Close the connection with RST: the other side notices it at once, and gets no more data."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)  # wakes a thread that reads from it; close alone would not
    connection.close()


@dataclass(eq=False)
class _Wire:
    """One connection through the proxy."""

    client: socket.socket
    server: socket.socket
    damaged: bool = False  # something on it was thrown away
    request: bytes = b""  # what the client has sent since the last answer
    over: threading.Event = field(default_factory=threading.Event)

    def end(self) -> None:
        if not self.over.is_set():
            self.over.set()
            reset(self.client)
            reset(self.server)


class FaultyNetwork:
    """Forwards 127.0.0.1:`port` to (`host`, `port`) of a server; use it as a context manager."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._mode: Mode = "forward"
        self.delay_s = 0.0
        self._lock = threading.Lock()
        self._to_lose: tuple[tuple[bytes, ...], bytes] | None = None
        self.answers_lost = 0
        self._wires: list[_Wire] = []
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()
        self._thread(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        reset(self._listener)
        for wire in list(self._wires):
            wire.end()
        for thread in self._threads:
            thread.join(5)

    def set(self, mode: Mode) -> None:
        """Begin a fault, or end it with "forward"."""
        with self._lock:
            self._mode = mode
            ended = [wire for wire in self._wires if mode == "close" or (mode == "forward" and wire.damaged)]
        for wire in ended:
            wire.end()

    def lose_answer(self, request: tuple[bytes, ...], answer: bytes = b"") -> None:
        """Lose one answer: the next that contains `answer`, to a request that contains all parts of `request`."""
        with self._lock:
            self._to_lose = (request, answer)

    def held_back(self) -> bytes:
        """The data that clients have sent while the network is on "hold"."""
        found = b""
        for wire in list(self._wires):
            with contextlib.suppress(OSError):
                found += wire.client.recv(PIECE, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        return found

    def _is_to_be_lost(self, request: bytes, answer: bytes) -> bool:
        return self._to_lose is not None and all(p in request for p in self._to_lose[0]) and self._to_lose[1] in answer

    def _holds(self) -> bool:
        return self._mode == "hold"

    def _thread(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target, timeout=5)
        except OSError:
            reset(client)
            return
        server.settimeout(None)
        for side in (client, server):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = _Wire(client, server)
        with self._lock:
            self._wires = [other for other in self._wires if not other.over.is_set()] + [wire]
            closed = self._mode == "close"
        if closed:
            wire.end()
            return
        self._thread(self._pump, wire, client, server)
        self._thread(self._pump, wire, server, client)

    def _pump(self, wire: _Wire, source: socket.socket, sink: socket.socket) -> None:
        try:
            while not wire.over.is_set() and not self._closing.is_set():
                if self._holds():
                    self._closing.wait(LOOK_S)
                # Asked again after the wait: what came in just before the fault is held back with the rest.
                elif select.select([source], [], [], LOOK_S)[0] and not self._holds():
                    data = source.recv(PIECE)
                    if not data or not self._pass(wire, data, sink, answer=source is wire.server):
                        break
        except (OSError, ValueError):  # the other direction has ended the wire
            pass
        finally:
            wire.end()

    def _pass(self, wire: _Wire, data: bytes, sink: socket.socket, *, answer: bool) -> bool:
        with self._lock:
            if self._mode == "drop":
                wire.damaged = True
                return True
            if answer:
                request, wire.request = wire.request, b""
                if self._is_to_be_lost(request, data):
                    self._to_lose = None
                    self.answers_lost += 1
                    return False
            else:
                wire.request += data
        if self.delay_s:
            self._closing.wait(self.delay_s)
        sink.sendall(data)
        return True
