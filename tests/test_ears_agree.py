"""How far the ears agree: what counts as heard, what a refusal counts as, and which way round they are compared."""

from pathlib import Path

import pytest

from experiments.checks import ears
from experiments.checks.ears import EARS, Detection, agreements, detections, limit_of
from experiments.common.cli import run_verb

WER, MOS = EARS[0], EARS[2]
FIVE = ("a", "b", "c", "d", "e")


def test_a_fault_is_heard_where_it_is_worse_than_arithmetic_ever_made_it() -> None:
    base = {"one": 3.0, "two": 3.0, "three": 3.0}
    same = [{"one": 2.9, "two": 3.4, "three": 3.0}, {"one": 3.0, "two": 2.75, "three": None}]
    assert limit_of(MOS, base, same) == pytest.approx(0.25), "better is no limit, and higher is better"
    after = {e.metric: {"one": 2.7, "two": 2.8, "three": None} for e in EARS}
    found = detections("hiss", {e.metric: base for e in EARS}, after, {e.name: 0.25 for e in EARS})
    heard = {one.ear: one for one in found}
    assert heard[MOS.name] == Detection(fault="hiss", ear=MOS.name, seen=1, refused=1, tried=3)
    assert heard[WER.name].seen == 0, "of word errors less is better"
    assert "log-mel error" not in heard, "it is made before the vocoder, and hears no fault of the sound"


def test_the_interval_is_the_exact_one_and_counts_refusals_as_heard() -> None:
    low, high = Detection(fault="f", ear="e", seen=9, refused=3, tried=12).interval()
    assert (low, high) == (pytest.approx(0.025 ** (1 / 12)), 1.0)


def test_ears_that_rank_alike_correlate_whichever_way_round_their_numbers_run() -> None:
    def values(label: str) -> dict[str, dict[str, float | None]]:
        worse = float(FIVE.index(label))
        return {ear.metric: {"one": ear.sign * worse, "two": None} for ear in EARS}

    found = agreements({label: values(label) for label in FIVE})
    assert len(found) == len(EARS) * (len(EARS) - 1) // 2
    assert [pair.rho for pair in found] == pytest.approx([1.0] * len(found))
    assert {pair.num for pair in found} == {5}
    assert not agreements({label: values(label) for label in FIVE[:4]}), "of four variants nothing is said"


def test_a_sweep_that_was_not_scored_by_models_is_told_how(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(ears.main, [str(tmp_path), "--base", "fp32-euler_7", "--same", "bf16-euler_7"]) == 2
    assert "--base=fp32-euler_7: is no finished variant" in capsys.readouterr().err
