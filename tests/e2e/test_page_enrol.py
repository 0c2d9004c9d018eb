"""Devices pending approval, on the page: headless Chromium, the real gateway, sockets that wait."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.gateway import RunningGateway, running_gateway, wait_for
from tests.support.page import Page, of_admin, watched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver import Chrome
    from websockets.sync.client import ClientConnection

pytestmark = pytest.mark.server

ADMIN = "admin-token-for-tests-0123456789"
MARKUP = "<img src=x onerror=document.title='run'>"
REFUSED = 4401
ROWS = "return [...document.querySelectorAll('.pending li')].map((row) => row.querySelector('b').textContent)"


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway that lets new devices ask."""
    over = {"auth": {"mode": "token", "enrol": "approve"}}
    with running_gateway(tmp_path_factory.mktemp("gate"), over) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def admins(chromium: Chrome, gate: RunningGateway) -> Iterator[Page]:
    """The page of somebody who logged in as admin."""
    with of_admin(chromium, gate.url, ADMIN) as found:
        yield found


@pytest.fixture
def page(admins: Page) -> Iterator[Page]:
    """The same, watched for one test."""
    with watched(admins) as found:
        yield found


def ask(socket: ClientConnection, **hello: Any) -> dict[str, Any]:
    socket.send(json.dumps({"type": "hello", **hello}))
    return received(socket)


def received(socket: ClientConnection) -> dict[str, Any]:
    return dict(json.loads(socket.recv(timeout=10)))


def waiting(page: Page) -> list[str]:
    return list(page.script(ROWS))


def test_a_new_device_is_approved(gate: RunningGateway, page: Page) -> None:
    stream = f"{gate.ws}/v1/devices/kiln-7/stream"
    with connect(stream) as socket, connect(stream) as impostor:
        assert ask(socket, claim="K7QD-93XA", info={"model": MARKUP})["type"] == "pending"
        assert ask(impostor, claim="K7QD-93XB")["type"] == "pending"
        page.open("#/")
        wait_for(lambda: waiting(page) == ["kiln-7", "kiln-7"], "both to be listed")
        assert page.text(".pending .badge") == "2"
        assert page.text(".pending .claim") == "K7QD-93XA"
        assert page.text(".pending li .note + .note") == f"The device says: model {MARKUP}"
        page.type(".decide label:nth-of-type(2) input", "kitchen")
        page.click(".decide button.main")
        page.wait_text(".decide .wrong", "name=value")
        page.type(".decide label:nth-of-type(2) input", "room=kitchen")
        page.click(".decide button.main")
        page.wait_text(".pending .said", "kiln-7 is approved.")
        assert page.script("return document.activeElement.className") == "said"
        assert received(socket)["type"] == "token"
        assert received(socket)["type"] == "welcome"
        wait_for(lambda: "kiln-7" in page.rows(), "it to be one of the fleet")
        assert page.text(".pending .claim") == "K7QD-93XB"  # the other one has gained nothing
    assert gate.request("/v1/devices/kiln-7")[1]["tags"] == {"room": "kitchen"}


def test_a_new_device_is_refused(gate: RunningGateway, page: Page) -> None:
    with connect(f"{gate.ws}/v1/devices/stranger/stream") as socket:
        ask(socket)
        page.open("#/")
        wait_for(lambda: waiting(page) == ["stranger"], "it to be listed")
        page.click(".decide button.danger")
        assert waiting(page) == ["stranger"]
        page.click(".decide button.danger")  # really
        page.wait_text(".pending .said", "stranger is refused.")
        with pytest.raises(ConnectionClosed) as closed:
            received(socket)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == REFUSED
    assert waiting(page) == []


def test_a_request_ends_with_its_connection_and_a_registered_id_needs_consent(gate: RunningGateway, page: Page) -> None:
    status, _ = gate.request("/v1/devices", body=b'{"id":"oven-1"}', token=ADMIN)
    assert status == 201
    with connect(f"{gate.ws}/v1/devices/oven-1/stream") as socket:
        ask(socket)
        page.open("#/")
        page.wait_text(".pending li", "registered already")
        page.click(".decide button.main")
        assert page.script("return document.querySelector('.decide input:invalid').type") == "checkbox"
        assert waiting(page) == ["oven-1"]
    wait_for(lambda: waiting(page) == [], "it to go")
    assert page.script("return document.querySelector('.pending').hidden")
