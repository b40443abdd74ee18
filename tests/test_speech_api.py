"""The service as clients of OpenAI's audio API see it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import soundfile

from experiments.serve.speech_api import encoded
from tests.load_fakes import ToneEngine
from tests.test_load_http import served

ASKED = {"model": "fake", "input": "That was close.", "voice": "slt"}


def model_of(client: Any) -> dict[str, Any]:
    (entry,) = client.get("/v1/models").json()["data"]
    return dict(entry)


def test_the_models_page_names_what_may_be_asked_for() -> None:
    with served(ToneEngine()) as client:
        entry = model_of(client)
        assert entry["object"] == "model"
        assert entry["voices"] == ["slt", "rms"]
        assert entry["sample_rate_hz"] == 24000


@pytest.mark.parametrize("form", [None, "wav", "flac", "pcm"])
def test_a_sentence_comes_in_the_form_that_was_asked_for(form: str | None) -> None:
    with served(ToneEngine()) as client:
        body = {**ASKED, "model": model_of(client)["id"], **({"response_format": form} if form else {})}
        answer = client.post("/v1/audio/speech", json=body)
        assert answer.status_code == 200, answer.text
        exact_S, _ = soundfile.read(
            io.BytesIO(client.post("/synthesize", json={"text": ASKED["input"], "voice": "slt"}).content),
            dtype="float32",
        )
    assert answer.headers["content-type"] == f"audio/{form or 'wav'}"
    if form == "pcm":
        heard_S = np.frombuffer(answer.content, "<i2") / 32767
    else:
        heard_S, rate_hz = soundfile.read(io.BytesIO(answer.content), dtype="float64")
        assert rate_hz == 24000
        heard_S = heard_S * 32768 / 32767
    assert np.abs(heard_S - exact_S).max() <= 0.5 / 32767 + 1e-6


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "tts-1"}, "model=tts-1: must be one of "),
        ({"voice": "alloy"}, "voice=alloy: must be one of slt, rms"),
        ({"response_format": "mp3"}, "response_format: "), ({"speed": 9}, "speed: "), ({"input": ""}, "input: "),
        ({"instructions": "cheerful"}, "instructions: Extra inputs are not permitted"), ({"input": "\u4e16"}, "input"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_refused_in_that_apis_shape(change: dict[str, Any], said: str) -> None:
    with served(ToneEngine()) as client:
        body = {**ASKED, "model": model_of(client)["id"], **change}
        answer = client.post("/v1/audio/speech", json=body)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert "\n" not in error["message"]
    assert said in error["message"] or change["input"] in error["message"]


def test_beyond_full_scale_is_full_scale() -> None:
    assert np.frombuffer(encoded(np.array([2.0, -2.0, 0.0], np.float32), 24000, "pcm"), "<i2").tolist() == [
        32767,
        -32767,
        0,
    ]
