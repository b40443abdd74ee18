"""How long a run will take, roughly, before anything is measured: from its arithmetic and this machine's products.

A guess for the first line on the terminal, corrected by what is measured from the first variant on. Its constants are
of the default sweep on two AVX2 cores (nine rows, 2026-11-28): a variant's process is up and built after 9 s, its
twelve sentences are scored in 10 s, and a call, front end and vocoder included, reaches half of a float32 product's
rate.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from engine.contract import SynthesisRequest
from engine.settings import ModelSettings
from experiments.common.plain import Config
from metrics.speed.roofline import Dit, rows_of

START_S = 9.0
SCORING_S_PER_SENTENCE = 0.8
SHARE_OF_PRODUCT = 0.5
SIDE = 1024
REPEATS = 3


@lru_cache(maxsize=1)
def product_flop_per_s() -> float:
    """The best of three float32 products of NumPy's, on the cores that it takes; about 0.1 s."""
    square = np.ones((SIDE, SIDE), dtype=np.float32)
    times = []
    for _ in range(REPEATS):
        before_s = time.perf_counter()
        square @ square
        times.append(time.perf_counter() - before_s)
    return 2.0 * SIDE**3 / min(times)


def num_frames(request: SynthesisRequest, model: ModelSettings) -> int:
    """Reference and generated, by upstream's rule: the text is spoken at the reference's bytes a second."""
    rate_hz, hop = int(model["sample_rate_hz"]), int(model["hop_samples"])
    reference = len(request.ref_audio_S) / request.ref_sample_rate_hz * rate_hz / hop
    if request.num_frames is not None:
        return round(reference) + request.num_frames
    ratio = len(request.text.encode()) / max(1, len(request.ref_text.encode()))
    return round(reference * (1 + ratio / request.speed_ratio))


def expected_s(config: Config, requests: Sequence[SynthesisRequest], num_calls: int, num_evals: int) -> float | None:
    """Of a variant from its start to its scores; None where nothing here knows, before it is measured, how fast the
    device is (a GPU) or what the model's arithmetic is."""
    if config["device"]["kind"] != "cpu" or "arch" not in config["model"]:
        return None
    dit = Dit.of(config["model"])
    rows = rows_of(config["solver"]["cfg_strength"])
    flop = [dit.evaluation_flop(num_frames(request, config["model"]), rows) for request in requests]
    calls_s = num_calls * num_evals * float(np.mean(flop)) / (SHARE_OF_PRODUCT * product_flop_per_s())
    return START_S + calls_s + SCORING_S_PER_SENTENCE * len(requests)
