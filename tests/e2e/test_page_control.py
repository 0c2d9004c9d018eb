"""Commands and settings on the page: headless Chromium, the real gateway, devices that answer."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from websockets.sync.client import connect

from tests.support.gateway import RunningGateway, running_gateway, wait_for
from tests.support.page import Page, of_admin, watched
from tests.support.simulator import simulate
from tests.support.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver import Chrome
    from websockets.sync.client import ClientConnection

pytestmark = pytest.mark.server

ADMIN = "admin-token-for-tests-0123456789"
DEVICE = "press-1"
MARKUP = "<img src=x onerror=document.title='run'>"
LIMITS = {"limits": {"readings_per_second": 50, "burst": 500}}
SCENARIO = """
groups:
  - name: press
    kind: climate
    count: 1
    interval: 500ms
    prefix: press-
    commands:
      restart: {value: {uptime_s: 0, "%s": "%s"}}
      calibrate: {error: "probe missing %s"}
      dream: {silent: true}
""" % ((MARKUP,) * 3)
HISTORY = """
const cells = (row) => [...row.children].map((cell) => cell.textContent);
return [...document.querySelectorAll('.commands tbody tr')].map(cells)"""
STATES = """
const cells = (row) => [...row.children].slice(1, 4).map((cell) => cell.textContent);
const rows = [...document.querySelectorAll('.settings tbody tr')];
return Object.fromEntries(rows.map((row) => [row.dataset.key, cells(row)]))"""
NOTHING = "\N{EN DASH}"


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway where anyone on this machine may look, with one press that answers commands and takes settings."""
    directory = tmp_path_factory.mktemp("plant")
    scenario = directory / "scenario.yaml"
    scenario.write_text(SCENARIO)
    with running_gateway(directory, LIMITS) as gateway:
        options = ("--url", gateway.ws, "--scenario", str(scenario), "--quiet")
        with simulate(directory, "run", *options):
            wait_for(lambda: gateway.request(f"/v1/devices/{DEVICE}")[1].get("latest"), "the press to send")
            yield gateway


@pytest.fixture(scope="module")
def admins(chromium: Chrome, plant: RunningGateway) -> Iterator[Page]:
    """The page of somebody who logged in as admin."""
    with of_admin(chromium, plant.url, ADMIN) as found:
        yield found


@pytest.fixture
def page(admins: Page) -> Iterator[Page]:
    """The same, watched for one test."""
    with watched(admins) as found:
        yield found


def send(page: Page, name: str, params: str = "{}", seconds: str | None = None) -> None:
    page.type("form.command input[type=text]", name)
    page.type("form.command textarea", params)
    if seconds is not None:
        page.type("form.command input[type=number]", seconds)
    page.click("form.command button")


def history(page: Page) -> list[list[str]]:
    return list(page.script(HISTORY))


def settings(page: Page) -> dict[str, list[str]]:
    """By key: what it should be, what it is, and the state."""
    return dict(page.script(STATES))


def change(page: Page, key: str, value: str) -> None:
    page.type("form.setting input", key)
    page.type("form.setting textarea", value)
    page.click("form.setting button")


def only(page: Page, *parts: str) -> None:
    """The browser tells of refused requests by itself: nothing but these was refused."""
    errors = page.errors()
    assert len(errors) == len(parts), errors
    assert all(part in error for part, error in zip(parts, errors, strict=True)), errors


def test_a_command_its_result_and_its_history(page: Page) -> None:
    page.open(f"#/devices/{DEVICE}")
    page.find(".tabs").find_element("link text", "Commands").click()
    page.wait_text(".control", "No command was sent to this device yet.")
    assert page.script("return document.activeElement.textContent") == "Commands"
    send(page, "restart", '{"delay_s": 3}')
    assert '"uptime_s": 0' in page.wait_text(".outcome", "done")
    assert MARKUP in page.text(".outcome pre")
    wait_for(lambda: [row[2].startswith("done") for row in history(page)] == [True], "the end in the history")
    when, what, state, answer, by, _ = history(page)[0]
    assert str(time.localtime().tm_year) in when
    assert what == 'restart{"delay_s":3}'
    assert "after" in state
    assert json.loads(answer)["uptime_s"] == 0
    assert by == "admin at 127.0.0.1"
    assert page.attribute("#command-names option", "value") == "restart"


