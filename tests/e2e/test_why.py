"""`gateway why` and ``/v1/why`` beside a real gateway and a real database: every stage of a reading."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from websockets.sync.client import connect

from tests.support.gateway import RunningGateway, running_gateway, wait_for
from tests.support.servers import Influxd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TS = 1_764_000_000_000
VIEWER = "viewer-token-0123456789"


def influxdb(server: Influxd, database: str) -> dict[str, Any]:
    return {"sink": "influxdb", "influxdb": {"url": server.url, "api": "v1", "database": database}}


def send(gateway: RunningGateway, device: str, *messages: dict[str, Any], boot: str = "b1") -> None:
    """Send numbered messages, and wait for the ack of the last one."""
    with connect(f"{gateway.ws}/v1/devices/{device}/stream") as socket:
        socket.recv()
        socket.send(json.dumps({"type": "hello", "boot": boot}))
        socket.recv()
        for message in messages:
            socket.send(json.dumps(message))
        while True:
            answer = json.loads(socket.recv(20))
            if answer["type"] == "ack" and answer["seq"] >= messages[-1]["seq"]:
                return


def reading(seq: int, **values: Any) -> dict[str, Any]:
    return {"seq": seq, "ts": TS + seq, "values": values or {"temp": float(seq)}}


def why(gateway: RunningGateway, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = gateway.cli("why", *arguments, "--json")
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, influxd: Influxd) -> Iterator[RunningGateway]:
    database = influxd.create_database()
    influxd.write(database, b"telemetry,device=strict level=1i 1764000000000000000\n")
    with running_gateway(tmp_path_factory.mktemp("gateway"), influxdb(influxd, database)) as running:
        yield running


def test_a_stored_message_shows_its_commit_and_its_write(gateway: RunningGateway) -> None:
    send(gateway, "stored", *(reading(seq) for seq in range(5)))
    assert gateway.settled("stored")["stored"] == 5
    wait_for(lambda: why(gateway, "stored", "--seq", "3")[1]["messages"][0]["writes"], "the log of writes")
    code, answer = why(gateway, "stored", "--seq", "3")
    assert code == 0
    [message] = answer["messages"]
    [write] = message["writes"]
    assert answer["answer"] == f"in the database since {write['ended']}, by write {write['n']}"
    assert message["arrived"] <= message["committed"] <= write["ended"]
    assert message["points"] == [f"telemetry,device=stored temp=3.0 {TS + 3}000000"]
    status, told = gateway.request("/v1/why/stored?seq=3&boot=b1")
    assert (status, told) == (200, answer)
    text = gateway.cli("why", "stored", "--seq", "3").stdout
    assert f"in record {message['record']}" in text
    assert f"write {write['n']}" in text


def test_copies_refusals_gaps_and_unknown_numbers_are_told_apart(gateway: RunningGateway) -> None:
    send(gateway, "mixed", reading(0), {"seq": 1, "readings": [{"a": [1]}, {"b": 2}]}, reading(5))
    send(gateway, "mixed", reading(0))
    assert gateway.settled("mixed") | {"received": 0} == {
        "received": 0, "stored": 3, "duplicate": 1, "rejected": 1, "dropped": 0, "pending": 0, "gaps": 3,
    }  # fmt: skip
    code, answer = why(gateway, "mixed", "--seq", "0")
    assert [message["readings"]["duplicate"] for message in answer["messages"]] == [0, 1]
    assert answer["answer"].endswith("; 1 later copies were duplicates")
    code, answer = why(gateway, "mixed", "--seq", "1")
    assert answer["messages"][0]["verdicts"][0]["code"] == "wrong_type"
    assert "1 of its readings were refused when it arrived" in answer["answer"]
    code, answer = why(gateway, "mixed", "--seq", "3")
    assert (code, answer["found"]) == (1, False)
    assert answer["answer"].startswith("never received: a gap. 5 came at ")
    assert (
        "never received: the highest number of boot b1 so far is 5" in why(gateway, "mixed", "--seq", "6")[1]["answer"]
    )
    assert "nothing of boot b9 is kept" in why(gateway, "mixed", "--seq", "1", "--boot", "b9")[1]["answer"]
    assert gateway.request("/v1/why/mixed?seq=3")[0] == 404


def test_a_refused_point_shows_the_reason_of_the_database(gateway: RunningGateway) -> None:
    send(gateway, "strict", reading(0, level=1.5), reading(1, other=2))
    assert gateway.settled("strict")["rejected"] == 1
    _, answer = why(gateway, "strict", "--seq", "0")
    assert answer["answer"].startswith("the database refused it")
    [letter] = answer["messages"][0]["dead_letters"]
    assert "field type conflict" in letter["reason"]
    assert why(gateway, "strict", "--seq", "1")[1]["messages"][0]["dead_letters"] == []


def test_unnumbered_readings_are_found_by_time(gateway: RunningGateway) -> None:
    body = json.dumps({"ts": TS + 77, "values": {"temp": 1}}).encode()
    assert gateway.request("/v1/devices/unnumbered/readings", body=body)[0] == 200
    code, answer = why(gateway, "unnumbered", "--time", str(TS + 77))
    assert code == 0
    [message] = answer["messages"]
    assert message["seq"] is None
    code, near = why(gateway, "unnumbered", "--time", message["arrived"])
    assert code == 0
    assert near["answer"].startswith("no reading of this device has that time; 1 messages arrived")
    code, answer = why(gateway, "unnumbered", "--time", "2020-01-01T00:00:00Z")
    assert code == 1
    assert "Kept history begins at 20" in answer["answer"]
    assert gateway.request(f"/v1/why/unnumbered?time={TS + 77}")[0] == 200


def test_an_unknown_device_has_no_trace(gateway: RunningGateway) -> None:
    code, answer = why(gateway, "nobody", "--seq", "1")
    assert code == 1
    assert answer["answer"] == "no device of that name is registered, and none has ever sent anything"
    status, body = gateway.request("/v1/why/nobody?seq=1")
    assert (status, body["found"]) == (404, False)
    assert body["error"] == {"code": "not_found", "message": answer["answer"]}


@pytest.mark.parametrize("query", ["", "?seq=1&time=2", "?seq=x", "?time=yesterday", "?time=--5", "?seq=-1"])
def test_a_malformed_request_is_refused(gateway: RunningGateway, query: str) -> None:
    assert gateway.request(f"/v1/why/stored{query}")[0] == 400


def test_wrong_usage_of_the_command(gateway: RunningGateway) -> None:
    for arguments in ((), ("--seq", "1", "--time", "2"), ("--time=--5",), ("--seq", "-1")):
        assert gateway.cli("why", "stored", *arguments).returncode == 2
    text = gateway.cli("why", "stored", "--time", "yesterday").stderr
    assert 'or ms since 1970 such as 1700000000500, got "yesterday"' in text


def test_a_waiting_message_shows_the_state_of_the_database_to_viewers_only(tmp_path: Path) -> None:
    with (
        Influxd(tmp_path / "influxd") as server,
        running_gateway(
            tmp_path / "gateway", influxdb(server, server.create_database("t")) | {"auth": {"viewer_token": VIEWER}}
        ) as gateway,
    ):
        server.stop()
        send(gateway, "waits", reading(0))
        assert gateway.request("/v1/why/waits?seq=0")[0] == 401

        def retrying() -> Any:
            status, answer = gateway.request("/v1/why/waits?seq=0", token=VIEWER)
            assert status == 200
            return answer["database"]["state"] == "retrying" and answer

        answer = wait_for(retrying, "the outage to be noticed")
        assert answer["answer"] == "waits in the spool for the database"
        assert "refused" in answer["database"]["reason"]
        assert why(gateway, "waits", "--seq", "0")[1]["answer"] == answer["answer"]
        server.start()
        wait_for(lambda: why(gateway, "waits", "--seq", "0")[1]["messages"][0]["writes"], "its delivery")


def test_deleted_history_is_reported_as_deleted(tmp_path: Path) -> None:
    over = {"spool": {"keep_delivered": "0s", "segment_bytes": "64KiB", "max_bytes": "1MiB"}}
    with running_gateway(tmp_path / "gateway", over) as gateway:
        send(gateway, "old", reading(0))
        padding = "x" * 1000
        for seq in range(10):
            send(gateway, "filler", {"seq": seq, "readings": [{"s": padding}] * 20})
        gateway.settled("filler")
        gateway.settled("old")
        gone = wait_for(lambda: (a := why(gateway, "old", "--seq", "0"))[0] == 1 and a, "the segment to go")
        assert "kept" in gone[1]["answer"]
        assert "Kept history begins at" in gone[1]["answer"]
