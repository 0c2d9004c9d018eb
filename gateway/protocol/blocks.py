"""A block of samples: columns in, one line per sample out.

Rules that hold here:

* Sample i of all columns together is one reading at ``t0 + i * dt``, or at ``t0 + dt[i]``. It is judged like any other.
* An ordinary block of numbers is written by one ``%`` format for all samples (`_write_at_once`), any other block sample
  by sample (`_point`). Both write the same points. Only an exponent may look different: orjson, which takes a quarter
  of the time of ``repr`` or less, writes ``1e-7`` where ``repr`` writes ``1e-07``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from gateway.errors import MessageError, ReadingError
from gateway.ledger import NO_SEQ
from gateway.protocol.encoded_message import EncodedMessage
from gateway.protocol.field import NUMBERS
from gateway.protocol.field_rules import MAX_FIELDS
from gateway.protocol.messages import Code
from gateway.protocol.series import check_repeated
from gateway.protocol.timestamps import MAX_NS, MIN_NS, aged, from_ms, in_range, is_number
from gateway.protocol.value_text import shown
from gateway.time_units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.protocol.encoded_message import Point
    from gateway.protocol.field_rules import Rules
    from gateway.protocol.messages import Block
    from gateway.protocol.series import DeviceSeries
    from gateway.protocol.time_bounds import Vetting


def encode_block(
    block: Block, device: str, rules: Rules, series: DeviceSeries, now_ns: int, vetting: Vetting | None = None
) -> EncodedMessage:
    """Judge and write every sample of ``block``.

    Raises:
        MessageError: the message is refused whole.
    """
    encoded = EncodedMessage(device)
    if not block.samples:
        return encoded
    try:
        prefix = series.default
        if block.measurement is not None or block.tags is not None:
            prefix = series.prefix(block.measurement, block.tags, now_ns)
        start_ns = _start(block, now_ns)
    except ReadingError as error:
        encoded.refuse(error, *range(block.samples))
        encoded.received = block.samples
        return encoded
    problem = check_repeated(len(prefix) + sum(map(len, block.columns)), block.samples)
    if problem is not None:
        seq = None if block.seq == NO_SEQ else block.seq
        raise MessageError(Code.BAD_MESSAGE, problem, seq=seq, readings=block.samples)

    def learn() -> None:
        if rules.fresh:
            series.learn(rules, now_ns, encoded.lessons)

    added = None if vetting is None else _correction(block, start_ns, vetting)
    if added is not None or not _write_at_once(block, rules, prefix, start_ns, encoded, learn):
        vet = vetting if added is not None else None
        encoded.collect(
            block,
            range(block.samples),
            lambda index: _point(block, index, rules, prefix, start_ns, learn, vet, added or 0),
        )
        encoded.corrected = encoded.lines if added else 0
    return encoded


def _correction(block: Block, start_ns: int, vetting: Vetting) -> int | None:
    """What to add to the times of a block; None if all of them are within the bounds."""
    offsets = block.dt if block.dt.__class__ is list else (0, block.dt * (block.samples - 1))
    found = [start_ns + from_ms(offset) for offset in offsets if is_number(offset)]
    if all(map(vetting.holds, found)):
        return None
    return 0 if block.t0 is None else vetting.correction()


def _start(block: Block, now_ns: int) -> int:
    if block.t0 is None:
        return aged(now_ns, block.age_ms)
    if not is_number(block.t0):
        raise ReadingError(Code.BAD_TIMESTAMP, f"expected a number of milliseconds, got {shown(block.t0)}", "t0")
    return in_range(from_ms(block.t0), block.t0, "t0")


def _write_at_once(
    block: Block, rules: Rules, prefix: str, start_ns: int, encoded: EncodedMessage, learn: Callable[[], None]
) -> bool:
    times = _times(block, start_ns)
    formats = _formats(block, rules)
    if times is None or formats is None:
        return False
    rules.note(block.columns)
    try:
        learn()
    except ReadingError:
        return False
    template = b"%b%b %%d\n" % (prefix.replace("%", "%%").encode(), b",".join(formats))
    columns = [orjson.dumps(column)[1:-1].split(b",") for column in block.columns.values()]
    encoded.payload = b"".join(map(template.__mod__, zip(*columns, times, strict=True)))
    encoded.lines = encoded.received = block.samples
    encoded.time_ns = max(times)
    newest = len(times) - 1 - times[::-1].index(encoded.time_ns)
    encoded.latest = {name: column[newest] for name, column in block.columns.items()}
    return True


def _times(block: Block, start_ns: int) -> Sequence[int] | None:
    """The time of every sample; None if one of them is not a valid time."""
    dt = block.dt
    if dt.__class__ is int and dt:
        step = dt * NS_PER_MS
        times: Sequence[int] = range(start_ns, start_ns + step * block.samples, step)
    elif dt.__class__ is list and not set(map(type, dt)) <= NUMBERS:
        return None
    else:
        times = [start_ns + _offset(dt, index) for index in range(block.samples)]
    return times if min(times) >= MIN_NS and max(times) <= MAX_NS else None


def _offset(dt: Any, index: int) -> int:
    return from_ms(dt[index] if dt.__class__ is list else dt * index)


def _formats(block: Block, rules: Rules) -> list[bytes] | None:
    """A ``%`` format for each column; None if a value has to be judged by itself."""
    if not 0 < len(block.columns) <= MAX_FIELDS:
        return None
    formats = []
    for name, column in block.columns.items():
        try:
            found = rules.field(name).column_format(column)
        except ReadingError:
            return None
        if found is None:
            return None
        formats.append(found)
    return formats


def _point(
    block: Block,
    index: int,
    rules: Rules,
    prefix: str,
    start_ns: int,
    learn: Callable[[], None],
    vetting: Vetting | None,
    added: int,
) -> Point | None:
    text, fields = rules.write({name: column[index] for name, column in block.columns.items()})
    if not text:
        return None
    time_ns = _time(block.dt, index, start_ns)
    if vetting is not None:
        own_ms, key = time_ns // NS_PER_MS, "t0" if block.t0 is not None else "age_ms"
        time_ns = vetting.checked(time_ns + added, added, block.t0 if block.t0 is not None else block.age_ms, key)
        text += rules.device_time(own_ms, fields) if added else ""
    learn()
    return f"{prefix}{text} {time_ns}\n", time_ns, fields


def _time(dt: Any, index: int, start_ns: int) -> int:
    if dt.__class__ is list and not is_number(dt[index]):
        raise ReadingError(Code.BAD_TIMESTAMP, f"expected a number of milliseconds, got {shown(dt[index])}", "dt")
    return in_range(start_ns + _offset(dt, index), dt[index] if dt.__class__ is list else dt, "dt")
