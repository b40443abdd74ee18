"""Train the pocket model from nothing, or further from a checkpoint: `python -m experiments.pocket.train stage=all`.

Stages: `speech` (flite clips), `dit`, `vocoder`, `voices` (the reference clips), `all`. What makes so small a model
speak within an hour of two CPU cores is written in engine/pocket/MODEL_CARD.md.
"""

import logging
import math
import pickle
import random
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from f5_tts.model import CFM, DiT
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file, save_file

from engine.contract import ConfigError
from experiments.common.cli import EXIT_OK, run_verb
from experiments.pocket.data import Batch, BatchSettings, BatchSource, Clip, make_clip, speak_clips
from experiments.pocket.speech import HOP_SAMPLES, SAMPLE_RATE_HZ, TARGET_RMS, FliteVoice
from experiments.pocket.vocoder import Generator, train_vocoder
from experiments.settings.front import composed_file, is_help, show_help

log = logging.getLogger("train_pocket")
FRAMES_PER_CHAR = 7
STAGES = ("speech", "dit", "vocoder", "voices", "all")
HELP = f"""{__doc__}
Settings are written KEY=VALUE, keys as in conf/train_pocket.yaml.

examples:
  python -m experiments.pocket.train stage=all
  python -m experiments.pocket.train stage=dit dit.minutes=20 out=outputs/pocket

exit codes: 0 done, 2 usage or configuration, 130 interrupted
"""


def folded_vocabulary(vocab_path: Path) -> dict[str, int]:
    """Character -> row of the text embedding, upper case folded onto lower case (the rows are copied on export)."""
    lines = vocab_path.read_text(encoding="utf-8").split("\n")[:-1]
    index = {char: i for i, char in enumerate(lines)}
    return {char: index[char.lower()] for char in index}


def export_weights(state: dict[str, torch.Tensor], vocab_path: Path, path: Path) -> None:
    """float16 safetensors with upper-case embedding rows equal to lower-case ones, so that a plain vocabulary folds."""
    lines = vocab_path.read_text(encoding="utf-8").split("\n")[:-1]
    index = {char: i for i, char in enumerate(lines)}
    state = {name: tensor.detach().clone() for name, tensor in state.items() if not name.startswith("mel_spec.")}
    table = state["transformer.text_embed.text_embed.weight"]
    for char, i in index.items():
        table[i + 1] = table[index[char.lower()] + 1]  # row 0 is upstream's filler token
    half = {k: (v if k.endswith("inv_freq") else v.half()).contiguous() for k, v in state.items()}
    save_file(half, path)


def flow_loss(transformer: DiT, batch: Batch, rng: random.Random, drop: DictConfig) -> torch.Tensor:
    """Conditional flow matching loss on the target frames (F5-TTS, arXiv 2410.06885)."""
    x1 = batch.mel_BND
    x0 = torch.randn_like(x1)
    u = torch.rand(len(x1))
    skewed = torch.rand(len(x1)) < 0.7
    time_B = torch.where(skewed, 1 - torch.cos(torch.pi / 2 * u), u)  # the words are decided at small t
    t = time_B[:, None, None]
    target = batch.target_BN[..., None]
    cond = torch.where(target, torch.zeros_like(x1), x1)
    drop_cond = rng.random() < drop.audio
    drop_text = rng.random() < drop.both
    mask = torch.arange(x1.shape[1])[None] < batch.lengths_B[:, None]
    velocity = transformer(
        x=(1 - t) * x0 + t * x1, cond=cond, text=batch.text_BT, time=time_B, mask=mask,
        drop_audio_cond=drop_cond or drop_text, drop_text=drop_text,
    )  # fmt: skip
    error = (velocity.float() - (x1 - x0)) ** 2
    return error[batch.target_BN].mean()


def learning_rate(progress: float, step: int, peak: float, warmup_steps: int) -> float:
    return peak * min(1.0, (step + 1) / warmup_steps) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def average_gradients(model: torch.nn.Module, progress: float, rank: int, world: int) -> float:
    """Mean of the gradients over the processes, in one message; returns the first process's progress."""
    parameters = [p for p in model.parameters() if p.grad is not None]
    message = torch.cat([p.grad.flatten() for p in parameters] + [torch.tensor([progress if rank == 0 else 0.0])])
    dist.all_reduce(message)
    offset = 0
    for p in parameters:
        p.grad.copy_(message[offset : offset + p.numel()].view_as(p) / world)
        offset += p.numel()
    return float(message[-1])


def initial_model(cfg: DictConfig, char_to_id: dict[str, int]) -> CFM:
    model = CFM(
        transformer=DiT(**OmegaConf.to_container(cfg.arch), text_num_embeds=len(char_to_id), mel_dim=100),
        vocab_char_map=char_to_id,
    )
    if cfg.dit.init:
        state = {name: value.float() for name, value in load_file(cfg.dit.init).items()}
        model.load_state_dict({**model.state_dict(), **state})
    return model.train()


