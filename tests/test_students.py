"""Students: what they are taught, that stopping changes nothing, what is refused, and that what is left can speak."""

import errno
import itertools
import json
import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import yaml

from engine import paths
from engine.build import build_engine
from engine.clock import HostClock
from engine.contract import ConfigError
from engine.paths import ROOT
from engine.weights.checkpoint import check_header, content_sha256, load_model, locate
from engine.weights.compact import compact, expanded
from experiments.common.cli import EXIT_JOB_FAILED, EXIT_OK, EXIT_USAGE, run_verb
from experiments.students import __main__ as verb
from experiments.students import teaching
from experiments.students.course import Course
from experiments.students.depth import drop_blocks
from experiments.students.lessons import Path as Walk
from experiments.students.lessons import inner_times, taught_velocity, times_of
from experiments.students.material import texts_of, voices_of
from experiments.students.network import Given, guided_velocity, network, velocity
from experiments.students.settings import RECIPE, Recipe
from experiments.students.teaching import held_out_states
from experiments.workload.texts import select_lines
from metrics.models.intelligibility import ClosedVocabularyRecogniser
from metrics.models.words import corpus_wer, word_error
from tests.engines import config, request

TINY = (
    "model=f5tts_v1_base_random", "model.vocab=engine/pocket/vocab.txt", "vocoder=vocos_random", "workload.limit=2",
    "model.arch={dim: 64, depth: 2, heads: 1, dim_head: 64, ff_mult: 2, text_dim: 32, conv_layers: 1}",
)  # fmt: skip
SHORT = (
    "recipe.updates=3", "recipe.every=1", "recipe.held_out=1", "recipe.prompts=0", "recipe.paths=1",
    "recipe.longest_frames=300", "recipe.warmup_updates=1",
)  # fmt: skip


def distill(out: Path, *words: str) -> int:
    return run_verb(verb.main, [*TINY, *SHORT, f"out={out}", *words])


def recipe(*words: str) -> Recipe:
    return RECIPE.made([*SHORT, *words])


def course(*words: str) -> Course:
    mine, rest = RECIPE.split([*TINY, *SHORT, *words])
    return Course(config("solver=euler_32", "workload=en_all", *rest), RECIPE.made(mine))


def given(num_frames: int = 12) -> Given:
    return Given(
        text=torch.tensor([[1, 2, 3]]),
        cond=torch.zeros(1, num_frames, 4),
        weight=torch.ones(1, num_frames, 1),
        label="x",
    )


def test_the_teachers_guided_velocity_is_the_one_that_the_engine_samples_with() -> None:
    """Upstream's module, which is trained, and the rewritten step, which speaks, answer alike."""
    chosen = config("solver=euler_5")
    net = network(chosen["model"], load_model(chosen["model"])).eval()
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    asked = request("We leave in ten minutes.")
    with build_engine(chosen, HostClock()) as built:
        built.tap(lambda denoiser: Spy(denoiser, seen))  # type: ignore[attr-defined]
        built.synthesize([asked])
    here = Course(chosen, recipe())
    sentence = here._sentences([], iter(())).given(asked, asked.text)
    assert sentence is not None
    x, both = seen[0]
    conditional, unconditional = both.chunk(2)
    expected = torch.lerp(unconditional, conditional, 3.0)
    found = guided_velocity(net, sentence, x, 0.0, 2.0)
    assert torch.allclose(found, expected, atol=2e-3)
    assert torch.allclose(velocity(net, sentence, x, 0.0), conditional, atol=1e-3)


class Spy:
    """An engine.solver.sampler.Denoiser that keeps each state and both rows' answers."""

    def __init__(self, inner: object, seen: list):
        self._inner, self._seen = inner, seen

    @property
    def num_evals(self) -> int:
        return self._inner.num_evals  # type: ignore[attr-defined]

    def bind(self, conditioning: object) -> object:
        rows = self._inner.bind(conditioning)  # type: ignore[attr-defined]

        def kept(x: torch.Tensor, index: int, guided: bool) -> torch.Tensor:
            found = rows(x, index, guided)
            self._seen.append((x.clone(), found.clone()))
            return found

        return kept

    def proof(self) -> object:
        return self._inner.proof()  # type: ignore[attr-defined]


