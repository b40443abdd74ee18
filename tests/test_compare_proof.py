"""What a comparison holds a side to: the evaluations that its solver, as it was built, explains."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.compare.processes import SideFailed
from experiments.compare.proof import Proof, evaluations_of
from experiments.measuring.engines import facts_content
from tests.engines import ROOT, config, engine, request

SOLVERS = sorted(path.stem for path in (ROOT / "conf" / "solver").glob("*.yaml"))
TINY = ("model.checkpoint=random:0", "model.arch.depth=1")


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_preset_makes_the_evaluations_that_are_expected_of_it(solver: str) -> None:
    with engine("engine=fp32", f"solver={solver}", *TINY) as ours:
        facts = facts_content(ours.facts)
        least, most = evaluations_of(facts)
        for text in ("Now.", "We walk along the sea in the morning, and we look for the birds of the winter there."):
            said = ours.synthesize([request(text)])[0]
            assert said.num_chunks == 1
            assert least <= said.num_evals <= most
    assert (least == most) == (solver not in ("adaptive", "teacache_32"))


def facts(**options: Any) -> dict[str, Any]:
    return {"steps": 8, "evals_per_step": 1, "solver_options": options}


def test_what_the_solvers_options_explain_and_no_more() -> None:
    assert evaluations_of({"steps": 7, "evals_per_step": 2}) == (14, 14)  # a revision without solver_options
    assert evaluations_of(facts(reuse={"kind": "schedule", "evaluated": [0, 3, 6]})) == (3, 3)
    both = facts(guidance={"zero_init_steps": 2}, reuse={"kind": "schedule", "evaluated": [0, 3, 6]})
    assert evaluations_of(both) == (2, 2)
    assert evaluations_of(facts(reuse={"kind": "threshold", "max_in_a_row": 3})) == (2, 8)
    assert evaluations_of(facts(rule={"steps": [12, 10, 7]})) == (7, 12)
    answer = {
        "num_evals": 5, "num_chunks": 1, "finite": True, "peak": 0.5, "audio_sha256": "a", "num_samples": 1,
        "sample_rate_hz": 24000, "noise_sha256": None,
    }  # fmt: skip
    proof = Proof({"candidate": config()}, [("a", "Now.")], {"a": 0.0})
    proof.call("candidate", facts(reuse={"kind": "threshold", "max_in_a_row": 3}), (0, 1), answer)
    with pytest.raises(SideFailed, match="5 velocity evaluations were counted, 8 were asked for"):
        proof.call("candidate", facts(), (0, 2), answer)
    with pytest.raises(SideFailed, match="5 velocity evaluations were counted, 7 to 12 were asked for"):
        proof.call("candidate", facts(rule={"steps": [12, 10, 7]}), (0, 3), answer)
