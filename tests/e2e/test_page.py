"""The page in headless Chromium against the real gateway, simulated devices and both databases."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from selenium.webdriver.common.keys import Keys
from websockets.sync.client import connect

from tests.support.gateway import RunningGateway, running_gateway, wait_for
from tests.support.page import Page
from tests.support.simulator import simulate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome

    from tests.support.servers import Influxd

pytestmark = pytest.mark.server

ADMIN = "admin-token-for-tests-0123456789"
VIEWER = "viewer-token-for-tests-0123456789"
DEVICES = 12
DAY_MS = 86_400_000
KEEPALIVE = {"ping_interval": "5s", "timeout": "11s"}
"""Longer than it takes a device with a rhythm below a second to be stale: 5 s and five times its rhythm."""
FIELDS = {"temp": {"type": "float", "unit": "°C"}, "hum": {"type": "float", "unit": "%"}}
MARKUP = "<img src=x onerror=document.title='run'>"
LONG_TASK_MS = 200


def overrides(**more: Any) -> dict[str, Any]:
    return {"keepalive": KEEPALIVE, "profiles": {"default": {"fields": FIELDS}}, **more}


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway on SQLite that asks viewers to log in, with a fleet."""
    directory = tmp_path_factory.mktemp("sqlite")
    over = overrides(auth={"viewer_token": VIEWER})
    with running_gateway(directory, over) as gateway, fleet(directory, gateway):
        yield gateway


@pytest.fixture(scope="module")
def influxdb(tmp_path_factory: pytest.TempPathFactory, influxd: Influxd) -> Iterator[RunningGateway]:
    """A gateway on InfluxDB where anyone on this machine may look, with a fleet; its database is called ``page``."""
    directory = tmp_path_factory.mktemp("influxdb")
    influxd.create_database("page")
    over = overrides(sink="influxdb", influxdb={"url": influxd.url, "api": "v1", "database": "page"})
    with running_gateway(directory, over) as gateway, fleet(directory, gateway):
        yield gateway


def fleet(directory: Path, gateway: RunningGateway, *arguments: str) -> Any:
    options = ("--devices", str(DEVICES), "--interval", "200ms", *arguments)
    return simulate(directory, "run", "--url", gateway.ws, "--quiet", *options)


@pytest.fixture
def page(request: pytest.FixtureRequest, chromium: Chrome) -> Iterator[Page]:
    """The page of one gateway, which a viewer may see; whatever happens, nothing may go wrong in its console."""
    gateway: RunningGateway = request.getfixturevalue(getattr(request, "param", "sqlite"))
    found = Page(chromium, gateway.url)
    found.open()
    wait_for(lambda: found.script("return document.body.dataset.view"), "a view to be open")
    if found.script("return document.body.dataset.view") == "login":
        found.log_in(VIEWER)
        found.find(".table")
    found.errors()  # those of a test before, which has failed of them
    yield found
    assert found.errors() == []
    chromium.delete_all_cookies()


both = pytest.mark.parametrize("page", ["sqlite", "influxdb"], indirect=True)


def post(gateway: RunningGateway, device: str, body: str) -> None:
    status, answer = gateway.request(f"/v1/devices/{device}/readings", body=body.encode())
    assert status == 200, answer
    assert answer["rejected"] == []


def shown(gateway: RunningGateway, device: str) -> dict[str, Any]:
    """The device as the API shows it; empty if there is none."""
    status, found = gateway.request(f"/v1/devices/{device}", token=ADMIN)
    return dict(found) if status == 200 else {}


def test_a_login_is_required_and_works(sqlite: RunningGateway, page: Page) -> None:
    page.click("#account")  # logs out
    page.find("form.login")
    assert page.rows() == {}
    assert sqlite.request("/v1/devices")[0] == 401
    page.log_in("not-the-token")
    page.wait_text("form.login .wrong", "neither the viewer's nor the administrator's")
    assert any("401" in error for error in page.errors())  # the browser tells of every refused request
    page.log_in(VIEWER)
    wait_for(page.rows, "the table")


