"""The whole configuration."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from gateway.config.sections import (
    DEFAULT_PROFILE,
    AuthSection,
    BatchSection,
    InfluxdbSection,
    KeepaliveSection,
    LimitsSection,
    Live,
    LoggingSection,
    ProfileSection,
    ServerSection,
    SpoolSection,
    SqliteSection,
    StateSection,
)


class Config(BaseSettings):
    """All settings. Made by `gateway.config.load`, or directly from sections."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        env_prefix="GATEWAY_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
    )

    server: ServerSection = ServerSection()
    auth: AuthSection = AuthSection()
    keepalive: KeepaliveSection = KeepaliveSection()
    spool: SpoolSection = SpoolSection()
    sink: Live[Literal["sqlite", "influxdb"]] = "sqlite"
    """Where readings go."""
    influxdb: InfluxdbSection = InfluxdbSection()
    sqlite: SqliteSection = SqliteSection()
    batch: BatchSection = BatchSection()
    state: StateSection = StateSection()
    limits: LimitsSection = LimitsSection()
    profiles: Live[dict[str, ProfileSection]] = {DEFAULT_PROFILE: ProfileSection()}
    """Kinds of devices; a device without a profile of its own has `default`."""
    logging: LoggingSection = LoggingSection()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is given: `gateway.config.loader` reads the sources, to be able to say where a mistake is."""
        return (init_settings,)

    @field_validator("profiles")
    @classmethod
    def _default_profile_exists(cls, profiles: dict[str, ProfileSection]) -> dict[str, ProfileSection]:
        return {DEFAULT_PROFILE: ProfileSection(), **profiles}

    @model_validator(mode="after")
    def _place_files(self) -> Self:
        """Put relative paths below the state directory here, so that no reader has to know the rule."""
        home = self.state.directory
        placed = {
            "spool": self.spool.model_copy(update={"directory": home / self.spool.directory}),
            "sqlite": self.sqlite.model_copy(update={"path": home / self.sqlite.path}),
        }
        for name, section in placed.items():
            object.__setattr__(self, name, section)
        return self
