"""The golden vectors, seen from the device: it may send what they send, and must understand what they answer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest

from devices_sim.downlink import Reply
from devices_sim.effects import Send, Stop
from devices_sim.exchange import Exchange, OwnTime
from devices_sim.protocol import Device, Phase
from devices_sim.tally import Tally
from tests.support.meaning import meaning

VECTORS = Path(__file__).parents[1] / "vectors"
CASES = [
    pytest.param(case, id=f"{path.stem}: {case['name']}")
    for path in sorted(VECTORS.glob("*.json"))
    for case in json.loads(path.read_text())
]


class Play:
    """A device that says what the vector's device says, and hears what it is answered."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.case = case
        self.tally = Tally()
        self.device = Device("d1", "b1", self.tally, Random(1))
        self.device.outbox.refused = {}
        known = case.get("before", {}).get("b1", {}).get("durable", -1)
        self.device.outbox.acked_to = self.device.outbox.highest_sent = known
        self.device.outbox.next_seq = known + 1
        self.clock = 0.0
        self.results = {m["id"]: whole(m) for m in sent(case) if m.get("type") == "result" and "id" in m}
        commands = [step["answers"] for step in case["script"] if step.get("answers", {}).get("type") == "command"]
        self.device.commands.replies = {
            command["name"]: Reply(result.get("value"), result.get("error"))
            for command in commands
            if (result := self.results[command["id"]])
        }
        if case.get("start") != "unknown":
            self.device.opened(0.0)
            self.hear({"type": "welcome", "boot": "b1", "last_seq": known if known >= 0 else None})

    def step(self, step: dict[str, Any]) -> None:
        self.clock += step.get("after_ms", 0) / 1000
        if "send" in step:
            self.say(step["send"])
        elif "answers" in step:
            self.hear(step["answers"])
        elif "closes" in step:
            (effect,) = self.device.closed(step["closes"], "reason")
            assert isinstance(effect, Stop) == (step["closes"] in {1008, 4401})

    def say(self, message: Any) -> None:
        if not isinstance(message, dict):
            return
        if message.get("type") == "time" and isinstance(message.get("t0"), int | float):
            self.device.exchange = self.device.exchange or Exchange(OwnTime(message["t0"], self.clock), 60.0)
            self.device.exchange.asked = message["t0"]
        if message.get("type") == "hello" and isinstance(message.get("boot"), str):
            self.device.boot, self.device.ack = message["boot"], message.get("ack", "durable")
            self.device.outbox.kept = self.device.ack != "none"
        seq = message.get("seq")
        if isinstance(seq, int) and seq >= self.device.outbox.next_seq:
            self.device.outbox.next_seq = seq
            self.device.submit(json.dumps(message).encode(), count(message), self.clock)

    def hear(self, answer: dict[str, Any]) -> None:
        effects = self.device.received(json.dumps(answer).encode(), self.clock)
        match answer["type"]:
            case "command":
                results = [json.loads(effect.data) for effect in effects if isinstance(effect, Send)]
                assert results == [self.results[answer["id"]]]
            case "settings":
                (report,) = (json.loads(effect.data) for effect in effects if isinstance(effect, Send))
                assert report in sent(self.case)
            case "time":
                assert self.device.exchange is not None
                assert self.device.exchange.asked is None, "it was taken for the answer"
            case "ack":
                assert not [seq for seq in self.device.outbox.pending if seq <= answer["seq"]]
            case "welcome" if answer["boot"] == self.device.boot:
                assert self.device.phase is Phase.READY
                assert self.device.limits.timeout * 1000 == answer.get("keepalive", {}).get("timeout_ms", 30000)
            case "throttle" if self.device.outbox.pending:
                later = self.device.resume(self.clock + answer["retry_after_ms"] / 1000)
                again = [json.loads(e.data)["seq"] for e in later if isinstance(e, Send)]
                assert again[0] == answer["from_seq"]


def sent(case: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects that the vector's device sends."""
    return [step["send"] for step in case["script"] if isinstance(step.get("send"), dict)]


def whole(result: dict[str, Any]) -> dict[str, Any]:
    """A result with the value that may be left out if it is null."""
    return {"value": None, **result} if result.get("ok") else result


def count(message: dict[str, Any]) -> int:
    columns = message.get("columns")
    if isinstance(columns, dict) and columns:
        longest = next(iter(columns.values()))
        return len(longest) if isinstance(longest, list) else 1
    readings = message.get("readings")
    return len(readings) if isinstance(readings, list) else 1


@pytest.mark.parametrize("case", CASES)
def test_a_device_understands_the_conversation(case: dict[str, Any]) -> None:
    play = Play(case)
    for step in case["script"]:
        play.step(step)
    unreadable = [text for text in play.tally.violation_texts if "cannot be read" in text]
    assert unreadable == []
    assert not play.tally.ignored


FORMS = [pytest.param(case, id=case["name"]) for case in json.loads((VECTORS / "forms.json").read_text())]
_NUMBERS = re.compile(r"[^ =]+(,[^ =]+=[^ =]+)+ ([^=, ]+=-?[0-9.e+-]+,?)+ -?[0-9]+")


@pytest.mark.parametrize("case", FORMS)
def test_the_tests_own_reading_of_messages_agrees_with_the_vectors(case: dict[str, Any]) -> None:
    """What test_sensors judges the simulator's messages by."""
    sends = [step["send"] for step in case["script"] if "send" in step]
    stores = [step["stores"]["lines"] for step in case["script"] if step.get("stores", {}).get("lines")]
    numbers = all(_NUMBERS.fullmatch(line) and "\\" not in line for lines in stores for line in lines)
    if len(stores) != len(sends) or not numbers or "profile" in case or "tags" in case:
        pytest.skip("refusals, profiles and escaping are the gateway's business")
    for message, lines in zip(sends, stores, strict=True):
        for reading, line in zip(meaning(message), lines, strict=True):
            assert stored(*reading) == parsed(line, timed=reading[2] is not None)


def stored(measurement: str | None, tags: dict[str, str], time: int | None, fields: dict[str, Any]) -> tuple[Any, ...]:
    kept = {name: value for name, value in fields.items() if value is not None}
    return (measurement or "telemetry", tags, kept, time)


def parsed(line: str, *, timed: bool) -> tuple[Any, ...]:
    """A line of line protocol with numbers only and nothing escaped."""
    series, fields, time = line.split(" ")
    measurement, *tags = series.split(",")
    pairs = dict(pair.split("=") for pair in tags)
    del pairs["device"]
    numbers = {name: float(value) for name, value in (pair.split("=") for pair in fields.split(","))}
    return (measurement, pairs, numbers, int(time) if timed else None)
