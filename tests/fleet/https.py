"""A small browser without a screen: pages over TLS, cookies, forms with their tokens."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from html import unescape
from http.cookies import SimpleCookie
from urllib.parse import urlencode

TOKEN = re.compile(r'name="(csrf_token|submission_key|codebook_version)" value="([^"]*)"')


class Browser:
    """Speaks to `address` and calls it `name`, as a browser does whose name service knows it; trusts `certificate`."""

    def __init__(self, address: str, name: str, certificate: str) -> None:
        self.address = address
        self.name = name
        self.context = ssl.create_default_context(cadata=certificate)
        self.cookies: dict[str, str] = {}

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        return self._ask("GET", path, None, headers)

    def post(self, path: str, fields: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """Send a form, with the hidden fields of the page that holds it."""
        _, _, page = self.get(path)
        hidden = {name: unescape(value) for name, value in TOKEN.findall(page.decode())}
        body = urlencode(hidden | fields)
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Referer": f"https://{self.name}{path}"}
        return self._ask("POST", path, body, headers)

    def _ask(
        self, method: str, path: str, body: str | None, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPSConnection(self.name, timeout=30, context=self.context)
        # The name is known to nobody else: connect to the address, and let TLS check the name.
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
    """The certificate that the server shows, to be trusted from now on; it signed itself."""
    return ssl.get_server_certificate((address, 443))
