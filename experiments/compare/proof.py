"""Whether a side's answers may become a number: the engine it claims to be, work counted, valid audio, no replay.

Everything is checked by this tree's rules, whatever revision answered, and before any figure is printed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from baselines.paired.data import CANDIDATE, REFERENCE, Answers
from experiments.common.plain import Config
from experiments.compare.answers import Built, Called
from experiments.compare.processes import SideFailed
from experiments.scoring.audio import expected_samples
from metrics.fidelity.artefacts import Expectation, audio_valid
from metrics.fidelity.scores import mel_distance
from metrics.record import Utterance
from metrics.speed.steady import changed_text

JUDGED = (CANDIDATE, REFERENCE)
NO_NOISE = "not_applicable"  # of facts.noise
REMEDY = "no figure is given for such a side; mend it and compare again"


class Proof:
    """Remembers what was heard of each side; every method raises SideFailed(side, "invalid", ..).

    texts: (utterance id, text) of every sentence. voice_dc: mean of the clip that speaks it, by utterance id.
    """

    def __init__(
        self,
        configs: Mapping[str, Config],
        texts: Sequence[tuple[str, str]],
        voice_dc: Mapping[str, float],
    ):
        self._configs = configs
        self._texts = texts
        self._voice_dc = voice_dc
        self._heard: dict[tuple[str, str], int] = {}
        self._said: dict[tuple[int, int], tuple[str, Called]] = {}
        self.checked: dict[str, int] = {}
        self._shas: dict[tuple[int, int], dict[str, str]] = {}
        self._num_evals: dict[str, set[int]] = {}
        self._mels: dict[int, dict[str, np.ndarray]] = {}

    def facts(self, side: str, facts: Built) -> None:
        """What was built is what was asked for."""
        config = self._configs[side]
        name, steps = config["engine"]["name"], config["solver"].get("steps")
        if facts.get("name") != name:
            raise _invalid(side, f"engine {facts.get('name')} was built, {name} was asked for")
        if steps is not None and facts.get("steps") != steps:
            raise _invalid(side, f"{facts.get('steps')} steps were built, {steps} were asked for")
        if not facts.get("proof"):
            raise _invalid(side, "the engine shows no proof that it ran as named")

    def call(self, side: str, facts: Built, order: tuple[int, int], answer: Called) -> None:
        """One answer. order: (sentence, seed); both sides get the same and must say as much from the same noise."""
        least, most = (count * answer["num_chunks"] for count in evaluations_of(facts))
        if not least <= answer["num_evals"] <= most:
            wanted = f"{most}" if least == most else f"{least} to {most}"
            raise _invalid(side, f"{answer['num_evals']} velocity evaluations were counted, {wanted} were asked for")
        if not answer["finite"] or not answer["peak"]:
            raise _invalid(side, "its audio is not finite" if not answer["finite"] else "its audio is all zero")
        self._refuse_replay(side, facts, order, answer)
        self._shas.setdefault(order, {})[side] = answer["audio_sha256"]
        self._num_evals.setdefault(side, set()).add(int(answer["num_evals"]))
        other, said = self._said.setdefault(order, (side, answer))
        for name, theirs, ours in (
            ("num_samples", said["num_samples"], answer["num_samples"]),
            ("sample_rate_hz", said["sample_rate_hz"], answer["sample_rate_hz"]),
        ):
            if theirs != ours:
                raise _invalid(side, f"{name} is {ours}, of {other} {theirs}: they do not say the same")
        if (
            None not in (said["noise_sha256"], answer["noise_sha256"])
            and said["noise_sha256"] != answer["noise_sha256"]
        ):
            raise _invalid(side, f"its initial noise is not that of {other}")

    def answers(self) -> Answers:
        """What both sides said, compared."""
        pairs = [said for said in self._shas.values() if CANDIDATE in said and REFERENCE in said]
        mels = [(said[CANDIDATE], said[REFERENCE]) for said in self._mels.values() if len({*said} & {*JUDGED}) == 2]
        apart = [mel_distance(ours, theirs) for ours, theirs in mels if ours.shape == theirs.shape and ours.size]
        return Answers(
            num_evals={side: (min(found), max(found)) for side, found in self._num_evals.items()},
            num_pairs=len(pairs),
            num_equal=sum(said[CANDIDATE] == said[REFERENCE] for said in pairs),
            log_mel_nats=float(np.mean(apart)) if apart else None,
            num_sentences=len(apart),
        )

    def _refuse_replay(self, side: str, facts: Built, order: tuple[int, int], answer: Called) -> None:
        """Of a model that draws no noise another sentence has to sound otherwise, of one that does another seed."""
        noiseless = facts.get("noise") == NO_NOISE
        drawn = order[0 if noiseless else 1]
        if self._heard.setdefault((side, answer["audio_sha256"]), drawn) != drawn:
            what = "of different sentences" if noiseless else "with different noise"
            raise _invalid(side, f"two calls {what} gave the same audio: an earlier answer was replayed")

    def steady(self, side: str, before: Mapping[str, int], after: Mapping[str, int]) -> None:
        """What the engine counted before and after the timed calls: one that compiles is not what a user waits for."""
        said = changed_text(before, after)
        if said:
            raise _invalid(side, f"{said} in the timed calls of one block")

    def audio(self, side: str, facts: Built, sentence: int, answer: Called, path: Path) -> None:
        """The rules of `audio_valid` on the very audio. Random weights speak noise: only its length counts."""
        name, text = self._texts[sentence]
        audio_S = np.load(path, allow_pickle=False)
        mel = path.with_suffix(".mel.npy")
        if mel.is_file():
            self._mels.setdefault(sentence, {})[side] = np.load(mel, allow_pickle=False)
        num_samples = expected_samples(_utterance(name, text, answer), self._configs[side])
        if facts.get("random_weights"):
            if len(audio_S) != num_samples:
                raise _invalid(side, f"{name}: {len(audio_S)} samples, must be {num_samples}")
            return
        rate_hz = int(answer["sample_rate_hz"])
        expected = Expectation(
            utterance_id=name, text=text, sample_rate_hz=rate_hz, num_samples=num_samples,
            voice_dc=self._voice_dc[name],
        )  # fmt: skip
        score = audio_valid(audio_S, rate_hz, expected=expected)
        if score.status != "ok":
            raise _invalid(side, f"invalid audio of {name}: {score.reason}")
        self.checked[side] = self.checked.get(side, 0) + 1


def evaluations_of(facts: Built) -> tuple[int, int]:
    """The least and the most velocity evaluations of a chunk that the solver, as it was built, makes."""
    options, per_step = facts.get("solver_options") or {}, int(facts["evals_per_step"])
    zeroed = per_step * int((options.get("guidance") or {}).get("zero_init_steps", 0))
    steps = (options.get("rule") or {}).get("steps") or [facts["steps"]]
    least, most = (per_step * int(number) - zeroed for number in (min(steps), max(steps)))
    reuse = options.get("reuse") or {}
    if reuse.get("kind") == "schedule":
        made = sum(place >= zeroed for place in reuse["evaluated"])
        return made, made
    if reuse.get("kind") == "threshold":  # decided by the data: at most so many in a row take the one before
        return -(-most // (int(reuse["max_in_a_row"]) + 1)), most
    return least, most


def _invalid(side: str, reason: str) -> SideFailed:
    return SideFailed(side, "invalid", reason, REMEDY)


def _utterance(name: str, text: str, answer: Called) -> Utterance:
    """What the length rule needs to know."""
    return Utterance(
        utterance_id=name, category="", text=text, sample_rate_hz=int(answer["sample_rate_hz"]),
        num_samples=int(answer["num_samples"]), num_frames=int(answer["num_frames"]),
        num_chunks=int(answer["num_chunks"]), noise_sha256=None, audio_sha256="", audio_path="", mel_path="",
    )  # fmt: skip
