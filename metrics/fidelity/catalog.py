"""Every score by name: what computes it, towards what, which way is better, what identical audio gets, the recipe.

`quality.metrics` lists families; a family yields one score or several. Names carry {} for "reference" or "oracle".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from metrics.fidelity.pairing import AgainstName
from metrics.record import Better
from metrics.tasks import version_of

BOTH: tuple[AgainstName, ...] = ("reference", "oracle")
REFERENCE: tuple[AgainstName, ...] = ("reference",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One score. towards: empty for what needs no other side. identical: the value of the same audio twice.

    key: how the code of the family calls it. recipe: everything that changes the number; package: whose version does.
    """

    key: str
    name: str
    family: str
    better: Better
    recipe: str
    towards: tuple[AgainstName, ...] = REFERENCE
    identical: float | None = None
    package: str | None = None

    def named(self, against: AgainstName | None) -> str:
        return self.name.format(against)

    @property
    def full_recipe(self) -> str:
        return f"{self.recipe}; {version_of(self.package)}" if self.package else self.recipe


def _lsd(band: str) -> Metric:
    recipe = "n_fft 1024, hop 256, Hann, mean over frames of the RMS dB difference, floor -100 dB re a full-scale sine"
    return Metric(
        key=f"lsd_{band}", name=f"lsd_{band}_vs_{{}}_db", family="lsd", better="lower", recipe=recipe, towards=BOTH,
        identical=0.0,
    )  # fmt: skip


def _band(band: str) -> Metric:
    recipe = "dB change of the band's power over the utterance, n_fft 1024, hop 256, floor -100 dB re a full-scale sine"
    return Metric(
        key=f"level_{band}",
        name=f"level_{band}_vs_{{}}_db",
        family="lsd",
        better="neither",
        recipe=recipe,
        identical=0.0,
    )


def _event(key: str, name: str, recipe: str, better: Better = "lower") -> Metric:
    return Metric(key=key, name=name, family="artifacts", better=better, recipe=recipe, identical=0.0)


def _prosody(key: str, name: str, better: Better, recipe: str, identical: float | None) -> Metric:
    return Metric(
        key=key, name=name, family="prosody", better=better, recipe=recipe, identical=identical, package="pyworld",
        towards=REFERENCE if "{}" in name else (),
    )  # fmt: skip


_YES_NO = "yes/no questions only, the last of a text"
_F0 = "WORLD DIO + StoneMask, 60..500 Hz, 5 ms"
_NATIVE = "samples at the native rate, aligned by noise"

