"""Train the pocket Vocos: multi-resolution spectral losses and Vocos' own multi-resolution discriminator.

Losses as in Vocos (arXiv 2306.00814): mel reconstruction x 45, hinge adversarial, feature matching. The multi-period
discriminator is left out: it costs more than the rest together on a CPU.
"""

import logging
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file, save_file
from torch import nn
from vocos.discriminators import MultiResolutionDiscriminator
from vocos.heads import ISTFTHead
from vocos.loss import DiscriminatorLoss, FeatureMatchingLoss, GeneratorLoss, MelSpecReconstructionLoss
from vocos.models import VocosBackbone

if TYPE_CHECKING:
    from experiments.pocket.data import Clip

log = logging.getLogger("train_pocket")
HOP = 256


class Generator(nn.Module):
    """The two trained parts of a Vocos, named as in its checkpoints."""

    def __init__(self, cfg: DictConfig):
        super().__init__()
        self.backbone = VocosBackbone(**OmegaConf.to_container(cfg.vocoder.arch))
        self.head = ISTFTHead(**OmegaConf.to_container(cfg.vocoder.head))

    def forward(self, mel_BDN: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(mel_BDN))


def random_segments(clips: list["Clip"], batch: int, frames: int, rng: random.Random) -> torch.Tensor:
    """(batch, frames * 256) float32 audio at random levels, as quiet voices reach the vocoder too."""
    rows: list[torch.Tensor] = []
    while len(rows) < batch:
        audio = rng.choice(clips).audio_S
        if len(audio) > frames * HOP:
            start = rng.randint(0, len(audio) - frames * HOP)
            rows.append(torch.from_numpy(audio[start : start + frames * HOP]).float() * rng.uniform(0.6, 1.4))
    return torch.stack(rows)


def spectral_loss(generated: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Log-magnitude L1 plus spectral convergence over three window lengths."""
    total = generated.new_zeros(())
    for n_fft in (512, 1024, 2048):
        window = torch.hann_window(n_fft)
        a, b = (
            torch.stft(x, n_fft, n_fft // 4, window=window, return_complex=True).abs().clamp(min=1e-5)
            for x in (generated, target)
        )
        total = total + (a.log() - b.log()).abs().mean() + (a - b).norm() / b.norm()
    return total


def train_vocoder(cfg: DictConfig, clips: list["Clip"], out: Path) -> None:
    """Train for cfg.vocoder.minutes of wall time; weights are written every five minutes and at the end."""
    from f5_tts.model.modules import get_vocos_mel_spectrogram  # the very mel that the vocoder will see

    generator, critic = Generator(cfg), MultiResolutionDiscriminator()
    if cfg.vocoder.init:
        generator.load_state_dict({k: v.float() for k, v in load_file(cfg.vocoder.init).items()})
    gen_opt = torch.optim.AdamW(generator.parameters(), lr=cfg.vocoder.lr, betas=(0.8, 0.9))
    critic_opt = torch.optim.AdamW(critic.parameters(), lr=cfg.vocoder.lr, betas=(0.8, 0.9))
    mel_loss, gen_loss, critic_loss, match_loss = (
        MelSpecReconstructionLoss(), GeneratorLoss(), DiscriminatorLoss(), FeatureMatchingLoss(),
    )  # fmt: skip
    ema = {k: v.detach().clone() for k, v in generator.state_dict().items()}
    rng, started, saved, step, progress = random.Random(cfg.seed), time.monotonic(), time.monotonic(), 0, 0.0
    while progress < 1:
        progress = (time.monotonic() - started) / (60 * cfg.vocoder.minutes)
        for optimiser in (gen_opt, critic_opt):
            optimiser.param_groups[0]["lr"] = cfg.vocoder.lr * max(1 - progress, 0.02)
        audio = random_segments(clips, cfg.vocoder.batch, cfg.vocoder.frames, rng)
        generated = generator(get_vocos_mel_spectrogram(audio))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            real, fake, _, _ = critic(audio, generated.detach())
        loss_d = critic_loss([r.float() for r in real], [f.float() for f in fake])[0] / len(real)
        critic_opt.zero_grad()
        loss_d.backward()
        critic_opt.step()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            _, fake, maps_real, maps_fake = critic(audio, generated)
        adversarial = gen_loss([f.float() for f in fake])[0] / len(fake) + match_loss(maps_real, maps_fake) / len(fake)
        mel = mel_loss(generated, audio)
        loss_g = 45 * mel + spectral_loss(generated, audio) + (adversarial if step >= 200 else 0)
        gen_opt.zero_grad()
        loss_g.backward()
        torch.nn.utils.clip_grad_norm_(generator.parameters(), 10.0)
        gen_opt.step()
        with torch.no_grad():
            for name, value in generator.state_dict().items():
                ema[name].lerp_(value, 1 - min(0.999, (step + 1) / (step + 10)))
        if step % 50 == 0:
            log.info("vocoder step %d  %.0f s  mel %.4f  critic %.3f", step, time.monotonic() - started, mel, loss_d)
        step += 1
        if progress >= 1 or time.monotonic() - saved > 300:
            save_file({k: v.half().contiguous() for k, v in ema.items()}, out / "vocos.safetensors")
            saved = time.monotonic()
