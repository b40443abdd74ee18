"""How a report writes numbers and reasons."""

from __future__ import annotations

import pytest

from reports.words import significant, without_machine_paths


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.08341, "0.0834"),
        (1.7449, "1.74"),
        (9.996, "10.0"),
        (83.14, "83.1"),
        (1236.0, "1240"),
        (-0.5, "-0.500"),
    ],
)
def test_numbers_have_three_significant_digits_and_no_exponent(value: float, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(
    ("text", "published"),
    [
        ("cannot read /home/a/b.wav, line 3", "cannot read .../b.wav, line 3"),
        ("see https://example.org/a/b", "see https://example.org/a/b"),
        ("engine/pocket/dit.safetensors and/or more", "engine/pocket/dit.safetensors and/or more"),
        (None, None),
    ],
)
def test_reasons_lose_the_machines_paths_only(text: str | None, published: str | None) -> None:
    assert without_machine_paths(text) == published
