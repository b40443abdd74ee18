"""Spoken clips for the pocket model: natural audio and mel once, warped and joined on the fly."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from f5_tts.model.modules import get_vocos_mel_spectrogram
from torch.nn.utils.rnn import pad_sequence

from experiments.pocket.speech import HOP_SAMPLES, SAMPLE_RATE_HZ, FliteVoice, Speech, Token, warp_mel, warp_plan
from experiments.pocket.text import SentenceSource, words_of
from experiments.workload.texts import select_lines

FRAME_RATE_HZ = SAMPLE_RATE_HZ / HOP_SAMPLES
MAX_FRAMES = 1300


@dataclass(frozen=True, eq=False)
class Clip:
    """One spoken sentence. mel_ND float16 natural log-mel, audio_S float16."""

    text: str
    voice: str
    tokens: tuple[Token, ...]
    mel_ND: np.ndarray
    audio_S: np.ndarray

    def warped(self, frames_per_char: int) -> np.ndarray:
        plan = warp_plan(self.tokens, frames_per_char, FRAME_RATE_HZ)
        return warp_mel(self.mel_ND.astype(np.float32), plan)


def workload_texts(name: str) -> list[str]:
    return [line.text for line in select_lines({"texts": name, "select": None, "limit": None})]


def log_mel(audio_S: np.ndarray) -> np.ndarray:
    """float32 audio (S,) -> log-mel (N, 100), upstream's own transform."""
    wave = torch.from_numpy(np.ascontiguousarray(audio_S, dtype=np.float32))[None]
    return get_vocos_mel_spectrogram(wave)[0].T.numpy()


def make_clip(text: str, voice: str, speech: Speech) -> Clip:
    return Clip(
        text, voice, speech.tokens, log_mel(speech.audio_S).astype(np.float16), speech.audio_S.astype(np.float16)
    )


def speak_clips(voice: str, num_clips: int, seed: int) -> list[Clip]:
    """`num_clips` clips of one voice. Sentences that flite tokenises differently from the text are left out."""
    source = SentenceSource(
        workload_texts("en_core") + workload_texts("en_long"), workload_texts("en_heldout"), random.Random(seed)
    )
    flite, clips = FliteVoice(voice), []
    for text in source:
        if len(text) * 7 > MAX_FRAMES - 250:
            continue
        try:
            clips.append(make_clip(text, voice, flite.speak(text)))
        except ValueError:  # a token flite expands into several, an abbreviation for example
            continue
        if len(clips) == num_clips:
            return clips
    raise AssertionError("the sentence source is endless")


@dataclass(frozen=True, eq=False)
class Batch:
    """mel_BND float32 zero-padded, text_BT int64 padded with -1, lengths_B, and the frames to be generated (B, N)."""

    mel_BND: torch.Tensor
    text_BT: torch.Tensor
    lengths_B: torch.Tensor
    target_BN: torch.Tensor


@dataclass(frozen=True)
class BatchSettings:
    """frames: mel frames a batch; core_share: clips that use workload words only; joined_share: reference + target."""

    frames: int
    core_share: float
    joined_share: float


class BatchSource:
    """Endless batches of about `frames` frames: a clip, or a reference clip and a target of the same voice."""

    def __init__(self, clips: list[Clip], char_to_id: dict[str, int], settings: BatchSettings, rng: random.Random):
        self.rng, self.settings, self.char_to_id = rng, settings, char_to_id
        core = {word for name in ("en_core", "en_long") for text in workload_texts(name) for word in words_of(text)}
        self.clips: dict[tuple[str, bool], list[Clip]] = {}
        self.references: dict[str, list[Clip]] = {}
        for clip in clips:
            is_core = set(words_of(clip.text)) <= core
            self.clips.setdefault((clip.voice, is_core), []).append(clip)
            if 14 <= len(clip.text) <= 60:
                self.references.setdefault(clip.voice, []).append(clip)

    def _example(self) -> tuple[np.ndarray, str, int, int]:
        rng = self.rng
        voice = rng.choice(sorted(self.references))
        frames_per_char = rng.choices((7, 6, 8), weights=(0.9, 0.05, 0.05))[0]
        target = rng.choice(self.clips[voice, rng.random() < self.settings.core_share])
        mel, text, start = target.warped(frames_per_char), target.text, 0
        if rng.random() < self.settings.joined_share:
            reference = rng.choice(self.references[voice])
            silence = np.repeat(reference.warped(frames_per_char)[-1:], frames_per_char, axis=0)
            prompt = np.concatenate([reference.warped(frames_per_char), silence])
            mel, text, start = np.concatenate([prompt, mel]), f"{reference.text} {text}", len(prompt)
        end = len(mel)
        if start == 0 or rng.random() < 0.3:
            span = int(end * rng.uniform(0.7, 1.0))
            start = rng.randint(0, end - span)
            end = start + span
        return mel, text, start, end

    def __iter__(self) -> Iterator[Batch]:
        while True:
            pool = [e for e in (self._example() for _ in range(64)) if len(e[0]) <= MAX_FRAMES]
            pool.sort(key=lambda e: len(e[0]))
            groups: list[list[tuple[np.ndarray, str, int, int]]] = []
            group: list[tuple[np.ndarray, str, int, int]] = []
            for example in pool:
                if group and len(example[0]) * (len(group) + 1) > self.settings.frames:
                    groups.append(group)
                    group = []
                group.append(example)
            self.rng.shuffle(groups)
            for group in groups:
                yield self._collate(group)

    def _collate(self, group: list[tuple[np.ndarray, str, int, int]]) -> Batch:
        mels = [torch.from_numpy(mel) for mel, *_ in group]
        texts = [torch.tensor([self.char_to_id[c] for c in text]) for _, text, *_ in group]
        lengths = torch.tensor([len(mel) for mel in mels])
        frame = torch.arange(int(lengths.max()))
        target = torch.stack([(frame >= start) & (frame < end) for *_, start, end in group])
        return Batch(
            pad_sequence(mels, batch_first=True), pad_sequence(texts, True, -1), lengths, target
        )  # fmt: skip
