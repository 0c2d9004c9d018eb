"""Every setting of the gateway, its default and its bounds, one class per section of config.yaml.

Rules that hold here:

* Sections are frozen, and a key that is not declared is an error.
* Durations are seconds, sizes are bytes, paths are absolute once `gateway.config.load` has read them.
* A check that needs two sections is in `gateway.config.checks`.
* The type of a setting says when a change of it counts: `Live` at once, when the file is read again; `AtStart` from the
  next start on. The settings of a profile are live, all together.
* The text below a setting is its description in the JSON Schema; config.yaml explains it to people.
"""

from __future__ import annotations

import ipaddress
import re
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from gateway.config.names import check_measurement, check_name, check_tag
from gateway.config.units import Duration, Listen, ListenAddress, Size, between, parse_duration, parse_size

DEFAULT_PROFILE = "default"


class Section(BaseModel):
    """What all sections share; a section whose keys are all left out may be written as nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_empty(cls, data: Any) -> Any:
        return {} if data is None else data


def _check_token(token: SecretStr) -> SecretStr:
    text = token.get_secret_value()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("a token is made of printable ASCII characters and has no space")
    return token


def _check_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("expected an address such as http://127.0.0.1:8086")
    if parts.username or parts.password:
        raise ValueError("a name and password do not belong here; use username and password, or token")
    if parts.query or parts.fragment:
        raise ValueError("nothing may follow the path")
    return url.rstrip("/")


def _check_origin(origin: str) -> str:
    if origin != "*" and not re.fullmatch(r"https?://[^/?#@\s]+", origin):
        raise ValueError("expected an origin such as https://dashboard.example:8443, or *")
    return origin


def _check_network(network: str) -> str:
    try:
        return str(ipaddress.ip_network(network))
    except ValueError as error:
        raise ValueError(f"expected an address or a network such as 10.0.0.0/8: {error}") from None


def _check_number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or value - value != 0:
        raise ValueError("expected a number")
    return value


def _check_switch(value: Any) -> Any:
    word = str(value).lower()
    if word not in {"true", "false", "auto"}:
        raise ValueError("expected true, false or auto")
    return word if word == "auto" else word == "true"


SettingT = TypeVar("SettingT")


class Applies(Enum):
    """When a change of a setting counts."""

    LIVE = "live"
    """As soon as the file is read again."""
    AT_START = "at start"
    """From the next start on: devices were told the value for the length of their session, or files or sockets in use
    depend on it."""


Live = Annotated[SettingT, Applies.LIVE]
AtStart = Annotated[SettingT, Applies.AT_START]

Token = Annotated[SecretStr, AfterValidator(_check_token)]
Url = Annotated[str, AfterValidator(_check_url)]
Origin = Annotated[str, AfterValidator(_check_origin)]
Network = Annotated[str, AfterValidator(_check_network)]
Name = Annotated[str, AfterValidator(check_name)]
Measurement = Annotated[str, AfterValidator(check_measurement)]
RateBytes = Annotated[Size, between("1KiB", "16GiB", parse_size)]
Switch = Annotated[bool | Literal["auto"], BeforeValidator(_check_switch)]
Number = Annotated[int | float, BeforeValidator(_check_number), WithJsonSchema({"type": "number"})]


class TlsSection(Section):
    """TLS is on when both files are named."""

    certificate: Live[Path | None] = None
    """PEM file with the certificate and the chain up to the root."""
    key: Live[Path | None] = None
    """PEM file with the certificate's private key."""
    client_ca: Live[Path | None] = None
    """PEM file with the authorities whose certificates devices may show instead of a token; null asks for none."""


class ServerSection(Section):
    """The listening socket and what any client may ask of it."""

    listen: AtStart[Listen] = ListenAddress("127.0.0.1", 8080)
    """host:port to listen on; port 0 takes one that is free."""
    tls: TlsSection = TlsSection()
    max_connections: Live[int] = Field(default=20_000, ge=1, le=1_000_000)
    """Devices connected at the same time; one more is told to try again later."""
    connects_per_second: AtStart[int] = Field(default=500, ge=1, le=1_000_000)
    """How often one address may connect, sustained; IPv6 by its first 64 bits."""
    connect_burst: AtStart[int] = Field(default=20_000, ge=1, le=10_000_000)
    """How often at once: as many devices as may stand behind one address."""
    max_message_bytes: AtStart[Annotated[Size, between("1KiB", "16MiB", parse_size)]] = 64 * 1024
    """Longest message a device may send."""
    ack_delay: AtStart[Annotated[Duration, between("0s", "1s", parse_duration)]] = 0.02
    """How long the ack of a device that streams may wait to cover more messages; told to devices in their welcome."""
    allowed_origins: Live[tuple[Origin, ...]] = ()
    """Web pages of other origins whose scripts may connect as devices; * for all."""
    trusted_proxies: Live[tuple[Network, ...]] = ()
    """Addresses or networks of proxies whose headers X-Forwarded-For and X-Forwarded-Proto are trusted."""
    allow_open_network: AtStart[bool] = False
    """Permit auth.mode open on an address that other machines can reach."""


