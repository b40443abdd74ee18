"""What runs inside the child of metrics.isolation: foreign C and model code, one function per package.

Each function takes the set-up and returns the work for one item; packages are imported here and nowhere else. Refused
carries the status where there is no number: never a code such as -7, never STOI's 1e-5.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Mapping
from importlib import metadata
from types import ModuleType

import numpy as np

from metrics.isolation import Item, Refused, Work

PESQ_RATE_HZ = 16_000
PESQ_RANGE = (1.0, 4.65)  # P.862.2 maps to 1.04..4.644; codes such as -7 lie outside
PESQ_REMEDY = "pip install pesq (extra `quality`; needs a C compiler)"
STOI_TOO_LITTLE = 1e-5  # what pystoi returns instead of an error
STOI_REMEDY = "pip install pystoi (extra `quality`)"
F0_REMEDY = 'pip install pyworld "setuptools<81" (extra `quality`)'
LOUDNESS_REMEDY = "pip install pyloudnorm (extra `quality`)"
LOUDNESS_MIN_S = 0.4  # one block of BS.1770


def pesq_task(setup: Mapping[str, object]) -> Work:
    """Item (reference_S, degraded_S), 16 kHz -> wide-band PESQ (ITU-T P.862.2)."""
    pesq = import_or_refuse("pesq", PESQ_REMEDY)

    def work(item: Item) -> float:
        reference_S, degraded_S = item.arrays
        try:
            value = float(pesq.pesq(PESQ_RATE_HZ, reference_S, degraded_S, "wb"))
        except (pesq.PesqError, ValueError) as error:  # ValueError: what a silent degraded signal comes out as
            said = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
            raise Refused("error", f"PESQ refused the pair: {said}") from None
        if not math.isfinite(value) or not PESQ_RANGE[0] <= value <= PESQ_RANGE[1]:
            raise Refused("error", f"PESQ returned {value}, which is not a score")
        return value

    return work


def stoi_task(setup: Mapping[str, object]) -> Work:
    """Item (clean_S, other_S), info sample_rate_hz and extended -> STOI (Taal 2011) or ESTOI (Jensen, Taal 2016)."""
    pystoi = import_or_refuse("pystoi", STOI_REMEDY)

    def work(item: Item) -> float:
        clean_S, other_S = item.arrays
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                value = float(pystoi.stoi(clean_S, other_S, item.sample_rate_hz, extended=bool(item.info["extended"])))
        except ValueError as error:  # under one frame of 25 ms
            raise Refused("too_few", f"too little speech for STOI: {error}") from None
        if value == STOI_TOO_LITTLE:
            raise Refused("too_few", "too little speech for STOI: it takes 0.41 s that are not silent")
        if not math.isfinite(value):
            raise Refused("error", f"STOI returned {value}")
        return value

    return work


def f0_task(setup: Mapping[str, object]) -> Work:
    """Item (audio_S,), info sample_rate_hz, floor_hz, ceiling_hz, frame_ms -> F0 per frame in Hz, 0 where unvoiced."""
    pyworld = import_or_refuse("pyworld", F0_REMEDY)

    def work(item: Item) -> list[float]:
        audio_S = np.ascontiguousarray(item.arrays[0], dtype=np.float64)
        rate_hz = item.sample_rate_hz
        coarse_N, times_N = pyworld.dio(
            audio_S, rate_hz, f0_floor=item.info["floor_hz"], f0_ceil=item.info["ceiling_hz"],
            frame_period=item.info["frame_ms"],
        )  # fmt: skip
        f0_N = pyworld.stonemask(audio_S, coarse_N, times_N, rate_hz)
        if not np.isfinite(f0_N).all():
            raise Refused("error", "the F0 track is not finite")
        return [float(value) for value in f0_N]

    return work


def loudness_task(setup: Mapping[str, object]) -> Work:
    """Item (audio_S,), info sample_rate_hz -> integrated loudness in LUFS (ITU-R BS.1770-4, pyloudnorm)."""
    pyloudnorm = import_or_refuse("pyloudnorm", LOUDNESS_REMEDY)

    def work(item: Item) -> float:
        audio_S, rate_hz = item.arrays[0], item.sample_rate_hz
        if audio_S.size < LOUDNESS_MIN_S * rate_hz:
            raise Refused("too_few", f"loudness takes {LOUDNESS_MIN_S:g} s at least")
        value = float(pyloudnorm.Meter(rate_hz).integrated_loudness(audio_S.astype(np.float64)))
        if not math.isfinite(value):
            raise Refused("error", f"the loudness is {value}: every block is under the gate of -70 LUFS")
        return value

    return work


def import_or_refuse(name: str, remedy: str) -> ModuleType:
    """The module of an optional package. Raises Refused where it cannot be imported."""
    try:
        # pyworld 0.3.5 reads its own version through pkg_resources, which warns on newer setuptools
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        raise Refused("unavailable", f"package {name} is missing ({error}); {remedy}") from None


def version_of(package: str) -> str:
    """`package x.y.z`, or that it is missing: half of a recipe."""
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} missing"
