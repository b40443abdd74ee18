"""POST /v1/audio/speech and GET /v1/models, in the form of OpenAI's audio API: its clients and load tools drive us.

Form: https://platform.openai.com/docs/api-reference/audio/createSpeech. Of its formats those that lose nothing: wav and
flac (16 bit), pcm (16 bit little-endian mono at the model's rate, which /v1/models names). The whole answer is one
body; with `stream_format` its bytes are sent block by block as the engine streams (`stream=` chooses where texts are
cut), as they are (audio) or in server-sent events (sse). Errors have that API's shape.
"""

from __future__ import annotations

import asyncio
import io
import struct
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import soundfile
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from engine.contract import ConfigError, SynthesisRequest
from experiments.serve.service import Service
from experiments.serve.streamed import STREAM_MEDIA, StreamFormat, body, first_and_rest
from experiments.workload.voices import Voice

PREFIX = "/v1/"
MOST_CHARS = 2000
Format = Literal["wav", "flac", "pcm"]
MEDIA = {"wav": "audio/wav", "flac": "audio/flac", "pcm": "audio/pcm"}


class Speech(BaseModel):
    """Of the API's body what can be served here; any other key, format or speed is refused."""

    model_config = ConfigDict(extra="forbid")

    model: str
    input: str = Field(min_length=1, max_length=MOST_CHARS)
    voice: str
    response_format: Format = "wav"
    speed: float = Field(default=1.0, ge=0.3, le=3.0)
    stream_format: StreamFormat | None = None


def speech_router(
    service: Service, model: str, voices: Mapping[str, Voice], check_text: Callable[[str], None]
) -> APIRouter:
    """model: the id under which the loaded model is served. check_text raises ConfigError."""
    router = APIRouter(prefix="/v1")

    @router.get("/models")
    async def models() -> dict[str, Any]:
        rate_hz = service.facts.sample_rate_hz
        entry = {
            "id": model,
            "object": "model",
            "owned_by": "f5bench",
            "voices": list(voices),
            "sample_rate_hz": rate_hz,
        }
        return {"object": "list", "data": [entry]}

    @router.post("/audio/speech")
    async def speech(asked: Speech) -> Response:
        _refuse_other("model", asked.model, [model])
        _refuse_other("voice", asked.voice, list(voices))
        check_text(asked.input)
        request = request_by(voices[asked.voice], asked.input, asked.speed)
        if asked.stream_format is not None:
            if asked.response_format == "flac":
                raise ConfigError("response_format", "flac", "is not streamed", "use wav or pcm with stream_format")
            head = b"" if asked.response_format == "pcm" else endless_wav(service.facts.sample_rate_hz)
            blocks = await first_and_rest(service, request)
            media = STREAM_MEDIA.get(asked.stream_format, MEDIA[asked.response_format])
            return StreamingResponse(body(blocks, head, _pcm_bytes, asked.stream_format), media_type=media)
        spoken = await asyncio.wrap_future(service.submit(request))
        content = encoded(spoken.synthesis.audio_S, spoken.synthesis.sample_rate_hz, asked.response_format)
        return Response(content, media_type=MEDIA[asked.response_format])

    return router


def encoded(audio_S: np.ndarray, rate_hz: int, form: Format) -> bytes:
    """audio_S: float (S,) in [-1, 1]; beyond it is full scale."""
    pcm_S = pcm_16(audio_S)
    if form == "pcm":
        return pcm_S.tobytes()
    file = io.BytesIO()
    soundfile.write(file, pcm_S, rate_hz, format=form.upper(), subtype="PCM_16")
    return file.getvalue()


def pcm_16(audio_S: np.ndarray) -> np.ndarray:
    """16 bit little-endian of float (S,) in [-1, 1]; beyond it is full scale."""
    return np.round(np.clip(audio_S, -1.0, 1.0) * 32767).astype("<i2")


def _pcm_bytes(audio_S: np.ndarray) -> bytes:
    return pcm_16(audio_S).tobytes()


def endless_wav(rate_hz: int) -> bytes:
    """The head of a mono 16-bit WAV whose length nobody knows yet: both sizes are the largest that there is.

    Form: http://soundfile.sapp.org/doc/WaveFormat/; the sizes as ffmpeg writes them to a pipe.
    """
    rate = struct.pack("<HHIIHH", 1, 1, rate_hz, 2 * rate_hz, 2, 16)
    return b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<I", len(rate)) + rate + b"data\xff\xff\xff\xff"


def api_error(message: str, status: int, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """As that API's clients expect it."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    content = {"error": {"message": message, "type": kind, "param": None, "code": None}}
    return JSONResponse(content, status, dict(headers or {}))


def _refuse_other(key: str, value: str, known: list[str]) -> None:
    if value not in known:
        raise ConfigError(key, value, f"must be one of {', '.join(known)}", "see /v1/models")


def request_by(voice: Voice, text: str, speed_ratio: float) -> SynthesisRequest:
    """What is asked of the engine. The same text in the same voice gets the same noise, and so the same audio."""
    return SynthesisRequest(
        utterance_id="request", text=text, ref_audio_S=voice.audio_S, ref_sample_rate_hz=voice.rate_hz,
        ref_text=voice.text, speed_ratio=speed_ratio, style=voice.style,
    )  # fmt: skip
