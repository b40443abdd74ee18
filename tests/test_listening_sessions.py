"""Whose answers they are: full disks, torn journals, two people of one name, one session in several files; and what a
collection may print and end with."""

import itertools
import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.listening.__main__ import main
from reports.listening.judging.collect import collect
from reports.listening.judging.inference import clustered_mean
from reports.listening.judging.results import Key, Loaded, load_key, load_listeners
from reports.listening.making.build import build_set
from reports.listening.serve import AnswerBook, Refused
from reports.listening.study.settings import BuildSettings
from tests.listening_runs import answered, two_runs, who_likes

A, B = "fp32-euler_7", "int8-euler_7"
ID = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("sessions")
    runs = tuple(two_runs(base / "runs", 3, 0.2))
    return build_set(BuildSettings(runs=runs, out=base / "set", num_pairs=3, seed=1)).page.parent


@pytest.fixture(scope="module")
def key(made: Path) -> Key:
    return load_key(made / "key.json")


def result(made: Path, name: str, liked: str, started: str | None, **more: Any) -> dict[str, Any]:
    found = answered(made, name, who_likes(liked))
    for answer in found["answers"]:
        answer["given"] = started
    return {**found, "schedule": 0, **({"started": started} if started else {}), **more}


def journal_lines(found: dict[str, Any]) -> list[str]:
    head = {name: value for name, value in found.items() if name not in ("answers", "kind")}
    return [json.dumps({**head, "kind": "answer", "answer": answer}) for answer in found["answers"]]


