"""What each form of `enhance` does to planted faults, and what it costs: `python -m experiments.checks.enhancement`.

flite speaks the workload's sentences and tells when each word sounds. Each is joined to the next with a pause as the
full stop between them means it, so the pauses of the punctuation are known. Noise, hum and long silences are planted;
what becomes of them and of the pauses is measured on the result.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import scipy

from engine.build import build_engine
from engine.clock import HostClock
from engine.contract import Engine, Synthesis, SynthesisRequest
from engine.enhance.enhanced import EnhancedEngine
from engine.enhance.flow import Chain, whole
from engine.enhance.stages import NONE, stages_of
from engine.settings import EnhanceSettings
from experiments.common.cli import EXIT_OK, note, run_verb
from experiments.common.presets import presets as options
from experiments.common.presets import with_presets
from experiments.measuring.validate import one_cell
from experiments.pocket.speech import SAMPLE_RATE_HZ, FliteVoice, Speech
from experiments.settings.compose import compose_config
from experiments.settings.front import answered
from experiments.workload.requests import Workload, load_workload
from experiments.workload.texts import select_lines
from metrics.fidelity.events import new_clicks, new_cuts, new_dropouts

HELP = """What each form of enhance does to planted faults, and its share of a call.

examples:
  python -m experiments.checks.enhancement                      (86 sentences; needs libflite1)
  python -m experiments.checks.enhancement engine=int8 workload=bench

The sentences of the workload (en_all unless another is given) are spoken by flite, each with the next. The engine that
the overrides name speaks the first three of them, and the forms are timed on that sound.
"""
PAUSE_S, MARKS = 0.15, ",.!?;:"
SNIPPET_S, SLACK_S, INSIDE_S = 0.05, 0.02, 0.03
NOISY = ("noise", "hum")
NOISE_DB, HUM_DB, HUM_HZ = -35.0, -30.0, 100.0  # re the speech's RMS
PLANTED_S = 2.0
FULL_STOP_S = (0.15, 0.6)  # between two sentences, beside the silence that flite's have at their ends
NUM_TIMED, NUM_REPEATS = 3, 15


@dataclass(frozen=True, slots=True)
class Pause:
    """Between two words, behind a mark of punctuation; seconds."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Planted:
    """A sentence with a fault in it. pauses: where the intended ones lie; added_s: of silence."""

    audio_S: np.ndarray
    pauses: tuple[Pause, ...]
    added_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """Of one sound. kept: pauses still PAUSE_S long; down_db: how much quieter the insides of the pauses are; events:
    clicks, dropouts and cut ends that were not there before, None where samples no longer belong together."""

    num_pauses: int
    kept: int
    down_db: tuple[float, ...]
    cut_s: float
    events: int | None


def in_pairs(speeches: Sequence[Speech]) -> list[Speech]:
    """Every sentence with the one after it, the last with the first."""
    chance = np.random.default_rng(0)
    found = []
    for first, second in zip(speeches, [*speeches[1:], speeches[0]], strict=True):
        pause_S = np.zeros(round(chance.uniform(*FULL_STOP_S) * SAMPLE_RATE_HZ), dtype=np.float32)
        later_s = (len(first.audio_S) + len(pause_S)) / SAMPLE_RATE_HZ
        moved = [replace(t, start_s=t.start_s + later_s, end_s=t.end_s + later_s) for t in second.tokens]
        audio_S = np.concatenate((first.audio_S, pause_S, second.audio_S))
        found.append(Speech(audio_S, (*first.tokens, *moved)))
    return found


def intended_pauses(speech: Speech) -> tuple[Pause, ...]:
    """Behind a mark of punctuation, over PAUSE_S."""
    pairs = zip(speech.tokens, speech.tokens[1:], strict=False)
    found = [Pause(before.end_s, after.start_s) for before, after in pairs if before.text[-1] in MARKS]
    return tuple(pause for pause in found if pause.end_s - pause.start_s > PAUSE_S)


