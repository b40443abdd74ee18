"""Any engine with post-processing behind it: its audio goes through the forms of `enhance`, a stage timed by itself.

The engine behind is left as it is, so without the group nothing of this is built and nothing can differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import TracebackType

import numpy as np

from engine.clock import Clock
from engine.contract import AudioBlock, Engine, EngineFacts, Synthesis, SynthesisRequest
from engine.enhance.flow import Chain, nothing, whole
from engine.enhance.stages import WHOLE, cannot_stream, facts_of_enhancement, stages_of
from engine.settings import EnhanceSettings


class EnhancedEngine:
    """Implements engine.contract.Engine around another one. A context manager: it closes the inner engine."""

    def __init__(self, inner: Engine, settings: EnhanceSettings, clock: Clock):
        self._inner, self._settings, self._clock = inner, settings, clock
        self._stages = stages_of(settings, inner.facts.sample_rate_hz)
        self._calls, self._cut_samples = 0, 0

    @property
    def facts(self) -> EngineFacts:
        inner = self._inner.facts
        own = {"enhanced": self._calls, "enhance_cut_samples": self._cut_samples}
        return replace(inner, enhance=facts_of_enhancement(self._settings), proof={**inner.proof, **own})

    def synthesize(self, requests: Sequence[SynthesisRequest]) -> list[Synthesis]:
        """As the inner engine; enhance_s, like every stage, is of the whole call."""
        spoken = self._inner.synthesize(requests)
        self._clock.sync()
        before_s = self._clock.now_s()
        audios = [self._enhanced(one) for one in spoken]
        enhance_s = self._clock.now_s() - before_s
        return [
            replace(
                one, audio_S=audio_S, num_cut_samples=one.num_cut_samples + len(one.audio_S) - len(audio_S),
                stages=replace(one.stages, enhance_s=enhance_s),
            )
            for one, audio_S in zip(spoken, audios, strict=True)
        ]  # fmt: skip

    def stream(self, request: SynthesisRequest) -> Iterator[AudioBlock]:
        """The inner engine's blocks through the same forms. Raises UnsupportedEngine at the first step for a form that
        needs a whole utterance."""
        for stage in self._stages:
            if stage.name in WHOLE:
                raise cannot_stream(stage.name)
        flow, block, num_evals = self._begin(), None, 0
        for block in self._inner.stream(request):
            refuse_broken(block.audio_S, request.utterance_id, self._settings["name"])
            num_evals += block.num_evals
            audio_S = flow.add(block.audio_S)
            self._cut_samples += len(block.audio_S) - len(audio_S)
            if len(audio_S):
                yield replace(block, audio_S=audio_S, num_evals=num_evals)
                num_evals = 0
        audio_S = flow.finish()
        self._cut_samples -= len(audio_S)
        if block is not None and (len(audio_S) or num_evals):
            yield replace(block, audio_S=audio_S, num_evals=num_evals)

    def _begin(self) -> Chain:
        self._calls += 1
        return Chain([stage.begin() for stage in self._stages])

    def _enhanced(self, one: Synthesis) -> np.ndarray:
        refuse_broken(one.audio_S, one.utterance_id, self._settings["name"])
        audio_S = whole(self._begin(), one.audio_S) if len(one.audio_S) else nothing()
        self._cut_samples += len(one.audio_S) - len(audio_S)
        return audio_S

    def close(self) -> None:
        self._inner.close()

    def __enter__(self) -> EnhancedEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def refuse_broken(audio_S: np.ndarray, utterance_id: str, name: str) -> None:
    """Raises ValueError for samples that are not finite: a filter would spread them, a cut might hide them."""
    num_bad = int(len(audio_S) - np.isfinite(audio_S).sum())
    if num_bad:
        raise ValueError(
            f"{num_bad} of {len(audio_S)} samples of {utterance_id} are not finite before enhance={name}; "
            "see with enhance=none what the engine makes"
        )
