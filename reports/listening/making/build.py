"""`python -m reports.listening build RUN_A RUN_B`: runs in, one blind page and its key out."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metrics.record import write_atomically
from metrics.typed import part_of
from reports.listening.making.loudness import (
    Level,
    anchor,
    common_target_lufs,
    degraded,
    level_of,
    to_pcm,
)
from reports.listening.making.material import Material, load_material
from reports.listening.making.page import Names, masked_clip, render_page
from reports.listening.making.plan import ANCHOR, Plan, Role, Trial, Wish, make_plan
from reports.listening.study.rules import RULES
from reports.listening.study.settings import MAX_STIMULI, BuildSettings, ListeningError, bad_setting

SCHEMA_VERSION = 1
PAGE_FILE = "listening.html"
KEY_FILE = "key.json"
# Seconds beside the audio that an answer takes, to tell a listener how long it will be
ANSWER_S = {"ab": 12.0, "abx": 8.0, "ccr": 8.0, "dcr": 6.0, "mushra": 40.0}
HEARINGS = {"ab": 1.5, "abx": 1.5, "ccr": 1.2, "dcr": 1.2, "mushra": 2.5}


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """What a build left."""

    page: Path
    key: Path
    plan: Plan
    material: Material
    target_lufs: float
    minutes: int
    num_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """One clip of the page. num_padded: zeros added so that all clips of a sentence end together."""

    clip_id: str
    role: Role
    pcm_S: np.ndarray
    gain_db: float
    level: Level
    num_padded: int


def build_set(settings: BuildSettings) -> Built:
    """Raises ListeningError or RecordError, one line, where the runs or the settings do not do."""
    material = load_material(settings.runs)
    wish = _wish(settings, material)
    secret = secrets.token_hex(16) if settings.seed is None else f"seed {settings.seed}"
    rng = np.random.default_rng(list(hashlib.sha256(secret.encode()).digest()))
    plan = make_plan(wish, rng)
    versions, target_lufs = _versions(plan, material, rng)
    clips, of_trial = _clips(plan, versions, target_lufs, rng)
    order = [0, *(int(i) + 1 for i in rng.permutation(len(plan.trials) - 1))]
    ids = _opaque(len(plan.trials), rng)
    payload = _payload(settings, plan, material, clips, (order, ids, of_trial))
    digests = {clip.clip_id: hashlib.sha256(clip.pcm_S.tobytes()).hexdigest() for clip in clips}
    key = {**_key(settings, wish, plan, material, clips, (ids, of_trial)), "secret": secret}
    names = Names(_names(material))
    payload, key_text = _committed({**payload, "digests": digests}, key, names)
    masked = [masked_clip(clip.clip_id, clip.pcm_S, names, rng) for clip in clips]
    page = render_page(payload, [masked[i] for i in rng.permutation(len(masked))], names)
    _write(settings.out, page, key_text)
    return Built(
        page=settings.out / PAGE_FILE,
        key=settings.out / KEY_FILE,
        plan=plan,
        material=material,
        target_lufs=target_lufs,
        minutes=payload["minutes"],
        num_bytes=len(page.encode()),
    )


def _wish(settings: BuildSettings, material: Material) -> Wish:
    reference = settings.reference or material.names[0]
    if reference not in material.names:
        allowed = f"must be one of {', '.join(material.names)}"
        raise bad_setting("reference", reference, allowed, "leave it out for the first run")
    num_stimuli = len(material.names) + 2
    if settings.method == "mushra" and num_stimuli > MAX_STIMULI:
        raise ListeningError(f"method=mushra: {num_stimuli} clips on a screen, at most {MAX_STIMULI}; give fewer runs")
    return Wish(
        method=settings.method,
        systems=material.names,
        sentences=tuple((sentence.utterance_id, sentence.category) for sentence in material.sentences),
        num_pairs=settings.num_pairs,
        reference=reference,
    )


def _versions(
    plan: Plan, material: Material, rng: np.random.Generator
) -> tuple[dict[Role, tuple[np.ndarray, Level, int]], float]:
    """Role -> ((S,) float32 padded, its level, samples padded), and the loudness that all of them can have."""
    sentences = {sentence.utterance_id: sentence for sentence in material.sentences}
    found: dict[Role, tuple[np.ndarray, Level, int]] = {}
    for role in dict.fromkeys(role for trial in plan.trials for role in trial.roles):
        sentence = sentences[role.utterance_id]
        audio_S = sentence.audio[role.system]
        if role.treatment is not None:
            rate_hz = material.rate_hz
            audio_S = anchor(audio_S, rate_hz) if role.treatment == ANCHOR else degraded(audio_S, rate_hz, rng)
        # Level of the clip as it was made: silence added at the end would not change a gated level, but a short one's
        level = level_of(audio_S, material.rate_hz)
        if not np.isfinite(level.loudness_lufs):
            raise ListeningError(f"sentence {role.utterance_id} by {role.system}: too quiet to have a loudness")
        num_padded = max(audio.size for audio in sentence.audio.values()) - audio_S.size
        found[role] = np.pad(audio_S, (0, num_padded)), level, num_padded
    return found, common_target_lufs([level for _, level, _ in found.values()])


def _clips(
    plan: Plan,
    versions: Mapping[Role, tuple[np.ndarray, Level, int]],
    target_lufs: float,
    rng: np.random.Generator,
) -> tuple[list[Clip], list[list[str]]]:
    """Every trial has clips of its own, so that the page does not say which are equal; a repeat has its original's."""
    clips: list[Clip] = []
    of_trial: list[list[str]] = []
    ids = iter(_opaque(sum(len(trial.roles) for trial in plan.trials), rng))
    for trial in plan.trials:
        if trial.of is not None:
            of_trial.append(of_trial[trial.of])
            continue
        own = []
        for role in trial.roles:
            audio_S, level, num_padded = versions[role]
            gain_db = target_lufs - level.loudness_lufs
            clip = Clip(
                clip_id=next(ids),
                role=role,
                pcm_S=to_pcm(audio_S, gain_db),
                gain_db=gain_db,
                level=level,
                num_padded=num_padded,
            )
            own.append(clip.clip_id)
            clips.append(clip)
        of_trial.append(own)
    return clips, of_trial