def test_what_a_device_refuses_and_what_it_leaves_unanswered(page: Page) -> None:
    page.open(f"#/devices/{DEVICE}?tab=commands")
    send(page, "calibrate")
    page.wait_text(".outcome", f"the device reports an error probe missing {MARKUP}")
    send(page, "dream", seconds="0.3")
    assert "not known" in page.wait_text(".outcome", "no answer in time")
    wait_for(lambda: [row[2] for row in history(page)][:1] == ["no answer in time"], "the newest in the history")
    assert f"probe missing {MARKUP}" in history(page)[1][3]
    page.click(".commands tbody tr:nth-child(2) button")  # again
    assert page.script("return document.querySelector('form.command input').value") == "calibrate"
    page.find(".tabs").find_element("link text", "Data").click()
    page.find(".chart canvas")  # which could not be drawn before it was seen
    only(page, "504")


def test_a_command_is_kept_for_a_device_that_is_not_connected(plant: RunningGateway, page: Page) -> None:
    assert plant.request("/v1/devices/away/readings", body=b'{"temp":1}')[0] == 200
    page.open("#/devices/away?tab=commands")
    send(page, "wake")
    page.wait_text(".outcome", "nothing was sent")
    assert history(page) == []
    only(page, "409")
    page.click("form.command input[type=checkbox]")
    page.click("form.command button")
    page.wait_text(".outcome", "kept")
    wait_for(lambda: [row[2][:7] for row in history(page)] == ["waiting"], "it to wait")
    with connect(f"{plant.ws}/v1/devices/away/stream") as socket:
        command = received(socket, "command")
        assert command["name"] == "wake"
        socket.send(json.dumps({"type": "result", "id": command["id"], "ok": True, "value": "awake"}))
        wait_for(lambda: [(row[2][:4], row[3]) for row in history(page)] == [("done", '"awake"')], "its answer")


def received(socket: ClientConnection, kind: str) -> dict[str, Any]:
    """The next message of a kind."""
    while (message := json.loads(socket.recv(timeout=10))).get("type") != kind:
        pass
    return dict(message)


def test_what_others_do_is_seen(plant: RunningGateway, page: Page) -> None:
    commands = f"/v1/devices/{DEVICE}/commands"
    assert plant.request(commands, body=b'{"name":"dream","keep":true}', token=ADMIN)[0] == 202  # it stays open
    page.open(f"#/devices/{DEVICE}?tab=commands")
    wait_for(lambda: history(page)[:1] and history(page)[0][1] == "dreamkept", "what is open")
    assert plant.request(commands, body=b'{"name":"ping"}', token=ADMIN)[1]["value"] == "pong"
    wait_for(lambda: (history(page)[0][1], history(page)[0][3]) == ("ping", '"pong"'), "what was done meanwhile")


def test_invalid_json_is_refused_in_the_form(plant: RunningGateway, page: Page) -> None:
    page.open(f"#/devices/{DEVICE}?tab=commands")
    wait_for(lambda: history(page), "what was sent before")
    before = len(history(page))
    for typed, wrong in (('{"delay_s": }', "Not valid JSON"), ('{"n": 12345678901234567891}', "more digits")):
        page.type("form.command textarea", typed)
        page.wait_text("form.command .wrong", wrong)  # as one types
        assert page.attribute("form.command textarea", "aria-invalid") == "true"
    page.type("form.command input[type=text]", "restart")
    page.click("form.command button")
    assert page.script("return document.activeElement.tagName") == "TEXTAREA"
    page.type("form.command textarea", "{}")
    wait_for(lambda: not page.text("form.command .wrong"), "it to be right")
    commands = plant.request(f"/v1/devices/{DEVICE}/commands", token=ADMIN)[1]["commands"]
    assert len(commands) == before
    page.go(f"#/devices/{DEVICE}?tab=settings")
    change(page, "led", "{on: 1}")
    page.wait_text("form.setting .wrong", "Not valid JSON")
    assert plant.request(f"/v1/devices/{DEVICE}/settings", token=ADMIN)[1]["desired"]["version"] == 0


def test_a_setting_is_changed_and_confirmed(page: Page) -> None:
    page.open(f"#/devices/{DEVICE}?tab=settings")
    page.wait_text(".control", "No settings are set")
    change(page, "rates", '{"idle": 60, "busy": 1}')
    page.wait_text("form.setting .said", "Saved as version 1; it is on its way to the device.")
    in_sync = {"rates.busy": ["1", "1", "in sync"], "rates.idle": ["60", "60", "in sync"]}
    wait_for(lambda: settings(page) == in_sync, "both to be confirmed")
    page.click('[data-key="rates.idle"] button')
    assert page.script("return document.querySelector('form.setting textarea').value") == '{\n  "idle": 60\n}'
    change(page, "rates", '{"idle": null}')
    wait_for(lambda: settings(page) == {"rates.busy": ["1", "1", "in sync"]}, "one to be deleted")
    change(page, "rates", '{"busy": 1}')
    page.wait_text("form.setting .said", "has this value already")


