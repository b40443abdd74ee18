"""The groups of a configuration that an engine is built from, in the plain form in which records and jobs hold them.

What a key may be is checked before (experiments.settings, and here where a part is built); these say which keys there
are and of what kind. A key that older records lack, or that only some choices of a group have, may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypedDict

from annotated_types import Ge, Gt, Le, MultipleOf

from engine.keys import MOST_BYTES, MOST_COUNT, WIDEST, Allowed, Elsewhere, Many, Named, Size, Some


class ArchSettings(TypedDict, total=False):
    """`model.arch`, upstream's names: sizes of the DiT, or of the UNetT."""

    dim: Annotated[int, Ge(16), Le(WIDEST), MultipleOf(16)]  # the convolution before the blocks has 16 groups
    depth: Some
    heads: Some
    dim_head: Annotated[int, Ge(2), Le(WIDEST), MultipleOf(2)]  # rotary positions turn pairs
    ff_mult: Annotated[float, Gt(0), Le(1000)]
    text_dim: Size
    conv_layers: Many
    text_mask_padding: bool
    text_embedding_average_upsampling: bool
    pe_attn_head: Some | None
    qk_norm: str | None
    skip_connect_type: str
    long_skip_connection: Annotated[bool, Elsewhere()]


class StudentSettings(TypedDict):
    """`model.student`: of a model that another one taught. teacher: its `model.name`, and the hash of its weights;
    recipe: of conf/recipe. taught_cfg_strength: the guidance that its one row has in it; cfg_strength: what a solver
    asks of it where it says nothing itself."""

    teacher: str
    teacher_sha256: str
    recipe: str
    taught_cfg_strength: Annotated[float, Ge(0), Le(10)]
    cfg_strength: Annotated[float, Ge(0), Le(10)]


class ModelSettings(Named, total=False):
    """`model`. checkpoint, vocab: a path, hub:OWNER/REPO/FILE, f5_tts:FILE or random:SEED. release: which of upstream's
    releases the weights are of, where the file does not tell. student: None for a model that was trained on speech.
    family: the module of engine.families.family that it is of; voices, language, trim: of models that have voices of
    their own."""

    family: str | None
    voices: str
    language: str
    trim: bool
    backbone: str
    arch: ArchSettings
    release: Annotated[str | None, Elsewhere()]
    student: StudentSettings | None
    checkpoint: str
    vocab: str
    mel_bins: Size
    mel_spec_type: str
    sample_rate_hz: Annotated[int, Ge(1000), Le(MOST_COUNT)]
    hop_samples: Size


class ReuseSettings(TypedDict, total=False):
    """`solver.reuse`: which keys there are is decided by `kind`."""

    kind: str
    evaluated: list[int]
    threshold: float
    rescale: list[float]
    max_in_a_row: int


class FittedSettings(TypedDict):
    """`solver.fitted`: the model that it was fitted to; weights: one row a step."""

    model: str
    weights: list[list[float]]


class SolverSettings(Named, total=False):
    """`solver`; conf/solver/base/plain.yaml says what each key is."""

    method: str
    steps: Annotated[int | None, Elsewhere()]
    num_evals: Annotated[int | None, Elsewhere()]
    grid: Annotated[str | list[float], Allowed("epss, epss8_style, uniform or a list of t")]
    sway: Annotated[float, Ge(-1e6), Le(1e6)]
    cfg_strength: Annotated[float, Ge(0), Le(10)]
    guidance: str
    guidance_interval: Annotated[list[float] | None, Elsewhere()]
    guidance_schedule: Annotated[list[list[float]] | None, Elsewhere()]
    zero_init_steps: Annotated[int, Elsewhere()]
    reuse: Annotated[ReuseSettings | None, Elsewhere()]
    rule: Annotated[Mapping[str, list[list[int | None]]] | None, Elsewhere()]
    fitted: Annotated[FittedSettings | None, Elsewhere()]


class BackboneSettings(TypedDict, total=False):
    """`vocoder.backbone` of a Vocos."""

    input_channels: Size
    dim: Size
    intermediate_dim: Size
    num_layers: Some


class HeadSettings(TypedDict, total=False):
    """`vocoder.head` of a Vocos: its inverse STFT, in samples."""

    dim: Size
    n_fft: Size
    hop_length: Size
    padding: str


class GeneratorSettings(TypedDict, total=False):
    """`vocoder.generator` of a BigVGAN, NVIDIA's names."""

    num_mels: Size
    upsample_initial_channel: Size
    upsample_rates: Annotated[list[int], Elsewhere()]
    upsample_kernel_sizes: Annotated[list[int], Elsewhere()]
    resblock_kernel_sizes: Annotated[list[int], Elsewhere()]
    resblock_dilation_sizes: Annotated[list[list[int]], Elsewhere()]
    use_tanh_at_final: bool
    use_bias_at_final: bool


class VocoderSettings(Named, total=False):
    """`vocoder`. backbone and head belong to kind=vocos, generator to kind=bigvgan; inductor: options of
    torch._inductor for runtime=compiled and cuda; max_graphs: kept by runtime=cuda."""

    kind: str
    checkpoint: str
    runtime: str
    precision: str
    inductor: Mapping[str, object] | None
    max_graphs: Annotated[int, Ge(1), Le(MOST_COUNT)]
    backbone: BackboneSettings
    head: HeadSettings
    generator: GeneratorSettings


