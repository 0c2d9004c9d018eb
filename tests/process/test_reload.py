"""The order in which a reload brings a configuration into force."""

from __future__ import annotations

import asyncio

from gateway.config import Config
from gateway.config.active_config import ActiveConfig
from gateway.process.reload import Reloader


class Recorder:
    """A source of one configuration, and the parts that it changes; both note what is asked of them."""

    def __init__(self) -> None:
        self.active = ActiveConfig(Config())
        self.asked: list[str] = []

    def read(self) -> Config:
        self.asked.append("read")
        return Config()

    def changed(self, config: Config) -> None:
        self.asked.append("changed")

    def prepare(self, change: object) -> None:
        self.asked.append("prepare")

    async def apply(self, prepared: None) -> None:
        self.asked.append("apply")

    async def close(self) -> None:
        self.asked.append("close")


def test_the_log_masks_new_secrets_before_they_are_used() -> None:
    async def reload() -> list[str]:
        recorder, done = Recorder(), asyncio.Event()
        reloader = Reloader(recorder, recorder, lambda _: done.set())
        reloader.request()
        await done.wait()
        await reloader.close()
        return recorder.asked

    assert asyncio.run(reload()) == ["read", "prepare", "changed", "apply", "close"]
