"""Tokens are made for those who were approved, and for nobody else."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from gateway.devices.token_delivery import TokenDelivery
from gateway.state.enrolments import EnrolmentDecision, EnrolmentRequest, Enrolments, EnrolmentState
from gateway.state.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

EXPIRY_NS = 900 * 10**9


@pytest.mark.parametrize(
    ("state", "made"), [(EnrolmentState.APPROVED, True), (EnrolmentState.REFUSED, False), (None, False)]
)
def test_a_token_is_made_for_an_approved_device(tmp_path: Path, state: EnrolmentState | None, made: bool) -> None:
    now = time.time_ns()
    decided = None if state is None else EnrolmentDecision(state, "a test", now + EXPIRY_NS)
    request = EnrolmentRequest("d1", "ABCD-EFGH", b"", "192.0.2.1", now, now + EXPIRY_NS, decision=decided)
    store, registry = Enrolments(tmp_path / "enrolments.db"), Registry(tmp_path / "registry.db")
    with contextlib.closing(store), contextlib.closing(registry):
        (token,), ended = TokenDelivery(store, registry).make([request])
        assert (token is not None, ended) == (made, frozenset())
        assert (registry.devices.lookup("d1") is not None) == made
