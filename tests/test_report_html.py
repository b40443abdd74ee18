"""The page without a browser: that it is whole, says what it must, and holds everything it shows."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

from reports.data.table import load_table
from reports.render import player, sound
from reports.render.every import render_report
from reports.render.scatter import Box, _box, points_of, scatters
from reports.render.sound import opus, opus_refusal
from reports.sections.score_groups import score_groups, score_rows
from tests.report_sweeps import MANY, UPSTREAM, Judgeable, write_judgeable
from tests.test_report_data import RATE_HZ, REFERENCE, FakeCell, rewrite_record, voice_like, write_sweep

VOID = {"meta", "img", "link", "br", "hr", "input", "path", "rect", "circle", "polygon"}
MOST_BYTES = 8_000_000


class Page(HTMLParser):
    """Checks nesting, and collects what the assertions look at."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[str(self.tags[-1][1].get("id"))] = data
        elif self.open and self.open[-1] != "style":
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    assert page.open == []
    return page


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirteen variants."""
    folder = write_sweep(tmp_path_factory.mktemp("page") / "sweep", MANY)
    render_report(folder)
    return folder


def sounds_in(page: Page) -> list[dict]:  # type: ignore[type-arg]
    return json.loads(page.scripts["sounds"])


def test_the_page_is_well_formed_and_fetches_nothing(many: Path) -> None:
    page = page_of(many / "report.html")
    assert (many / "report.html").stat().st_size < MOST_BYTES
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in page.all("img"))
    assert all(image["alt"] for image in page.all("img"))
    assert page.all("link") == []
    assert page.all("audio") == []
    assert [script for script in page.all("script") if "src" in script] == []
    text = (many / "report.html").read_text("utf-8")
    assert "url(" not in text
    assert "@import" not in text


def test_it_opens_with_verdict_table_drawing_and_player_and_folds_the_rest(many: Path) -> None:
    page = page_of(many / "report.html")
    text = " ".join(" ".join(page.text).split())
    assert "Quality not judged. Fastest: onnx_int8-fitted_3-vocoder=vocos_onnx" in text
    assert [tag for tag, attributes in page.tags if tag == "details" and "open" in attributes] == []
    anchors = [(link["href"] or "").removeprefix("#") for link in page.all("a") if (link["href"] or "").startswith("#")]
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    assert set(anchors) <= set(ids)
    folded = [part["id"] for part in page.all("details") if part.get("id")]
    assert [anchor for anchor in anchors if anchor in folded][-len(folded) :] == folded, "the contents name every part"


def test_every_heading_cell_says_what_it_heads_and_numbers_sort_as_numbers(many: Path) -> None:
    page = page_of(many / "report.html")
    assert {head.get("scope") for head in page.all("th")} == {"col", "row", "colgroup"}
    numbers = [cell["data-sort"] for cell in page.all("td") if "data-sort" in cell]
    assert numbers
    assert all(float(number or "nan") == float(number or "nan") for number in numbers)


def test_what_has_no_speed_keeps_its_reason(tmp_path: Path) -> None:
    render_report(write_sweep(tmp_path))
    text = " ".join(page_of(tmp_path / "report.html").text)
    assert "audio invalid: 2 of 4 sentences" in text
    assert "n too small (12 < 59)" in text
    assert "skipped: no float16 convolution on this CPU" in text


def test_the_page_escapes_what_a_sentence_or_an_engine_says(tmp_path: Path) -> None:
    evil = FakeCell(label="bf16-euler_7", state="failed", reason="<script>alert(1)</script>", has_record=False)
    folder = write_sweep(tmp_path, [REFERENCE, FakeCell(label="int8-euler_7"), evil])
    cell = folder / "cells" / "int8-euler_7"
    record = json.loads((cell / "result.json").read_text("utf-8"))
    utterances = [{**u, "text": "</script><img src=x onerror=alert(2)>"} for u in record["utterances"]]
    rewrite_record(cell, utterances=utterances)
    render_report(folder)
    for name in ("report.html", "report.md"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "<script>alert" not in text
        assert "<img src=x" not in text
    assert sounds_in(page_of(tmp_path / "report.html"))


def test_every_clip_is_opus_of_the_right_length_under_its_own_name(many: Path) -> None:
    sentences = sounds_in(page_of(many / "report.html"))
    assert [sentence["id"] for sentence in sentences][:2] == ["en01", "en09"], "the examples come first"
    assert {len(sentence["clips"]) for sentence in sentences} == {13}
    for clip in sentences[0]["clips"]:
        audio_S, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(clip["data"])))
        assert audio_S.size / rate_hz == pytest.approx(clip["seconds"], abs=0.001)
        assert clip["seconds"] == 1.0


def test_opus_keeps_the_sound_its_place_and_its_bytes() -> None:
    audio_S = voice_like("en01", 1.3, 0.0)
    made = opus(audio_S, RATE_HZ)
    assert made == opus(audio_S, RATE_HZ), "a report made again is the same file"
    heard_S, rate_hz = soundfile.read(io.BytesIO(made), dtype="float32")
    assert (heard_S.size, rate_hz) == (audio_S.size, RATE_HZ)
    lags = np.correlate(heard_S[4000:20000], audio_S[4000:20000], "full")
    assert abs(int(lags.argmax()) - 15999) <= 2, "in time with the other variant to a tenth of a millisecond"
    assert np.corrcoef(heard_S, audio_S)[0, 1] > 0.9


def test_a_rate_or_a_library_without_opus_is_a_reason_and_no_silent_other_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert opus_refusal(24_000) is None
    assert "44100 Hz" in str(opus_refusal(44_100))
    monkeypatch.setattr(sound.soundfile, "available_subtypes", lambda _: {"VORBIS": "Vorbis"})
    render_report(write_sweep(tmp_path, [REFERENCE, FakeCell(label="int8-euler_7")]))
    page = page_of(tmp_path / "report.html")
    assert "sounds" not in page.scripts
    assert "No sound is in this page: libsndfile" in " ".join(page.text)
    assert "pip install --upgrade soundfile" in " ".join(page.text)


def test_sounds_stop_at_the_budget_with_whole_sentences_and_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_sweep(tmp_path, [REFERENCE, FakeCell(label="int8-euler_7")])
    monkeypatch.setattr(player, "BUDGET_BYTES", 45_000)
    render_report(folder)
    page = page_of(folder / "report.html")
    sentences = sounds_in(page)
    assert 0 < len(sentences) < 4
    assert all(len(sentence["clips"]) == 2 for sentence in sentences)
    assert f"{len(sentences)} of 4 sentences in this page, as Opus at 48 kbit/s" in " ".join(page.text)


def test_scores_have_variants_as_rows_and_no_empty_column(tmp_path: Path) -> None:
    folder = write_judgeable(tmp_path, [UPSTREAM, Judgeable(label="fp32-euler_7", audio="b", slowness=2.0)])
    table = load_table(folder)
    assert score_rows(table) == ("upstream-euler_32", "fp32-euler_7"), "no floor was made, so there is no row of it"
    groups = score_groups(table)
    assert [group.title for group in groups] == ["words", "voice", "noise and faults", "by ear models"]
    columns = [column for group in groups for column in group.columns]
    assert all(any(column.cells[row] != "-" for row in score_rows(table)) for column in columns)
    assert columns[0].title == "wer %"


def test_labels_of_a_drawing_cover_neither_each_other_nor_the_edge(many: Path) -> None:
    table = load_table(many)
    drawn = scatters(table)[0]
    texts = re.findall(r'<text class="name (\w+)" x="([\d.]+)" y="([\d.]+)">([^<]+)<', drawn)
    assert sorted(text for *_, text in texts) == sorted(
        point.label for point in points_of(table, "log_mel_mae_vs_reference")
    )
    boxes = [_box(text, float(x), float(y) - 4, anchor) for anchor, x, y, text in texts]
    frame = Box(left=0, top=0, right=640, bottom=430)
    for index, box in enumerate(boxes):
        assert box.shared(frame) == pytest.approx((box.right - box.left) * (box.bottom - box.top), rel=0.01)
        assert all(box.shared(other) < 1 for other in boxes[:index])


def test_copies_as_markdown_what_stands_in_the_first_table(many: Path) -> None:
    text = json.loads(page_of(many / "report.html").scripts["markdown"])
    assert text.startswith("**Quality not judged. Fastest: ")
    assert "| variant | times as fast | RTF | median ms | quality | peak MiB |" in text
    assert "| onnx_int8-fitted_4 | 15.0 | 0.120 |" in text
    assert "| amp-euler_7 | - | - | - | audio invalid | - |" in text


def test_missing_audio_costs_the_player_its_variant_and_is_said(tmp_path: Path) -> None:
    write_sweep(tmp_path, [REFERENCE, FakeCell(label="int8-euler_7"), FakeCell(label="fp32-euler_7")])
    shutil.rmtree(tmp_path / "cells" / "int8-euler_7" / "audio")
    render_report(tmp_path)
    page = page_of(tmp_path / "report.html")
    assert {clip["label"] for s in sounds_in(page) for clip in s["clips"]} == {"fp32-euler_32", "fp32-euler_7"}
    assert "gone or unreadable" in " ".join(page.text)
