"""What a listening test found, for people and machines: verdict.json, verdict.md, votes.csv."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from reports.listening.judging import analysis as measures
from reports.listening.judging.analysis import Analysis, Comparison, Opinion
from reports.listening.judging.bradley_terry import Strength, chance_over_first
from reports.listening.judging.inference import Estimate, power_of, votes_to_win
from reports.listening.judging.results import Key
from reports.listening.judging.screening import Screened
from reports.listening.judging.stored import AnalysisEntry, ComparisonEntry, ListeningVerdict, OpinionEntry
from reports.words import listed, plural

SCHEMA_VERSION = 1
VERDICT = "verdict.json"
TITLES = {
    measures.PREFERENCE: "preferred",
    measures.ABX: "right answers (ABX)",
    measures.RATING: "rating difference (1 to 5)",
    measures.CCR: "comparison (-3 to 3)",
    measures.DCR: "DCR difference (1 to 5)",
    measures.MUSHRA: "MUSHRA difference (points)",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """everybody: the analysis without screening, to be shown beside the one that counts. notes: of the files."""

    key: Key
    screened: tuple[Screened, ...]
    counted: Analysis | None
    everybody: Analysis | None
    notes: tuple[str, ...] = ()

    @property
    def alpha(self) -> float:
        return 1.0 - float(self.key.rules["confidence"])

    @property
    def reason(self) -> str | None:
        """Why there is no verdict."""
        return None if self.counted else "no listener who counts gave an answer that counts"


def sentences_of(findings: Findings) -> tuple[str, ...]:
    """The verdict in words; of a test without comparisons (DCR of one system) the mean opinions. Empty: none."""
    if findings.counted is None:
        return ()
    compared = tuple(sentence_of(comparison, findings.alpha) for comparison in findings.counted.comparisons)
    return compared or tuple(map(_opinion, findings.counted.opinions))


def _opinion(opinion: Opinion) -> str:
    return f"{opinion.system}: {_interval(opinion.estimate, '')} in the mean"


def sentence_of(comparison: Comparison, alpha: float) -> str:
    """The verdict in words, with its uncertainty."""
    winner, estimate = comparison.winner(alpha), comparison.estimate
    names = f"{comparison.candidate} against {comparison.baseline}"
    value = _interval(estimate, comparison.measure)
    if comparison.measure == measures.ABX:
        told = "can be told from" if winner == comparison.candidate else "was not shown to differ audibly from"
        return f"{comparison.candidate} {told} {comparison.baseline}: {value} right"
    outcome = f"{winner} is liked better" if winner else "no preference shown"
    return f"{names}: {outcome} ({TITLES[comparison.measure]}: {value})"


def verdict_data(findings: Findings) -> ListeningVerdict:
    """verdict.json: everything that verdict.md says, and the rules it was found by."""
    key, alpha = findings.key, findings.alpha
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "listening-verdict",
        "method": key.method,
        "set_sha256": key.set_sha256,
        "key_sha256": key.sha256,
        "systems": [dict(system) for system in key.systems],
        "reference": key.reference,
        "rules": dict(key.rules),
        "level": _levels(key),
        "listeners": [
            {
                "listener": s.listener.name,
                "result_id": s.listener.result_id,
                "num_answers": len(s.listener.answers),
                "num_turns": s.listener.num_turns,
                "device": s.listener.device,
                "hearing": s.listener.hearing,
                "comment": s.listener.comment,
                "is_counted": not s.reasons,
                "reasons": list(s.reasons),
                "checks": [asdict(check) for check in s.checks],
            }
            for s in findings.screened
        ],
        "notes": list(findings.notes),
        "status": "ok" if findings.counted else "too_few",
        "reason": findings.reason,
        "counted": _analysis_data(findings.counted, alpha),
        "everybody": _analysis_data(findings.everybody, alpha),
    }


def _levels(key: Key) -> dict[str, float]:
    """Mean gain in dB that made each system equally loud: a finding in itself, removed from what was heard."""
    return {
        name: round(sum(gains) / len(gains), 3)
        for name in key.names
        if (
            gains := [
                clip["gain_db"] for clip in key.clips.values() if clip["system"] == name and clip["treatment"] is None
            ]
        )
    }


def _analysis_data(analysis: Analysis | None, alpha: float) -> AnalysisEntry | None:
    if analysis is None:
        return None
    strengths = analysis.strengths
    return {
        "comparisons": [
            cast(ComparisonEntry, {**asdict(c), "winner": c.winner(alpha), "sentence": sentence_of(c, alpha)})
            for c in analysis.comparisons
        ],
        "opinions": [cast(OpinionEntry, asdict(opinion)) for opinion in analysis.opinions],
        "bradley_terry": [asdict(s) for s in strengths] if isinstance(strengths, tuple) else None,
        "bradley_terry_reason": strengths if isinstance(strengths, str) else None,
        "side_bias": asdict(analysis.bias) if analysis.bias else None,
        "votes_needed_60": analysis.votes_needed_60,
    }


def verdict_markdown(findings: Findings, plots: Sequence[str]) -> str:
    counted = findings.counted
    lines = ["# Listening test", ""]
    if counted is None:
        lines += [f"No verdict: {findings.reason}.", ""]
    else:
        lines += [f"- {sentence_of(comparison, findings.alpha)}" for comparison in counted.comparisons]
        lines += [f"- {_opinion(opinion)}" for opinion in counted.opinions]
        lines += ["", *_table(counted, findings.alpha), ""]
        lines += [*_strength_lines(counted.strengths), *_planning(counted), ""]
    lines += ["## Listeners", "", *_listener_lines(findings), ""]
    if findings.everybody is not None and any(s.reasons for s in findings.screened):
        lines += ["With everybody, those left out among them:", ""]
        lines += [f"- {sentence_of(c, findings.alpha)}" for c in findings.everybody.comparisons] + [""]
    lines += [f"![{Path(path).stem}]({path})" for path in plots]
    return "\n".join([*lines, "", *_method_lines(findings.key)]) + "\n"


def _table(counted: Analysis, alpha: float) -> list[str]:
    head = [
        "comparison",
        "measure",
        "mean",
        "95 % interval",
        "votes",
        "exact p",
        "clustered p",
        "p after Holm",
        "verdict",
    ]
    rows = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for c in counted.comparisons:
        e = c.estimate
        votes = f"{e.num_votes} ({e.num_sentences} sentences, {plural(e.num_listeners, 'listener')})"
        if c.counts is not None:
            votes += f": {c.counts.num_for_candidate} / {c.counts.num_ties} / {c.counts.num_for_baseline}"
        cells = [
            f"{c.candidate} against {c.baseline}",
            TITLES[c.measure],
            _number(e.mean, c.measure),
            "-" if e.low is None or e.high is None else f"{_number(e.low, c.measure)} .. {_number(e.high, c.measure)}",
            votes,
            _p(c.signed_rank_p),
            "-" if e.p_value is None else _p(e.p_value),
            _p(c.adjusted_p),
            c.winner(alpha) or "not shown",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return [*rows, "", "Votes of a preference: for the candidate / no difference / for the baseline."]


def _strength_lines(strengths: tuple[Strength, ...] | str | None) -> list[str]:
    if strengths is None:
        return []
    if isinstance(strengths, str):
        return [f"Bradley-Terry: none, {strengths}.", ""]
    lines = ["Bradley-Terry, chance to be preferred over the first:", ""]
    for strength in strengths[1:]:
        interval = ""
        if strength.low is not None and strength.high is not None:
            interval = f" ({chance_over_first(strength.low):.0%} .. {chance_over_first(strength.high):.0%})"
        lines.append(f"- {strength.system}: {chance_over_first(strength.theta):.0%}{interval}")
    return [*lines, ""]


def _planning(counted: Analysis) -> list[str]:
    """What these votes could have shown at best: with independent votes, so in truth it takes more."""
    shares = [c for c in counted.comparisons if c.measure == measures.PREFERENCE]
    lines = []
    for c in shares:
        n = c.estimate.num_votes
        needed = votes_to_win(n)
        if needed is not None:
            lines.append(
                f"{n} votes on {c.candidate} against {c.baseline}: {needed} are needed to win; a true preference "
                f"of 60 % is found {power_of(n, 0.6):.0%} of the time, at best. Four times in five takes "
                f"{counted.votes_needed_60} independent votes."
            )
    if counted.bias is not None:
        bias = counted.bias
        lines.append(f"Sides: A preferred {bias.num_first} times, B {bias.num_second} (p = {_p(bias.binomial_p)}).")
    if any(c.estimate.num_listeners == 1 for c in counted.comparisons):
        lines.append("One listener: the interval is about other sentences for this person, not about other people.")
    return lines


def _listener_lines(findings: Findings) -> list[str]:
    lines = []
    for s in findings.screened:
        state = f"left out ({listed(s.reasons)})" if s.reasons else "counted"
        where = f", {s.listener.device}" if s.listener.device else ""
        lines.append(
            f"- {s.listener.name}: {len(s.listener.answers)} of {s.listener.num_turns} screens{where}, {state}"
        )
    return [*(lines or ["- nobody"]), *(f"- note: {note}" for note in findings.notes)]


def _method_lines(key: Key) -> list[str]:
    gains = ", ".join(f"{name} {gain:+.2f} dB" for name, gain in _levels(key).items())
    return [
        "## How",
        "",
        f"Method {key.method}; key {key.sha256[:16]}.. fits every result. Gain that made all equally loud: {gains}.",
        f"Ties: {key.rules['ties']}. Decision: {key.rules['decision']}.",
        "Intervals: Student's t over sentences and listeners, cut at the ends of the scale.",
        "Rules and key were fixed, by hash, when the page was built.",
    ]


def votes_csv(findings: Findings) -> str:
    """One line an answer, unblinded."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ("trial", "kind", "utterance_id", "systems", "x", "response", "time_s")
    writer.writerow(["listener", "is_counted", *columns])
    for s in findings.screened:
        for answer in s.listener.answers:
            row = [answer.trial, answer.kind, answer.utterance_id, " | ".join(answer.systems), answer.x]
            writer.writerow([s.listener.name, not s.reasons, *row, json.dumps(answer.response), answer.time_s])
    return text.getvalue()


def _interval(estimate: Estimate, measure: str) -> str:
    mean = _number(estimate.mean, measure)
    if estimate.low is None or estimate.high is None:
        return f"{mean}, no interval"
    return f"{mean} [{_number(estimate.low, measure)}, {_number(estimate.high, measure)}]"


def _number(value: float, measure: str) -> str:
    return f"{100 * min(1.0, max(0.0, value)):.0f} %" if measure in measures.SHARES else f"{value:.2f}"


def _p(value: float) -> str:
    return "<0.0001" if value < 1e-4 else f"{value:.4f}"
