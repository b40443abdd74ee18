"""The untouched f5_tts pipeline behind the contract: the peer to beat.

f5_tts.infer.utils_infer.infer_batch_process runs as it is, with its own sampler (torchdiffeq) and its own defaults.
Two thin wrappers stand around what it is given, the model and the vocoder: they read the clock, count evaluations
and keep the mel and the noise it drew; they change nothing. The noise is the request's: upstream draws with the global
generator, which is set to the request's key for the call and put back afterwards; it draws on the CPU, whatever the
device, since another device's generator gives other numbers for the same key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import torch

from engine.clock import Clock
from engine.contract import (
    AudioBlock,
    EngineFacts,
    InvalidRequest,
    StageTimes,
    Synthesis,
    SynthesisRequest,
    UnsupportedEngine,
)
from engine.frontend import generated_frames, unknown_tokens
from engine.mel import mel_kind
from engine.noise import noise_key, noise_sha256
from engine.solver.grid import EPSS_KEPT
from engine.step.precision import tf32_allowed, weight_histogram
from engine.text.chunks import chunk_bound, max_chunk_bytes
from engine.vocoders.vocos import Vocoder, with_vocoder
from engine.voice.recording import check_reference
from engine.voice.resampling import affordable

if TYPE_CHECKING:
    from engine.context import Context
    from engine.weights.checkpoint import LoadedModel

STREAM_SAMPLES = 2048  # upstream's chunk_size
HOP = 256  # upstream's, of every model


class _TorchDrawingOnCpu:
    """What upstream's CFM module knows as `torch` while it draws: torch itself, with the noise from the CPU."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def randn(self, *size: Any, device: Any, dtype: torch.dtype) -> torch.Tensor:
        return torch.randn(*size, dtype=dtype).to(device)


@contextmanager
def own_noise(device: torch.device) -> Iterator[None]:
    """While upstream runs: noise comes from the CPU's global generator, and all generators are put back afterwards."""
    from f5_tts.model import cfm

    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        kept, cfm.torch = cfm.torch, _TorchDrawingOnCpu()
        try:
            yield
        finally:
            cfm.torch = kept


class _WatchedModel:
    """Stands where infer_batch_process expects a CFM; only `sample` is called."""

    def __init__(self, cfm: Any, clock: Clock):
        self._cfm, self._clock = cfm, clock
        self.num_evals = 0
        self.sample_s = 0.0
        self.noises: list[torch.Tensor] = []
        cfm.transformer.register_forward_pre_hook(self._before_forward, with_kwargs=True)
        self._first = True
        self.weights = weight_histogram(cfm.transformer)

    def _before_forward(self, module: Any, args: Any, kwargs: Mapping[str, torch.Tensor]) -> None:
        self.num_evals += 1
        if self._first:
            self.noises.append(kwargs["x"][0].clone())
            self._first = False

    @property
    def device(self) -> Any:
        return self._cfm.device

    def sample(self, **kwargs: Any) -> Any:
        self._first = True
        started = drained_s(self._clock)
        result = self._cfm.sample(**kwargs)
        self.sample_s += drained_s(self._clock) - started
        return result


class _WatchedVocoder:
    def __init__(self, vocoder: Vocoder, clock: Clock):
        self.inner, self._clock = vocoder, clock
        self.decode_s = 0.0
        self.mels: list[torch.Tensor] = []

    def __call__(self, mel_BDN: torch.Tensor) -> torch.Tensor:
        """How upstream asks BigVGAN."""
        return self.decode(mel_BDN)

    def decode(self, mel_BDN: torch.Tensor) -> torch.Tensor:
        started = drained_s(self._clock)
        audio = self.inner.decode(mel_BDN)
        self.decode_s += drained_s(self._clock) - started
        self.mels.append(mel_BDN[0].T)
        return audio


def drained_s(clock: Clock) -> float:
    """The time at which the device has done all that was asked of it."""
    clock.sync()
    return clock.now_s()


class InferSettings(TypedDict):
    """What f5_tts's inference functions take beside texts and audio, by their own names."""

    target_rms: float
    cross_fade_duration: float
    nfe_step: int
    cfg_strength: float
    sway_sampling_coef: float
    mel_spec_type: str


