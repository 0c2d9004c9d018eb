from __future__ import annotations

from importlib.resources import files

import pytest

from devices_sim.downlink import Reply
from devices_sim.exchange import Clock
from devices_sim.scenario import (
    Faults,
    Group,
    ScenarioError,
    default_scenario,
    load_scenario,
    parse_duration,
    parse_scenario,
    scaled,
)


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("20s", 20), ("1.5m", 90), ("2h", 7200), ("1d", 86400), (" 1s ", 1)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "s", "-1s", "1 s", "1sec", 5, None])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


def test_a_group_has_a_kind_a_count_and_faults() -> None:
    text = """
    groups:
      - name: rooms
        kind: climate
        count: 5
        interval: 500ms
        faults: {disconnect_every: 10s, duplicates: 0.05, clock_skew: 3h}
      - {name: plain, kind: machine, count: 1}
    """
    faults = Faults(disconnect_every=10, duplicates=0.05, clock_skew=10800)
    assert parse_scenario(text) == (
        Group("rooms", "climate", 5, 0.5, faults),
        Group("plain", "machine", 1, None, Faults()),
    )


def test_clocks_may_be_ahead_or_behind_and_run_wrong() -> None:
    text = """
    groups:
      - {name: a, kind: climate, count: 1, clock: {offset: -10m, drift: 50, ask: 5s}}
      - {name: b, kind: climate, count: 1, clock: {offset: 1h}}
    """
    assert [group.clock for group in parse_scenario(text)] == [Clock(-600.0, 50.0, 5.0), Clock(3600.0)]
    with pytest.raises(ScenarioError) as caught:
        parse_scenario("groups: [{name: a, kind: climate, count: 1, clock: {offset: -, drift: fast, ask: 0s, x: 1}}]")
    for problem in ("offset: not a duration", "drift: must be a number", "ask: must be at least", "x: unknown key"):
        assert f"groups[0].clock.{problem}" in str(caught.value)


def test_devices_speak_what_their_group_says_and_know_some_settings_only() -> None:
    text = "groups: [{name: a, kind: climate, count: 1, format: senml, unknown_settings: [led]}]"
    (group,) = parse_scenario(text)
    assert (group.format, group.unknown_settings) == ("senml", {"led"})
    bad = "groups: [{name: a, kind: climate, count: 1, format: xml, unknown_settings: [1]}]"
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(bad)
    assert "groups[0].format: must be one of json, cbor, senml" in str(caught.value)
    assert "groups[0].unknown_settings: must be a list of texts" in str(caught.value)


def test_every_problem_is_reported_at_once_with_its_path() -> None:
    text = """
    colour: blue
    groups:
      - {name: a, kind: toaster, count: 0, speed: 3}
      - {kind: climate, count: 2, interval: 1us, faults: {duplicates: 2, explode: 1s, silent_every: soon}}
      - {name: a, kind: climate, count: true, faults: none}
      - 7
    """
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(text)
    for problem in (
        "colour: unknown key",
        "groups[0].kind: must be one of climate, tracker, logger, machine",
        "groups[0].count: must be a whole number above 0",
        "groups[0].speed: unknown key (known: name, kind, count, interval, prefix, ",
        "groups[1].name: is missing",
        "groups[1].interval: not a duration",
        "groups[1].faults.duplicates: must be a number from 0 to 1",
        "groups[1].faults.explode: unknown key",
        "groups[1].faults.silent_every: not a duration",
        "groups[2].count: must be a whole number",
        "groups[2].faults: must be a mapping",
        "groups[3].kind: is missing",
        "groups: the name 'a' is used twice",
    ):
        assert problem in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "groups: []", "groups: 5", "groups: {a: 1}", "{"])
def test_what_is_no_scenario(text: str) -> None:
    with pytest.raises(ScenarioError):
        parse_scenario(text)


@pytest.mark.parametrize("devices", [1, 2, 7, 20, 99, 1000])
def test_scaling_keeps_the_sum_and_the_mixture(devices: int) -> None:
    groups = default_scenario()
    total = sum(group.count for group in groups)
    counts = {group.name: group.count for group in scaled(groups, devices)}
    assert sum(counts.values()) == devices
    for group in groups:
        assert abs(counts.get(group.name, 0) - group.count * devices / total) < 1


def test_shipped_scenarios_are_valid_and_the_rough_one_has_every_fault() -> None:
    paths = [path for path in files("devices_sim").joinpath("scenarios").iterdir() if path.name.endswith(".yaml")]
    assert {path.name for path in paths} == {"demo.yaml", "greedy.yaml", "mixed.yaml", "rough.yaml"}
    for path in paths:
        kinds = {group.kind for group in load_scenario(path)}
        assert kinds == {"climate", "tracker", "logger", "machine"} or path.name == "greedy.yaml"
    text = next(path for path in paths if path.name == "rough.yaml").read_text()
    for fault in Faults.__slots__:
        assert f"#     {fault} " in text, "described"
        assert f"{fault}: " in text.partition("groups:")[2], "used"


def test_what_devices_do_with_commands() -> None:
    text = """
    groups:
      - {name: a, kind: climate, count: 1, commands: {x: {value: [1], delay: 2s}, y: {error: "no"}, z: {silent: true}}}
    """
    (group,) = parse_scenario(text)
    assert group.commands == {"x": Reply([1], delay=2.0), "y": Reply(error="no"), "z": Reply(silent=True)}
    bad = "groups: [{name: a, kind: climate, count: 1, commands: {x: {silent: 7, delay: soon, speed: 1}, y: no}}]"
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(bad)
    for problem in (
        "x.silent: must be true",
        "x.delay: not a duration",
        "x.speed: unknown key",
        "y: must be a mapping",
    ):
        assert f"groups[0].commands.{problem}" in str(caught.value)
