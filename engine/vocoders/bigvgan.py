"""BigVGAN's generator for inference: mel (B, D, N) -> audio (B, N * hop), weights by the names of NVIDIA's checkpoints.

Lee, Ping, Ginsburg, Catanzaro, Yoon, "BigVGAN: A Universal Neural Vocoder with Large-Scale Training", ICLR 2023.
Transposed convolutions up to the sample rate; after each, residual blocks of dilated convolutions in parallel, averaged
(as HiFi-GAN's); before each convolution a periodic activation, x + sin(a x)^2 / b, applied at twice the rate between
two Kaiser-windowed sinc filters, so that what it adds above the band does not fold back. Weight norm is folded into the
weights when they are read. Shape letters: B batch, D mel bins, N frames, C channels, T time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from engine.contract import ConfigError
from engine.settings import GeneratorSettings

TAPS = 12  # of either filter, at the doubled rate
BETA_FLOOR = 1e-9
# weight = g * v / |v|: names under torch's older weight norm and under its parametrisation
NORMED = ((".weight_g", ".weight_v"), (".parametrizations.weight.original0", ".parametrizations.weight.original1"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """The `generator` of conf/vocoder/bigvgan*.yaml, named as in NVIDIA's config.json."""

    num_mels: int
    upsample_initial_channel: int
    upsample_rates: Sequence[int]
    upsample_kernel_sizes: Sequence[int]
    resblock_kernel_sizes: Sequence[int]
    resblock_dilation_sizes: Sequence[Sequence[int]]
    use_tanh_at_final: bool
    use_bias_at_final: bool

    @property
    def hop(self) -> int:
        return math.prod(self.upsample_rates)

    @staticmethod
    def of(generator: GeneratorSettings) -> Architecture:
        """Raises ConfigError for settings that are missing, unknown or do not fit together."""
        names = Architecture.__dataclass_fields__.keys()
        for name in sorted(names ^ generator.keys()):
            says = "is not a setting of BigVGAN here" if name in generator else "is needed"
            raise ConfigError(
                f"vocoder.generator.{name}", generator.get(name, "(missing)"), says,
                "see conf/vocoder/bigvgan_v2_24khz_100band_256x.yaml",
            )  # fmt: skip
        arch = Architecture(**generator)
        sizes: Mapping[str, Sequence[object]] = {
            "upsample_rates": arch.upsample_rates, "upsample_kernel_sizes": arch.upsample_kernel_sizes,
            "resblock_kernel_sizes": arch.resblock_kernel_sizes,
            "resblock_dilation_sizes": arch.resblock_dilation_sizes,
        }  # fmt: skip
        for left, right in (
            ("upsample_rates", "upsample_kernel_sizes"), ("resblock_kernel_sizes", "resblock_dilation_sizes"),
        ):  # fmt: skip
            if len(sizes[left]) != len(sizes[right]):
                raise ConfigError(
                    f"vocoder.generator.{right}", sizes[right], f"must be as many as {left}", "give one for each"
                )
        return arch


def half_band(taps: int = TAPS) -> torch.Tensor:
    """A low-pass at half of the band, (taps,) float32: sinc under a Kaiser window, its sum 1.

    The window's shape is Kaiser's for more than 50 dB; NVIDIA's transition of 1.2 gives 51 dB at 12 taps."""
    attenuation_db = 2.285 * (taps // 2 - 1) * math.pi * 1.2 + 7.95
    beta = 0.1102 * (attenuation_db - 8.7)
    time = torch.arange(taps, dtype=torch.float64) - (taps - 1) / 2
    window = torch.kaiser_window(taps, periodic=False, beta=beta, dtype=torch.float64)
    shape = window * torch.sinc(time / 2)
    return (shape / shape.sum()).float()


class Snake(nn.Module):
    """x + sin(a x)^2 / b, a and b learnt per channel as logarithms (SnakeBeta with log scale)."""

    def __init__(self, channels: int):
        super().__init__()
        self.alpha, self.beta = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x_BCT: torch.Tensor) -> torch.Tensor:
        frequency, size = self.alpha.exp()[:, None], self.beta.exp()[:, None]
        return x_BCT + (x_BCT * frequency).sin().square() / (size + BETA_FLOOR)


