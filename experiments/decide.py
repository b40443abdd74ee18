"""Take the cheaper variant or not? `python -m experiments.decide SWEEP_DIR rule=nfe6`, from a finished sweep."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from baselines.quality.decision import DecisionRule, decide, decision_lines, decision_markdown
from baselines.refused import SettingRefused
from engine.contract import ConfigError
from experiments.common.cli import EXIT_OK, EXIT_REGRESSION, EXIT_UNSURE, refused_limit, run_verb
from experiments.common.presets import CONF
from experiments.settings.words import read_quality_limits, read_yaml, split_words
from metrics.record import to_json, write_atomically
from reports.commands import VerbParser
from reports.data.source import load_source

RULES = CONF / "gate" / "decision"
DESCRIPTION = f"""{__doc__}
Every question of the rule compares two cells: is the candidate fast enough, faster than the base, and not worse by
every quality rule? Leaves decision.json and decision.md in out=DIR (default: SWEEP_DIR).

  rule=nfe6   a file of conf/gate/decision, or a path to one

exit codes: 0 every question passes, 2 usage or configuration, 10 one fails, 11 none fails and one cannot be told
"""


def main(argv: Sequence[str]) -> int:
    parser = VerbParser(prog="python -m experiments.decide", description=DESCRIPTION)
    parser.add_argument("words", nargs="*", metavar="SWEEP_DIR [rule=NAME] [out=DIR]")
    folders, settings = split_words(parser.parse_args(argv).words, ("rule", "out"))
    if len(folders) != 1:
        raise ConfigError("sweep", len(folders), "one sweep is judged", "give SWEEP_DIR; see --help")
    rule = read_rule(str(settings.get("rule", "nfe6")))
    limits = read_quality_limits({"preset": rule.quality})
    source = load_source(folders[0])
    records = {cell.label: cell.record for cell in source.cells if cell.record is not None}
    decisions = decide(records, rule, limits)
    out = Path(str(settings.get("out") or folders[0]))
    content = {"schema_version": 1, "kind": "decision", "rule": asdict(rule), "limits": asdict(limits)}
    write_atomically(out / "decision.json", to_json({**content, "decisions": [asdict(d) for d in decisions]}) + "\n")
    write_atomically(out / "decision.md", decision_markdown(decisions, rule))
    for line in decision_lines(decisions):
        print(line)
    print(f"decision {out / 'decision.md'}")
    said = {decision.decided for decision in decisions}
    return EXIT_REGRESSION if "fail" in said else EXIT_UNSURE if "cannot tell" in said else EXIT_OK


def read_rule(name: str) -> DecisionRule:
    """By name or path. Raises ConfigError."""
    content = read_yaml("rule", name, RULES)
    try:
        return DecisionRule.from_mapping(content)
    except SettingRefused as error:
        raise refused_limit(error) from error


if __name__ == "__main__":
    sys.exit(run_verb(main))
