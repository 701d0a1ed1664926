"""The systemd unit and the nginx configuration of docs/operations.md, with systemd's verifier and a real nginx."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from support.ports import free_port
from support.waiting import PATIENCE, answers, eventually
from usage_explore import config
from usage_explore.query.limits import MAX_QUERY_STRING_BYTES, MAX_UPLOAD_MEGABYTES

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"
NGINX = shutil.which("nginx", path=f"/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:{sys.prefix}/nginx/usr/sbin")
OPENSSL = (
    "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=usage.example.com"
    " -addext subjectAltName=DNS:usage.example.com"
)
SECRETS = """
[auth]
redirect_uri = "https://usage.example.com/oauth2callback"
cookie_secret = "0123456789abcdef0123456789abcdef"
client_id = "x"
client_secret = "y"
server_metadata_url = "http://127.0.0.1:9/"
"""


def block(language: str) -> str:
    (text,) = re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    return str(text)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    command = next(line for line in block("ini").splitlines() if line.startswith("ExecStart="))
    unit = tmp_path / "usage-explore.service"
    unit.write_text(block("ini").replace(command.split("=")[1].split()[0], "/bin/true"))
    made = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    assert str(unit) not in made.stderr
    assert "usage-explore.service:" not in made.stderr
    unit.write_text(block("ini"))
    made = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    assert "/opt/usage-explore/bin/usage-explore is not executable" in made.stderr  # what the verifier does see


@dataclass(frozen=True)
class Site:
    """The app behind nginx: ports, the log of the app, the certificate."""

    port: int
    plain_port: int
    log: Path
    trust: ssl.SSLContext

    @property
    def name(self) -> str:
        return f"usage.example.com:{self.port}"

    def get(self, path: str) -> httpx.Response:
        with httpx.Client(verify=self.trust, trust_env=False) as client:
            request = client.build_request("GET", f"https://127.0.0.1:{self.port}{path}", headers={"Host": self.name})
            request.extensions = {"sni_hostname": "usage.example.com"}
            return client.send(request)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def site(demo_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if NGINX is None or not shutil.which("openssl"):
        pytest.skip("needs nginx and openssl")
    folder = tmp_path_factory.mktemp("site")
    port, plain_port, app_port = free_port(), free_port(), free_port()
    (folder / ".streamlit").mkdir()
    (folder / ".streamlit" / "secrets.toml").write_text(SECRETS)
    (folder / "people.toml").write_text('["ana@example.com"]\norganizations = "all"\n')
    given = dict(line.removeprefix("Environment=").split("=", 1) for line in block("ini").splitlines()
                 if line.startswith("Environment="))  # fmt: skip
    settings = config.settings(database_url=demo_url, people=folder / "people.toml", keys=folder / "keys.json")
    environment = {
        **settings.environment(),
        "HOME": str(folder),
        "PYTHONWARNINGS": "ignore",
        "USAGE_EXPLORE_HOME": str(folder),
        "USAGE_EXPLORE_TRUSTED_PROXIES": given["USAGE_EXPLORE_TRUSTED_PROXIES"],
        "USAGE_EXPLORE_APP_URL": f"{given['USAGE_EXPLORE_APP_URL']}:{port}",
    }
    certificate, key = folder / "site.pem", folder / "site.key"
    subprocess.run(
        [*OPENSSL.split(), "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    text = block("nginx")
    for written, here in (
        ("listen 80;", f"listen 127.0.0.1:{plain_port};"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("http://127.0.0.1:8501", f"http://127.0.0.1:{app_port}"),
        ("/etc/ssl/certs/usage.example.com.pem", str(certificate)),
        ("/etc/ssl/private/usage.example.com.key", str(key)),
    ):
        assert text.count(written) == 1
        text = text.replace(written, here)
    paths = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off; {paths}\n{text}}}\n"
    )
    log = folder / "log"
    program = [sys.executable, "-P", "-m", "usage_explore", "app", "--no-demo", "--port", str(app_port)]
    with log.open("wb") as output:
        app = subprocess.Popen(program, env=environment, stdout=output, stderr=output, cwd=folder)
    nginx = subprocess.Popen([NGINX, "-c", folder / "nginx.conf", "-e", folder / "error.log"])
    try:
        eventually(lambda: answers(f"http://127.0.0.1:{app_port}/_stcore/health") or app.poll() is not None)
        made = Site(port, plain_port, log, ssl.create_default_context(cafile=certificate))
        eventually(lambda: listens(port) or nginx.poll() is not None)
        yield made
    finally:
        for process in (nginx, app):
            process.terminate()
            process.wait(PATIENCE)


@pytest.mark.database
def test_pages_and_the_api_come_through(site: Site) -> None:
    assert "<title>" in site.get("/").text
    assert site.get("/api/healthz").status_code == 200
    refused = site.get("/api/v1/usage-events")
    assert refused.status_code == 401

    def is_logged() -> bool:  # the line follows the response
        lines = [json.loads(line) for line in site.log.read_text().splitlines() if line.endswith("}")]
        return any(line.get("event") == "request" and line.get("status") == 401 for line in lines)

    eventually(is_logged)


@pytest.mark.database
def test_the_address_without_tls_leads_to_the_one_with(site: Site) -> None:
    answer = httpx.get(
        f"http://127.0.0.1:{site.plain_port}/explore?a=b", headers={"Host": "usage.example.com"}, trust_env=False
    )
    assert (answer.status_code, answer.headers["location"]) == (308, "https://usage.example.com/explore?a=b")


@pytest.mark.database
def test_the_page_s_connection_opens_from_this_site_alone(site: Site) -> None:
    def open_from(origin: str) -> None:
        with connect(
            f"wss://{site.name}/_stcore/stream",
            subprotocols=["streamlit"],  # type: ignore[list-item]
            origin=origin,  # type: ignore[arg-type]
            ssl=site.trust,
            server_hostname="usage.example.com",
            sock=socket.create_connection(("127.0.0.1", site.port)),
        ):
            pass

    open_from(f"https://{site.name}")
    with pytest.raises(InvalidStatus):
        open_from("https://elsewhere.example.com")


@pytest.mark.database
def test_long_links_and_large_files_reach_the_app(site: Site) -> None:
    assert site.get(f"/?note={'x' * (MAX_QUERY_STRING_BYTES - 100)}").status_code == 200
    for megabytes, allowed in ((MAX_UPLOAD_MEGABYTES, True), (MAX_UPLOAD_MEGABYTES + 2, False)):
        with httpx.Client(verify=site.trust, trust_env=False) as client:
            request = client.build_request(
                "PUT",
                f"https://127.0.0.1:{site.port}/_stcore/upload_file/none/none",
                content=bytes(megabytes * 2**20),
                headers={"Host": site.name},
            )
            request.extensions = {"sni_hostname": "usage.example.com"}
            # the rest of a refusal may be lost: the app closes the connection while the file is still coming
            status = client.send(request, stream=True).status_code
        assert (status == 413) is not allowed, status
