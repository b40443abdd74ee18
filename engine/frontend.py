"""Text and reference audio -> what the denoiser is conditioned on: chunks, tokens, frames, mel.

The rules are upstream's (f5_tts.infer.utils_infer, f5_tts.model.utils), written again so that no engine of ours has to
import f5_tts (15 s), and tested equal to upstream's functions. Upstream's quirks that are kept, because they decide
the length: the space appended to the reference text, bytes as the measure of length, speed 0.3 under ten bytes.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engine.contract import InvalidRequest, SynthesisRequest
from engine.text.chunks import SHORT_TEXT_BYTES, SHORT_TEXT_SPEED, Pace, chunks_of, split_text
from engine.voice.recording import check_reference
from engine.voice.resampling import affordable

if TYPE_CHECKING:
    import torch

TEXTS_KEPT = 512
REFERENCES_KEPT = 64
QUOTES = str.maketrans({";": ",", "“": '"', "”": '"', "‘": "'", "’": "'"})


def generated_frames(ref_frames: int, ref_text: str, text: str, speed_ratio: float) -> int:
    """Upstream's duration rule: frames in proportion to UTF-8 bytes. ref_text includes its trailing space."""
    text_bytes = len(text.encode())
    speed = SHORT_TEXT_SPEED if text_bytes < SHORT_TEXT_BYTES else speed_ratio
    return int(ref_frames / len(ref_text.encode()) * text_bytes / speed)


def _is_chinese(char: str) -> bool:
    return "\u3100" <= char <= "\u9fff"


def tokenize(text: str) -> list[str]:
    """Characters, with Chinese as pinyin with tone numbers; words are separated the way upstream separates them."""
    import rjieba
    from pypinyin import Style, lazy_pinyin

    def pinyin(chars: str) -> list[str]:
        return list(lazy_pinyin(chars, style=Style.TONE3, tone_sandhi=True))

    tokens: list[str] = []
    for segment in rjieba.cut(text.translate(QUOTES)):
        num_bytes = len(segment.encode())
        if num_bytes == len(segment):
            if tokens and num_bytes > 1 and tokens[-1] not in " :'\"":
                tokens.append(" ")
            tokens.extend(segment)
        elif num_bytes == 3 * len(segment):
            for char, syllable in zip(segment, pinyin(segment), strict=False):
                tokens.extend([" ", syllable] if _is_chinese(char) else [syllable])
        else:
            for char in segment:
                tokens.extend([" ", *pinyin(char)] if _is_chinese(char) else [char])
    return tokens


def unknown_tokens(text: str, vocabulary: Mapping[str, int]) -> list[str]:
    """Tokens of the text that the vocabulary lacks; upstream speaks them silently as spaces."""
    return sorted({token for token in tokenize(text) if token not in vocabulary})


@dataclass(frozen=True, eq=False, slots=True)
class Reference:
    """A voice ready for conditioning: mel_ND of the (scaled, resampled) reference, its frames as upstream counts them
    (whole hops: one fewer than the rows of a centred mel), its loudness before scaling, and its seconds as recorded."""

    mel_ND: torch.Tensor
    frames: int
    rms: float
    duration_s: float


@dataclass(frozen=True, eq=False, slots=True)
class Chunk:
    """One solve: its text, token indices (T,) of reference and text, frames in all (reference included) and the
    reference's share of them."""

    text: str
    token_ids: tuple[int, ...]
    num_frames: int
    ref_frames: int


@dataclass(frozen=True, eq=False, slots=True)
class Prepared:
    """A request after the front end."""

    reference: Reference
    chunks: tuple[Chunk, ...]
    gain: float


MelTransform = Callable[["torch.Tensor"], "torch.Tensor"]


