"""How much arithmetic the denoiser's work is, how fast it was done, and how far that is from what the device can do.

Counted on the DiT of F5-TTS, or the UNetT of E2-TTS, with everything that depends on t only taken out
(engine.step.dit): multiply-adds are two operations; norms, activations and gates are left out (about 1 %). Shape
letters: R rows, N frames, C width, D mel bins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from metrics.record import RunRecord
from metrics.typed import number_in, part_of

CONV_TAPS, CONV_GROUPS = 31, 16
# Whose matrix products a row of this precision can use; where they were not measured no other peak is their roof
PEAK_OF = {"fp32": "float32", "amp": "bfloat16", "bf16": "bfloat16", "fp16": "bfloat16", "int8": "int8"}
EIGHT_BITS = ("int8", "int8_fp16", "int8_bf16", "fp8_fp16", "fp8_bf16")
WEIGHT_BYTES = {"fp32": 4, "amp": 4, "bf16": 2, "fp16": 2, **dict.fromkeys(EIGHT_BITS, 1)}


# The product that a machine is calibrated with for a model that is no DiT
TYPICAL_ARCH: Mapping[str, int] = {"dim": 768, "ff_mult": 4}


def rows_of(cfg_strength: float) -> int:
    """Of one utterance in one evaluation: with guidance the text's and the one without it."""
    return 2 if cfg_strength else 1


def guided_frac(proof: Mapping[str, object], cfg_strength: float) -> float:
    """Of an engine's evaluations over its life, by its own count; of one that does not count them all or none."""
    guided = number_in(proof, "guided_evals", 1 if cfg_strength else 0)
    unguided = number_in(proof, "unguided_evals", 0 if cfg_strength else 1)
    return guided / (guided + unguided) if guided + unguided else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Dit:
    """The sizes that decide the work. A UNetT has a token before the frames, and products in its skip connections."""

    dim: int
    depth: int
    inner: int
    hidden: int
    mel_bins: int
    extra_tokens: int = 0
    skips: int = 0

    @staticmethod
    def of(model: Mapping[str, object]) -> Dit:
        """From the `model` part of a configuration. Raises ValueError for one that lacks a size."""
        arch, is_unett = part_of(model, "arch"), model.get("backbone") == "UNetT"
        dim, depth = int(number_in(arch, "dim")), int(number_in(arch, "depth"))
        joins = is_unett and arch.get("skip_connect_type", "concat") == "concat"
        return Dit(
            dim=dim,
            depth=depth,
            inner=int(number_in(arch, "heads")) * int(number_in(arch, "dim_head", 64)),
            hidden=int(dim * number_in(arch, "ff_mult", 4)),
            mel_bins=int(number_in(model, "mel_bins")),
            extra_tokens=int(is_unett),
            skips=depth // 2 if joins else 0,
        )

    @property
    def block_weights(self) -> int:
        """Weights of one block's four products."""
        return 4 * self.dim * self.inner + 2 * self.dim * self.hidden

    @property
    def skip_weights(self) -> int:
        return 2 * self.dim**2

    def evaluation_flop(self, num_frames: int, rows: int) -> float:
        """One evaluation for one utterance of N frames, reference included; rows: 2 guided, 1 not."""
        conv = 2 * CONV_TAPS * self.dim**2 // CONV_GROUPS  # per frame
        tokens = num_frames + self.extra_tokens
        block = 2 * self.block_weights + 4 * tokens * self.inner  # per token: products, scores and mixing
        skips = 2 * self.skips * self.skip_weights
        ends = 2 * self.mel_bins * self.dim
        return float(num_frames * (1 + rows) * (conv + ends) + rows * tokens * (self.depth * block + skips))

    def evaluation_bytes(self, num_frames: int, rows: int, weight_bytes: int) -> float:
        """The least traffic of one evaluation: every weight once, every block's input and output once in the weights'
        float width (float32 for int8)."""
        width = 4 if weight_bytes == 1 else weight_bytes
        blocks = self.depth * (self.block_weights * weight_bytes + 2 * rows * num_frames * self.dim * width)
        return float(blocks + self.skips * self.skip_weights * weight_bytes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Roofline:
    """Of the denoise stage over the steady trials. peak_frac is None where no matrix product of the row's kind was
    measured in the same run; floor_rtf: seconds per generated second at that peak."""

    flop_per_s: float
    bytes_per_s: float
    flop_per_generated_s: float
    peak_frac: float | None
    floor_rtf: float | None


def best_peaks(records: Iterable[RunRecord]) -> dict[str, float]:
    """Operations a second by kind of product: the most that any process of these runs reached.

    Other programs take from a short measurement and never add to it, so the best of several is nearer to the device's.
    """
    best: dict[str, float] = {}
    for record in records:
        for kind, rate in record.environment.get("gemm_peak_flop_per_s", {}).items():
            best[kind] = max(rate, best.get(kind, 0.0))
    return best


def roofline(record: RunRecord, peaks: Mapping[str, float] | None = None) -> Roofline | None:
    """None for records without a steady trial or of a model without a DiT's sizes. peaks: None takes the record's own.

    A text of several chunks is counted as chunks of equal length. The share of guided evaluations is the engine's own
    count over its life.
    """
    model = part_of(record.config, "model")
    if record.facts is None or not record.steady_trials or "arch" not in model:
        return None
    dit, precision, proof = Dit.of(model), str(record.facts["precision"]), record.facts["proof"]
    frames_hz = number_in(model, "sample_rate_hz") / number_in(model, "hop_samples")
    ref_frames = round(number_in(record.workload, "reference_s") * frames_hz)
    guided = guided_frac(proof, record.facts["cfg_strength"])
    by_id = {u.utterance_id: u for u in record.utterances}
    flop = num_bytes = seconds = audio_s = 0.0
    for trial in record.steady_trials:
        spoken = by_id[trial.utterance_id]
        frames = ref_frames + spoken.num_frames // spoken.num_chunks
        evals = trial.num_evals  # over all chunks
        for rows, frac in ((2, guided), (1, 1 - guided)):
            flop += evals * frac * dit.evaluation_flop(frames, rows)
            num_bytes += evals * frac * dit.evaluation_bytes(frames, rows, WEIGHT_BYTES.get(precision, 4))
        seconds += trial.denoise_s
        audio_s += trial.audio_s
    peak = (best_peaks([record]) if peaks is None else peaks).get(PEAK_OF.get(precision, ""))
    return Roofline(
        flop_per_s=flop / seconds,
        bytes_per_s=num_bytes / seconds,
        flop_per_generated_s=flop / audio_s,
        peak_frac=flop / seconds / peak if peak else None,
        floor_rtf=flop / audio_s / peak if peak else None,
    )