def train_dit(rank: int, cfg: DictConfig, clips: list[Clip], out: Path) -> None:
    """Train for cfg.dit.minutes of wall time; EMA weights are written every five minutes and at the end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    torch.manual_seed(cfg.seed + 10 * rank)
    world, vocab_path = cfg.dit.processes, Path(cfg.vocab)
    dist.init_process_group("gloo", init_method=f"file://{out.resolve()}/rendezvous", rank=rank, world_size=world)
    char_to_id = folded_vocabulary(vocab_path)
    model = initial_model(cfg, char_to_id)
    ema = {name: value.detach().clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.AdamW(model.parameters(), lr=cfg.dit.lr, betas=(0.9, 0.98), weight_decay=0.01)
    rng, settings = random.Random(cfg.seed + rank), BatchSettings(**cfg.dit.batch)
    started, saved, average, progress = time.monotonic(), time.monotonic(), None, 0.0
    for step, batch in enumerate(BatchSource(clips, char_to_id, settings, rng)):
        optimiser.param_groups[0]["lr"] = learning_rate(progress, step, cfg.dit.lr, 100)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = flow_loss(model.transformer, batch, rng, cfg.dit.drop)
        optimiser.zero_grad()
        loss.backward()
        progress = average_gradients(model, (time.monotonic() - started) / (60 * cfg.dit.minutes), rank, world)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        update_average(ema, model, min(cfg.dit.ema_decay, (step + 1) / (step + 10)))
        average = loss.item() if average is None else 0.98 * average + 0.02 * loss.item()
        if rank == 0 and step % 50 == 0:
            log.info("dit step %d  %.0f s  loss %.4f", step, time.monotonic() - started, average)
        if rank == 0 and (progress >= 1 or time.monotonic() - saved > 300):
            export_weights(ema, vocab_path, out / "dit.safetensors")
            saved = time.monotonic()
        if progress >= 1:
            return


@torch.no_grad()
def update_average(ema: dict[str, torch.Tensor], model: torch.nn.Module, decay: float) -> None:
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            ema[name].lerp_(value, 1 - decay)


def spoken_clips(cfg: DictConfig, work: Path) -> list[Clip]:
    """The clips of all voices; spoken once, kept in work/."""
    path = work / "clips.pickle"
    if not path.exists():
        chunk = cfg.speech.clips_per_voice // cfg.speech.processes
        jobs = [(v, chunk, cfg.seed + 100 * i) for i in range(cfg.speech.processes) for v in cfg.speech.voices]
        with ProcessPoolExecutor(cfg.speech.processes) as pool:
            clips = [clip for part in pool.map(speak_clips, *zip(*jobs, strict=True)) for clip in part]
        with path.open("wb") as file:
            pickle.dump(clips, file)
    with path.open("rb") as file:
        return pickle.load(file)


def write_voice(cfg: DictConfig, voice: str, out: Path) -> None:
    """A reference clip with the model's own timing: a warped sentence and its space, through the pocket vocoder."""
    generator = Generator(cfg).eval()
    state = {name: value.float() for name, value in load_file(cfg.voices.vocoder or out / "vocos.safetensors").items()}
    generator.load_state_dict(state)
    clip = make_clip(cfg.voices.text, voice, FliteVoice(voice).speak(cfg.voices.text))
    mel = clip.warped(FRAMES_PER_CHAR)
    mel = np.concatenate([mel, np.repeat(mel[-1:], FRAMES_PER_CHAR + 1, axis=0)])
    with torch.inference_mode():
        audio_S = generator(torch.from_numpy(np.ascontiguousarray(mel.T))[None])[0].numpy()
    audio_S = audio_S[: FRAMES_PER_CHAR * (len(cfg.voices.text) + 1) * HOP_SAMPLES]
    level = 1.001 * TARGET_RMS / np.sqrt(np.mean(audio_S**2))  # not under upstream's target, so it is not scaled
    soundfile.write(out / f"{voice}.wav", audio_S * level, SAMPLE_RATE_HZ, subtype="PCM_16")


def main(argv: Sequence[str]) -> int:
    if is_help(argv):
        show_help(HELP)
        return EXIT_OK
    cfg = composed_file("train_pocket", argv)
    if cfg.stage not in STAGES:
        raise ConfigError("stage", cfg.stage, f"must be one of {', '.join(STAGES)}", "use stage=all")
    train(cfg)
    return EXIT_OK


def train(cfg: DictConfig) -> None:
    """The stages that are asked for, into cfg.out."""
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(cfg.threads)
    torch.manual_seed(cfg.seed)
    out = Path(cfg.out)
    out.mkdir(parents=True, exist_ok=True)
    clips = spoken_clips(cfg, out) if cfg.stage != "voices" else []
    log.info("%d clips, %.1f hours", len(clips), sum(len(c.audio_S) for c in clips) / 24_000 / 3600)
    if cfg.stage in ("dit", "all"):
        (out / "rendezvous").unlink(missing_ok=True)
        mp.start_processes(train_dit, (cfg, clips, out), nprocs=cfg.dit.processes, start_method="fork")
    if cfg.stage in ("vocoder", "all"):
        train_vocoder(cfg, clips, out)
    if cfg.stage in ("voices", "all"):
        for voice in cfg.speech.voices:
            write_voice(cfg, voice, out)


if __name__ == "__main__":
    sys.exit(run_verb(main))
