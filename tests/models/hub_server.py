"""A server with the part of the model hub's protocol that the hub's client needs for a download."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer:
    """Serves `repos` (repository -> file -> content) at one commit; `gated` ones require the token `hf_good`."""

    def __init__(self, repos: dict[str, dict[str, bytes]], gated: set[str] | None = None) -> None:
        self.repos, self.gated = repos, gated or set()
        self.stated: dict[str, str] = {}  # file -> SHA-256 that the server claims, where it should lie
        self.answers_any_revision = False  # with its own commit, whatever was asked for
        self.cut_after: int | None = None  # bytes of a file after which the connection breaks
        self.sent_bytes = 0
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub.answer(self, with_body=False)

            def do_GET(self) -> None:
                hub.answer(self, with_body=True)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: BaseHTTPRequestHandler, *, with_body: bool) -> None:
        parts = request.path.partition("?")[0].strip("/").split("/")
        repo = "/".join(parts[2:4] if parts[:2] == ["api", "models"] else parts[:2])
        if repo not in self.repos:
            self._send(request, 404, b"", {"X-Error-Code": "RepoNotFound"}, with_body=with_body)
        elif repo in self.gated and request.headers.get("Authorization") != "Bearer hf_good":
            self._send(request, 403, b"", {"X-Error-Code": "GatedRepo"}, with_body=with_body)
        elif parts[0] == "api":
            if parts[-1] not in {"main", COMMIT} and not self.answers_any_revision:
                self._send(request, 404, b"", {"X-Error-Code": "RevisionNotFound"}, with_body=with_body)
                return
            self._send(request, 200, self._info(repo), {"Content-Type": "application/json"}, with_body=with_body)
        else:
            content = self.repos[repo][parts[-1]]
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
            self._send(request, 200, content, headers, with_body=with_body)

    def _info(self, repo: str) -> bytes:
        siblings = []
        for name, content in self.repos[repo].items():
            digest = self.stated.get(name, hashlib.sha256(content).hexdigest())
            lfs = {"sha256": digest, "size": len(content), "pointerSize": 100}
            siblings.append({"rfilename": name, "size": len(content), "blobId": "0" * 40, "lfs": lfs})
        return json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings, "private": False}).encode()

    def _send(
        self, request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str], *, with_body: bool
    ) -> None:
        start = 0
        if (wanted := request.headers.get("Range")) and status == 200:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            status, headers = 206, headers | {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body) - start))
        request.end_headers()
        if not with_body:
            return
        piece = body[start:]
        if self.cut_after is not None and len(body) > self.cut_after:
            request.wfile.write(piece[: self.cut_after])
            self.sent_bytes += len(piece[: self.cut_after])
            request.close_connection = True
            return
        request.wfile.write(piece)
        self.sent_bytes += len(piece)