def test_one_step_of_a_few_step_student_ends_where_the_teachers_own_steps_end() -> None:
    def teacher(_: Given, x: torch.Tensor, t: float) -> torch.Tensor:
        return (1 + t) * x

    path = Walk(given(), torch.ones(1, 12, 4), (0.0, 0.3, 1.0), False, place=1)
    x, times = path.x, inner_times(0.3, 1.0, 8)
    assert times[0] == 0.3
    assert times[-1] == pytest.approx(1.0)
    assert all(a < b for a, b in itertools.pairwise(times))
    for start, end in itertools.pairwise(times):
        x = x + (end - start) * (1 + start) * x
    mean = taught_velocity(teacher, path, 8)
    assert torch.allclose(path.x + path.step * mean, x, atol=1e-5)
    assert torch.equal(taught_velocity(teacher, path, 1), 1.3 * path.x)


def test_paths_begin_at_noise_end_at_speech_and_never_go_back() -> None:
    rng = random.Random(0)
    for chosen in (recipe(), recipe("recipe=steps")):
        for _ in range(50):
            times = times_of(chosen, rng)
            assert (times[0], times[-1]) == (0.0, 1.0)
            assert all(a < b for a, b in itertools.pairwise(times))
            assert chosen.steps[0] <= len(times) - 1 <= chosen.steps[1]


def test_no_sentence_of_the_workload_is_taught() -> None:
    held = [line.text for line in select_lines({"texts": ["en_core", "en_heldout"], "select": None, "limit": None})]
    assert len(held) == 86
    source = texts_of(recipe(), held, random.Random(0))
    drawn = [next(source) for _ in range(2000)]
    spoken = {" ".join(text.lower().rstrip(".!?").split()) for text in drawn}
    assert not spoken & {" ".join(text.lower().rstrip(".!?").split()) for text in held}
    assert len(spoken) > 1500


def test_it_learns_leaves_a_model_that_speaks_and_says_what_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert distill(tmp_path / "a", "recipe.updates=12", "recipe.every=6", "recipe.lr=3e-3") == EXIT_OK
    said = capsys.readouterr().err
    assert "GiB" in said
    assert "an update takes about" in said
    lines = [json.loads(line) for line in (tmp_path / "a" / "teaching.jsonl").read_text("utf-8").splitlines()]
    assert [line["update"] for line in lines] == [6, 12]
    assert lines[-1]["held_out"] < float(said.split("held out: ")[1].split()[0])
    model = yaml.safe_load((tmp_path / "a" / "model" / "guided.yaml").read_text("utf-8"))
    student = model["student"]
    assert (student["teacher"], student["recipe"], student["taught_cfg_strength"]) == (
        "f5tts_v1_base_random", "guidance", 2.0,
    )  # fmt: skip
    check_header(model)
    chosen = {**config(*TINY, "solver.cfg_strength=0"), "model": model}
    with build_engine(chosen, HostClock()) as built:
        spoken = built.synthesize([request("We leave in ten minutes.")])[0]
        facts = built.facts
    assert spoken.num_evals == 7
    assert facts.student == student
    assert facts.weights_sha256 == content_sha256(tmp_path / "a" / "guided.safetensors")
    assert facts.proof["guided_evals"] == 0
    with pytest.raises(ConfigError, match=r"solver.cfg_strength.*one row.*use solver.cfg_strength=0"):
        build_engine({**chosen, "solver": config()["solver"]}, HostClock())


