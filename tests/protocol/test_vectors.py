"""Plays the golden vectors against the session (their format: tests/vectors/README.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.ledger import Ledger, Sequence
from gateway.line_protocol import split_lines
from gateway.protocol.messages import Code
from gateway.protocol.session import CloseReason
from gateway.websocket.frames import FrameParser
from tests.support.sessions import QUOTA, TERMS, Bench
from tests.support.streams import unmask

VECTORS = Path(__file__).parents[1] / "vectors"
CASES = [
    pytest.param(case, id=f"{path.stem}: {case['name']}")
    for path in sorted(VECTORS.glob("*.json"))
    for case in json.loads(path.read_text(encoding="utf-8"))
]
CLOSES = {
    "credentials_late": CloseReason.CREDENTIALS_LATE,
    "claim_taken": CloseReason.CLAIM_TAKEN,
    "not_approved": CloseReason.NOT_APPROVED,
    "unanswered": CloseReason.APPROVAL_EXPIRED,
    "too_big": CloseReason.TOO_BIG,
    "replaced": CloseReason.REPLACED,
    "revoked": CloseReason.REVOKED,
    "keepalive_expired": CloseReason.KEEPALIVE_EXPIRED,
    "restarting": CloseReason.RESTARTING,
    "failed": CloseReason.FAILED,
}


def bench_for(case: dict[str, Any]) -> Bench:
    ledger = Ledger()
    for boot, known in case.get("before", {}).items():
        durable = known["durable"]
        ledger.account("d1").boots[boot] = Sequence(durable, durable, known.get("stored", durable))
    start, more = case.get("start"), dict(case.get("terms", {}))
    if start == "enrolling":
        more["enrol"] = True
    quota = case.get("limits")
    bench = Bench(ledger=ledger, profile=case.get("profile"), tags=case.get("tags"), quota=quota, **more)
    return bench if start in {"unknown", "enrolling"} else bench.ready()


def goes_down(bench: Bench, event: dict[str, Any]) -> list[Any]:
    ((kind, message),) = event.items()
    if kind == "refused":
        return bench.run(bench.session.refuse(Code(message), "in words", bench.now_ns))
    if kind == "settings":
        desired = json.dumps(message["settings"]).encode()
        return bench.run(bench.session.settings(message["version"], desired))
    if kind == "held":
        return bench.run(bench.session.pending(message, 900_000))
    if kind == "enrolled":
        return bench.run(bench.session.enrolled(message))
    assert kind == "command"
    params = json.dumps(message["params"]).encode()
    return bench.run(bench.session.command(message["id"], message["name"], params, message["expires_in_ms"]))


def happen(bench: Bench, event: str) -> list[Any]:
    session = bench.session
    if event in CLOSES:
        return bench.run(session.close(CLOSES[event]))
    match event:
        case "credentials_refused":
            return bench.run(session.credentials_refused())
        case "credentials_good":
            return bench.good()
        case "commit":
            return bench.commit()
        case "deliver":
            return bench.deliver()
        case "commit_fails":
            return bench.commit_fails()
        case "binary":
            return bench.run(session.receive_other())
        case "draining":
            return bench.run(session.draining(2300))
        case "busy":
            return bench.run(session.busy("too many connections"))
    raise AssertionError(f"unknown event {event}")


def effects_of(bench: Bench, step: dict[str, Any]) -> list[Any]:
    """What the step that happens has for effects."""
    bench.now_ns += step.get("after_ms", 0) * 1_000_000
    if "happens" in step:
        event = step["happens"]
        return goes_down(bench, event) if isinstance(event, dict) else happen(bench, event)
    bench.answers_after_ms = step.get("answers_after_ms", 0)
    room = step.get("room", True)
    if "send_text" in step:
        return bench.send_bytes(step["send_text"].encode(), room=room)
    if "send_frames" in step:
        return receive_frames(bench, bytes.fromhex(step["send_frames"]), room=room)
    if "send_hex" in step:
        return bench.send_bytes(bytes.fromhex(step["send_hex"]), room=room)
    return bench.send_bytes(json.dumps(step["send"]).encode(), room=room)


def receive_frames(bench: Bench, data: bytes, *, room: bool) -> list[Any]:
    """What the gateway makes of the bytes of a connection: its messages, or the close that a violation leads to."""
    parser = FrameParser(TERMS["max_message_bytes"], unmask)
    messages = parser.feed(data)
    if parser.violation is not None:
        code, reason = parser.violation
        assert reason
        return [{"closes": code}]
    return [effect for _, payload in messages for effect in bench.send_bytes(payload, room=room)]


def like(expected: Any, found: Any) -> Any:
    """``found`` without what ``expected`` leaves open: texts for people, and the boot of an entry."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in {"message", "boot"} & found.keys() - expected.keys():
            assert found[key]
        return {
            key: like(expected.get(key), value)
            for key, value in found.items()
            if key in expected or key not in {"message", "boot"}
        }
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return [like(a, b) for a, b in zip(expected, found, strict=True)]
    return found


@pytest.mark.parametrize("case", CASES)
def test_the_conversation_goes_as_written(case: dict[str, Any]) -> None:
    bench = bench_for(case)
    due: list[Any] = []
    for step in case["script"]:
        if step.keys() & {"send", "send_text", "send_hex", "send_frames", "happens"}:
            assert due == [], f"more than was expected before {step}"
            due = effects_of(bench, step)
            continue
        assert due, f"expected {step}"
        assert like(step, due[0]) == step
        due.pop(0)
    assert due == []


@pytest.mark.parametrize("case", CASES)
def test_lines_are_what_can_be_cut_and_read_again(case: dict[str, Any]) -> None:
    for step in case["script"]:
        lines = step.get("stores", {}).get("lines", [])
        payload = "".join(f"{line}\n" for line in lines).encode()
        assert split_lines(payload, len(lines)) == [f"{line}\n".encode() for line in lines]


def test_names_are_unique_and_the_readme_tells_the_terms() -> None:
    ids = [str(param.id) for param in CASES]
    assert len(ids) == len(set(ids))
    readme = (VECTORS / "README.md").read_text(encoding="utf-8")
    for name, value in {**TERMS, **QUOTA}.items():
        assert f'"{name}": {value}' in readme
