"""A stored baseline as a page to keep beside the code: PERFORMANCE_BASELINE.md. Opens with what it was measured on."""

from __future__ import annotations

from baselines.stored.approval import approval_problem
from baselines.stored.store import Baseline
from metrics.parts.environment import Board
from metrics.power.figures import ENVIRONMENT, GROSS, MEAN, NET
from metrics.record import RunRecord
from metrics.speed.peak import host_peak
from metrics.speed.trials import speed_of
from reports.data.scale import mib
from reports.render.markdown import table_block
from reports.words import ABSENT, significant

HEADER = (
    "session", "RTF", "p50 ms", "p95 ms", "calls", "peak MiB", "J per s of speech", "J above idle", "W busy",
)  # fmt: skip


def baseline_markdown(baseline: Baseline) -> str:
    """Machine, what was measured, a line a session, how a new run is held against it. The same file gives the same
    page."""
    first = baseline.runs[0]
    rows = [_session(run) for run in baseline.runs]
    filled = [place for place in range(len(HEADER)) if any(row[place] != ABSENT for row in rows)]
    header = [HEADER[place] for place in filled]
    lines = [[row[place] for place in filled] for row in rows]
    problem = approval_problem(baseline)
    return "\n\n".join([
        f"# Performance baseline {baseline.name}",
        *table_block(("measured on", ""), machine_lines(first)),
        *table_block(("measured", ""), _work_lines(baseline)),
        "## Sessions",
        *table_block(header, lines, [False, *[True] * (len(header) - 1)]),
        f"Reviewed: no, {problem}." if problem else "Reviewed and approved.",
        f"`f5bench gate {baseline.name}` measures again and judges against these sessions.",
    ]) + "\n"  # fmt: skip


def machine_lines(run: RunRecord) -> list[tuple[str, str]]:
    """On a Jetson board, JetPack, power mode and clocks come first: they decide the figures before anything else."""
    env, versions = run.environment, run.environment.get("versions") or {}
    board = env.get("jetson")
    device = " ".join(filter(None, (env.get("device"), env.get("gpu"))))
    machine = [("host class", str(env.get("host_class"))), ("device", device or "unknown")]
    if board is not None:
        machine = [*_board_lines(board), *machine]
    else:
        machine.insert(1, ("processor", f"{env.get('cpu_model', 'unknown')}, {env.get('num_cores', '?')} cores"))
    return [*machine, ("threads", str(env.get("threads", "unknown"))), ("torch", str(versions.get("torch")))]


def _board_lines(board: Board) -> list[tuple[str, str]]:
    name, number = board.get("mode_name"), board.get("mode_id")
    mode = "unknown" if number is None else f"{name or 'unnamed'} (id {number})"
    return [
        ("board", str(board.get("board"))),
        ("JetPack", f"{board.get('jetpack') or 'unknown'} (L4T {board.get('l4t') or 'unknown'})"),
        ("power mode", mode), ("clocks", str(board.get("clocks") or "unknown")),
    ]  # fmt: skip


def _work_lines(baseline: Baseline) -> list[tuple[str, str]]:
    first = baseline.runs[0]
    power = first.environment.get(ENVIRONMENT)
    how = f"{power['source']}, rule {power['rule']}" if power and power.get("rule") else None
    seconds = first.workload.get("reference_s"), first.workload.get("generated_s")
    audio = ", ".join(
        f"{value:.1f} s {what}" for value, what in zip(seconds, ("of reference", "generated"), strict=True) if value
    )
    lines = [
        ("variant", first.label), ("workload", f"{first.workload.get('name')}{f', {audio}' if audio else ''}"),
        ("watts by", how), ("recorded", f"{baseline.recorded} by {baseline.recorded_by}: {baseline.why}"),
        ("commit", (baseline.git_commit or "no commit")[:12]),
    ]  # fmt: skip
    return [(name, text) for name, text in lines if text is not None]


def _session(run: RunRecord) -> tuple[str, ...]:
    speed, peak = speed_of(run.steady_trials), host_peak(run)
    p95 = speed.latency_p95_s
    figures = [next((s.value for s in run.scores_of(name) if s.status == "ok"), None) for name in (GROSS, NET, MEAN)]
    memory = ABSENT if peak is None else f"{mib(peak[0]):.0f}" + ("" if peak[1] == "PSS" else f" {peak[1]}")
    return (
        str(run.environment.get("started") or run.created), significant(speed.rtf_ratio),
        significant(1000 * speed.latency_p50_s), ABSENT if p95 is None else significant(1000 * p95),
        str(speed.num_trials), memory, *(ABSENT if value is None else significant(value) for value in figures),
    )  # fmt: skip
