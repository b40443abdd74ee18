"""What a source of power says at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Reading:
    """rails_w: by label. total_w: by the source's rule, None where one of its parts has no value. counters_j: joules
    since some beginning. missing: label -> why it has no value now. state: what else the source says (clocks, ..)."""

    rails_w: Mapping[str, float] = field(default_factory=dict)
    total_w: float | None = None
    counters_j: Mapping[str, float] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    state: Mapping[str, object] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """For a file: only what is there."""
        fields = {
            "rails_w": dict(self.rails_w), "total_w": self.total_w, "counters_j": dict(self.counters_j),
            "missing": dict(self.missing), **self.state,
        }  # fmt: skip
        return {name: value for name, value in fields.items() if value not in (None, {})}