def planted(speech: Speech, seed: int) -> dict[str, Planted]:
    """The sentence as it is and with each fault."""
    audio_S, pauses = speech.audio_S, intended_pauses(speech)
    level = float(np.sqrt(np.mean(np.square(audio_S))))
    drawn_S = np.random.default_rng(seed).standard_normal(len(audio_S))
    t = np.arange(len(audio_S)) / SAMPLE_RATE_HZ
    hum_S = np.sqrt(2 / 3) * sum(np.sin(2 * np.pi * k * HUM_HZ * t) for k in (1, 2, 3))
    found = {
        "clean": Planted(audio_S, pauses),
        "noise": Planted(_added(audio_S, drawn_S, level, NOISE_DB), pauses),
        "hum": Planted(_added(audio_S, hum_S, level, HUM_DB), pauses),
    }
    if pauses:
        middle = round((pauses[0].start_s + pauses[0].end_s) / 2 * SAMPLE_RATE_HZ)
        silent_S = np.insert(audio_S, middle, np.zeros(round(PLANTED_S * SAMPLE_RATE_HZ), dtype=np.float32))
        longer = Pause(pauses[0].start_s, pauses[0].end_s + PLANTED_S)
        later = [Pause(p.start_s + PLANTED_S, p.end_s + PLANTED_S) for p in pauses[1:]]
        found["silence"] = Planted(silent_S, (longer, *later), PLANTED_S)
    return found


def _added(audio_S: np.ndarray, other_S: np.ndarray, level: float, below_db: float) -> np.ndarray:
    return (audio_S + level * 10 ** (below_db / 20) * other_S).astype(np.float32)


def measured(sound: Planted, audio_S: np.ndarray) -> Found:
    """What became of a sentence: the words beside each pause are looked for in the result by correlation."""
    kept, down_db = 0, []
    for pause in sound.pauses:
        start = place_of(sound.audio_S, audio_S, pause.start_s - SNIPPET_S) + SNIPPET_S
        end = place_of(sound.audio_S, audio_S, pause.end_s)
        kept += end - start >= PAUSE_S - SLACK_S
        before = _level_db(sound.audio_S, pause.start_s + INSIDE_S, pause.end_s - INSIDE_S)
        down_db.append(before - _level_db(audio_S, start + INSIDE_S, end - INSIDE_S))
    cut_s = (len(sound.audio_S) - len(audio_S)) / SAMPLE_RATE_HZ
    return Found(len(sound.pauses), kept, tuple(down_db), cut_s, None if cut_s else new_events(audio_S, sound.audio_S))


def new_events(ours_S: np.ndarray, theirs_S: np.ndarray) -> int:
    """As metrics.fidelity.events counts them, without repeats, which no form makes."""
    kinds = (new_clicks, new_dropouts, new_cuts)
    return sum(kind(ours_S.astype(np.float64), theirs_S.astype(np.float64), SAMPLE_RATE_HZ) for kind in kinds)


def place_of(source_S: np.ndarray, audio_S: np.ndarray, at_s: float) -> float:
    """Seconds at which SNIPPET_S of the source from at_s on lie in a result that may have been cut before them."""
    at, size = round(at_s * SAMPLE_RATE_HZ), round(SNIPPET_S * SAMPLE_RATE_HZ)
    snippet_S, slack = source_S[at : at + size], round(SLACK_S * SAMPLE_RATE_HZ)
    first = max(at - max(len(source_S) - len(audio_S), 0) - slack, 0)
    within_S = audio_S[first : at + size + slack].astype(np.float64)
    likeness = scipy.signal.correlate(within_S, snippet_S.astype(np.float64), "valid")
    energy = np.convolve(np.square(within_S), np.ones(len(snippet_S)), "valid")
    return float(first + np.argmax(likeness / np.sqrt(np.maximum(energy, 1e-9)))) / SAMPLE_RATE_HZ


def _level_db(audio_S: np.ndarray, start_s: float, end_s: float) -> float:
    part_S = audio_S[round(start_s * SAMPLE_RATE_HZ) : round(max(end_s, start_s + 0.01) * SAMPLE_RATE_HZ)]
    return float(10 * np.log10(np.mean(np.square(part_S, dtype=np.float64)) + 1e-12))