def save(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def counted(loaded: Loaded) -> dict[str, int]:
    return {listener.name: len(listener.answers) for listener in loaded.listeners}


def test_a_journal_that_is_torn_or_fused_gives_back_every_whole_answer(made: Path, key: Key, tmp_path: Path) -> None:
    lines = journal_lines(result(made, "dora", A, "2026-11-27T10:00:00Z"))
    cut = save(tmp_path, "cut.jsonl", "\n".join([*lines[:-1], lines[-1][:200]]))
    fused = save(tmp_path, "fused.jsonl", "\n".join([*lines[:2], lines[2][:150] + lines[3], *lines[4:]]) + "\n")
    for path, number in ((cut, len(lines)), (fused, 3)):
        loaded = load_listeners([path], key)
        assert counted(loaded) == {"dora": len(lines) - 1}
        assert loaded.notes == (f"{path.name}: line {number} is torn; every whole answer is kept",)


@given(cut=st.integers(min_value=0))
@settings(deadline=None, max_examples=40)
def test_cut_anywhere_and_gone_on_with_no_answer_is_lost_or_made_up(
    made: Path, key: Key, tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    found = result(made, "dora", A, "2026-11-27T10:00:00Z", result_id=ID)
    lines = [line.encode() for line in journal_lines(found)]
    content = b"\n".join(lines) + b"\n"
    folder = tmp_path_factory.mktemp("cut")
    book = AnswerBook(folder, key)
    path = book.write(lines[0])
    path.write_bytes(content[: cut % (len(content) + 1)])
    num_whole = sum(len(path.read_bytes()) >= end for end in itertools.accumulate(len(line) + 1 for line in lines))
    book.write(lines[-1])  # a server that was started again
    (listener,) = load_listeners([path], key).listeners
    whole = {answer["trial"] for answer in found["answers"][:num_whole]} | {found["answers"][-1]["trial"]}
    assert {answer.trial for answer in listener.answers} >= whole
    assert len(listener.answers) - len(whole) <= 1, "an entry without its line break is whole"


def test_an_answer_that_meets_a_full_disk_leaves_room_for_the_next(made: Path, key: Key, tmp_path: Path) -> None:
    book = AnswerBook(tmp_path, key)
    lines = [line.encode() for line in journal_lines(result(made, "dora", A, "2026-11-27T10:00:00Z", result_id=ID))]
    path = book.write(lines[0])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            book.write(lines[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    for line in lines[1:]:
        book.write(line)
    loaded = load_listeners([path], key)
    assert (counted(loaded), loaded.notes) == ({"dora": len(lines)}, ())


def test_a_journal_without_a_whole_answer_holds_nobody_up(made: Path, key: Key, tmp_path: Path) -> None:
    good = save(tmp_path, "good.json", result(made, "eve", A, "2026-11-27T10:00:00Z"))
    for content in ("", journal_lines(result(made, "dora", A, None))[0][:90]):
        torn = save(tmp_path, "torn.jsonl", content)
        loaded = load_listeners([torn, good], key)
        assert list(counted(loaded)) == ["eve"]
        assert loaded.notes == ("torn.jsonl: holds no whole answer",)


@pytest.mark.parametrize("with_ids", [False, True])
def test_two_people_of_one_name_are_two_listeners_in_any_order(
    made: Path, key: Key, tmp_path: Path, with_ids: bool
) -> None:
    days = ("2026-11-27T10:00:00Z", "2026-11-28T18:30:00Z")
    ids = [{"result_id": letter * 32} if with_ids else {} for letter in "ab"]
    paths = [
        save(tmp_path, f"anna_{i}.json", result(made, "anna", (A, B)[i], day, **ids[i])) for i, day in enumerate(days)
    ]
    loaded = load_listeners(paths, key)
    assert load_listeners(paths[::-1], key).listeners == loaded.listeners
    one, other = loaded.listeners
    assert one.result_id != other.result_id
    assert one.name == f"anna ({one.result_id[:8]})"
    assert other.name == f"anna ({other.result_id[:8]})"
    assert loaded.notes == ("2 listeners are called anna: counted as 2 people",)


def test_both_votes_of_two_namesakes_stand_in_the_verdict(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [save(tmp_path, f"anna_{i}.json", result(made, "anna", (A, B)[i], f"2026-11-2{i}")) for i in range(2)]
    texts = []
    for order in (paths, paths[::-1]):
        main(["collect", str(made), *map(str, order), f"out={tmp_path / 'out'}"])
        assert "note: 2 listeners are called anna" in capsys.readouterr().err
        texts.append((tmp_path / "out/verdict.json").read_text())
    verdict = json.loads(texts[0])
    assert texts[0] == texts[1]
    assert len({listener["result_id"] for listener in verdict["listeners"]}) == 2
    assert verdict["everybody"]["comparisons"][0]["estimate"]["num_listeners"] == 2


def test_people_without_any_start_are_told_apart_by_what_they_said(made: Path, key: Key, tmp_path: Path) -> None:
    one = save(tmp_path, "one.json", result(made, "anna", A, None))
    other = save(tmp_path, "other.json", result(made, "anna", B, None))
    copy = save(tmp_path, "third.json", result(made, "anna", A, None))
    loaded = load_listeners([one, other, copy], key)
    assert len(loaded.listeners) == 2
    assert loaded.notes[0] == "third.json: the same as one.json, counted once"


def test_the_same_start_and_other_answers_are_two_people_and_said(made: Path, key: Key, tmp_path: Path) -> None:
    day = "2026-11-27T10:00:00Z"
    paths = [save(tmp_path, f"{i}.json", result(made, "anna", (A, B)[i], day)) for i in range(2)]
    loaded = load_listeners(paths, key)
    assert len(loaded.listeners) == 2
    assert "answer differently: counted as 2 people" in loaded.notes[0]


@pytest.mark.parametrize("more", [{}, {"result_id": ID}])
def test_one_session_in_a_journal_and_a_download_is_one_listener_with_all_of_it(
    made: Path, key: Key, tmp_path: Path, more: dict[str, str]
) -> None:
    found = result(made, "anna", A, "2026-11-27T10:00:00Z", **more)
    lines = journal_lines(found)
    later = dict(
        found["answers"][0], given="2026-11-27T11:00:00Z", response={**found["answers"][0]["response"], "rating_a": 4}
    )
    changed = json.dumps({**json.loads(lines[0]), "answer": later})
    journal = save(tmp_path, "anna.jsonl", "\n".join([*lines[2:], changed]) + "\n")
    early = save(tmp_path, "anna.json", {**found, "answers": found["answers"][:2]})
    for paths in ([journal, early], [early, journal]):
        loaded = load_listeners(paths, key)
        assert counted(loaded) == {"anna": len(lines)}
        assert loaded.listeners[0].answers[0].response["rating_a"] == 4
        (note,) = loaded.notes
        assert note == "anna.json and anna.jsonl: one session of anna, counted once; screen 1 as answered last"


def test_an_id_under_two_names_and_one_that_is_no_id_are_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [save(tmp_path, f"{name}.json", result(made, name, A, "now", result_id=ID)) for name in ("ann", "bob")]
    bad = save(tmp_path, "bad.json", result(made, "ann", A, "now", result_id="../x"))
    for files, words in ((paths, "under another name (ann, bob)"), ([bad], "result_id '../x'")):
        assert main(["collect", str(made), *map(str, files)]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert len(error.splitlines()) == 1


def test_the_server_keeps_sessions_of_one_name_apart(made: Path, key: Key, tmp_path: Path) -> None:
    book = AnswerBook(tmp_path, key)
    for letter in "ab":
        line = journal_lines(result(made, "anna", A, "now", result_id=letter * 32))[0]
        book.write(line.encode())
    old = json.loads(journal_lines(result(made, "anna", A, "now"))[0])
    book.write(json.dumps(old).encode())
    assert len(list(tmp_path.glob("anna-*.jsonl"))) == 3
    with pytest.raises(Refused, match="no result id"):
        book.write(json.dumps({**old, "result_id": 5}).encode())


def test_a_journal_of_old_in_which_two_people_of_one_name_wrote_is_two_listeners(
    made: Path, key: Key, tmp_path: Path
) -> None:
    both = [journal_lines(result(made, "anna", who, day)) for who, day in ((A, "2026-11-27"), (B, "2026-11-28"))]
    mixed = [line for pair in zip(*both, strict=True) for line in pair]
    loaded = load_listeners([save(tmp_path, "anna.jsonl", "\n".join(mixed))], key)
    assert sorted(counted(loaded).values()) == [len(both[0])] * 2


def test_what_a_file_is_does_not_hang_on_its_name(made: Path, key: Key, tmp_path: Path) -> None:
    found = result(made, "anna", A, "2026-11-27T10:00:00Z")
    lines = journal_lines(found)
    for name, content in (("a.json", "\n".join(lines)), ("b.jsonl", json.dumps(found, indent=1)), ("c", lines[0])):
        assert list(counted(load_listeners([save(tmp_path, name, content)], key))) == ["anna"]


NO_RESULTS: dict[str, Any] = {
    "text": "hello", "another": {"kind": "listening-key"}, "list": [1], "deep": "[" * 9999, "empty": "",
    "record": '{"kind": "trial"}\n{"kind": "end"}', "nan": '{"kind": "listening-result", "num_turns": NaN}',
    "download cut": '{"kind": "listening-result",\n "answers": [\n  {"trial": "x"',
}  # fmt: skip


@pytest.mark.parametrize("name", NO_RESULTS)
def test_what_is_no_result_is_one_line(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = save(tmp_path, "x.json", NO_RESULTS[name])
    assert main(["collect", str(made), str(path)]) == 2
    error = capsys.readouterr().err
    assert "x.json: not a result" in error
    assert len(error.splitlines()) == 1


@given(
    data=st.data(), scale=st.sampled_from([(1.0, 5.0), (0.0, 1.0), (-3.0, 3.0), (0.0, 100.0)]),
    shape=st.tuples(st.integers(2, 5), st.integers(1, 4)),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_no_interval_leaves_its_scale_and_only_the_ends_are_cut(
    data: st.DataObject, scale: tuple[float, float], shape: tuple[int, int]
) -> None:
    number = shape[0] * shape[1]
    values = np.array(data.draw(st.lists(st.sampled_from(scale) | st.floats(*scale), min_size=number, max_size=number)))
    sentences = [f"s{i % shape[0]}" for i in range(number)]
    listeners = [f"l{i // shape[0]}" for i in range(number)]
    cut = clustered_mean(values, sentences, listeners, 0.0, 0.95, scale)
    free = clustered_mean(values, sentences, listeners, 0.0)
    assert cut.low is not None
    assert free.low is not None
    assert free.high is not None
    assert (cut.low, cut.high) == (max(scale[0], free.low), min(scale[1], free.high))
    assert (cut.mean, cut.p_value) == (free.mean, free.p_value)
    with pytest.raises(ValueError, match="on a scale"):
        clustered_mean([scale[1] + 1, *values[1:]], sentences, listeners, 0.0, 0.95, scale)  # type: ignore[arg-type]


def test_a_wide_interval_of_opinions_ends_at_the_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tuple(two_runs(tmp_path / "runs", 3, 0.2))
    folder = build_set(BuildSettings(runs=runs, out=tmp_path / "set", method="dcr", num_pairs=3, seed=1)).page.parent
    found = answered(folder, "anna", who_likes(B))
    kinds = {trial: entry["kind"] for trial, entry in load_key(folder / "key.json").trials.items()}
    first = next(answer for answer in found["answers"] if kinds[answer["trial"]] == "pair")
    first["response"]["dcr"] = 3
    path = save(tmp_path, "anna.json", found)
    assert main(["collect", str(folder), str(path)]) == 0, "mean opinions are a verdict"
    assert f"{B}: 4.33 [1.46, 5.00] in the mean" in capsys.readouterr().out
    assert "5.7" not in (folder / "verdict.md").read_text()
    (opinion,) = collect([str(folder), str(path)]).findings.counted.opinions  # type: ignore[union-attr]
    assert opinion.estimate.high == 5.0