def _payload(
    settings: BuildSettings,
    plan: Plan,
    material: Material,
    clips: Sequence[Clip],
    layout: tuple[list[int], list[str], list[list[str]]],
) -> dict[str, Any]:
    """What the page's script reads. Trials lie in an order that means nothing, and so do the clips of each."""
    order, ids, of_trial = layout
    texts = {sentence.utterance_id: sentence.text for sentence in material.sentences}
    lengths = {clip.clip_id: clip.pcm_S.size for clip in clips}
    trials, places = [], {}
    for index in order:
        trial, own = plan.trials[index], of_trial[index]
        # By opaque id: unlike the plan's order it says nothing about who speaks
        shuffled = [*own[: plan.num_fixed], *sorted(own[plan.num_fixed :])]
        places[index] = [shuffled.index(clip_id) for clip_id in own]
        text = texts[trial.utterance_id] if settings.is_text_shown else None
        trials.append({"id": ids[index], "text": text, "clips": shuffled})
    schedules = [
        [[order.index(turn.trial), [places[turn.trial][p] for p in turn.order], turn.x] for turn in schedule]
        for schedule in plan.schedules
    ]
    audio_s = sum(lengths[clip_id] for own in of_trial for clip_id in own) / material.rate_hz
    total_s = audio_s * HEARINGS[plan.method] + ANSWER_S[plan.method] * len(plan.trials)
    return {
        "schema_version": SCHEMA_VERSION,
        "method": plan.method,
        "title": settings.title,
        "rate_hz": material.rate_hz,
        "num_fixed": plan.num_fixed,
        "num_practice": 1,
        "minutes": max(1, round(total_s / 60)),
        "min_heard_frac": RULES["min_heard_frac"],
        "trials": trials,
        "schedules": schedules,
    }


