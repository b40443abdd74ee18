"""Twenty-four cells over two host classes: what a sweep here measures, whoever measured it and in whatever order."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.settings.compose import compose_cells
from experiments.sweep.fleet import run_fleet
from experiments.sweep.running import new_sweep, run_sweep
from tests.fleets import ALL_CORES, ONE_CORE, Pipes, class_of
from tests.test_fleet import (
    FAKE,
    SMALL,
    SWEEP,
    elsewhere,
    needs_two_cores,
    never_two_at_once,
    no_reports,
    pipes,
    records,
    spoken,
)

pytestmark = [pytest.mark.slow, needs_two_cores]
__all__ = ["elsewhere", "no_reports", "pipes"]  # fixtures of the other file, for this test as well
TWELVE = (
    "engine=fp32,bf16", "solver=euler_5,euler_6,euler_7,euler_8,euler_10,euler_12", "workload.select=[en05]",
    "measure.rounds=1",
)  # fmt: skip


def test_twenty_four_cells_over_two_classes_are_those_of_a_sweep_here(pipes: Pipes) -> None:
    here = new_sweep(compose_cells([*SMALL, "out=here", *TWELVE]))
    here.command = FAKE
    assert run_sweep(here) == 0
    assert run_fleet([*SWEEP, *TWELVE], FAKE) == 0
    local, classes = records(Path("here")), [class_of(ONE_CORE), class_of(ALL_CORES)]
    assert len(local) == 12
    for name in classes:
        found = records(Path("out") / name)
        assert found.keys() == local.keys()
        assert spoken(Path("out") / name) == spoken(Path("here")), "bit-equal audio"
        for label, record in found.items():
            assert record.environment["host_class"] == name
            assert (record.status, len(record.trials)) == ("ok", len(local[label].trials))
            assert [one.num_evals for one in record.trials] == [one.num_evals for one in local[label].trials]
            assert record.workload["utterances"] == local[label].workload["utterances"]
    run_ids = [record.run_id for name in classes for record in records(Path("out") / name).values()]
    assert len(set(run_ids)) == 24, "none is doubled, none is another's"
    assert sorted(pipes.busy).count("big") == 12
    assert set(pipes.busy) == {"one", "two", "big"}, "equal machines share a class"
    assert len(pipes.busy) == 24, "each cell was measured once"
    assert never_two_at_once(Path("out") / class_of(ALL_CORES))
