from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.state import command_log
from gateway.state.command_log import Command, CommandLog, CommandProgress, CommandResult, CommandState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLog]:
    monkeypatch.setattr(command_log, "MAX_COMMANDS_PER_DEVICE", 3)
    monkeypatch.setattr(command_log, "MAX_COMMANDS", 8)
    made = CommandLog(tmp_path / "commands.db")
    yield made
    made.close()


def add(log: CommandLog, name: str, device: str = "d", *, keep: bool = False) -> str:
    log.add(Command(name, device, "blink", b"{}", keep, "admin", "::1", 1_000_000, 2_000_000))
    return name


def end(log: CommandLog, name: str, ending: CommandResult) -> None:
    log.write({name: CommandProgress(ending=ending)})


def ids(log: CommandLog, device: str = "d") -> list[str]:
    return [command["id"] for command in log.history(device, 100)]


def test_the_first_answer_stays(log: CommandLog) -> None:
    add(log, "c1")
    end(log, "c1", CommandResult(CommandState.EXPIRED, 2_000_000, error="no_answer"))
    end(log, "c1", CommandResult(CommandState.ANSWERED, 3_000_000, ok=True, value=b"1"))
    end(log, "c1", CommandResult(CommandState.ANSWERED, 4_000_000, ok=False, error="no"))
    found = log.show("d", "c1")
    assert found is not None
    assert (found["state"], found["ended_at"], found["ok"], found["value"]) == ("answered", 3, True, 1)
    assert log.show("e", "c1") is None


def test_what_has_ended_is_not_sent_and_does_not_wait(log: CommandLog) -> None:
    add(log, "c1", keep=True)
    end(log, "c1", CommandResult(CommandState.EXPIRED, 2_000_000, error="not_sent"))
    log.write({"c1": CommandProgress(CommandState.SENT, 1, 3_000_000)})
    log.write({"c1": CommandProgress(CommandState.WAITING)})
    assert log.history("d", 1)[0] | {"state": "expired", "sends": 0} == log.history("d", 1)[0]
    assert log.resume(4_000_000) == []


def test_what_became_of_commands_meanwhile_is_written_at_once(log: CommandLog) -> None:
    for name in ("c1", "c2", "c3"):
        add(log, name, keep=True)
    log.write(
        {"c1": CommandProgress(CommandState.SENT, 2, 1_000_000), "c2": CommandProgress(CommandState.SENT, 1, 1_000_000)}
    )
    over = CommandResult(CommandState.ANSWERED, 4_000_000, ok=True, value=b"1")
    log.write(
        {
            "c1": CommandProgress(CommandState.SENT, 3, 3_000_000, over),
            "c2": CommandProgress(),
            "unknown": CommandProgress(ending=over),
        }
    )
    shown = [(found["state"], found["sends"], found["sent_at"], found["ended_at"]) for found in log.history("d", 3)]
    assert shown == [("waiting", 0, None, None), ("waiting", 1, 1, None), ("answered", 5, 3, 4)]


def test_only_what_has_ended_is_forgotten_the_oldest_first(log: CommandLog) -> None:
    add(log, "open", keep=True)
    for n in range(6):
        end(log, add(log, f"c{n}"), CommandResult(CommandState.ANSWERED, 2_000_000, ok=True))
    assert ids(log) == ["c5", "c4", "c3", "c2", "open"]  # c5 had not ended when it was added
    for n in range(9):
        end(log, add(log, f"e{n}", f"e{n}"), CommandResult(CommandState.ANSWERED, 2_000_000, ok=True))
    assert ids(log) == ["open"]
    assert sum(len(ids(log, f"e{n}")) for n in range(9)) == 8


def test_a_start_lets_the_kept_ones_wait_and_the_others_fail(log: CommandLog) -> None:
    for name, keep in (("direct", False), ("kept", True), ("new", True)):
        add(log, name, keep=keep)
    log.write({name: CommandProgress(CommandState.SENT, 1, 1_500_000) for name in ("direct", "kept")})
    assert [(command.id, sent) for command, sent in log.resume(9_000_000)] == [("kept", True), ("new", False)]
    assert [(found["state"], found["error"]) for found in log.history("d", 9)] == [
        ("waiting", None),
        ("waiting", None),
        ("failed", "restart"),
    ]