def test_the_table_fills(page: Page) -> None:
    def complete() -> bool:
        rows = page.rows().values()
        filled = (row["state"] == "live" and row["values"] and row["rate"].endswith("/s") for row in rows)
        return len(rows) == DEVICES and all(filled)

    wait_for(complete, "every device with its values")
    assert "°C" in page.rows()["sim-0"]["values"]  # the unit of the profile
    page.wait_text('.tile[data-name="Devices connected"]', f"{DEVICES}of {DEVICES} known")
    page.wait_text('.tile[data-name="Spool"]', "at this rate")
    assert "delivering" in page.text('.tile[data-name="Database"]')
    wait_for(lambda: page.attribute('.row[data-device="sim-0"] polyline', "points").count(",") > 1, "a curve")


def test_the_table_is_searched_sorted_and_walked_by_keys(page: Page) -> None:
    wait_for(page.rows, "the table")
    page.press("/", "sim-1")
    wait_for(lambda: set(page.rows()) == {"sim-1", "sim-10", "sim-11"}, "what the search finds")
    page.click('[data-sort="id"]')
    wait_for(lambda: list(page.rows()) == ["sim-11", "sim-10", "sim-1"], "the other order")
    page.script("document.querySelector('.viewport').focus()")
    page.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER)
    page.wait_text("h1.device-id", "sim-10")
    page.driver.back()
    page.click('[data-sort="id"]')
    page.type("input[type=search]", "nothing is called so")
    page.wait_text(".message", "No device matches.")
    page.click(".message button")
    wait_for(lambda: len(page.rows()) == DEVICES, "all of them again")


def test_a_view_that_was_left_does_nothing_any_more(page: Page) -> None:
    taken = """const key = new KeyboardEvent("keydown", { key: "/", bubbles: true, cancelable: true });
    return !document.body.dispatchEvent(key)"""
    wait_for(page.rows, "the table")
    assert page.script(taken), "the fleet's shortcut"
    page.go("#/health")
    wait_for(lambda: page.script("return document.body.dataset.view") == "health", "the other view")
    assert not page.script(taken)


@both
def test_a_chart_moves_live(page: Page, request: pytest.FixtureRequest) -> None:
    gateway: RunningGateway = request.getfixturevalue(request.node.callspec.params["page"])
    wait_for(lambda: shown(gateway, "sim-0").get("latest"), "the device to send")
    page.open("#/devices/sim-0?range=5m")
    picture = "const drawn = document.querySelector('.chart canvas'); return drawn ? drawn.toDataURL() : ''"
    newest = ".chart .legend .value"
    pictures, values = set(), set()

    def moved() -> bool:
        pictures.add(page.script(picture))
        values.add(page.text(newest))
        return len(pictures - {""}) > 3 and len(values - {""}) > 3

    wait_for(moved, "the curve to move")
    assert page.text(newest).endswith(("°C", "%"))


@both
def test_a_range_change_loads_history(page: Page, request: pytest.FixtureRequest) -> None:
    gateway: RunningGateway = request.getfixturevalue(request.node.callspec.params["page"])
    start = round(time.time() * 1000) - 3 * DAY_MS
    readings = ",".join(f'{{"ts":{start + n * 60_000},"values":{{"level":{100 + n}}}}}' for n in range(60))
    post(gateway, "tank", f"[{readings}]")
    wait_for(lambda: shown(gateway, "tank")["ledger"]["stored"] == 60, "all of it to be stored")
    page.open("#/devices/tank?range=5m")
    described = '.chart [role="img"]'
    wait_for(lambda: "no values in this range" in page.attribute(described, "aria-label"), "an empty chart")
    page.find(".range").find_element("xpath", ".//button[text()='7 d']").click()
    wait_for(lambda: "lowest 100, mean 129.5, highest 159" in page.attribute(described, "aria-label"), "all of it")
    assert "range=7d" in page.driver.current_url
    page.drag(".chart .u-over", 0.5, 0.6)  # 2.8 to 3.5 days ago
    wait_for(lambda: "from=" in page.driver.current_url, "the part that was chosen")
    wait_for(lambda: "lowest 100, mean 129.5" in page.attribute(described, "aria-label"), "the part to be loaded")
    page.driver.back()
    wait_for(lambda: page.attribute(".range button[aria-pressed=true]", "aria-pressed"), "the range before")


