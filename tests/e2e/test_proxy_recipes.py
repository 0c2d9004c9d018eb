"""The recipes of docs/how-to/proxies.md, as they stand there, with real proxies in front of a real gateway."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from websockets.sync.client import connect

from gateway.api.commands import MAX_WAIT_MS
from tests.support.authority import Authority, client
from tests.support.device import answer
from tests.support.gateway import RunningGateway, running_gateway, wait_for
from tests.support.servers import binary, free_port

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

RECIPES = Path(__file__).parents[2] / "docs/how-to/proxies.md"
VIEWER = "the-viewer-token-0123456789"
CLIENT = "127.0.0.2"
"""The address that the device connects to the proxy from."""
NGINX = """
daemon off; master_process off; pid {directory}/nginx.pid; error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
    uwsgi_temp_path {directory}; scgi_temp_path {directory};
    include {recipe};
}}
"""


def recipe(language: str, **replaced: str) -> str:
    """A fenced block of the document, fifty times faster, with ports and files of the test."""
    (text,) = re.findall(rf"```{language}\n(.*?)```", RECIPES.read_text(), re.DOTALL)
    assert "150s" in text
    return (
        re.sub(r"\b150s", "3s", text)
        .replace("127.0.0.1:8080", replaced["gateway"])
        .replace(*replaced["port"].split(">"))
    )


def nginx(directory: Path, gateway: str, port: int, files: tuple[Path, Path]) -> list[str]:
    text = recipe("nginx", gateway=gateway, port=f"listen 443>listen 127.0.0.1:{port}")
    text = text.replace("/etc/ssl/gateway.pem", str(files[0])).replace("/etc/ssl/gateway.key", str(files[1]))
    (directory / "recipe.conf").write_text(text)
    configuration = directory / "nginx.conf"
    configuration.write_text(NGINX.format(directory=directory, recipe=directory / "recipe.conf"))
    return [binary("nginx", "nginx-light"), "-e", "stderr", "-c", str(configuration)]


def haproxy(directory: Path, gateway: str, port: int, files: tuple[Path, Path]) -> list[str]:
    both = directory / "both.pem"
    both.write_text(files[0].read_text() + files[1].read_text())
    text = recipe("haproxy", gateway=gateway, port=f"bind :443>bind 127.0.0.1:{port}")
    configuration = directory / "haproxy.cfg"
    configuration.write_text("global\n    maxconn 64\n\n" + text.replace("/etc/ssl/gateway.pem", str(both)))
    return [binary("haproxy", "haproxy"), "-db", "-f", str(configuration)]


def accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Proxied:
    """A proxy at ``port`` before a gateway."""

    def __init__(self, gateway: RunningGateway, port: int, tls: ssl.SSLContext) -> None:
        self.gateway = gateway
        self.url = f"127.0.0.1:{port}"
        self._port = port
        self._tls = tls

    def device(self, name: str, **headers: str) -> Any:
        plain = socket.create_connection(("127.0.0.1", self._port), source_address=(CLIENT, 0), timeout=10)
        url = f"wss://{self.url}/v1/devices/{name}/stream"
        return connect(url, sock=plain, ssl=self._tls, compression=None, additional_headers=headers)

    def get(self, path: str, **headers: str) -> int:
        request = urllib.request.Request(f"https://{self.url}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10, context=self._tls) as found:
                return int(found.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code


@pytest.fixture(scope="module", params=[nginx, haproxy], ids=["nginx", "haproxy"])
def proxied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    directory = tmp_path_factory.mktemp("proxy")
    authority, port = Authority(directory, for_servers=True), free_port()
    files = authority.issue("gateway", "/CN=gateway", "IP:127.0.0.1")
    over = {
        "server": {"trusted_proxies": ["127.0.0.1"], "tls": {"certificate": None, "key": None}},
        "auth": {"viewer_token": VIEWER},
        "keepalive": {"ping_interval": "200ms", "timeout": "5s"},
    }
    with running_gateway(directory / "gateway", over) as gateway:
        command = request.param(directory, gateway.url.removeprefix("http://"), port, files)
        with (directory / "proxy.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_for(lambda: process.poll() is not None or accepts(port), "the proxy to listen")
            assert process.poll() is None, (directory / "proxy.log").read_text()
            yield Proxied(gateway, port, client(authority.path))
        finally:
            process.terminate()
            process.wait(10)


@pytest.mark.server
def test_a_device_is_shown_with_its_own_address_whatever_its_headers_say(proxied: Proxied) -> None:
    with proxied.device("d", **{"X-Forwarded-For": "203.0.113.9"}) as device:
        assert answer(device)["type"] == "welcome"
        device.send('{"seq":1,"temp":1}')
        assert answer(device) == {"type": "ack", "seq": 1}
        status, found = proxied.gateway.request("/v1/devices/d", token=VIEWER)
        assert status == 200
        assert found["address"] == CLIENT


@pytest.mark.server
def test_an_idle_device_outlives_the_time_outs_of_the_proxy(proxied: Proxied) -> None:
    """The gateway's pings keep it alive: here the proxy's time-out is 3 s, and a ping is due after 200 ms."""
    with proxied.device("idle") as device:
        welcome = answer(device)
        time.sleep(3.5)
        device.send('{"seq":1,"temp":1}')
        assert answer(device)["seq"] == 1
        assert answer_session(proxied.gateway, "idle") == welcome["session"]


def answer_session(gateway: RunningGateway, device: str) -> Any:
    return gateway.request(f"/v1/devices/{device}", token=VIEWER)[1].get("session")


def test_the_longest_command_is_waited_for() -> None:
    """A client that the proxy cuts off earlier gets an error page of the proxy, and does not learn the result."""
    pattern = r"^ +(proxy_read_timeout|timeout client|timeout server) (\d+)s;?$"
    waits = re.findall(pattern, RECIPES.read_text(), re.MULTILINE)
    assert len(waits) == 3
    assert all(int(seconds) * 1000 > MAX_WAIT_MS for _, seconds in waits), waits


@pytest.mark.server
def test_no_client_counts_as_local_behind_a_proxy(proxied: Proxied) -> None:
    assert proxied.get("/healthz", **{"X-Forwarded-For": "127.0.0.1"}) == 401
    assert proxied.get("/metrics") == 401
    assert proxied.get("/metrics", Authorization=f"Bearer {VIEWER}") == 200
    assert proxied.gateway.request("/healthz")[0] == 200