def test_settings_of_a_device_that_reports_other_values(plant: RunningGateway, page: Page) -> None:
    with connect(f"{plant.ws}/v1/devices/mule/stream") as socket:
        received(socket, "welcome")
        socket.send(json.dumps({"type": "reported", "settings": {MARKUP: MARKUP}}))
        page.open("#/devices/mule?tab=settings")
        wait_for(lambda: settings(page) == {MARKUP: [NOTHING, f'"{MARKUP}"', "reported only"]}, "what it has")
        change(page, "led", "true")
        assert received(socket, "settings")["version"] == 1
        wait_for(lambda: settings(page).get("led") == ["true", NOTHING, "pending"], "the one that is desired")
        socket.send(json.dumps({"type": "reported", "version": 1, "settings": {"led": False}}))
        wait_for(lambda: settings(page).get("led") == ["true", "false", "differs"], "its answer")


def test_settings_that_somebody_else_has_changed_meanwhile(plant: RunningGateway, page: Page) -> None:
    assert plant.request("/v1/devices/shared/readings", body=b'{"temp":1}')[0] == 200
    change_elsewhere(plant, {"theirs": 1})
    page.open("#/devices/shared?tab=settings")
    wait_for(lambda: settings(page) == {"theirs": ["1", NOTHING, "pending"]}, "what is there")
    page.type("form.setting input", "mine")
    page.type("form.setting textarea", "1")
    change_elsewhere(plant, {"theirs": 2})
    wait_for(lambda: settings(page) == {"theirs": ["2", NOTHING, "pending"]}, "theirs to be shown")
    page.click("form.setting button")
    page.wait_text("form.setting .said", "Not saved: somebody else has changed the settings")
    page.click("form.setting button")
    page.wait_text("form.setting .said", "Saved as version 3; the device gets it when it connects.")
    assert settings(page) == {"mine": ["1", NOTHING, "pending"], "theirs": ["2", NOTHING, "pending"]}
    page.script("document.querySelector('form.setting textarea').value = JSON.stringify('x'.repeat(9000))")
    page.click("form.setting button")
    page.wait_text("form.setting .said", "at most 8192 bytes")
    only(page, "409", "413")


def change_elsewhere(plant: RunningGateway, changed: dict[str, Any]) -> None:
    """Somebody else changes settings of the device that is shared."""
    visitor, path = Visitor(plant.url), "/v1/devices/shared/settings"
    assert visitor.send("PUT", path, {"settings": changed}, Authorization=f"Bearer {ADMIN}").status == 200


def test_a_clock_that_is_an_hour_ahead(plant: RunningGateway, page: Page) -> None:
    def own_time() -> int:
        return round(time.time() * 1000) + 3_600_000

    with connect(f"{plant.ws}/v1/devices/hasty/stream") as socket:
        asked = own_time()
        socket.send(json.dumps({"type": "time", "t0": asked}))
        received(socket, "time")
        socket.send(json.dumps({"type": "time", "t0": own_time(), "last": {"t0": asked, "t3": own_time()}}))
        received(socket, "time")
        page.open("#/devices/hasty")
        clock = page.wait_text(".facts", "Clock").partition("Clock")[2]
        assert clock.startswith("1\N{NO-BREAK SPACE}h ahead, to within "), clock


def test_a_device_that_has_to_wait_is_marked(plant: RunningGateway, page: Page) -> None:
    with connect(f"{plant.ws}/v1/devices/chatty/stream", close_timeout=0.1) as socket:
        socket.send(json.dumps([{"temp": n} for n in range(900)]))  # what the next eight seconds allow, too
        socket.send('{"temp":1}')
        wait_for(lambda: "limits" in plant.request("/v1/devices/chatty")[1], "it to be known")
        wait_for(lambda: plant.device("chatty")["limits"]["throttled"], "it to have to wait")
        page.open("#/devices/chatty")
        page.wait_text(".presence .limits", " of 50 readings per second")
        page.wait_text(".facts", "Throttled1 time, last at ")


def test_a_viewer_sees_neither_commands_nor_settings(plant: RunningGateway, page: Page) -> None:
    page.driver.delete_all_cookies()
    page.open(f"#/devices/{DEVICE}?tab=commands")
    page.wait_text(".placeholder", "Commands are for administrators.")
    assert page.script("return document.querySelectorAll('form.command').length") == 0
    page.find(".tabs").find_element("link text", "Settings").click()
    page.wait_text(".placeholder", "Settings are for administrators.")
    page.click(".placeholder button")
    page.log_in(ADMIN)
    page.find("form.setting")
