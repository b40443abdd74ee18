"""Whether engines say what engine=fp32 says on the same device: `python -m experiments.checks.gpu_correct [KEY=VALUE
...]`.

A part of `experiments.checks.gpu`, which calls it in a process of its own. Every engine of experiment=gpu_check that
can be built speaks three lengths, with guidance and without, from the same noise; its mel stands beside float32's.
Drawn weights have no quality, but arithmetic that is wrong shows all the same. Leaves OUT/correctness.json (out=DIR).

exit codes: 0 all near enough, 2 usage, 10 an engine gives another mel, 14 an engine failed or none could be built
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from engine.contract import SynthesisRequest, UnsupportedEngine
from engine.runtimes.onnx_package import runtime_failures
from experiments.checks.card.cases import FRAMES, engine_of
from experiments.checks.card.judgement import ORACLE, Status
from experiments.checks.card.judgement import allowed_for as allowed_for
from experiments.checks.card.judgement import judged as judged
from experiments.common.cli import EXIT_JOB_FAILED, EXIT_OK, EXIT_REGRESSION, run_verb
from experiments.common.presets import with_presets
from experiments.measuring.running import default_out
from experiments.settings.compose import compose_cells, compose_config
from experiments.settings.front import refuse_flags, show_help
from experiments.workload.requests import load_workload
from metrics.record import to_json, write_atomically

GUIDANCES = ("2", "0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One engine at one length. error: relative L2 of its mel, None where there is none to compare."""

    engine: str
    guidance: str
    frames: int | None
    status: Status
    error: float | None = None
    allowed: float | None = None
    reason: str | None = None

    def __str__(self) -> str:
        said = self.reason or f"{self.error:.2e} of {self.allowed:g}"
        return f"{self.status:8} {self.engine:20} guidance {self.guidance}  {self.frames or '-':>5} frames  {said}"


@with_presets
def main(argv: Sequence[str]) -> int:
    if "--help" in argv or "-h" in argv:
        show_help(__doc__ or "")
        return EXIT_OK
    refuse_flags(argv)
    given = [arg.partition("=")[2] for arg in argv if arg.startswith("out=")]
    folder = Path(given[-1] if given else default_out("gpu_correct")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    overrides = [arg for arg in argv if not arg.startswith("out=")]
    cells = compose_cells(["experiment=gpu_check", *overrides])
    names = list(dict.fromkeys(str(cell.config["engine"]["name"]) for cell in cells))
    rows: list[Row] = []
    for row in correctness([name for name in names if name != ORACLE], overrides, FRAMES):
        rows.append(row)
        print(row, flush=True)
        write_atomically(folder / "correctness.json", to_json([asdict(each) for each in rows]) + "\n")
    return exit_code(rows)


def exit_code(rows: Sequence[Row]) -> int:
    found = {row.status for row in rows}
    if "wrong" in found:
        return EXIT_REGRESSION
    return EXIT_JOB_FAILED if "failed" in found or "ok" not in found else EXIT_OK


def correctness(
    engines: Sequence[str], overrides: Sequence[str], frames: Sequence[int], guidances: Sequence[str] = GUIDANCES
) -> Iterator[Row]:
    """Rows as they come; the device is the overrides' own."""
    config = compose_config([f"engine={ORACLE}", *overrides])
    ask = load_workload(config).requests[0]
    asks = [replace(ask, num_frames=num_frames) for num_frames in frames]
    for guidance in guidances:
        with engine_of(ORACLE, overrides, guidance) as oracle:
            expected = [oracle.synthesize([one])[0].mel_ND for one in asks]
        for name in engines:
            yield from rows_of(name, overrides, guidance, list(zip(asks, expected, strict=True)))


def rows_of(
    name: str, overrides: Sequence[str], guidance: str, cases: Sequence[tuple[SynthesisRequest, np.ndarray]]
) -> Iterator[Row]:
    """What cannot be built here is skipped. An error of torch's or ONNX Runtime's (a device that ran out of memory, a
    kernel that is not there) costs this engine alone; any other ends the process, and gpu_check sees its exit code."""
    try:
        with engine_of(name, overrides, guidance) as engine:
            allowed = allowed_for(engine.facts.precision)
            for ask, expected in cases:
                mel = engine.synthesize([ask])[0].mel_ND
                status, error, reason = judged(mel, expected, allowed)
                yield Row(
                    engine=name, guidance=guidance, frames=ask.num_frames, status=status, error=error, allowed=allowed,
                    reason=reason,
                )  # fmt: skip
    except UnsupportedEngine as refusal:
        reason = f"{refusal.reason}; {refusal.remedy}"
        yield Row(engine=name, guidance=guidance, frames=None, status="skipped", reason=reason)
    except runtime_failures() as failure:
        reason = f"{type(failure).__name__}: {(str(failure).splitlines() or [''])[0]}"
        yield Row(engine=name, guidance=guidance, frames=None, status="failed", reason=reason)


if __name__ == "__main__":
    sys.exit(run_verb(main))
