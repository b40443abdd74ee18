"""What is refused before anything is judged: a limit that cannot be meant, as parts (what reads the settings knows how
it says them), and a machine that was not in order."""

from __future__ import annotations

from metrics.record import RecordError


class MachineRefused(RecordError):
    """The machine was not fit to measure on: the run says nothing, and whoever waited for it can only run again."""


class SettingRefused(ValueError):
    """key, value, what is allowed, what to do."""

    def __init__(self, key: str, value: object, allowed: str, remedy: str):
        super().__init__(f"{key}={value}: {allowed}; {remedy}")
        self.key = key
        self.value = value
        self.allowed = allowed
        self.remedy = remedy
