"""The captured solve without a GPU: recorded and replayed as tests.recording does it."""

from typing import Any

import numpy as np
import pytest

from engine.backends.cuda_graph.denoiser import GraphSampler, check_capturable
from engine.backends.eager.build import eager_denoiser
from engine.clock import HostClock
from engine.context import Build, Context, assemble, materials
from engine.contract import ConfigError, Engine, UnsupportedEngine
from engine.solver.methods import solver_spec
from metrics.speed.steady import counters_score, remedy_of
from tests.engines import config, engine, request
from tests.recording import TracingRecorder

SMALL = ("model.checkpoint=random:0", "model.arch.depth=1")
TWO_STEPS = ("solver=uniform_4", "solver.steps=2")  # recording takes as long as there are operations
TEXTS = ("That was close.", "Turn left at the bridge.", "We walk along the sea in the morning.")


@pytest.fixture(autouse=True)
def plain_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: the recorder cannot hold oneDNN's packed tensors."""
    monkeypatch.setattr("engine.step.precision.can_pack", lambda dtype: False)


def graphed(*overrides: str, max_graphs: int = 16, max_batch: int = 8) -> tuple[Engine, TracingRecorder]:
    composed, recorder = config(*SMALL, *overrides), TracingRecorder()
    context = Context(composed, solver_spec(composed["solver"]), HostClock())
    made = materials(context)
    denoiser, step_bytes = eager_denoiser(context, made, "fp32")
    build = Build(
        name="graph", denoiser="cuda_graph", precision="fp32", step_bytes=step_bytes, max_batch=max_batch,
        max_padding_frac=0.9,
    )  # fmt: skip
    return assemble(context, made, GraphSampler(denoiser, context.solver, recorder, max_graphs), build), recorder


@pytest.mark.parametrize(
    ("overrides", "num_evals"),
    [
        (TWO_STEPS, 2), (("solver=midpoint_nfe6", "solver.num_evals=2", "solver.cfg_strength=0"), 2),
        (("solver=fitted_3",), 3),
    ],
)  # fmt: skip
def test_replays_are_bit_equal_to_the_loop_at_three_lengths_and_in_a_batch(
    overrides: tuple[str, ...], num_evals: int
) -> None:
    asks = [request(text, utterance_id=text) for text in TEXTS]
    replayed, recorder = graphed(*overrides)
    with replayed as ours, engine(*SMALL, *overrides, "+engine.max_padding_frac=0.9") as eager:
        for calls in ([asks[0]], [asks[1]], [asks[2]], asks, [asks[0]], asks[::-1]):
            for one, other in zip(ours.synthesize(calls), eager.synthesize(calls), strict=True):
                assert np.array_equal(one.audio_S, other.audio_S)
                assert one.num_evals == other.num_evals == num_evals
        proof = ours.facts.proof
    assert recorder.recorded == 4, "three lengths and one batch, each captured once"
    assert proof["steady_counters"] == {"graph_captures": 4, "graphs_evicted": 0}
    assert (proof["graph_replays"], proof["num_evals"]) == (6, 6 * num_evals)


def test_a_graph_reads_this_requests_noise_text_and_reference_not_those_it_was_captured_with() -> None:
    same_length = [request(TEXTS[0]), request(TEXTS[0], seed=1), request(TEXTS[0], voice="rms")]
    replayed, recorder = graphed(*TWO_STEPS)
    with replayed as ours, engine(*SMALL, *TWO_STEPS) as eager:
        heard = [ours.synthesize([ask])[0].audio_S for ask in same_length]
        expected = [eager.synthesize([ask])[0].audio_S for ask in same_length]
    assert all(np.array_equal(one, other) for one, other in zip(heard, expected, strict=True))
    assert recorder.recorded <= 2


def test_the_graphs_used_longest_ago_are_dropped() -> None:
    replayed, recorder = graphed(*TWO_STEPS, max_graphs=2)
    with replayed as ours:
        for text in (TEXTS[0], TEXTS[1], TEXTS[0], TEXTS[2], TEXTS[0]):
            ours.synthesize([request(text)])
        before = ours.facts.proof["steady_counters"]
        ours.synthesize([request(TEXTS[1])])
        proof = ours.facts.proof
    assert recorder.recorded == 4, "the second text had to be captured again"
    assert (proof["graphs_kept"], proof["steady_counters"]["graphs_evicted"]) == (2, 2)
    score = counters_score(before, proof["steady_counters"])
    assert score is not None
    assert score.reason == (
        "graph_captures went from 3 to 4, graphs_evicted went from 1 to 2 (more lengths than engine.max_graphs keeps) "
        "in the timed region"
    )
    assert remedy_of(score.reason).startswith("raise engine.max_graphs")


@pytest.mark.parametrize("max_graphs", ["0", "-1", "1.5", "true", "null"])
def test_no_graph_at_all_is_a_setting(max_graphs: str) -> None:
    with pytest.raises(ConfigError, match=r"engine.max_graphs=.*: must be a whole number from 1.*; use 16"):
        engine("engine=cuda_graph", f"engine.max_graphs={max_graphs}")


@pytest.mark.parametrize(
    ("overrides", "device", "says"),
    [
        (("solver=euler_7",), "cpu", "needs a CUDA device"),
        (("solver=teacache_32",), "cuda:0", "decides from the data"),
        (("solver=cfg_zero_star_7",), "cuda:0", "lengths"),
    ],
)
def test_what_no_graph_can_hold_is_refused_with_a_way_out(overrides: tuple[str, ...], device: str, says: str) -> None:
    composed: dict[str, Any] = config(*overrides)
    with pytest.raises(UnsupportedEngine, match=says) as refusal:
        check_capturable(solver_spec(composed["solver"]), device, 8)
    assert refusal.value.remedy.startswith("use ")
