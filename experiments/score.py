"""Scores of the audio that was timed: `python -m experiments.score RUNDIR [--reference DIR] [--oracle DIR]`.

Runs in a process of its own after the measurement, reads the WAV and mel files back, and rewrites result.json. The
reference (float32, 32 euler steps) says how good the audio is; the oracle (float32 on the same grid) says how exactly
the engine computes. Neither torch nor an engine is needed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from experiments.cli import EXIT_OK, run_verb
from experiments.job import DETERMINISM, RESULT
from experiments.reference import is_reference
from experiments.workload import select_lines
from metrics.artifacts import METRIC as AUDIO_VALID
from metrics.artifacts import Expectation, audio_valid
from metrics.fidelity import ORACLE_METRICS, AgainstName, Heard, score_pairs
from metrics.intelligibility import Spoken, transcripts_of, wer_scores
from metrics.record import Better, RunRecord, Score, ScoreStatus, Utterance, load_record, save_record, to_json

RANDOM_WEIGHTS = "random weights: a speed workload"
WER = "wer"
NAMES: Mapping[str, tuple[str, Better]] = {
    "snr": ("snr_vs_{}_db", "higher"),
    "log_mel": ("log_mel_mae_vs_{}", "lower"),
    "pesq": ("pesq_wb_vs_{}", "higher"),
    "stoi": ("stoi_vs_{}", "higher"),
    WER: ("wer_frac", "lower"),
}


class NoAudio(Exception):
    """A file of the run is missing or cannot be read; the message is the reason."""


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """What was read back: mono float32 (S,), its rate, mel (N, D)."""

    audio_S: np.ndarray
    rate_hz: int
    mel_ND: np.ndarray


def score_run(folder: Path, reference: Path | None, oracle: Path | None) -> RunRecord:
    """Score a finished run and rewrite its result.json; a run that is not ok is left as it is.

    reference None: the run is the reference itself, or its scores say that none was given. Raises RecordError for a
    folder without a readable record.
    """
    record = load_record(folder / RESULT)
    if record.status != "ok":
        return record
    quality = record.config["quality"]
    heard, unreadable = _read_all(folder, record)
    scores = [score for score in record.scores if score.metric == DETERMINISM]
    scores += [_validity(record, utterance, heard, unreadable) for utterance in record.utterances]
    refusal = _refusal(record, quality)
    if refusal is not None:
        scores += _absent(record, quality["metrics"], "reference", "not_applicable", refusal)
    else:
        scores += _against(record, heard, reference, "reference", quality)
        if oracle is not None:
            scores += _against(record, heard, oracle, "oracle", quality)
        if WER in quality["metrics"]:
            scores += _intelligibility(record, heard)
    scored = replace(record, scores=tuple(scores))
    save_record(scored, folder / RESULT)
    return scored


def _refusal(record: RunRecord, quality: Mapping[str, Any]) -> str | None:
    """Why no quality score is given at all."""
    if record.facts and record.facts.get("random_weights"):
        return RANDOM_WEIGHTS
    return None if quality["enabled"] else "quality.enabled=false"


def _read_all(folder: Path, record: RunRecord) -> tuple[dict[str, Audio], dict[str, str]]:
    """(what could be read, why the rest could not), both by utterance id."""
    heard, unreadable = {}, {}
    for utterance in record.utterances:
        try:
            heard[utterance.utterance_id] = _read(folder, utterance)
        except NoAudio as error:
            unreadable[utterance.utterance_id] = str(error)
    return heard, unreadable


def _read(folder: Path, utterance: Utterance) -> Audio:
    try:
        audio_S, rate_hz = soundfile.read(folder / utterance.audio_path, dtype="float32")
        mel_ND = np.load(folder / utterance.mel_path, allow_pickle=False)
    except (soundfile.LibsndfileError, OSError, ValueError, EOFError) as error:
        raise NoAudio(f"its files cannot be read: {' '.join(str(error).split())}") from error
    return Audio(audio_S, rate_hz, mel_ND)


def expected_samples(utterance: Utterance, config: Mapping[str, Any]) -> int:
    """Exact length from the generated frames: the vocoder's rule for each chunk, less the overlaps of the joins."""
    hop = int(config["model"]["hop_samples"])
    centred = config["vocoder"]["head"]["padding"] == "center"
    frames = utterance.num_frames - utterance.num_chunks if centred else utterance.num_frames
    fade = int(config["reference"]["cross_fade_s"] * utterance.sample_rate_hz)
    return frames * hop - (utterance.num_chunks - 1) * fade


