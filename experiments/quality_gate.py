"""Is run B as good as run A? `python -m experiments.quality_gate RUN_A RUN_B`, from stored scores alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from baselines.quality.gate import judge_quality
from baselines.quality.verdict import QualityVerdict
from engine.contract import ConfigError
from experiments.common.cli import run_verb
from experiments.common.environment import now_iso
from experiments.settings.words import KEYS, read_quality_limits, split_words
from metrics.record import load_run
from reports.commands import VerbParser, typed
from reports.verdicts.quality import JudgedQuality, quality_content, quality_sheet
from reports.verdicts.sheet import show_verdict, write_verdict

DEFAULT = "standard"
DESCRIPTION = f"""{__doc__}
Both runs spoke the same sentences from the same noise (`experiments.run` or cells of one sweep). RUN_A is the one to be
as good as. A rule whose scores a run does not hold is "not judged", and the command that adds them is printed.

  preset=standard           rules of conf/gate/quality/NAME.yaml, or a path to such a file: standard (what default runs
                            can answer), retention (what 86 sentences can), seeds (absolute targets; nothing left out)
  only=[METRIC,...]         these metrics alone (choose before you look: the choice stands in verdict.json)
  alpha=0.05, coverage_frac=0.95, out=DIR (default: RUN_B/quality_gate)

Leaves verdict.json, summary.md and junit.xml in out=DIR.

examples:
  python -m experiments.quality_gate outputs/S/cells/fp32-euler_7 outputs/S/cells/fp32-euler_6
  python -m experiments.quality_gate outputs/A outputs/B preset=seeds out=outputs/verdict

exit codes: 0 not worse by every rule that was judged, 2 usage or configuration, 10 worse, 11 cannot tell (a rule says
how many more sentences), 12 the runs spoke different workloads, 14 a run has nothing to judge
"""


def main(argv: Sequence[str]) -> int:
    parser = VerbParser(prog="python -m experiments.quality_gate", description=DESCRIPTION)
    parser.add_argument("words", nargs="*", metavar="RUN_A RUN_B [KEY=VALUE]")
    folders, settings = split_words(parser.parse_args(argv).words, KEYS)
    if len(folders) != 2:
        raise ConfigError("runs", len(folders), "two folders are compared", "give RUN_A RUN_B; see --help")
    limits = read_quality_limits({"preset": DEFAULT, **settings})
    baseline, candidate = (load_run(folder) for folder in folders)
    verdict = judge_quality(baseline, candidate, limits)
    judged = JudgedQuality(
        baseline=baseline, candidate=candidate, limits=limits, verdict=verdict, to_judge=scoring(verdict, folders)
    )
    beside = folders[1] if folders[1].is_dir() else folders[1].parent
    out = Path(str(settings.get("out") or beside / "quality_gate"))
    sheet = quality_sheet(judged)
    try:
        write_verdict(sheet, quality_content(judged, now_iso()), out)
    except PermissionError as error:
        raise ConfigError("out", out, f"cannot be written ({error.strerror})", "choose another folder") from error
    show_verdict(sheet, out)
    return verdict.exit_code


def scoring(verdict: QualityVerdict, folders: Sequence[Path]) -> tuple[str, ...]:
    """The commands that add the scores that rules asked for in vain."""
    missing = {side for finding in verdict.findings for side in finding.unscored}
    sides = zip(("baseline", "candidate"), folders, strict=True)
    wanted = [folder if folder.is_dir() else folder.parent for side, folder in sides if side in missing]
    return tuple(typed("experiments.scoring.score", folder, "--quality", "full") for folder in wanted)


if __name__ == "__main__":
    sys.exit(run_verb(main))