def _key(
    settings: BuildSettings,
    wish: Wish,
    plan: Plan,
    material: Material,
    clips: Sequence[Clip],
    layout: tuple[list[str], list[list[str]]],
) -> dict[str, Any]:
    """What unblinds: who made which clip, what each trial was for, and the rules fixed before anybody listened."""
    ids, of_trial = layout
    out = settings.out.resolve()
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "listening-key",
        "method": plan.method,
        "reference": wish.reference if plan.num_fixed else None,
        "systems": [
            {
                "name": system.name,
                "label": system.record.label,
                "run_id": system.record.run_id,
                "folder": os.path.relpath(system.folder.resolve(), out),
            }
            for system in material.systems
        ],
        "trials": {
            ids[i]: {
                "kind": trial.kind,
                "utterance_id": trial.utterance_id,
                "clips": of_trial[i],
                "of": ids[trial.of] if trial.of is not None else None,
            }
            for i, trial in enumerate(plan.trials)
        },
        "clips": {clip.clip_id: _clip_entry(clip, material.rate_hz) for clip in clips},
        "dropped": dict(material.dropped),
        "rules": RULES,
    }


def _clip_entry(clip: Clip, rate_hz: int) -> dict[str, Any]:
    entry = {"gain_db": round(clip.gain_db, 3), **asdict(clip.role), **asdict(clip.level)}
    return {**entry, "duration_s": clip.pcm_S.size / rate_hz, "num_padded_samples": clip.num_padded}


def _committed(content: Mapping[str, object], key: Mapping[str, object], names: Names) -> tuple[dict[str, Any], str]:
    """The page's payload with both hashes, and the key file's text.

    Drawn again in the rare case that a hash spells a name (bf16 is made of hexadecimal digits).
    """
    payload = {name: value for name, value in content.items() if name != "digests"}
    for draw in itertools.count():
        set_sha256 = hashlib.sha256(json.dumps([content, draw], sort_keys=True).encode()).hexdigest()
        key_text = json.dumps({**key, "draw": draw, "set_sha256": set_sha256}, allow_nan=False, indent=1) + "\n"
        key_sha256 = hashlib.sha256(key_text.encode()).hexdigest()
        if names.found_in(f"{set_sha256} {key_sha256}") is None:
            return {**payload, "set_sha256": set_sha256, "key_sha256": key_sha256}, key_text
    raise AssertionError("a count has no end")


def _names(material: Material) -> set[str]:
    """Labels, their parts, and what the configurations call the parts of each run."""
    names: set[str] = set()
    for system in material.systems:
        record = system.record
        names |= {system.name, record.label, record.run_id, *record.label.split("-")}
        engine, solver = (part_of(record.config, group) for group in ("engine", "solver"))
        names |= {str(group.get("name") or "") for group in (engine, solver)} | {str(solver.get("method") or "")}
        names |= {str((record.facts or {}).get(fact) or "") for fact in ("name", "precision", "solver", "denoiser")}
    return {name for name in names if len(name) > 1}


def _opaque(number: int, rng: np.random.Generator) -> list[str]:
    """Different ids of eight letters without a vowel, so that none is a word."""
    letters = np.array(list("bcdfghjkmnpqrstvwxz"))
    ids: dict[str, None] = {}
    while len(ids) < number:
        ids["".join(rng.choice(letters, 8))] = None
    return list(ids)


def _write(out: Path, page: str, key_text: str) -> None:
    """A set that listeners have begun is not overwritten: their answers would not fit any more."""
    if (out / KEY_FILE).exists():
        raise bad_setting("out", out, "holds a listening set already", "give another folder, or delete it")
    write_atomically(out / PAGE_FILE, page)
    write_atomically(out / KEY_FILE, key_text)


def trials_by_kind(trials: Sequence[Trial]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for trial in trials:
        counts[trial.kind] = counts.get(trial.kind, 0) + 1
    return counts