def _validity(
    record: RunRecord, utterance: Utterance, heard: Mapping[str, Audio], unreadable: Mapping[str, str]
) -> Score:
    name = utterance.utterance_id
    if name in unreadable:
        return _none(AUDIO_VALID, name, "error", unreadable[name], "higher")
    audio = heard[name]
    num_samples = expected_samples(utterance, record.config)
    if record.facts and record.facts.get("random_weights"):
        # Noise is what random weights say; what can still be wrong is the length and the arithmetic
        if len(audio.audio_S) == num_samples and np.isfinite(audio.audio_S).all():
            return _none(AUDIO_VALID, name, "not_applicable", RANDOM_WEIGHTS, "higher")
    expected = Expectation(
        utterance_id=name,
        text=utterance.text,
        sample_rate_hz=int(record.config["model"]["sample_rate_hz"]),
        num_samples=num_samples,
    )
    return audio_valid(audio.audio_S, audio.rate_hz, expected=expected)


def _against(
    record: RunRecord, heard: Mapping[str, Audio], folder: Path | None, name: AgainstName, quality: Mapping[str, Any]
) -> list[Score]:
    """Scores against another run, sentence by sentence; a sentence it lacks has a status instead."""
    metrics = [metric for metric in quality["metrics"] if metric != WER]
    if folder is None:
        if is_reference(record.config):
            return _absent(record, metrics, name, "not_applicable", f"is the {name}")
        return _absent(record, metrics, name, "unavailable", f"no {name} was given")
    other = load_record(folder / RESULT)
    if other.status != "ok":
        return _absent(record, metrics, name, "unavailable", f"the {name} is {other.status}: {other.reason}")
    theirs, _ = _read_all(folder, other)
    utterances = {utterance.utterance_id: utterance for utterance in other.utterances}
    pairs, scores = [], []
    for utterance in record.utterances:
        key = utterance.utterance_id
        if key in heard and key in theirs:
            pairs.append(
                (_heard(record, utterance, heard[key], name), _heard(other, utterances[key], theirs[key], name))
            )
        else:
            reason = f"no audio of {key} {'in the ' + name if key in heard else 'of this run'}"
            scores += _absent(replace(record, utterances=(utterance,)), metrics, name, "unavailable", reason)
    return scores + score_pairs(pairs, name, metrics, float(quality["pesq_timeout_s"]))


def _heard(record: RunRecord, utterance: Utterance, audio: Audio, name: AgainstName) -> Heard:
    facts = record.facts or {}
    identity = {
        "workload identity": str(record.workload.get("identity_sha256")),
        "weights_sha256": str(facts.get("weights_sha256")),
        "cfg_strength": str(facts.get("cfg_strength")),
        "vocoder": str(facts.get("vocoder")),
    }
    if name == "oracle":
        identity["grid"] = to_json(
            [facts.get("evals_per_step"), list(facts.get("time_grid") or ()), facts.get("solver_options") or {}]
        )
    return Heard(
        utterance=utterance,
        audio_S=audio.audio_S,
        sample_rate_hz=audio.rate_hz,
        mel_ND=audio.mel_ND,
        identity=identity,
    )


def _intelligibility(record: RunRecord, heard: Mapping[str, Audio]) -> list[Score]:
    """Word error rate with the vocabulary of the whole text list, so that a subset is not easier to recognise."""
    lines = select_lines({**record.config["workload"], "select": None, "limit": None})
    spoken = [
        Spoken(
            utterance_id=utterance.utterance_id,
            text=utterance.text,
            audio_S=heard[utterance.utterance_id].audio_S,
            sample_rate_hz=heard[utterance.utterance_id].rate_hz,
        )
        for utterance in record.utterances
        if utterance.utterance_id in heard
    ]
    return wer_scores(transcripts_of(spoken, [line.text for line in lines]))


def _absent(
    record: RunRecord, metrics: Sequence[str], against: AgainstName, status: ScoreStatus, reason: str
) -> list[Score]:
    wanted = [metric for metric in metrics if against == "reference" or metric in ORACLE_METRICS]
    return [
        _none(NAMES[metric][0].format(against), utterance.utterance_id, status, reason, NAMES[metric][1])
        for utterance in record.utterances
        for metric in wanted
    ]


def _none(metric: str, utterance_id: str | None, status: ScoreStatus, reason: str, better: Better) -> Score:
    return Score(metric=metric, utterance_id=utterance_id, value=None, status=status, reason=reason, better=better)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.score", description="Score a finished run.")
    parser.add_argument("folder", type=Path, help="the folder of the run (result.json, audio/, mel/)")
    parser.add_argument("--reference", type=Path, help="folder of the quality reference; default: FOLDER/reference")
    parser.add_argument("--oracle", type=Path, help="folder of the float32 run on the same grid")
    options = parser.parse_args(argv)
    beside = options.folder / "reference"
    reference = options.reference or (beside if (beside / RESULT).is_file() else None)
    if reference is not None and reference.resolve() == options.folder.resolve():
        reference = None
    record = score_run(options.folder, reference, options.oracle)
    num_ok = sum(score.status == "ok" for score in record.scores)
    print(f"{record.label}: {num_ok} of {len(record.scores)} scores have a number")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_verb(main))
