"""How a session begins: who the device is, what it says of itself, and what it is told.

Rules that hold here:

* UNKNOWN takes nothing but a hello with a token, or one without where devices may ask for theirs; nothing it says
  reaches the ledger. HELD waits for an operator, and is like UNKNOWN otherwise.
* A device that names no ``boot`` gets the session's id for one, so that numbers which restart with the device are never
  taken for duplicates.
* A hello starts the sequence afresh, as a new connection does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.errors import MessageError
from gateway.ledger import NO_SEQ
from gateway.protocol.confirming import Confirming
from gateway.protocol.endings import State, Terms
from gateway.protocol.flow import Flow
from gateway.protocol.messages import Authenticate, CloseCode, Enrol, Hello
from gateway.time_units import NS_PER_MS

if TYPE_CHECKING:
    from gateway.ledger import Account, Sequence
    from gateway.protocol.device_clock import DeviceClock
    from gateway.protocol.exchange import Exchange
    from gateway.protocol.messages import Effects
    from gateway.protocol.rates import Allowance, Rates
    from gateway.protocol.subprotocols import Subprotocol
    from gateway.protocol.validation import Encoder


class Admission(Confirming):
    """The beginning of a session; a base of `gateway.protocol.session.Session`."""

    __slots__ = (
        "_account", "_allowance", "_clock", "_device", "_encoder", "_exchange", "_greeted_ns", "_opened_ns", "_own",
        "_session", "info",
    )  # fmt: skip

    _account: Account
    _allowance: Allowance
    _clock: DeviceClock | None
    _encoder: Encoder
    _greeted_ns: int
    _opened_ns: int
    _own: Sequence

    def __init__(self, device_id: str, session_id: str, terms: Terms, subprotocol: Subprotocol) -> None:
        super().__init__(session_id, terms, subprotocol)
        self._device = device_id
        self._session = session_id
        self._exchange: Exchange | None = None
        self.info: dict[str, Any] = {}

    def welcome(
        self,
        account: Account,
        encoder: Encoder,
        allowance: Allowance,
        now_ns: int,
        clock: DeviceClock | None = None,
        *,
        opened_ns: int | None = None,
    ) -> Effects:
        """The credentials are good.

        ``allowance`` is the device's over all its connections, ``clock`` what its earlier ones told of its own.
        ``opened_ns`` is when the handshake was answered, if that was before ``now_ns``.
        """
        if self._state not in {State.UNKNOWN, State.HELD}:
            return ()
        self._state = State.READY
        self._account = account
        self._allowance = allowance
        self._encoder = encoder
        self._clock = clock
        self._greeted_ns = now_ns
        self._opened_ns = now_ns if opened_ns is None else opened_ns
        self._flow = Flow(self._terms.max_unacked, self._answers)
        self._own = self._flow.sequence
        return self._greet(now_ns)

    def renew(self, terms: Terms, encoder: Encoder | None = None, rates: Rates | None = None) -> None:
        """The configuration changed: go by this one. A throttle names its limit, so no welcome is due for it."""
        self._terms = terms
        if self._state is State.READY and encoder is not None and rates is not None:
            self._allowance.renew(rates)
            encoder.follow(self._encoder)
            self._encoder = encoder
            self._flow.allow(terms.max_unacked)

    def _greet(self, now_ns: int) -> Effects:
        named = self.boot != self._session
        self._flow.restart(self._account.sequence(self.boot) if named else self._own, self.ack)
        if self._clock is not None:
            self._go_by(self._clock)
        terms, last_seq = self._terms, self._flow.safe_seq
        return (
            self._answers.welcome(
                session=self._session,
                server_time=now_ns // NS_PER_MS,
                boot=self.boot,
                last_seq=None if last_seq == NO_SEQ else last_seq,
                ack=self.ack,
                ack_delay_ms=terms.ack_delay_ms,
                keepalive={"ping_interval_ms": terms.ping_interval_ms, "timeout_ms": terms.timeout_ms},
                limits={
                    "max_message_bytes": terms.max_message_bytes,
                    "max_unacked": terms.max_unacked,
                    **self._allowance.rates.told(),
                },
            ),
        )

    def _go_by(self, clock: DeviceClock) -> None:
        """Believe what is known of the clock if it is of this boot, of which the device may have spoken only now."""
        if clock.boot == self._session:
            clock.boot = self.boot
        self._encoder.clock = clock if clock.boot == self.boot else None

    def _before_welcome(self, data: bytes) -> Effects:
        if self._state is State.CLOSED:
            return ()
        try:
            message = self.subprotocol.interpret(self.subprotocol.parse(data))
        except MessageError as error:
            # The reason is logged, so nothing is in it of what a stranger sent.
            problem = error.expected or f"expected a hello with a token: {error.code}"
            return self._close(CloseCode.CREDENTIALS, problem)
        if not isinstance(message, Hello) or not (message.token or self._may_enrol):
            return self._close(CloseCode.CREDENTIALS, "expected a hello with a token")
        self._introduce(message)
        return (Enrol(message.claim, message.secret) if message.token is None else Authenticate(message.token),)

    @property
    def _may_enrol(self) -> bool:
        return self._terms.enrol and self._state is State.UNKNOWN

    def held(self, claim: str, expires_in_ms: int) -> Effects:
        """An operator is asked, who compares the claim."""
        if self._state is not State.UNKNOWN:
            return ()
        self._state = State.HELD
        return (self._answers.pending(claim, expires_in_ms),)

    def enrolled(self, token: str) -> Effects:
        """The operator has said yes; `welcome` follows. Nothing if the device cannot be told any more."""
        return (self._answers.token(token),) if self._state is State.HELD else ()

    def _introduce(self, hello: Hello) -> None:
        """What a hello leaves out stays as it was."""
        self.boot = hello.boot or self.boot
        self.ack = hello.ack or self.ack
        self.info = hello.info if hello.info is not None else self.info