PAIRED: tuple[Metric, ...] = (
    Metric(
        key="log_mel", name="log_mel_mae_vs_{}", family="log_mel", better="lower", towards=BOTH, identical=0.0,
        recipe="mean absolute difference of the natural log-mel before the vocoder, generated frames, nats",
    ),
    Metric(
        key="snr", name="snr_vs_{}_db", family="snr", better="higher", towards=BOTH, identical=120.0,
        recipe=f"10 log10(ref^2 / (ref - var)^2), {_NATIVE}, capped at 120 dB",
    ),
    Metric(
        key="si_sdr", name="si_sdr_vs_{}_db", family="si_sdr", better="higher", towards=BOTH, identical=120.0,
        recipe=f"SNR after the best scale factor, {_NATIVE}, capped at 120 dB",
    ),
    Metric(
        key="gain", name="gain_error_vs_{}_db", family="gain", better="neither", towards=BOTH, identical=0.0,
        recipe="20 log10 of the ratio of RMS levels",
    ),
    Metric(
        key="dc", name="dc_error_vs_{}", family="gain", better="lower", towards=BOTH, identical=0.0,
        recipe="absolute difference of the means, full scale = 1",
    ),
    Metric(
        key="pesq", name="pesq_wb_vs_{}", family="pesq", better="higher", identical=4.644, package="pesq",
        recipe="P.862.2 wide band, soxr VHQ to 16 kHz, pieces of 20 s at most, mean of the pieces",
    ),
    Metric(
        key="stoi", name="stoi_vs_{}", family="stoi", better="higher", identical=1.0, package="pystoi",
        recipe="Taal 2011 at pystoi's own 10 kHz, pieces of 20 s at most, mean of the pieces",
    ),
    Metric(
        key="estoi", name="estoi_vs_{}", family="estoi", better="higher", identical=1.0, package="pystoi",
        recipe="Jensen and Taal 2016 at pystoi's own 10 kHz, pieces of 20 s at most, mean of the pieces",
    ),
    Metric(
        key="mcd", name="mcd_vs_{}_db", family="mcd", better="lower", towards=BOTH, identical=0.0,
        recipe="order 24, alpha 0.466, no c0, no time warping, 5 ms frames within 40 dB of the loudest, Hann 1024, "
        "frequency-transformed real cepstrum, floor -100 dB",
    ),
    *(_lsd(band) for band in ("0_4k", "4_8k", "8_12k")),
    *(_band(band) for band in ("0_4k", "4_8k", "8_12k")),
    Metric(
        key="blind_snr", name="blind_snr_delta_vs_{}_db", family="blind_snr", better="higher", identical=0.0,
        recipe="change of speech level (mean) over pause level (median), 20 ms frames, both masks from the other side "
        "(25 and 40 dB)",
    ),
    _event("artifact", "artifact_vs_{}", "1 where the clip has one new click, dropout, cut or repeat, else 0"),
    _event("clicks", "new_clicks_vs_{}", "second difference over 8x its 20 ms median and over 2x the baseline's within "
           "1 ms; only where SI-SDR >= 5 dB"),
    _event("edges_change", "sharp_edges_change_vs_{}", "count of sharp samples, variant less baseline; needs no phase",
           "neither"),
    _event("dropouts", "new_dropouts_vs_{}", "under -60 dBFS: 4 ms between loud neighbours, or 50 ms in speech"),
    _event("cuts", "new_cuts_vs_{}", "first or last 10 ms over -25 dB re peak and 6 dB over the baseline's"),
    _event("repeats", "new_repeats_vs_{}", "0.4 s that copy earlier sound, correlation over 0.95, not in the baseline"),
    _prosody("f0_cents", "f0_median_abs_vs_{}_cents", "lower", _F0, 0.0),
    _prosody("f0_gross_frac", "f0_gross_error_vs_{}_frac", "lower", f"{_F0}; 20 % off, frames voiced in both", 0.0),
    _prosody("voicing_error_frac", "voicing_error_vs_{}_frac", "lower", f"{_F0}; frames voiced on one side only", 0.0),
    _prosody("pause_f1", "pause_f1_vs_{}", "higher", "pauses of 0.2 s, 25 dB under p95, ends within 50 ms", 1.0),
    _prosody(
        "question_rise_delta_st", "question_rise_delta_vs_{}_st", "neither",
        f"{_F0}; line through 300 ms; {_YES_NO}", 0.0,
    ),
    _prosody(
        "question_same_label", "question_same_label_vs_{}", "higher",
        f"{_F0}; rise >= 2 st, fall <= -1 st; {_YES_NO}", 1.0,
    ),
)  # fmt: skip

ALONE: tuple[Metric, ...] = (
    _prosody("f0_median_hz", "f0_median_hz", "neither", _F0, None),
    _prosody("f0_range_st", "f0_range_st", "neither", f"{_F0}; 5th to 95th percentile", None),
    _prosody("words_per_active_s", "words_per_active_s", "neither", "words of the text / seconds without pauses", None),
    _prosody("pause_s", "pause_s", "neither", "pauses of 0.2 s or more, 25 dB under the 95th percentile", None),
    _prosody("longest_pause_s", "longest_pause_s", "lower", "pauses of 0.2 s or more", None),
    _prosody("question_rise_st", "question_rise_st", "neither", f"{_F0}; {_YES_NO}", None),
    Metric(
        key="loudness", name="loudness_lufs", family="loudness", better="neither", towards=(), package="pyloudnorm",
        recipe="ITU-R BS.1770-4, integrated, gated",
    ),
)  # fmt: skip

