"""The command line of a load: settings of conf/load.yaml, the rest are overrides of the variant."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from engine.contract import ConfigError
from experiments.serve.line import BatchRule
from experiments.settings.bounds import LONGEST_S
from experiments.settings.flat_settings import flat_settings, refuse_misspelt

SCENARIOS = ("closed", "open", "offline", "search", "cold_vs_warm")
TRANSPORTS = ("inprocess", "http")
WHOLE = {
    "requests": 1, "warmup_requests": 0, "arrival_seed": 0, "queue_limit": 1, "probe_requests": 1,
    "probe_requests_most": 1, "cold_pairs": 1, "connections": 1, "port": 0, "max_batch": 1,
}  # fmt: skip
POSITIVE = ("rate_per_s", "soak_min", "memory_every_s", "limit_s", "search_time_limit_s", "request_limit_s")
NULLABLE = ("rate_per_s", "max_batch", "soak_min", "url")
# The scenarios that read a key
SCENARIO_OF = {
    "users": ("closed",), "think_s": ("closed",), "rate_per_s": ("open",), "requests": ("closed", "open", "offline"),
    "limit_s": ("search",), "search_ratio": ("search",), "probe_requests": ("search",),
    "probe_requests_most": ("search",), "search_time_limit_s": ("search",), "cold_pairs": ("cold_vs_warm",),
    "warmup_requests": ("closed", "open", "offline", "search"),
}  # fmt: skip
SOAK = ("leak_limit_bytes_per_h", "memory_every_s")
HTTP = ("connections", "request_limit_s")
ADDRESS = ("host", "port", "warm_up")
BATCHING = ("batch_window_s", "max_batch", "bucket_chars")
SERVED = ("batching", *BATCHING, "queue_limit", *ADDRESS)
LONGEST_WINDOW_S = 0.1
LAST_PORT = 65535
HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}")
FILE = "load.yaml"
SEE = f"see conf/{FILE}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """conf/load.yaml after checking. users: the levels of a closed loop. soak_s: None without a soak."""

    scenario: str
    transport: str
    users: tuple[int, ...]
    soak_s: float | None
    values: Mapping[str, Any]

    def rule(self, engine_max_batch: int) -> BatchRule:
        """Raises ConfigError where more is asked in one call than the engine takes."""
        values = self.values
        if not values["batching"]:
            return BatchRule(capacity=values["queue_limit"])
        most = values["max_batch"] or engine_max_batch
        if most > engine_max_batch:
            raise ConfigError("max_batch", most, f"this engine takes {engine_max_batch}", "choose no more")
        if engine_max_batch == 1:
            raise ConfigError("batching", True, "this engine takes one request at a time", "use batching=false")
        return BatchRule(
            max_batch=most, window_s=float(values["batch_window_s"]), bucket_chars=tuple(values["bucket_chars"]),
            capacity=values["queue_limit"],
        )  # fmt: skip


def split_command(argv: Sequence[str]) -> tuple[Settings, list[str]]:
    """(settings, overrides of the variant). Raises ConfigError."""
    defaults = flat_settings(FILE)
    given: list[str] = []
    overrides: list[str] = []
    for text in argv:
        key, _, value = text.partition("=")
        if key in defaults:
            given.append(text)
            continue
        refuse_misspelt(key, value, defaults)
        overrides.append(text)
    return read_settings(given), overrides


def refuse_unread(argv: Sequence[str], settings: Settings) -> None:
    """Raises ConfigError for a setting that this load would not read."""
    values = settings.values
    for key in [text.partition("=")[0] for text in argv]:
        if key in SCENARIO_OF and settings.scenario not in SCENARIO_OF[key]:
            scenarios = " or ".join(f"scenario={name}" for name in SCENARIO_OF[key])
            raise ConfigError(key, values[key], f"is for {scenarios}", f"leave it out, or set {scenarios}")
        if key == "requests" and settings.soak_s is not None:
            raise ConfigError(key, values[key], "a soak is as long as soak_min says", "leave one of the two out")
        if key in SOAK and settings.soak_s is None:
            raise ConfigError(key, values[key], "is for a soak", "add soak_min=10")
        if key in BATCHING and not values["batching"]:
            raise ConfigError(key, values[key], "is for batching=true", "add batching=true, or leave it out")
        if key in HTTP and settings.transport != "http":
            raise ConfigError(key, values[key], "is for a load over HTTP", "add transport=http, or leave it out")
        if key in ADDRESS:
            raise ConfigError(key, values[key], "is for experiments.serve", "leave it out, or name a service by url=")


def refuse_unserved(argv: Sequence[str]) -> None:
    """Raises ConfigError for a setting of a load, given to a service."""
    for key in [text.partition("=")[0] for text in argv]:
        if key in flat_settings(FILE) and key not in SERVED:
            raise ConfigError(key, "(given)", "is for a load", f"a service takes {', '.join(SERVED)}")


def read_settings(given: Sequence[str]) -> Settings:
    """conf/load.yaml with `KEY=VALUE` changes. Raises ConfigError."""
    values = flat_settings(FILE, given)
    _check_numbers(values)
    _choice(values, "scenario", SCENARIOS)
    _choice(values, "transport", TRANSPORTS)
    for key in ("batching", "warm_up"):
        if not isinstance(values[key], bool):
            raise ConfigError(key, values[key], "must be true or false", f"use {key}=true")
    if values["url"] is not None and values["transport"] != "http":
        raise ConfigError("url", values["url"], "is for a load over HTTP", "add transport=http")
    if values["url"] is not None and not _is_address(values["url"]):
        raise ConfigError("url", values["url"], "is no address of a service", "write url=http://localhost:8000")
    if values["url"] is not None and "@" in urlsplit(str(values["url"])).netloc:
        raise ConfigError("url", "http://...@...", "it is stored with every load", "leave the password out of it")
    if values["scenario"] == "cold_vs_warm" and values["transport"] != "http":
        raise ConfigError("transport", values["transport"], "the warm side is a service", "use transport=http")
    edges = values["bucket_chars"]
    if not isinstance(edges, list) or not all(_is_whole(edge, 1) for edge in edges) or edges != sorted(set(edges)):
        raise ConfigError("bucket_chars", edges, "must be ascending whole numbers", "use bucket_chars=[40,100]")
    soak_s = None if values["soak_min"] is None else 60.0 * values["soak_min"]
    if soak_s is not None and values["scenario"] not in ("closed", "open"):
        raise ConfigError("soak_min", values["soak_min"], "soaks a closed or an open loop", "use scenario=closed")
    users = _users(values["users"])
    return Settings(
        scenario=values["scenario"], transport=values["transport"], soak_s=soak_s, values=values,
        users=users[-1:] if soak_s is not None else users,
    )  # fmt: skip


def _check_numbers(values: Mapping[str, Any]) -> None:
    for key, least in WHOLE.items():
        if not (values[key] is None and key in NULLABLE) and not _is_whole(values[key], least):
            raise ConfigError(key, values[key], f"must be a whole number from {least}", SEE)
    if values["port"] > LAST_PORT:
        raise ConfigError("port", values["port"], f"must be a whole number from 0 to {LAST_PORT}", "use port=0")
    if not isinstance(values["host"], str) or not HOST.fullmatch(values["host"]):
        raise ConfigError("host", values["host"], "must be a name or an IPv4 address", "use host=127.0.0.1")
    for key in POSITIVE:
        fits = _is_number(values[key]) and 0 < values[key] <= LONGEST_S
        if not (values[key] is None and key in NULLABLE) and not fits:
            raise ConfigError(key, values[key], f"must be a number above 0, up to {LONGEST_S:g}", SEE)
    for key, low, high in (
        ("think_s", 0.0, math.inf), ("batch_window_s", 0.0, LONGEST_WINDOW_S), ("leak_limit_bytes_per_h", 0.0, math.inf)
    ):  # fmt: skip
        if not _is_number(values[key]) or not low <= values[key] <= high:
            raise ConfigError(key, values[key], f"must be a number from {low:g} to {high:g}", SEE)
    if not _is_number(values["max_error_frac"]) or not 0 <= values["max_error_frac"] < 1:
        raise ConfigError("max_error_frac", values["max_error_frac"], "must be a share from 0 to below 1", SEE)
    if not _is_number(values["search_ratio"]) or not 1.01 <= values["search_ratio"] <= 2:
        raise ConfigError("search_ratio", values["search_ratio"], "must be a number from 1.01 to 2", SEE)


def _is_address(url: object) -> bool:
    try:
        parts = urlsplit(str(url))
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _choice(values: Mapping[str, Any], key: str, allowed: Sequence[str]) -> None:
    if values[key] not in allowed:
        raise ConfigError(key, values[key], f"must be one of {', '.join(allowed)}", f"use {key}={allowed[0]}")


def _users(given: Any) -> tuple[int, ...]:
    levels = list(range(1, given + 1)) if _is_whole(given, 1) else given
    if not isinstance(levels, list) or not levels or not all(_is_whole(level, 1) for level in levels):
        raise ConfigError("users", given, "must be a whole number from 1, or a list of them", "use users=4")
    return tuple(sorted(set(levels)))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
