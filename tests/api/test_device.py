"""Devices registered, given new tokens and revoked over HTTP, by the rules of the command line."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.support.gateway import RunningGateway, running_gateway, wait_for
from tests.support.visitor import Answer, Visitor

if TYPE_CHECKING:
    from collections.abc import Iterator

VIEWER, ADMIN = "viewer-token-0123456789", "admin-token-for-tests-0123456789"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    over = {"auth": {"mode": "token", "viewer_token": VIEWER, "admin_token": ADMIN}, "profiles": {"kiln": {}}}
    with running_gateway(tmp_path_factory.mktemp("gateway"), over) as running:
        yield running


@pytest.fixture
def admin(gateway: RunningGateway) -> Visitor:
    visitor = Visitor(gateway.url)
    assert visitor.login(ADMIN).status == 200
    return visitor


def register(admin: Visitor, **body: Any) -> str:
    answer = admin.change("POST", "/v1/devices", body)
    assert (answer.status, answer.body["id"]) == (201, body["id"])
    return str(answer.body["token"])


def post(gateway: RunningGateway, device: str, token: str) -> int:
    return gateway.request(f"/v1/devices/{device}/readings", body=b'{"a":1}', token=token)[0]


def refused(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.code


def test_a_registered_device_is_let_in_at_once_and_is_the_command_lines_too(
    gateway: RunningGateway, admin: Visitor
) -> None:
    answer = admin.change("POST", "/v1/devices", {"id": "kiln-7", "profile": "kiln", "tags": {"site": "north"}})
    assert answer.headers["Cache-Control"] == "no-store"
    assert post(gateway, "kiln-7", answer.body["token"]) == 200
    shown = json.loads(gateway.cli("devices", "show", "kiln-7", "--json").stdout)
    assert (shown["profile"], shown["tags"], shown["state"]) == ("kiln", {"site": "north"}, "active")
    assert "kiln-7 was registered, by an administrator at 127.0.0.1" in gateway.log
    assert answer.body["token"] not in gateway.log


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "1 to 128 of"),
        ({"id": ""}, "1 to 128 of"),
        ({"id": "<img src=x onerror=alert(1)>"}, "1 to 128 of"),
        ({"id": "a/b"}, "1 to 128 of"),
        ({"id": 7}, "nothing but id (string), profile (string), tags (object); 'id' is of another type"),
        ({"id": "x", "profil": "kiln"}, "; 'profil' is unknown"),
        ({"id": "x", "profile": "oven"}, "no profile oven; it has "),
        ({"id": "x", "tags": {"device": "y"}}, "written by the gateway"),
        ({"id": "x", "tags": {"site": 7}}, "text"),
        (["x"], "JSON object"),
        (b'{"id": NaN}', "JSON object: unexpected character"),
        (b"{%s", "JSON object: "),
    ],
)
def test_what_cannot_be_a_device_is_told(admin: Visitor, body: Any, words: str) -> None:
    answer = admin.change("POST", "/v1/devices", body)
    assert refused(answer) == (400, "bad_request")
    assert words in answer.body["error"]["message"]
    assert admin.send("GET", "/v1/devices/x").status == 404


def test_a_device_is_registered_once(admin: Visitor) -> None:
    register(admin, id="once")
    assert refused(admin.change("POST", "/v1/devices", {"id": "once"})) == (409, "device_exists")
    assert admin.change("DELETE", "/v1/devices/once").body == {"id": "once", "revoked": True}
    again = admin.change("POST", "/v1/devices", {"id": "once"})
    assert refused(again) == (409, "device_exists")
    assert "rotate gives it a new token" in again.body["error"]["message"]


@pytest.mark.parametrize("change", [("POST", "/token"), ("DELETE", "")])
def test_a_token_that_ends_takes_the_devices_session_along(
    gateway: RunningGateway, admin: Visitor, change: tuple[str, str]
) -> None:
    method, path = change
    device = f"ends-{method}"
    token = register(admin, id=device)
    header = {"Authorization": f"Bearer {token}"}
    with connect(f"{gateway.ws}/v1/devices/{device}/stream", additional_headers=header) as socket:
        socket.recv(timeout=10)
        answer = admin.change(method, f"/v1/devices/{device}{path}")
        assert answer.status == 200
        with pytest.raises(ConnectionClosed, match="1008"):
            socket.recv(timeout=10)
    assert post(gateway, device, token) == 401
    if "token" in answer.body:
        assert post(gateway, device, answer.body["token"]) == 200


@pytest.mark.parametrize("overlap", [True, False, -1, 30 * 86_400_000 + 1, 1.5, "1s"])
def test_an_overlap_that_is_none_is_told_and_changes_nothing(
    gateway: RunningGateway, admin: Visitor, overlap: object
) -> None:
    device = f"overlaps-{overlap}"
    token = register(admin, id=device)
    answer = admin.change("POST", f"/v1/devices/{device}/token", {"overlap_ms": overlap})
    assert refused(answer) == (400, "bad_request")
    assert "overlap_ms" in answer.body["error"]["message"]
    assert post(gateway, device, token) == 200


def test_a_device_that_is_back_with_its_new_token_is_left_in_peace(gateway: RunningGateway, admin: Visitor) -> None:
    register(admin, id="back")
    token = admin.change("POST", "/v1/devices/back/token").body["token"]
    header = {"Authorization": f"Bearer {token}"}
    with connect(f"{gateway.ws}/v1/devices/back/stream", additional_headers=header) as socket:
        socket.recv(timeout=10)
        with pytest.raises(TimeoutError):
            socket.recv(timeout=0.8)  # longer than the gateway takes to look for changes


def test_a_revoked_device_comes_back_with_a_new_token(gateway: RunningGateway, admin: Visitor) -> None:
    old = register(admin, id="revoked")
    admin.change("DELETE", "/v1/devices/revoked")
    with pytest.raises(InvalidStatus, match="401"):
        connect(f"{gateway.ws}/v1/devices/revoked/stream", additional_headers={"Authorization": f"Bearer {old}"})
    new = admin.change("POST", "/v1/devices/revoked/token").body["token"]
    assert new != old
    assert post(gateway, "revoked", new) == 200


@pytest.mark.parametrize("device", ["nobody", "no%20good", "x" * 200, "%3Cimg%20onerror%3E"])
def test_a_device_that_is_none_is_told(admin: Visitor, device: str) -> None:
    for method, path in (("DELETE", ""), ("POST", "/token")):
        assert refused(admin.change(method, f"/v1/devices/{device}{path}")) == (404, "unknown_device")


def test_a_registry_that_somebody_else_holds_is_no_mistake_of_the_client(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path_factory.mktemp("damaged")
    with running_gateway(directory, {}) as gateway:
        admin = Visitor(gateway.url)
        admin.login("admin-token-for-tests-0123456789")
        with closing(sqlite3.connect(directory / "state/registry.db", isolation_level=None)) as db:
            db.execute("DROP TABLE devices")
        answer = admin.change("POST", "/v1/devices", {"id": "x"})
        assert refused(answer) == (503, "registry")
        assert wait_for(lambda: gateway.request("/healthz")[0] == 200, "the gateway to go on")


NASTY = "<img src=x onerror=alert(1)>"


def test_names_from_devices_stay_text(gateway: RunningGateway, admin: Visitor) -> None:
    """A browser shows none of them as a page: the type says JSON, and it is told not to guess."""
    token = register(admin, id="nasty", tags={"site": NASTY})
    body = json.dumps({NASTY: 1, "text": NASTY}).encode()
    assert gateway.request("/v1/devices/nasty/readings", body=body, token=token)[0] == 200
    found = admin.send("GET", "/v1/devices/nasty")
    assert found.body["tags"] == {"site": NASTY}
    wait_for(lambda: NASTY in admin.send("GET", "/v1/devices/nasty").body["latest"], "the commit")
    answers = [
        admin.send("GET", "/v1/devices/nasty"),
        admin.send("GET", "/v1/devices?search=nasty"),
        admin.send("GET", "/v1/devices/%3Cimg%20src=x%20onerror=alert(1)%3E"),
        admin.send("GET", "/v1/devices?limit=%3Cimg%20onerror%3E"),
        admin.send("GET", "/%3Cimg%20onerror%3E"),
        admin.send("POST", "/v1/devices/%3Cimg%20onerror%3E/readings", b"{}"),
        admin.send("GET", "/v1/devices/%3Cimg%20onerror%3E/stream"),
        admin.change("POST", "/v1/devices", {"id": NASTY}),
    ]
    for answer in answers:
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
