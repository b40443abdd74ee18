"""The group of a watch: which baseline, how often, where it is kept, who is told."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, model_validator
from typing_extensions import Self

from engine.contract import ConfigError
from experiments.settings.own import Own
from experiments.settings.typed import Group, Text

DAY_MINUTES, MONTH_DAYS = 1440, 30


class Watch(Group):
    """`watch`."""

    baseline: Text | None = Field(None, description="the stored baseline that every run is judged by; needed")
    every_minutes: int = Field(DAY_MINUTES, ge=1, le=DAY_MINUTES, description="counted from midnight UTC")
    offset_minutes: int = Field(180, ge=0, lt=DAY_MINUTES, description="and so long after")
    first_now: bool = Field(False, description="begin with a run at once")
    runs: int | None = Field(None, ge=1, description="how many; null: until told to end")
    folder: Text = Field("outputs/watch", description="keeps the runs, watch.jsonl, f5bench.prom and the review")
    textfile: Text | None = Field(None, description="a second place of f5bench.prom, for node exporter")
    webhook: Text | None = Field(None, description="is told by a POST when the verdict is another than before")
    review_days: float = Field(7, gt=0, le=366, description="up to the newest run: changes found in it alarm")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.baseline is None:
            raise ConfigError("watch.baseline", "(none)", "is needed", "write watch.baseline=NAME; see --help")
        if DAY_MINUTES % self.every_minutes:
            raise ConfigError(
                "watch.every_minutes", self.every_minutes, "must divide a day of 1440", "use watch.every_minutes=60"
            )
        if self.offset_minutes >= self.every_minutes:
            raise ConfigError(
                "watch.offset_minutes", self.offset_minutes, "must be below watch.every_minutes",
                "use watch.offset_minutes=0",
            )  # fmt: skip
        if self.webhook is not None:
            self._check_address(self.webhook)
        return self

    def _check_address(self, url: str) -> None:
        try:
            parts = urlsplit(url)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigError(
                "watch.webhook", "(not shown)", "is no http(s) address", "write watch.webhook='\"https://...\"'"
            )

    @property
    def runs_a_month(self) -> int:
        return MONTH_DAYS * DAY_MINUTES // self.every_minutes


WATCH = Own("watch", Watch, "nightly")