ENCODERS = ("resemblyzer", "wavlm", "ecapa")
_SPEAKER = "cosine of embeddings, soxr VHQ to 16 kHz, 1 s of speech at least, Resemblyzer's windows are 1.6 s"


def _speaker(encoder: str) -> tuple[Metric, ...]:
    package = "Resemblyzer" if encoder == "resemblyzer" else None
    return (
        Metric(key="similarity", name=f"speaker_similarity_{encoder}", family="speaker", better="higher", towards=(),
               recipe=f"{encoder}: {_SPEAKER}; variant and prompt", package=package),
        Metric(key="retention", name=f"speaker_retention_{encoder}_vs_{{}}", family="speaker", better="higher",
               identical=0.0, recipe=f"{encoder}: {_SPEAKER}; cos(variant, prompt) - cos(other, prompt)",
               package=package),
        Metric(key="match", name=f"speaker_match_{encoder}_vs_{{}}", family="speaker", better="higher", identical=1.0,
               recipe=f"{encoder}: {_SPEAKER}; variant and other side", package=package),
    )  # fmt: skip


def _words(name: str, recipe: str, family: str = "wer") -> Metric:
    key = name.removesuffix("_frac")
    return Metric(key=key, name=name, family=family, better="lower", towards=(), recipe=recipe)


def _predicted(model: str, number: str, recipe: str) -> Metric:
    name = f"mos_pred_{model}" if model == number else f"mos_pred_{model}_{number}"
    return Metric(
        key=f"{model}/{number}", name=name, family="predicted_mos", better="higher", towards=(), recipe=recipe
    )


_DNSMOS = "P.835, not personalised, looped to 9.01 s, a window each second, polynomial fit"
MODELS: tuple[Metric, ...] = (
    _words("wer_frac", "wrong words over the words of the text"),
    _words("cer_frac", "wrong characters over those of the text"),
    _words("word_substitutions", "words heard as others"),
    _words("word_deletions", "words that were not heard"),
    _words("word_insertions", "words that the text has not"),
    _words("repeated_words", "words said again right after themselves, beyond what the text repeats"),
    _words("lost_ending_words", "words of the text after the last one that was heard as anything"),
    _words("wer_closed_frac", "wrong words over the words of the text", "wer_closed"),
    _words("cer_closed_frac", "wrong characters over those of the text", "wer_closed"),
    *(metric for encoder in ENCODERS for metric in _speaker(encoder)),
    *(_predicted("dnsmos", number, _DNSMOS) for number in ("sig", "bak", "ovrl")),
    _predicted("dnsmos_p808", "p808", "P.808, 120 mel bands, looped to 9.01 s"),
    _predicted("utmos", "utmos", "UTMOS22 strong, as exported"),
)
PAIR_FAMILIES = tuple(dict.fromkeys(metric.family for metric in PAIRED))
ALONE_FAMILIES = tuple(dict.fromkeys(metric.family for metric in ALONE))
MODEL_FAMILIES = tuple(dict.fromkeys(metric.family for metric in MODELS))
FAMILIES = tuple(dict.fromkeys((*PAIR_FAMILIES, *ALONE_FAMILIES, *MODEL_FAMILIES)))


@lru_cache(maxsize=1)
def by_name() -> Mapping[str, Metric]:
    """Stored score name -> metric."""
    found: dict[str, Metric] = {}
    for metric in (*PAIRED, *ALONE, *MODELS):
        for against in metric.towards or (None,):
            found[metric.named(against)] = metric
    return found


def wanted(metrics: Sequence[Metric], families: Sequence[str], against: AgainstName | None) -> list[Metric]:
    """The metrics of the families, in the order of the families, that exist towards `against`."""
    chosen = [
        m for m in metrics if m.family in families and (not m.towards if against is None else against in m.towards)
    ]
    return sorted(chosen, key=lambda metric: list(families).index(metric.family))