class AuthSection(Section):
    """Which devices may connect, and which tokens HTTP requests need."""

    mode: AtStart[Literal["token", "open"]] = "token"
    """token: registered devices only; open: any device id, without a token."""
    admin_token: Live[Token | None] = None
    """Bearer token for actions that change something; without it there are none over HTTP."""
    viewer_token: Live[Token | None] = None
    """Bearer token for reading; without it reading is free on loopback and needs the admin token elsewhere."""
    timeout: AtStart[Annotated[Duration, between("100ms", "5m", parse_duration)]] = 10.0
    """How long a device may take to authenticate."""
    enrol: Live[Literal["never", "approve"]] = "never"
    """approve: a device without a token may ask for one, and gets it when an operator approves."""
    enrol_expiry: Live[Annotated[Duration, between("1s", "7d", parse_duration)]] = 900.0
    """How long a device waits for approval, and how long an approval waits for the device to come back."""


class KeepaliveSection(Section):
    """When a silent device is taken for gone; told to every device in its welcome."""

    ping_interval: AtStart[Annotated[Duration, between("100ms", "1h", parse_duration)]] = 20.0
    """Silence after which the gateway sends a ping."""
    timeout: AtStart[Annotated[Duration, between("200ms", "2h", parse_duration)]] = 30.0
    """Silence after which the gateway drops the connection."""
    message_timeout: AtStart[Annotated[Duration, between("1s", "1h", parse_duration)]] = 120.0
    """How long the bytes of one message may take to come."""


class SpoolSection(Section):
    """The disk between acceptance and the database."""

    directory: AtStart[Path] = Path("spool")
    """Where segments live; below state.directory unless absolute."""
    commit_interval: AtStart[Annotated[Duration, between("0s", "1s", parse_duration)]] = 0.005
    """Messages that arrive within it share one fdatasync."""
    segment_bytes: AtStart[Annotated[Size, between("64KiB", "1GiB", parse_size)]] = 64 * 1024**2
    """Length at which a segment is closed and a new one begun; never more than a quarter of max_bytes."""
    max_bytes: AtStart[Annotated[Size, between("1MiB", "16TiB", parse_size)]] = 1024**3
    """Most bytes that may wait for the database."""
    when_full: AtStart[Literal["reject", "drop_oldest"]] = "reject"
    """reject: devices are throttled and keep their readings; drop_oldest: the oldest are counted and discarded."""
    keep_delivered: AtStart[Annotated[Duration, between("0s", "30d", parse_duration)]] = 3600.0
    """How long segments stay after delivery."""
    min_free: AtStart[Annotated[Size, between("0B", "16TiB", parse_size)]] = 64 * 1024**2
    """Room left on the disk for others; with less, the spool is full."""


class InfluxdbSection(Section):
    """InfluxDB 1, 2 or 3, or a database that speaks one of its write APIs."""

    url: Live[Url | None] = "http://127.0.0.1:8086"
    """Address of the database."""
    api: Live[Literal["v2", "v1"]] = "v2"
    """v2: /api/v2/write with a token; v1: /write with a name and password."""
    org: Live[str | None] = "telemetry"
    """v2: the organization."""
    bucket: Live[str | None] = "telemetry"
    """v2: the bucket."""
    token: Live[SecretStr | None] = None
    """v2: a token that may read and write the bucket."""
    database: Live[str | None] = "telemetry"
    """v1: the database."""
    username: Live[str | None] = None
    """v1: the user, where the database asks for one."""
    password: Live[SecretStr | None] = None
    """v1: the user's password."""
    gzip: Live[Switch] = "auto"
    """Compress what is sent; auto: unless the database is on this machine."""
    timeout: Live[Annotated[Duration, between("100ms", "5m", parse_duration)]] = 10.0
    """How long the database may be silent during a request."""


class SqliteSection(Section):
    """The embedded database."""

    path: AtStart[Path] = Path("telemetry.db")
    """The file; below state.directory unless absolute."""
    retention: Live[Annotated[Duration, between("1m", "36500d", parse_duration)] | None] = 30 * 86400.0
    """Readings are deleted this long after their time, or after their arrival if they came too old; null keeps all."""


class BatchSection(Section):
    """How readings are grouped on their way to the database."""

    max_readings: AtStart[int] = Field(default=5000, ge=1, le=100_000)
    """Readings in one write."""
    max_age: AtStart[Annotated[Duration, between("1ms", "5m", parse_duration)]] = 1.0
    """How long a reading may wait for its batch to fill."""
    max_in_flight: AtStart[int] = Field(default=4, ge=1, le=64)
    """Writes under way at the same time."""


