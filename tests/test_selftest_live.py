"""A live self-test that is interrupted has lost the comparison in flight, nothing before it."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from baselines.paired.data import Block
from baselines.paired.rule import PairedLimits, judge
from baselines.paired.selftests import Tally
from baselines.simulation import traces
from baselines.simulation.traces import load_trace, load_traces, trace_blocks
from experiments.compare.preparing import Prepared, prepare
from experiments.selftest import live as selftest_live
from experiments.selftest.live import Live, live_command, one_comparison, run_live


def test_every_outcome_is_given_away_and_the_trace_written_before_the_next_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = trace_blocks(load_traces()[0], 0, 1.0)
    done: list[int] = []

    def compared(*_: object) -> tuple[object, list[Block]]:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        blocks = [next(recorded) for _ in range(8)]
        return judge(blocks, PairedLimits()), blocks

    monkeypatch.setattr(selftest_live, "one_comparison", compared)
    monkeypatch.setattr(selftest_live, "TRACES", tmp_path)
    monkeypatch.setattr(selftest_live, "save_trace", lambda trace: traces.save_trace(trace, tmp_path))
    kept: list[list[Tally]] = []
    live = Live(minutes=60, ratios=(1.0,), record="here", overrides=())
    with ExitStack() as stack, pytest.raises(KeyboardInterrupt):
        run_live(live, tmp_path / "out", stack, lambda tallies, _: kept.append(list(tallies)))
    assert [sum(tally.num for tally in tallies) for tallies in kept] == [1, 2]
    assert len(load_trace(tmp_path / "here.json").blocks) == 16


@pytest.mark.parametrize(
    ("ratio", "candidate", "others"), [(1.05, 0.05, 0.0), (1.0, 0.0, 0.0), (0.95, 0.0, 1 / 0.95 - 1)]
)
def test_a_known_ratio_is_made_by_slowing_one_side_down(
    ratio: float, candidate: float, others: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third side is the unchanged reference: it is as slow as that."""
    opened: list[Prepared] = []

    def open_bench(prepared: Prepared, *_: object) -> None:
        opened.append(prepared)
        raise KeyboardInterrupt

    monkeypatch.setattr(selftest_live, "open_bench", open_bench)
    with ExitStack() as stack:
        prepared = prepare(live_command(["sentinel=true"]), tmp_path, stack)
        with pytest.raises(KeyboardInterrupt):
            one_comparison(prepared, tmp_path / "0007", 0, ratio)
    slowed = {spec.side: spec.slow_frac for spec in opened[0].specs}
    assert slowed == pytest.approx({"candidate": candidate, "reference": others, "sentinel": others})
    assert opened[0].settings.plan.order_seed == prepared.settings.plan.order_seed + 7
