"""Dead letters looked at, written again and dropped over HTTP."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from gateway.api.dead_letters import MAX_TEXT
from gateway.delivery.dead_letters import DeadLetter, DeadLetters
from tests.support.gateway import RunningGateway, running_gateway, wait_for
from tests.support.scripted import Reply, ScriptedServer
from tests.support.sqlite_file import rows
from tests.support.visitor import Answer, Visitor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VIEWER, ADMIN = "viewer-token-0123456789", "admin-token-for-tests-0123456789"
TOKENS = {"auth": {"viewer_token": VIEWER, "admin_token": ADMIN}}
AT_NS = 1_700_000_000_123_456_789


def letter(number: int, device: str = "a", kind: str = "type_conflict", data: bytes | None = None) -> DeadLetter:
    line = data or b"telemetry,device=%s v=%d.0 %d\n" % (device.encode(), number, number)
    return DeadLetter(
        number, 0, 1000 + number, device, counted=False, refused_ns=AT_NS, kind=kind, reason="why", data=line
    )


def fill(directory: Path, *letters: DeadLetter) -> None:
    """Put letters where the gateway finds them, as another process."""
    store = DeadLetters(directory / "state/dead_letters.db")
    for each in letters:
        assert store.add(each)
    store.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), TOKENS) as running:
        yield running


@pytest.fixture
def admin(gateway: RunningGateway) -> Iterator[Visitor]:
    visitor = Visitor(gateway.url)
    assert visitor.login(ADMIN).status == 200
    yield visitor
    visitor.change("DELETE", "/v1/dead-letters", {})


def ids(answer: Answer) -> list[int]:
    return [each["id"] for each in answer.body["letters"]]


def look(visitor: Visitor, arguments: str = "") -> Answer:
    answer = visitor.send("GET", f"/v1/dead-letters{arguments}")
    assert answer.status == 200
    return answer


def test_a_viewer_sees_them_newest_first(gateway: RunningGateway, admin: Visitor) -> None:
    fill(gateway.directory, letter(1), letter(2, "b"), letter(3, "b", "too_large"), letter(4))
    viewer = Visitor(gateway.url)
    viewer.login(VIEWER)
    answer = look(viewer, "?limit=1&offset=1")
    assert (answer.body["total"], answer.body["offset"]) == (4, 1)
    assert answer.body["by_reason"] == {"too_large": 1, "type_conflict": 3}
    (shown,) = answer.body["letters"]
    assert shown == {
        "id": shown["id"],
        "device": "b",
        "reason": "too_large",
        "message": "why",
        "line": "telemetry,device=b v=3.0 3",
        "at": AT_NS // 1_000_000,
    }
    assert ids(look(viewer)) == sorted(ids(look(viewer)), reverse=True)
    assert [look(viewer, f"?{which}").body["total"] for which in ("reason=too_large", "device=b", "device=c")] == [
        1,
        2,
        0,
    ]
    assert look(viewer, "?device=b&reason=type_conflict").body["total"] == 1
    assert viewer.change("DELETE", "/v1/dead-letters", {}).code == "forbidden"
    assert viewer.change("POST", "/v1/dead-letters/replay", {}).code == "forbidden"
    assert look(viewer).body["total"] == 4


def test_what_comes_from_devices_and_databases_stays_text_and_short(gateway: RunningGateway, admin: Visitor) -> None:
    nasty = b'telemetry,device=a s="<img src=x onerror=alert(1)>\xff' + b"x" * 10_000 + b'" 1\n'
    fill(gateway.directory, letter(10, data=nasty))
    answer = look(admin)
    (shown,) = answer.body["letters"]
    assert shown["line"].startswith('telemetry,device=a s="<img src=x onerror=alert(1)>\ufffdxx')
    assert len(shown["line"]) == MAX_TEXT
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("arguments", ["limit=0", "limit=201", "offset=-1", "offset=x"])
def test_a_wrong_page_is_told(admin: Visitor, arguments: str) -> None:
    assert admin.send("GET", f"/v1/dead-letters?{arguments}").code == "bad_request"


def test_a_replay_stores_what_was_chosen_and_keeps_what_is_refused_again(
    gateway: RunningGateway, admin: Visitor
) -> None:
    fill(gateway.directory, letter(20), letter(21, "b"), letter(22, "b"), letter(23, data=b"\xff\n"))
    chosen = ids(look(admin, "?device=b"))[:1]
    replay = "/v1/dead-letters/replay"
    assert admin.change("POST", replay, {"ids": chosen}).body == {
        "replayed": 1, "refused": 0, "left": 3, "stopped": None
    }  # fmt: skip
    assert chosen[0] not in ids(look(admin))
    assert admin.change("POST", replay, {"ids": chosen}).body["replayed"] == 0
    assert admin.change("POST", replay, {"device": "a", "ids": []}).body["replayed"] == 0
    assert admin.change("POST", replay, {"device": "b", "reason": "type_conflict"}).body["replayed"] == 1
    answer = admin.change("POST", replay, {})
    assert answer.body == {"replayed": 1, "refused": 1, "left": 1, "stopped": None}
    stored = {(row[0], row[1]) for row in rows(gateway.directory / "data.db", "time_ns, device")}
    assert {(20, "a"), (21, "b"), (22, "b")} <= stored


def test_only_what_was_chosen_is_dropped(gateway: RunningGateway, admin: Visitor) -> None:
    fill(gateway.directory, letter(30), letter(31, "b"), letter(32, "b", "too_large"), letter(33))
    newest = ids(look(admin))[0]
    for chosen, left in (({"ids": [newest]}, 3), ({"device": "b", "reason": "too_large"}, 2), ({"device": "c"}, 2)):
        admin.change("DELETE", "/v1/dead-letters", chosen)
        assert look(admin).body["total"] == left
    assert admin.change("DELETE", "/v1/dead-letters", {}).body == {"dropped": 2}


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("", b""),
        ("?device=b", {}),
        ("?", b""),
        ("", {"devise": "b"}),
        ("", {"device": None}),
        ("", {"ids": ["1"]}),
        ("", {"ids": [True]}),
        ("", {"ids": [0]}),
        ("", {"ids": [2**63]}),
        ("", {"ids": list(range(1, 1002))}),
        ("", []),
    ],
)
def test_a_slip_drops_and_replays_nothing(gateway: RunningGateway, admin: Visitor, query: str, body: Any) -> None:
    fill(gateway.directory, letter(40))
    for method, path in (("DELETE", "/v1/dead-letters"), ("POST", "/v1/dead-letters/replay")):
        assert admin.change(method, path + query, body).code == "bad_request"
    assert look(admin).body["total"] == 1


def into(script: ScriptedServer) -> dict[str, Any]:
    database = {"url": script.url, "api": "v1", "database": "telemetry"}
    return {**TOKENS, "sink": "influxdb", "influxdb": database}


def test_one_replay_runs_at_a_time_and_continues_when_its_client_has_left(tmp_path: Path) -> None:
    slow, replay = Reply(204, drip=0.02), "/v1/dead-letters/replay"
    with ScriptedServer(slow, Reply(204)) as script, running_gateway(tmp_path, into(script)) as gateway:
        admin = Visitor(gateway.url)
        admin.login(ADMIN)
        fill(tmp_path, letter(1), letter(2))
        with contextlib.closing(gateway.keep_alive()) as leaving:
            leaving.request("POST", replay, b"{}", {"Authorization": f"Bearer {ADMIN}"})
            wait_for(lambda: script.requests, "the replay to write")
            assert admin.change("POST", replay, {}).code == "replay_runs"
        wait_for(lambda: look(admin).body["total"] == 0, "the replay to end")
        assert len(script.requests) == 1
        wait_for(lambda: admin.change("POST", replay, {}).status == 200, "the next to be let in")


def test_a_database_that_is_away_ends_a_replay_and_a_file_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    with ScriptedServer(Reply(503, body=b"busy")) as script, running_gateway(tmp_path, into(script)) as gateway:
        admin = Visitor(gateway.url)
        admin.login(ADMIN)
        fill(tmp_path, letter(1))
        answer = admin.change("POST", "/v1/dead-letters/replay", {})
        assert (answer.status, answer.body["replayed"], answer.body["left"]) == (200, 0, 1)
        assert answer.body["stopped"] == "busy"
        with contextlib.closing(sqlite3.connect(tmp_path / "state/dead_letters.db", isolation_level=None)) as db:
            db.execute("DROP TABLE letters")
        answer = admin.send("GET", "/v1/dead-letters")
        assert (answer.status, answer.code) == (503, "dead_letters")
