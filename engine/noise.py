"""The initial noise of a request: the same float32 numbers for every engine on every device.

Drawn by a CPU generator keyed by (utterance, seed, frames), so two variants of one sentence start from identical x.
"""

import hashlib

import numpy as np
import torch


def noise_key(utterance_id: str, seed: int, num_frames: int, chunk: int = 0) -> int:
    """63-bit generator seed."""
    digest = hashlib.sha256(f"{utterance_id}\0{seed}\0{num_frames}\0{chunk}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def initial_noise(key: int, num_frames: int, mel_bins: int) -> torch.Tensor:
    """(num_frames, mel_bins) float32 standard normal on the CPU; global generators are untouched."""
    generator = torch.Generator("cpu").manual_seed(key)
    return torch.randn(num_frames, mel_bins, generator=generator, dtype=torch.float32)


def noise_sha256(noises: list[np.ndarray]) -> str:
    """Hash over the float32 bytes of all chunks' noise, in order."""
    digest = hashlib.sha256()
    for noise in noises:
        digest.update(np.ascontiguousarray(noise, dtype=np.float32).tobytes())
    return digest.hexdigest()
