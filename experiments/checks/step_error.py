"""Where an engine's error comes from: `python -m experiments.checks.step_error engine=int8 solver=euler_7
workload=smoke`.

At every evaluation of the velocity the engine gets the oracle's state instead of its own, so what is printed is the
error of one evaluation, without the drift of those before it. Beside it stand the error of the mel after the engine's
own whole solve (the drift) and of the waveform: a fault of the denoiser is in all three, one of the vocoder in the last
alone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from engine.build import build_engine
from engine.clock import HostClock
from engine.contract import ConfigError, Engine, Proof, Synthesis, SynthesisRequest
from experiments.common.cli import EXIT_OK, run_verb
from experiments.common.plain import Config
from experiments.common.presets import with_presets
from experiments.measuring.validate import one_cell
from experiments.settings.front import answered
from experiments.settings.keys import refuse_unread
from experiments.settings.reference import reference_config
from experiments.workload.requests import load_workload
from metrics.fidelity.events import si_sdr_of

if TYPE_CHECKING:
    import torch

    from engine.pipeline import F5Engine
    from engine.solver.guidance import Rows
    from engine.solver.sampler import Denoiser
    from engine.step.conditioner import Conditioning

HELP = """The error of each evaluation against the float32 oracle on the same grid, with the oracle's state forced.

examples:
  python -m experiments.checks.step_error engine=int8 solver=euler_7 workload=smoke
  python -m experiments.checks.step_error engine=bf16 solver=midpoint_7 workload=bench workload.limit=3
"""


@dataclass(slots=True, eq=False)
class Tape:
    """The oracle's evaluations of one utterance in order: state in, rows out."""

    states: list[torch.Tensor] = field(default_factory=list)
    rows: list[torch.Tensor] = field(default_factory=list)


class Recorder:
    """An engine.solver.sampler.Denoiser that writes down what goes through it."""

    def __init__(self, inner: Denoiser, tape: Tape):
        self._inner, self._tape = inner, tape

    @property
    def num_evals(self) -> int:
        return self._inner.num_evals

    def bind(self, conditioning: Conditioning) -> Rows:
        rows = self._inner.bind(conditioning)

        def recorded(x: torch.Tensor, index: int, guided: bool) -> torch.Tensor:
            found = rows(x, index, guided)
            self._tape.states.append(x.clone())
            self._tape.rows.append(found.clone())
            return found

        return recorded

    def proof(self) -> Proof:
        return self._inner.proof()


class Forced:
    """An engine.solver.sampler.Denoiser that is asked at the oracle's states; the solver goes on with the oracle's
    rows."""

    def __init__(self, inner: Denoiser, tape: Tape):
        self._inner, self._tape = inner, tape
        self.errors: list[float] = []

    @property
    def num_evals(self) -> int:
        return self._inner.num_evals

    def bind(self, conditioning: Conditioning) -> Rows:
        rows = self._inner.bind(conditioning)

        def forced(x: torch.Tensor, index: int, guided: bool) -> torch.Tensor:
            place = len(self.errors)
            wanted = self._tape.rows[place]
            found = rows(self._tape.states[place].to(x.device), index, guided).to(wanted.device)
            self.errors.append(float((found - wanted).norm() / wanted.norm()))
            return wanted.to(x.device)

        return forced

    def proof(self) -> Proof:
        return self._inner.proof()


@dataclass(frozen=True, kw_only=True, slots=True)
class StepErrors:
    """Relative L2 error of each evaluation (state forced), of the whole solve's mel in nats, of the waveform in dB."""

    utterance_id: str
    evaluations: tuple[float, ...]
    log_mel_mae: float
    si_sdr_db: float


def step_errors(candidate: Engine, oracle: Engine, requests: Sequence[SynthesisRequest]) -> list[StepErrors]:
    """One per request, both engines of our pipeline and on one grid. Raises ConfigError and UnsupportedEngine."""
    from engine.pipeline import F5Engine

    if not isinstance(candidate, F5Engine) or not isinstance(oracle, F5Engine):
        raise ConfigError("engine", candidate.facts.name, "is not of our pipeline", "use an engine other than upstream")
    return [_one(candidate, oracle, request) for request in requests]


def _one(candidate: F5Engine, oracle: F5Engine, request: SynthesisRequest) -> StepErrors:
    own = candidate.synthesize([request])[0]
    tape, inner = Tape(), _Untap()
    oracle.tap(lambda denoiser: Recorder(inner.keep(denoiser), tape))
    wanted = oracle.synthesize([request])[0]
    oracle.tap(lambda _: inner.denoiser())
    forced, kept = [], _Untap()

    def force(denoiser: Denoiser) -> Denoiser:
        forced.append(Forced(kept.keep(denoiser), tape))
        return forced[0]

    candidate.tap(force)
    candidate.synthesize([request])
    candidate.tap(lambda _: kept.denoiser())
    return StepErrors(
        utterance_id=request.utterance_id,
        evaluations=tuple(forced[0].errors),
        log_mel_mae=float(np.mean(np.abs(own.mel_ND.astype(np.float64) - wanted.mel_ND))),
        si_sdr_db=_si_sdr(own, wanted),
    )


class _Untap:
    """Remembers the denoiser that was wrapped, to put it back."""

    def __init__(self) -> None:
        self._denoiser: Denoiser | None = None

    def keep(self, denoiser: Denoiser) -> Denoiser:
        self._denoiser = denoiser
        return denoiser

    def denoiser(self) -> Denoiser:
        if self._denoiser is None:
            raise AssertionError("nothing was wrapped")
        return self._denoiser


def _si_sdr(own: Synthesis, wanted: Synthesis) -> float:
    return min(120.0, si_sdr_of(own.audio_S.astype(np.float64), wanted.audio_S.astype(np.float64)))


@with_presets
def main(argv: Sequence[str]) -> int:
    if answered(argv, HELP):
        return EXIT_OK
    refuse_unread(argv, ("enhance",), "a step error")
    cell = one_cell(argv)
    config = cell.config
    oracle_config: Config = {**config, "engine": reference_config(config)["engine"]}
    with build_engine(config, HostClock()) as candidate, build_engine(oracle_config, HostClock()) as oracle:
        times = oracle.facts.time_grid
        for found in step_errors(candidate, oracle, load_workload(config).requests):
            errors = " ".join(f"{100 * error:.3g}" for error in found.evaluations)
            print(f"{found.utterance_id}: error of each evaluation in percent: {errors}; after the whole solve "
                  f"{found.log_mel_mae:.3g} nats of log-mel, SI-SDR {found.si_sdr_db:.1f} dB")  # fmt: skip
    print(f"{candidate.facts.name} against {oracle.facts.name}, t = {', '.join(f'{t:.3g}' for t in times)}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_verb(main))
