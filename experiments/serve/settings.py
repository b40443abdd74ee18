"""The groups of a service and of a load: how requests wait and share calls, where a service listens, scenarios."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator
from typing_extensions import Self

from engine.contract import ConfigError
from engine.keys import LONGEST_S
from experiments.serve.line import BatchRule
from experiments.settings.keys import key_of
from experiments.settings.own import Own
from experiments.settings.typed import Group, Text

LONGEST_WINDOW_S = 0.1
HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}")


class Line(Group):
    """How requests wait and share calls."""

    GROUP: ClassVar[str]

    batching: bool = Field(False, description="requests of like length share one call of the engine")
    batch_window_s: float = Field(0.02, ge=0, le=LONGEST_WINDOW_S, description="how long the oldest waits for company")
    max_batch: int | None = Field(None, ge=1, description="null: as many as the engine takes")
    bucket_chars: list[int] = Field([40, 100], description="upper bounds of the lengths that share a call; []: all do")
    queue_limit: int = Field(64, ge=1, description="a longer line turns requests away")

    @model_validator(mode="after")
    def _buckets_ascend(self) -> Self:
        edges = self.bucket_chars
        if edges != sorted(set(edges)) or any(edge < 1 for edge in edges):
            key = f"{self.GROUP}.bucket_chars"
            raise ConfigError(key, edges, "must be ascending whole numbers", f"use {key}=[40,100]")
        return self

    def rule(self, engine_max_batch: int) -> BatchRule:
        """Raises ConfigError where more is asked in one call than the engine takes."""
        if not self.batching:
            return BatchRule(capacity=self.queue_limit)
        most = self.max_batch or engine_max_batch
        if most > engine_max_batch:
            raise ConfigError(
                f"{self.GROUP}.max_batch", most, f"this engine takes {engine_max_batch}", "choose no more"
            )
        if engine_max_batch == 1:
            key = f"{self.GROUP}.batching"
            raise ConfigError(key, True, "this engine takes one request at a time", f"use {key}=false")
        return BatchRule(
            max_batch=most, window_s=self.batch_window_s, bucket_chars=tuple(self.bucket_chars),
            capacity=self.queue_limit,
        )  # fmt: skip


class Serve(Line):
    """`serve`: where the service listens."""

    GROUP = "serve"

    host: Text = Field("127.0.0.1", description="a name or an IPv4 address of this machine; 0.0.0.0 for all")
    port: int = Field(8000, ge=0, le=65535, description="0: any free one")
    warm_up: bool = Field(True, description="speak three sentences before it is ready")
    canary_minutes: float | None = Field(
        None, gt=0, le=LONGEST_S / 60, description="say one sentence so often and hold it against its reference"
    )
    canary_reference: Text | None = Field(None, description="the .npz it is held against; null: its first answer")

    @model_validator(mode="after")
    def _is_a_host(self) -> Self:
        if not HOST.fullmatch(self.host):
            raise ConfigError("serve.host", self.host, "must be a name or an IPv4 address", "use serve.host=127.0.0.1")
        if self.canary_reference is not None and self.canary_minutes is None:
            raise ConfigError(
                "serve.canary_reference", self.canary_reference, "is for a canary", "add serve.canary_minutes=10"
            )
        return self


# The scenarios that read a key
SCENARIO_OF = {
    "users": ("closed",), "think_s": ("closed",), "rate_per_s": ("open",),
    "requests": ("closed", "open", "offline", "batches"),
    "target_s": ("open",), "batches": ("batches",),
    "limit_s": ("search",), "search_ratio": ("search",), "probe_requests": ("search",),
    "probe_requests_most": ("search",), "search_time_limit_s": ("search",), "cold_pairs": ("cold_vs_warm",),
    "warmup_requests": ("closed", "open", "offline", "search", "batches"),
}  # fmt: skip
SOAK = ("leak_limit_bytes_per_h", "memory_every_s")
HTTP = ("connections", "request_limit_s")
BATCHING = ("batch_window_s", "max_batch", "bucket_chars")


class Load(Line):
    """`load`: how an engine is driven; rates in requests a second, times in seconds."""

    GROUP = "load"

    scenario: Literal["closed", "open", "offline", "batches", "search", "cold_vs_warm"] = Field(
        "closed",
        description="closed: users who ask again; open: Poisson arrivals; offline: all at once; batches: that by size",
    )
    transport: Literal["inprocess", "http"] = Field("inprocess", description="http: a service of its own")
    url: Text | None = Field(None, description="http: a service that runs already")
    users: int | list[int] = Field(4, description="closed: every level from 1 to this many, or a list of levels")
    think_s: float = Field(0, ge=0, description="closed: a user's pause after an answer")
    rate_per_s: float | None = Field(None, gt=0, le=LONGEST_S, description="open; null: 0.7 of what a loop reached")
    target_s: float | None = Field(None, gt=0, le=LONGEST_S, description="open: what the p95 is judged against")
    batches: list[int] | None = Field(None, description="batches: sizes; null: powers of two up to the engine's most")
    requests: int = Field(100, ge=1, description="of one level; a p95 takes 59 independent ones, a p99 299")
    warmup_requests: int = Field(8, ge=0, description="before the first level, not in any figure")
    arrival_seed: int = Field(0, ge=0, description="of arrival times and of the order of sentences")
    max_error_frac: float = Field(0.01, ge=0, lt=1, description="of a level's requests; with more, no figure of it")
    soak_min: float | None = Field(None, gt=0, le=LONGEST_S, description="one level for so many minutes, leak test")
    memory_every_s: float = Field(5, gt=0, le=LONGEST_S)
    leak_limit_bytes_per_h: float = Field(33554432, ge=0)
    limit_s: float = Field(1, gt=0, le=LONGEST_S, description="search: what the p95 keeps under")
    search_ratio: float = Field(1.15, ge=1.01, le=2, description="search: how near the failing rate has to come")
    probe_requests: int = Field(120, ge=1)
    probe_requests_most: int = Field(960, ge=1)
    search_time_limit_s: float = Field(900, gt=0, le=LONGEST_S)
    cold_pairs: int = Field(8, ge=1, description="cold_vs_warm: fresh processes")
    connections: int = Field(96, ge=1, description="http: requests on their way at once")
    request_limit_s: float = Field(300, gt=0, le=LONGEST_S)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.url is not None:
            self._check_address(self.url)
        if self.scenario == "cold_vs_warm" and self.transport != "http":
            raise ConfigError("load.transport", self.transport, "the warm side is a service", "use load.transport=http")
        if self.soak_min is not None and self.scenario not in ("closed", "open"):
            raise ConfigError(
                "load.soak_min", self.soak_min, "soaks a closed or an open loop", "use load.scenario=closed"
            )
        self._check_batches()
        listed = [self.users] if isinstance(self.users, int) else self.users
        if not listed or any(level < 1 for level in listed):
            raise ConfigError(
                "load.users", self.users, "must be a whole number from 1, or a list of them", "use load.users=4"
            )
        return self

    def _check_batches(self) -> None:
        if self.scenario == "batches" and self.transport != "inprocess":
            raise ConfigError(
                "load.transport", self.transport, "the service decides itself what shares a call",
                "use load.transport=inprocess with load.scenario=batches",
            )  # fmt: skip
        if self.batches is not None and (not self.batches or any(size < 1 for size in self.batches)):
            raise ConfigError(
                "load.batches", self.batches, "must be a list of whole numbers from 1", "use load.batches=[1,8]"
            )

    def batch_sizes(self, engine_max_batch: int) -> tuple[int, ...]:
        """Of the scenario `batches`. Raises ConfigError for one that the engine does not take."""
        if self.batches is None:
            return tuple(size for size in (1 << i for i in range(13)) if size <= engine_max_batch)
        most = max(self.batches)
        if most > engine_max_batch:
            raise ConfigError(
                "load.batches", most, f"this engine takes {engine_max_batch} requests a call",
                f"choose no more, or build it for more with ++engine.max_batch={most}",
            )  # fmt: skip
        return tuple(sorted(set(self.batches)))

    def _check_address(self, url: str) -> None:
        if self.transport != "http":
            raise ConfigError("load.url", url, "is for a load over HTTP", "add load.transport=http")
        try:
            parts = urlsplit(url)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigError(
                "load.url", url, "is no address of a service", "write load.url='\"http://localhost:8000\"'"
            )
        if "@" in parts.netloc:
            raise ConfigError(
                "load.url", "http://...@...", "it is stored with every load", "leave the password out of it"
            )

    @property
    def soak_s(self) -> float | None:
        """None without a soak."""
        return None if self.soak_min is None else 60.0 * self.soak_min

    @property
    def levels(self) -> tuple[int, ...]:
        """Of a closed loop, in users; a soak has the highest alone."""
        listed = range(1, self.users + 1) if isinstance(self.users, int) else sorted(set(self.users))
        return tuple(listed)[-1:] if self.soak_min is not None else tuple(listed)


LOAD = Own("load", Load, "closed")
SERVE = Own("serve", Serve, "local")


def read_settings(words: Sequence[str]) -> Load:
    """load.KEY=VALUE. Raises ConfigError."""
    return LOAD.made(LOAD.split(words)[0])


def split_command(argv: Sequence[str]) -> tuple[Load, list[str]]:
    """(settings, overrides of the variant). Raises ConfigError."""
    mine, overrides = LOAD.split(argv)
    return LOAD.made(mine), overrides


def refuse_unread(argv: Sequence[str], load: Load) -> None:
    """Raises ConfigError for a setting that this load would not read."""
    for word in argv:
        if key_of(word).removeprefix("serve.") in Serve.model_fields.keys() - Load.model_fields.keys():
            key, _, value = word.partition("=")
            raise ConfigError(key, value, "is for experiments.serve", "leave it out, or name a service by load.url=")
    for name in LOAD.keys(argv):
        found = _why_unread(name, load)
        if found is not None:
            raise ConfigError(f"load.{name}", getattr(load, name), *found)


def _why_unread(name: str, load: Load) -> tuple[str, str] | None:
    """(why not, what to do)."""
    if load.scenario not in SCENARIO_OF.get(name, (load.scenario,)):
        scenarios = " or ".join(f"load.scenario={scenario}" for scenario in SCENARIO_OF[name])
        return f"is for {scenarios}", f"leave it out, or set {scenarios}"
    if name == "requests" and load.soak_min is not None:
        return "a soak is as long as load.soak_min says", "leave one of the two out"
    if name in SOAK and load.soak_min is None:
        return "is for a soak", "add load.soak_min=10"
    if name in BATCHING and not load.batching:
        return "is for load.batching=true", "add load.batching=true, or leave it out"
    if name in HTTP and load.transport != "http":
        return "is for a load over HTTP", "add load.transport=http, or leave it out"
    return None


def refuse_unserved(argv: Sequence[str]) -> None:
    """Raises ConfigError for a setting of a load, given to a service."""
    for word in argv:
        key, _, value = word.partition("=")
        name = key_of(word)
        if name.startswith("load.") or name in Load.model_fields.keys() - Serve.model_fields.keys():
            raise ConfigError(key, value, "is for a load", f"a service takes {', '.join(Serve.model_fields)}")