def test_a_killed_device_turns_stale_and_then_offline(sqlite: RunningGateway, page: Page, tmp_path: Path) -> None:
    with fleet(tmp_path, sqlite, "--devices", "1", "--prefix", "victim-") as simulation:
        wait_for(lambda: 0 < (shown(sqlite, "victim-0").get("rhythm_ms") or 0) < 1000, "its rhythm", 40)
        page.type("input[type=search]", "victim")
        wait_for(lambda: page.rows().get("victim-0", {}).get("state") == "live", "the device")
        simulation.process.send_signal(signal.SIGSTOP)  # its sockets stay open and nothing comes through them
        stopped = time.monotonic()
        seen: list[str] = []

        def offline() -> bool:
            state = page.rows()["victim-0"]["state"]
            if [state] != seen[-1:]:
                seen.append(state)
            return state == "offline"

        wait_for(offline, "the device to be offline", 11 + 5)
        assert seen == ["live", "late", "stale", "offline"]
        assert time.monotonic() - stopped >= 5  # by the keepalive, not because a socket was closed
        assert "s" in page.rows()["victim-0"]["age"]


def test_a_device_that_sends_by_request_is_not_offline(sqlite: RunningGateway, page: Page) -> None:
    def row() -> str:
        return str(page.rows().get("hook", {}).get("state"))

    page.type("input[type=search]", "hook")
    post(sqlite, "hook", '{"temp":1}')
    wait_for(lambda: row() == "by request", "the device in the table")
    page.click('.states [data-state="by-request"]')
    wait_for(lambda: list(page.rows()) == ["hook"], "only what sends by request")
    assert int(page.text('.states [data-state="by-request"] b')) >= 1
    page.click('.states [data-state="by-request"]')
    with connect(f"{sqlite.ws}/v1/devices/hook/stream") as socket:
        wait_for(lambda: row() == "live", "its socket")
        socket.send('{"temp":2}')
        page.go("#/devices/hook")
        page.wait_text(".presence b", "live")
    page.wait_text(".presence b", "offline")
    post(sqlite, "hook", '{"temp":3}')
    page.wait_text(".presence b", "by request")
    assert "since" not in page.text(".presence")
    page.wait_text(".presence .data", "ago")


def test_strings_of_devices_are_text(sqlite: RunningGateway, page: Page) -> None:
    post(sqlite, "odd", f'{{"{MARKUP}":"{MARKUP}","n":1}}')
    page.type("input[type=search]", "odd")
    images = "return document.querySelectorAll('main img').length"
    wait_for(lambda: "n 1" in page.rows().get("odd", {}).get("values", ""), "the device in the table")
    assert page.rows()["odd"]["values"].count(MARKUP) == 2  # a field's name, and its value
    assert page.script(images) == 0
    page.go("#/devices/odd")
    page.wait_text("dl.values dt", MARKUP)
    page.wait_text("dl.values dd", MARKUP)
    assert page.script(images) == 0
    page.go(f"#/devices/{MARKUP}")
    page.wait_text("h1.device-id", MARKUP)
    page.wait_text(".placeholder", "There is no such device.")
    page.errors()  # that 404
    assert page.script(images) == 0
    assert page.driver.title != "run"


def test_why_and_refusals_are_told_in_plain_words(sqlite: RunningGateway, page: Page) -> None:
    with connect(f"{sqlite.ws}/v1/devices/firmware/stream") as socket:
        socket.send('{"seq":7,"temp":"warm"}')
        socket.send('{"seq":8,"temp":21.5}')
        wait_for(lambda: shown(sqlite, "firmware").get("ledger", {}).get("stored"), "it to be stored")
    page.go("#/devices/firmware")
    assert "temp" in page.wait_text(".problems tbody", "wrong type")
    page.type('.why input[type="number"]', "8")
    page.click(".why button")
    page.wait_text(".result .answer", "in the database")
    page.type('.why input[type="number"]', "9")
    page.click(".why button")
    page.wait_text(".result .answer", "never received")
    page.errors()  # the browser tells of that answer's 404


