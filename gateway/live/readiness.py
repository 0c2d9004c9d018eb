"""Whether the gateway can take readings, and what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.process.file_limit import shortage

if TYPE_CHECKING:
    from gateway.devices.context import Context


def readiness(context: Context) -> dict[str, Any]:
    """What an operator needs to know at a glance.

    ``blocking`` are the reasons for not taking readings; ``warnings`` what stops less than that, such as a database
    that does not answer: readings are kept meanwhile.
    """
    blocking, warnings = [], []
    status = context.spool.status()
    if context.draining:
        blocking.append("the gateway is shutting down")
    if not context.spool.healthy:
        blocking.append(f"the spool cannot be written: {context.spool.last_error}")
    elif not context.spool.room:
        blocking.append(context.spool.floor.reason or "the spool is full")
    if context.clock.wrong is not None:
        blocking.append(context.clock.wrong)
    if context.spool.healthy and context.spool.last_error:
        warnings.append(f"the spool: {context.spool.last_error}")
    if status.damaged:
        where = context.config.spool.directory / "quarantine"
        warnings.append(
            f"the spool was damaged in {status.damaged} places, copies are in {where}; what could be read is delivered"
        )
    state = context.forwarder.state
    if state.name != "delivering":
        who = context.sink.name if state.kind != "internal" else "delivery"  # which is not the fault of the database
        warnings.append(f"{who}: {state.reason}; {status.readings_pending} readings wait in the spool")
    warnings += context.standing.warnings()
    warnings += context.clock.warnings()
    warnings += context.expiry.warnings()
    if problem := shortage(context.devices_allowed, context.config.server.max_connections):
        warnings.append(problem)
    return {
        "ready": not blocking,
        "blocking": blocking,
        "warnings": warnings,
        "spool": {"pending_bytes": status.bytes_pending, "pending_readings": status.readings_pending},
        "database": {"sink": context.sink.name, "state": state.name, "reason": state.reason},
        "configuration": {
            "refused": list(context.standing.refused),
            "needs_restart": list(context.standing.waiting),
        },
    }
