"""Error rates of the same-run verdict on recorded traces and synthetic machines, beside those of other tools' rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from baselines.paired.data import Block
from baselines.paired.rule import PairedLimits, replay
from baselines.paired.selftests import SYNTHETIC, Tally, tally_table
from baselines.simulation.rivals import RIVALS, run_after_run
from baselines.simulation.traces import Trace, trace_blocks
from baselines.simulation.worlds import WORLDS, world_blocks
from metrics.verdict import SEVERITY

RATIOS = (0.95, 1.0, 1.025, 1.05, 1.10)
SAME = 4  # unchanged code is replayed so much more often: its rate has to be under one percent
RIVAL_RATIOS = (1.0, 1.05, 1.10)
OURS = "ours"
Source = Callable[[int, float], Iterator[Block]]


def sources(traces: Sequence[Trace]) -> dict[str, Source]:
    """Name -> blocks of (seed, true ratio)."""
    found: dict[str, Source] = {
        trace.name: lambda seed, ratio, trace=trace: trace_blocks(trace, seed, ratio)  # type: ignore[misc]
        for trace in traces
    }
    for world in WORLDS:
        found[f"{SYNTHETIC}: {world.name}"] = lambda seed, ratio, world=world: world_blocks(world, seed, ratio)  # type: ignore[misc]
    return found


def tally(source: str, blocks: Source, true_ratio: float, num: int) -> Tally:
    """Outcomes of `num` replays; seeds 0, 1, ..."""
    outcomes = Counter(replay(blocks(seed, true_ratio), PairedLimits()).outcome for seed in range(num))
    return Tally(source=source, true_ratio=true_ratio, outcomes={name: outcomes[name] for name in sorted(outcomes)})


def rates(traces: Sequence[Trace], num: int, host_class: str) -> list[Tally]:
    """Of the traces of this host class and of every synthetic machine, at every true ratio."""
    mine = [trace for trace in traces if trace.host_class == host_class]
    return [
        tally(name, blocks, ratio, num * SAME if ratio == 1.0 else num)
        for name, blocks in sources(mine).items()
        for ratio in RATIOS
    ]


def rival_rates(blocks: Source, num: int) -> dict[str, dict[float, float]]:
    """Share of replays in which each rule reports a slowdown, by the true ratio."""
    runs = [blocks(seed, 1.0) for seed in range(num)]
    pairs = [run_after_run(run, 1.0) for run in runs]
    return {
        name: {ratio: sum(rule(old, new * ratio) for old, new in pairs) / num for ratio in RIVAL_RATIOS}
        for name, rule in RIVALS.items()
    }


def table(tallies: Sequence[Tally], traces: Sequence[Trace], num: int, *, rivals: bool) -> list[str]:
    """Markdown: outcomes by source and ratio, then the rules side by side on the same times."""
    lines = tally_table(tallies, SEVERITY[:4])
    if not rivals:
        return lines
    lines += [
        "", "Slowdowns reported at a true ratio of 1 / 1.05 / 1.10; in brackets ours says INCONCLUSIVE:", "",
        "| times of | " + " | ".join([OURS, *RIVALS]) + " |", "|---|" + "---|" * (1 + len(RIVALS)),
    ]  # fmt: skip
    found = sources(traces)
    for name in dict.fromkeys(one.source for one in tallies if one.source in found):
        theirs = rival_rates(found[name], num)
        ours = {one.true_ratio: one for one in tallies if one.source == name}
        cells = [
            _ours(ours),
            *(" / ".join(f"{100 * theirs[rule][ratio]:.0f}" for ratio in RIVAL_RATIOS) for rule in RIVALS),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, "", "All in percent of the comparisons."]


def _ours(by_ratio: Mapping[float, Tally]) -> str:
    cells = []
    for ratio in RIVAL_RATIOS:
        one = by_ratio[ratio]
        share = 100 * (one.outcomes.get("FAIL", 0) + one.outcomes.get("WARN", 0)) / one.num
        unsure = 100 * one.outcomes.get("INCONCLUSIVE", 0) / one.num
        cells.append(f"{share:.1f} ({unsure:.0f})" if unsure else f"{share:.1f}")
    return " / ".join(cells)
