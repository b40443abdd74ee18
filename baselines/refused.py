"""A limit or a rule that cannot be meant, as parts: what reads the settings knows how it says them."""

from __future__ import annotations


class SettingRefused(ValueError):
    """key, value, what is allowed, what to do."""

    def __init__(self, key: str, value: object, allowed: str, remedy: str):
        super().__init__(f"{key}={value}: {allowed}; {remedy}")
        self.key = key
        self.value = value
        self.allowed = allowed
        self.remedy = remedy