def test_stopping_and_going_on_gives_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert distill(tmp_path / "whole") == EXIT_OK
    learn = teaching.Pupil.learn

    def stopped(pupil: teaching.Pupil, *args: Sequence[object]) -> object:
        if pupil.update == 2:
            raise KeyboardInterrupt
        return learn(pupil, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(teaching.Pupil, "learn", stopped)
        assert distill(tmp_path / "parts") == 130
    assert distill(tmp_path / "parts") == EXIT_OK
    whole, parts = (content_sha256(tmp_path / name / "guided.safetensors") for name in ("whole", "parts"))
    assert whole == parts
    assert len((tmp_path / "parts" / "teaching.jsonl").read_text("utf-8").splitlines()) == 3
    assert distill(tmp_path / "parts", "recipe.lr=1e-4") == EXIT_USAGE, "a checkpoint goes on with its own recipe"


def test_blocks_that_change_nothing_go_first_and_the_student_is_smaller(tmp_path: Path) -> None:
    chosen = config(*TINY, "model.arch.depth=3")
    net = network(chosen["model"], load_model(chosen["model"])).eval()
    with torch.no_grad():
        for parameter in net.transformer_blocks[1].attn_norm.parameters():
            parameter.zero_()  # both gates are shut
    sentence = given()
    sentence = Given(text=sentence.text, cond=torch.zeros(1, 40, 100), weight=torch.ones(1, 40, 1), label="x")
    states = held_out_states(lambda g, x, t: velocity(net, g, x, t), [sentence], (0.0, 0.5, 1.0), 1)
    said: list[str] = []
    assert drop_blocks(net, states, 2, said.append) == (0, 2)
    assert said[0].startswith("block 1 goes: 0.000")
    assert distill(tmp_path, "recipe=depth", "recipe.blocks=1", "recipe.updates=1") == EXIT_OK
    model = yaml.safe_load((tmp_path / "model" / "small.yaml").read_text("utf-8"))
    assert model["arch"]["depth"] == 1
    check_header(model)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("model=e2tts_base_random",), EXIT_JOB_FAILED, "the teacher model=e2tts_base_random is a UNetT"),
        (("recipe.blocks=2",), EXIT_USAGE, "recipe.blocks=2: the teacher has 2 blocks; keep fewer"),
        (("recipe.steps=[9,3]",), EXIT_USAGE, "recipe.steps=[9, 3]: must be the fewest and the most"),
        (("recipe.lr=0",), EXIT_USAGE, "recipe.lr=0"),
        (("recipe.updats=2",), EXIT_USAGE, "did you mean recipe.updates?"),
        (("solver=guided_to_20_7",), EXIT_USAGE, "a student is taught one guidance at all times"),
        (("engine=bf16",), EXIT_USAGE, "engine=bf16: a student does not read it"),
    ],
)  # fmt: skip
def test_what_cannot_be_taught_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, said: str
) -> None:
    tiny = [word for word in TINY if not (words[0].startswith("model=") and word.startswith("model"))]
    assert run_verb(verb.main, [*tiny, *SHORT, f"out={tmp_path}", *words]) == code
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_a_folder_without_clips_is_refused_and_one_with_them_gives_voices_and_texts(tmp_path: Path) -> None:
    chosen = config(*TINY)
    with pytest.raises(ConfigError, match=r"recipe.data.*holds no metadata.csv"):
        voices_of(chosen, recipe(f"recipe.data={tmp_path}"))
    (tmp_path / "metadata.csv").write_text("audio_file|text\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"recipe.data.*has no clips"):
        voices_of(chosen, recipe(f"recipe.data={tmp_path}"))
    clip = Path("engine/pocket/slt.wav").resolve()
    (tmp_path / "metadata.csv").write_text(f"audio_file|text\n{clip}|We walk to the sea.\n", encoding="utf-8")
    folder = recipe(f"recipe.data={tmp_path}")
    assert [voice.ref_text.strip() for voice in voices_of(chosen, folder)] == ["We walk to the sea."]
    assert next(texts_of(folder, [], random.Random(0))) == "We walk to the sea."
    with pytest.raises(ConfigError, match="no sentence that the workload does not have"):
        texts_of(folder, ["We walk to the sea."], random.Random(0))


def test_a_loss_that_is_no_number_stops_with_its_update_and_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Course, sentence: Given, x: torch.Tensor, t: float) -> torch.Tensor:
        return torch.full_like(x, float("nan"))

    monkeypatch.setattr(Course, "teacher", broken)
    assert distill(tmp_path) == EXIT_JOB_FAILED
    error = capsys.readouterr().err
    assert "update 0: the loss is nan on '" in error
    assert "at t = 0.000; lower recipe.lr" in error
    assert not (tmp_path / "guided.safetensors").exists()