def test_an_admin_connects_a_device(sqlite: RunningGateway, page: Page) -> None:
    page.click("#account")
    page.log_in(ADMIN)
    page.find(".table")
    page.errors()  # of requests that were under way when the login ended
    page.go("#/connect")
    page.type(".register input", "greenhouse-7")
    page.click(".register button")
    page.wait_text(".said", "The token is in the snippets")
    snippet = page.text("pre code")
    token = snippet.partition('"bearer.')[2].partition('"')[0]
    address = snippet.partition('url = "')[2].partition('"')[0]
    assert len(token) > 16
    with connect(address, additional_headers={"Authorization": f"Bearer {token}"}) as socket:
        page.wait_text(".heard", "is connected; no reading yet")
        socket.send('{"temp":21.5}')
        page.wait_text(".heard", "greenhouse-7 sends: temp 21.5")


@pytest.mark.parametrize("page", ["influxdb"], indirect=True)
def test_dead_letters_are_shown_and_replayed(influxdb: RunningGateway, influxd: Influxd, page: Page) -> None:
    influxd.write("page", b'conflict,device=d value="text" 1\n')
    post(influxdb, "bad", '{"m":"conflict","ts":1000,"values":{"value":1.5}}')
    page.open("#/health")
    page.wait_text(".letters tbody", "field type conflict")
    wait_for(lambda: page.script("return document.querySelectorAll('.charts canvas').length") == 7, "the charts")
    page.wait_text(".reasons", "Readings are accepted and delivered")
    page.click("#account")
    page.log_in(ADMIN)
    influxd.query('DROP MEASUREMENT "conflict"', "page")
    page.click(".actions button.main")
    page.wait_text(".said", "1 are in the database now.")
    assert influxd.points("page", "conflict")[0]["value"] == 1.5


def test_five_thousand_devices_stay_smooth(page: Page, tmp_path: Path) -> None:
    many = ("--devices", "5000", "--interval", "10s", "--connect-rate", "2500")
    with running_gateway(tmp_path / "gateway") as gateway, fleet(tmp_path, gateway, *many):
        wait_for(lambda: gateway.metric("gateway_connections") == 5000, "all of them", 120)  # over TLS it takes long
        large = Page(page.driver, gateway.url)
        large.open("#/")
        large.wait_text(".found", "5,000 of 5,000")
        tasks: list[float] = []
        while not tasks or (tasks[-1] > LONG_TASK_MS and len(tasks) < 20):  # the machine may be busy with other tests
            found = large.driver.execute_async_script(SCROLL)
            assert found["rows"] > 2000, "the table was not scrolled through"
            tasks.append(found["task"])
        assert tasks[-1] <= LONG_TASK_MS, tasks
        assert len(large.rows()) < 60
        large.leave()  # before its gateway goes


SCROLL = """
const done = arguments[0];
const viewport = document.querySelector('.viewport');
const tasks = [0];
const observer = new PerformanceObserver((list) => tasks.push(...list.getEntries().map((entry) => entry.duration)));
observer.observe({ type: 'longtask' });
const seen = new Set();
const step = (viewport.scrollHeight - viewport.clientHeight) / 100;
let frame = 0;
viewport.scrollTop = 0;
function scroll() {
  viewport.scrollTop += step;
  for (const row of document.querySelectorAll('.canvas .row')) seen.add(row.dataset.device);
  if (++frame < 100) return requestAnimationFrame(scroll);
  return setTimeout(() => done({ task: Math.max(...tasks), rows: seen.size }), 100);
}
requestAnimationFrame(scroll);
"""


def test_a_page_without_a_gateway_says_so(page: Page, tmp_path: Path) -> None:
    with running_gateway(tmp_path / "gateway") as gateway:
        left = Page(page.driver, gateway.url)
        post(gateway, "last", '{"temp":21.5}')
        left.open("#/")
        left.click("#account")
        left.log_in(ADMIN)
        wait_for(lambda: left.rows().get("last", {}).get("values"), "the device")
        assert gateway.stop() == 0
        left.find("#notice")
        left.wait_text("#notice", "No connection to the gateway. What you see is from ")
        assert left.text("#feed") == "Disconnected"
        assert "21.5" in left.rows()["last"]["values"]
        left.click("#account")  # logs out
        left.wait_text(".placeholder", "The gateway does not answer.")
        left.leave()
        assert all("net::ERR_" in error for error in left.errors())  # that, the browser writes itself
