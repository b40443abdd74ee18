"""Names beside the points of a picture: short, and none over another."""

from __future__ import annotations

import itertools

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from reports.render.labels import PointLabel, place_labels
from reports.words import in_lines

# RTF and log-mel error as on a machine with AMX: three of them nearly one point
CROWDED = {
    "tiles_bf16-fitted_3-vocoder=vocos_compiled_bf16": (0.0130, 0.79),
    "tiles_bf16-fitted_4-vocoder=vocos_compiled_bf16": (0.0153, 0.71),
    "tiles_bf16-fitted_4-vocoder=vocos_compiled": (0.0163, 0.71),
    "tiles_bf16-fitted_4": (0.0174, 0.71),
    "tiles_bf16-uniform_5": (0.0202, 0.74),
    "tiles_bf16-euler_7": (0.0254, 0.82),
    "tiles_bf16-euler_16": (0.0469, 0.61),
    "tiles_bf16-euler_32": (0.0930, 0.014),
    "compiled_bf16-euler_32-engine.bucket_frames=16": (0.173, 0.014),
    "compiled_bf16-euler_32": (0.197, 0.014),
    "bf16-euler_32": (0.246, 0.015),
    "upstream-euler_32": (1.07, 0.0),
}


@pytest.mark.parametrize(
    ("label", "lines"),
    [
        ("fp32-euler_7", "fp32-euler_7"),
        ("fp32-euler_7-vocoder=vocos_onnx", "fp32-euler_7\nvocos_onnx"),
        ("fp32-euler_7-engine.bucket_frames=16-vocoder=bigvgan", "fp32-euler_7\nbucket_frames=16, bigvgan"),
    ],
)
def test_settings_stand_below_the_name(label: str, lines: str) -> None:
    assert in_lines(label) == lines


def test_no_line_of_a_label_is_long() -> None:
    label = "fp32-euler_7-model=f5tts_v1_base-model.checkpoint=a_very_long_name_of_a_file.pt"
    assert max(map(len, in_lines(label).splitlines())) == 30


def test_the_names_of_a_crowded_picture_do_not_cover_each_other() -> None:
    figure = Figure(figsize=(6.2, 5.2), dpi=130)
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set(xlim=(0.008, 1.7), ylim=(0.94, -0.12))
    FigureCanvasAgg(figure).draw()
    place_labels(figure, axes, [PointLabel(x=x, y=y, text=in_lines(label)) for label, (x, y) in CROWDED.items()])
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = {text.get_text(): text.get_window_extent(renderer) for text in axes.texts}
    assert len(boxes) == len(CROWDED)
    covered = [(one, other) for one, other in itertools.combinations(boxes, 2) if boxes[one].overlaps(boxes[other])]
    assert covered == []