class PrepareSettings(TypedDict, total=False):
    """`reference.prepare`, see engine.voice.clip."""

    audio: Annotated[str, Elsewhere()]
    text: Annotated[str, Elsewhere()]
    edge_db: Annotated[float, Elsewhere()]
    tail_s: Annotated[float, Elsewhere()]


class WrittenVoice(TypedDict):
    """What every entry of `reference.voices` has."""

    id: Annotated[str, Elsewhere()]


class VoiceSettings(WrittenVoice, total=False):
    """One entry of `reference.voices`: a clip with its text, or the style that names one of the model's own voices.
    cut_text: what is left of text where the preparation cuts speech off."""

    audio: Annotated[str, Elsewhere()]
    text: Annotated[str, Elsewhere()]
    cut_text: Annotated[str, Elsewhere()]
    style: Annotated[str, Elsewhere()]


class ReferenceSettings(Named, total=False):
    """`reference`: the voices, and how audio is levelled and joined. prepare: of engine.voice.clip."""

    target_rms: Annotated[float, Gt(0), Le(1)]
    cross_fade_s: Annotated[float, Ge(0), Le(10)]
    cross_fade: str
    speed_ratio: Annotated[float, Ge(0.3), Le(3)]
    prepare: PrepareSettings
    voices: Annotated[list[VoiceSettings], Allowed("a list of {id, audio, text}")]


class StreamSettings(Named):
    """`stream`: where a text is cut whose audio is wanted early."""

    first_chunk_max_bytes: Annotated[int | None, Elsewhere()]
    growth_ratio: Annotated[float | None, Elsewhere()]


class DenoiseSettings(TypedDict):
    """`enhance.denoise`, see engine.enhance.denoise. over: how many times the noise that was found is taken off."""

    most_db: Annotated[float, Gt(0), Le(60)]
    over: Annotated[float, Ge(1), Le(100)]


class AdaptiveSilenceSettings(TypedDict):
    """`enhance.adaptive_silence`, see engine.enhance.adaptive_silence. A pause of 150 ms is meant, so none is cut."""

    longest_pause_s: Annotated[float, Ge(0.15), Le(60)]
    edge_s: Annotated[float, Ge(0), Le(60)]


class DeessSettings(TypedDict):
    """`enhance.deess`, see engine.enhance.deess."""

    from_hz: Annotated[float, Ge(100), Le(MOST_COUNT)]
    share_db: Annotated[float, Ge(-60), Le(0)]
    most_db: Annotated[float, Ge(0), Le(60)]
    shelf_hz: Annotated[float, Ge(100), Le(MOST_COUNT)]
    shelf_db: Annotated[float, Ge(-24), Le(24)]


class EnhanceSettings(Named, total=False):
    """`enhance`: what is done to the sound after the vocoder and the joins; which forms there are, their order is
    engine.enhance.stages.FORMS."""

    denoise: DenoiseSettings
    upstream_silence: bool
    adaptive_silence: AdaptiveSilenceSettings
    deess: DeessSettings


class DeviceSettings(Named):
    """`device`. kind: cpu, cuda or cuda:N; threads: None for all cores of this process."""

    kind: str
    threads: Annotated[int, Ge(1), Le(4096)] | None


class TextSettings(TypedDict):
    """`text`. max_chunk_s: seconds of a chunk at most, None for upstream's rule."""

    max_chunk_s: Annotated[float | None, Elsewhere()]


class CalibrationSettings(TypedDict, total=False):
    """`engine.calibration` of the int8 engines."""

    sentences: list[str]
    method: str


class OnnxSession(TypedDict, total=False):
    """`engine.session` of ONNX Runtime; engine.runtimes.onnx_session says what each key is."""

    spinning: bool
    arena: bool
    exact_int8: bool
    execution_mode: str
    optimization: str


class EngineSettings(Named, total=False):
    """Keys of `engine` that some engines have, by their bounds; which of them an engine has, its function says."""

    precision: str
    region: str
    shapes: str
    provider: str
    compiled: bool
    bucket_frames: Annotated[int, Ge(1), Le(MOST_COUNT)] | None
    inductor: Mapping[str, object] | None
    session: OnnxSession | None
    calibration: CalibrationSettings | None
    float_layers: list[str]
    plan: str | None
    workspace_bytes: Annotated[int, Ge(1 << 20), Le(MOST_BYTES)]
    needs_fused_attention: bool
    needs_int8_products: bool
    runtime: str
    specialise: str | None
    cuda_graph: bool | None
    max_graphs: Annotated[int, Ge(1), Le(MOST_COUNT)]
    max_batch: Annotated[int, Ge(1), Le(4096)]
    max_padding_frac: Annotated[float, Ge(0), Le(1)]


class EngineConfig(TypedDict, total=False):
    """What engine.build.build_engine reads of a configuration. engine: `_target_`, and what that function takes: each
    engine has its own keys (those of EngineSettings are checked before)."""

    model: ModelSettings
    engine: Mapping[str, object]
    solver: SolverSettings
    vocoder: VocoderSettings
    reference: ReferenceSettings
    stream: StreamSettings
    enhance: EnhanceSettings
    device: DeviceSettings
    text: TextSettings