class AntiAliased(nn.Module):
    """The activation at twice the rate: up, act, down. Either filter passes a constant unchanged, edges repeated."""

    def __init__(self, channels: int):
        super().__init__()
        self.act = Snake(channels)
        down = half_band()
        # Zeros between the samples meet every other tap: two filters of half the length, one for each output phase
        even, odd = F.pad(2 * down[1::2].flip(0), (0, 1)), F.pad(2 * down[0::2].flip(0), (1, 0))
        self.register_buffer("up", torch.stack((even, odd))[:, None], persistent=False)
        self.register_buffer("down", down[None, None], persistent=False)

    def forward(self, x_BCT: torch.Tensor) -> torch.Tensor:
        rows, half = x_BCT.flatten(0, 1)[:, None], TAPS // 2
        phases = F.conv1d(F.pad(rows, (half // 2, half // 2), mode="replicate"), self.up)
        doubled = self.act(phases.transpose(1, 2).reshape(len(x_BCT), x_BCT.shape[1], -1))
        rows = F.pad(doubled.flatten(0, 1)[:, None], (half - 1, half), mode="replicate")
        return F.conv1d(rows, self.down, stride=2).reshape(x_BCT.shape)


class AmpBlock(nn.Module):
    """Anti-aliased multi-periodicity block: for each dilation two activated convolutions around a shortcut."""

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]):
        super().__init__()
        same = [
            nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=dilation * (kernel - 1) // 2)
            for dilation in (*dilations, *(1 for _ in dilations))
        ]
        self.convs1, self.convs2 = nn.ModuleList(same[: len(dilations)]), nn.ModuleList(same[len(dilations) :])
        self.activations = nn.ModuleList(AntiAliased(channels) for _ in same)

    def forward(self, x_BCT: torch.Tensor) -> torch.Tensor:
        for i, (dilated, plain) in enumerate(zip(self.convs1, self.convs2, strict=True)):
            inner = dilated(self.activations[2 * i](x_BCT))
            x_BCT = x_BCT + plain(self.activations[2 * i + 1](inner))
        return x_BCT


class BigVGAN(nn.Module):
    """The generator."""

    def __init__(self, arch: Architecture):
        super().__init__()
        widths = [arch.upsample_initial_channel // 2**i for i in range(len(arch.upsample_rates) + 1)]
        self.conv_pre = nn.Conv1d(arch.num_mels, widths[0], 7, padding=3)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose1d(wide, narrow, kernel, rate, padding=(kernel - rate) // 2))
            for wide, narrow, rate, kernel in zip(
                widths, widths[1:], arch.upsample_rates, arch.upsample_kernel_sizes, strict=False
            )
        )
        kinds = list(zip(arch.resblock_kernel_sizes, arch.resblock_dilation_sizes, strict=True))
        self.resblocks = nn.ModuleList(AmpBlock(width, *kind) for width in widths[1:] for kind in kinds)
        self.activation_post = AntiAliased(widths[-1])
        self.conv_post = nn.Conv1d(widths[-1], 1, 7, padding=3, bias=arch.use_bias_at_final)
        self._parallel, self._tanh = len(kinds), arch.use_tanh_at_final

    def decode(self, mel_BDN: torch.Tensor) -> torch.Tensor:
        """(B, D, N) float32 -> (B, N * hop) in [-1, 1]."""
        x = self.conv_pre(mel_BDN)
        for i, up in enumerate(self.ups):
            raised, first = up(x), i * self._parallel
            x = sum(block(raised) for block in self.resblocks[first : first + self._parallel]) / self._parallel
        x = self.conv_post(self.activation_post(x))[:, 0]
        return x.tanh() if self._tanh else x.clamp(-1.0, 1.0)


def folded(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weight norm folded: g * v / |v|, the length of v over all axes but the first; the rest as it is."""
    plain = dict(state)
    for direction in [name for name in state if name.endswith(tuple(v for _, v in NORMED))]:
        g, v = next(pair for pair in NORMED if direction.endswith(pair[1]))
        layer = direction.removesuffix(v)
        if layer + g in plain:
            way = plain.pop(direction)
            axes = tuple(range(1, way.ndim))
            plain[f"{layer}.weight"] = plain.pop(layer + g) * way / way.norm(dim=axes, keepdim=True)
    return plain


def filter_names(generator: nn.Module) -> list[str]:
    """What a file calls its own copies of the filter, two at every activation (`check_filters` has read them)."""
    places = [name for name, module in generator.named_modules() if isinstance(module, AntiAliased)]
    return [f"{place}.{kind}.filter" for place in places for kind in ("upsample", "downsample.lowpass")]


def check_filters(state: Mapping[str, torch.Tensor]) -> None:
    """The file's own copies of the filter, where it has them. Raises ConfigError for another filter than ours."""
    own = half_band()
    for name, value in state.items():
        if name.endswith(".filter") and not (value.numel() == TAPS and torch.allclose(value.flatten(), own, atol=1e-6)):
            raise ConfigError(
                "vocoder.checkpoint", f"(tensor {name})", f"is not the filter of {TAPS} taps that is built here",
                "use one of NVIDIA's published generators, for example bigvgan_v2_24khz_100band_256x",
            )  # fmt: skip
