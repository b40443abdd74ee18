"""Made-up runs for listening tests, and listeners who answer them: short voiced sounds, known preferences."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from metrics.record import Score, save_record
from tests.tracking_folders import record, trial

RATE_HZ = 24_000
WORDS = ("grey", "cat", "lamp", "river", "bread", "hill", "seven", "early")
URI = "sqlite:///unused.db"


def voiced(seed: int, duration_s: float, gain: float = 0.2) -> np.ndarray:
    """(S,) float32: harmonics of a gliding pitch under a syllable envelope, over a little noise."""
    rng = np.random.default_rng(seed)
    time_S = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    pitch_S = 110 + 30 * np.sin(2 * np.pi * (0.7 + seed % 5 / 10) * time_S)
    phase_S = 2 * np.pi * np.cumsum(pitch_S) / RATE_HZ
    audio_S = sum((np.sin(k * phase_S) / k for k in range(1, 40)), start=np.zeros_like(time_S))
    envelope_S = 0.15 + 0.85 * np.sin(np.pi * 3 * time_S + seed) ** 2
    return np.asarray(gain * audio_S * envelope_S + 0.002 * rng.standard_normal(time_S.size), dtype=np.float32)


def write_listening_run(
    folder: Path, label: str, num_sentences: int, make: Callable[[int], np.ndarray], rate_hz: int = RATE_HZ
) -> Path:
    """A run folder with what build reads: result.json and audio of `make(number of the sentence)`."""
    base = record(f"run-{label}", label, URI)
    (folder / "audio").mkdir(parents=True)
    utterances, trials, scores = [], [], []
    for number in range(num_sentences):
        utterance_id = f"s{number:02d}"
        audio_S = make(number)
        path = f"audio/{utterance_id}.wav"
        soundfile.write(folder / path, audio_S, rate_hz, subtype="FLOAT")
        text = f"The {WORDS[number % len(WORDS)]} {WORDS[number // len(WORDS) % len(WORDS)]} number {number}."
        utterances.append(
            replace(
                base.utterances[0],
                utterance_id=utterance_id,
                category=("short", "long")[number % 2],
                text=text,
                sample_rate_hz=rate_hz,
                num_samples=audio_S.size,
                audio_path=path,
            )
        )
        trials.append(trial(utterance_id, 0, number))
        valid = {"value": 1.0, "status": "ok", "reason": None, "better": "higher"}
        scores.append(Score(metric="audio_valid", utterance_id=utterance_id, **valid))  # type: ignore[arg-type]
    save_record(
        replace(base, utterances=tuple(utterances), trials=tuple(trials), scores=tuple(scores)), folder / "result.json"
    )
    return folder


def two_runs(folder: Path, num_sentences: int = 10, duration_s: float = 0.5) -> list[Path]:
    """The second run is half as loud and a little noisier."""
    return [
        write_listening_run(folder / "a", "fp32-euler_7", num_sentences, lambda n: voiced(n, duration_s)),
        write_listening_run(
            folder / "b",
            "int8-euler_7",
            num_sentences,
            lambda n: voiced(n, duration_s, 0.1) + voiced(n + 99, duration_s, 0.001),
        ),
    ]


def payload_of(page: Path) -> dict[str, Any]:
    """What the page's script reads."""
    text = page.read_text(encoding="utf-8").split('id="set">', 1)[1].split("</script>", 1)[0]
    return dict(json.loads(text))


Respond = Callable[[str, Sequence[dict[str, Any]], np.random.Generator], dict[str, Any]]


def answered(folder: Path, name: str, respond: Respond, seed: int = 0) -> dict[str, Any]:
    """A result as the page makes it, by a listener who knows the key: respond(kind, clips as shown, rng).

    A clip is an entry of the key (system, treatment); for ABX a third one stands for X.
    """
    page, key = payload_of(folder / "listening.html"), json.loads((folder / "key.json").read_text("utf-8"))
    rng = np.random.default_rng(seed)
    answers = []
    for position, (place, order, x) in enumerate(page["schedules"][seed % len(page["schedules"])]):
        trial_of_page = page["trials"][place]
        shown = [trial_of_page["clips"][i] for i in order]
        clips = [key["clips"][clip_id] for clip_id in shown]
        response = respond(key["trials"][trial_of_page["id"]]["kind"], clips if x is None else [*clips, clips[x]], rng)
        time_s = 1.0 + 1.5 * sum(clip["duration_s"] for clip in clips)
        answers.append(
            {"trial": trial_of_page["id"], "position": position, "shown": shown, "x": x, "response": response,
             "time_s": time_s, "plays": 2, "switches": 1, "heard_frac": [1.0] * len(shown), "is_given": True}
        )  # fmt: skip
    head = {name: page[name] for name in ("method", "set_sha256", "key_sha256")}
    return {
        **head, "schema_version": 1, "kind": "listening-result", "listener": name, "device": "headphones",
        "hearing": "", "comment": "", "num_turns": len(answers), "answers": answers,
    }  # fmt: skip


def save_result(folder: Path, result: dict[str, Any]) -> Path:
    path = folder / "answers" / f"{result['listener']}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result), encoding="utf-8")
    return path


def goodness(clip: dict[str, Any], liked: str) -> int:
    """Two points for the liked system, one for any other, none in noise."""
    if clip["treatment"]:
        return 0
    return 2 if clip["system"] == liked else 1


def who_likes(liked: str) -> Respond:
    """An attentive listener in every method."""

    def respond(kind: str, clips: Sequence[dict[str, Any]], rng: np.random.Generator) -> dict[str, Any]:
        good = [goodness(clip, liked) for clip in clips]
        if len(clips) == 2:
            lead = "none" if good[0] == good[1] else "first" if good[0] > good[1] else "second"
            return {"preference": lead, "rating_a": 1 + good[0], "rating_b": 1 + good[1],
                    "ccr": good[1] - good[0], "dcr": 5 if good[1] else 1}  # fmt: skip
        if len(clips) == 3:
            return {"match": int(clips[2] == clips[1])}
        return {"ratings": [None, *({0: 20, 1: 60, 2: 95}[g] for g in good[1:])]}

    return respond
