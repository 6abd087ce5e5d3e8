"""nginx as it is deployed: the role's template of the site, rendered, in front of the app that gunicorn serves.

Only the ports are replaced, because they cannot be the same on one machine. A test chooses the address of a client by a
header that this nginx trusts; in production no nginx does.
"""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPSConnection
from pathlib import Path
from urllib.parse import urlencode

import jinja2

from local.services.process import ServerProcess
from local.services.state import choose_port
from tests.certificates import make
from tests.ra_app.serving import status

TEMPLATE = Path(__file__).resolve().parents[2] / "ansible/roles/orchestrator/templates/nginx-site.conf.j2"
NAME = "ra.example.org"
CLIENT_HEADER = "X-Test-Client"
START_TIMEOUT_S = 30
TYPES = "/etc/nginx/mime.types"  # what the distribution's nginx.conf includes
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str


@dataclass
class Site:
    """A client of the site; one connection, cookies kept."""

    port: int
    client: str = "192.0.2.7"
    cookies: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # a certificate made for this test
        self._connection = HTTPSConnection("127.0.0.1", self.port, timeout=30, context=context)

    def ask(self, method: str, path: str, form: Mapping[str, str] | None = None, **headers: str) -> Answer:
        sent = {"Host": NAME, CLIENT_HEADER: self.client, "Referer": f"https://{NAME}/login"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if form is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        self._connection.request(method, path, urlencode(form or {}), sent)
        response = self._connection.getresponse()
        text = response.read().decode(errors="replace")
        for line in response.headers.get_all("Set-Cookie") or []:
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value
        return Answer(response.status, dict(response.headers.items()), text)

    def close(self) -> None:
        self._connection.close()


def _configuration(folder: Path, app: str, plain: int, secure: int) -> str:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - no HTML
    site = environment.from_string(TEMPLATE.read_text()).render(
        ansible_managed="rendered by a test",
        orchestrator_server_name=NAME,
        orchestrator_tls_dir=str(folder),
        orchestrator_ra_home=str(folder),
        orchestrator_ra_address=app.removeprefix("http://"),
    )
    site = site.replace("listen 80 ", f"listen 127.0.0.1:{plain} ").replace(
        "listen 443 ", f"listen 127.0.0.1:{secure} "
    )
    user = "user root;\n" if os.geteuid() == 0 else ""  # the test's folder is closed to others
    places = "".join(f"{name}_temp_path {folder}/{name};\n" for name in TEMPORARY)
    return (
        f"{user}daemon off;\nworker_processes 2;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log warn;\n"
        "events { worker_connections 768; }\n"
        f"http {{\n{places}access_log off;\ninclude {TYPES};\n"
        f"set_real_ip_from 127.0.0.1;\nreal_ip_header {CLIENT_HEADER};\n{site}\n}}\n"
    )


@contextmanager
def in_front_of(app: str, folder: Path) -> Iterator[int]:
    """Run nginx in front of the app at this address until the block ends; yields its port."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    assert program is not None, "nginx is missing: apt-get install nginx"
    make(folder, "ra-app", [NAME])
    plain = choose_port()
    secure = choose_port({plain})
    conf = folder / "nginx.conf"
    conf.write_text(_configuration(folder, app, plain, secure))
    command = [program, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(conf)]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    server = ServerProcess("nginx", command, folder / "server.log", folder / "server.pid")
    server.start()
    try:
        server.wait_ready(lambda: _listens(secure), START_TIMEOUT_S)
        yield secure
    finally:
        server.stop()


def _listens(port: int) -> bool:
    return status(f"http://127.0.0.1:{port}/") is not None  # 400: plain http on the port of TLS
