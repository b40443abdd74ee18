"""The stage in its place: around an engine, in a stream, in configurations and names, in scores and tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.contract import ConfigError, EngineFacts, Synthesis, SynthesisRequest, UnsupportedEngine
from engine.enhance.enhanced import EnhancedEngine
from engine.enhance.stages import check_streamed
from experiments import stream
from experiments.measuring.engines import facts_content
from experiments.measuring.validate import refuse_cuts, validate
from experiments.scoring.audio import expected_samples
from experiments.scoring.sides import oracle_of
from experiments.settings.compose import compose_cells, compose_config, compose_run
from experiments.settings.reference import is_reference, reference_config
from metrics.fidelity.scores import score_pairs
from metrics.isolation import Limits
from metrics.record import Utterance
from metrics.speed.trials import speed_of
from tests.fakes import HOP, RATE_HZ, FakeClock, FakeEngine, facts, request
from tests.heard import heard, recorded
from tests.test_metrics_speed import a_trial

LIMITS = Limits(timeout_s=60, memory_bytes=1 << 32)


class Speaker(FakeEngine):
    """Says one sound, whatever is asked."""

    def __init__(self, audio_S: np.ndarray, clock: FakeClock | None = None):
        super().__init__(facts(), clock)
        self._audio_S = audio_S.astype(np.float32)

    def _one(self, request: SynthesisRequest) -> Synthesis:
        return replace(super()._one(request), audio_S=self._audio_S)


def around(inner: FakeEngine, name: str) -> EnhancedEngine:
    return EnhancedEngine(inner, compose_config([f"enhance={name}"])["enhance"], FakeClock())


def pause_of_two_seconds() -> np.ndarray:
    return np.concatenate([recorded("slt"), np.zeros(2 * RATE_HZ, np.float32), recorded("rms")])


def test_what_was_cut_is_counted_and_the_facts_say_what_was_done() -> None:
    sound_S = pause_of_two_seconds()
    with around(Speaker(sound_S), "adaptive_silence") as engine:
        one = engine.synthesize([request("a")])[0]
        built: EngineFacts = engine.facts
    assert len(sound_S) - len(one.audio_S) == one.num_cut_samples
    assert one.num_cut_samples == pytest.approx(1.3 * RATE_HZ, rel=0.3)
    assert built.enhance == {"name": "adaptive_silence", "adaptive_silence": {"longest_pause_s": 0.7, "edge_s": 0.1}}
    assert built.proof["enhance_cut_samples"] == one.num_cut_samples
    assert "enhance" in facts_content(built)
    assert "enhance" not in facts_content(facts())


def test_the_stage_is_timed_by_itself() -> None:
    class Ticking(FakeClock):
        def now_s(self) -> float:
            self.t_s += 0.5
            return super().now_s()

    engine = EnhancedEngine(Speaker(recorded()), compose_config(["enhance=deess"])["enhance"], Ticking())
    stages = engine.synthesize([request("a")])[0].stages
    assert (stages.enhance_s, stages.denoise_s) == (0.5, 0.2)
    shares = speed_of([replace(a_trial(), enhance_s=1.0)]).stages
    assert shares is not None
    assert shares.enhance_frac == pytest.approx(0.5)
    assert shares.denoise_frac == pytest.approx(0.3)


@pytest.mark.parametrize("name", ["adaptive_silence", "deess"])
def test_a_stream_says_what_the_call_says_bit_for_bit(name: str) -> None:
    engine = around(Speaker(pause_of_two_seconds()), name)
    whole = engine.synthesize([request("a")])[0]
    blocks = list(engine.stream(request("a")))
    assert np.concatenate([block.audio_S for block in blocks]).tobytes() == whole.audio_S.tobytes()
    assert sum(block.num_evals for block in blocks) == 2 * (whole.num_evals // 2)
    assert len(blocks) > 1


@pytest.mark.parametrize("name", ["denoise", "upstream_silence", "chain"])
def test_what_needs_the_whole_cannot_be_streamed_and_says_why(name: str) -> None:
    with pytest.raises(UnsupportedEngine, match=r"cannot be streamed: .*; stream with enhance=adaptive_silence"):
        next(iter(around(Speaker(recorded()), name).stream(request("a"))))
    with pytest.raises(UnsupportedEngine, match="cannot be streamed"):
        check_streamed(compose_config([f"enhance={name}"]))


def test_the_stream_verb_refuses_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedEngine, match="denoise cannot be streamed"):
        stream.main(["enhance=denoise", f"out={tmp_path}"])
    assert list(tmp_path.iterdir()) == []


def test_sound_that_is_not_finite_is_refused_and_no_sound_stays_none() -> None:
    broken_S = recorded().copy()
    broken_S[100:103] = np.nan
    with pytest.raises(ValueError, match=r"^3 of \d+ samples of a are not finite before enhance=deess; see with enh"):
        around(Speaker(broken_S), "deess").synthesize([request("a")])
    with pytest.raises(ValueError, match="not finite"):
        list(around(Speaker(broken_S), "deess").stream(request("a")))
    assert len(around(Speaker(np.zeros(0)), "chain").synthesize([request("a")])[0].audio_S) == 0


def test_none_leaves_no_trace_and_any_other_form_is_in_the_name() -> None:
    plain = compose_run(["engine=int8"])
    assert "enhance" not in plain.config
    assert compose_run(["engine=int8", "enhance=none"]).config == plain.config
    assert compose_run(["engine=int8", "enhance=chain"]).label == "int8-euler_7-enhance=chain"
    labels = [cell.label for cell in compose_cells(["engine=int8", "enhance=none,denoise"])]
    assert labels == ["int8-euler_7-enhance=none", "int8-euler_7-enhance=denoise"]


def test_a_form_that_a_preset_sets_is_in_the_name_too(tmp_path: Path) -> None:
    from experiments.common.presets import config_dir

    (tmp_path / "experiment").mkdir()
    lines = "# @package _global_\ndefaults:\n  - override /enhance: deess\n"
    (tmp_path / "experiment" / "soft.yaml").write_text(lines, encoding="utf-8")
    with config_dir(tmp_path):
        assert compose_run(["experiment=soft"]).label == "fp32-euler_7-enhance=deess"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("enhance=echo", "enhance=echo: choose one of adaptive_silence, chain, deess, denoise, none, upstream_silence"),
        ("enhance.adaptive_silence.longest_pause_s=0.1", "enhance.adaptive_silence.longest_pause_s=0.1: must be a num"),
        ("enhance.adaptive_silence.edge_s=-1", "enhance.adaptive_silence.edge_s=-1: must be a number from 0"),
        ("+enhance.reverb=1", "enhance.reverb=1: no such key; known here: enhance.adaptive_silence"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(override: str, says: str) -> None:
    with pytest.raises(ConfigError, match=f"^{says}"):
        validate(compose_config(["enhance=adaptive_silence", override]), check_texts=False)


def test_where_answers_are_checked_by_their_length_nothing_may_be_cut() -> None:
    with pytest.raises(ConfigError, match=r"^enhance=adaptive_silence: shortens audio, and a comparison"):
        refuse_cuts(compose_config(["enhance=chain"]), "a comparison")
    refuse_cuts(compose_config(["enhance=denoise"]), "a comparison")


def test_quality_is_compared_with_sound_that_nothing_was_done_to() -> None:
    done = compose_run(["engine=fp32", "solver=euler_32", "enhance=denoise"])
    bare = compose_run(["engine=fp32", "solver=euler_32"])
    assert reference_config(done.config) == reference_config(bare.config)
    assert (is_reference(done.config), is_reference(bare.config)) == (False, True)
    int8 = compose_run(["engine=int8", "solver=euler_32", "enhance=denoise"])
    assert oracle_of([bare, done], int8) is done  # how exactly an engine computes: with the same done to both


def test_a_length_that_was_cut_is_still_checked() -> None:
    config: Any = compose_config([])
    utterance = Utterance(
        utterance_id="a", category="", text="", sample_rate_hz=RATE_HZ, num_samples=0, num_frames=101, num_chunks=1,
        noise_sha256=None, audio_sha256="", audio_path="", mel_path="", num_cut_samples=500,
    )  # fmt: skip
    assert expected_samples(utterance, config) == 100 * HOP - 500


def test_a_pair_of_which_one_was_cut_has_its_mels_compared_and_says_why_nothing_else_is() -> None:
    sound_S = recorded()
    mel_ND = np.zeros((len(sound_S) // HOP + 1, 100), np.float32)
    frames = {"num_frames": len(mel_ND)}
    cut = heard(sound_S[:-4800], mel_ND=mel_ND + 0.25, num_cut_samples=4800, **frames)
    scores = score_pairs([(cut, heard(sound_S, mel_ND=mel_ND, **frames))], "reference", ["log_mel", "snr"], LIMITS)
    by_name = {score.metric: score for score in scores}
    assert by_name["log_mel_mae_vs_reference"].value == pytest.approx(0.25)
    assert by_name["snr_vs_reference_db"].status == "not_comparable"
    assert "silence was taken out (4800 samples here, 0 there)" in str(by_name["snr_vs_reference_db"].reason)
    shorter = heard(sound_S[:-4800], mel_ND=mel_ND, **frames)  # shorter, and nobody says why
    unsaid = score_pairs([(shorter, heard(sound_S, mel_ND=mel_ND, **frames))], "reference", ["log_mel"], LIMITS)
    assert unsaid[0].status == "not_comparable"
