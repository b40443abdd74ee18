"""What TensorRT plans for when it works behind ONNX Runtime: lengths, and the shapes of the step's inputs at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.contract import ConfigError
from engine.runtimes.profiles import Profile, choose_profile, profiles_of

if TYPE_CHECKING:
    from engine.step.inputs import Feeds

Shapes = Mapping[str, Mapping[str, Sequence[int]]]
"""min, opt and max -> shape of every input: one optimisation profile of TensorRT."""
AXES = {"x": "BN", "projected": "GBN", "convolved": "GB.N", "cos": "N", "sin": "N", "frames": "GBN", "keys": "GB..N"}
"""Which axes of the step's inputs vary: G guidance rows, B utterances, N frames; the rest is as the weights are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """What TensorRT plans for through ONNX Runtime: lengths, and at most so many utterances in one solve.

    One profile: ONNX Runtime builds several where they are given, and then never leaves the first
    (microsoft/onnxruntime pull request 31624).
    """

    profile: Profile
    max_batch: int

    def check(self, num_frames: int, batch: int) -> None:
        """Raises InvalidRequest for a shape that was not planned: TensorRT would build in the middle of a call."""
        choose_profile([self.profile], num_frames, batch, self.max_batch)

    def shapes(self, example: Feeds) -> Shapes:
        """example: inputs of any length. Tuned for one guided utterance."""
        return {
            "min": _shapes(example, {"G": 1, "B": 1, "N": self.profile.min_frames}),
            "opt": _shapes(example, {"G": 2, "B": 1, "N": self.profile.opt_frames}),
            "max": _shapes(example, {"G": 2, "B": self.max_batch, "N": self.profile.max_frames}),
        }


def _shapes(example: Feeds, sizes: Mapping[str, int]) -> dict[str, list[int]]:
    return {
        name: [sizes.get(AXES.get(name, "")[i : i + 1], size) for i, size in enumerate(tensor.shape)]
        for name, tensor in example.items()
    }


def planned_of(provider: str, profiles: Sequence[Sequence[int]] | None, max_batch: int) -> Planned | None:
    """None for providers that take any length. Raises ConfigError for profiles missing, misplaced or out of order."""
    if provider == "tensorrt" and profiles is None:
        raise ConfigError(
            "engine.profiles", None, "must say which lengths TensorRT plans for", "use engine=onnx_tensorrt, which does"
        )
    if provider != "tensorrt" and profiles is not None:
        raise ConfigError(
            "engine.profiles", profiles, f"provider={provider} takes any length without a plan", "leave it out"
        )
    if profiles is None:
        return None
    found = profiles_of(profiles)
    if len(found) > 1:
        raise ConfigError(
            "engine.profiles", profiles, "ONNX Runtime uses the first profile alone, whatever the length",
            f"use engine.profiles=[[{found[0].min_frames},{found[-1].opt_frames},{found[-1].max_frames}]], or "
            "engine=tensorrt",
        )  # fmt: skip
    return Planned(profile=found[0], max_batch=max_batch)


def profile_options(shapes: Shapes | None) -> dict[str, str]:
    """As ONNX Runtime reads them: input:1x2x3,... by bound; nothing where TensorRT plans for nothing."""
    return {
        f"trt_profile_{bound}_shapes": ",".join(f"{name}:{'x'.join(map(str, dims))}" for name, dims in inputs.items())
        for bound, inputs in (shapes or {}).items()
    }
