"""The scale that scores are read on: `python -m experiments.scoring.floor workload=bench`, once per workload and model.

The quality reference (float32, 32 euler steps) is spoken again with the same seed, which shows whether anything but the
seed makes noise, and with four other seeds, which shows how far two readings of one model lie apart. Kept by content
beside the references; every later run of the same sentences, weights and code prints its scores against it.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from engine.contract import ConfigError
from experiments.common.cli import EXIT_JOB_FAILED, EXIT_OK, complain, note, run_verb
from experiments.common.device_lock import device_lock
from experiments.common.plain import Config, as_config
from experiments.common.presets import with_presets
from experiments.measuring.job import RESULT, Launcher, launch, new_job
from experiments.measuring.validate import one_cell
from experiments.scoring.audio import read_all
from experiments.scoring.reference import floor_path, provide_reference
from experiments.scoring.scores import Other, lone_scores, paired_scores
from experiments.settings.front import answered
from experiments.settings.reference import needs_reference, reference_config, reference_label
from metrics.fidelity.floors import floors_from
from metrics.record import Floor, RecordError, RunRecord, Score, load_record, to_json, write_atomically

NUM_SEEDS = 5
HELP = """Make the seed floor and the determinism run of the quality reference; kept until code or sentences change.

examples:
  python -m experiments.scoring.floor                       for the default workload
  python -m experiments.scoring.floor workload=en_core quality=full
"""


def make_floors(config: Config, folder: Path, launcher: Launcher) -> list[Floor]:
    """Speak, score, keep. Raises RecordError where a run failed."""
    wanted = reference_config(config)
    base = provide_reference(wanted, folder / "base", launcher, _say)
    again = _spoken(wanted, folder / "again", launcher)
    seed = int(wanted["seed"])
    others = {
        seed + i: _spoken({**wanted, "seed": seed + i}, folder / f"seed-{seed + i}", launcher)
        for i in range(1, NUM_SEEDS)
    }
    repeat = _scores(again, Other(name="reference", folder=base))
    alone = _scores(base, None)
    apart = {i: _scores(run, Other(name="reference", folder=base, kind="floor")) for i, run in others.items()}
    floors = floors_from(repeat, alone, apart)
    write_atomically(floor_path(config), to_json({"floors": [asdict(floor) for floor in floors]}) + "\n")
    return floors


def _spoken(config: Config, folder: Path, launcher: Launcher) -> Path:
    folder.mkdir(parents=True)
    record = launch(new_job(folder, reference_label(config), "reference", config), launcher).record
    if record.status != "ok":
        raise RecordError(f"{folder.name}: {record.status}: {record.reason}; {record.remedy}")
    return folder


def _scores(folder: Path, other: Other | None) -> list[Score]:
    record = load_record(folder / RESULT)
    heard, _ = read_all(folder, record)
    paired = [] if other is None else paired_scores(_not_the_reference(record), heard, other)
    return [*paired, *lone_scores(record, heard)]


def _not_the_reference(record: RunRecord) -> RunRecord:
    """Here the reference *is* compared, with itself and its other seeds."""
    quality = {**as_config(record.config)["quality"], "reference_dir": "floor"}
    return replace(record, config={**record.config, "quality": quality})


@with_presets
def main(argv: Sequence[str]) -> int:
    if answered(argv, HELP):
        return EXIT_OK
    cell = one_cell(argv)
    config = cell.config
    if not needs_reference(config):
        raise ConfigError(
            "quality", config["quality"]["name"], "has nothing to compare (random weights, or switched off)",
            "use trained weights and quality.enabled=true",
        )  # fmt: skip
    folder = Path(tempfile.mkdtemp(prefix="floor-"))
    try:
        with device_lock(str(config["device"]["kind"]), config["sweep"]["lock"], note) as lock:
            floors = make_floors(config, folder, Launcher(lock=lock))
    except RecordError as error:
        complain(f"no floor: {error}")
        return EXIT_JOB_FAILED
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for floor in floors:
        again, apart, spread = (_text(x) for x in (floor.repeat, floor.other_seed, floor.other_seed_sd))
        print(f"{floor.metric:38s} same run again {again:>9s}   another seed {apart:>9s}   sd over seeds {spread:>9s}")
    print(f"kept    {floor_path(config)}")
    return EXIT_OK


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


if __name__ == "__main__":
    sys.exit(run_verb(main))
