"""The service as clients of OpenAI's audio API see it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile

from engine.clock import HostClock
from engine.contract import AudioBlock, SynthesisRequest
from experiments.serve.line import BatchRule
from experiments.serve.service import Service
from experiments.serve.speech_api import encoded
from experiments.serve.streamed import blocks_of
from tests.engines import request
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


@pytest.mark.parametrize("form", ["pcm", "wav"])
def test_a_stream_is_the_same_sound_in_pieces(form: str) -> None:
    with served(ToneEngine()) as client:
        body = {**ASKED, "model": model_of(client)["id"], "response_format": form, "stream_format": "audio"}
        streamed = client.post("/v1/audio/speech", json=body)
        assert streamed.status_code == 200, streamed.text
        assert streamed.headers["content-type"] == f"audio/{form}"
        assert "content-length" not in streamed.headers, "nobody knows it yet"
        events = client.post("/v1/audio/speech", json={**body, "stream_format": "sse"})
        assert events.headers["content-type"].startswith("text/event-stream")
        assert client.get("/healthz").json()["served"] == 2
        told = client.get("/metrics").text
        assert "f5bench_rtf_count{length=" in told, "a stream is a call like any other"
    if form == "wav":
        heard_S, rate_hz = soundfile.read(io.BytesIO(streamed.content), dtype="int16")
        assert rate_hz == 24000
    else:
        heard_S = np.frombuffer(streamed.content, "<i2")
    (block, second) = ToneEngine().stream(request(ASKED["input"], utterance_id="request"))
    expected_S = np.round(np.concatenate((block.audio_S, second.audio_S)) * 32767)
    assert np.array_equal(heard_S, expected_S)
    deltas = [json.loads(line.removeprefix("data: ")) for line in events.text.split("\n\n") if line]
    assert [delta["type"] for delta in deltas] == ["speech.audio.delta", "speech.audio.delta", "speech.audio.done"]
    assert b"".join(base64.b64decode(delta["audio"]) for delta in deltas[:-1]) == streamed.content


def test_the_first_block_is_sent_before_the_second_is_made_and_who_leaves_ends_the_stream() -> None:
    engine = TwoStep()

    async def listen() -> float:
        with Service(lambda: engine, lambda _: BatchRule(), HostClock()) as service:
            blocks = blocks_of(service, request("That was close."))
            await anext(blocks)
            assert not engine.goes_on.is_set(), "the engine waits for us with its second block"
            waiting = asyncio.wrap_future(service.submit(request("Turn left at the bridge.")))
            await blocks.aclose()
            engine.goes_on.set()
            await waiting
            return service.counts().served

    assert asyncio.run(listen()) == 2
    assert engine.num_blocks < 3, "nobody listened to the second"


def test_a_stream_that_breaks_before_its_first_block_has_a_status_and_flac_is_not_streamed() -> None:
    with served(Broken()) as client:
        body = {**ASKED, "model": model_of(client)["id"], "stream_format": "audio", "response_format": "pcm"}
        answer = client.post("/v1/audio/speech", json=body)
        assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
        refused = client.post("/v1/audio/speech", json={**body, "response_format": "flac"})
        assert refused.status_code == 422
        assert "response_format=flac: is not streamed" in refused.json()["error"]["message"]
        assert client.get("/healthz").json()["failed"] == 1


class TwoStep(ToneEngine):
    """Makes its second block when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on, self.num_blocks = threading.Event(), 0

    def stream(self, request: SynthesisRequest) -> Iterator[AudioBlock]:
        for place in range(3):
            if place == 1:
                assert self.goes_on.wait(10)
            self.num_blocks += 1
            yield AudioBlock(audio_S=np.zeros(240, np.float32), sample_rate_hz=24000, chunk=place, num_evals=1)


class Broken(ToneEngine):
    def stream(self, request: SynthesisRequest) -> Iterator[AudioBlock]:
        raise RuntimeError("out of tune")
        yield