def forms() -> dict[str, EnhanceSettings]:
    """Every preset that does something."""
    names = [name for name in options("enhance") if name != NONE]
    return {name: compose_config([f"enhance={name}"])["enhance"] for name in names}


class Spoken:
    """An engine that says again what another has said, with the seconds that it took."""

    def __init__(self, engine: Engine, workload: Workload):
        self.facts = engine.facts
        self.said = {r.utterance_id: _median_call(engine, r) for r in workload.requests[:NUM_TIMED]}

    def synthesize(self, requests: Sequence[object]) -> list[Synthesis]:
        return list(self.said.values())


def _median_call(engine: Engine, request: SynthesisRequest) -> Synthesis:
    calls = [engine.synthesize([request])[0] for _ in range(5)]
    return sorted(calls, key=_call_s)[2]


def _call_s(one: Synthesis) -> float:
    stages = one.stages
    return stages.frontend_s + stages.denoise_s + stages.vocoder_s + stages.join_s


def share_of_call(spoken: Spoken, settings: EnhanceSettings) -> tuple[float, float]:
    """(median seconds of the stage over the sentences, its share of their calls)."""
    engine = EnhancedEngine(cast(Engine, spoken), settings, HostClock())
    times = sorted(engine.synthesize([])[0].stages.enhance_s for _ in range(NUM_REPEATS))
    enhance_s = times[NUM_REPEATS // 2]
    return enhance_s, enhance_s / (enhance_s + sum(map(_call_s, spoken.said.values())))


def table_lines(found: Mapping[str, Mapping[str, Sequence[Found]]]) -> list[str]:
    """By form and fault."""
    lines = ["form              fault     pauses kept   quieter there, dB   cut, s each   new events"]
    for form, by_fault in found.items():
        for fault, ones in by_fault.items():
            kept, num = sum(one.kept for one in ones), sum(one.num_pauses for one in ones)
            down = [db for one in ones for db in one.down_db]
            cut_s = float(np.mean([one.cut_s for one in ones]))
            quieter = f"{np.median(down):.1f}" if fault in NOISY else "-"
            events = [one.events for one in ones if one.events is not None]
            heard = f"{sum(events)} in {len(events)}" if events else "-"
            lines.append(f"{form:<17} {fault:<9} {kept:>4} of {num:<4} {quieter:>18} {cut_s:>13.2f} {heard:>12}")
    return lines


def flite_speech(texts: Sequence[str]) -> list[Speech]:
    """Without the sentences whose words flite counts otherwise."""
    voice, found = FliteVoice("slt"), []
    for text in texts:
        try:
            found.append(voice.speak(text))
        except ValueError as error:
            note(f"left out: {error}")
    return found


@with_presets
def main(argv: Sequence[str]) -> int:
    if answered(argv, HELP):
        return EXIT_OK
    named = any(word.startswith("workload=") for word in argv)
    config = one_cell(list(argv) if named else ["workload=en_all", *argv]).config
    chosen = forms()
    speeches = in_pairs(flite_speech([line.text for line in select_lines(config["workload"])]))
    found: dict[str, dict[str, list[Found]]] = {form: {} for form in chosen}
    for form, settings in chosen.items():
        stages = stages_of(settings, SAMPLE_RATE_HZ)
        for number, speech in enumerate(speeches):
            for fault, sound in planted(speech, number).items():
                made_S = whole(Chain([stage.begin() for stage in stages]), sound.audio_S)
                found[form].setdefault(fault, []).append(measured(sound, made_S))
    print(f"{len(speeches)} sentences, each with the next, spoken by flite")
    print("\n".join(table_lines(found)))
    with build_engine(config, HostClock()) as engine:
        spoken = Spoken(engine, load_workload(config))
    calls_s = [_call_s(one) for one in spoken.said.values()]
    print(f"\n{spoken.facts.name}, {spoken.facts.solver}: calls of {', '.join(f'{1000 * s:.0f}' for s in calls_s)} ms")
    for form, settings in chosen.items():
        enhance_s, share = share_of_call(spoken, settings)
        print(f"{form:<17} {1000 * enhance_s:>6.2f} ms, {100 * share:.2f} % of the calls")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_verb(main))