def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert distill(tmp_path, "recipe.updates=1") == EXIT_OK
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    (tmp_path / "guided.safetensors").unlink()
    assert distill(tmp_path, "recipe.updates=1") == EXIT_USAGE
    assert "the disk is full" in capsys.readouterr().err
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_compact_weights_lie_within_half_a_step_of_each_row() -> None:
    state = {"a.weight": torch.randn(5, 3, 7) * torch.tensor([1e-3, 1.0, 5.0, 0.0, 30.0]).view(-1, 1, 1),
             "a.bias": torch.randn(5), "b.scale": torch.randn(4)}  # fmt: skip
    found = expanded(compact(state))
    assert list(found) == list(state)
    step = state["a.weight"].abs().flatten(1).amax(1).view(-1, 1, 1) / 127
    assert bool(((found["a.weight"] - state["a.weight"]).abs() <= 0.6 * step + 1e-6).all())
    assert torch.equal(found["b.scale"], state["b.scale"].half())


def test_the_full_size_is_taught_by_the_same_command() -> None:
    """Two blocks of drawn weights, one update on a few frames."""
    wide = course("model.arch={dim: 1024, depth: 2, heads: 16, dim_head: 64, ff_mult: 2, text_dim: 512}")
    pupil = wide.pupil(Path("none"))
    sentence = wide._sentences([], iter(())).given(request("Go."), "Go.")
    assert sentence is not None
    path = Walk(sentence, torch.randn(sentence.cond.shape), (0.0, 1.0), by_student=True)
    before = taught_velocity(wide.teacher, path, 1)
    losses = [pupil.learn([path], [before])[0] for _ in range(2)]
    assert losses[1] != losses[0] > 0
    weights = sum(parameter.numel() for parameter in pupil.student.parameters())
    assert wide.cost().num_bytes > 24 * weights
    assert str(wide.cost()).startswith("an update takes about ")


def test_the_student_that_is_made_here_says_how_where_it_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    source = config("model=pocket_small")["model"]["checkpoint"]
    with pytest.raises(ConfigError, match=r"pocket_small.safetensors: no such file; `make students` teaches it"):
        locate("model.checkpoint", source)
    made = f"out={Path(source).parent}"
    recipe = next(line for line in (ROOT / "Makefile").read_text("utf-8").splitlines() if made in line)
    assert f"recipe.name={Path(source).stem}" in recipe, "the target makes the file that the preset reads"


def test_the_student_that_is_shipped_was_taught_by_the_model_that_is_shipped_and_is_understood() -> None:
    texts = [line.text for line in select_lines({"texts": "en_core", "select": None, "limit": None})]
    chosen = config("model=pocket_guided", "solver=euler_7")
    assert chosen["model"]["student"]["teacher_sha256"] == content_sha256(Path("engine/pocket/dit.safetensors"))
    assert chosen["solver"]["cfg_strength"] == 0
    recogniser, errors = ClosedVocabularyRecogniser(texts), []
    with build_engine(chosen, HostClock()) as speaker:
        for sentence in (texts[i] for i in (3, 10, 20, 21)):
            spoken = speaker.synthesize([request(sentence)])[0]
            errors.append(word_error(sentence, recogniser.transcribe(spoken.audio_S, spoken.sample_rate_hz)))
        proof = speaker.facts.proof
    assert corpus_wer(errors).wer_frac <= 0.25
    assert (proof["guided_evals"], proof["unguided_evals"]) == (0, 28)
