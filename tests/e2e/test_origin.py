"""Pages of other origins in a real browser, which cannot speak as devices (cross-site WebSocket hijacking)."""

from __future__ import annotations

import http.server
import threading
import urllib.parse
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser import browser
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.modes import TLS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver import Chrome

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(TLS, reason="a page over http is told apart by its scheme alone"),
]

REBOUND = "rebound.example"
"""A name of somebody else's that leads to this machine."""
SOCKET = """
const [url, done] = arguments;
const socket = new WebSocket(url, ["telemetry.v1.json"]);
socket.onmessage = (event) => { done(JSON.parse(event.data).type); socket.close(1000); };
socket.onclose = (event) => done("closed " + event.code);
"""
POST = """
const [url, done] = arguments;
fetch(url, {method: "POST", mode: "no-cors", body: '{"temp":21.5}'}).then((a) => done(a.type), () => done("failed"));
"""


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """A web site that has nothing to do with the gateway."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>elsewhere</title>")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with browser(tmp_path_factory.mktemp("profile"), f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1") as driver:
        driver.set_script_timeout(20)
        yield driver


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


def tries(driver: Chrome, page: str, gateway: RunningGateway, device: str, host: str | None = None) -> str:
    """What a script of ``page`` gets that connects as ``device``."""
    driver.get(page)
    at = host or urllib.parse.urlsplit(gateway.url).netloc
    return str(driver.execute_async_script(SOCKET, f"ws://{at}/v1/devices/{device}/stream"))


def refused(gateway: RunningGateway) -> float:
    return gateway.metric('gateway_connections_total{result="bad_origin"}')


def test_a_page_of_another_origin_gets_no_socket(chromium: Chrome, gateway: RunningGateway, elsewhere: str) -> None:
    before = refused(gateway)
    assert tries(chromium, elsewhere, gateway, "hijacked") == "closed 1006"
    assert refused(gateway) == before + 1
    assert gateway.request("/v1/devices/hijacked")[0] == 404


def test_it_cannot_post_readings_either(chromium: Chrome, gateway: RunningGateway, elsewhere: str) -> None:
    chromium.get(elsewhere)
    answer = chromium.execute_async_script(POST, f"{gateway.url}/v1/devices/forged/readings")
    assert answer == "opaque", "the browser does send it"
    assert gateway.request("/v1/devices/forged")[0] == 404


def test_a_file_has_no_origin_to_be_allowed(chromium: Chrome, gateway: RunningGateway) -> None:
    assert tries(chromium, "data:text/html,<title>sandboxed</title>", gateway, "null-origin") == "closed 1006"


def test_the_gateways_own_page_may(chromium: Chrome, gateway: RunningGateway) -> None:
    assert tries(chromium, gateway.url, gateway, "own-page") == "welcome"


def test_but_not_under_a_name_that_was_made_to_lead_here(chromium: Chrome, gateway: RunningGateway) -> None:
    host = f"{REBOUND}:{urllib.parse.urlsplit(gateway.url).port}"
    assert tries(chromium, f"http://{host}/", gateway, "rebound", host) == "closed 1006"
    assert gateway.request("/v1/devices/rebound")[0] == 404


def test_an_origin_that_is_named_may_and_no_other(
    chromium: Chrome, elsewhere: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    named = {"server": {"allowed_origins": [elsewhere]}}
    with running_gateway(tmp_path_factory.mktemp("named"), named) as gateway:
        assert tries(chromium, elsewhere, gateway, "named") == "welcome"
        other = elsewhere.replace("127.0.0.1", "localhost")
        assert tries(chromium, other, gateway, "other") == "closed 1006"