class FrontEnd:
    """Prepares requests for one model. References are cached by the hash of their samples, rate and loudness target,
    tokens by their text."""

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        mel: MelTransform,
        sample_rate_hz: int,
        hop_samples: int,
        max_chunk_s: float | None = None,
    ):
        """max_chunk_s: the longest chunk, None for upstream's rule alone."""
        self._max_chunk_s = max_chunk_s
        self._vocabulary = vocabulary
        self._mel = mel
        self._rate_hz = sample_rate_hz
        self._hop = hop_samples
        self._references: OrderedDict[tuple[str, int, float], Reference] = OrderedDict()
        self._tokens: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._counts: Counter[str] = Counter()

    def prepare(
        self, request: SynthesisRequest, target_rms: float, split: Callable[[str, int], list[str]] = split_text
    ) -> Prepared:
        """split: how the text is cut into chunks of at most so many bytes.

        Raises InvalidRequest naming the utterance for text that cannot be spoken.
        """
        if not request.text.strip():
            raise InvalidRequest(f"text of {request.utterance_id}", repr(request.text), "is empty", "write a sentence")
        reference = self._reference(request, target_rms)
        ref_text = request.ref_text + (" " if len(request.ref_text[-1].encode()) == 1 else "")
        pace = Pace(request.ref_text, reference.duration_s, request.speed_ratio)
        texts = chunks_of(request, pace, self._max_chunk_s, split)
        if request.num_frames is not None and len(texts) > 1:
            raise InvalidRequest(
                f"num_frames of {request.utterance_id}", request.num_frames,
                f"fixes the length of one chunk, the text makes {len(texts)}", "split the text or leave num_frames out",
            )  # fmt: skip
        chunks = tuple(self._chunk(request, ref_text, text, reference) for text in texts)
        gain = reference.rms / target_rms if reference.rms < target_rms else 1.0
        return Prepared(reference, chunks, gain)

    def _chunk(self, request: SynthesisRequest, ref_text: str, text: str, reference: Reference) -> Chunk:
        tokens = self._tokenize(ref_text + text)
        unknown = sorted({token for token in tokens if token not in self._vocabulary})
        if unknown:
            raise InvalidRequest(
                f"text of {request.utterance_id}", repr(text), f"the model's vocabulary lacks {unknown}",
                "write it in characters of the vocabulary (numbers as words) or use a model that has them",
            )  # fmt: skip
        frames = request.num_frames
        if frames is None:
            frames = generated_frames(reference.frames, ref_text, text, request.speed_ratio)
        ids = tuple(self._vocabulary[token] for token in tokens)
        # At least one frame after the tokens and after the reference's mel, as upstream
        num_frames = max(reference.frames + frames, len(ids) + 1, len(reference.mel_ND) + 1)
        return Chunk(text, ids, num_frames, reference.frames)

    def proof(self) -> dict[str, int]:
        """Look-ups and hits of both caches; a text is reference and chunk together, tokenised and spelt as pinyin."""
        return {
            f"{kind}_cache_{what}": self._counts[f"{kind}_cache_{what}"]
            for kind in ("text", "reference")
            for what in ("lookups", "hits")
        }

    def _tokenize(self, text: str) -> tuple[str, ...]:
        self._counts["text_cache_lookups"] += 1
        if text in self._tokens:
            self._counts["text_cache_hits"] += 1
            self._tokens.move_to_end(text)
            return self._tokens[text]
        self._tokens[text] = tuple(tokenize(text))
        if len(self._tokens) > TEXTS_KEPT:
            self._tokens.popitem(last=False)
        return self._tokens[text]

    def _reference(self, request: SynthesisRequest, target_rms: float) -> Reference:
        audio_S = np.ascontiguousarray(request.ref_audio_S, dtype=np.float32)
        self._counts["reference_cache_lookups"] += 1
        key = (hashlib.sha256(audio_S.tobytes()).hexdigest(), request.ref_sample_rate_hz, target_rms)
        if key in self._references:
            self._counts["reference_cache_hits"] += 1
            self._references.move_to_end(key)
            return self._references[key]
        if not request.ref_text.strip():
            raise InvalidRequest(
                "reference.text", repr(request.ref_text), "is empty", "give the words spoken in the reference"
            )
        check_reference(audio_S, request.ref_sample_rate_hz, request.utterance_id)
        self._references[key] = self._make_reference(audio_S, request.ref_sample_rate_hz, target_rms)
        if len(self._references) > REFERENCES_KEPT:
            self._references.popitem(last=False)
        return self._references[key]

    def _make_reference(self, audio_S: np.ndarray, rate_hz: int, target_rms: float) -> Reference:
        import torch

        audio_S, rate_hz = affordable(audio_S, rate_hz, self._rate_hz)
        wave = torch.from_numpy(audio_S)[None]
        rms = float(torch.sqrt(torch.mean(torch.square(wave))))
        if rms < target_rms:
            wave = wave * target_rms / rms
        if rate_hz != self._rate_hz:
            import torchaudio

            wave = torchaudio.transforms.Resample(rate_hz, self._rate_hz)(wave)
        return Reference(self._mel(wave)[0].T.contiguous(), wave.shape[-1] // self._hop, rms, len(audio_S) / rate_hz)
