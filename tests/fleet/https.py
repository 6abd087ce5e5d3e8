"""A small HTTPS client that works like a browser: it keeps cookies, and sends forms with their tokens."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from html import unescape
from http import HTTPStatus
from http.cookies import SimpleCookie
from urllib.parse import urlencode

TOKEN = re.compile(r'name="(csrf_token|submission_key|codebook_version|base_label|transcript_id)" value="([^"]*)"')


class Browser:
    """Connect to `address`, request `name`, check the certificate for `name`, and trust `certificate`."""

    def __init__(self, address: str, name: str, certificate: str) -> None:
        self.address = address
        self.name = name
        self.context = ssl.create_default_context(cadata=certificate)
        self.cookies: dict[str, str] = {}

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        return self._ask("GET", path, None, headers)

    def post(self, path: str, fields: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """Send a form with the hidden fields of its page; if it has no page of its own, of the page it leads to."""
        status, headers, page = self.get(path)
        if status == HTTPStatus.FOUND:
            _, _, page = self.get(headers["location"])
        hidden = {name: unescape(value) for name, value in TOKEN.findall(page.decode())}
        body = urlencode(hidden | fields)
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Referer": f"https://{self.name}{path}"}
        return self._ask("POST", path, body, headers)

    def _ask(
        self, method: str, path: str, body: str | None, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPSConnection(self.name, timeout=30, context=self.context)
        # No name service knows the name: connect to the address, and let TLS check the name.
        plain = socket.create_connection((self.address, 443), timeout=30)
        connection.sock = self.context.wrap_socket(plain, server_hostname=self.name)
        try:
            cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            connection.request(method, path, body, headers | ({"Cookie": cookies} if cookies else {}))
            answer = connection.getresponse()
            content = answer.read()
            for header in answer.headers.get_all("Set-Cookie") or []:
                self.cookies |= {name: morsel.value for name, morsel in SimpleCookie(header).items()}
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content
        finally:
            connection.close()


def certificate_of(address: str) -> str:
    """Return the self-signed certificate that the server shows, to trust it from now on."""
    return ssl.get_server_certificate((address, 443))