class StateSection(Section):
    """What the gateway keeps for itself."""

    directory: AtStart[Path] = Path("data")
    """Registry, dead letters and cursors, and by default the spool and the SQLite database."""


class LimitsSection(Section):
    """What one device may do; told to it in its welcome."""

    readings_per_second: Live[int] = Field(default=20_000, ge=1, le=10_000_000)
    """Sustained rate."""
    burst: Live[int] = Field(default=200_000, ge=1, le=10_000_000)
    """Readings that may come at once."""
    messages_per_second: Live[int] = Field(default=5_000, ge=1, le=10_000_000)
    """Sustained rate."""
    message_burst: Live[int] = Field(default=100_000, ge=1, le=10_000_000)
    """Messages that may come at once."""
    bytes_per_second: Live[RateBytes] = 4 * 1024**2
    """Sustained rate, of the messages' own bytes."""
    byte_burst: Live[RateBytes] = 64 * 1024**2
    """Bytes that may come at once."""
    backlog: Live[Number] = Field(default=1, gt=0, le=1000)
    """Readings older than a minute and messages sent again have separate limits: so many times these."""
    max_unacked: Live[int] = Field(default=1000, ge=1, le=1_000_000)
    """Numbered messages sent and not yet acknowledged."""
    strikes_per_minute: Live[int] = Field(default=60, ge=1, le=1_000_000)
    """Messages that cannot be understood, before the connection is closed."""
    series_per_day: Live[int] = Field(default=1000, ge=1, le=100_000)
    """Measurements and tags of its own, and fields that are new, that a device may begin to use in a day."""


class FieldSection(Section):
    """One field of a profile."""

    type: Literal["float", "int", "bool", "string"] = "float"
    """What the database stores; a number that is not declared is a float."""
    min: Number | None = None
    """Least value accepted."""
    max: Number | None = None
    """Greatest value accepted."""
    unit: str | None = None
    """For people, such as °C."""

    @model_validator(mode="after")
    def _range_makes_sense(self) -> Self:
        if (self.min is not None or self.max is not None) and self.type not in {"float", "int"}:
            raise ValueError(f"a {self.type} has no min or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is greater than max {self.max}")
        return self


class TimestampsSection(Section):
    """Times that devices give their readings, as seen from their arrival."""

    max_future: Annotated[Duration, between("1s", "36500d", parse_duration)] = 600.0
    """How far after the arrival of its message a reading's time may be."""
    max_age: Annotated[Duration, between("1s", "36500d", parse_duration)] | None = 365 * 86400.0
    """How far before; null: any age."""
    when_outside: Literal["keep", "correct", "refuse"] = "keep"
    """keep: stored as sent; correct: by what is known of the device's clock, else refused; refuse: refused."""


class ProfileLimits(Section):
    """Other limits for devices of a profile; null: those of ``limits``."""

    readings_per_second: int | None = Field(default=None, ge=1, le=10_000_000)
    """Sustained rate."""
    burst: int | None = Field(default=None, ge=1, le=10_000_000)
    """Readings that may come at once."""
    messages_per_second: int | None = Field(default=None, ge=1, le=10_000_000)
    """Sustained rate."""
    message_burst: int | None = Field(default=None, ge=1, le=10_000_000)
    """Messages that may come at once."""
    bytes_per_second: RateBytes | None = None
    """Sustained rate, of the messages' own bytes."""
    byte_burst: RateBytes | None = None
    """Bytes that may come at once."""


class ProfileSection(Section):
    """What devices of one kind send."""

    measurement: Measurement = "telemetry"
    """Measurement of readings that name none."""
    tags: dict[str, str] = {}
    """Tags written on every reading."""
    allowed_tags: tuple[Name, ...] = ()
    """Names of tags that a device may send itself."""
    strict: bool = False
    """Refuse readings with fields that are not declared below."""
    fields: dict[Name, FieldSection] = {}
    """Types and ranges of fields."""
    client_ca: Path | None = None
    """PEM file with the authorities whose certificates devices of this profile may show, and no others; null: the
    server's."""
    timestamps: TimestampsSection = TimestampsSection()
    limits: ProfileLimits = ProfileLimits()
    """What one device of this profile may do, where that differs from ``limits``."""

    @field_validator("tags")
    @classmethod
    def _tags_are_tags(cls, tags: dict[str, str]) -> dict[str, str]:
        for name, value in tags.items():
            check_tag(name, value)
        return tags

    @model_validator(mode="after")
    def _something_is_accepted(self) -> Self:
        if self.strict and not self.fields:
            raise ValueError("strict without any fields would refuse every reading")
        return self


class LoggingSection(Section):
    """What is logged, to standard error."""

    level: Live[Literal["debug", "info", "warning", "error"]] = "info"
    """Least severity that is logged."""
    format: Live[Literal["console", "json"]] = "console"
    """console: for people; json: one object a line."""