class UpstreamEngine:
    """Implements engine.contract.Engine over f5_tts."""

    def __init__(self, cfm: Any, vocoder: Vocoder, settings: InferSettings, facts: EngineFacts, clock: Clock):
        self._model, self._vocoder, self._clock = _WatchedModel(cfm, clock), _WatchedVocoder(vocoder, clock), clock
        self._vocabulary: Mapping[str, int] = cfm.vocab_char_map
        self._settings, self._facts, self._calls = settings, facts, 0

    @property
    def facts(self) -> EngineFacts:
        proof = {
            "num_evals": self._model.num_evals, "calls": self._calls, "tf32_allowed": tf32_allowed(),
            "weight_elements_by_dtype": self._model.weights,
        }  # fmt: skip
        return replace(self._facts, proof=with_vocoder(proof, self._vocoder.inner))

    def synthesize(self, requests: Sequence[SynthesisRequest]) -> list[Synthesis]:
        if len(requests) > self._facts.max_batch:
            raise ValueError(f"{len(requests)} requests in a batch, this engine takes {self._facts.max_batch}")
        return [self._one(request) for request in requests]

    def stream(self, request: SynthesisRequest) -> Iterator[AudioBlock]:
        """f5_tts's own streaming, as it is: a chunk of text is generated to its end, then its samples come in slices of
        2048, without cross-fades between chunks."""
        from f5_tts.infer.utils_infer import infer_batch_process

        model, vocoder, done = self._model, self._vocoder, self._model.num_evals
        audio, rate_hz, texts = self._begin(request)
        blocks = infer_batch_process(
            (audio, rate_hz), request.ref_text, texts, model, vocoder, progress=None,
            speed=request.speed_ratio, device=str(model.device), streaming=True, chunk_size=STREAM_SAMPLES,
            fix_duration=self._fixed_s(request, audio, rate_hz, texts), **self._settings,
        )  # fmt: skip
        state = torch.Generator().manual_seed(self._noise_key(request, audio, rate_hz, texts[0])).get_state()
        while True:
            # The global generator is upstream's only while upstream runs, not while the block is played
            with own_noise(model.device):
                torch.set_rng_state(state)
                block = next(blocks, None)
                state = torch.get_rng_state()
            if block is None:
                return
            num_evals, done = model.num_evals - done, model.num_evals
            audio_S = np.asarray(block[0], dtype=np.float32)
            yield AudioBlock(audio_S=audio_S, sample_rate_hz=block[1], chunk=len(model.noises) - 1, num_evals=num_evals)

    def _begin(self, request: SynthesisRequest) -> tuple[torch.Tensor, int, list[str]]:
        """The checked reference (1, S), its rate and the chunks' texts; the watchers start anew."""
        check_reference(request.ref_audio_S, request.ref_sample_rate_hz, request.utterance_id)
        model, vocoder = self._model, self._vocoder
        model.sample_s, vocoder.decode_s, model.noises, vocoder.mels = 0.0, 0.0, [], []
        self._calls += 1
        audio_S, rate_hz = affordable(request.ref_audio_S, request.ref_sample_rate_hz, self._facts.sample_rate_hz)
        audio = torch.from_numpy(np.ascontiguousarray(audio_S, dtype=np.float32))[None]
        return audio, rate_hz, self._texts(request, audio.shape[-1] / rate_hz)

    def _texts(self, request: SynthesisRequest, ref_s: float) -> list[str]:
        """What infer_process does before infer_batch_process: chunking with upstream's own function."""
        from f5_tts.infer.utils_infer import chunk_text

        if not request.text.strip():
            raise InvalidRequest(f"text of {request.utterance_id}", repr(request.text), "is empty", "write a sentence")
        unknown = unknown_tokens(request.text + request.ref_text, self._vocabulary)
        if unknown:
            raise InvalidRequest(
                f"text of {request.utterance_id}", repr(request.text), f"the model's vocabulary lacks {unknown}",
                "write it in characters of the vocabulary, upstream would speak them as spaces",
            )  # fmt: skip
        return list(chunk_text(request.text, max_chunk_bytes(request.ref_text, ref_s, request.speed_ratio)))

    def _one(self, request: SynthesisRequest) -> Synthesis:
        from f5_tts.infer.utils_infer import infer_batch_process

        started = drained_s(self._clock)
        model, vocoder, evals_before = self._model, self._vocoder, self._model.num_evals
        audio, rate_hz, texts = self._begin(request)
        with own_noise(model.device):
            torch.default_generator.manual_seed(self._noise_key(request, audio, rate_hz, texts[0]))
            wave, made_hz, _ = next(
                infer_batch_process(
                    (audio, rate_hz), request.ref_text, texts, model, vocoder,
                    progress=None, speed=request.speed_ratio, device=str(self._model.device),
                    fix_duration=self._fixed_s(request, audio, rate_hz, texts), **self._settings,
                )
            )  # fmt: skip
        total_s = drained_s(self._clock) - started
        solve_s, decode_s = model.sample_s, vocoder.decode_s
        mels = [mel.float().cpu().numpy() for mel in vocoder.mels]
        return Synthesis(
            utterance_id=request.utterance_id,
            audio_S=np.asarray(wave, dtype=np.float32),
            sample_rate_hz=made_hz,
            mel_ND=np.concatenate(mels),
            num_evals=model.num_evals - evals_before,
            num_chunks=len(texts),
            # Chunks race for one generator in upstream's thread pool, so only a single chunk's noise is the request's
            noise_sha256=noise_sha256([n.cpu().numpy() for n in model.noises]) if len(texts) == 1 else None,
            stages=StageTimes(
                frontend_s=max(total_s - solve_s - decode_s, 0.0), denoise_s=solve_s, vocoder_s=decode_s, join_s=0.0
            ),
        )

    def _ref_frames(self, audio: torch.Tensor, rate_hz: int) -> int:
        """Upstream's resampling rounds the number of samples up."""
        return -(-audio.shape[-1] * self._facts.sample_rate_hz // rate_hz) // HOP

    def _fixed_s(
        self, request: SynthesisRequest, audio: torch.Tensor, rate_hz: int, texts: Sequence[str]
    ) -> float | None:
        """Upstream's fix_duration, reference and generated part together; None for upstream's own rule. Half a frame
        more, because upstream rounds down."""
        if request.num_frames is None:
            return None
        if len(texts) > 1:
            raise InvalidRequest(
                f"num_frames of {request.utterance_id}", request.num_frames,
                f"fixes the length of one chunk, the text makes {len(texts)}", "split the text or leave num_frames out",
            )  # fmt: skip
        frames = self._ref_frames(audio, rate_hz) + request.num_frames
        return (frames + 0.5) * HOP / self._facts.sample_rate_hz

    def _noise_key(self, request: SynthesisRequest, audio: torch.Tensor, rate_hz: int, text: str) -> int:
        frames = self._ref_frames(audio, rate_hz)
        if request.num_frames is not None:
            return noise_key(request.utterance_id, request.seed, frames + request.num_frames)
        ref_text = request.ref_text + (" " if len(request.ref_text[-1].encode()) == 1 else "")
        total = frames + generated_frames(frames, ref_text, text, request.speed_ratio)
        return noise_key(request.utterance_id, request.seed, total)

    def close(self) -> None:
        for part in ("_model", "_vocoder"):
            vars(self).pop(part, None)

    def __enter__(self) -> UpstreamEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def build_upstream(context: Context, model: LoadedModel, vocoder: Vocoder, facts: EngineFacts) -> UpstreamEngine:
    """Raises UnsupportedEngine for solvers and grids that upstream's inference path does not reach."""
    from f5_tts.model import CFM, DiT, UNetT

    config, solver = context.config, context.solver
    if config["reference"].get("cross_fade", "linear") != "linear":
        raise UnsupportedEngine("upstream's cross-fade is linear", "use reference.cross_fade=linear with it")
    if chunk_bound(config) is not None:
        raise UnsupportedEngine("upstream cuts texts by its own rule", "use text.max_chunk_s=null with it")
    if solver.options():
        raise UnsupportedEngine(
            f"upstream has no {' or '.join(solver.options())} like solver={solver.name}", "use solver=euler_7 with it"
        )
    if solver.method not in ("euler", "midpoint"):
        raise UnsupportedEngine(f"upstream is not run with {solver.method} here", "use solver=euler_7 or midpoint_7")
    wanted = "epss" if solver.steps in EPSS_KEPT else "uniform"
    if solver.grid_kind != wanted:
        raise UnsupportedEngine(
            f"upstream always takes the {wanted} grid at {solver.steps} steps", f"use solver.grid={wanted}"
        )
    mel_bins = config["model"]["mel_bins"]
    backbone = {"DiT": DiT, "UNetT": UNetT}[config["model"]["backbone"]]
    cfm = CFM(
        transformer=backbone(**config["model"]["arch"], text_num_embeds=len(model.vocabulary), mel_dim=mel_bins),
        odeint_kwargs={"method": solver.method},
        mel_spec_kwargs={"mel_spec_type": mel_kind(config["model"])},
        vocab_char_map=dict(model.vocabulary),
    )
    own = cfm.state_dict()
    cfm.load_state_dict({**own, **{f"transformer.{name}": value for name, value in model.state.items()}})
    settings: InferSettings = {
        "target_rms": config["reference"]["target_rms"],
        "cross_fade_duration": config["reference"]["cross_fade_s"],
        "nfe_step": solver.steps,
        "cfg_strength": solver.cfg_strength,
        "sway_sampling_coef": solver.sway,
        "mel_spec_type": mel_kind(config["model"]),
    }
    return UpstreamEngine(cfm.to(config["device"]["kind"]).eval(), vocoder, settings, facts, context.clock)
