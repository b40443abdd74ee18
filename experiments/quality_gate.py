"""Is run B as good as run A? `python -m experiments.quality_gate RUN_A RUN_B`, from stored scores alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from baselines.quality_gate import judge_quality
from baselines.quality_publish import JudgedQuality, quality_content, quality_junit, quality_lines, quality_summary
from baselines.quality_rules import QualityLimits
from engine.contract import ConfigError
from experiments.cli import refused_limit, run_verb
from experiments.compose import CONF, refuse_infinite
from experiments.environment import now_iso
from experiments.job import RESULT
from experiments.workload import find_file
from metrics.record import RunRecord, load_record, to_json, write_atomically

PRESETS = CONF / "gate" / "quality"
KEYS = ("preset", "out", "alpha", "coverage_frac", "only")
DESCRIPTION = f"""{__doc__}
Both runs spoke the same sentences from the same noise (`experiments.run` or cells of one sweep), scored with
quality=full for every rule of the preset, or with quality=standard for those it can. RUN_A is the one to be as good as.

  preset=seeds              rules of conf/gate/quality/NAME.yaml, or a path to such a file
  only=[METRIC,...]         these metrics alone (choose before you look: the choice stands in verdict.json)
  alpha=0.05, coverage_frac=0.95, out=DIR (default: RUN_B/quality_gate)

Leaves verdict.json, summary.md and junit.xml in out=DIR.

examples:
  python -m experiments.quality_gate outputs/S/cells/fp32-euler_7 outputs/S/cells/fp32-euler_6
  python -m experiments.quality_gate outputs/A outputs/B preset=mine.yaml out=outputs/verdict

exit codes: 0 not worse by every rule, 2 usage or configuration, 10 worse, 11 cannot tell (each rule says how many more
sentences), 12 the runs spoke different workloads, 14 a run has nothing to judge
"""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.quality_gate", description=DESCRIPTION, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("words", nargs="*", metavar="RUN_A RUN_B [KEY=VALUE]")
    folders, settings = split_words(parser.parse_args(argv).words, KEYS)
    if len(folders) != 2:
        raise ConfigError("runs", len(folders), "two folders are compared", "give RUN_A RUN_B; see --help")
    limits = read_quality_limits(settings)
    baseline, candidate = (read_run(folder) for folder in folders)
    verdict = judge_quality(baseline, candidate, limits)
    judged = JudgedQuality(baseline=baseline, candidate=candidate, limits=limits, verdict=verdict)
    out = Path(str(settings.get("out") or folders[1] / "quality_gate"))
    try:
        write_atomically(out / "verdict.json", to_json(quality_content(judged, now_iso())) + "\n")
        write_atomically(out / "summary.md", quality_summary(judged))
        write_atomically(out / "junit.xml", quality_junit(judged))
    except PermissionError as error:
        raise ConfigError("out", out, f"cannot be written ({error.strerror})", "choose another folder") from error
    for line in quality_lines(judged):
        print(line)
    print(f"verdict {out / 'verdict.json'}")
    return verdict.exit_code


def split_words(words: Sequence[str], keys: Sequence[str]) -> tuple[list[Path], dict[str, Any]]:
    """(folders, settings as YAML reads them). Raises ConfigError for a key that is none of `keys`."""
    folders: list[Path] = []
    settings: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or "/" in key or _is_there(word):
            folders.append(Path(word))
            continue
        if key not in keys:
            raise ConfigError(key, value, "no such key", f"the keys are {', '.join(keys)}")
        try:
            settings[key] = OmegaConf.to_container(OmegaConf.create(f"{key}: {value}"))[key]
        except (YAMLError, OmegaConfBaseException, TypeError, KeyError, ValueError) as error:
            raise ConfigError(key, value, "not a value", "see --help") from error
        refuse_infinite(key, settings[key])
    return folders, settings


def _is_there(word: str) -> bool:
    try:
        return Path(word).exists()
    except (OSError, ValueError):  # too long for a name, or with a zero in it: no file
        return False


def read_run(folder: Path) -> RunRecord:
    """The record of a run's folder. Raises RecordError."""
    return load_record(folder if folder.suffix == ".json" else folder / RESULT)


def read_quality_limits(settings: Mapping[str, Any]) -> QualityLimits:
    """The preset with the changes of the command line. Raises ConfigError naming the key."""
    content = read_yaml("preset", str(settings.get("preset", "seeds")), PRESETS)
    content.update({key: settings[key] for key in ("alpha", "coverage_frac") if key in settings})
    only = settings.get("only")
    rows = content.get("metrics")
    if only is not None and isinstance(rows, list):
        wanted = only if isinstance(only, list) else [only]
        known = [row.get("metric") for row in rows if isinstance(row, dict)]
        for name in wanted:
            if name not in known:
                raise ConfigError("only", name, "has no rule in this preset", f"it has {', '.join(map(str, known))}")
        content["metrics"] = [row for row in rows if row["metric"] in wanted]
    try:
        return QualityLimits.from_mapping(content)
    except ValueError as error:
        raise refused_limit(error) from error


def read_yaml(key: str, name: str, folder: Path) -> dict[str, Any]:
    """The mapping of a file of `folder` by its name, or of any by its path. Raises ConfigError naming `key`."""
    is_path = "/" in name or name.endswith((".yaml", ".yml"))
    path = find_file(name) if is_path else folder / f"{name}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(known.stem for known in folder.glob("*.yaml")))
        raise ConfigError(key, name, "no such rules", f"use one of {names}, or a path to a YAML file")
    shown = f"see {folder.relative_to(CONF.parent)}"
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError) as error:
        raise ConfigError(key, name, f"not a rules file ({' '.join(str(error).split())})", shown) from error
    if not isinstance(content, dict):
        raise ConfigError(key, name, "not a rules file", shown)
    return {str(key): value for key, value in content.items()}


if __name__ == "__main__":
    sys.exit(run_verb(main))
