from __future__ import annotations

import json
from typing import Any

from devices_sim.downlink import MAX_RESULTS, Commands, Reply, Settings
from devices_sim.effects import Answer, Send


def commands(**replies: Reply) -> Commands:
    made = Commands()
    made.replies = replies
    return made


def told(effects: Any) -> list[dict[str, Any]]:
    return [json.loads(effect.data) for effect in effects if isinstance(effect, Send)]


def test_a_command_is_answered_as_the_scenario_says() -> None:
    device = commands(a=Reply({"x": 1}), b=Reply(error="stuck"), c=Reply(silent=True))
    assert told(device.take("c1", "a", 0.0)) == [{"type": "result", "id": "c1", "ok": True, "value": {"x": 1}}]
    assert told(device.take("c2", "b", 0.0)) == [{"type": "result", "id": "c2", "ok": False, "error": "stuck"}]
    assert device.take("c3", "c", 0.0) == ()
    assert told(device.take("c4", "d", 0.0))[0]["error"] == "unknown command d"
    assert told(Commands().take("c5", "ping", 0.0))[0]["value"] == "pong"


def test_a_command_that_comes_again_is_answered_again_and_not_while_it_is_done() -> None:
    device = commands(slow=Reply(1, delay=2.0))
    assert device.take("c1", "slow", 10.0) == (Answer(12.0, "c1"),)
    assert device.take("c1", "slow", 11.0) == ()
    assert told(device.finish("c1")) == told(device.take("c1", "slow", 13.0)) != []


def test_settings_that_mean_nothing_to_a_device_are_left_out() -> None:
    device = Settings()
    device.unknown = frozenset({"led"})
    assert told(device.take(1, {"rate": 2, "led": {"on": True}}))[0]["settings"] == {"rate": 2}
    assert told(device.take(2, {"led": {"on": True}}))[0]["settings"] == {"rate": None}
    assert device.have == {}


def test_as_many_results_are_remembered_as_can_come_again() -> None:
    device = Commands()
    for number in range(MAX_RESULTS + 1):
        device.take(f"c{number}", "ping", 0.0)
    assert len(device._results) == len(device._done) == MAX_RESULTS
    assert device.finish("c0") == ()
